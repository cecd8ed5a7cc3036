"""kill -9 of a flow into DuckDB at every commit boundary and at random moments under load (issue 5, point 10)."""

import random
import signal

import pytest

from lib.compare import assert_same
from lib.duck_tables import DuckTables
from lib.flow import Flow
from lib.wait import wait_until
from lib.workload import SCHEMA, TABLES, TOTAL, Workload

KILLED = -signal.SIGKILL
POINTS = ("epoch-raised", "duckdb-statement", "duckdb-applied", "duckdb-committed")


@pytest.fixture
def warehouse(database, tmp_path):
    """(database, path, flow) of a copied flow of the constant-sum workload, ready to stream."""
    database.sql(SCHEMA)
    path = tmp_path / "warehouse.duckdb"
    flow = Flow(
        tmp_path / "flow", "shop", {"dsn": database.dsn, "slot": "shop", "publication": "shop", "status_interval": "200ms"},
        [{"name": "warehouse", "type": "duckdb", "options": {"dsn": str(path), "flush_interval": "20ms"}}],
    )
    flow.run_until_caught_up()
    yield database, path, flow
    flow.close()


def assert_not_torn(path):
    """What the file shows after a crash is a state that the source had: the sum of both sides is constant."""
    with DuckTables(path) as tables:
        total = tables.value("SELECT (SELECT sum(amount) FROM public.left_account) + (SELECT sum(amount) FROM public.right_account)")
        lsn = tables.value("SELECT lsn FROM ductstream_meta.checkpoint")
    assert total == TOTAL
    return lsn


def assert_whole(database, path, flow):
    """Nothing lost, nothing doubled."""
    flow.run_until_caught_up()
    assert_not_torn(path)
    with DuckTables(path) as tables:
        assert_same(database, tables, *(f"public.{table}" for table in TABLES))
        keys, rows = tables.sql("SELECT count(DISTINCT key_json), count(*) FROM ductstream_meta.__metadata WHERE source_table = 'side'")[0]
        assert keys == rows


@pytest.mark.parametrize("point", POINTS)
def test_kill_at_commit_boundary(warehouse, point):
    database, path, flow = warehouse
    last = 0
    for n in (1,) if point == "epoch-raised" else (1, 2, 5):
        with Workload(database, seed=n):
            run = flow.start(env={"DUCT_KILL_POINT": f"{point}:{n}"})
            assert run.wait(30) == KILLED, run.describe()
        lsn = assert_not_torn(path)
        assert lsn >= last
        last = lsn
    assert_whole(database, path, flow)


def test_kill_at_random_moments(warehouse):
    database, path, flow = warehouse
    seed = random.randrange(10**6)
    pick = random.Random(seed)
    with Workload(database, seed=seed) as load:
        for _ in range(12):
            before = load.committed
            run = flow.start()
            run.let_run(pick.uniform(0.1, 0.8))
            assert run.running, f"seed {seed}: ended by itself\n{run.describe()}"
            run.kill()
            assert_not_torn(path)
            wait_until(lambda: load.committed > before, 10, "the workload to go on")
    assert_whole(database, path, flow)


def test_kill_during_a_copy(database, tmp_path):
    """The copy is one transaction: nothing of it is there, and the next run begins anew."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)", )
    database.sql("INSERT INTO t SELECT i, repeat('x', 50) FROM generate_series(1, 200000) i")
    path = tmp_path / "warehouse.duckdb"
    flow = Flow(
        tmp_path / "flow", "shop", {"dsn": database.dsn, "slot": "shop", "publication": "shop", "snapshot_workers": 2},
        [{"name": "warehouse", "type": "duckdb", "options": {"dsn": str(path)}}],
    )
    try:
        run = flow.start(env={"DUCT_KILL_POINT": "duckdb-applied:2"})  # 1 says that a copy begins
        assert run.wait(60) == KILLED, run.describe()
        with DuckTables(path) as tables:
            assert "public.t" not in tables.tables()
            assert tables.value("SELECT state FROM ductstream_meta.checkpoint") == "copying"
        flow.run_until_caught_up()
        with DuckTables(path) as tables:
            assert assert_same(database, tables, "public.t") == 200000
    finally:
        flow.close()
