"""Orderly stops under load, and servers that go away and come back: nothing is lost, and nobody has to restart us."""

import os
import signal
import time

import psycopg
import pytest

from lib.flow import EXIT_CANCELLED, EXIT_DONE
from lib.lake import LakeHome
from lib.pg import Postgres
from lib.wait import wait_until
from lib.workload import SCHEMA, Workload, assert_whole

FAST = {"flush_interval": "20ms"}
TALKATIVE = {"status_interval": "200ms"}  # what is durable is confirmed soon


class Restless(Workload):
    """A workload that outlives its server: it connects again. A transaction whose end it did not see may have happened."""

    def _run(self):
        while not self._stop.is_set():
            try:
                with psycopg.connect(self.database.dsn) as connection:
                    self.work(connection)
            except psycopg.OperationalError:
                self._stop.wait(0.1)
            except Exception as error:  # raised again by stop()
                self.error = error
                return


def wait_progress(run, load, more=40):
    wanted = load.committed + more
    run.wait_for(lambda: load.committed >= wanted, 60, "load")


def start_streaming(flow, database):
    """A run that reads its slot: from then on a signal is ours to handle."""
    run = flow.start()
    query = "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'shop' AND active"
    run.wait_for(lambda: database.query(query), 60, "the flow to stream")
    return run


def wait_caught_up(run, database, timeout_s=90):
    """The slot has confirmed everything up to now."""
    lsn = database.server.lsn()
    query = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = 'shop' AND confirmed_flush_lsn >= '{lsn}'"
    run.wait_for(lambda: database.query(query), timeout_s, "the flow to confirm what there is")


def wait_received(run, database):
    """It has read the stream up to now, or has given up an attempt to commit."""
    lsn = database.server.lsn()
    query = f"""SELECT 1 FROM pg_replication_slots s JOIN pg_stat_replication r ON r.pid = s.active_pid
        WHERE slot_name = 'shop' AND write_lsn >= '{lsn}'"""
    run.wait_for(lambda: "attempt failed" in run.stderr or database.query(query), 60, "the flow to read what there is")


def test_first_signal_drains(mirrored):
    """What was received whole is committed and confirmed; the exit code says so, within seconds."""
    database, lake_home, flow = mirrored
    for seed in (1, 2, 3):
        with Workload(database, seed=seed) as load:
            run = start_streaming(flow, database)
            wait_progress(run, load)
            began = time.monotonic()
            assert run.terminate(20) == EXIT_DONE, run.describe()
            assert time.monotonic() - began < 10
    assert_whole(database, lake_home, flow)


def test_second_signal_aborts(mirrored):
    database, lake_home, flow = mirrored
    with Workload(database, seed=4) as load:
        for _ in range(4):
            run = start_streaming(flow, database)
            wait_progress(run, load, 15)
            run.signal(signal.SIGTERM)
            run.signal(signal.SIGINT)
            assert run.wait(20) in (EXIT_DONE, EXIT_CANCELLED), run.describe()
    assert_whole(database, lake_home, flow)


def test_caught_up_does_not_wait_for_the_interval(mirrored):
    """Rows that come after the first commit would wait an hour; the end of the run commits them."""
    database, lake_home, flow = mirrored
    flow.content["destinations"][0]["options"]["flush_interval"] = "1h"
    flow.write()
    for seed in range(8):
        with Workload(database, seed=seed) as load:
            wait_until(lambda: load.committed > 20, 30, "load")
            flow.run_until_caught_up(timeout_s=20)
    assert_whole(database, lake_home, flow)


@pytest.fixture
def alone(own_server, lake_home, make_flow):
    """A copied flow on a server of the test's own, which holds the source only."""
    database = own_server.database("shop")
    database.sql(SCHEMA)
    flow = make_flow(database, lake_home, source=TALKATIVE, destination=FAST)
    flow.run_until_caught_up()
    return database, lake_home, flow


