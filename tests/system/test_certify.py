"""`ductstream-admin certify`: source and destination compared by content, of either type, by name, by samples (issue 5, point 6)."""

import json
import threading

import duckdb
import pytest

from lib.admin import Admin
from lib.flow import Flow
from lib.lake import OfficialLake

TABLES = """
CREATE TABLE orders (id bigint PRIMARY KEY, f float8, big text, due timestamptz, n numeric(12,2), j jsonb);
ALTER TABLE orders ALTER big SET STORAGE EXTERNAL;
CREATE TABLE plain (what text, many int);
ALTER TABLE plain REPLICA IDENTITY FULL;
INSERT INTO orders SELECT i, i / 8.0, repeat('x' || i, 2000), '2024-01-01'::timestamptz + i * interval '1 s', i, jsonb_build_object('i', i)
FROM generate_series(1, 1000) i;
INSERT INTO orders VALUES (-1, '-0', '', '-infinity', NULL, 'null'), (-2, 'NaN', NULL, 'infinity', -1, '{}'), (-3, '0', 'x', NULL, 0, '[]'),
  (-4, 'infinity', 'y', '2024-01-01', 0.01, '1');
INSERT INTO plain SELECT 'e' || i % 10, i % 3 FROM generate_series(1, 500) i;
UPDATE orders SET n = n + 1 WHERE id % 7 = 0;
DELETE FROM orders WHERE id % 11 = 0
"""
TYPES = ["ducklake", "duckdb"]


class Pair:
    """A flow with one destination of each type, and hands on what is there."""

    def __init__(self, database, folder, lake=None, **options):
        self.database, self.folder = database, folder
        self.catalog, self.data, self.file = f"sqlite:{folder}/c.sqlite", f"{folder}/data", f"{folder}/w.duckdb"
        self.flow = Flow(
            folder / "flow",
            "shop",
            {"dsn": database.dsn, "slot": "shop", "publication": "shop"},
            [
                {"name": "lake", "type": "ducklake", "options": {"catalog": self.catalog, "data_path": self.data, **options, **(lake or {})}},
                {"name": "warehouse", "type": "duckdb", "options": {"dsn": self.file, **options}},
            ],
        )

    def change(self, kind, *statements):
        """At the destination; `T.` is the schema's place there."""
        if kind == "duckdb":
            with duckdb.connect(self.file) as connection:
                connection.execute("SET TimeZone = 'UTC'")
                for text in statements:
                    connection.execute(text.replace("T.", "public."))
        else:
            with OfficialLake(self.catalog, self.data, "DATA_INLINING_ROW_LIMIT 0") as lake:
                for text in statements:
                    lake.sql(text.replace("T.", "lake.public."))

    def certify(self, kind, *more, code=None, timeout_s=120):
        """Tables by name, as they were found to be."""
        name = {"ducklake": "lake", "duckdb": "warehouse"}[kind]
        found, out, err = Admin()("certify", "-file", self.flow.path, "-destination", name, "--json", *more, timeout_s=timeout_s)
        assert code is None or found == code, (found, out, err)
        tables = {f["table"]: f for f in map(json.loads, out.splitlines()) if f.get("event") == "table"}
        return tables if code is not None else (found, tables, err)


@pytest.fixture
def pair(database, tmp_path):
    database.sql(TABLES)
    database.sql("CREATE PUBLICATION shop FOR TABLE orders, plain")
    made = Pair(database, tmp_path)
    made.flow.run_until_caught_up()
    return made


def test_a_destination_by_its_name(pair):
    for kind in TYPES:
        tables = pair.certify(kind, code=0)
        assert {name: (t["identical"], t["source_rows"], t["destination_rows"]) for name, t in tables.items()} == {
            "public.orders": (True, 914, 914),
            "public.plain": (True, 500, 500),
        }
        assert all(t["source_hash"] == t["destination_hash"] for t in tables.values())
    admin = Admin()
    assert "has 2 destinations: name one with --destination" in admin.refused("certify", "-file", pair.flow.path)
    assert 'has no destination "nope"' in admin.refused("certify", "-file", pair.flow.path, "-destination", "nope")
    assert "914 rows, identical" in admin.ok("certify", "-file", pair.flow.path, "-destination", "warehouse", "-table", "public.orders")


@pytest.mark.parametrize("kind", TYPES)
def test_what_differs_is_found(pair, kind):
    """Rows that are missing or too many, and cells: each by its key, nothing else."""
    pair.change(
        kind,
        "DELETE FROM T.orders WHERE id = 7",
        "INSERT INTO T.orders SELECT * REPLACE (-77 AS id) FROM T.orders WHERE id = 8",
        "UPDATE T.orders SET n = n + 1 WHERE id = 9",
        "UPDATE T.orders SET big = NULL WHERE id = 10",  # as if an unsent value had been stored
        "UPDATE T.orders SET big = '' WHERE id = -2",  # NULL and nothing
        "DELETE FROM T.orders WHERE id = -1",
        "INSERT INTO T.orders VALUES (-1, 0, '', '-infinity', NULL, 'null')",  # -0 at the source
        "UPDATE T.orders SET f = 0 WHERE id = -2",  # NaN
        "UPDATE T.orders SET due = '9999-12-31' WHERE id = -2",  # infinity
        "UPDATE T.orders SET due = '2024-01-01 00:00:00.000001+00' WHERE id = -4",
        "DELETE FROM T.plain WHERE what = 'e4' AND many = 1",
    )
    tables = pair.certify(kind, "-tables", "public.orders,public.plain", code=3)
    orders, plain = tables["public.orders"], tables["public.plain"]
    assert {d["key"]: d["kind"] for d in orders["differences"]} == {
        "id=7": "missing", "id=-77": "extra", "id=9": "content", "id=10": "content", "id=-2": "content", "id=-1": "content", "id=-4": "content",
    }  # fmt: skip
    assert [(d["key"], d["kind"]) for d in plain["differences"]] == [("what=e4, many=1", "missing")]
    assert orders["different_keys"] == 7 and plain["source_rows"] > plain["destination_rows"]


