"""The lake's tables follow those of the source: columns and tables that come, go, change name or type."""

import threading
import time

import psycopg
import pytest

from lib.flow import EXIT_DATA
from lib.mirror import Mirror

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text, n int)"
ROWS = "INSERT INTO t SELECT i, 'row ' || i, i FROM generate_series(1, 6) i"


@pytest.fixture(params=["step by step", "backlog"])
def steps(request):
    """Runs the statements of a scenario: with a run of the flow after each change of rows (DDL alone is not sent), or all
    of them while the flow is down."""

    def run(m, *statements):
        for statement in statements:
            m.sql(statement)
            if request.param == "step by step" and not statement.startswith("ALTER"):
                m.sync()
                m.same("t")
        m.sync()
        m.same("t")

    return run


def changed(m):
    """All rows of a scenario's table once more, and half of them gone."""
    m.sql("UPDATE t SET id = id + 1000", "DELETE FROM t WHERE id % 2 = 0")
    m.sync()
    m.same("t")


# --- columns ---


def test_add_column(mirror, steps):
    m = mirror(TABLE, ROWS)
    m.sync()
    steps(
        m,
        "ALTER TABLE t ADD plain text",
        "INSERT INTO t VALUES (10, 'ten', 10, 'plain')",
        "ALTER TABLE t ADD a int DEFAULT 7, ADD b text DEFAULT 'it''s \"x\"', ADD c numeric(8,2) DEFAULT 1.50,"
        " ADD d timestamptz DEFAULT '2024-01-01 12:00+02', ADD e boolean NOT NULL DEFAULT true, ADD f text DEFAULT ''",
        "UPDATE t SET v = 'changed' WHERE id = 1",
        "INSERT INTO t (id, a) VALUES (11, NULL)",
        "ALTER TABLE t ALTER a SET DEFAULT 8",
        "INSERT INTO t (id) VALUES (12)",
    )
    changed(m)


def test_add_column_with_the_default_of_odd_types(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS, "CREATE TYPE mood AS ENUM ('sad', 'happy')")
    m.sync()
    m.sql(
        "ALTER TABLE t ADD a int[] DEFAULT '{1,NULL}', ADD b jsonb DEFAULT '{\"a\": [1]}', ADD c bytea DEFAULT '\\x00ff',"
        " ADD d uuid DEFAULT '550e8400-e29b-41d4-a716-446655440000', ADD e mood DEFAULT 'happy', ADD f float8 DEFAULT 'NaN',"
        " ADD g date DEFAULT 'infinity', ADD h interval DEFAULT '1 mon', ADD i text DEFAULT 'NULL', ADD j int4range DEFAULT '[1,5)'"
    )
    m.sql("INSERT INTO t (id) VALUES (20)")
    m.sync()
    m.same("t")
    changed(m)


def test_drop_column(mirror, steps):
    m = mirror(TABLE, ROWS)
    m.sync()
    before = m.last_snapshot()
    steps(m, "ALTER TABLE t DROP v", "INSERT INTO t VALUES (10, 10)", "UPDATE t SET n = -1 WHERE id = 2", "DELETE FROM t WHERE id = 3")
    assert m.rows("t", before)[0] == (1, "row 1", 1)
    changed(m)


def test_rename_column(mirror, steps):
    m = mirror(TABLE, ROWS)
    m.sync()
    before = m.last_snapshot()
    steps(m, "ALTER TABLE t RENAME v TO w", "UPDATE t SET w = 'new' WHERE id = 1", "ALTER TABLE t RENAME id TO key",
          "INSERT INTO t VALUES (10, 'ten', 10)", "ALTER TABLE t RENAME key TO id", "INSERT INTO t VALUES (11, 'x', 11)")
    assert m.rows("t")[1] == (2, "row 2", 2), "a renamed column keeps its values"
    assert list(m.lake.columns("public.t", before)) == ["id", "v", "n"]
    changed(m)


def test_rename_more_than_once_in_a_backlog(mirror_sqlite):
    """The names in between are known neither to the lake nor to the source's catalog."""
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.sql(
        "ALTER TABLE t RENAME v TO w", "UPDATE t SET w = 'first' WHERE id = 1",
        "ALTER TABLE t RENAME w TO x", "UPDATE t SET x = 'second' WHERE id = 2",
        "ALTER TABLE t ADD y text", "INSERT INTO t VALUES (7, '7', 7, 'y')",
        "ALTER TABLE t RENAME y TO z", "INSERT INTO t VALUES (8, '8', 8, 'z')",
    )
    m.sync()
    m.same("t")


