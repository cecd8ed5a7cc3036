"""Days of a team out of a real ClickHouse engine into the team's own lake (issue 6, point 3): `ductstream backfill run`."""

import copy
import json
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import psycopg
import pytest
from lib.aws import Issuer, Role, Signed, Sts, TemporaryKeys
from lib.cli import ductstream, lines
from lib.clickhouse import missing, put_events
from lib.deaths import kinds_of_deaths
from lib.exports import EVENTS_JOB, PERSONS_JOB, Team, exports_server
from lib.lake import LakeError
from lib.rest import RestServer
from lib.runs import Runs
from lib.s3 import missing as no_s3
from lib.s3_proxy import Answer
from lib.wait import utc_today, wait_until

pytestmark = pytest.mark.skipif(bool(missing() or no_s3()), reason=str(missing() or no_s3()))


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory, s3):
    with exports_server(tmp_path_factory.mktemp("clickhouse"), s3) as server:
        yield server


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


def days_of(team, lake):
    return lake.sql(f"SELECT team_id = {team.id}, day(timestamp), count(*) FROM lake.posthog.events GROUP BY ALL ORDER BY ALL")


def test_rows_in_files_of_other_partitionings(team, clickhouse):
    """Rows of the day go wherever they are: in files of no partitioning, of another one, and of clients whose day is another zone's; row by row, with those
    of other days and teams left alone, also beside rows that were deleted before."""
    put_events(clickhouse, team.id, "2024-01-15", 4)
    team.run("_2024-01-15")
    with team.lake() as lake:
        lake.sql("CALL lake.set_option('data_inlining_row_limit', 0)")
        lake.sql("ALTER TABLE lake.posthog.events RESET PARTITIONED BY")
        insert = "INSERT INTO lake.posthog.events (uuid, team_id, timestamp)"
        lake.sql(f"{insert} SELECT 'none', {team.id} + i % 2, '2024-01-15 12:00:00+00'::TIMESTAMPTZ + INTERVAL (i) HOUR FROM range(0, 24) r(i)")
        lake.sql("ALTER TABLE lake.posthog.events SET PARTITIONED BY (year(timestamp))")
        lake.sql(f"{insert} SELECT 'year', {team.id}, '2024-01-15 12:00:00+00'::TIMESTAMPTZ + INTERVAL (i) HOUR FROM range(0, 24) r(i)")
        lake.sql("DELETE FROM lake.posthog.events WHERE uuid = 'year' AND hour(timestamp) IN (13, 1)")
        lake.sql(f"{insert} VALUES ('nothing', {team.id}, NULL)")
    _, said = team.run("_2024-01-14")
    assert "is partitioned by team_id, year, month and day from now on" in said
    with team.lake() as lake:
        lake.sql("SET TimeZone = 'America/New_York'")
        for moment in ("2024-01-15 22:00:00-05", "2024-01-15 01:00:00-05"):  # of one day there, of two here
            lake.sql(f"INSERT INTO lake.posthog.events (uuid, team_id, timestamp) VALUES ('zone', {team.id}, '{moment}')")
        lake.sql("SET TimeZone = 'UTC'")
        assert days_of(team, lake) == [(False, 15, 6), (False, 16, 6), (True, 15, 4 + 6 + 11 + 1), (True, 16, 6 + 11 + 1), (True, None, 1)]
    team.run("_2024-01-15")
    with team.lake() as lake:
        left = [(False, 15, 6), (False, 16, 6), (True, 15, 4), (True, 16, 18), (True, None, 1)]
        assert days_of(team, lake) == left
        lake.sql("CALL ducklake_rewrite_data_files('lake', delete_threshold => 0)")
        assert days_of(team, lake) == left
    team.run("_2024-01-16")
    with team.lake() as lake:
        assert days_of(team, lake) == [(False, 15, 6), (False, 16, 6), (True, 15, 4), (True, None, 1)]


