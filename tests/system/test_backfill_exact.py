"""Tables copied again while changes wait: what lies before the copy is in it, and must not come twice (issue 5, point 10)."""

import pytest

from lib.duck_tables import DuckTables
from lib.service import Service, flow_message

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'old' FROM generate_series(1, 100) i"
WAITING = [
    "DELETE FROM t WHERE id <= 10", "UPDATE t SET v = 'new' WHERE id BETWEEN 11 AND 20", "UPDATE t SET id = -id WHERE id BETWEEN 21 AND 30",
    "INSERT INTO t VALUES (200, 'new')", "INSERT INTO t VALUES (201, 'gone'); DELETE FROM t WHERE id = 201",
]
AFTERWARDS = ["INSERT INTO t VALUES (1, 'again'), (202, 'x')", "UPDATE t SET v = 'later' WHERE id IN (-21, 11)", "DELETE FROM t WHERE id IN (12, 200)"]
DUCKDB, PGSTREAM = 11, 8


class Copied:
    """A flow of the service into one kind of destination, run by workers that end."""

    def __init__(self, service, database, home, folder, kind, options):
        self.service, self.database, self.home, self.kind = service, database, home, kind
        self.path = folder / "out.duckdb"
        message = flow_message(database, home, "shop")
        if kind == "duckdb":
            message["destinations"] = [{"name": "out", "type": DUCKDB, "options": {"dsn": str(self.path)}}]
        if kind == "pgstream":
            message["destinations"] = [{"name": "out", "type": PGSTREAM, "options": {"dsn": database.dsn}}]
            message["source"]["options"]["publication_tables"] = "public.t"
        message["destinations"][0]["options"] |= options
        service.call("CreateFlow", flow=message)

    def follow(self):
        self.service.worker("shop", "-max-empty-reads", "1").expect(0)

    def backfill(self, *words):
        return self.service.worker("shop", "-mode", "backfill", "-tables", "public.t", *words).expect(0)

    def rows(self, query="SELECT id, v FROM {} ORDER BY ALL"):
        tables = DuckTables(self.path) if self.kind == "duckdb" else self.home.open()
        try:
            return tables.sql(query.replace("{}", tables.source("public.t")))
        finally:
            tables.close()

    def same(self):
        assert self.rows() == self.database.query("SELECT id, v FROM t ORDER BY 1")


@pytest.fixture
def copied(database, sqlite_lake, tmp_path):
    """copied(kind, **options) -> Copied"""
    with Service(tmp_path / "service") as service:
        yield lambda kind, **options: Copied(service, database, sqlite_lake, tmp_path, kind, options)


STAGING = {"batch_mode": "staging"}
WAYS = {
    "direct": ({}, ()),
    "append": (STAGING | {"batch_resolution": "append"}, ()),
    "replace": (STAGING | {"batch_resolution": "replace"}, ()),
    "resolve": (STAGING, ("-resolve-staging",)),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["duckdb", "ducklake"])
def test_changes_that_wait_are_in_the_copy(copied, database, kind, way):
    options, words = WAYS[way]
    database.sql(TABLE)
    flow = copied(kind, **options)
    flow.backfill(*words)
    for statement in WAITING:
        database.sql(statement)
    flow.backfill(*words)
    flow.same()
    for statement in AFTERWARDS:
        database.sql(statement)
    flow.follow()
    flow.same()


def test_a_stream_has_them_once(copied, database):
    database.sql(TABLE)
    flow = copied("pgstream")
    flow.follow()
    for statement in WAITING:
        database.sql(statement)
    flow.backfill()
    copies = database.value("SELECT count(*) FROM t")
    for statement in AFTERWARDS:
        database.sql(statement)
    flow.follow()
    said = database.query("SELECT operation, count(*)::int FROM ductstream.stream_events GROUP BY 1 ORDER BY 1")
    assert said == [("delete", 2), ("insert", 2), ("load", 100 + copies), ("update", 2)]


@pytest.mark.parametrize("kind", ["duckdb", "ducklake"])
def test_a_staged_copy_of_a_table_that_is_followed(copied, database, kind):
    """Nobody asks for it: the table goes on as if there were none."""
    database.sql(TABLE)
    flow = copied(kind, **STAGING)
    flow.backfill("-resolve-staging")
    for statement in WAITING:
        database.sql(statement)
    flow.backfill()
    assert flow.rows("SELECT count(*) FROM {}") == [(100,)]
    for statement in AFTERWARDS:
        database.sql(statement)
    flow.follow()
    flow.same()


