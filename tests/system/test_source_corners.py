"""Corners of Postgres that reach the log: bulk statements, prepared transactions, inheritance, partitions that come and go."""

import threading

import pytest

from lib.flow import EXIT_CONFIG, EXIT_DATA
from lib.pg import Postgres

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text, n int)"
ROWS = "INSERT INTO t SELECT i, 'row ' || i, i FROM generate_series(1, 10) i"

MERGE = """MERGE INTO t USING (VALUES (2, 'merged'), (3, NULL), (3000, 'merged')) s(id, v) ON t.id = s.id
    WHEN MATCHED AND s.v IS NULL THEN DELETE WHEN MATCHED THEN UPDATE SET v = s.v WHEN NOT MATCHED THEN INSERT VALUES (s.id, s.v, 7)"""


def test_bulk_statements(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS, "CREATE TABLE other (id int PRIMARY KEY REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE, v text)")
    m.sync()
    with m.database.connect() as connection, connection.cursor().copy("COPY t FROM STDIN") as copy:
        for i in range(100, 1100):
            copy.write_row((i, f"copied {i}", None))
    m.sql(
        "INSERT INTO t VALUES (1, 'conflict', 0), (2000, 'new', 0) ON CONFLICT (id) DO UPDATE SET v = excluded.v, n = t.n + 100",
        "INSERT INTO t VALUES (1, 'nothing', 0) ON CONFLICT DO NOTHING",
        *([MERGE] if m.database.version >= 15 else []),
        "INSERT INTO other SELECT id, 'child' FROM t WHERE id < 10",
        "UPDATE t SET id = id + 5000 WHERE id IN (4, 5)",
        "DELETE FROM t WHERE id IN (6, 5004)",
        "WITH gone AS (DELETE FROM t WHERE id = 7 RETURNING *) INSERT INTO t SELECT id + 7000, v, n FROM gone",
    )
    m.sync()
    m.same("t", "other")
    m.sql("TRUNCATE t RESTART IDENTITY CASCADE", ROWS)
    m.sync()
    m.same("t", "other")


def test_triggers_and_rules_and_messages(mirror_sqlite):
    m = mirror_sqlite(
        TABLE,
        "CREATE TABLE log (id serial PRIMARY KEY, what text)",
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO log (what) VALUES (TG_OP || NEW.id);"
        " NEW.n := coalesce(NEW.n, 0) + 1; RETURN NEW; END $$",
        "CREATE TRIGGER note BEFORE INSERT OR UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()",
    )
    m.sync()
    m.sql(ROWS, "SELECT pg_logical_emit_message(true, 'app', 'hello'); UPDATE t SET v = 'x' WHERE id < 4",
          "SELECT pg_logical_emit_message(false, 'app', 'not transactional')")
    m.sync()
    m.same("t", "log")


def test_tables_that_are_not_logged_are_not_there(mirror_sqlite):
    m = mirror_sqlite(TABLE, "CREATE UNLOGGED TABLE scratch (id int PRIMARY KEY)", "CREATE VIEW seen AS SELECT * FROM t",
                      "CREATE MATERIALIZED VIEW kept AS SELECT 1 AS one", "CREATE SEQUENCE counter")
    m.sql("INSERT INTO scratch VALUES (1)")
    m.sync()
    assert m.lake.tables() == ["public.t"]


def test_prepared_transactions(make_mirror, sqlite_lake):
    with Postgres(settings={"max_prepared_transactions": "5"}) as server:
        m = make_mirror(server.database("shop"), sqlite_lake, TABLE, ROWS)
        m.sync()
        m.database.sql("BEGIN; INSERT INTO t VALUES (100, 'prepared', 1); UPDATE t SET v = 'p' WHERE id = 1; PREPARE TRANSACTION 'one'")
        m.database.sql("BEGIN; INSERT INTO t VALUES (101, 'never', 1); PREPARE TRANSACTION 'two'")
        m.sql("INSERT INTO t VALUES (102, 'beside', 1)")
        m.sync()
        m.same("t")
        m.sql("COMMIT PREPARED 'one'", "ROLLBACK PREPARED 'two'", "UPDATE t SET v = 'after' WHERE id = 100")
        m.sync()
        m.same("t")


