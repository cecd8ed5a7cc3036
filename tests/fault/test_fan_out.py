"""One slot, several destinations, each with a position of its own, under a load that never stops (issue 5, point 9)."""

import signal

import pytest

from lib.lake import LakeHome
from lib.wait import wait_until
from lib.workload import Workload, assert_whole

KILLED = -signal.SIGKILL


@pytest.fixture
def second_lake(tmp_path):
    home = LakeHome(f"sqlite:{tmp_path}/second.sqlite", tmp_path / "second-data")
    yield home
    home.close()


def add(flow, home):
    """One more destination for the runs that follow."""
    options = {"catalog": home.catalog, "data_path": str(home.data_path), "flush_interval": "50ms"}
    flow.content["destinations"].append({"name": "second", "type": "ducklake", "options": options})
    flow.write()


def commits(run):
    return next((line["commits"] for line in reversed(run.json_lines()) if "commits" in line), 0)


def both_whole(database, first, second, flow):
    assert_whole(database, first, flow)
    assert_whole(database, second, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
@pytest.mark.parametrize("parallelism", [1, 2])
def test_a_destination_joins(mirrored, second_lake, parallelism):
    """One that is added later gets a copy of its own, the others go on where they are; the writer never stops."""
    database, first, flow = mirrored
    flow.content["parallelism"] = parallelism
    with Workload(database, seed=parallelism) as load:
        add(flow, second_lake)
        run = flow.start("--json")
        before = load.committed
        run.wait_for(lambda: commits(run) > 20 and load.committed > before + 50, 60, "both to follow")
        assert run.terminate() == 0, run.describe()
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
@pytest.mark.parametrize("point", ["commit-begin", "commit-done", "file-synced"])
def test_kills(mirrored, second_lake, point):
    """Killed between the commits of the two, again and again: each goes on where it is, nothing is lost or doubled."""
    database, first, flow = mirrored
    add(flow, second_lake)
    for n in range(1, 9):
        with Workload(database, seed=n):
            run = flow.start(env={"DUCT_KILL_POINT": f"{point}:{n}"})
            try:
                assert run.wait(20) == KILLED, run.describe()
            except AssertionError:
                if point != "file-synced":  # small commits need no file
                    raise
                run.kill()
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_a_destination_that_fails_holds_all(mirrored, second_lake, tmp_path):
    """ack_policy all: what one does not take is not confirmed to the source; nothing is lost when it is there again."""
    database, first, flow = mirrored
    add(flow, second_lake)
    flow.run_until_caught_up()
    away = tmp_path / "away"
    with Workload(database, seed=3) as load:
        run = flow.start()
        run.wait_for(lambda: load.committed > 20, 60, "some load")
        second_lake.data_path.rename(away)
        second_lake.data_path.write_text("in the way")
        before = load.committed
        wait_until(lambda: load.committed > before + 50, 60, "more load")
        run.kill()
        second_lake.data_path.unlink()
        away.rename(second_lake.data_path)
    both_whole(database, first, second_lake, flow)
