"""Tables that are copied again: by the flow itself when the stream cannot be followed, or by `lake copy-again`."""

import pytest

from lib.cli import ductstream
from lib.flow import EXIT_CONFIG, EXIT_DATA, EXIT_DONE, EXIT_FATAL, EXIT_RETRY
from lib.wait import wait_until
from lib.workload import SCHEMA, Workload, assert_whole

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text, n int NOT NULL)"
ROWS = "INSERT INTO t SELECT i, 'row ' || i, i FROM generate_series(1, 40) i"
OTHER = "CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u SELECT i, 'u' FROM generate_series(1, 10) i"
AGAIN = "is copied again"


def copy_again(m, *tables, code=EXIT_DONE):
    """Runs the command; returns what it printed on stdout, or on stderr when it fails."""
    found, stdout, stderr = ductstream("lake", "copy-again", m.flow.path, *tables)
    assert found == code, stderr
    return stderr if code else stdout


def state(m, table):
    return m.catalog(f"SELECT state FROM {{}}ductstream_relation WHERE source_name = '{table}' AND state <> 'gone'")[0][0]


def copied_again(run):
    return run.stderr.count(AGAIN)


def goes_on(m, *tables):
    """Later changes are followed: of each row once, half of them gone."""
    for table in tables:
        m.sql(f"UPDATE {table} SET v = v || '!'", f"DELETE FROM {table} WHERE id % 2 = 0")
    run = m.sync()
    m.same(*tables)
    assert not copied_again(run), run.stderr
    assert all(state(m, table) == "streaming" for table in tables)


# --- what the stream cannot say ---

KEY_CHANGES = {
    "another column": "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (n)",
    "one more column": "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (id, n)",
    "no key": "ALTER TABLE t DROP CONSTRAINT t_pkey, REPLICA IDENTITY FULL",
}


@pytest.mark.parametrize("change", KEY_CHANGES)
def test_a_key_that_changes_inside_a_transaction(mirror, change):
    m = mirror(TABLE, ROWS, OTHER)
    m.sync()
    m.sql(
        "UPDATE u SET v = 'before'",
        f"UPDATE t SET v = 'before' WHERE id < 9; UPDATE u SET v = 'same' WHERE id = 2; {KEY_CHANGES[change]};"
        " UPDATE t SET v = 'after' WHERE id < 5; DELETE FROM t WHERE id = 6; INSERT INTO t VALUES (50, 'new', 50)",
        "UPDATE u SET v = 'after' WHERE id = 3; UPDATE t SET v = 'later' WHERE id = 7",
    )
    run = m.sync()
    assert copied_again(run), run.stderr
    m.same("t", "u")
    assert m.rows("u")[:4] == [(1, "before"), (2, "same"), (3, "after"), (4, "before")]
    goes_on(m, "t", "u")


def test_a_column_added_between_updates_of_a_table_without_key(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int, v text); ALTER TABLE t REPLICA IDENTITY FULL",
                      "INSERT INTO t SELECT i / 2, 'v' FROM generate_series(1, 20) i")
    m.sync()
    m.sql("UPDATE t SET v = 'a' WHERE id = 1; ALTER TABLE t ADD w int; UPDATE t SET w = 1 WHERE id = 2; DELETE FROM t WHERE id = 1")
    assert copied_again(m.sync())
    m.same("t")
    goes_on(m, "t")


@pytest.mark.parametrize("types", [["int", "timestamptz", "uuid"], ["int", "text", "int"], ["text"], ["text", "text"]],
                         ids=lambda types: " ".join(types))
def test_a_column_made_again_in_a_backlog(mirror, types):
    """Names are all that the stream says of columns; values of each of them came, and all but the last are gone."""
    m = mirror(TABLE, ROWS, "ALTER TABLE t ADD a text", "UPDATE t SET a = 'first'")
    m.sync()
    value = {"int": "7", "text": "'x'", "timestamptz": "'2024-01-01'", "uuid": "'550e8400-e29b-41d4-a716-446655440000'"}
    m.sql("UPDATE t SET a = 'changed' WHERE id = 1", "INSERT INTO t VALUES (100, 'v', 100, 'old')")
    for i, name in enumerate(types):
        m.sql(f"ALTER TABLE t DROP a; ALTER TABLE t ADD a {name}", f"UPDATE t SET a = {value[name]} WHERE id = {10 + i}",
              f"DELETE FROM t WHERE id = {20 + i}")
    m.sync()
    m.same("t")
    goes_on(m, "t")