def test_inheritance(mirror_sqlite):
    """Parents that are no partitioned tables: each table has its own rows."""
    m = mirror_sqlite(TABLE, ROWS, "CREATE TABLE child (extra text, PRIMARY KEY (id)) INHERITS (t)", "INSERT INTO child VALUES (50, 'c', 1, 'x')")
    m.sync()
    m.sql("UPDATE t SET v = 'both'", "DELETE FROM t WHERE id IN (1, 50)", "INSERT INTO child VALUES (51, 'c', 1, 'y')")
    m.sync()
    m.same("child")
    assert sorted(m.lake.sql("SELECT id FROM public.t")) == m.database.query("SELECT id FROM ONLY t ORDER BY 1")


PARTITIONED = """
CREATE TABLE p (id int, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
INSERT INTO p SELECT i, i % 10, 'row' FROM generate_series(1, 20) i
"""


@pytest.mark.parametrize("root", [False, True], ids=["leaves", "root"])
def test_partitions_come_and_go(mirror_sqlite, root):
    m = mirror_sqlite(PARTITIONED, source={"publish_via_partition_root": root})
    m.sync()
    m.sql(
        "CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20)",
        "INSERT INTO p VALUES (100, 15, 'second')",
        "CREATE TABLE p_3 (LIKE p INCLUDING ALL)",
    )
    m.sync()
    tables = ["p"] if root else ["p_1", "p_2"]
    m.same(*tables)
    m.sql("UPDATE p SET day = 11 WHERE day = 1", "DELETE FROM p WHERE id = 100", "INSERT INTO p VALUES (101, 16, 'x')")
    m.sync()
    m.same(*tables)
    if not root:  # what ATTACH and DETACH bring and take is not in the stream of a root
        m.sql("INSERT INTO p_3 VALUES (200, 25, 'was alone')", "ALTER TABLE p ATTACH PARTITION p_3 FOR VALUES FROM (20) TO (30)",
              "INSERT INTO p VALUES (201, 26, 'attached')", "ALTER TABLE p DETACH PARTITION p_2", "UPDATE p_2 SET v = 'alone'")
        m.sync()
        m.same("p_1", "p_2", "p_3")


def test_partitions_of_partitions_with_other_columns(mirror_sqlite):
    """Leaves whose columns stand in another order and have other numbers."""
    m = mirror_sqlite(
        "CREATE TABLE p (id int, gone int, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day); ALTER TABLE p DROP gone",
        "CREATE TABLE p_1 (v text, day int NOT NULL, junk int, id int NOT NULL, PRIMARY KEY (id, day)); ALTER TABLE p_1 DROP junk",
        "ALTER TABLE p ATTACH PARTITION p_1 FOR VALUES FROM (0) TO (10)",
        "INSERT INTO p VALUES (1, 1, 'a'), (2, 2, 'b')",
        source={"publish_via_partition_root": True},
    )
    m.sync()
    m.same("p")
    m.sql("CREATE TABLE p_2 PARTITION OF p FOR VALUES FROM (10) TO (20)", "UPDATE p SET day = day + 10 WHERE id = 1",
          "ALTER TABLE p ADD extra int DEFAULT 3", "INSERT INTO p VALUES (3, 3, 'c', 4)", "UPDATE p SET v = 'z' WHERE id < 3")
    m.sync()
    m.same("p")


