"""The DuckDB destination against a real Postgres, read by the official client (issue 5, point 10)."""

import os

import duckdb
import pytest

from lib.compare import assert_same
from lib.duck_tables import DuckTables
from lib.flow import EXIT_CONFIG, EXIT_FATAL, Flow
from system.test_types import OWN_TYPES, create, inserts, own_columns, scalar_columns


class Warehouse:
    """One source database, one flow, one DuckDB file."""

    def __init__(self, database, folder, name, **options):
        self.database = database
        self.path = folder / f"{name}.duckdb"
        source, config = options.pop("source", {}), options.pop("config", {})
        self.flow = Flow(
            folder / name,
            name,
            {"dsn": database.dsn, "slot": name, "publication": name, **source},
            [{"name": "warehouse", "type": "duckdb", "options": {"dsn": str(self.path), **options}}],
            config=config,
        )

    def sql(self, *statements):
        for text in statements:
            self.database.sql(text)

    def sync(self, *args, **options):
        return self.flow.run_until_caught_up(*args, **options)

    def fails(self, code):
        run = self.flow.start("--until-caught-up")
        run.expect(code, 60)
        return run.stderr

    def open(self):
        return DuckTables(self.path)

    def same(self, *tables, **options):
        with self.open() as found:
            return assert_same(self.database, found, *(f"public.{table}" for table in tables), **options)

    def rows(self, query):
        with self.open() as found:
            return found.sql(query)


@pytest.fixture
def warehouse(database, tmp_path):
    """warehouse(*statements, **options) -> Warehouse."""
    made = []

    def make(*statements, name="shop", **options):
        w = Warehouse(database, tmp_path, name, **options)
        made.append(w)
        w.sql(*statements)
        return w

    yield make
    for w in made:
        w.flow.close()


ORDERS = "CREATE TABLE orders (id int PRIMARY KEY, customer text, total numeric(12,2), body text)"