@pytest.mark.parametrize("kind", TYPES)
def test_a_table_that_is_not_there(pair, kind):
    """It is a difference, and the others are compared all the same."""
    pair.change(kind, "DROP TABLE T.orders")
    tables = pair.certify(kind, code=3)
    assert tables["public.orders"]["missing"] and not tables["public.orders"]["identical"]
    assert tables["public.plain"]["identical"]


def test_a_column_that_is_not_there(pair):
    """So is a column, with its name; again the others are compared."""
    pair.change("ducklake", "ALTER TABLE T.orders DROP COLUMN j")
    tables = pair.certify("ducklake", code=3)
    assert not tables["public.orders"]["identical"] and 'column "j" is not in the lake' in tables["public.orders"]["why"]
    assert tables["public.plain"]["identical"]


@pytest.mark.parametrize("kind", TYPES)
def test_samples(pair, kind):
    """All rows are counted, those of a share of the keys compared: the same keys at both ends, and each time."""
    (table,) = pair.certify(kind, "-table", "public.orders", "--sample", "0.2", code=0).values()
    assert table["identical"] and table["source_rows"] == table["destination_rows"] == 914
    assert 100 < table["compared_rows"] < 270
    pair.change(kind, "UPDATE T.orders SET n = coalesce(n, 0) + 1")
    (changed,) = pair.certify(kind, "-table", "public.orders", "--sample", "20%", code=3).values()
    assert changed["different_keys"] == changed["compared_rows"] == table["compared_rows"]


@pytest.mark.parametrize("kind", TYPES)
def test_a_sample_counts_the_other_rows(pair, kind):
    pair.change(kind, "DELETE FROM T.orders WHERE id BETWEEN 100 AND 110")
    (table,) = pair.certify(kind, "-table", "public.orders", "--sample", "0.000001", code=3).values()
    assert not table["identical"] and table["source_rows"] - table["destination_rows"] == 10
    refused = Admin().refused("certify", "-file", pair.flow.path, "-destination", "lake", "--sample", "2")
    assert 'flag "--sample": "2" is no share of all keys' in refused


@pytest.mark.parametrize("kind", TYPES)
def test_rows_kept_as_deleted_are_no_difference(database, tmp_path, kind):
    database.sql(TABLES)
    database.sql("CREATE PUBLICATION shop FOR TABLE orders")
    pair = Pair(database, tmp_path, soft_delete="true")
    pair.flow.run_until_caught_up()
    database.sql("DELETE FROM orders WHERE id % 5 = 0")
    pair.flow.run_until_caught_up()
    tables = pair.certify(kind, code=0)
    assert tables["public.orders"]["source_rows"] == tables["public.orders"]["destination_rows"] == 732


def test_what_cannot_be_compared(database, tmp_path):
    database.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION shop FOR TABLE t")
    pair = Pair(database, tmp_path, append_mode="true")
    for name in ("lake", "warehouse"):
        assert "keeps a row for every change" in Admin().refused("certify", "-file", pair.flow.path, "-destination", name)


def test_while_both_change(database, tmp_path):
    """A writer that never stops is no difference, what really differs is found all the same. A DuckDB file is its writer's alone meanwhile."""
    database.sql(TABLES)
    database.sql("CREATE PUBLICATION shop FOR TABLE orders, plain")
    pair = Pair(database, tmp_path, lake={"foreign_changes": "share"})
    pair.flow.run_until_caught_up()
    pair.change("ducklake", "UPDATE T.orders SET n = n + 1 WHERE id = 9")
    run = pair.flow.start()
    ended = threading.Event()

    def load():
        with pair.database.connect(autocommit=True) as connection:
            for n in range(1, 1000000):
                if ended.wait(0.01):
                    return
                connection.execute(f"UPDATE orders SET f = f + 1 WHERE id % 400 = {n % 400} AND id > 100")
                connection.execute(f"INSERT INTO orders (id) VALUES ({100000 + n})")
                connection.execute(f"DELETE FROM orders WHERE id = {100000 + n - 50}")

    def is_held():
        try:
            duckdb.connect(pair.file, read_only=True).close()
        except duckdb.IOException:
            return True
        return False

    thread = threading.Thread(target=load)
    thread.start()
    try:
        tables = pair.certify("ducklake", code=3)
        run.wait_for(is_held, what="it to have the file open")
        found, _, err = pair.certify("duckdb", "--timeout", "2s")
        assert found == 4 and "only one can at a time" in err
    finally:
        ended.set()
        thread.join()
    assert [(d["key"], d["kind"]) for d in tables["public.orders"]["differences"]] == [("id=9", "content")]
    run.terminate()


def test_nothing_to_compare_is_not_the_same(database, tmp_path):
    """Before the flow has made its publication, for one."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION shop FOR TABLE t")
    pair = Pair(database, tmp_path)
    pair.flow.run_until_caught_up()
    pair.certify("ducklake", code=0)
    database.sql("DROP PUBLICATION shop")
    for name in ("lake", "warehouse"):
        assert 'publication "shop" of the source has no tables' in Admin().refused("certify", "-file", pair.flow.path, "-destination", name)
