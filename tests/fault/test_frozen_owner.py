"""An owner that stands still while another one takes over: it is fenced, and nothing of it is ever committed."""

import signal
import sqlite3

import psycopg
import pytest

from lib.compare import assert_same
from lib.flow import EXIT_FATAL
from lib.pause import Pause, freeze
from lib.wait import wait_until
from lib.workload import TABLES, Workload, assert_whole

FENCED = "was taken over by another process (fenced: epoch"


def second_flow(make_flow, database, lake_home, tmp_path):
    """The same flow, as another machine would start it: with a key index of its own."""
    options = {"flush_interval": "20ms", "index_dir": str(tmp_path / "index-2")}
    return make_flow(database, lake_home, destination=options)


def free_slot(database):
    """What an operator does when the slot is still held by the frozen one.

    Asked again until it is free: a sender that is told to end while its client reads nothing waits in the write of its
    own farewell, and only the next request gets it out of there.
    """
    held = "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'shop' AND active"

    def is_free():
        return not database.query(f"SELECT pg_terminate_backend(active_pid) FROM ({held}) AS held")

    wait_until(is_free, 30, "the slot to be released", 0.1)


def commits_of(lake_home):
    """(epoch, seq, lsn) of the flow's row."""
    kind, _, rest = lake_home.catalog.partition(":")
    query = "SELECT epoch, seq, lsn FROM ductstream_checkpoint WHERE flow = 'shop'"
    if kind == "sqlite":
        with sqlite3.connect(rest, timeout=30) as connection:
            rows = connection.execute(query).fetchall()
        connection.close()
        return rows[0]

    with psycopg.connect(rest, autocommit=True) as connection:
        return connection.execute(query).fetchone()


def expect_fenced(run):
    run.expect(EXIT_FATAL, 60)
    assert FENCED in run.stderr, run.describe()


def check_takeover(database, lake_home, first, second_of):
    """FIRST stands still and is let go by `second_of`'s caller afterwards."""
    free_slot(database)
    with Workload(database, seed=2) as load:
        second = second_of()
        before = load.committed
        second.wait_for(lambda: load.committed > before + 50, 60, "load")
        seq = commits_of(lake_home)[1]
        second.wait_for(lambda: commits_of(lake_home)[1] > seq + 3, 60, "the second owner to commit")
        epoch = commits_of(lake_home)[0]
        yield second
        expect_fenced(first)
        seq = commits_of(lake_home)[1]
        second.wait_for(lambda: commits_of(lake_home)[1] > seq + 3, 60, "the second owner to go on")
        assert commits_of(lake_home)[0] == epoch, "the frozen owner took over again"
    assert second.terminate() == 0, second.describe()


def test_frozen_under_load(mirrored, make_flow, tmp_path):
    database, lake_home, flow = mirrored
    other = second_flow(make_flow, database, lake_home, tmp_path)
    first = flow.start()
    with Workload(database, seed=1):
        seq = commits_of(lake_home)[1]
        first.wait_for(lambda: commits_of(lake_home)[1] > seq + 5, 60, "the first owner to commit")
        freeze(first, lake_home.sqlite_path)
    for _ in check_takeover(database, lake_home, first, other.start):
        first.signal(signal.SIGCONT)
    assert_whole(database, lake_home, other)


@pytest.mark.parametrize("point", ("commit-planned", "file-written", "commit-done"))
def test_frozen_at(point, mirrored, make_flow, tmp_path):
    """The moments in which it has something in its hands."""
    database, lake_home, flow = mirrored
    other = second_flow(make_flow, database, lake_home, tmp_path)
    if point == "file-written":  # small commits need no file otherwise
        flow.set_destination(inline_rows=0)
    pause = Pause(tmp_path, point, 4)
    with Workload(database, seed=1):
        first = flow.start(env=pause.env)
        pause.wait(first)
    for _ in check_takeover(database, lake_home, first, other.start):
        pause.release()
    assert_whole(database, lake_home, other)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_frozen_before_the_rows_of_its_commit(mirrored, make_flow, tmp_path):
    """Its server process waits for the rows of a COPY, inside the transaction, with all locks of a commit; nothing of the server's ends that."""
    database, lake_home, flow = mirrored
    other = second_flow(make_flow, database, lake_home, tmp_path)
    pause = Pause(tmp_path, "commit-sent")
    first = flow.start(env=pause.env)
    database.sql("INSERT INTO side (body, n) SELECT md5(i::text), i FROM generate_series(1, 100) i")
    pause.wait(first)
    for _ in check_takeover(database, lake_home, first, other.start):
        pause.release()
    assert_whole(database, lake_home, other)


def test_late_owner_does_not_take_over_again(mirrored, make_flow, tmp_path):
    """Its connection breaks first and it wants to try again: it must see that it was replaced."""
    database, lake_home, flow = mirrored
    first = flow.start()
    database.sql("INSERT INTO side (body, n) VALUES ('a', 1)")
    seq = commits_of(lake_home)[1]
    first.wait_for(lambda: commits_of(lake_home)[1] > seq, 60, "a commit")
    freeze(first, lake_home.sqlite_path)
    other = second_flow(make_flow, database, lake_home, tmp_path)
    free_slot(database)
    other.run_until_caught_up()
    first.signal(signal.SIGCONT)
    expect_fenced(first)
    other.run_until_caught_up()
    with lake_home.open() as lake:
        assert_same(database, lake, *(f"public.{table}" for table in TABLES))
