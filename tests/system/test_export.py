"""Days of a team out of a real ClickHouse engine into the team's own lake (issue 6, point 3): `ductstream backfill run`."""

import json
import os
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from lib.cli import ductstream, lines
from lib.clickhouse import DISTINCT_IDS, EVENTS, PERSONS, ClickHouse, missing, put_events
from lib.lake import OfficialLake
from lib.runs import Runs
from lib.s3 import missing as no_s3
from lib.wait import wait_until

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


def test_rows_that_others_put_in(team, clickhouse):
    """Rows of the day that an official client has put into the catalog itself go with the day's files; those of other days stay."""
    put_events(clickhouse, team.id, "2024-01-15", 4)
    team.run("_2024-01-15")
    with team.lake() as lake:
        lake.sql("CALL lake.set_option('data_inlining_row_limit', 10)")
        for day in ("2024-01-15 23:59:59.999999+00", "2024-01-16 00:00:00+00"):
            lake.sql(f"INSERT INTO lake.posthog.events (uuid, team_id, timestamp) VALUES ('other', {team.id}, '{day}')")
        assert lake.count("posthog.events") == 6
    assert team.s3.keys(team.bucket) == team.files()  # no file was written for them
    team.run("_2024-01-15")
    with team.lake() as lake:
        assert sorted(lake.sql("SELECT day(timestamp), count(*) FROM lake.posthog.events GROUP BY ALL")) == [(15, 4), (16, 1)]


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


def test_a_month(sqlite_team, clickhouse):
    """Every day of a month has a file and a commit of its own; days that are empty are recorded."""
    for day, rows in (("2024-02-01", 3), ("2024-02-29", 4)):
        put_events(clickhouse, sqlite_team.id, day, rows)
    result, _ = sqlite_team.run("_2024-02")
    assert result["dates_processed"] == 29 and result["files_registered"] == 2 and result["rows"] == 7
    with sqlite_team.lake() as lake:
        assert sorted(lake.sql("SELECT day(timestamp), count(*) FROM lake.posthog.events GROUP BY ALL")) == [(1, 3), (29, 4)]


def person(clickhouse, team, number, at, version=1, deleted=0, ids=(), properties="{}"):
    uuid = f"00000000-0000-0000-0000-{team:06}{number:06}"
    clickhouse.sql(
        f"INSERT INTO person VALUES ('{uuid}', toDateTime64('2024-01-01 00:00:00', 3, 'UTC'), {team}, '{properties}', 1, {deleted}, {version}, "
        f"toDateTime('{at} 12:00:00', 'UTC'))"
    )
    for name in ids:
        distinct_id(clickhouse, team, name, number, at, version)


def distinct_id(clickhouse, team, name, number, at, version=1, deleted=0):
    uuid = f"00000000-0000-0000-0000-{team:06}{number:06}"
    clickhouse.sql(f"INSERT INTO person_distinct_id2 VALUES ({team}, '{name}', '{uuid}', {deleted}, {version}, toDateTime('{at} 12:00:00', 'UTC'))")


def assert_persons(team, clickhouse):
    """The lake equals FINAL … WHERE is_deleted = 0, by content."""
    source = clickhouse.sql(
        "SELECT pd.distinct_id, toString(p.id), p.properties, toInt64(pd.version), toUInt64(p.version), toUnixTimestamp(p._timestamp) FROM "
        "person AS p FINAL INNER JOIN person_distinct_id2 AS pd FINAL ON p.id = pd.person_id AND p.team_id = pd.team_id WHERE p.team_id = "
        f"{team.id} AND p.is_deleted = 0 AND pd.is_deleted = 0 ORDER BY 1"
    )
    with team.lake() as lake:
        ours = lake.sql(
            "SELECT distinct_id, id, properties, person_distinct_id_version, person_version, epoch(_timestamp)::BIGINT FROM lake.posthog.persons "
            "ORDER BY 1"
        )
    assert [[str(value) for value in row] for row in ours] == source
    return len(source)


def test_persons_are_upserts(team, clickhouse):
    """A full export writes a file per day; after updates, merges of ids and deletions a day's run makes the lake equal to the source, and writes only
    the days that changed; one more run writes nothing."""
    for number, at in enumerate(("2024-01-10", "2024-01-10", "2024-01-11", "2024-01-12", "2024-01-13")):
        person(clickhouse, team.id, number, at, ids=(f"a{number}", f"b{number}"))
    result, _ = team.run("", job=PERSONS_JOB)
    assert result["export_mode"] == "full" and result["files_registered"] == 4
    assert assert_persons(team, clickhouse) == 10
    person(clickhouse, team.id, 0, "2024-01-20", version=2, properties='{"x":1}')  # moves from the 10th to the 20th
    person(clickhouse, team.id, 2, "2024-01-20", version=2, deleted=1)  # the 11th has nobody any more
    distinct_id(clickhouse, team.id, "b3", 4, "2024-01-20", version=2)  # an id of the 12th becomes one of the 13th
    distinct_id(clickhouse, team.id, "new", 3, "2024-01-20")  # of a person that stays as it was
    result, _ = team.run("_2024-01-20", job=PERSONS_JOB)
    assert [day["day"] for day in result["days"]] == ["2024-01-10", "2024-01-12", "2024-01-13", "2024-01-20", "2024-01-11"]
    assert len({day["snapshot_id"] for day in result["days"]}) == 1
    assert assert_persons(team, clickhouse) == 9
    result, _ = team.run("_2024-01-20", job=PERSONS_JOB)
    assert result["files_exported"] == 0
    with team.lake() as lake:
        lake.sql("DELETE FROM lake.posthog.persons WHERE distinct_id = 'new'")  # somebody else's hand is undone
    team.run("", job=PERSONS_JOB)
    assert_persons(team, clickhouse)


