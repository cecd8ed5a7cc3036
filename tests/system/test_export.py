"""Days of a team out of a real ClickHouse engine into the team's own lake (issue 6, point 3): `ductstream backfill run`."""

import json
import os
import re

import pytest
from lib.cli import ductstream, lines
from lib.clickhouse import DISTINCT_IDS, EVENTS, PERSONS, ClickHouse, missing, put_events
from lib.lake import OfficialLake
from lib.s3 import missing as no_s3

pytestmark = pytest.mark.skipif(bool(missing() or no_s3()), reason=str(missing() or no_s3()))

EVENTS_JOB, PERSONS_JOB = "duckling_events_backfill_job", "duckling_persons_backfill_job"


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory, s3):
    server = ClickHouse(tmp_path_factory.mktemp("clickhouse"), s3)
    for table in (EVENTS, PERSONS, DISTINCT_IDS):
        server.sql(table)
    yield server
    server.close()


class Team:
    """A team with a bucket and a lake of its own, and the commands that fill it."""

    next_id = 100

    def __init__(self, tmp_path, catalog, s3, bucket, clickhouse):
        Team.next_id += 1
        self.id, self.catalog, self.s3, self.bucket, self.clickhouse = Team.next_id, catalog, s3, bucket, clickhouse
        self.registry = tmp_path / "ducklings.yaml"
        self.registry.write_text(
            f"- team_id: {self.id}\n  bucket: {bucket}\n  bucket_region: us-east-1\n  endpoint: {s3.endpoint}\n  catalog: \"{catalog}\"\n"
        )
        self.env = {
            **os.environ,
            "DUCTSTREAM_STATE_PATH": str(tmp_path / "state.db"),
            "DUCTSTREAM_SECRET_KEY": "00" * 32,
            "DUCTSTREAM_DUCKLINGS": str(self.registry),
            "DUCTSTREAM_EXPORT_RETRY_WAIT_MS": "50",
            "CLICKHOUSE_URL": clickhouse.url,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        }

    def run(self, key, job=EVENTS_JOB, config=None, code=0, **env):
        """The result of a run and what was said; CODE: with which it ends."""
        found, out, err = ductstream(
            "backfill", "run", "--job", job, "--partition", f"{self.id}{key}", "--config", json.dumps(config or {}), "--json",
            env={**self.env, **env}, timeout_s=120,
        )  # fmt: skip
        assert found == code, out + err
        said = lines(out)
        return (said[-1]["result"] if said else None), out + err

    def lake(self):
        return OfficialLake(self.catalog, s3=self.s3)

    def files(self):
        return self.s3.keys(self.bucket, "backfill/")


@pytest.fixture
def team(tmp_path, lake_home, s3, bucket, clickhouse):
    """On both catalogs."""
    return Team(tmp_path, lake_home.catalog, s3, bucket, clickhouse)


@pytest.fixture
def sqlite_team(tmp_path, s3, bucket, clickhouse):
    return Team(tmp_path, f"sqlite:{tmp_path}/lake.sqlite", s3, bucket, clickhouse)