def test_columns_swap_their_names(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, a int, b int)", "INSERT INTO t VALUES (1, 10, 20)")
    m.sync()
    m.sql(
        "ALTER TABLE t RENAME a TO c; ALTER TABLE t RENAME b TO a; ALTER TABLE t RENAME c TO b; INSERT INTO t (id, a, b) VALUES (2, 7, 8)"
    )
    m.sync()
    m.same("t")


def test_drop_and_add_of_the_same_name(mirror, steps):
    m = mirror(TABLE, ROWS)
    m.sync()
    steps(
        m,
        "ALTER TABLE t DROP v; ALTER TABLE t ADD v text",
        "INSERT INTO t VALUES (10, 10, 'new v')",
        "ALTER TABLE t DROP n; ALTER TABLE t ADD n timestamptz",
        "INSERT INTO t VALUES (11, 'v', '2024-01-01')",
    )
    assert [row[1] for row in m.rows("t")][0] is None or m.rows("t")[0][2] is None
    changed(m)


# --- types ---


def test_rename_and_a_new_column_of_that_name_in_a_backlog(mirror_sqlite):
    """The catalog has another column under the name that the stream speaks of."""
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, a text[], n int)", "INSERT INTO t SELECT i, ARRAY['a'], i FROM generate_series(1, 5) i")
    m.sync()
    m.sql("ALTER TABLE t RENAME a TO b", "UPDATE t SET n = 1 WHERE id = 1")
    m.sql("ALTER TABLE t DROP b; ALTER TABLE t ADD b numeric", "UPDATE t SET b = 1.5 WHERE id = 2", "UPDATE t SET n = 3 WHERE id = 3")
    m.sync()
    m.same("t")
    m.sql("UPDATE t SET n = n + 1")
    m.sync()
    m.same("t")


def test_a_numeric_made_again_with_a_scale_in_a_backlog(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, a text, n int)", "INSERT INTO t SELECT i, 'a', i FROM generate_series(1, 5) i")
    m.sync()
    m.sql("ALTER TABLE t DROP a; ALTER TABLE t ADD a numeric", "UPDATE t SET a = 1.5 WHERE id = 1")
    m.sql("ALTER TABLE t DROP a; ALTER TABLE t ADD a numeric(12,2)", "UPDATE t SET a = 2.5 WHERE id = 2")
    m.sync()
    m.same("t")
    m.sql("UPDATE t SET n = n + 1")
    m.sync()
    m.same("t")


def test_types_that_widen(mirror, steps):
    m = mirror(
        "CREATE TABLE t (id int PRIMARY KEY, a smallint, b int, c numeric(8,2), d real, e varchar(5), f char(3), g date)",
        "INSERT INTO t SELECT i, i, i, i / 2.0, i / 2.0, 'e' || i, 'f', '2024-01-01' FROM generate_series(1, 6) i",
    )
    m.sync()
    before = m.last_snapshot()
    rows = m.rows("t", before)
    steps(
        m,
        "ALTER TABLE t ALTER a TYPE int, ALTER e TYPE varchar(50)",
        "INSERT INTO t VALUES (10, 100000, 1, 1, 1, 'eleven characters', 'f', '2024-01-02')",
        "ALTER TABLE t ALTER a TYPE bigint, ALTER b TYPE bigint, ALTER c TYPE numeric(20,4), ALTER e TYPE text",
        "INSERT INTO t VALUES (11, 9223372036854775807, -9223372036854775808, 1234567890123456.7891, 2, 'e', 'f', '2024-01-02')",
        "ALTER TABLE t ALTER d TYPE float8, ALTER f TYPE text",
        "INSERT INTO t VALUES (12, 1, 1, 1, 1e300, 'e', 'longer', '2024-01-02')",
        "UPDATE t SET d = d + 0.1 WHERE id = 1",
    )
    assert m.rows("t", before) == rows
    changed(m)