def test_many_rows_of_a_file_of_others(team, clickhouse):
    """Thousands of old rows in a file of other days, too, end by a delete file, not by as many rows of the catalog; the same file's next day by marks or its end."""
    put_events(clickhouse, team.id, "2024-01-15", 4)
    team.run("_2024-01-15")
    with team.lake() as lake:
        lake.sql("CALL lake.set_option('data_inlining_row_limit', 0)")
        lake.sql("ALTER TABLE lake.posthog.events RESET PARTITIONED BY")
        lake.sql(f"INSERT INTO lake.posthog.events (uuid, team_id, timestamp) SELECT 'other', {team.id}, "
                 "'2024-01-14 23:59:00+00'::TIMESTAMPTZ + INTERVAL (i) MINUTE FROM range(0, 1441 + 500) r(i)")  # fmt: skip
        before = len(team.s3.keys(team.bucket))
        assert days_of(team, lake) == [(True, 14, 1), (True, 15, 4 + 1440), (True, 16, 500)]
    team.run("_2024-01-15")
    with team.lake() as lake:
        assert days_of(team, lake) == [(True, 14, 1), (True, 15, 4), (True, 16, 500)]
        assert kinds_of_deaths(lake, "events") == (1440, 0)
        assert len(team.s3.keys(team.bucket)) == before + 2  # the day, and what ends its old rows
    team.run("_2024-01-16")
    with team.lake() as lake:
        assert days_of(team, lake) == [(True, 14, 1), (True, 15, 4)] and kinds_of_deaths(lake, "events") == (1440, 500)
        lake.sql("CALL ducklake_rewrite_data_files('lake', delete_threshold => 0)")
        assert days_of(team, lake) == [(True, 14, 1), (True, 15, 4)]


def test_files_registered_by_the_official_client(sqlite_team, clickhouse):
    """Their columns are found by the names that the catalog has for them."""
    team = sqlite_team
    put_events(clickhouse, team.id, "2024-01-15", 4)
    team.run("_2024-01-15")
    with team.lake() as lake:
        lake.sql("ALTER TABLE lake.posthog.events RESET PARTITIONED BY")
        where = f"s3://{team.bucket}/other/team_id={team.id}/a.parquet"
        lake.sql(f"COPY (SELECT 'x' AS uuid, '2024-01-15 12:00:00+00'::TIMESTAMPTZ + INTERVAL (i) HOUR AS timestamp FROM range(24) r(i)) TO '{where}'")
        lake.sql(f"CALL ducklake_add_data_files('lake', 'events', '{where}', schema => 'posthog', allow_missing => true, hive_partitioning => true)")
        assert days_of(team, lake) == [(True, 15, 16), (True, 16, 12)]
    team.run("_2024-01-15")
    with team.lake() as lake:
        assert days_of(team, lake) == [(True, 15, 4), (True, 16, 12)]


def test_a_table_that_is_partitioned_otherwise(sqlite_team, clickhouse):
    """Without create_tables_if_missing it stays so; a day that the keys cannot say is refused by name."""
    team = sqlite_team
    put_events(clickhouse, team.id, "2024-01-15", 4)
    team.run("_2024-01-15")
    keep = {"create_tables_if_missing": False}
    with team.lake() as lake:
        lake.sql("ALTER TABLE lake.posthog.events SET PARTITIONED BY (year(timestamp), team_id)")
    team.run("_2024-01-15", config=keep)
    with team.lake() as lake:
        assert lake.count("posthog.events") == 4
        plan = lake.sql("EXPLAIN ANALYZE SELECT event FROM lake.posthog.events WHERE year(timestamp) = 2023 AND team_id = 5")[0][1]
        assert "Total Files Read: 1" not in " ".join(plan.split())
        lake.sql("ALTER TABLE lake.posthog.events SET PARTITIONED BY (event)")
    _, said = team.run("_2024-01-15", config=keep, code=2)
    assert 'is partitioned by identity of \\"event\\"' in said


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
    clickhouse.fail(241, times=2, part="SELECT count()")
    _, said = sqlite_team.run("_2024-01-15")
    assert said.count("duckling_export_retry: try") == 2 and "count rows" in said
    clickhouse.fail(210, times=2, part="SELECT toInt32")
    _, said = sqlite_team.run("", job=PERSONS_JOB)
    assert said.count("duckling_export_retry: try") == 2 and "days of persons" in said
    clickhouse.fail(241, times=3, part="SELECT count()")
    assert "count rows" in sqlite_team.run("_2024-01-15", code=4)[1]
    clickhouse.fail(62, times=1)
    before = len(clickhouse.statements())
    _, said = sqlite_team.run("_2024-01-15", code=2)
    assert "Code: 62" in said and len(clickhouse.statements()) == before + 2  # the count, and one try
    with sqlite_team.lake() as lake:
        assert lake.count("posthog.events") == 4


