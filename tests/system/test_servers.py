"""Postgres of other versions: what tools/setup --servers got. Key tests of other files run on each of them again, here on
its server; below them is what only some versions have."""

import json
import re
import subprocess

import psycopg
import pytest

from lib.flow import EXIT_CONFIG
from lib.paths import CACHE, program
from lib.pg import Databases, Postgres
from lib.wait import wait_until

from system.test_bare_tables import test_left_out_and_copied_later  # noqa: F401
from system.test_big_transactions import assert_streamed, test_aborted_subtransactions_leave_no_trace  # noqa: F401
from system.test_cdc_basic import test_inserts_updates_and_deletes, test_unsent_values_are_kept  # noqa: F401
from system.test_ddl import test_ddl_between_dml_in_one_transaction  # noqa: F401
from system.test_publication import test_while_it_is_down_and_unseen  # noqa: F401
from system.test_snapshot import test_parallel_copy_under_a_writer, test_partitioned_table_by_root  # noqa: F401
from system.test_types import test_types_on_a_postgres_catalog  # noqa: F401

VERSIONS = [13, 14, 17, 18]


@pytest.fixture(scope="session", params=VERSIONS)
def server(request):
    missing = CACHE / "servers" / f"{request.param}.missing"
    if missing.exists():
        pytest.skip(f"no Postgres {request.param}: {missing.read_text().strip()}")
    with Postgres(version=request.param) as pg:
        assert pg.version == request.param
        yield pg


@pytest.fixture(scope="session")
def databases(server):
    return Databases(server)


@pytest.fixture
def lake_home(sqlite_lake):
    """The catalog does not care for the source's version: one kind is enough."""
    return sqlite_lake


def test_the_protocol(mirror_sqlite, database):
    """14 and later send values in binary and large transactions while they are open; 13 neither, and is mirrored as well."""
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, v text)", source={"work_mem": "64kB"})
    m.sync()
    m.sql("INSERT INTO t SELECT i, repeat('x', 100) FROM generate_series(1, 20000) i")
    m.sync()
    m.same("t")
    started = re.findall(r"START_REPLICATION .*", database.server.log())[-1]
    if database.version < 14:
        assert "proto_version '1'" in started and "messages" not in started and "binary" not in started, started
    else:
        assert all(option in started for option in ("proto_version '2'", "streaming 'on'", "binary 'true'")), started
    assert "parallel" not in started
    assert_streamed(m)


def test_check_finds_no_fault(mirror_sqlite, database):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, v text)", "CREATE PUBLICATION shop FOR ALL TABLES")
    done = subprocess.run([program(), "check", m.flow.path, "--json"], capture_output=True, text=True, timeout=60)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and found[-1]["errors"] == 0, done.stdout
    assert any(f"PostgreSQL {database.version}." in line.get("what", "") for line in found), done.stdout


@pytest.mark.parametrize("server", [17, 18], indirect=True, scope="session")
def test_column_lists_and_row_filters(mirror_sqlite):
    m = mirror_sqlite(
        "CREATE TABLE t (id int PRIMARY KEY, secret text, v text)",
        "INSERT INTO t SELECT i, 'hidden', 'v' FROM generate_series(1, 20) i",
        "CREATE PUBLICATION shop FOR TABLE t (v, id) WHERE (id > 10)",
    )
    m.sync()
    assert sorted(m.lake.columns("public.t")) == ["id", "v"]
    m.sql("UPDATE t SET v = 'w', secret = 's'", "UPDATE t SET id = id + 100 WHERE id IN (1, 11)", "DELETE FROM t WHERE id = 12")
    m.sync()
    m.same("t", where="id > 10", ignore=["secret"])


GENERATED = """CREATE TABLE {} (a int PRIMARY KEY, twice int GENERATED ALWAYS AS (a * 2) STORED, v text{});
    INSERT INTO {} (a, v) SELECT i, 'row' FROM generate_series(1, 5) i"""


def test_generated_columns_are_not_there(mirror_sqlite, database):
    """18 makes them virtual unless told otherwise."""
    kind = "" if database.version >= 18 else " STORED"
    m = mirror_sqlite(GENERATED.format("t", f", three int GENERATED ALWAYS AS (a * 3){kind}", "t"))
    m.sync()
    m.sql("UPDATE t SET a = a + 10 WHERE a < 3", f"ALTER TABLE t ADD w text, ADD n int GENERATED ALWAYS AS (a + 1){kind}")
    m.sql("UPDATE t SET w = 'w' WHERE a = 4")
    m.sync()
    assert list(m.lake.columns("public.t")) == ["a", "v", "w"]
    m.same("t", ignore=["twice", "three", "n"])


