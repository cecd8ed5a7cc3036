"""One slot, several destinations, each with a position of its own, under a load that never stops (issue 5, point 9)."""

import contextlib
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


def add(flow, home):
    """One more destination for the runs that follow."""
    options = {"catalog": home.catalog, "data_path": str(home.data_path), "flush_interval": "50ms"}
    flow.content["destinations"].append({"name": "second", "type": "ducklake", "options": options})
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
def test_a_destination_that_is_away_holds_all(mirrored, second_lake):
    """ack_policy all: what one does not take is not confirmed to the source; nothing is lost when it is there again."""
    database, first, flow = mirrored
    add(flow, second_lake)
    flow.run_until_caught_up()
    with Workload(database, seed=3) as load:
        run = flow.start()
        run.wait_for(lambda: load.committed > 20, 60, "some load")
        with away(second_lake):
            before, kept = load.committed, retained(database)
            run.wait_for(lambda: load.committed > before + 300, 60, "more load")
            assert retained(database) > kept
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
        run = flow.start()
        run.wait_for(lambda: load.committed > 20, 60, "some load")
        with away(second_lake):
            before = load.committed
            run.wait_for(lambda: load.committed > before + 300, 60, "more load")
            run.wait_for(lambda: retained(database) < 1 << 20, 60, "the slot to be confirmed")
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


@pytest.mark.long
@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_sixty_seconds_away(mirrored, second_lake, tmp_path):
    """2,000 changes a second: while the second destination is away for a minute the first one is less than a second behind, and the slot's
    WAL stays flat; afterwards both have the same."""
    database, first, flow = mirrored
    database.sql("CREATE TABLE beat (id bigserial PRIMARY KEY, at timestamptz DEFAULT clock_timestamp(), filler text)")
    primary(flow, second_lake, tmp_path)
    flow.run_until_caught_up()
    stop, lags, kept = threading.Event(), [], []

    def write():
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            due = time.monotonic()
            while not stop.is_set():
                connection.execute("INSERT INTO beat (filler) SELECT md5(i::text) FROM generate_series(1, 200) i")
                due += 0.1
                stop.wait(max(0, due - time.monotonic()))

    writer = threading.Thread(target=write)
    run = flow.start()
    writer.start()
    try:
        with first.open() as lake, away(second_lake):
            end = time.monotonic() + 60
            while time.monotonic() < end:
                newest = database.value("SELECT max(id) FROM beat")
                began = time.monotonic()
                wait_until(lambda: lake.sql("SELECT max(id) FROM lake.public.beat")[0][0] >= newest, 10, "the first destination")
                lags.append(time.monotonic() - began)
                kept.append(retained(database))
    finally:
        stop.set()
        writer.join()
    assert run.terminate() == 0, run.describe()
    assert sorted(lags)[len(lags) * 99 // 100] < 1, sorted(lags)[-5:]
    assert max(kept[len(kept) // 2 :]) < 4 << 20, kept
    flow.run_until_caught_up()
    for home in (first, second_lake):
        with home.open() as lake:
            assert_same(database, lake, "public.beat")