def test_answers_that_are_not_clickhouse_s(sqlite_team, clickhouse):
    """What a balancer says in ClickHouse's place with status 200, or nothing at all, empties no day."""
    team = sqlite_team
    put_events(clickhouse, team.id, "2024-01-15", 4)
    person(clickhouse, team.id, 1, "2024-01-10", ids=("a",))
    team.run("_2024-01-15")
    team.run("", job=PERSONS_JOB)
    for body in ("", "Ok.\n", "<html>0</html>\n", "0", "12 monkeys\n"):
        with RestServer(lambda _, body=body: (200, {"Content-Type": "text/plain"}, body)) as other:
            _, said = team.run("_2024-01-15", code=4, CLICKHOUSE_URL=other.url)
            assert "count rows: ClickHouse answered" in said
            _, said = team.run("", job=PERSONS_JOB, code=4, CLICKHOUSE_URL=other.url)
            assert "days of persons: ClickHouse answered" in said
    with RestServer(lambda _: (502, {}, "<html>bad gateway</html>")) as other:
        team.run("_2024-01-15", code=4, CLICKHOUSE_URL=other.url)
    with RestServer(lambda _: (403, {}, "who are you")) as other:
        team.run("_2024-01-15", code=2, CLICKHOUSE_URL=other.url)
    with team.lake() as lake:
        assert lake.count("posthog.events") == 4 and lake.count("posthog.persons") == 1


