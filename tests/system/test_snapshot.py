"""The first copy: consistent under a writer that never stops, in parts, of every kind of table, whole or not at all."""

import random
import threading

import pytest

from lib.cli import ductstream
from lib.flow import EXIT_CONFIG
from lib.pause import run_to


class Writer(threading.Thread):
    """Changes the rows of t without pause until stop(); each transaction also counts itself in `counter`."""

    def __init__(self, database):
        super().__init__(daemon=True)
        self.database = database
        self.transactions = 0
        self.error = None
        self._ended = threading.Event()

    TABLES = """
        CREATE TABLE t (id int PRIMARY KEY, v int, body text);
        ALTER TABLE t ALTER body SET STORAGE EXTERNAL;
        CREATE TABLE counter (id int PRIMARY KEY, n int);
        CREATE TABLE empty (id int PRIMARY KEY);
        INSERT INTO counter VALUES (1, 0);
        INSERT INTO t SELECT i, 0, repeat(i::text || ' ', 700) FROM generate_series(1, 3000) i
    """

    def run(self):
        rng = random.Random(7)
        try:
            with self.database.connect() as connection:
                while not self._ended.is_set():
                    self._transaction(connection, rng)
                    self.transactions += 1
        except Exception as error:  # judged by stop()
            self.error = error

    def _transaction(self, connection, rng):
        i, j = rng.randrange(1, 3500), 4000 + self.transactions
        connection.execute(
            f"UPDATE t SET v = v + 1 WHERE id BETWEEN {i} AND {i + 5}; DELETE FROM t WHERE id = {i + 7};"
            f" INSERT INTO t VALUES ({j}, {i}, 'new'); UPDATE t SET id = id + 100000 WHERE id = {j - 40};"
            f" UPDATE counter SET n = n + 1"
        )

    def stop(self):
        self._ended.set()
        self.join(60)
        assert self.error is None, self.error
        assert self.transactions > 10


def copy_under_writer(m):
    writer = Writer(m.database)
    writer.start()
    m.wait_until(lambda: writer.transactions > 5 or writer.error, what="the writer's first transactions")
    run = m.flow.start()
    counted = writer.transactions
    m.wait_until(lambda: writer.error or m.exists() and "public.counter" in m.lake.tables(), 60, "the copy to be published")
    m.wait_until(lambda: writer.error or writer.transactions > counted + 50, 60, "more transactions")
    writer.stop()
    assert run.terminate() == 0
    m.sync()
    m.same("t", "counter", "empty")


@pytest.mark.parametrize(
    "source",
    [
        {"snapshot_workers": 3},
        {"snapshot_workers": 3, "partition_column": "id", "partition_count": 5},
    ],
    ids=["by_pages", "by_hash"],
)
def test_parallel_copy_under_a_writer(mirror, source):
    copy_under_writer(mirror(Writer.TABLES, source=source))


def test_the_copy_appears_in_one_snapshot(mirror_postgres):
    m = mirror_postgres(Writer.TABLES, source={"snapshot_workers": 3})
    m.sync()
    snapshots = m.snapshots()
    assert len(snapshots) == 1
    at = snapshots[0]["snapshot_id"]
    assert [m.lake.count(f"public.{name}", at) for name in ("t", "counter", "empty")] == [3000, 1, 0]
    assert "public.t" not in [f"{s}.{t}" for s, t in m.lake.sql(
        f"SELECT s.schema_name, t.table_name FROM __ducklake_metadata_lake.ducklake_table t"
        f" JOIN __ducklake_metadata_lake.ducklake_schema s USING (schema_id) WHERE t.begin_snapshot < {at}")]


def test_partition_column_of_other_types_and_nulls(mirror_sqlite):
    m = mirror_sqlite(
        "CREATE TABLE t (id int PRIMARY KEY, k text); INSERT INTO t SELECT i, nullif(i % 7, 0)::text FROM generate_series(1, 500) i",
        source={"snapshot_workers": 2, "partition_column": "k", "partition_count": 3},
    )
    m.sync()
    m.same("t")


