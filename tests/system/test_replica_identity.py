"""Tables with every replica identity, with and without keys, partitioned, added later, dropped and made again."""

import subprocess
import threading

import pytest

from lib.flow import EXIT_CONFIG
from lib.paths import program

LONG = "(SELECT string_agg(md5(i::text), '') FROM generate_series(1, 320) i)"


def change_all(m, table="t"):
    m.sql(f"UPDATE {table} SET v = v || '!' WHERE id % 2 = 0", f"UPDATE {table} SET id = id + 100 WHERE id % 3 = 0")
    m.sql(f"DELETE FROM {table} WHERE id % 5 = 0", f"INSERT INTO {table} (id, v) VALUES (5, 'five again'), (777, NULL)")
    m.sql(f"UPDATE {table} SET v = 'a'; UPDATE {table} SET v = 'b' WHERE id < 8; DELETE FROM {table} WHERE id = 777")


ROWS = "INSERT INTO t (id, v) SELECT i, 'row ' || i FROM generate_series(1, 12) i"


@pytest.mark.parametrize(
    "create",
    [
        "CREATE TABLE t (id int PRIMARY KEY, v text)",
        "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL",
        "CREATE TABLE t (id int NOT NULL UNIQUE, v text); ALTER TABLE t REPLICA IDENTITY USING INDEX t_id_key",
        "CREATE TABLE t (pk serial PRIMARY KEY, v text, id int NOT NULL UNIQUE); ALTER TABLE t REPLICA IDENTITY USING INDEX t_id_key",
        "CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL",
        "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v text); ALTER TABLE t REPLICA IDENTITY FULL",
        "CREATE TABLE t (id int, v text, half numeric GENERATED ALWAYS AS (id / 2.0) STORED, PRIMARY KEY (id))",
        "CREATE TABLE t (v text, id int, PRIMARY KEY (id) INCLUDE (v))",
    ],
    ids=["default", "full_with_key", "index", "index_beside_key", "full_without_key", "full_deferrable", "generated", "include"],
)
def test_changes_are_found(mirror, create):
    m = mirror(create, ROWS)
    m.sync()
    m.same("t")
    change_all(m)
    m.sync()
    m.same("t")
    change_all(m)
    m.sync()
    m.same("t")


def test_full_without_a_key_and_equal_rows(mirror):
    m = mirror(
        "CREATE TABLE t (a int, v text, f float8, j jsonb); ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t SELECT i % 3, 'same', 'NaN', '{\"a\": 1}' FROM generate_series(1, 12) i",
        "INSERT INTO t VALUES (NULL, NULL, NULL, NULL), (NULL, NULL, NULL, NULL)",
    )
    m.sync()
    m.same("t")
    one = "WHERE ctid = (SELECT min(ctid) FROM t WHERE a {})"
    m.sql("DELETE FROM t " + one.format("= 1"), "UPDATE t SET v = 'other' " + one.format("= 2"))
    m.sql("DELETE FROM t " + one.format("IS NULL"), "UPDATE t SET a = 1 " + one.format("= 0"))
    m.sync()
    m.same("t")
    m.sql("INSERT INTO t SELECT 1, 'same', 'NaN', '{\"a\": 1}' FROM generate_series(1, 3)")
    m.sql("BEGIN; DELETE FROM t " + one.format("= 1") + "; INSERT INTO t VALUES (1, 'same', 'NaN', '{\"a\": 1}');"
          " DELETE FROM t " + one.format("= 1") + "; UPDATE t SET a = 7 " + one.format("= 1") + "; COMMIT")
    m.sync()
    m.same("t")
    m.sql("UPDATE t SET v = 'all'", "DELETE FROM t WHERE a = 1")
    m.sync()
    m.same("t")


def test_full_without_a_key_and_long_values(mirror_sqlite):
    """Under FULL the old row comes whole, so a value that was not sent is known from it."""
    m = mirror_sqlite(
        "CREATE TABLE t (id int, n int, body text); ALTER TABLE t REPLICA IDENTITY FULL, ALTER body SET STORAGE EXTERNAL",
        f"INSERT INTO t SELECT i, 0, {LONG} || i FROM generate_series(1, 5) i",
    )
    m.sync()
    m.sql("UPDATE t SET n = n + 1", "UPDATE t SET n = n + 1; UPDATE t SET n = n + 1 WHERE id < 3", "DELETE FROM t WHERE id = 4")
    m.sync()
    m.same("t")


