"""The proof of durable runs (issue 5, point 5): 1,000 runs, 8 processes, 200 kill -9; each run adds its row once."""

import random

import pytest
from lib.runs import Runs
from lib.wait import wait_until

RUNS, WORKERS, KILLS = 1000, 8, 200
INSERT = (
    "INSERT INTO hits SELECT current_setting('ductstream.run_id'), current_setting('ductstream.fence')::bigint, "
    "substr(current_setting('ductstream.run_id'), 2)::int"
)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("state", ["sqlite", "postgres"])
def test_each_run_adds_its_row_once(state, server, database, tmp_path):
    """Processes die at random moments and are started again; in the end there is a row per run, under the number that finished it."""
    env = {
        "DUCTSTREAM_STATE_PATH": str(tmp_path / "state.db"),
        "DUCTSTREAM_RUN_DSN_WAREHOUSE": database.dsn,
        "DUCTSTREAM_RUN_WORKERS": "2",
        "DUCTSTREAM_RUN_LEASE": "1s",
    }
    if state == "postgres":
        env["DUCTSTREAM_POSTGRES_DSN"] = database.dsn
    database.sql("CREATE TABLE hits (run text, fence bigint, n int)")  # no key: a row too many would be there
    rng = random.Random(200)
    runs = Runs(tmp_path, env)
    try:
        for i in range(RUNS):
            runs.submit("sql", {"dsn": "warehouse", "statements": [INSERT]}, id=f"r{i}", max_attempts=500)
        workers = [runs.worker() for _ in range(WORKERS)]
        for kill in range(KILLS):
            # A kill for every few runs that are done, so that they are spread over the whole work.
            wait_until(
                lambda: database.value("SELECT count(*) FROM hits") >= (RUNS - 40) * kill // KILLS, 60, f"work before kill {kill}"
            )
            victim = rng.randrange(WORKERS)
            workers[victim].kill()
            workers[victim].wait()
            workers[victim] = runs.worker()
        wait_until(lambda: runs.counts()["succeeded"] == RUNS, 90, "all runs to succeed", interval_s=0.2)
        assert database.query("SELECT count(*), count(DISTINCT run), sum(n) FROM hits") == [(RUNS, RUNS, RUNS * (RUNS - 1) // 2)]
        fences = dict(database.query("SELECT run, fence FROM hits"))
        listed = runs.driver.call("list")["runs"]
        assert len(listed) == RUNS
        # Who wrote the row had the run at that moment; who finished the run came no earlier.
        assert all(fences[run["id"]] <= run["fence"] for run in listed)
        assert len(set(fences.values())) == RUNS
        assert sum(run["attempt"] > 1 for run in listed) > KILLS / 10  # the kills did meet runs under way
    finally:
        runs.close()
