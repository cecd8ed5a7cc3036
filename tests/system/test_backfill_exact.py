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


@pytest.mark.parametrize("kind", ["duckdb", "ducklake"])
def test_changes_that_wait_are_in_the_copy(copied, database, kind):
    database.sql(TABLE)
    flow = copied(kind)
    flow.follow()
    for statement in WAITING:
        database.sql(statement)
    flow.backfill()
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
