"""One slot, several destinations, each with a position of its own, under a load that never stops (issue 5, point 9)."""

import contextlib
import shutil
import signal
import sqlite3
import threading
import time

import psycopg
import pytest

from lib.compare import assert_same
from lib.lake import LakeHome
from lib.wait import wait_until
from lib.workload import Workload, assert_whole

KILLED = -signal.SIGKILL


@pytest.fixture
def second_lake(tmp_path):
    home = LakeHome(f"sqlite:{tmp_path}/second.sqlite", tmp_path / "second-data")
    yield home
    home.close()


def add(flow, home, name="second"):
    """One more destination for the runs that follow, which does not wait long where its catalog is locked."""
    options = {"catalog": home.catalog, "data_path": str(home.data_path), "flush_interval": "50ms", "busy_timeout": "1s"}
    flow.content["destinations"].append({"name": name, "type": "ducklake", "options": options})
    flow.write()


@contextlib.contextmanager
def away(home):
    """Nobody else can write to the lake's catalog."""
    connection = sqlite3.connect(home.catalog.removeprefix("sqlite:"), timeout=30, isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def commits(run):
    return next((line["commits"] for line in reversed(run.json_lines()) if "commits" in line), 0)


def retained(database):
    """WAL that the flow's slot keeps."""
    return database.value("SELECT pg_current_wal_insert_lsn() - min(confirmed_flush_lsn) FROM pg_replication_slots")


def wait_confirmed(run, database):
    """Until the source has been told of all there is now."""
    lsn = database.server.lsn()
    slot = f"SELECT 1 FROM pg_replication_slots WHERE database = current_database() AND confirmed_flush_lsn >= '{lsn}'"
    run.wait_for(lambda: database.query(slot), 60, "the slot to be confirmed")


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
    if point == "file-synced":  # small commits need no file otherwise
        for destination in flow.content["destinations"]:
            destination["options"]["inline_rows"] = 0
        flow.write()
    for n in range(1, 9):
        with Workload(database, seed=n):
            run = flow.start(env={"DUCT_KILL_POINT": f"{point}:{n}"})
            assert run.wait(60) == KILLED, run.describe()
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_a_destination_that_is_away_holds_all(mirrored, second_lake):
    """ack_policy all: what one does not take is not confirmed to the source; nothing is lost when it is there again."""
    database, first, flow = mirrored
    add(flow, second_lake)
    flow.run_until_caught_up()
    with Workload(database, seed=3) as load:
        run = flow.start("--json")
        run.wait_for(lambda: load.committed > 20 and commits(run) > 5, 60, "some load")
        with away(second_lake):
            before, lsn = load.committed, database.value("SELECT pg_current_wal_insert_lsn()::text")
            run.wait_for(lambda: load.committed > before + 300, 60, "more load")
            assert database.value(f"SELECT confirmed_flush_lsn <= '{lsn}' FROM pg_replication_slots WHERE database = current_database()")
        run.kill()
    both_whole(database, first, second_lake, flow)


def primary(flow, home, tmp_path, **config):
    add(flow, home)
    flow.content["config"] = {"ack_policy": "primary", "outbox_dir": str(tmp_path / "outbox"), **config}
    flow.write()


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_a_secondary_that_is_away_holds_nobody(mirrored, second_lake, tmp_path):
    """ack_policy primary: the first destination and the slot go on while the second is away; afterwards both are equal."""
    database, first, flow = mirrored
    primary(flow, second_lake, tmp_path)
    flow.run_until_caught_up()
    with Workload(database, seed=5) as load:
        run = flow.start("--json")
        run.wait_for(lambda: load.committed > 20 and commits(run) > 5, 60, "some load")
        with away(second_lake):
            before = load.committed
            run.wait_for(lambda: load.committed > before + 300, 60, "more load")
            wait_confirmed(run, database)
            assert any((tmp_path / "outbox").rglob("*.out"))
            run.kill()
            run = flow.start("--json")  # also a run that begins while it is away
            run.wait_for(lambda: commits(run) > 20, 60, "the first destination to go on")
            run.terminate()
            flow.run_until_caught_up()
        run = flow.start("--json")
        run.wait_for(lambda: commits(run) > 20, 60, "both to go on")
        assert run.terminate() == 0, run.describe()
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_an_outbox_over_kills(mirrored, second_lake, tmp_path):
    """kill -9 at random moments: what is in the outbox reaches the second destination once."""
    database, first, flow = mirrored
    primary(flow, second_lake, tmp_path)
    with Workload(database, seed=6) as load:
        for n in range(12):
            before = load.committed
            run = flow.start()
            run.wait_for(lambda: load.committed > before + 10 + n * 3, 60, "some load")
            run.kill()
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_a_full_outbox(mirrored, second_lake, tmp_path):
    """Past the limit the source keeps what follows, which is told; nothing is lost when there is room again."""
    database, first, flow = mirrored
    primary(flow, second_lake, tmp_path, outbox_limit="1MiB")
    flow.run_until_caught_up()
    with Workload(database, seed=7) as load:
        run = flow.start("--json")
        run.wait_for(lambda: commits(run) > 5 and load.committed > 20, 60, "some load")
        with away(second_lake):
            run.wait_for(lambda: "an outbox is full" in run.stderr, 60, "the outbox to be full")
        run.wait_for(lambda: "has room again" in run.stderr, 60, "room")
        assert run.terminate() == 0, run.describe()
    both_whole(database, first, second_lake, flow)


def seen(home, what):
    with home.open() as lake:
        return lake.sql(f"SELECT count(*) FROM lake.public.side WHERE body = '{what}'")[0][0]


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_a_transaction_larger_than_the_outbox(mirrored, second_lake, tmp_path):
    """It goes in whole, and what follows it is not kept back for ever (issue 5, point 9)."""
    database, first, flow = mirrored
    primary(flow, second_lake, tmp_path, outbox_limit="1MiB")
    flow.run_until_caught_up()
    run = flow.start("--json")
    database.sql("INSERT INTO side (body, n) SELECT repeat(md5(i::text), 20), i FROM generate_series(1, 40000) i")
    database.sql("INSERT INTO side (body, n) VALUES ('last', 1)")
    run.wait_for(lambda: seen(first, "last") and seen(second_lake, "last"), 120, "what follows it")
    assert run.terminate() == 0, run.describe()
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
@pytest.mark.parametrize("policy", ["never", "on_retry_exhaustion"])
def test_the_disk_of_an_outbox_is_full(mirrored, second_lake, tmp_path, small_disk, policy):
    """As if its limit was reached: the first destination goes on, also in a run that begins so (issue 5, point 9)."""
    database, first, flow = mirrored
    disk = small_disk("1m")
    primary(flow, second_lake, tmp_path, outbox_dir=str(disk.path / "outbox"), give_up_policy=policy)
    flow.run_until_caught_up()
    told = "an outbox is full" if policy == "never" else "a destination is given up"
    with Workload(database, seed=14) as load:
        run = flow.start("--json")
        with away(second_lake):
            run.wait_for(lambda: told in run.stderr, 60, "a full disk")
            for _ in range(2):
                before, done = load.committed, commits(run)
                run.wait_for(lambda: load.committed > before + 20 and commits(run) > done + 10, 60, "the first destination to go on")
                assert "attempt failed" not in run.stderr or policy != "never", run.describe()
                run.kill()
                run = flow.start("--json")
        if policy == "never":
            run.wait_for(lambda: "has room again" in run.stderr, 60, "room")
        run.kill()
    disk.grow()
    flow.run_until_caught_up()
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_a_secondary_that_stands_still(mirrored, remote_lake, own_server, tmp_path):
    """Its server answers nothing at all: the first destination goes on, and a run that is told to end does (issue 5, point 9)."""
    database, first, flow = mirrored
    primary(flow, remote_lake, tmp_path)
    flow.run_until_caught_up()
    with Workload(database, seed=15) as load:
        run = flow.start("--json")
        run.wait_for(lambda: load.committed > 20 and commits(run) > 5, 60, "some load")
        with own_server.frozen():
            before, done = load.committed, commits(run)
            run.wait_for(lambda: load.committed > before + 50 and commits(run) > done + 10, 60, "the first destination to go on")
            assert run.terminate(40) == 0, run.describe()
    both_whole(database, first, remote_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_copied_again_behind_an_outbox(mirrored, second_lake, tmp_path):
    """A table that has to be copied again, while changes of it wait in an outbox: they come before the copy (issue 5, point 9)."""
    database, first, flow = mirrored
    primary(flow, second_lake, tmp_path)
    flow.run_until_caught_up()
    with Workload(database, seed=5) as load:
        run = flow.start("--json")
        with away(second_lake):
            load_some(load)
            database.sql("ALTER TABLE side ADD COLUMN r float8 DEFAULT random()")
            run.wait_for(lambda: "is copied again" in run.stderr, 60, "the first destination to ask for it")
        load_some(load)
        run.kill()
    both_whole(database, first, second_lake, flow)


def states(run, name):
    """What a run says about destinations that leave the others alone."""
    return [line for line in run.stderr.splitlines() if name in line]


@pytest.fixture
def remote_lake(own_server, tmp_path):
    """A lake whose catalog is on a server of its own, which can be stopped."""
    home = LakeHome(f"postgres:{own_server.database('remote').dsn}", tmp_path / "remote-data")
    yield home
    home.close()


class Beat:
    """RATE changes a second into one table, a transaction of a tenth of it every 100 ms; late ones are made up for."""

    def __init__(self, database, rate):
        self.database, self.rate, self.written = database, rate, 0
        database.sql("CREATE TABLE beat (id bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), filler text)")
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write)

    def _write(self):
        with psycopg.connect(self.database.dsn, autocommit=True) as connection:
            due = time.monotonic()
            while not self._stop.is_set():
                connection.execute(
                    "INSERT INTO beat (filler) SELECT repeat(md5(i::text), 8) FROM generate_series(1, %s) i", (self.rate // 10,)
                )
                self.written += self.rate // 10
                due += 0.1
                self._stop.wait(max(0, due - time.monotonic()))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join()


def lag(database, lake):
    """Seconds until an official client sees in the lake what the source has now."""
    newest, began = database.value("SELECT coalesce(max(id), 0) FROM beat"), time.monotonic()
    wait_until(lambda: (lake.sql("SELECT max(id) FROM lake.public.beat")[0][0] or 0) >= newest, 30, "the first destination")
    return time.monotonic() - began


def watch(database, lake, seconds):
    """Lags of the first destination, and WAL that the slot keeps, over a time."""
    lags, kept, end = [], [], time.monotonic() + seconds
    while time.monotonic() < end:
        lags.append(lag(database, lake))
        kept.append(int(retained(database)))
    return sorted(lags), kept


@pytest.mark.alone
@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
@pytest.mark.parametrize("seconds", [10, pytest.param(60, marks=pytest.mark.long)])
def test_a_secondary_stopped_under_load(mirrored, remote_lake, own_server, tmp_path, seconds):
    """Its server stopped for a minute under 2,000 changes a second: an official client sees each in the primary within a second, the WAL that
    the slot keeps stays flat, afterwards both have the same (issue 5, point 9)."""
    database, first, flow = mirrored
    primary(flow, remote_lake, tmp_path)
    with Beat(database, 2000) as beat:
        flow.run_until_caught_up()
        run = flow.start("--json")
        run.wait_for(lambda: commits(run) > 5, 60, "both to follow")
        with first.open() as lake:
            lag(database, lake)
            own_server.stop()
            began, written = beat.written, database.value("SELECT pg_current_wal_insert_lsn() - '0/0'")
            lags, kept = watch(database, lake, seconds)
            made, wal = beat.written - began, database.value("SELECT pg_current_wal_insert_lsn() - '0/0'") - written
            assert run.running and states(run, "is away")
            own_server.start()
    assert made >= 1900 * seconds, f"{made} changes in {seconds} s are not the load that was asked for"
    assert lags[len(lags) * 95 // 100] < 1, lags[-10:]
    tenth = max(1, len(kept) // 10)
    assert max(kept) < 16 << 20 and max(kept) * 2 < wal, (max(kept), wal)  # the lake's own catalog writes to this WAL, too
    assert sorted(kept[-tenth:])[tenth // 2] < sorted(kept[:tenth])[tenth // 2] + (2 << 20), kept
    assert run.terminate() == 0, run.describe()
    flow.run_until_caught_up()
    for home in (first, remote_lake):
        with home.open() as lake:
            assert_same(database, lake, "public.beat")


# --- policies


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
@pytest.mark.parametrize("why", ["full", "away"])
def test_given_up(mirrored, second_lake, tmp_path, why):
    """give_up_policy on_retry_exhaustion: a secondary whose outbox is full, or that is away for too long, is given up: the others go on, the slot
    moves, it is told; a run that is started later gives it a new copy (issue 5, point 9)."""
    database, first, flow = mirrored
    limits = {"outbox_limit": "4MiB", "give_up_after": "1h"} if why == "full" else {"give_up_after": "2s"}
    primary(flow, second_lake, tmp_path, give_up_policy="on_retry_exhaustion", **limits)
    flow.run_until_caught_up()
    with Workload(database, seed=8) as load:
        run = flow.start("--json")
        run.wait_for(lambda: commits(run) > 5 and load.committed > 20, 60, "some load")
        with away(second_lake):
            run.wait_for(lambda: "a destination is given up" in run.stderr, 60, "the second to be given up")
            reason = "its outbox is full" if why == "full" else "it has been away for too long"
            assert reason in run.stderr
            assert not list((tmp_path / "outbox").rglob("*.out"))
            before, done = load.committed, commits(run)
            run.wait_for(lambda: load.committed > before + 100 and commits(run) > done + 10, 60, "the first to go on")
            wait_confirmed(run, database)
            run.kill()
            run = flow.start("--json")  # while it is away it stays given up
            run.wait_for(lambda: commits(run) > 10, 60, "the first to go on")
            assert "a destination was given up" in run.stderr
            run.terminate()
    flow.run_until_caught_up()  # without the load, which may fill so small an outbox again
    assert not list((tmp_path / "outbox").rglob("given-up"))
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_the_outbox_is_gone(mirrored, second_lake, tmp_path):
    """What messages about an outbox advise: without its folder the destination gets a new copy, as the source has no more what it
    lacks (issue 5, point 9)."""
    database, first, flow = mirrored
    left_behind(mirrored, second_lake, tmp_path)
    shutil.rmtree(tmp_path / "outbox")
    run = flow.run_until_caught_up()
    assert "a destination gets a new copy" in run.stderr
    both_whole(database, first, second_lake, flow)


def left_behind(mirrored, second_lake, tmp_path, **config):
    """The second destination lacks what is in its outbox only."""
    database, _, flow = mirrored
    primary(flow, second_lake, tmp_path, **config)
    flow.run_until_caught_up()
    with Workload(database, seed=9) as load:
        run = flow.start("--json")
        run.wait_for(lambda: load.committed > 20 and commits(run) > 5, 60, "some load")
        with away(second_lake):
            before = load.committed
            run.wait_for(lambda: load.committed > before + 100, 60, "more load")
            wait_confirmed(run, database)
            assert run.terminate() == 0, run.describe()
    outboxes = list((tmp_path / "outbox").rglob("*.out"))
    assert outboxes
    return sorted(outboxes)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
@pytest.mark.parametrize("where", ["inside", pytest.param("end", marks=pytest.mark.long)])
def test_a_damaged_outbox(mirrored, second_lake, tmp_path, where):
    """It is noticed before anything of it is used, and the advice is true; at the end, where it cannot be told from what a crash leaves, it is
    missed at the source, and a new copy mends it (issue 5, point 9)."""
    database, first, flow = mirrored
    segment = left_behind(mirrored, second_lake, tmp_path)[0]
    if where == "inside":  # a run that has nothing to add begins a segment
        with away(second_lake):
            flow.run_until_caught_up()
    with open(segment, "r+b") as file:
        file.seek(2000)
        file.write(b"damage")
    run = flow.start("--until-caught-up")
    if where == "inside":
        run.expect(3)
        assert "is damaged at byte" in run.stderr and "remove the folder" in run.stderr
        shutil.rmtree(segment.parent)
        run = flow.start("--until-caught-up")
    run.expect(0)
    assert "a destination gets a new copy" in run.stderr
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_an_outbox_of_another_source(mirrored, second_lake, tmp_path, make_flow):
    """One that a flow of these names and another slot has left is put aside (issue 5, point 9)."""
    database, first, flow = mirrored
    homes = [LakeHome(f"sqlite:{tmp_path}/else-{n}.sqlite", tmp_path / f"else-{n}") for n in (1, 2)]
    other = make_flow(database, homes[0], source={"slot": "else"})
    primary(other, homes[1], tmp_path)
    other.run_until_caught_up()
    foreign = next((tmp_path / "outbox").rglob("*.out")).parent
    primary(flow, second_lake, tmp_path)
    flow.run_until_caught_up()  # its first copy: what there was is of no use
    shutil.rmtree(foreign)
    other.run_until_caught_up()
    run = flow.run_until_caught_up()
    assert "an outbox is of another source" in run.stderr and list(foreign.parent.glob("second.foreign-*"))
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
@pytest.mark.parametrize("change", ["all", "primary"])
def test_no_more_behind(mirrored, second_lake, tmp_path, change):
    """ack_policy all, or another primary_destination, while an outbox has something in it: that comes first; and back again with what was
    the primary behind (issue 5, point 9)."""
    database, first, flow = mirrored
    left_behind(mirrored, second_lake, tmp_path)
    config = flow.content["config"]
    with Workload(database, seed=10) as load:
        config.update({"ack_policy": "all"} if change == "all" else {"primary_destination": "second"})
        flow.write()
        run = flow.start("--json")
        run.wait_for(lambda: "needs none any more" in run.stderr, 60, "the outbox to be empty")
        run.wait_for(lambda: commits(run) > 20, 60, "both to follow")
        run.kill()
        config.update({"ack_policy": "primary", "primary_destination": "lake"})
        flow.write()
        before = load.committed
        run = flow.start("--json")
        run.wait_for(lambda: load.committed > before + 50 and commits(run) > 10, 60, "both to follow")
        assert run.terminate() == 0, run.describe()
    both_whole(database, first, second_lake, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_policies_change_with_a_full_outbox(mirrored, second_lake, tmp_path):
    """primary, full, then all, then primary again, killed at each step (issue 5, point 9)."""
    database, first, flow = mirrored
    primary(flow, second_lake, tmp_path, outbox_limit="1MiB")
    flow.run_until_caught_up()
    with Workload(database, seed=11) as load:
        run = flow.start("--json")
        with away(second_lake):
            run.wait_for(lambda: "an outbox is full" in run.stderr, 60, "the outbox to be full")
            run.kill()
        for policy in ("all", "primary", "all"):
            flow.content["config"]["ack_policy"] = policy
            flow.write()
            before = load.committed
            run = flow.start("--json")
            run.wait_for(lambda: load.committed > before + 20 and commits(run) > 2, 60, "some load")
            run.kill()
    both_whole(database, first, second_lake, flow)


# --- joining


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
@pytest.mark.parametrize("policy", ["all", "primary"])
@pytest.mark.parametrize(
    "point", ["copy-begun", pytest.param("file-synced", marks=pytest.mark.long), "commit-begin", pytest.param("commit-done", marks=pytest.mark.long)]
)
def test_killed_while_it_joins(mirrored, second_lake, tmp_path, point, policy):
    """During its copy, at the commit that publishes it, at its first commits: the next runs bring it to the same, and the others are not
    copied again; the writer never stops (issue 5, point 9)."""
    database, first, flow = mirrored
    with Workload(database, seed=12) as load:
        load_some(load)
        primary(flow, second_lake, tmp_path) if policy == "primary" else add(flow, second_lake)
        for n in (1, 2):
            run = flow.start("--json", env={"DUCT_KILL_POINT": f"{point}:{n}"})
            wait_until(lambda: not run.running or commits(run) > 30, 60, "its end, or a stream: a point may be passed less often")
            assert run.kill() == KILLED, run.describe()
            assert n > 1 or not commits(run) > 30, f"{point} was not passed"
        with first.open() as lake:
            copies = [s for s in lake.snapshots() if "copy" in str(s["commit_message"])]
        assert len(copies) == 1, copies
    both_whole(database, first, second_lake, flow)


def load_some(load):
    before = load.committed
    wait_until(lambda: load.committed > before + 30, 60, "some load")


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_added_while_another_is_removed(mirrored, second_lake, tmp_path):
    """One leaves and one comes in the same change of the flow; the one that left comes back later and gets what it lacks by a new copy or the
    stream (issue 5, point 9)."""
    database, first, flow = mirrored
    primary(flow, second_lake, tmp_path)
    flow.run_until_caught_up()
    third = LakeHome(f"sqlite:{tmp_path}/third.sqlite", tmp_path / "third-data")
    with Workload(database, seed=13) as load:
        load_some(load)
        second = flow.content["destinations"].pop()
        add(flow, third, "third")
        run = flow.start("--json")
        run.wait_for(lambda: commits(run) > 20, 60, "both to follow")
        run.kill()
        flow.content["destinations"].append(second)
        flow.write()
        load_some(load)
        run = flow.start("--json")
        run.wait_for(lambda: commits(run) > 20, 60, "three to follow")
        assert run.terminate() == 0, run.describe()
    both_whole(database, first, third, flow)
    with second_lake.open() as lake:
        assert_same(database, lake, "public.left_account", "public.right_account", "public.side")
    third.close()