def test_empty_tables_and_tables_without_columns_worth_a_row(mirror):
    m = mirror("CREATE TABLE e1 (id int PRIMARY KEY, v text)", "CREATE TABLE e2 (v numeric)", "CREATE SCHEMA s")
    m.sql("CREATE TABLE s.e3 (id uuid PRIMARY KEY)")
    m.sync()
    assert m.lake.tables() == ["public.e1", "public.e2", "s.e3"]
    m.same("e1", "e2", "s.e3")
    m.sql("INSERT INTO e1 VALUES (1, 'x')", "INSERT INTO e2 VALUES (1.5)", "INSERT INTO s.e3 VALUES (gen_random_uuid())")
    m.sync()
    m.same("e1", "e2", "s.e3")


def test_no_tables_at_all(mirror_sqlite):
    m = mirror_sqlite()
    m.sync()
    assert m.lake.tables() == []
    m.sql("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    m.sync()
    m.same("t")


def test_wide_and_odd_names(mirror):
    m = mirror(
        'CREATE SCHEMA "Strange ""Schema"" €"',
        'CREATE TABLE "Strange ""Schema"" €"."select" ("Key" int PRIMARY KEY, "a b" text, "order" int, "é""x" text)',
        """INSERT INTO "Strange ""Schema"" €"."select" VALUES (1, 'it''s', 2, '€')""",
    )
    m.sync()
    assert m.lake.sql('SELECT * FROM lake."Strange ""Schema"" €"."select"') == [(1, "it's", 2, "€")]
    m.sql("""UPDATE "Strange ""Schema"" €"."select" SET "a b" = 'other'""")
    m.sync()
    assert m.lake.sql('SELECT "a b" FROM lake."Strange ""Schema"" €"."select"') == [("other",)]


# --- modes ---


def test_snapshot_never_streams_from_the_slot_on(mirror):
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'before')", source={"snapshot": "never"})
    m.sync()
    m.sql("INSERT INTO t VALUES (2, 'after')", "UPDATE t SET v = 'changed' WHERE id = 2")
    m.sync()
    assert m.rows("t") == [(2, "changed")]


def test_snapshot_never_with_a_slot_of_ones_own(mirror_sqlite):
    m = mirror_sqlite(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION shop FOR ALL TABLES",
        "SELECT pg_create_logical_replication_slot('shop', 'pgoutput')",
        "INSERT INTO t VALUES (1, 'one')",
        source={"snapshot": "never", "create_slot": False},
    )
    m.sync()
    m.same("t")


def test_snapshot_only_copies_and_ends(mirror):
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'one')", source={"snapshot": "only"})
    run = m.flow.start()
    run.expect(0)
    m.same("t")
    m.sql("INSERT INTO t VALUES (2, 'two')")
    assert m.rows("t") == [(1, "one")]


def test_snapshot_only_leaves_no_slot(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)", source={"snapshot": "only"})
    m.flow.start().expect(0)
    assert m.database.server.confirmed_lsn("shop") is None


def test_a_slot_of_others_with_existing_rows_is_not_guessed_about(mirror_sqlite):
    """Rows from before the slot would be missing: the flow asks instead."""
    m = mirror_sqlite(
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE PUBLICATION shop FOR ALL TABLES",
        "SELECT pg_create_logical_replication_slot('shop', 'pgoutput')",
        "INSERT INTO t VALUES (2)",
    )
    stderr = m.fails(EXIT_CONFIG)
    assert "snapshot" in stderr and 'slot "shop" exists' in stderr, stderr


# --- partitioned tables ---

PARTITIONED = """
CREATE TABLE p (id int, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
CREATE TABLE p_2_odd PARTITION OF p_2 FOR VALUES IN (1, 3, 5);
CREATE TABLE p_2_rest PARTITION OF p_2 DEFAULT;
INSERT INTO p SELECT i, d, i || '/' || d FROM generate_series(1, 6) i, unnest('{1,9,10,19}'::int[]) d
"""


def test_partitioned_table_by_leaves(mirror):
    m = mirror(PARTITIONED)
    m.sync()
    assert m.lake.tables() == ["public.p_1", "public.p_2_odd", "public.p_2_rest"]
    m.same("p_1", "p_2_odd", "p_2_rest")


def test_partitioned_table_by_root(mirror):
    m = mirror(PARTITIONED, source={"publish_via_partition_root": True, "snapshot_workers": 2})
    m.sync()
    assert m.lake.tables() == ["public.p"]
    m.same("p")
    m.sql("UPDATE p SET day = 11 WHERE day = 9", "DELETE FROM p WHERE id = 2", "INSERT INTO p VALUES (7, 5, 'new')")
    m.sync()
    m.same("p")