def test_a_key_that_widens(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.sql("ALTER TABLE t ALTER id TYPE bigint", "UPDATE t SET v = 'found' WHERE id <= 3", "INSERT INTO t VALUES (5000000000, 'big', 1)")
    m.sync()
    m.same("t")
    m.sql("DELETE FROM t WHERE id IN (1, 5, 5000000000)")
    m.sync()
    m.same("t")


@pytest.mark.parametrize(
    "alter, types",
    [
        ("ALTER TABLE t ALTER n TYPE text USING n::text", ("int32", "text")),
        ("ALTER TABLE t ALTER v TYPE int USING 1", ("varchar", "int")),
    ],
    ids=["int to text", "text to int"],
)
def test_any_other_type_change_stops(mirror_sqlite, alter, types):
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.sql("INSERT INTO t VALUES (7, '7', 7)", alter, "INSERT INTO t VALUES (8, '8', 8)")
    stderr = m.fails(EXIT_DATA)
    column = alter.split(" ALTER ")[1].split()[0]
    for word in (f'"{column}"', "public", *types):
        assert word in stderr, stderr
    assert [row[0] for row in m.rows("t")] in ([1, 2, 3, 4, 5, 6], [1, 2, 3, 4, 5, 6, 7])
    assert list(m.lake.columns("public.t").values()) == ["INTEGER", "VARCHAR", "INTEGER"]


def test_a_type_that_narrows_keeps_the_wider_one(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.sql("ALTER TABLE t ALTER n TYPE smallint", "INSERT INTO t VALUES (7, '7', 7)")
    m.sync()
    m.same("t")
    assert m.lake.columns("public.t")["n"] == "INTEGER"


# --- one transaction ---


def test_ddl_between_dml_in_one_transaction(mirror):
    m = mirror(TABLE, ROWS)
    m.sync()
    snapshots = len(m.snapshots())
    m.sql(
        "UPDATE t SET v = 'before' WHERE id = 1; INSERT INTO t VALUES (10, 'ten', 10); ALTER TABLE t ADD extra int DEFAULT 5;"
        " UPDATE t SET extra = 6 WHERE id = 2; INSERT INTO t VALUES (11, 'eleven', 11, 12); ALTER TABLE t DROP n;"
        " INSERT INTO t VALUES (12, 'twelve', 13); ALTER TABLE t RENAME v TO w; UPDATE t SET w = w || '!' WHERE id > 9"
    )
    m.sync()
    m.same("t")
    assert len(m.snapshots()) == snapshots + 1
    changed(m)


def test_ddl_that_is_rolled_back(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.sql(
        "BEGIN; ALTER TABLE t ADD x int; INSERT INTO t VALUES (10, 'x', 1, 1); ROLLBACK",
        "BEGIN; SAVEPOINT s; ALTER TABLE t DROP v; INSERT INTO t VALUES (11, 1); ROLLBACK TO s; INSERT INTO t VALUES (12, 'y', 1); COMMIT",
    )
    m.sync()
    m.same("t")
    assert list(m.lake.columns("public.t")) == ["id", "v", "n"]


def test_a_table_made_filled_and_altered_in_one_transaction(mirror):
    m = mirror(TABLE)
    m.sync()
    m.sql(
        "CREATE TABLE fresh (id int PRIMARY KEY, v text); INSERT INTO fresh VALUES (1, 'one'); ALTER TABLE fresh ADD n int;"
        " INSERT INTO fresh VALUES (2, 'two', 2); INSERT INTO t VALUES (1, 'x', 1)"
    )
    m.sync()
    m.same("t", "fresh")
    m.sql("UPDATE fresh SET n = 3", "DELETE FROM fresh WHERE id = 1")
    m.sync()
    m.same("t", "fresh")


def test_ddl_while_transactions_are_open(mirror_sqlite):
    """Rows of one commit in several shapes: transactions that began before and end after the change."""
    m = mirror_sqlite(TABLE, ROWS, "CREATE TABLE other (id int PRIMARY KEY)")
    m.sync()
    with m.database.connect(autocommit=False) as open_one:
        open_one.execute("INSERT INTO other VALUES (1)")
        m.sql("INSERT INTO t VALUES (10, 'x', 1)", "ALTER TABLE t ADD extra text", "INSERT INTO t VALUES (11, 'x', 1, 'e')")
        open_one.execute("INSERT INTO t VALUES (12, 'x', 1, 'late')")
        open_one.commit()
    m.sync()
    m.same("t", "other")


def test_ddl_while_the_flow_runs(mirror_postgres):
    m = mirror_postgres(TABLE, ROWS)
    m.sync()
    run = m.flow.start()
    for i in range(8):
        m.sql(
            f"INSERT INTO t (id, v) VALUES ({100 + 2 * i}, 'a')",
            f"ALTER TABLE t ADD c{i} int DEFAULT {i}",
            f"INSERT INTO t (id, c{i}) VALUES ({101 + 2 * i}, -1)",
        )
        if i % 2:
            m.sql(f"ALTER TABLE t DROP c{i - 1}", f"ALTER TABLE t RENAME c{i} TO d{i}")
    m.sql("INSERT INTO t (id, d7) VALUES (99, 99)")
    m.wait_rows(run, "t", 23)
    assert run.terminate() == 0
    m.sync()
    m.same("t")
    changed(m)


# --- tables ---


def test_rename_table(mirror):
    m = mirror(TABLE, ROWS, "CREATE PUBLICATION shop FOR ALL TABLES")
    m.sync()
    before = m.last_snapshot()
    m.sql("UPDATE t SET v = 'old name' WHERE id = 1", "ALTER TABLE t RENAME TO u", "UPDATE u SET v = 'new name' WHERE id = 2")
    m.sync()
    assert m.lake.tables() == ["public.u"]
    m.same("u")
    assert len(m.rows("t", before)) == 6
    m.sql("INSERT INTO u VALUES (9, 'nine', 9)", "DELETE FROM u WHERE id = 3")
    m.sync()
    m.same("u")


def test_move_table_to_another_schema(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS, "CREATE SCHEMA s")
    m.sync()
    m.sql("ALTER TABLE t SET SCHEMA s", "UPDATE s.t SET v = 'moved' WHERE id = 2")
    m.sync()
    assert m.lake.tables() == ["s.t"]
    m.same("s.t")


def test_the_log_says_from_what_to_what_a_table_was_renamed(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS, "CREATE SCHEMA s", "CREATE PUBLICATION shop FOR ALL TABLES")
    m.sync()
    run = m.flow.start("--log-level=info")
    m.sql("INSERT INTO t VALUES (100, 'x', 1)")
    m.wait_rows(run, "t", 7)
    m.sql("UPDATE t SET n = 1; ALTER TABLE t RENAME TO u; UPDATE u SET n = 2; ALTER TABLE u RENAME TO t; UPDATE t SET n = 3;"
          " ALTER TABLE t SET SCHEMA s; UPDATE s.t SET n = 4; DELETE FROM s.t WHERE id = 100")
    m.wait_rows(run, "s.t", 6)
    assert run.terminate() == 0
    said = [line.split("table renamed ")[1] for line in run.stderr.splitlines() if "table renamed " in line]
    assert [line.split("flow=shop ")[1] for line in said] == ["from=public.t to=public.u", "from=public.u to=public.t", "from=public.t to=s.t"]
    m.same("s.t")


def test_tables_swap_their_names(mirror_sqlite):
    """What pg_repack and blue-green loads do."""
    m = mirror_sqlite(TABLE, ROWS, "CREATE TABLE u (id int PRIMARY KEY, v text, n int); INSERT INTO u VALUES (1, 'u', 1)")
    m.sync()
    m.sql("ALTER TABLE t RENAME TO x; ALTER TABLE u RENAME TO t; ALTER TABLE x RENAME TO u; INSERT INTO t VALUES (2, 'in old u', 2);"
          " INSERT INTO u VALUES (7, 'in old t', 7)")
    m.sync()
    m.same("t", "u")


def test_a_table_made_again_in_a_backlog_with_its_changes(mirror):
    """Changes of the old table come after the copy of the new one."""
    m = mirror(TABLE, ROWS)
    m.sync()
    m.sql("INSERT INTO t VALUES (100, 'of the old one', 1)", "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, w int, v text)")
    m.sql("INSERT INTO t VALUES (1, 1, 'new'), (100, 2, 'new')", "INSERT INTO t VALUES (2, 2, 'newer')")
    m.sync()
    m.same("t")
    m.sql("DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'third')")
    m.sync()
    m.same("t")
    m.sql("UPDATE t SET v = 'changed'", "INSERT INTO t VALUES (3, 'three')")
    m.sync()
    m.same("t")


def test_a_table_takes_the_name_of_another(mirror):
    """The old table lives on under another name and sends nothing; later it does."""
    m = mirror(TABLE, ROWS, "CREATE TABLE fresh (id int PRIMARY KEY, v text, n int); INSERT INTO fresh VALUES (1, 'fresh', 1)")
    m.sync()
    m.sql("ALTER TABLE t RENAME TO t_old; ALTER TABLE fresh RENAME TO t; INSERT INTO t VALUES (2, 'two', 2)")
    m.sync()
    m.same("t")
    m.sql("UPDATE t_old SET v = 'still here' WHERE id = 3")
    m.sync()
    m.same("t", "t_old")


def test_a_new_table_takes_the_name_of_a_living_one(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.sql("ALTER TABLE t RENAME TO t_old; CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'new')")
    m.sync()
    m.same("t")
    m.sql("UPDATE t_old SET v = 'still here' WHERE id = 3", "INSERT INTO t VALUES (2, 'newer')")
    m.sync()
    m.same("t", "t_old")


@pytest.mark.parametrize("runs", [False, True], ids=["backlog", "runs"])
def test_names_swap_and_one_of_the_tables_is_made_again(mirror, runs):
    """The new t is taken for the old one, which lives on as u; the copy of that one finds its name at the table that was dropped."""
    m = mirror(TABLE, ROWS, "CREATE TABLE u (id int PRIMARY KEY, v text, n int); INSERT INTO u VALUES (1, 'u', 1)")
    m.sync()
    for step in (
        "ALTER TABLE t RENAME TO x; ALTER TABLE u RENAME TO t; ALTER TABLE x RENAME TO u",
        "DROP TABLE t; CREATE TABLE t (id int PRIMARY KEY, w int, v text); INSERT INTO t VALUES (1, 1, 'new')",
        "UPDATE u SET v = 'still here' WHERE id = 3",
        "INSERT INTO t VALUES (2, 2, 'newer'); DELETE FROM u WHERE id = 1",
    ):
        m.sql(step)
        if runs:
            m.sync()
    m.sync()
    m.same("t", "u")
    m.sql("UPDATE t SET v = 'x'; UPDATE u SET n = 0; INSERT INTO u VALUES (77, 'u', 1)")
    m.sync()
    m.same("t", "u")
    assert m.lake.tables() == ["public.t", "public.u"]


def test_vacuum_full_and_rewrites_change_nothing(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.sql("DELETE FROM t WHERE id = 1", "VACUUM FULL t", "UPDATE t SET v = 'after' WHERE id = 2", "CLUSTER t USING t_pkey")
    m.sql("REINDEX TABLE t", "ALTER TABLE t SET UNLOGGED", "ALTER TABLE t SET LOGGED", "UPDATE t SET v = 'again' WHERE id = 3")
    m.sync()
    m.same("t")


def test_a_rewrite_that_makes_new_values(mirror_sqlite):
    """ADD COLUMN with a volatile default sends no rows: the flow copies the table again."""
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.sql("ALTER TABLE t ADD u uuid DEFAULT gen_random_uuid()", "UPDATE t SET n = 0 WHERE id = 1")
    assert "is copied again" in m.sync().stderr
    m.same("t")


@pytest.mark.parametrize("found_by", ["a key", "all values"])
@pytest.mark.parametrize("then", ["uuid DEFAULT gen_random_uuid()", "int", "numeric(12,3)", "numeric(12,3) DEFAULT 9"])
def test_a_column_renamed_dropped_and_made_again_in_a_backlog(mirror_sqlite, then, found_by):
    m = mirror_sqlite("CREATE TABLE t (id int NOT NULL, v text, y numeric(12,3))", "INSERT INTO t SELECT i, 'x', i FROM generate_series(1, 5) i",
                      "ALTER TABLE t ADD PRIMARY KEY (id)" if found_by == "a key" else "ALTER TABLE t REPLICA IDENTITY FULL")
    m.sync()
    m.sql("ALTER TABLE t RENAME y TO passing", "UPDATE t SET v = 'a' WHERE id = 1", "ALTER TABLE t RENAME passing TO z", "UPDATE t SET v = 'b' WHERE id = 2",
          f"ALTER TABLE t DROP z, ADD z {then}", "UPDATE t SET v = 'c' WHERE id = 1")
    m.sync()
    m.same("t")


@pytest.mark.parametrize("steps", [
    ["ALTER TABLE t ADD u uuid NOT NULL DEFAULT gen_random_uuid(); ALTER TABLE t ALTER u DROP DEFAULT"],
    ["ALTER TABLE t ADD u int NOT NULL DEFAULT 7; ALTER TABLE t ALTER u DROP DEFAULT", "VACUUM FULL t"],
])
def test_a_default_that_was_dropped_behind_a_rewrite(mirror_sqlite, steps):
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.sql(*steps, "UPDATE t SET n = 0 WHERE id = 1")
    m.sync()
    m.same("t")


@pytest.mark.parametrize("root", [False, True], ids=["leaves", "root"])
def test_a_default_of_partitions_that_was_dropped(mirror_sqlite, root):
    """Only the leaves have kept what it was."""
    m = mirror_sqlite("CREATE TABLE p (id int PRIMARY KEY, v text) PARTITION BY RANGE (id); CREATE TABLE p_1 PARTITION OF p FOR VALUES FROM (0) TO (9)",
                      "INSERT INTO p SELECT i FROM generate_series(1, 5) i", source={"publish_via_partition_root": root})
    m.sync()
    m.sql("ALTER TABLE p ADD x int DEFAULT 7; ALTER TABLE p ALTER x DROP DEFAULT", "UPDATE p SET v = 'y' WHERE id = 2")
    m.sync()
    m.same("p" if root else "p_1")


def followed_with_standby(own_server, make_flow, sqlite_lake, names):
    """A running flow that has followed t to 7 rows, and from then on commits wait for the synchronous standby: (mirror, run)."""
    database = own_server.database("source")
    m = Mirror(database, sqlite_lake, make_flow(database, sqlite_lake, source={"status_interval": "200ms"}))
    m.sql(TABLE, ROWS)
    m.sync()
    run = m.flow.start()
    m.sql("INSERT INTO t VALUES (7, 'seven', 7)")
    m.wait_rows(run, "t", 7)
    m.sql(f"ALTER SYSTEM SET synchronous_standby_names = '{names}'", "SELECT pg_reload_conf()")
    m.wait_until(lambda: database.value("SHOW synchronous_standby_names") == names, 10, "the setting")
    return m, run


def test_a_change_that_others_do_not_see_yet(own_server, make_flow, sqlite_lake):
    """The stream brings a transaction whose commit waits for a synchronous standby: the catalog does not show its columns."""
    m, run = followed_with_standby(own_server, make_flow, sqlite_lake, "nobody")
    database = m.database

    def change():
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            connection.execute("ALTER TABLE t DROP n, ADD c smallint DEFAULT -3; INSERT INTO t VALUES (8, 'eight')")

    held = threading.Thread(target=change)
    held.start()
    try:
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'SyncRep'"
        m.wait_until(lambda: database.query(waits), 10, "the commit to wait")
        sent = "SELECT 1 FROM pg_stat_replication WHERE sent_lsn >= pg_current_wal_flush_lsn()"
        m.wait_until(lambda: database.query(sent), 10, "the transaction to be sent")
        seen = "SELECT count(*) FROM pg_attribute WHERE attrelid = (SELECT oid FROM pg_class WHERE relname = 't') AND attname = 'c'"
        assert database.value(seen) == 0, "others do not see it"
        time.sleep(0.5)  # the flow has it now
    finally:
        with database.connect() as connection:
            connection.execute("ALTER SYSTEM RESET synchronous_standby_names")
            connection.execute("SELECT pg_reload_conf()")
        held.join()
    m.wait_rows(run, "t", 8)
    assert run.terminate() == 0
    m.close_lake()
    m.same("t")


def test_we_are_the_synchronous_standby(own_server, make_flow, sqlite_lake):
    """A commit waits for us: what others see of it cannot be waited for, and a new column has the table copied again."""
    m, run = followed_with_standby(own_server, make_flow, sqlite_lake, "*")
    m.sql("INSERT INTO t VALUES (8, 'eight', 8)", "ALTER TABLE t DROP n, ADD c smallint DEFAULT -3; INSERT INTO t VALUES (9, 'nine')")
    m.wait_rows(run, "t", 9)
    m.sql("UPDATE t SET c = 1 WHERE id = 2", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
    assert run.terminate() == 0
    m.sync()
    m.close_lake()
    m.same("t")