@pytest.mark.parametrize("server", [17, 18], indirect=True, scope="session")
def test_a_catalog_that_limits_transactions(mirror_postgres):
    """transaction_timeout of its role does not count: in a commit we may wait for the others that share the catalog."""
    m = mirror_postgres("CREATE TABLE t (id int PRIMARY KEY, v text)")
    m.sync()
    m.change_catalog("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET transaction_timeout = 500', current_database()); END $$")
    with psycopg.connect(m.home.catalog.partition(":")[2], autocommit=True, options="-c transaction_timeout=0") as other:
        waits = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{other.info.dbname}' AND wait_event_type = 'Lock' AND "
        waits += "clock_timestamp() - xact_start > interval '1 s'"
        last = "SELECT max(snapshot_id) FROM public.ducklake_snapshot"
        try:
            run = m.flow.start()
            for i in range(3):
                other.execute("BEGIN; LOCK TABLE public.ducklake_snapshot IN SHARE ROW EXCLUSIVE MODE")
                m.sql(f"INSERT INTO t VALUES ({i}, 'v')")
                run.wait_for(lambda: m.database.value(waits), 30, "a commit to wait for longer than that")
                other.execute("COMMIT")
                run.wait_for(lambda: other.execute(last).fetchone()[0] > 1 + i, 30, "the commit")  # noqa: B023
            assert run.terminate() == 0
            assert "attempt failed" not in run.stderr, run.describe()
        finally:
            other.execute("ROLLBACK")
            other.execute("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET transaction_timeout', current_database()); END $$")
    m.same("t")


@pytest.mark.parametrize("server", [18], indirect=True, scope="session")
def test_published_generated_columns(mirror_sqlite):
    m = mirror_sqlite(
        GENERATED.format("t", ", three int GENERATED ALWAYS AS (a * 3)", "t"),
        GENERATED.format("listed", "", "listed"),
        "CREATE PUBLICATION shop FOR TABLE t, TABLE listed (a, twice) WITH (publish_generated_columns = stored)",
    )
    m.sync()
    assert (list(m.lake.columns("public.t")), list(m.lake.columns("public.listed"))) == (["a", "twice", "v"], ["a", "twice"])
    for table in ("t", "listed"):
        m.sql(f"INSERT INTO {table} (a, v) VALUES (6, 'six')", f"UPDATE {table} SET a = a + 10 WHERE a < 3")
    m.sync()
    m.same("t", generated=True, ignore=["three"])
    m.same("listed", generated=True, ignore=["v"])
    m.sql("ALTER TABLE t ADD next int GENERATED ALWAYS AS (a + 1) STORED", "UPDATE t SET v = 'new' WHERE a = 6")
    m.sync()
    m.sql("ALTER TABLE t RENAME twice TO double", "UPDATE t SET v = 'renamed' WHERE a = 5")
    m.sync()
    assert list(m.lake.columns("public.t")) == ["a", "double", "v", "next"]
    m.same("t", generated=True, ignore=["three"])
    verified = subprocess.run([program(), "lake", "verify", m.flow.path], capture_output=True, text=True, timeout=60)
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize("server", [17, 18], indirect=True, scope="session")
def test_a_slot_made_fit_for_failover_stays_ours(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    m.sync()
    with psycopg.connect(m.database.dsn + " replication=database", autocommit=True) as replication:
        replication.execute('ALTER_REPLICATION_SLOT "shop" (FAILOVER true)')
    m.sql("INSERT INTO t VALUES (2)")
    m.sync()
    m.same("t")
    assert m.database.value("SELECT failover FROM pg_replication_slots WHERE slot_name = 'shop'")


@pytest.mark.parametrize("server", [18], indirect=True, scope="session")
def test_a_slot_that_idled_too_long_says_so(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY)", "INSERT INTO t VALUES (1)")
    m.sync()
    try:
        m.sql("ALTER SYSTEM SET idle_replication_slot_timeout = 1", "SELECT pg_reload_conf()")
        check = subprocess.run([program(), "check", m.flow.path], capture_output=True, text=True, timeout=60)
        assert "idle_replication_slot_timeout is 1 s" in check.stdout, check.stdout
        reason = "SELECT invalidation_reason FROM pg_replication_slots WHERE slot_name = 'shop'"
        wait_until(lambda: m.sql("INSERT INTO t SELECT max(id) + 1 FROM t", "CHECKPOINT") or m.database.value(reason), 30, "the slot's end")
        stderr = m.refuses(EXIT_CONFIG)
        assert "idle_replication_slot_timeout" in stderr and "max_slot_wal_keep_size" not in stderr, stderr
    finally:
        m.sql("ALTER SYSTEM RESET idle_replication_slot_timeout", "SELECT pg_reload_conf()")
