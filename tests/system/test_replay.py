"""`ductstream-worker -start-lsn` below the destination's position: what it has comes once more (issue 5, point 10)."""

from types import SimpleNamespace

import duckdb
import pytest

from lib.compare import assert_same
from lib.duck_tables import DuckTables
from lib.lake import LakeHome
from lib.pause import Pause
from lib.service import Lake, Service, flow_message

DUCKDB, PGSTREAM = 11, 8
ALL = ("public.t", "public.wide", "public.once")

TABLES = """
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 1000) i;
CREATE TABLE wide (id int PRIMARY KEY, n int, v text);
ALTER TABLE wide ALTER v SET STORAGE EXTERNAL;
INSERT INTO wide SELECT i, 0, repeat(chr(65 + i), 3000) FROM generate_series(1, 20) i;
CREATE TABLE once (id int PRIMARY KEY); INSERT INTO once SELECT generate_series(1, 10);
"""

# Each of these, met again by a lake that is past it, finds rows that are gone, are there, or are others.
CHANGES = (
    "INSERT INTO t SELECT i, 'n' || i FROM generate_series(2000, 2100) i",
    "UPDATE t SET v = v || '!' WHERE id <= 300",
    "DELETE FROM t WHERE id BETWEEN 250 AND 400 OR id > 2050",
    "UPDATE t SET id = id + 5000 WHERE id <= 20; INSERT INTO t SELECT i, 'again' FROM generate_series(10, 30) i ON CONFLICT DO NOTHING",
    "UPDATE wide SET n = n + 1",
    "UPDATE wide SET id = id + 100 WHERE id <= 5; INSERT INTO wide VALUES (1, 7, repeat('z', 3000))",
    "UPDATE wide SET n = 50 WHERE id = 102; DELETE FROM wide WHERE id = 103; UPDATE wide SET v = 'short' WHERE id = 10",
    "INSERT INTO once VALUES (11); TRUNCATE once; INSERT INTO once VALUES (1), (2)",
    "DELETE FROM t WHERE id = 5001; INSERT INTO t VALUES (5001, 'last')",
)


@pytest.fixture
def service(tmp_path):
    with Service(tmp_path / "service") as running:
        yield running


def confirmed(database, slot="shop"):
    return database.value(f"SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = '{slot}'")


def go_back(database, slot="shop"):
    """The slot as it was when it was kept."""
    database.sql(f"SELECT pg_drop_replication_slot('{slot}')")
    database.sql(f"SELECT pg_copy_logical_replication_slot('kept', '{slot}')")


def changed(service, database, *changes, flow="shop"):
    """A flow that is past the changes, with a slot that is not; where they begin."""
    service.worker(flow, "-max-empty-reads", "1").expect(0)
    database.sql(f"SELECT pg_copy_logical_replication_slot('{flow}', 'kept')")
    start = confirmed(database, "kept")
    for change in changes or CHANGES:
        database.sql(change)
    service.worker(flow, "-max-empty-reads", "1").expect(0)
    go_back(database, flow)
    return start


@pytest.fixture
def shop(service, database, sqlite_lake):
    def make(tables=TABLES, **destination):
        database.sql(tables)
        options = {"flush_interval": "20ms", "foreign_changes": "share", **destination}
        service.call("CreateFlow", flow=flow_message(database, sqlite_lake, "shop", destination=options))
        return opened

    opened = Lake(database, sqlite_lake)
    yield make
    opened.close()


def position(lake):
    return lake._open().sql("SELECT lsn, state FROM __ducklake_metadata_lake.ductstream_checkpoint")


def snapshots(lake):
    return lake._open().sql("SELECT count(*) FROM __ducklake_metadata_lake.ducklake_snapshot")[0][0]


@pytest.mark.parametrize("rows", ["100000", "50"])
def test_damage_is_repaired(shop, service, database, rows):
    """Applied by key, in one snapshot: also what the lake has lost of it, and unsent values, whose rows have other keys by now, or are gone. In one
    piece and written aside in windows."""
    lake = shop(flush_rows=rows)
    start = changed(service, database)
    lake.same(*ALL)
    lake._open().sql("DELETE FROM lake.public.t WHERE id BETWEEN 2000 AND 2040 OR id = 5001")
    before = snapshots(lake)
    stderr = service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(0)
    assert "replayed" in stderr
    lake.same(*ALL)
    assert snapshots(lake) <= before + 2  # and one of flushed rows, perhaps
    database.sql("UPDATE t SET v = 'touched'; UPDATE wide SET n = n + 1; DELETE FROM t WHERE id % 2 = 0")
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    lake.same(*ALL)