def test_a_day_of_events(team, clickhouse):
    """A day becomes one file under the page's name in the partition that its path says; a day again takes its place, another team's and
    another day's rows stay out; official clients prune, merge and rewrite."""
    put_events(clickhouse, team.id, "2024-01-14", 10)
    put_events(clickhouse, team.id, "2024-01-15", 100)
    put_events(clickhouse, team.id + 100000, "2024-01-15", 7)
    result, _ = team.run("_2024-01-15")
    assert (result["rows"], result["files_exported"], result["files_registered"], result["dates_processed"]) == (100, 1, 1, 1)
    (key,) = team.files()
    assert re.fullmatch(rf"backfill/events/team_id={team.id}/year=2024/month=01/day=15/[0-9a-f-]{{36}}-\d+\.parquet", key)
    with team.lake() as lake:
        assert lake.count("posthog.events") == 100
        assert len(lake.columns("posthog.events")) == 25
    team.run("_2024-01-14")
    put_events(clickhouse, team.id, "2024-01-15", 20)
    team.run("_2024-01-15")
    assert len(team.files()) == 3
    with team.lake() as lake:
        where = "timestamp >= '2024-01-15' AND timestamp < '2024-01-16'"
        assert sorted(lake.sql("SELECT day(timestamp), count(*) FROM lake.posthog.events GROUP BY ALL")) == [(14, 10), (15, 120)]
        plan = lake.sql(f"EXPLAIN ANALYZE SELECT event FROM lake.posthog.events WHERE {where}")[0][1]
        assert "Total Files Read: 1" in " ".join(plan.split()), plan
        source = clickhouse.sql(
            f"SELECT toString(uuid), event, distinct_id, toUnixTimestamp64Micro(timestamp), person_mode FROM events WHERE team_id = {team.id} ORDER BY uuid::String"
        )
        ours = lake.sql("SELECT uuid, event, distinct_id, epoch_us(timestamp), person_mode FROM lake.posthog.events ORDER BY uuid")
        assert [[str(value) for value in row] for row in ours] == source
        lake.sql("DELETE FROM lake.posthog.events WHERE event = 'click'")
        lake.sql("CALL ducklake_rewrite_data_files('lake', delete_threshold => 0)")
        lake.sql("CALL ducklake_merge_adjacent_files('lake')")
    team.run("_2024-01-15")
    with team.lake() as lake:
        assert sorted(lake.sql("SELECT day(timestamp), count(*) FROM lake.posthog.events GROUP BY ALL")) == [(14, 5), (15, 120)]


def test_an_empty_day(sqlite_team, clickhouse):
    """Zero rows are recorded, not failed; and they take away what the lake had of the day."""
    result, _ = sqlite_team.run("_2024-03-01")
    assert result["days"] == [{"day": "2024-03-01", "rows": 0}] and sqlite_team.files() == []
    put_events(clickhouse, sqlite_team.id, "2024-03-01", 5)
    sqlite_team.run("_2024-03-01")
    clickhouse.sql(f"ALTER TABLE events DELETE WHERE team_id = {sqlite_team.id} SETTINGS mutations_sync = 2")
    result, _ = sqlite_team.run("_2024-03-01")
    with sqlite_team.lake() as lake:
        assert result["rows"] == 0 and lake.count("posthog.events") == 0


def test_dry_run_touches_nothing(sqlite_team, clickhouse, tmp_path):
    before = len(clickhouse.statements())
    result, said = sqlite_team.run("_2024-01-15", config={"dry_run": True}, CLICKHOUSE_URL="http://127.0.0.1:1")
    assert result["dry_run"] is True and "INSERT INTO FUNCTION s3(" in said
    assert len(clickhouse.statements()) == before and sqlite_team.files() == [] and not (tmp_path / "lake.sqlite").exists()


@pytest.mark.parametrize(
    "key, said",
    [
        ("12345_2024/01/15", "Invalid date in partition key"),
        ("12345_2024-1-15", "Invalid date in partition key"),
        ("12345_2023-02-29", "Invalid date in partition key"),
        ("abc_2024-01-15", "Invalid team_id in partition key"),
        ("1_000_2024-01-01", "Invalid team_id in partition key"),
        ("012_2024-01-01", "Invalid team_id in partition key"),
        ("12345", "Invalid partition key format"),
        ("invalid", "Invalid partition key format"),
    ],
)
def test_wrong_keys(sqlite_team, key, said):
    """The exact rule is said, before anything is enqueued."""
    code, out, err = ductstream("backfill", "run", "--job", EVENTS_JOB, "--partition", key, env=sqlite_team.env)
    assert code == 2 and said in err


def test_clickhouse_errors(sqlite_team, clickhouse):
    """One that passes is tried again under another path, one that does not ends the run at once."""
    put_events(clickhouse, sqlite_team.id, "2024-01-15", 4)
    clickhouse.fail(241, times=2)
    result, said = sqlite_team.run("_2024-01-15")
    assert said.count("duckling_export_retry") == 2 and "-try3.parquet" in result["days"][0]["path"]
    clickhouse.fail(62, times=1)
    before = len(clickhouse.statements())
    _, said = sqlite_team.run("_2024-01-15", code=2)
    assert "Code: 62" in said and len(clickhouse.statements()) == before + 2  # the count, and one try
    with sqlite_team.lake() as lake:
        assert lake.count("posthog.events") == 4