def test_a_primary_key_that_is_toasted_under_full(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id text PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY FULL",
                      "INSERT INTO t SELECT 'key ' || i, 'v' FROM generate_series(1, 5) i")
    m.sync()
    m.sql("UPDATE t SET v = NULL", "UPDATE t SET id = id || 'x' WHERE id < 'key 3'", "DELETE FROM t WHERE id = 'key 5'")
    m.sync()
    m.same("t")


def test_identity_changes_on_the_way(mirror):
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, v text, code int NOT NULL UNIQUE)",
               "INSERT INTO t SELECT i, 'row', 100 + i FROM generate_series(1, 8) i")
    m.sync()
    for change in (
        "ALTER TABLE t REPLICA IDENTITY FULL",
        "ALTER TABLE t REPLICA IDENTITY USING INDEX t_code_key",
        "ALTER TABLE t REPLICA IDENTITY FULL; ALTER TABLE t DROP CONSTRAINT t_pkey",
        "ALTER TABLE t ADD PRIMARY KEY (code); ALTER TABLE t REPLICA IDENTITY DEFAULT",
    ):
        m.sql("UPDATE t SET v = v || '1' WHERE id % 2 = 0", change, "UPDATE t SET v = v || '2' WHERE id % 3 = 0",
              "INSERT INTO t SELECT max(id) + 1, 'new', max(code) + 1 FROM t", "DELETE FROM t WHERE id = (SELECT min(id) FROM t)")
        m.sync()
        m.same("t")


# --- tables whose rows cannot be found ---


@pytest.mark.parametrize("create", [
    "CREATE TABLE t (id int, v text)",
    "CREATE TABLE t (id int PRIMARY KEY DEFERRABLE, v text)",
    "CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t REPLICA IDENTITY NOTHING",
], ids=["no_key", "deferrable", "nothing"])
def test_rows_without_a_key_are_appended(mirror_sqlite, create):
    m = mirror_sqlite(create, "INSERT INTO t VALUES (1, 'x'), (2, 'x')")
    m.sync()
    m.sql("INSERT INTO t VALUES (3, NULL), (4, 'x')")
    m.sync()
    m.same("t")
    m.sql("TRUNCATE t", "INSERT INTO t VALUES (9, 'x')")
    m.sync()
    m.same("t")


def test_no_key_refuse(mirror):
    m = mirror("CREATE TABLE keyless (id int, v text)", "CREATE TABLE t (id int PRIMARY KEY)", destination={"no_key": "refuse"})
    stderr = m.fails(EXIT_CONFIG)
    assert "keyless" in stderr and "no_key" in stderr and "key" in stderr, stderr
    assert m.lake.tables() == []
    m.sql("ALTER TABLE keyless ADD PRIMARY KEY (id)", "INSERT INTO keyless VALUES (1, 'x')")
    m.sync()
    m.same("keyless", "t")


# --- partitions ---

PARTITIONED = """
CREATE TABLE p (id int, day int, v text, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p_2 (v text, day int NOT NULL, id int NOT NULL, PRIMARY KEY (id, day));
ALTER TABLE p ATTACH PARTITION p_2 FOR VALUES FROM (10) TO (20);
INSERT INTO p SELECT i, i, 'row ' || i FROM generate_series(1, 18) i
"""
MOVES = [
    "UPDATE p SET day = day + 10 WHERE id IN (1, 2)",  # from one leaf to the other
    "UPDATE p SET day = day - 10, v = 'back' WHERE id = 2",
    "UPDATE p SET v = 'stays' WHERE id IN (5, 15)",
    "UPDATE p SET day = day + 10 WHERE id = 3; UPDATE p SET day = day - 10 WHERE id = 3; UPDATE p SET day = day + 10 WHERE id = 3",
    "DELETE FROM p WHERE id IN (4, 14)",
]


def test_rows_move_between_leaves(mirror):
    m = mirror(PARTITIONED)
    m.sync()
    for move in MOVES:
        m.sql(move)
    m.sync()
    m.same("p_1", "p_2")
    m.sql("UPDATE p SET day = (day + 10) % 20")
    m.sync()
    m.same("p_1", "p_2")