@pytest.mark.parametrize(
    "place, again",
    [
        ("replay-read", True),
        ("commit-done", False),
        pytest.param("replay-read", False, marks=pytest.mark.long),
        pytest.param("commit-begin", False, marks=pytest.mark.long),
        pytest.param("commit-done", True, marks=pytest.mark.long),
        pytest.param("replay-committed", False, marks=pytest.mark.long),
        pytest.param("replay-committed", True, marks=pytest.mark.long),
    ],
)
def test_killed_in_the_middle(shop, service, database, place, again):
    """Nothing of it, or all: the position stands where it stood, and the flow goes on from there, with the replay or without."""
    lake = shop()
    start = changed(service, database)
    before = position(lake)
    service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1", env={"DUCT_KILL_POINT": f"{place}:1"}).expect(-9)
    assert position(lake) == before
    lake.same(*ALL)
    database.sql("UPDATE t SET v = 'later' WHERE id % 3 = 0; UPDATE wide SET n = -n")
    replay = ("-start-lsn", start) if again and confirmed(database) == start else ()
    service.worker("shop", *replay, "-max-empty-reads", "1").expect(0)
    lake.same(*ALL)


def test_below_what_the_slot_has(shop, service, database):
    """Refused with both positions; the flow stays what it was."""
    lake = shop()
    start = changed(service, database)
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    stderr = service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(2)
    assert start in stderr and confirmed(database) in stderr and "confirmed_flush_lsn" in stderr
    assert service.state_of("shop") == "running"
    lake.same(*ALL)


KEYLESS = """
CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'a');
CREATE TABLE log (line text); CREATE TABLE "Log 2" (line text); CREATE TABLE quiet (line text); INSERT INTO quiet VALUES ('x');
"""


def test_tables_that_are_only_added_to(shop, service, database):
    """Refused, naming those that the replay has rows of, and nothing is applied; -replay-append adds them again."""
    lake = shop(KEYLESS)
    start = changed(service, database, "INSERT INTO log VALUES ('one'), ('two')", "INSERT INTO \"Log 2\" VALUES ('x')", "UPDATE t SET v = 'b'")
    stderr = service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(2)
    assert '"public"."log", "public"."Log 2"' in stderr and "quiet" not in stderr and "-replay-append" in stderr
    lake.same("public.t", "public.log", "public.quiet")
    service.worker("shop", "-start-lsn", start, "-replay-append", "-max-empty-reads", "1").expect(0)
    assert lake.count("public.log") == 4
    lake.same("public.t", "public.quiet")


@pytest.mark.parametrize("options", [{"append_mode": "true", "meta_enabled": "true"}, {"write_mode": "append"}])
def test_append_options(shop, service, database, options):
    lake = shop(**options)
    start = changed(service, database, "UPDATE t SET v = 'b' WHERE id <= 10")
    stderr = service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(2)
    assert '"public"."t"' in stderr
    assert lake.count() == 1010
    service.worker("shop", "-start-lsn", start, "-replay-append", "-max-empty-reads", "1").expect(0)
    assert lake.count() == 1020


def test_a_table_that_was_another(shop, service, database):
    """A replay does not take a table back to what it was."""
    lake = shop()
    start = changed(service, database, "UPDATE t SET v = 'b' WHERE id = 1", "ALTER TABLE t ADD COLUMN more int DEFAULT 7", "UPDATE t SET v = 'c'")
    stderr = service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(2)
    assert 'table "public"."t" was another one' in stderr
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    lake.same(*ALL)


def test_stopped_before_it_was_done(shop, service, database, tmp_path):
    lake = shop()
    start = changed(service, database)
    pause = Pause(tmp_path, "replay-read")
    worker = service.worker("shop", "-start-lsn", start, env=pause.env)
    pause.wait(worker)
    service.call("PauseFlow", flow_id="shop")
    pause.release()
    worker.expect(0)
    lake.same(*ALL)


def test_of_two_destinations_one_is_behind(service, database, sqlite_lake, tmp_path):
    """Each has what it has once more."""
    database.sql(TABLES)
    second = LakeHome(f"sqlite:{tmp_path}/second.sqlite", tmp_path / "second-data")
    message = flow_message(database, sqlite_lake, "shop", destination={"flush_interval": "20ms"})
    options = {"catalog": second.catalog, "data_path": str(second.data_path), "flush_interval": "20ms"}
    message["destinations"].append({**message["destinations"][0], "name": "second", "options": options})
    service.call("CreateFlow", flow=message)
    start = changed(service, database)
    service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(0)
    for home in (sqlite_lake, second):
        assert_same(database, home.open(), *ALL)
    second.close()