def test_s3_away(sqlite_team, clickhouse, s3):
    """A store that is away for a moment is waited for; what it refuses is said with its name, and nothing lands."""
    team = sqlite_team
    put_events(clickhouse, team.id, "2024-01-15", 4)
    with s3.proxy() as proxy:
        whole = team.registry.read_text()
        team.registry.write_text(whole.replace(s3.endpoint, proxy.endpoint))
        proxy.fault = lambda r: Answer(503) if r.method == "GET" and r.number < 6 else None
        team.run("_2024-01-15")
        proxy.fault = lambda r: Answer(403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>") if r.method in ("PUT", "POST") else None
        _, said = team.run("_2024-01-15", code=2)
        assert "the bucket refuses PutObject to ClickHouse's own role" in said and "duckling_export_retry" not in said
        team.registry.write_text(whole.replace(team.bucket, "no-such-bucket"))
        _, said = team.run("_2024-01-15", code=2)
        assert "no-such-bucket" in said
    with team.lake() as lake:
        assert lake.count("posthog.events") == 4


def test_the_catalog_is_cut_off(team, clickhouse, lake_home, tmp_path):
    """Between the file and the commit: a session that is gone is replaced, and the day lands once."""
    if lake_home.sqlite_path:
        pytest.skip("SQLite has no sessions that others could end")
    put_events(clickhouse, team.id, "2024-01-15", 4)
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(team.run, "_2024-01-15", DUCT_PAUSE_POINT=f"export-written:1:{gate}")
        wait_until(lambda: (tmp_path / "gate.reached").exists(), 60, "the file to be written")
        with psycopg.connect(lake_home.catalog.removeprefix("postgres:"), autocommit=True) as catalog:
            catalog.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
        gate.touch()
        run.result()
    with team.lake() as lake:
        assert lake.sql("SELECT count(*), count(DISTINCT uuid) FROM lake.posthog.events") == [(4, 4)]


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
    with team.lake() as lake:  # rows that others put in, into files of no day and into the catalog
        lake.sql("ALTER TABLE lake.posthog.persons RESET PARTITIONED BY")
        for limit in (0, 10):
            lake.sql(f"CALL lake.set_option('data_inlining_row_limit', {limit})")
            days = "('2024-01-05 01:00:00+00'::TIMESTAMPTZ), ('2024-01-13 01:00:00+00')"
            lake.sql(f"INSERT INTO lake.posthog.persons (team_id, distinct_id, _timestamp) SELECT {team.id}, 'x', t FROM (VALUES {days}) v(t)")
    team.run("_2024-01-20", job=PERSONS_JOB)
    assert_persons(team, clickhouse)
    result, _ = team.run("_2024-01-20", job=PERSONS_JOB)
    assert result["files_exported"] == 0


def test_a_run_that_waits_for_its_turn(sqlite_team, clickhouse, tmp_path):
    """A run that is queued behind the limit of its job stays so, however long its process has to wait for its turn."""
    put_events(clickhouse, sqlite_team.id, "2024-01-15", 4)
    env = {"DUCTSTREAM_RUN_LEASE": "2s", "DUCTSTREAM_BACKFILL_CONCURRENCY": "1"}
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(sqlite_team.run, "_2024-01-15", DUCT_PAUSE_POINT=f"export-written:1:{gate}", **env)
        wait_until(lambda: (tmp_path / "gate.reached").exists(), 60, "the file to be written")
        second = pool.submit(sqlite_team.run, "_2024-01-16", **env)
        time.sleep(5)
        gate.touch()
        assert first.result()[0]["rows"] == 4 and second.result()[0]["rows"] == 0


def test_bytes_that_are_no_text(team, clickhouse):
    """They failed the commit on a Postgres catalog, and made the table unreadable on SQLite."""
    put_events(clickhouse, team.id, "2024-01-15", 2)
    columns = "uuid, event, properties, timestamp, team_id"
    for event in ("unhex('fffe41')", "concat('n', unhex('c3'))", "'a\\0b'"):
        clickhouse.sql(f"INSERT INTO events ({columns}) VALUES (generateUUIDv4(), {event}, {event}, '2024-01-15 01:00:00', {team.id})")
    team.run("_2024-01-15")
    with team.lake() as lake:
        texts = lake.sql("SELECT event FROM lake.posthog.events WHERE properties <> '{}' ORDER BY 1")
    assert [text for (text,) in texts] == ["a\0b", "n\ufffd", "\ufffdA"]


def test_persons_with_nulls(sqlite_team, clickhouse):
    """What is changed beside a NULL is noticed: the sum of its day was without the row."""
    team = sqlite_team
    clickhouse.sql("ALTER TABLE person MODIFY COLUMN properties Nullable(String)")
    try:
        person(clickhouse, team.id, 1, "2024-01-15", ids=("a",))
        person(clickhouse, team.id, 2, "2024-01-15")
        clickhouse.sql(f"INSERT INTO person SELECT * REPLACE (NULL AS properties, 2 AS version) FROM person WHERE team_id = {team.id}")
        for version in (1, 7, 7):
            distinct_id(clickhouse, team.id, "b", 2, "2024-01-15", version)
            result, _ = team.run("", job=PERSONS_JOB)
            with team.lake() as lake:
                rows = lake.sql("SELECT distinct_id, person_distinct_id_version, properties FROM lake.posthog.persons ORDER BY 1")
            assert rows == [("a", 1, None), ("b", version, None)]
        assert result["files_registered"] == 0
    finally:
        clickhouse.sql("ALTER TABLE person MODIFY COLUMN properties String DEFAULT ''")


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


KILL_POINTS = ("export-written:1", "commit-planned:1", "commit-begin:1", "commit-done:1")


@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.long)])
def test_replays_and_kills_are_never_seen(team, clickhouse, times):
    """A reader that polls the day during TIMES replays and as many kill -9, at every commit boundary and at any moment, sees one count; nothing of an
    attempt that died stays in the lake."""
    put_events(clickhouse, team.id, "2024-01-15", 50)
    team.run("_2024-01-15")
    seen, over = set(), threading.Event()

    def poll():
        with team.lake() as lake:
            while not over.is_set():
                try:
                    seen.add(lake.count("posthog.events"))
                except LakeError as error:
                    seen.add(str(error))

    reader = threading.Thread(target=poll)
    reader.start()
    try:
        wait_until(lambda: seen, 30, "the reader to see the day")
        for number in range(times):
            if number // 4 % 2 == 0:
                team.run("_2024-01-15", code=4, DUCT_KILL_POINT=KILL_POINTS[number % 4])
            else:
                team.kill("_2024-01-15", after_s=(number * 7 % 20) / 20)
            team.run("_2024-01-15")
    finally:
        over.set()
        reader.join()
    assert seen == {50}
    with team.lake() as lake:
        assert lake.sql("SELECT count(*), count(DISTINCT uuid) FROM lake.posthog.events") == [(50, 50)]