@pytest.mark.parametrize("seen", [True, False], ids=["table seen before", "table not seen"])
def test_a_column_made_again_while_the_flow_runs(mirror_postgres, seen):
    """The stream describes the table in the same words as before."""
    m = mirror_postgres(TABLE, ROWS, OTHER)
    m.sync()
    run = m.flow.start()
    m.sql("INSERT INTO u VALUES (100, 'x')")
    m.wait_rows(run, "u", 11)
    if seen:
        m.sql("INSERT INTO t VALUES (100, 'x', 100)")
        m.wait_rows(run, "t", 41)
    m.sql("ALTER TABLE t DROP n; ALTER TABLE t ADD n int", "INSERT INTO t VALUES (101, 'x', 101)")
    m.wait_rows(run, "t", 42 if seen else 41)
    assert run.terminate() == 0
    m.same("t")
    assert copied_again(run) == 1, run.stderr
    goes_on(m, "t", "u")


def test_a_composite_type_dropped_in_a_backlog(mirror_sqlite):
    m = mirror_sqlite("CREATE TYPE pair AS (a int, b text)", TABLE, ROWS, "ALTER TABLE t ADD p pair", OTHER,
                      "UPDATE t SET p = ROW(1, 'x')")
    m.sync()
    m.sql("UPDATE t SET p = ROW(2, 'y') WHERE id < 5", "UPDATE u SET v = 'between'", "DROP TYPE pair CASCADE",
          "UPDATE t SET n = n + 1 WHERE id > 30")
    m.sync()
    m.same("t", "u")
    goes_on(m, "t", "u")


def test_nothing_of_a_table_is_looked_at_until_its_copy(mirror_sqlite):
    """Shapes that could not be followed come while the table waits: they are in the copy."""
    m = mirror_sqlite("CREATE TYPE pair AS (a int, b text)", TABLE, ROWS, OTHER)
    m.sync()
    copy_again(m, "public.t")
    m.sql("ALTER TABLE t ADD p pair", "UPDATE t SET p = ROW(1, 'x')", "UPDATE u SET v = 'x'", "DROP TYPE pair CASCADE",
          "ALTER TABLE t ALTER v TYPE int USING n", "UPDATE t SET v = v + 1", "TRUNCATE t", "INSERT INTO t VALUES (1, 1, 1)",
          "ALTER TABLE t ALTER v TYPE text")
    m.sync()
    m.same("t", "u")
    goes_on(m, "t", "u")


def test_the_same_again_and_again_stops(mirror_sqlite):
    """Copies that lead nowhere are not made for ever."""
    m = mirror_sqlite(TABLE, ROWS)
    m.sync()
    m.change_catalog("UPDATE {}ductstream_relation SET state = 'copied again 3'")
    m.sql("UPDATE t SET v = 'x' WHERE id = 1; ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (n); UPDATE t SET v = 'y' WHERE id = 2")
    stderr = m.fails(EXIT_FATAL)
    assert "copied again 3 times" in stderr and '"t"' in stderr, stderr
    copy_again(m, "public.t")
    m.sync()
    m.same("t")
    goes_on(m, "t")


# --- the command ---


def test_a_copy_on_request(mirror):
    m = mirror(TABLE, ROWS, OTHER)
    m.sync()
    before = m.last_snapshot()
    assert copy_again(m, "public.t") == "public.t is copied again by the next run\n"
    assert m.last_snapshot() == before and len(m.rows("t")) == 40
    m.sql("UPDATE t SET v = 'x' WHERE id < 5", "INSERT INTO u VALUES (99, 'u')")
    m.sync()
    m.same("t", "u")
    made = [s for s in m.snapshots() if s["snapshot_id"] > before and s["commit_message"].endswith(": copy")]
    assert len(made) == 1 and "tables_created" not in made[0]["changes"]
    goes_on(m, "t", "u")