# Unsent values in rows that are deleted or move later, whose keys others had before: in windows of a few rows each.
MOVES = (
    "UPDATE wide SET n = 1 WHERE id = 3", "UPDATE wide SET n = 2 WHERE id IN (4, 5, 6, 7)", "DELETE FROM wide WHERE id = 3",
    "DELETE FROM wide WHERE id = 8; INSERT INTO wide VALUES (8, 0, repeat('x', 3000))", "UPDATE t SET v = 'x' WHERE id <= 20",
    "DELETE FROM wide WHERE id = 8", "UPDATE t SET v = 'y' WHERE id <= 20", "UPDATE wide SET id = 8 WHERE id = 7",
    "UPDATE t SET v = 'z' WHERE id <= 20", "INSERT INTO wide VALUES (7, 9, repeat('y', 3000))", "UPDATE t SET v = 'a' WHERE id <= 20",
    "UPDATE wide SET id = 3 WHERE id = 7", "UPDATE t SET v = 'b' WHERE id <= 20", "DELETE FROM wide WHERE id = 3", "UPDATE wide SET n = 5 WHERE id = 8",
    "INSERT INTO wide VALUES (30, 1, repeat('n', 3000))", "UPDATE t SET v = 'c' WHERE id <= 20", "UPDATE wide SET id = 31 WHERE id = 30",
    "UPDATE t SET v = 'd' WHERE id <= 20", "UPDATE wide SET n = 3 WHERE id = 31", "UPDATE t SET v = 'e' WHERE id <= 20",
)


def test_larger_than_memory(shop, service, database):
    """In many windows it does the same, also to a row that was lost; what cannot be known stops it, and nothing is applied."""
    lake = shop(flush_rows="5")
    start = changed(service, database, *MOVES)
    lake._open().sql("DELETE FROM public.wide WHERE id = 31")
    service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(0)
    lake.same(*ALL)
    go_back(database)
    lake._open().sql("DELETE FROM public.wide WHERE id = 8")
    stderr = service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(3)
    assert 'column "v" of "public"."wide"' in stderr and lake.count("public.wide") == database.value("SELECT count(*) FROM wide") - 1


@pytest.mark.parametrize("rows, changes", [("100000", CHANGES), ("5", CHANGES), ("5", MOVES)])
def test_duckdb(service, database, tmp_path, rows, changes):
    """The same by the duckdb destination."""
    path = tmp_path / "out.duckdb"
    database.sql(TABLES)
    message = flow_message(database, SimpleNamespace(catalog="", data_path=""), "shop")
    message["destinations"] = [{"name": "out", "type": DUCKDB, "options": {"dsn": str(path), "flush_rows": rows}}]
    service.call("CreateFlow", flow=message)
    start = changed(service, database, *changes)

    def same():
        with DuckTables(path) as tables:
            assert_same(database, tables, *ALL)

    def damage(where):
        with duckdb.connect(str(path)) as connection:
            connection.execute(f"DELETE FROM public.{where}")

    same()
    damage("t WHERE id BETWEEN 2000 AND 2040")
    damage("wide WHERE id IN (1, 31)" if changes is CHANGES else "wide WHERE id = 31")
    service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(0)
    same()
    if changes is MOVES:
        go_back(database)
        damage("wide WHERE id = 8")
        assert 'column "v" of "public"."wide"' in service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(3)


def test_pgstream(service, database):
    """A stream only gets more: refused, or added again."""
    database.sql(TABLES)
    message = flow_message(database, SimpleNamespace(catalog="", data_path=""), "shop", source={"publication_tables": "public.once"})
    message["destinations"] = [{"name": "out", "type": PGSTREAM, "options": {"dsn": database.dsn, "stream": "events"}}]
    service.call("CreateFlow", flow=message)
    start = changed(service, database, "INSERT INTO once VALUES (21), (22)")
    stderr = service.worker("shop", "-start-lsn", start, "-max-empty-reads", "1").expect(2)
    assert 'stream "events"' in stderr and "-replay-append" in stderr
    service.worker("shop", "-start-lsn", start, "-replay-append", "-max-empty-reads", "1").expect(0)
    assert database.value("SELECT count(*) FROM ductstream.stream_events WHERE operation = 'insert'") == 4