def test_copy_and_stream(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders SELECT i, 'c' || i, i * 1.5, NULL FROM generate_series(1, 5000) i")
    w.sync()
    assert w.same("orders") == 5000
    w.sql(
        "UPDATE orders SET total = total + 1 WHERE id % 3 = 0", "DELETE FROM orders WHERE id % 7 = 0",
        "INSERT INTO orders SELECT i, 'n', 0, 'x' FROM generate_series(6000, 7000) i",
        "UPDATE orders SET id = id + 100000 WHERE id % 11 = 0",
    )
    w.sync()
    w.same("orders")
    w.sync()
    w.same("orders")


def test_one_transaction_does_everything_to_a_key(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders VALUES (1, 'a', 1, NULL), (2, 'b', 2, NULL), (3, 'c', 3, NULL)")
    w.sync()
    w.sql(
        "BEGIN; DELETE FROM orders WHERE id = 1; INSERT INTO orders VALUES (1, 'again', 1, NULL); UPDATE orders SET id = 9 WHERE id = 2;"
        " UPDATE orders SET id = 2 WHERE id = 3; INSERT INTO orders VALUES (3, 'x', 0, NULL); DELETE FROM orders WHERE id = 9;"
        " INSERT INTO orders VALUES (4, 'gone', 0, NULL); DELETE FROM orders WHERE id = 4; COMMIT",
    )
    w.sync()
    w.same("orders")


def test_unchanged_toast_values_stay(warehouse):
    w = warehouse(
        ORDERS, "ALTER TABLE orders ALTER body SET STORAGE EXTERNAL", "CREATE TABLE full_rows (LIKE orders INCLUDING ALL)",
        "ALTER TABLE full_rows REPLICA IDENTITY FULL",
        *(f"INSERT INTO {t} SELECT i, 'c', i, repeat(i::text, 3000) FROM generate_series(1, 100) i" for t in ("orders", "full_rows")),
    )
    w.sync()
    for table in ("orders", "full_rows"):
        w.sql(
            f"UPDATE {table} SET total = 0 WHERE id % 2 = 0", f"UPDATE {table} SET id = id + 1000 WHERE id % 5 = 0",
            f"BEGIN; UPDATE {table} SET body = repeat('y', 5000) WHERE id = 3; UPDATE {table} SET total = 7 WHERE id = 3;"
            f" UPDATE {table} SET id = 33333 WHERE id = 3; COMMIT",
            f"BEGIN; INSERT INTO {table} VALUES (5000, 'n', 1, repeat('z', 5000)); UPDATE {table} SET total = 2 WHERE id = 5000; COMMIT",
        )
    w.sync()
    w.same("orders", "full_rows")


def test_tables_without_a_key(warehouse):
    w = warehouse(
        "CREATE TABLE log (at timestamptz, what text)", "CREATE TABLE bag (a int, b text, c float8)", "ALTER TABLE bag REPLICA IDENTITY FULL",
        "INSERT INTO log SELECT now(), i::text FROM generate_series(1, 10) i", "INSERT INTO bag SELECT i % 3, NULL, 0.5 FROM generate_series(1, 30) i",
    )
    w.sync()
    w.sql(
        "INSERT INTO log VALUES (now(), 'x'), (now(), 'x')", "UPDATE bag SET b = 'u' WHERE ctid IN (SELECT ctid FROM bag WHERE a = 1 LIMIT 4)",
        "DELETE FROM bag WHERE ctid IN (SELECT ctid FROM bag WHERE a = 2 LIMIT 3)", "INSERT INTO bag VALUES (1, NULL, 0.5), (NULL, NULL, NULL)",
        "DELETE FROM bag WHERE a IS NULL",
    )
    w.sync()
    w.same("log", "bag")


def test_truncate(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders VALUES (1, 'a', 1, NULL)", "CREATE TABLE log (what text)", "INSERT INTO log VALUES ('x')")
    w.sync()
    w.sql("BEGIN; INSERT INTO orders VALUES (2, 'b', 1, NULL); TRUNCATE orders, log; INSERT INTO orders VALUES (1, 'new', 1, NULL); COMMIT")
    w.sync()
    w.same("orders", "log")


@pytest.mark.parametrize("binary", ["auto", "off"])
def test_every_type(warehouse, database, binary):
    scalars, own = list(scalar_columns(database.version)), own_columns(database.version)
    w = warehouse(
        OWN_TYPES, create("copied", scalars), create("own_copied", own), create("streamed", scalars), create("own_streamed", own),
        *inserts("copied", scalars), *inserts("own_copied", own), source={"binary": binary},
    )
    w.sync()
    w.sql(*inserts("streamed", scalars), *inserts("own_streamed", own))
    for table in ("streamed", "own_streamed"):
        w.sql(f"UPDATE {table} SET id = id + 1000", f"UPDATE {table} SET id = id - 1000")
    w.sync()
    w.same("copied", "own_copied", "streamed", "own_streamed")


def test_bags_of_every_type(warehouse, database):
    """Rows are found by all their values."""
    scalars = [column for column in scalar_columns(database.version) if column[0].startswith("s")]
    columns = scalars + own_columns(database.version)
    w = warehouse(OWN_TYPES, create("t", columns), "ALTER TABLE t DROP CONSTRAINT t_pkey", "ALTER TABLE t REPLICA IDENTITY FULL", *inserts("t", columns))
    w.sync()
    w.sql("UPDATE t SET id = id + 100 WHERE id % 2 = 0", "DELETE FROM t WHERE id = 1")
    w.sync()
    w.same("t")


def test_columns_are_followed(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders SELECT i, 'c', i, 'b' FROM generate_series(1, 50) i")
    w.sync()
    w.sql(
        "ALTER TABLE orders ADD note text DEFAULT 'none'", "INSERT INTO orders VALUES (100, 'c', 1, 'b', 'noted')",
        "ALTER TABLE orders DROP body", "UPDATE orders SET note = 'u' WHERE id < 5", "ALTER TABLE orders RENAME customer TO client",
        "INSERT INTO orders VALUES (101, 'c', 1, 'n')", "ALTER TABLE orders ALTER total TYPE numeric(20,4)", "INSERT INTO orders VALUES (102, 'c', 1.0001, 'n')",
        "BEGIN; ALTER TABLE orders RENAME client TO x; ALTER TABLE orders RENAME note TO client; ALTER TABLE orders RENAME x TO note;"
        " UPDATE orders SET client = 'swapped' WHERE id = 7; ALTER TABLE orders ADD more int; INSERT INTO orders VALUES (103, 'a', 1, 'b', 4); COMMIT",
    )
    w.sync()
    w.same("orders")
    w.sql("ALTER TABLE orders RENAME TO sales", "INSERT INTO sales VALUES (200, 'a', 1, 'b', 4)")
    w.sync()
    w.same("sales")


def test_a_column_renamed_dropped_and_made_again_in_a_backlog(warehouse):
    w = warehouse("CREATE TABLE t (id int PRIMARY KEY, v text, y numeric(12,3))", "INSERT INTO t SELECT i, 'x', i FROM generate_series(1, 5) i")
    w.sync()
    w.sql("ALTER TABLE t RENAME y TO passing", "UPDATE t SET v = 'a' WHERE id = 1", "ALTER TABLE t RENAME passing TO z", "UPDATE t SET v = 'b' WHERE id = 2",
          "ALTER TABLE t DROP z, ADD z numeric(12,3)", "UPDATE t SET v = 'c' WHERE id = 1")
    w.sync()
    w.same("t")


def test_what_cannot_be_followed_is_copied_again(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders SELECT i, i::text, i, 'b' FROM generate_series(1, 50) i", "CREATE TABLE other (id int PRIMARY KEY)")
    w.sync()
    w.sql("ALTER TABLE orders ALTER customer TYPE int USING customer::int * 2", "INSERT INTO orders VALUES (100, 7, 1, 'b')", "INSERT INTO other VALUES (1)")
    w.sync(timeout_s=180)
    w.same("orders", "other")
    w.sql("ALTER TABLE orders ADD at float8 DEFAULT random()", "INSERT INTO orders VALUES (101, 7, 1, 'b')")
    w.sync(timeout_s=180)
    w.same("orders", "other")


def test_tables_that_come_and_go(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders VALUES (1, 'a', 1, NULL)")
    w.sync()
    w.sql("CREATE TABLE later (id int PRIMARY KEY, v text)", "INSERT INTO later SELECT i, 'x' FROM generate_series(1, 10) i")
    w.sync()
    w.same("orders", "later")
    w.sql("DROP TABLE later", "CREATE TABLE later (id int PRIMARY KEY, w int)", "INSERT INTO later VALUES (1, 2)")
    w.sync()
    w.same("orders", "later")


def test_a_large_transaction_is_applied_in_parts(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders SELECT i, 'c', i, NULL FROM generate_series(1, 2000) i", flush_rows=500, source={"max_memory": "4MiB"})
    w.sync()
    w.sql(
        "BEGIN; UPDATE orders SET total = total + 1; INSERT INTO orders SELECT i, 'n', 1, repeat('x', 100) FROM generate_series(10000, 60000) i;"
        " UPDATE orders SET customer = 'u' WHERE id % 2 = 0; DELETE FROM orders WHERE id % 5 = 0; ALTER TABLE orders ADD extra int;"
        " UPDATE orders SET extra = 1 WHERE id % 100 = 1; COMMIT",
    )
    w.sync()
    w.same("orders")


def test_others_can_read_while_nothing_comes(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders VALUES (1, 'a', 1, NULL)")
    run = w.flow.start()

    def count():
        try:
            return w.rows("SELECT count(*) FROM public.orders")[0][0]
        except (duckdb.IOException, duckdb.CatalogException):
            return None

    run.wait_for(lambda: count() == 1, what="the copy")
    w.sql("INSERT INTO orders VALUES (2, 'b', 1, NULL)")
    run.wait_for(lambda: count() == 2, what="the insert")
    assert run.terminate() == 0, run.describe()


def test_positions_are_in_the_database(warehouse):
    w = warehouse(ORDERS)
    w.sync()
    first = w.rows("SELECT flow, state, lsn, epoch FROM ductstream_meta.checkpoint")
    w.sql("INSERT INTO orders VALUES (1, 'a', 1, NULL)")
    w.sync()
    second = w.rows("SELECT flow, state, lsn, epoch FROM ductstream_meta.checkpoint")
    assert [row[:2] for row in first + second] == [("shop", "streaming")] * 2
    assert second[0][2] > first[0][2] and second[0][3] == first[0][3] + 1


def test_one_owner_at_a_time(warehouse, tmp_path):
    """The file is locked while it is open; an owner that was replaced while it had let go of the file never commits again."""
    w = warehouse(ORDERS, "INSERT INTO orders VALUES (1, 'a', 1, NULL)", config={"give_up_after": "1s"})
    w.sync()
    with duckdb.connect(str(w.path)):
        run = w.flow.start("--until-caught-up")
        assert run.wait(60) == 4, run.describe()
        assert "another process has" in run.stderr
    del w.flow.content["config"]["give_up_after"]  # or our looks could keep it from the file for so long
    w.flow.write()
    run = w.flow.start()
    w.sql("INSERT INTO orders VALUES (2, 'b', 1, NULL)")

    def streamed():
        try:
            return w.rows("SELECT count(*) FROM public.orders") == [(2,)]
        except duckdb.IOException:
            return False

    def opened():
        try:
            return duckdb.connect(str(w.path))
        except duckdb.IOException:
            return None

    run.wait_for(streamed, what="the insert")
    with run.wait_for(opened, what="it to let go of the file") as other:
        other.execute("UPDATE ductstream_meta.checkpoint SET epoch = epoch + 1, owner = 'another'")
    w.sql("INSERT INTO orders VALUES (3, 'c', 1, NULL)")
    assert run.wait(60) == EXIT_FATAL, run.describe()
    assert "has another owner now" in run.stderr
    assert w.rows("SELECT count(*) FROM public.orders") == [(2,)]


def test_a_table_of_somebody_else_is_left_alone(warehouse):
    w = warehouse(ORDERS)
    with duckdb.connect(str(w.path)) as other:
        other.execute("CREATE SCHEMA public; CREATE TABLE public.orders (x int); INSERT INTO public.orders VALUES (7)")
    assert 'a table "public"."orders" that flow "shop" did not make' in w.fails(EXIT_CONFIG)
    assert w.rows("FROM public.orders") == [(7,)]


def test_drift_stops_the_flow_or_is_repaired(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders VALUES (1, 'a', 1, NULL), (2, 'b', 2, NULL)")
    w.sync()
    with duckdb.connect(str(w.path)) as other:
        other.execute("DELETE FROM public.orders WHERE id = 2")
    w.sql("UPDATE orders SET total = 5")
    assert "database and source differ" in w.fails(EXIT_FATAL)
    w.flow.set_destination(on_drift="repair")
    w.sync()
    w.same("orders")


def test_schema_and_table_options(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders VALUES (1, 'a', 1, NULL)", table="sales.renamed")
    w.sync()
    assert w.rows("SELECT id FROM sales.renamed") == [(1,)]
    w.sql("CREATE TABLE second (id int PRIMARY KEY)", "INSERT INTO second VALUES (1)")
    assert 'would both be "sales"."renamed"' in w.fails(EXIT_CONFIG)


def test_the_meta_table(warehouse):
    w = warehouse("CREATE TABLE t (a int, b text, v int, PRIMARY KEY (a, b))", "INSERT INTO t VALUES (1, 'x', 1), (2, 'y', 2), (3, 'z', 3)")
    w.sync()
    meta = (
        "SELECT flow_id, source_schema, source_table, is_deleted, operation, key_json, pk_a, pk_b, lsn IS NULL"
        " FROM ductstream_meta.__metadata ORDER BY key_json"
    )
    assert w.rows(meta)[0] == ("shop", "public", "t", False, "load", '{"a":1,"b":"x"}', "1", "x", True)
    w.sql("UPDATE t SET v = 10 WHERE a = 1", "DELETE FROM t WHERE a = 2", "UPDATE t SET a = 30 WHERE a = 3", "INSERT INTO t VALUES (4, 'w', 4)")
    w.sync()
    assert [(row[3], row[4], row[5]) for row in w.rows(meta)] == [
        (False, "update", '{"a":1,"b":"x"}'), (True, "delete", '{"a":2,"b":"y"}'), (True, "delete", '{"a":3,"b":"z"}'),
        (False, "update", '{"a":30,"b":"z"}'), (False, "insert", '{"a":4,"b":"w"}'),
    ]
    assert not any(row[8] for row in w.rows(meta))
    w.sql("TRUNCATE t")
    w.sync()
    assert {(row[3], row[4]) for row in w.rows(meta)} == {(True, "truncate")}


def test_without_the_meta_table(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders VALUES (1, 'a', 1, NULL)", meta_table_enabled=False)
    w.sync()
    assert w.rows("SELECT count(*) FROM duckdb_tables() WHERE table_name = '__metadata'") == [(0,)]


def test_in_memory(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders VALUES (1, 'a', 1, NULL)")
    w.flow.set_destination(dsn=":memory:")
    w.sync()
    assert not os.path.exists(w.path) and not (w.flow.folder / ":memory:").exists()


# --- staging ---


def test_staged_copies_are_resolved(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders SELECT i, 'c', i, NULL FROM generate_series(1, 100) i", batch_mode="staging", batch_resolution="replace")
    w.sync()
    w.same("orders")
    assert w.rows("SELECT count(*) FROM duckdb_tables() WHERE table_name LIKE '%staging%'") == [(0,)]
    w.sql("UPDATE orders SET total = 0 WHERE id < 10")
    w.sync()
    w.same("orders")


def test_staged_copies_stay_without_resolution(warehouse):
    w = warehouse(ORDERS, "INSERT INTO orders SELECT i, 'c', i, NULL FROM generate_series(1, 100) i", batch_mode="staging", staging_schema="aside")
    w.sync()
    assert w.rows("SELECT (SELECT count(*) FROM public.orders), (SELECT count(*) FROM aside.orders_staging)") == [(0, 100)]
    w.sql("UPDATE orders SET total = 0 WHERE id < 10")
    w.sync()
    assert w.rows("SELECT count(*) FROM public.orders") == [(9,)]