def test_many_tables_and_columns(mirror_postgres):
    m = mirror_postgres(
        "".join(f"CREATE TABLE many_{i} (id int PRIMARY KEY, v text); INSERT INTO many_{i} VALUES ({i}, 'x');" for i in range(150)),
        "CREATE TABLE wide (id int PRIMARY KEY, " + ", ".join(f"c{i} int" for i in range(700)) + ")",
        "INSERT INTO wide (id, c0, c699) VALUES (1, 2, 3)",
        source={"snapshot_workers": 2},
    )
    m.sync()
    m.sql("".join(f"UPDATE many_{i} SET v = 'y'; INSERT INTO many_{i} VALUES (-{i} - 1, NULL);" for i in range(150)),
          "UPDATE wide SET c350 = 1, id = 2", "INSERT INTO wide (id) VALUES (3)")
    m.sync()
    m.same("wide", *(f"many_{i}" for i in range(0, 150, 7)))


@pytest.mark.parametrize("n", [1590, 1600])
def test_as_many_columns_as_there_can_be(mirror, n):
    """With 1,590 the rows of small commits are inlined, with more they are in files."""
    m = mirror("CREATE TABLE wide (id int PRIMARY KEY, " + ", ".join(f"c{i} int" for i in range(1, n)) + ")",
               f"INSERT INTO wide (id, c1, c{n - 1}) VALUES (1, 2, 3)")
    m.sync()
    m.sql("INSERT INTO wide (id) VALUES (2), (3)", f"UPDATE wide SET c{n - 1} = 4 WHERE id < 3; DELETE FROM wide WHERE id = 3")
    m.sync()
    m.sync()
    m.same("wide")


def test_names_at_their_limits(mirror):
    long_name = "n" * 63
    m = mirror(f'CREATE SCHEMA "{long_name}"; CREATE TABLE "{long_name}"."{long_name}" ("{long_name}" int PRIMARY KEY, "rowid" int, "filename" text,'
               ' "snapshot_id" int, "begin_snapshot" int, "row_id" text, "a.b" int, "$" int, "ß" int)')
    m.sql(f'INSERT INTO "{long_name}"."{long_name}" VALUES (1, 2, \'3\', 4, 5, \'6\', 7, 8, 9)')
    m.sync()
    m.sql(f'UPDATE "{long_name}"."{long_name}" SET "rowid" = 20', f'INSERT INTO "{long_name}"."{long_name}" VALUES (2)')
    m.sync()
    rows = m.lake.sql(f'SELECT * FROM lake."{long_name}"."{long_name}" ORDER BY 1')
    assert rows == [(1, 20, "3", 4, 5, "6", 7, 8, 9), (2, *[None] * 8)]