def test_rows_move_inside_a_published_root(mirror):
    m = mirror(PARTITIONED, source={"publish_via_partition_root": True})
    m.sync()
    m.sql(*MOVES, "UPDATE p SET day = (day + 10) % 20", "CREATE TABLE p_3 PARTITION OF p FOR VALUES FROM (20) TO (30)")
    m.sql("INSERT INTO p VALUES (25, 25, 'third')", "UPDATE p SET day = 1 WHERE id = 25")
    m.sync()
    m.same("p")


# --- tables that come and go ---


def test_tables_added_later(mirror):
    m = mirror(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x'); CREATE PUBLICATION shop FOR TABLE t",
        "CREATE TABLE late (id int PRIMARY KEY, v text); INSERT INTO late SELECT i, 'old ' || i FROM generate_series(1, 300) i",
        "CREATE TABLE empty (id int PRIMARY KEY)",
    )
    m.sync()
    m.sql("UPDATE late SET v = 'before' WHERE id = 1", "ALTER PUBLICATION shop ADD TABLE late, empty",
          "UPDATE late SET v = 'after' WHERE id = 2", "DELETE FROM late WHERE id = 3", "INSERT INTO t VALUES (2, 'y')")
    m.sync()
    m.same("t", "late", "empty")
    m.sql("UPDATE late SET v = v || '!'", "INSERT INTO empty VALUES (1)", "DELETE FROM late WHERE id % 2 = 0")
    m.sync()
    m.same("t", "late", "empty")


def test_tables_added_under_a_writer_while_the_flow_runs(mirror):
    m = mirror(
        "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE PUBLICATION shop FOR TABLE t",
        "CREATE TABLE late (id int PRIMARY KEY, n int); INSERT INTO late SELECT i, 0 FROM generate_series(1, 2000) i",
        source={"status_interval": "200ms"},
    )
    m.sync()
    run = m.flow.start()
    stop = threading.Event()

    def write():
        with m.database.connect() as connection:
            i = 0
            while not stop.is_set():
                i += 1
                connection.execute(
                    f"UPDATE late SET n = n + 1 WHERE id BETWEEN {i * 13 % 2000} AND {i * 13 % 2000 + 9};"
                    f" DELETE FROM late WHERE id = {i * 7 % 2000}; INSERT INTO late VALUES ({10000 + i}, {i});"
                    f" INSERT INTO t VALUES ({i}, 'x')"
                )

    writer = threading.Thread(target=write)
    writer.start()
    try:
        m.wait_until(lambda: m.lake.count("public.t") > 20, 60, "rows before the table is added")
        m.sql("ALTER PUBLICATION shop ADD TABLE late")
        m.wait_until(lambda: "public.late" in m.lake.tables(), 60, "the added table")
        seen = m.lake.count("public.t")
        m.wait_until(lambda: m.lake.count("public.t") > seen + 50, 60, "rows after the table was added")
    finally:
        stop.set()
        writer.join()
    assert run.running, run.describe()
    assert run.terminate() == 0
    m.sync()
    m.same("t", "late")


def test_a_table_made_later_with_rows(mirror_postgres):
    m = mirror_postgres("CREATE TABLE t (id int PRIMARY KEY)")
    m.sync()
    m.sql("CREATE TABLE made (id int PRIMARY KEY, v text)", "INSERT INTO made VALUES (1, 'x'), (2, 'y')", "UPDATE made SET v = 'z' WHERE id = 1",
          "CREATE TABLE made_empty (id int PRIMARY KEY)")
    m.sync()
    m.same("t", "made", "made_empty")


def test_a_table_leaves_the_publication_and_comes_back(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE u (id int PRIMARY KEY);"
                      " INSERT INTO t VALUES (1, 'x'), (2, 'x'); CREATE PUBLICATION shop FOR TABLE t, u")
    m.sync()
    m.sql("ALTER PUBLICATION shop DROP TABLE t", "UPDATE t SET v = 'unseen' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    m.sync()
    m.sql("ALTER PUBLICATION shop ADD TABLE t", "INSERT INTO t VALUES (3, 'seen')", "UPDATE t SET v = v || '!' WHERE id = 1")
    m.sync()
    m.same("t")


def test_a_table_dropped_and_made_again(mirror):
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, v text, gone int); INSERT INTO t VALUES (1, 'old', 1), (2, 'old', 2)")
    m.sync()
    before = m.last_snapshot()
    m.sql("UPDATE t SET v = 'last' WHERE id = 1", "DROP TABLE t", "CREATE TABLE t (v text, id int PRIMARY KEY, fresh text)",
          "INSERT INTO t VALUES ('new', 1, 'f'), ('new', 3, NULL)")
    m.sync()
    m.same("t")
    assert m.lake.count("public.t", before) == 2
    m.sql("UPDATE t SET v = 'newer'", "DELETE FROM t WHERE id = 3")
    m.sync()
    m.same("t")