def test_a_retype(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS, OTHER)
    m.sync()
    m.sql("ALTER TABLE t ALTER n TYPE text USING 'n' || n", "UPDATE t SET v = 'x' WHERE id = 1", "UPDATE u SET v = 'behind'")
    stderr = m.fails(EXIT_DATA)
    assert "`ductstream lake copy-again FLOW public.t`" in stderr, stderr
    copy_again(m, "public.t")
    m.sync()
    m.same("t", "u")
    assert m.lake.columns("public.t")["n"] == "VARCHAR"
    goes_on(m, "t", "u")


HARM = {
    "table dropped": ("DROP TABLE lake.public.t", EXIT_CONFIG, "was dropped by somebody else"),
    "column dropped": ("ALTER TABLE lake.public.t DROP COLUMN v", EXIT_CONFIG, "was dropped in the lake by somebody else"),
    "rows changed": ("UPDATE lake.public.t SET v = 'foreign' WHERE id = 3", EXIT_FATAL, 'rows of mirrored lake table "public"."t" were'),
    "rows added": ("INSERT INTO lake.public.t VALUES (777, 'foreign', 1)", EXIT_FATAL, "rows of mirrored lake table"),
}


@pytest.mark.parametrize("harm", HARM)
def test_harm_by_others(mirror, harm):
    statement, code, words = HARM[harm]
    m = mirror(TABLE, ROWS, OTHER)
    m.sync()
    m.lake.sql(statement)
    m.sql("ALTER TABLE t ADD w int", "UPDATE t SET v = 'x', w = 1 WHERE id = 1", "UPDATE u SET v = 'behind'")
    stderr = m.fails(code)
    assert words in stderr and "`ductstream lake copy-again FLOW public.t`" in stderr, stderr
    copy_again(m, "public.t")
    m.sync()
    m.close_lake()
    m.same("t", "u")
    goes_on(m, "t", "u")


def test_rows_of_two_tables_changed_by_others(mirror_sqlite):
    """Marking one of them does not make the other's pass for right."""
    m = mirror_sqlite(TABLE, ROWS, OTHER)
    m.sync()
    m.lake.sql("DELETE FROM lake.public.t WHERE id = 3")
    m.lake.sql("DELETE FROM lake.public.u WHERE id = 3")
    copy_again(m, "public.t")
    m.sql("UPDATE t SET v = 'x' WHERE id = 4")
    assert '"u" were changed' in m.fails(EXIT_FATAL)
    copy_again(m, "public.u")
    m.sync()
    m.same("t", "u")
    goes_on(m, "t", "u")


def test_drift(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS, OTHER)
    m.sync()
    m.flow.content["destinations"][0]["options"]["foreign_changes"] = "share"
    m.flow.write()
    m.lake.sql("DELETE FROM lake.public.t WHERE id = 3")
    m.sql("UPDATE t SET v = 'x' WHERE id = 3", "UPDATE u SET v = 'behind'")
    stderr = m.fails(EXIT_FATAL)
    assert "lake and source differ" in stderr and "copy-again FLOW public.t" in stderr, stderr
    copy_again(m, "public.t")
    m.sync()
    m.same("t", "u")
    goes_on(m, "t", "u")


def test_a_lost_file(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS, OTHER)
    m.sync()
    for name in m.files():
        if "/t/" in f"/{name}":
            (m.home.data_path / name).unlink()
    copy_again(m, "public.t")
    m.sync()
    m.same("t", "u")
    goes_on(m, "t", "u")


def test_a_table_that_is_not_published(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS, OTHER, "CREATE PUBLICATION shop FOR TABLE t, u", source={"ensure_publication": False})
    m.sync()
    m.sql("ALTER PUBLICATION shop DROP TABLE t", "DELETE FROM t WHERE id > 20")
    m.sync()
    copy_again(m, "public.t")
    m.sql("UPDATE u SET v = 'x'")
    m.sync()
    m.same("u")
    assert len(m.rows("t")) == 40
    m.sql("ALTER PUBLICATION shop ADD TABLE t", "UPDATE u SET v = 'y'")
    m.sync()
    m.same("t", "u")
    goes_on(m, "t", "u")