# --- publications that show a part ---


def test_column_lists(mirror, database):
    database.needs(15, "column lists")
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, v text, secret text, n int)")
    m.sql("INSERT INTO t VALUES (1, 'one', 'hidden', 10)", "CREATE PUBLICATION shop FOR TABLE t (n, id, v)")
    m.sync()
    assert sorted(m.lake.columns("public.t")) == ["id", "n", "v"]
    m.same("t", ignore=["secret"])
    m.sql("INSERT INTO t VALUES (2, 'two', 'hidden', 20)", "UPDATE t SET secret = 'x', n = 11 WHERE id = 1")
    m.sync()
    m.same("t", ignore=["secret"])


def test_row_filters(mirror, database):
    database.needs(15, "row filters")
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT i, 'v' FROM generate_series(1, 20) i")
    m.sql("CREATE PUBLICATION shop FOR TABLE t WHERE (id > 10)")
    m.sync()
    m.same("t", where="id > 10")
    m.sql(
        "UPDATE t SET v = 'changed'",
        "UPDATE t SET id = id + 100 WHERE id IN (1, 11)",  # one comes into view, one stays
        "UPDATE t SET id = id - 50 WHERE id = 20",  # one leaves it
        "DELETE FROM t WHERE id IN (2, 12)",
    )
    m.sync()
    assert m.lake.count("public.t") == m.database.value("SELECT count(*) FROM t WHERE id > 10")
    m.same("t", where="id > 10")


def test_publication_of_a_schema_and_of_named_tables(mirror_sqlite):
    m = mirror_sqlite(
        "CREATE SCHEMA s; CREATE TABLE s.a (id int PRIMARY KEY); CREATE TABLE s.b (id int PRIMARY KEY);"
        " CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE hidden (id int PRIMARY KEY); INSERT INTO t VALUES (1)",
        source={"publication_schemas": ["s"], "publication_tables": ["public.t"]},
    )
    m.sync()
    assert m.lake.tables() == ["public.t", "s.a", "s.b"]
    m.same("t", "s.a", "s.b")


def test_publication_that_leaves_out_changes_is_refused(mirror_sqlite):
    m = mirror_sqlite(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1);"
        " CREATE PUBLICATION shop FOR TABLE t WITH (publish = 'insert')"
    )
    assert ductstream("check", str(m.flow.path))[0] == EXIT_CONFIG
    stderr = m.fails(EXIT_CONFIG)
    assert '"shop"' in stderr and "publish" in stderr, stderr
    assert m.lake.tables() == []
    m.sql("ALTER PUBLICATION shop SET (publish = 'insert, update, delete, truncate')")
    m.sync()
    m.same("t")


@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE b RENAME TO c",
        "CREATE SCHEMA s; ALTER TABLE b SET SCHEMA s",
        "ALTER TABLE a RENAME TO c; ALTER TABLE b RENAME TO a; ALTER TABLE c RENAME TO b",
        "ALTER TABLE a DROP x",
        "ALTER TABLE a RENAME x TO z; ALTER TABLE a RENAME y TO x; ALTER TABLE a RENAME z TO y",
    ],
    ids=["rename", "schema", "names_swapped", "drop_column", "columns_swapped"],
)
def test_tables_altered_while_the_copy_begins(mirror_sqlite, tmp_path, statement):
    """Between the snapshot and the locks of its tables: COPY goes by names of now."""
    m = mirror_sqlite(*(f"CREATE TABLE {t} (id int PRIMARY KEY, x text, y text); INSERT INTO {t} SELECT i, '{t}x', '{t}y'"
                        " FROM generate_series(1, 5) i" for t in "ab"))
    pause, run = run_to(m.flow, tmp_path, "setup-keeper")
    m.sql(statement)
    pause.release()
    run.expect(0)
    names = [f"{schema}.{name}" for schema, name in m.database.query(
        "SELECT schemaname, tablename FROM pg_tables WHERE tablename IN ('a', 'b', 'c')")]
    m.sql(*(f"DELETE FROM {name} WHERE id = 2" for name in names))
    m.sync()
    m.same(*names)
