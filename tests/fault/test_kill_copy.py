"""kill -9 inside the first copy, again and again: it begins anew each time, and completes once it is left alone."""

import random
import signal

import pytest

from lib.compare import assert_same
from lib.wait import wait_until
from lib.workload import SCHEMA, TABLES, Workload, assert_whole

KILLED = -signal.SIGKILL
PARTS = 4
POINTS = (("file-written", 1), ("file-written", 6), ("file-written", 12), ("file-synced", 3), ("file-synced", 12))
ROWS = """
INSERT INTO side (body, n) SELECT repeat(md5(i::text), 4), i FROM generate_series(1, 20000) i;
CREATE TABLE wide (id int PRIMARY KEY, note text);
INSERT INTO wide SELECT i, repeat(md5(i::text), 300) FROM generate_series(1, 1000) i;
"""


def others_than_parquet(folder):
    return [str(path) for path in folder.rglob("*") if path.is_file() and path.suffix != ".parquet"]


@pytest.fixture
def copying(database, lake_home, make_flow, tmp_path):
    """A flow with four tables of four parts each, and the environment that gives its runs a temporary folder."""
    database.sql(SCHEMA)
    database.sql(ROWS)
    temp = tmp_path / "temp"
    temp.mkdir()
    flow = make_flow(
        database,
        lake_home,
        source={"partition_column": "id", "partition_count": PARTS, "snapshot_workers": 2},
        destination={"flush_interval": "20ms", "index_dir": str(tmp_path / "index")},
    )
    return flow, temp


def test_ten_kills(copying, database, lake_home):
    flow, temp = copying
    seed = random.randrange(10**6)
    pick = random.Random(seed)
    with Workload(database, seed=seed) as load:
        for point, n in POINTS:
            run = flow.start(env={"DUCT_KILL_POINT": f"{point}:{n}", "TMPDIR": str(temp)})
            assert run.wait(60) == KILLED, f"{point}:{n}\n{run.describe()}"
        for _ in range(5):
            before = load.committed
            run = flow.start("--until-caught-up", env={"TMPDIR": str(temp)})
            run.let_run(pick.uniform(0.05, 0.8))
            run.kill()
            wait_until(lambda: load.committed > before, 10, "the workload to go on")
        flow.run_until_caught_up(env={"TMPDIR": str(temp)})
    flow.run_until_caught_up()
    with lake_home.open() as lake:
        assert_same(database, lake, *(f"public.{table}" for table in (*TABLES, "wide")))
        states = [snapshot for snapshot in lake.snapshots() if "tables_created" in str(snapshot["changes"])]
        assert len(states) == 1, f"seed {seed}: the copy was published more than once"
    assert_whole(database, lake_home, flow)
    assert not list(temp.iterdir()), f"seed {seed}: left behind"
    assert not others_than_parquet(lake_home.data_path), f"seed {seed}: left behind"
    query = f"SELECT slot_name FROM pg_replication_slots WHERE database = '{database.name}'"
    assert database.query(query) == [("shop",)], f"seed {seed}"