class RoleFront(TemporaryKeys):
    """ClickHouse comes with keys of its own, everybody else with those of a role."""

    def admit(self, request, raw):
        signed = Signed.of(request.headers)
        return raw if signed and signed.access_key == self.s3.access_key and "PUT POST".find(request.method) >= 0 else super().admit(request, raw)


def test_a_role_of_the_team(sqlite_team, clickhouse, s3):
    """Footers, and old files that have rows of the day, are read by the team's role with its external id; the service's own keys open nothing."""
    team, arn, issuer = sqlite_team, "arn:aws:iam::111122223333:role/duckling", Issuer()
    put_events(clickhouse, team.id, "2024-01-15", 3)
    with Sts({arn: Role(external_id="acme")}, {"BASEKEY": "base secret"}, issuer) as sts, RoleFront(s3, issuer) as front:
        env = {"AWS_ACCESS_KEY_ID": "BASEKEY", "AWS_SECRET_ACCESS_KEY": "base secret", "AWS_ENDPOINT_URL_STS": sts.endpoint}
        entry = team.registry.read_text().replace(s3.endpoint, front.endpoint) + f"  cross_account_role_arn: {arn}\n"
        team.registry.write_text(entry + "  cross_account_external_id: wrong\n")
        _, said = team.run("_2024-01-15", code=2, **env)
        assert "AssumeRole" in said and arn in said and "base secret" not in said
        team.registry.write_text(entry + "  cross_account_external_id: acme\n")
        team.run("_2024-01-15", **env)
        with team.lake() as lake:
            lake.sql("ALTER TABLE lake.posthog.events RESET PARTITIONED BY")
            lake.sql("CALL lake.set_option('data_inlining_row_limit', 0)")
            moments = "('2024-01-15 01:00:00+00'::TIMESTAMPTZ), ('2024-01-16 01:00:00+00')"
            lake.sql(f"INSERT INTO lake.posthog.events (team_id, timestamp) SELECT {team.id}, t FROM (VALUES {moments}) v(t)")
        team.run("_2024-01-15", **env)
        assert {found.role for found in front.seen} == {arn} and {form.get("ExternalId") for form in sts.forms} == {"acme", "wrong"}
    with team.lake() as lake:
        assert days_of(team, lake) == [(True, 15, 3), (True, 16, 1)]


def make_old(team):
    """The server takes when a file was written from its folder."""
    for path in (Path(team.s3.folder) / "data" / team.bucket).rglob("*.parquet"):
        os.utime(path, (time.time() - 2 * 86400,) * 2)


def orphans(team, *words, code=0):
    got, out, err = ductstream("backfill", "orphans", "--json", *words, env=team.env)
    assert got == code, out + err
    return {line["path"].removeprefix(f"s3://{team.bucket}/"): line["removed"] for line in lines(out) if line["event"] == "orphan"}


