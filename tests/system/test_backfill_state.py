"""A backfill that is interrupted goes on with the tables that are not done: snapshot_state_backend, snapshot_consistent (issue 5, point 10)."""

import json

import pytest

from lib.lake import LakeHome
from lib.pause import Pause
from lib.service import Lake, Service, flow_message

TABLES = """
CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a SELECT i, 'a' || i FROM generate_series(1, 500) i;
CREATE TABLE b (id int PRIMARY KEY, v text); INSERT INTO b SELECT i, 'b' || i FROM generate_series(-250, 249) i;
CREATE TABLE c (id int PRIMARY KEY, v text); INSERT INTO c SELECT i, 'c' || i FROM generate_series(1, 500) i;
"""
ALL = ("public.a", "public.b", "public.c")
NAMES = ",".join(ALL)
CHANGE = """
UPDATE a SET v = v || '!' WHERE id % 5 = 0; DELETE FROM a WHERE id % 7 = 0; INSERT INTO a SELECT max(id) + 1, 'new' FROM a;
UPDATE b SET id = id + 1000 WHERE id % 10 = 0 AND id < 1000; DELETE FROM c WHERE id % 9 = 0; INSERT INTO c SELECT max(id) + 1, 'new' FROM c;
"""


@pytest.fixture
def service(tmp_path):
    with Service(tmp_path / "service") as running:
        yield running


class Backfill:
    def __init__(self, service, database, home, source):
        self.service, self.database, self.lake = service, database, Lake(database, home)
        message = flow_message(database, home, "shop", source=source, destination={"flush_interval": "20ms", "inline_rows": "0"})
        service.call("CreateFlow", flow=message)
        self.sync()

    def sync(self):
        self.service.worker("shop", "-max-empty-reads", "1").expect(0)
        self.lake.same(*ALL)

    def run(self, code=0, tables=NAMES, **env):
        return self.service.worker("shop", "-mode", "backfill", "-tables", tables, env=env).expect(code)

    def files(self):
        """Of each table: the data files as the first copy or a backfill left them."""
        rows = self.lake._open().sql(
            "SELECT t.table_name, min(f.data_file_id) FROM __ducklake_metadata_lake.ducklake_data_file f "
            "JOIN __ducklake_metadata_lake.ducklake_table t USING (table_id) WHERE f.end_snapshot IS NULL GROUP BY ALL"
        )
        return dict(rows)

    def renewed(self, before):
        now = self.files()
        return "".join(sorted(name for name in now if now[name] != before[name]))


@pytest.fixture
def backfill(service, database, sqlite_lake):
    made = []

    def make(tables=TABLES, **source):
        database.sql(tables)
        made.append(Backfill(service, database, sqlite_lake, source))
        return made[0]

    yield make
    made[0].lake.close()


def kept(backfill, path=None):
    """{table: statuses of its parts}"""
    if path:
        rows = [(r["table_name"], r["status"]) for r in json.loads(path.read_text())["snapshot_state"] if r["flow_id"] == "shop"]
    else:
        rows = backfill.database.query("SELECT table_name, status FROM ductstream.snapshot_state WHERE flow_id = 'shop' ORDER BY 1")
    found = {}
    for table, status in rows:
        found.setdefault(table.split(".")[1], []).append(status)
    return found


@pytest.mark.parametrize(
    "place, n, done",
    [
        ("backfill-kept", 2, "ab"),
        # It is copied once more: a copy takes the place of the one before.
        pytest.param("backfill-published", 1, "", marks=pytest.mark.long),
        pytest.param("backfill-kept", 1, "a", marks=pytest.mark.long),
        pytest.param("commit-begin", 2, "a", marks=pytest.mark.long),
        pytest.param("commit-done", 2, "a", marks=pytest.mark.long),
        pytest.param("file-written", 5, "a", marks=pytest.mark.long),
        pytest.param("backfill-published", 3, "ab", marks=pytest.mark.long),
    ],
)
def test_killed(backfill, database, place, n, done):
    """Rows that change before, between and after: each is there once, with its last value."""
    shop = backfill(partition_column="id", partition_count="3")
    before = shop.files()
    database.sql(CHANGE)
    shop.run(-9, DUCT_KILL_POINT=f"{place}:{n}")
    assert {t: set(s) for t, s in kept(shop).items()} == {t: {"done" if t in done else "running"} for t in "abc"}
    assert all(len(kept(shop)[t]) == 3 for t in done)
    middle = shop.files()
    database.sql(CHANGE)
    stderr = shop.run()
    assert stderr.count("a table is done already") == len(done)
    assert "".join(t for t in "abc" if shop.files()[t] == middle[t] and middle[t] != before[t]) == done
    assert kept(shop) == {t: ["done"] * 3 for t in "abc"}
    database.sql(CHANGE)
    shop.sync()
    middle = shop.files()
    shop.run(tables="public.a")  # another backfill, which begins anew
    assert shop.renewed(middle) == "a" and kept(shop) == {"a": ["done"] * 3}
    shop.sync()


