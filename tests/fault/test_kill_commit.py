"""kill -9 at every commit boundary and at random moments under load: nothing lost, nothing doubled, no torn snapshot."""

import os
import random
import signal

import pytest

from lib.wait import wait_until
from lib.workload import Workload, assert_whole

KILLED = -signal.SIGKILL
LONG = os.environ.get("DUCT_LONG") == "1"


# Where rows of small commits go: files; the catalog, for good; the catalog, and out of it again all the time.
ROADS = {"files": {"inline_rows": 0}, "inlined": {}, "flushed": {"inline_flush_rows": 20}}
POINTS = {
    "sqlite": ("flush-written", "commit-begin", "commit-statement", "commit-done", "file-written", "file-synced", "epoch-raised"),
    "postgres": ("flush-written", "commit-begin", "commit-sent", "commit-done", "file-written", "file-synced", "epoch-raised"),
}


def cases():
    for home in POINTS:
        for point in POINTS[home]:
            for road in ROADS:
                fits = road == "flushed" if point == "flush-written" else point.startswith("file") == (road == "files")
                if fits or (road == "flushed" and point != "epoch-raised"):
                    yield pytest.param(home, point, road, id=f"{home}-{point}-{road}")


@pytest.mark.parametrize(("lake_home", "point", "road"), list(cases()), indirect=["lake_home"])
def test_kill_at_commit_boundary(mirrored, point, road):
    database, lake_home, flow = mirrored
    flow.set_destination(**ROADS[road])
    for n in (1,) if point == "epoch-raised" else (1, 2, 5):
        with Workload(database, seed=n):
            run = flow.start(env={"DUCT_KILL_POINT": f"{point}:{n}"})
            assert run.wait(30) == KILLED, run.describe()
    assert_whole(database, lake_home, flow)


def kill_at_random(mirrored, rounds, seed):
    database, lake_home, flow = mirrored
    pick = random.Random(seed)
    with Workload(database, seed=seed) as load:
        for _ in range(rounds):
            before = load.committed
            run = flow.start()
            run.let_run(pick.uniform(0.05, 0.6))
            assert run.running, f"seed {seed}: ended by itself\n{run.describe()}"
            run.kill()
            wait_until(lambda: load.committed > before, 10, "the workload to go on")
    assert_whole(database, lake_home, flow)


@pytest.mark.parametrize("road", ["flushed", "files"])
def test_kill_at_25_random_moments(mirrored, road):
    """25 on each catalog."""
    mirrored[2].set_destination(**ROADS[road])
    kill_at_random(mirrored, 13 if road == "flushed" else 12, seed=random.randrange(10**6))


@pytest.mark.long
def test_kill_at_500_random_moments(mirrored):
    """500 on each catalog."""
    mirrored[2].set_destination(**ROADS["flushed"])
    kill_at_random(mirrored, 500, seed=random.randrange(10**6))
