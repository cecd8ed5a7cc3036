"""Several flows commit to one catalog as fast as they may: clients beside them get through, and the flows share the gap."""

import json
import threading
import time

import psycopg
import pytest

from lib.compare import assert_same
from lib.flow import EXIT_DONE
from lib.lake import LakeError
from lib.pause import Pause

NAMES = ("one", "two", "three")
LOOK_BACK = 20  # of src/lake/pace.c: behind so many snapshots of others nobody waits; on a fast machine the gap is as short as these take


class Changes:
    """Small transactions in all tables, without pause, until stop."""

    def __init__(self, database):
        self.database = database
        self.stop = threading.Event()
        self.error = None
        self.threads = [threading.Thread(target=self._run, args=(name,), daemon=True) for name in NAMES]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stop.set()
        for thread in self.threads:
            thread.join(30)
        if self.error:
            raise self.error

    def _run(self, name):
        try:
            with psycopg.connect(self.database.dsn, autocommit=True) as connection:
                while not self.stop.wait(0.005):
                    connection.execute(f"INSERT INTO {name} (v) VALUES ('x')")
        except Exception as error:  # raised again at the end
            self.error = error


@pytest.fixture
def busy(database, lake_home, make_flow):
    """busy(env, **destination) -> three flows of one lake, their runs (env for the first), and an official client with a table of its own."""

    def start(env=None, **destination):
        for name in NAMES:
            database.sql(f"CREATE TABLE {name} (id bigserial PRIMARY KEY, v text); CREATE PUBLICATION {name} FOR TABLE {name}")
        flows = [make_flow(database, lake_home, name=name, destination=destination) for name in NAMES]
        for flow in flows:
            flow.run_until_caught_up()
        lake = lake_home.open("DATA_INLINING_ROW_LIMIT 0")
        lake.sql("CREATE SCHEMA theirs")
        lake.sql("CREATE TABLE theirs.t (id INTEGER)")
        return flows, [flow.start(env=env if flow is flows[0] else None) for flow in flows], lake

    return start


def small_inserts(lake, seconds):
    """(done, refused) by a client with its default number of retries.

    However fast the machine is, it makes less than twenty snapshots in a gap of 400 ms: behind twenty nobody waits for it (pace.c).
    """
    done = refused = 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.monotonic()
        try:
            lake.sql(f"INSERT INTO theirs.t VALUES ({done})")
            done += 1
        except LakeError:
            refused += 1
        time.sleep(max(0, began + 0.03 - time.monotonic()))
    return done, refused


def our_times(lake, since):
    return [
        (s["snapshot_time"].timestamp(), json.loads(s["commit_extra_info"])["flow"], s["snapshot_id"])
        for s in lake.snapshots()
        if s["author"] == "ductstream" and s["snapshot_id"] > since
    ]


def compete(database, runs, lake, seconds=6):
    """What the client did and what the flows did meanwhile: (done, refused, our commits)."""
    since = lake.last_snapshot()
    with Changes(database):
        runs[0].wait_for(lambda: len({flow for _, flow, _ in our_times(lake, since)}) == 3, 30, "all flows to commit")
        since = lake.last_snapshot()
        done, refused = small_inserts(lake, seconds)
        ours = our_times(lake, since)
        # Who is served first is the catalog's choice; but nobody starves.
        runs[0].wait_for(lambda: len({flow for _, flow, _ in our_times(lake, since)}) == 3, 30, "all flows to commit again")
    for run in runs:
        assert run.terminate() == EXIT_DONE, run.describe()
        assert "attempt failed" not in run.stderr, run.describe()
    return done, refused, ours


@pytest.mark.alone
def test_others_get_through_and_flows_share_the_gap(busy, database, lake_home):
    flows, runs, lake = busy(flush_interval="400ms")  # an insert takes some 30 ms on a machine with nothing else to do
    sqlite = lake_home.catalog.startswith("sqlite")
    done, refused, ours = compete(database, runs, lake)
    between = [b[0] - a[0] for a, b in zip(ours, ours[1:]) if b[2] - a[2] <= LOOK_BACK]
    assert min(between, default=1) > 0.39, "two commits of ours without a gap"
    assert done >= 10, (done, refused)
    # On SQLite the client never tries again: what was begun before a commit of ours is lost, or while one of us finds, under the lock,
    # that its turn is taken.
    assert refused <= (1.5 * len(ours) if sqlite else 0), (done, refused)
    assert lake.count("theirs.t") == done
    for flow in flows:
        flow.run_until_caught_up()
    assert_same(database, lake, *(f"public.{name}" for name in NAMES))


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_one_stands_still_in_its_turn(busy, database, tmp_path):
    """It holds the lock that all flows queue for: the server takes it away after ten seconds, and what it had is committed when it wakes."""
    pause = Pause(tmp_path, "turn-taken")
    flows, runs, lake = busy(pause.env, flush_interval="20ms")

    def committed(since):
        return {flow for _, flow, _ in our_times(lake, since)}

    with Changes(database):
        pause.wait(runs[0])
        since = lake.last_snapshot()
        runs[1].wait_for(lambda: committed(since) >= {"two", "three"}, 30, "the others to commit")
        assert "one" not in committed(since)
        pause.release()
        runs[0].wait_for(lambda: "one" in committed(since), 30, "it to commit, too")
    for run in runs:
        assert run.terminate() == EXIT_DONE, run.describe()
    for flow in flows:
        flow.run_until_caught_up()
    assert_same(database, lake, *(f"public.{name}" for name in NAMES))


@pytest.mark.long
def test_without_a_gap_others_starve(busy, database):
    """What the test above would see without a pace."""
    _, runs, lake = busy(flush_interval="1ms")
    done, refused, ours = compete(database, runs, lake)
    assert done < 10 and len(ours) > 50, (done, refused, len(ours))


def test_a_long_interval_is_no_gap(database, lake_home, make_flow):
    """The commit that ends a run does not wait for an hour after the one before."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1); CREATE PUBLICATION shop FOR TABLE t")
    flow = make_flow(database, lake_home, destination={"flush_interval": "1h"})
    flow.run_until_caught_up()
    database.sql("INSERT INTO t VALUES (2)")
    flow.run_until_caught_up(timeout_s=30)
    assert_same(database, lake_home.open(), "public.t")