def test_streamed_in_between(backfill, database):
    """Changes from before the copy's moment come by the stream where the copy was not published."""
    shop = backfill()
    database.sql(CHANGE)
    shop.run(-9, DUCT_KILL_POINT="backfill-kept:1")
    database.sql(CHANGE)
    shop.sync()
    database.sql(CHANGE)
    before = shop.files()
    shop.run()
    assert shop.renewed(before) == "bc"
    shop.sync()


def test_a_flow_of_the_same_name(backfill, database, tmp_path):
    """Of another service, into another lake, by another slot: what the one has done the other has not."""
    shop = backfill()
    home = LakeHome(f"sqlite:{tmp_path}/other.sqlite", tmp_path / "other-data")
    with Service(tmp_path / "other") as service:
        other = Backfill(service, database, home, {"slot": "other", "publication": "other"})
        shop.run(-9, DUCT_KILL_POINT="backfill-kept:1")
        before = other.files()
        other.run()
        assert other.renewed(before) == "abc"
        other.lake.close()
    home.close()
    shop.run()
    shop.sync()


def test_in_a_file(backfill, database, tmp_path):
    """Replaced as a whole; one that nobody of ours has written is not overwritten."""
    path = tmp_path / "snapshot.json"
    path.write_text("{}")
    shop = backfill(snapshot_state_backend="file", snapshot_state_path=str(path))
    assert "is not what a backfill has written" in shop.run(2)
    other = {"flow_id": "x", "table_name": "t", "partition_index": 0, "partition_count": 1, "cursor": None, "status": "done"}
    path.write_text(json.dumps({"snapshot_state": [other]}))
    database.sql(CHANGE)
    shop.run(-9, DUCT_KILL_POINT="backfill-kept:2")
    assert kept(shop, path) == {"a": ["done"], "b": ["done"], "c": ["running"]}
    before = shop.files()
    shop.run()
    assert shop.renewed(before) == "c" and kept(shop, path) == {t: ["done"] for t in "abc"}
    assert other in json.loads(path.read_text())["snapshot_state"]
    shop.sync()


def test_in_another_database(backfill, database, databases, tmp_path):
    """snapshot_state_dsn: nothing of it is at the source. What it has not heard of is not done: the table is copied once more."""
    elsewhere = databases.take()
    shop = backfill(snapshot_state_dsn=elsewhere.dsn)
    database.sql(CHANGE)
    shop.run(-9, DUCT_KILL_POINT="backfill-kept:2")
    statuses = "SELECT table_name, status FROM ductstream.snapshot_state WHERE flow_id = 'shop' ORDER BY 1"
    assert elsewhere.query(statuses) == [("public.a", "done"), ("public.b", "done"), ("public.c", "running")]
    assert database.value("SELECT to_regclass('ductstream.snapshot_state')") is None
    before = shop.files()
    pause = Pause(tmp_path, "backfill-published")
    worker = shop.service.worker("shop", "-mode", "backfill", "-tables", NAMES, env=pause.env)
    pause.wait(worker)
    worker_of = f"FROM pg_stat_activity WHERE datname = '{elsewhere.name}' AND application_name LIKE 'ductstream%'"
    assert database.query(f"SELECT pg_terminate_backend(pid) {worker_of}") == [(True,)]
    pause.release()
    worker.expect(0)
    assert shop.renewed(before) == "c" and {row[1] for row in elsewhere.query(statuses)} == {"done"}
    database.sql(CHANGE)
    shop.sync()
    databases.give_back(elsewhere)


def test_nowhere(backfill, database):
    """All tables in one commit, or none."""
    shop = backfill(snapshot_state_backend="none")
    before = shop.files()
    database.sql(CHANGE)
    shop.run(-9, DUCT_KILL_POINT="commit-begin:1")
    assert shop.renewed(before) == ""
    shop.run()
    assert shop.renewed(before) == "abc"
    assert database.value("SELECT to_regclass('ductstream.snapshot_state')") is None
    shop.sync()


def test_a_moment_for_each_table(backfill, database):
    """snapshot_consistent=false, for a flow that streams: still nothing is lost or doubled."""
    shop = backfill(snapshot_consistent="false", snapshot_workers="2")
    before = shop.files()
    database.sql(CHANGE)
    shop.run(-9, DUCT_KILL_POINT="backfill-kept:1")
    database.sql(CHANGE)
    shop.run()
    assert shop.renewed(before) == "abc"
    database.sql(CHANGE)
    shop.sync()


@pytest.mark.parametrize("backend", ["postgres", pytest.param("none", marks=pytest.mark.long)])
def test_more_tables_than_have_fences(backfill, database, backend):
    """The stream is followed in between."""
    many = [f"m{i}" for i in range(80)]
    shop = backfill(
        TABLES + "".join(f"CREATE TABLE {t} (id int PRIMARY KEY); INSERT INTO {t} VALUES (1), (2);" for t in many),
        snapshot_state_backend=backend,
        snapshot_workers="8",
    )
    before = shop.files()
    database.sql("".join(f"INSERT INTO {t} VALUES (3); DELETE FROM {t} WHERE id = 1;" for t in many))
    shop.service.worker("shop", "-mode", "backfill", "-schemas", "public").expect(0)
    assert all(shop.files()[t] != before[t] for t in [*many, "a", "b", "c"])
    shop.sync()
    shop.lake.same(*(f"public.{t}" for t in many))