def test_orphans(team, clickhouse, tmp_path):
    """What failed attempts and mere exports left is listed, and removed when asked; never what any snapshot has, what is young, what a run that is under way has
    written, or what is called otherwise; a frozen run whose file was taken fails, and the next one lands."""
    put_events(clickhouse, team.id, "2024-01-15", 5)
    person(clickhouse, team.id, 1, "2024-01-10", ids=("a",))
    team.run("_2024-01-15")
    team.run("", job=PERSONS_JOB)
    team.run("_2024-01-15")  # the first file is of an older snapshot
    named = set(team.files())
    team.run("_2024-01-15", code=4, DUCT_KILL_POINT="export-written:1")
    team.run("_2024-01-15", config={"skip_ducklake_registration": True})
    left = set(team.files()) - named
    other = f"backfill/events/team_id={team.id}/year=2024/month=01/day=15/mine.parquet"
    team.s3.put(team.bucket, other, b"x")
    assert len(named) == 3 and len(left) == 2
    assert orphans(team) == {}
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(1) as pool:
        frozen = pool.submit(team.run, "_2024-01-15", DUCT_PAUSE_POINT=f"export-written:1:{gate}")
        wait_until(lambda: (tmp_path / "gate.reached").exists(), 60, "the run to be under way")
        make_old(team)
        waiting = set(team.files()) - named - left - {other}
        assert len(waiting) == 1 and orphans(team, "--team", team.id) == dict.fromkeys(left, False)
        assert orphans(team, "--delete") == dict.fromkeys(left, True)
        assert set(team.files()) == named | waiting | {other}
        gate.touch()
        frozen.result()
    with team.lake() as lake:
        assert lake.count("posthog.events") == 5 and lake.count("posthog.persons") == 1
    assert orphans(team) == {}
    assert "at least 10m" in ductstream("backfill", "orphans", "--delete", "--older-than", "1m", env=team.env)[2]
    assert "there is no team 7" in ductstream("backfill", "orphans", "--team", "7", env=team.env)[2]


def test_a_file_that_is_gone_before_its_commit(sqlite_team, clickhouse, tmp_path):
    """A run that stood still, of which the state knows nothing any more, does not put a path into the lake that a clean-up has taken."""
    team = sqlite_team
    put_events(clickhouse, team.id, "2024-01-15", 5)
    gate = tmp_path / "gate"
    with ThreadPoolExecutor(1) as pool:
        frozen = pool.submit(team.run, "_2024-01-15", code=4, DUCT_PAUSE_POINT=f"export-written:1:{gate}")
        wait_until(lambda: (tmp_path / "gate.reached").exists(), 60, "the run to be under way")
        make_old(team)
        stranger = copy.copy(team)
        stranger.env = {**team.env, "DUCTSTREAM_STATE_PATH": str(tmp_path / "other.db")}
        found = orphans(stranger, "--delete")
        assert list(found.values()) == [True] and team.files() == []
        time.sleep(2.1)  # what was written a moment ago is not asked for
        gate.touch()
        _, said = frozen.result()
    assert "is not there any more" in said
    team.run("_2024-01-15")
    with team.lake() as lake:
        assert lake.count("posthog.events") == 5


def test_sensors(sqlite_team, clickhouse):
    """Discovery finds yesterday and the gaps, tries failures again three times and then gives up; the full sensor goes through the history by
    its cursor, which a reset brings to the beginning."""

    def backfill(*words):
        code, out, err = ductstream("backfill", *words, "--json", env={**sqlite_team.env, "DUCTSTREAM_FULL_BACKFILL_MAX_PARTITIONS": "3"})
        assert code == 0, err
        return lines(out)

    def keys(*words):
        return [json.loads(run["inputJson"])["partition"] for found in backfill("tick", *words) for run in found["runs"]]

    yesterday = utc_today() - timedelta(days=1)
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
    yesterday = utc_today() - timedelta(days=1)

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