def test_a_name_that_a_dropped_table_had_in_other_letters(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    m.sync()
    m.sql("DROP TABLE t", 'CREATE TABLE "T" (id int PRIMARY KEY)', 'INSERT INTO "T" VALUES (2)')
    assert 'lake table "public"."t" is that of source table "public"."t"' in m.refuses(EXIT_CONFIG)
    m.lake.sql("DROP TABLE lake.public.t")
    m.sync()
    assert m.rows("T") == [(2,)]


@pytest.mark.parametrize("name", ["file_row_number", "file_index"])
def test_a_column_called_like_one_of_duckdbs_reader(mirror_sqlite, name):
    """Its files are read whole, by DuckDB, when the key index is built anew."""
    m = mirror_sqlite(f"CREATE TABLE t (id int PRIMARY KEY, {name} text)", "INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 9) i",
                      destination={"inline_rows": 0})
    m.sync()
    m.sql("DELETE FROM t WHERE id < 4")
    m.sync()
    m.lake.sql("CALL ducklake_rewrite_data_files('lake', delete_threshold => 0)")
    m.sql(f"UPDATE t SET {name} = 'w' WHERE id > 6")
    m.sync()
    m.same("t")


def test_caught_up_although_the_writer_never_stops(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    stop = threading.Event()

    def write():
        with m.database.connect() as connection:
            while not stop.is_set():
                connection.execute("UPDATE t SET n = n + 1 WHERE id = 1")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            m.sync(timeout_s=30)
    finally:
        stop.set()
        writer.join()
    m.sync()
    m.same("t")


# --- types that change ---


def test_nested_types_that_change(mirror_sqlite):
    m = mirror_sqlite("CREATE TYPE pair AS (a int, b text); CREATE TABLE t (id int PRIMARY KEY, l int[], p pair)",
                      "INSERT INTO t VALUES (1, '{1,2}', '(1,x)')")
    m.sync()
    m.sql("ALTER TABLE t ALTER l TYPE bigint[]", "INSERT INTO t VALUES (2, '{5000000000}', '(2,y)')")
    stderr = m.fails(EXIT_DATA)
    assert '"l"' in stderr and "copied again" in stderr, stderr


def test_a_composite_type_that_grows(mirror_sqlite):
    m = mirror_sqlite("CREATE TYPE pair AS (a int, b text); CREATE TABLE t (id int PRIMARY KEY, p pair)", "INSERT INTO t VALUES (1, '(1,x)')")
    m.sync()
    m.sql("ALTER TYPE pair ADD ATTRIBUTE c int", "INSERT INTO t VALUES (2, '(2,y,3)')")
    stderr = m.fails(EXIT_DATA)
    assert '"p"' in stderr and "copied again" in stderr, stderr


def test_the_key_changes_its_columns(mirror):
    m = mirror(TABLE, ROWS)
    m.sync()
    m.sql("UPDATE t SET v = 'before' WHERE id < 4",
          "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD uid int; ALTER TABLE t ALTER n SET NOT NULL; ALTER TABLE t ADD PRIMARY KEY (n)",
          "UPDATE t SET v = 'after' WHERE n BETWEEN 3 AND 5", "UPDATE t SET id = 1", "DELETE FROM t WHERE n = 9")
    m.sync()
    m.same("t")
    m.sql("ALTER TABLE t DROP id", "UPDATE t SET uid = n", "DELETE FROM t WHERE n = 1", "INSERT INTO t (n, v) VALUES (77, 'x')")
    m.sync()
    m.same("t")


def test_the_key_changes_behind_rows_of_others(mirror_sqlite):
    """The table's new form is told in the middle of a transaction, behind rows of another table, and behind whole
    transactions with rows of the old form; a whole row that serves as key grows with its table."""
    m = mirror_sqlite(TABLE, ROWS, "CREATE TABLE o (id int PRIMARY KEY)", "CREATE TABLE f (a int, b text)",
                      "ALTER TABLE f REPLICA IDENTITY FULL", "INSERT INTO f SELECT i % 3, 'f' FROM generate_series(1, 9) i")
    m.sync()
    m.sql("UPDATE t SET v = 'before' WHERE id < 4", "UPDATE f SET b = 'g' WHERE a = 1",
          "ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ALTER n SET NOT NULL; ALTER TABLE t ADD PRIMARY KEY (n)",
          "ALTER TABLE f ADD c int",
          "INSERT INTO o VALUES (1); UPDATE f SET c = 1 WHERE a = 1; INSERT INTO o VALUES (2); UPDATE t SET v = 'after' WHERE n < 6",
          "ALTER TABLE f DROP b", "INSERT INTO o VALUES (3); DELETE FROM f WHERE a = 2; DELETE FROM t WHERE n = 2")
    m.sync()
    m.same("t", "o", "f")


def test_a_key_and_rows_change_in_one_transaction(mirror_sqlite):
    """Rows of the same transaction before and after: they cannot be followed, so the table is copied again."""
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.sql("UPDATE t SET v = 'earlier' WHERE id = 2")
    m.sql("INSERT INTO t VALUES (90, 'x', 90); ALTER TABLE t DROP CONSTRAINT t_pkey; ALTER TABLE t ADD PRIMARY KEY (id, n);"
          " UPDATE t SET v = 'y' WHERE id < 5; DELETE FROM t WHERE id = 90")
    assert "key changed in the middle of a transaction" in m.sync().stderr
    m.same("t")