@pytest.mark.parametrize("lake_home", ["sqlite"], indirect=True)
def test_source_is_killed_and_comes_back(alone):
    database, lake_home, flow = alone
    server = database.server
    with Restless(database, seed=5) as load:
        run = flow.start()
        for _ in range(2):
            wait_progress(run, load)
            server.kill()
            server.start()
        wait_progress(run, load)
        wait_caught_up(run, database)
    assert run.terminate() == EXIT_DONE, run.describe()
    assert_whole(database, lake_home, flow)


@pytest.mark.parametrize("lake_home", ["sqlite"], indirect=True)
def test_source_stops_in_order_and_comes_back(alone):
    """Its walsender wants everything to be confirmed before it lets the server end."""
    database, lake_home, flow = alone
    flow.content["source"]["options"]["status_interval"] = "1h"  # nobody but the server asks
    flow.write()
    with Restless(database, seed=6) as load:
        run = start_streaming(flow, database)
        wait_progress(run, load)
        began = time.monotonic()
        database.server.restart()
        assert time.monotonic() - began < 30, "the server had to wait for us"  # it would for a minute (wal_sender_timeout)
        wait_progress(run, load)
    assert run.terminate() == EXIT_DONE, run.describe()
    assert_whole(database, lake_home, flow)


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_catalog_goes_and_comes_back(how, database, make_flow, tmp_path):
    with Postgres() as catalog:
        home = LakeHome(f"postgres:{catalog.database('lake').dsn}", tmp_path / "data")
        database.sql(SCHEMA)
        flow = make_flow(database, home, source=TALKATIVE, destination=FAST)
        flow.run_until_caught_up()
        with Workload(database, seed=7) as load:
            run = flow.start()
            for _ in range(2):
                wait_progress(run, load)
                getattr(catalog, how)()
                wait_progress(run, load)
                catalog.start()
            wait_progress(run, load)
            wait_caught_up(run, database)
        assert run.terminate() == EXIT_DONE, run.describe()
        assert_whole(database, home, flow)
        home.close()


def test_stop_while_the_catalog_is_away(database, make_flow, tmp_path):
    """Nothing can be committed: it says that it was not, and the next run does. Nothing is lost, so this is no failure."""
    with Postgres() as catalog:
        home = LakeHome(f"postgres:{catalog.database('lake').dsn}", tmp_path / "data")
        database.sql(SCHEMA)
        flow = make_flow(database, home, source=TALKATIVE, destination=FAST)
        flow.run_until_caught_up()
        with Workload(database, seed=8) as load:
            run = start_streaming(flow, database)
            wait_progress(run, load)
            catalog.kill()
            wait_progress(run, load)
            wait_received(run, database)
            code = run.terminate(30)
        # Between two attempts it has nothing in its hands.
        assert code == EXIT_DONE and ("not durable" in run.stderr or "attempt failed" in run.stderr), run.describe()
        catalog.start()
        assert_whole(database, home, flow)
        home.close()


@pytest.mark.parametrize("lake_home", ["sqlite"], indirect=True)
def test_walsender_stands_still(mirrored):
    database, lake_home, flow = mirrored
    with Workload(database, seed=9) as load:
        run = start_streaming(flow, database)
        wait_progress(run, load)
        (pid,) = [pid for (pid,) in database.query(
            "SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'shop' AND active"
        )]
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_progress(run, load)
        finally:
            os.kill(pid, signal.SIGCONT)
        wait_caught_up(run, database)
        # It stands still again while we are told to end: the drain may not wait for it.
        os.kill(pid, signal.SIGSTOP)
        try:
            assert run.terminate(20) == EXIT_DONE, run.describe()
        finally:
            os.kill(pid, signal.SIGCONT)
    held = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = 'shop' AND active AND database = '{database.name}'"
    wait_until(lambda: not database.query(held), 30, "the slot to be released")
    assert_whole(database, lake_home, flow)