def test_partitions_of_a_new_team_together(team, clickhouse):
    """Sixteen at once: the lake and its table are made once, all land."""
    for day in range(1, 17):
        put_events(clickhouse, team.id, f"2024-05-{day:02}", day)
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda day: team.run(f"_2024-05-{day:02}"), range(1, 17)))
    assert sum(result["rows"] for result, _ in results) == 136
    assert sum(said.count("table posthog.events was created") for _, said in results) == 1
    with team.lake() as lake:
        assert lake.sql("SELECT day(timestamp), count(*) FROM lake.posthog.events GROUP BY ALL ORDER BY 1") == [(n, n) for n in range(1, 17)]


def test_replays_and_kills_are_never_seen(team, clickhouse):
    """A reader that polls the day while it is exported again, and while exports are killed at every commit boundary, sees one count; nothing
    of an attempt that died stays in the lake."""
    put_events(clickhouse, team.id, "2024-01-15", 50)
    team.run("_2024-01-15")
    seen, over = set(), threading.Event()

    def poll():
        with team.lake() as lake:
            while not over.is_set():
                seen.add(lake.count("posthog.events"))

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        for point in ("export-written:1", "commit-planned:1", "commit-begin:1", "commit-done:1"):
            team.run("_2024-01-15", code=4, DUCT_KILL_POINT=point)
            team.run("_2024-01-15")
    finally:
        over.set()
        reader.join()
    assert seen == {50}
    with team.lake() as lake:
        assert lake.sql("SELECT count(*), count(DISTINCT uuid) FROM lake.posthog.events") == [(50, 50)]


def test_sensors(sqlite_team, clickhouse):
    """Discovery finds yesterday and the gaps, tries failures again three times and then gives up; the full sensor goes through the history by
    its cursor, which a reset brings to the beginning."""

    def backfill(*words):
        code, out, err = ductstream("backfill", *words, "--json", env={**sqlite_team.env, "DUCTSTREAM_FULL_BACKFILL_MAX_PARTITIONS": "3"})
        assert code == 0, err
        return lines(out)

    def keys(*words):
        return [json.loads(run["inputJson"])["partition"] for found in backfill("tick", *words) for run in found["runs"]]

    yesterday = datetime.now(UTC).date() - timedelta(days=1)
    days = [yesterday - timedelta(days=n) for n in range(4, -1, -1)]
    put_events(clickhouse, sqlite_team.id, str(days[0]), 2)
    daily, full = ("--sensor", "duckling_events_daily_backfill_sensor"), ("--sensor", "duckling_events_full_backfill_sensor")
    wanted = [f"{sqlite_team.id}_{day}" for day in days]
    assert keys(*daily) == wanted[-1:]
    assert keys(*full) == wanted[:3]
    assert keys(*full) == wanted[3:4]
    assert keys(*full) == []
    assert len(backfill("partitions", "--job", EVENTS_JOB)) >= 1
    assert "completed" in json.dumps(backfill("sensors"))
    backfill("reset-cursor", *full)
    assert keys(*full) == []  # all are queued


def test_a_failing_partition_is_quarantined(sqlite_team, tmp_path):
    """Three retries, each a run of its own that says which it is; then it is listed and left alone."""
    env = {**sqlite_team.env, "CLICKHOUSE_URL": "http://127.0.0.1:1/", "DUCTSTREAM_EXPORT_RETRY_WAIT_MS": "1"}
    runs = Runs(tmp_path, env)
    yesterday = datetime.now(UTC).date() - timedelta(days=1)

    def command(*words):
        code, out, err = ductstream("backfill", *words, "--json", env=runs.env)
        assert code == 0, err
        return lines(out)[0]

    def state():
        return command("partitions")["partitions"][0]["state"]

    try:
        runs.worker()
        enqueued = []
        for _ in range(4):
            enqueued += [run["id"] for run in command("tick", "--sensor", "duckling_events_daily_backfill_sensor")["runs"]]
            wait_until(lambda: state() == "failed", 60, "the run to fail")
        assert [re.sub(r"_[0-9a-f]+$", "", name) for name in enqueued] == [
            f"{sqlite_team.id}_{yesterday}_{what}" for what in ("new", "retry1", "retry2", "retry3")
        ]
        assert command("tick", "--sensor", "duckling_events_daily_backfill_sensor")["runs"] == []
        assert state() == "quarantined"
    finally:
        runs.close()


def test_delete_tables(sqlite_team, clickhouse, tmp_path):
    """It is refused while another partition of the team runs; alone it drops the table and makes it again."""
    for day in ("2024-01-14", "2024-01-15"):
        put_events(clickhouse, sqlite_team.id, day, 3)
    sqlite_team.run("_2024-01-14")
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(sqlite_team.run, "_2024-01-14", DUCT_PAUSE_POINT=f"export-written:1:{gate}")
        wait_until(lambda: (tmp_path / "gate.reached").exists(), 60, "the other run to be under way")
        _, said = sqlite_team.run("_2024-01-15", config={"delete_tables": True}, code=2)
        assert "delete_tables: run" in said and "of the same team is under way" in said
        gate.touch()
        other.result()
    with sqlite_team.lake() as lake:
        assert lake.count("posthog.events") == 3
    sqlite_team.run("_2024-01-15", config={"delete_tables": True})
    with sqlite_team.lake() as lake:
        assert lake.sql("SELECT day(timestamp), count(*) FROM lake.posthog.events GROUP BY ALL") == [(15, 3)]