def test_a_running_flow_is_ended(mirror_postgres):
    m = mirror_postgres(TABLE, ROWS)
    m.sync()
    run = m.flow.start()
    m.sql("INSERT INTO t VALUES (100, 'x', 100)")
    m.wait_rows(run, "t", 41)
    assert '"public.tt"' in copy_again(m, "public.tt", code=EXIT_CONFIG)
    m.sql("INSERT INTO t VALUES (101, 'x', 101)")
    m.wait_rows(run, "t", 42)
    copy_again(m, "public.t")
    m.sql("INSERT INTO t VALUES (102, 'x', 102)")
    run.expect(EXIT_FATAL)
    assert "was taken over" in run.stderr
    m.sync()
    m.same("t")


def test_what_cannot_be_marked(mirror_postgres):
    m = mirror_postgres(TABLE, ROWS, OTHER)
    m.sync()
    before = m.catalog("SELECT epoch, seq FROM {}ductstream_checkpoint")
    assert 'keeps no table "public.tt" in the lake: did you mean "public.' in copy_again(m, "public.t", "public.tt", code=EXIT_CONFIG)
    assert 'keeps no table "t"' in copy_again(m, "t", code=EXIT_CONFIG)
    assert "tables (schema.table)" in copy_again(m, code=EXIT_CONFIG)
    assert m.catalog("SELECT epoch, seq FROM {}ductstream_checkpoint") == before
    assert state(m, "t") == "streaming"
    m.flow.content["source"]["options"]["snapshot"] = "never"
    m.flow.write()
    assert '"snapshot"' in copy_again(m, "public.t", code=EXIT_CONFIG)


def test_before_the_first_copy(mirror_sqlite):
    m = mirror_sqlite(TABLE)
    assert "cannot be opened" in copy_again(m, "public.t", code=EXIT_CONFIG)
    assert not m.exists() and not m.home.data_path.exists()


def test_errors_tell_no_secret(mirror_postgres):
    m = mirror_postgres(TABLE)
    options = m.flow.content["destinations"][0]["options"]
    options["catalog"] = "postgres:host=/nonexistent user=me password=geheim dbname=x"
    m.flow.write()
    code, stdout, stderr = ductstream("lake", "copy-again", m.flow.path, "public.t")
    assert code in (EXIT_CONFIG, EXIT_RETRY) and "geheim" not in stdout + stderr


# --- under load ---


def test_exactly_once_under_a_writer(database, lake_home, make_flow):
    """Keys of one table change inside transactions while transfers go on between two others, and the copies run."""
    database.sql(SCHEMA)
    flow = make_flow(database, lake_home, source={"status_interval": "200ms"}, destination={"flush_interval": "20ms"})
    flow.run_until_caught_up()
    with Workload(database, seed=5) as load:
        run = flow.start()
        for n, key in enumerate(("id, n", "id"), 1):
            before = load.committed
            database.sql(
                "LOCK TABLE side; INSERT INTO side (body, n) VALUES ('k', 1); "
                f"ALTER TABLE side DROP CONSTRAINT side_pkey, ADD PRIMARY KEY ({key}); UPDATE side SET body = body || '.'"
            )
            run.wait_for(lambda: run.stderr.count("copy: 1 of 1 tables") == n, 60, "the table to be copied again")
            run.wait_for(lambda: load.committed > before + 20, 60, "the workload")
            assert copied_again(run) == n
        assert run.terminate() == 0, run.describe()
    assert_whole(database, lake_home, flow)


def test_a_file_that_is_lost_is_told_with_the_way_out(mirror_sqlite):
    m = mirror_sqlite(TABLE, ROWS, OTHER)
    m.sync()
    m.sql("INSERT INTO t VALUES (50, 'inlined', 1)")
    m.sync()
    m.lake.sql("CALL ducklake_flush_inlined_data('lake')")
    m.close_lake()
    for file in m.home.data_path.glob("public/t/*.parquet"):
        file.unlink()
    m.sql("UPDATE t SET v = 'changed' WHERE id = 1")
    run = m.flow.start()
    wait_until(lambda: "`ductstream lake copy-again`" in run.stderr, 20)
    assert run.terminate() == EXIT_DONE
    copy_again(m, "public.t")
    m.sync()
    m.same("t", "u")
    goes_on(m, "t")