@pytest.mark.parametrize("kind", ["duckdb", "ducklake"])
def test_a_staged_copy_beside_a_first_one_is_refused(copied, database, kind):
    """Of one the changes before the copy are needed, of the other they are not. The flow goes on."""
    database.sql(TABLE)
    flow = copied(kind, **STAGING)
    flow.backfill("-resolve-staging")
    database.sql("CREATE TABLE zz (id int PRIMARY KEY)")
    assert "-resolve-staging" in flow.service.worker("shop", "-mode", "backfill", "-schemas", "public").expect(2).split("error: ")[1]
    database.sql("DELETE FROM t WHERE id < 50")
    flow.follow()
    flow.same()


# --- what a table keeps ---

CHANGES = ["UPDATE t SET v = 'new' WHERE id = 1", "DELETE FROM t WHERE id = 2", "INSERT INTO t VALUES (4, 'four')"]
SMALL = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one'), (2, 'two'), (3, 'three')"
HISTORY = [(1, "new", "update"), (1, "one", "load"), (2, "two", "load"), (2, None, "delete"), (3, "three", "load"), (4, "four", "insert")]


@pytest.mark.parametrize("kind", ["duckdb", "ducklake"])
@pytest.mark.parametrize("staged", [{}, STAGING | {"batch_resolution": "append"}], ids=["direct", "staged"])
def test_a_history_is_added_to(copied, database, kind, staged):
    """append_mode: a copy that is made again adds its rows; also when the table was made again, or changed beyond what can be followed."""
    database.sql(SMALL)
    flow = copied(kind, append_mode="true", **staged)
    flow.follow()
    for statement in CHANGES:
        database.sql(statement)
    flow.follow()
    history = "SELECT id, v, __ds_op FROM {} ORDER BY id, v NULLS LAST, __ds_op"
    assert flow.rows(history) == HISTORY
    flow.backfill()
    copy = [(1, "new", "load"), (3, "three", "load"), (4, "four", "load")]
    by = lambda row: (row[0], row[1] is None, row[1] or "", row[2])  # noqa: E731
    assert flow.rows(history) == sorted(HISTORY + copy, key=by)
    database.sql("DROP TABLE t")
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (9, 'nine')")
    flow.follow()
    assert flow.rows(history) == sorted(HISTORY + copy + [(9, "nine", flow.rows("SELECT __ds_op FROM {} WHERE id = 9")[0][0])], key=by)


@pytest.mark.parametrize("kind", ["duckdb", "ducklake"])
def test_rows_of_write_mode_append_stay(copied, database, kind):
    database.sql(SMALL)
    flow = copied(kind, write_mode="append")
    flow.follow()
    database.sql("DELETE FROM t WHERE id < 3")
    flow.backfill()
    assert flow.rows() == [(1, "one"), (2, "two"), (3, "three"), (3, "three")]


def test_a_change_that_cannot_be_followed_keeps_the_history(copied, database):
    database.sql(SMALL)
    flow = copied("duckdb", append_mode="true")
    flow.follow()
    database.sql("ALTER TABLE t ALTER v TYPE int USING length(v); INSERT INTO t VALUES (4, 4)")
    flow.follow()
    found = flow.rows("SELECT id, v, __ds_op FROM {} ORDER BY ALL")
    assert [row for row in found if row[0] < 4] == [(1, 3, "load"), (1, None, "load"), (2, 3, "load"), (2, None, "load"), (3, 5, "load"), (3, None, "load")]


@pytest.mark.parametrize("staged", [{}, STAGING | {"batch_resolution": "append"}], ids=["direct", "staged"])
def test_rows_marked_as_deleted_stay(copied, database, staged):
    """Those whose deletion is only seen by the copy are marked, too."""
    database.sql(SMALL)
    flow = copied("duckdb", soft_delete="true", **staged)
    flow.follow()
    database.sql("DELETE FROM t WHERE id = 2")
    flow.follow()
    database.sql("DELETE FROM t WHERE id = 3; UPDATE t SET v = 'new' WHERE id = 1")
    flow.backfill()
    marked = "SELECT id, v, __ds_is_deleted, __ds_op FROM {} ORDER BY id"
    assert flow.rows(marked) == [(1, "new", False, "load"), (2, "two", True, "delete"), (3, "three", True, "delete")]
    database.sql("INSERT INTO t VALUES (2, 'again')")
    flow.follow()
    assert flow.rows(marked)[1] == (2, "again", False, "insert")