def test_a_dropped_table_stops_nothing(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    m.sync()
    m.sql("INSERT INTO t VALUES (2)", "DROP TABLE t", "INSERT INTO u VALUES (1)")
    m.sync()
    m.same("u")
    assert m.lake.count("public.t") == 2  # what was there stays readable


def test_full_without_a_key_and_a_nested_default(mirror_sqlite):
    """The older rows' value of the new column is part of what rows are found by, and the lake cannot say it: copied again."""
    m = mirror_sqlite("CREATE TABLE t (i int)", "ALTER TABLE t REPLICA IDENTITY FULL", "INSERT INTO t SELECT generate_series(1, 6)")
    m.sync()
    m.sql("ALTER TABLE t ADD a int[] DEFAULT '{1,NULL}'", "UPDATE t SET i = i + 100 WHERE i < 4", "DELETE FROM t WHERE i = 5")
    m.sync()
    m.same("t")


def test_full_without_a_key_and_a_column_that_has_gone_again(mirror_sqlite):
    """What older rows had in it nobody can say any more."""
    m = mirror_sqlite("CREATE TABLE t (i int)", "ALTER TABLE t REPLICA IDENTITY FULL", "INSERT INTO t SELECT generate_series(1, 6)")
    m.sync()
    m.sql("ALTER TABLE t ADD b bool DEFAULT true", "UPDATE t SET i = 100 WHERE i = 2", "ALTER TABLE t DROP b", "UPDATE t SET i = 101 WHERE i = 1")
    m.sync()
    m.same("t")


# --- a key with a column that is generated, and so not published (before 18) ---

GENERATED_KEY = (
    "CREATE TABLE t (a int, b int, g int GENERATED ALWAYS AS (b * 2) STORED, v text, PRIMARY KEY ({}));"
    " INSERT INTO t (a, b, v) SELECT 1, i, 'x' FROM generate_series(1, 5) i; CREATE PUBLICATION shop FOR ALL TABLES"
)


@pytest.mark.parametrize("key", ["a, g", "g"])
def test_a_generated_column_in_the_key(mirror_sqlite, key):
    m = mirror_sqlite(GENERATED_KEY.format(key))
    found = subprocess.run([program(), "check", m.flow.path], capture_output=True, text=True, timeout=60)
    assert found.returncode == 0 and "public.t.g: is generated, part of the key" in found.stdout, found.stdout
    run = m.flow.start("--until-caught-up")
    run.expect(0)
    assert "a generated column of the key is not published" in run.stderr and "column=g" in run.stderr, run.stderr
    m.sql("INSERT INTO t (a, b, v) VALUES (1, 6, 'new')")
    m.sync()
    assert [row[1] for row in m.rows("t")] == [1, 2, 3, 4, 5, 6]
    m.sql("UPDATE t SET v = 'y' WHERE b = 3")
    stderr = m.refuses(2)
    assert 'table "public"."t": an update or delete came' in stderr and '"g"' in stderr and "copy-again" in stderr, stderr
    m.sql("ALTER TABLE t REPLICA IDENTITY FULL", "DELETE FROM t WHERE b = 2")
    subprocess.run([program(), "lake", "copy-again", m.flow.path, "public.t"], check=True, capture_output=True, timeout=60)
    m.sync()
    m.sql("DELETE FROM t WHERE b = 4", "UPDATE t SET v = 'z' WHERE b = 5")
    m.sync()
    assert m.rows("t") == m.database.query("SELECT a, b, v FROM t ORDER BY 1, 2")


def test_a_key_that_was_whole_in_a_backlog(mirror_sqlite):
    """Changes from before the key had a generated column are followed as they were."""
    m = mirror_sqlite(GENERATED_KEY.format("b"))
    m.sync()
    m.sql("UPDATE t SET v = 'y' WHERE b = 3", "DELETE FROM t WHERE b = 1")
    m.sql("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (a, g)")
    m.sync()
    assert m.rows("t") == m.database.query("SELECT a, b, v FROM t ORDER BY 1, 2")
