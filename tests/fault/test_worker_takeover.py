"""Workers that die or stand still: another one takes over in seconds, and nothing is lost or doubled (issue 5, point 4)."""

import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from datetime import datetime

import pytest

from lib.paths import program
from lib.pause import freeze
from lib.service import Lake, Service, flow_message
from lib.wait import wait_until


@pytest.fixture
def service(tmp_path):
    with Service(tmp_path / "service") as running:
        yield running


@pytest.fixture
def lake(database, sqlite_lake, service):
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 10) i")
    options = {"flush_interval": "20ms", "index_dir": "${INDEX:-index}"}
    service.call("CreateFlow", flow=flow_message(database, sqlite_lake, destination=options))
    opened = Lake(database, sqlite_lake)
    yield opened
    opened.close()


def fence(service):
    with closing(sqlite3.connect(service.state, timeout=10)) as connection:
        return connection.execute("SELECT fence FROM leases WHERE name = 'flow/shop'").fetchone()[0]


def test_killed(service, database, lake):
    first = service.worker("shop")
    lake.wait_count(10, of=first)
    owner = fence(service)
    database.sql("INSERT INTO t SELECT i, 'v' FROM generate_series(11, 500) i")
    first.kill()
    started = time.monotonic()
    second = service.worker("shop")
    second.wait_for(lambda: fence(service) > owner, 30, "the second worker to take over")
    assert time.monotonic() - started < 25  # a lease ends 10 s after its last renewal
    database.sql("INSERT INTO t VALUES (501, 'v')")
    lake.wait_count(501, of=second)
    lake.same()
    assert second.terminate() == 0


def test_frozen_and_woken(service, database, lake, sqlite_lake):
    """Two machines, each with its own key index."""
    first = service.worker("shop", env={"DUCTSTREAM_HOST": "one", "INDEX": "index-1"})
    lake.wait_count(10, of=first)
    owner = fence(service)
    freeze(first, service.state, sqlite_lake.sqlite_path)
    database.sql("INSERT INTO t SELECT i, 'while it stood still' FROM generate_series(11, 20) i")
    second = service.worker("shop", env={"DUCTSTREAM_HOST": "two", "INDEX": "index-2"})
    second.wait_for(lambda: fence(service) > owner, 30, "the second worker to take over")
    lake.wait_count(20, of=second)
    first.signal(signal.SIGCONT)
    database.sql("UPDATE t SET v = 'after it woke'")
    message = first.expect(4, 30)
    assert "was lost: another worker may run it" in message
    database.sql("INSERT INTO t VALUES (21, 'v')")
    lake.wait_count(21, of=second)
    lake.same()
    assert service.state_of("shop") == "running", "the late owner said something about the flow"
    assert second.terminate() == 0


def test_frozen_on_the_same_machine(service, database, lake, sqlite_lake):
    """It would hold the key index for ever, so it is ended; a process that only looks like it is not."""
    first = service.worker("shop")
    lake.wait_count(10, of=first)
    freeze(first, service.state, sqlite_lake.sqlite_path)
    second = service.worker("shop")
    assert first.wait(30) == -signal.SIGKILL
    database.sql("INSERT INTO t SELECT i, 'v' FROM generate_series(11, 20) i")
    lake.wait_count(20, of=second)
    lake.same()
    assert "has lost its lease and is still here" in second.stderr
    assert second.terminate() == 0


def test_dispatch_restarts_a_killed_worker(tmp_path, database, sqlite_lake):
    """DUCTSTREAM_DISPATCH=local: the server keeps one worker per running flow."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 10) i")
    opened = Lake(database, sqlite_lake)
    with Service(tmp_path / "service", DISPATCH="local") as service:
        service.call("CreateFlow", flow=flow_message(database, sqlite_lake), start_immediately=True)
        opened.wait_count(10)

        def pids():
            return [line["pid"] for line in service.server.events("worker started")]

        assert len(pids()) == 1
        assert service.call("RunFlowOnce", flow_id="shop").dispatched
        os.kill(pids()[0], signal.SIGKILL)
        wait_until(lambda: len(pids()) > 1, 30, "another worker")
        (crashed,) = service.server.events("worker ended")
        assert (crashed["level"], crashed["code"], crashed["pause_ms"]) == ("warn", -signal.SIGKILL, 200)
        database.sql("INSERT INTO t VALUES (11, 'v')")
        opened.wait_count(11)
        opened.same()
        # Paused: it ends, and none is started.
        service.call("PauseFlow", flow_id="shop")
        wait_until(lambda: len(service.server.events("worker ended")) == len(pids()), 30, "the worker to end")
        assert service.fails("RunFlowOnce", flow_id="shop")[0] == "FAILED_PRECONDITION"
        count = len(pids())
        service.call("ResumeFlow", flow_id="shop")
        wait_until(lambda: len(pids()) > count, 10, "a worker again")
        database.sql("INSERT INTO t VALUES (12, 'v')")
        opened.wait_count(12)
        # The server ends: its workers with it, in order, and the flow stays running for the next server.
        assert service.server.stop(timeout_s=40) == 0
        last = pids()[-1]
        with pytest.raises(ProcessLookupError):
            os.kill(last, 0)
        assert service.server.events("worker ended")[-1]["code"] == 0
        service.server = None
        service.start()
        database.sql("INSERT INTO t VALUES (13, 'v')")
        opened.wait_count(13)
        # The server is killed: its workers do not stay behind.
        last = pids()[-1]
        service.server.kill()
        wait_until(lambda: not os.path.exists(f"/proc/{last}"), 30, "the worker to end with the server")
    opened.close()


def test_a_server_that_was_killed_while_it_had_paused_a_flow(tmp_path, database, sqlite_lake):
    """Inside ReconfigureFlow: the next server's worker waits for whoever may still be at it, a minute after the pause, and then goes on."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'v')")
    opened = Lake(database, sqlite_lake)
    with Service(tmp_path / "service", DISPATCH="local") as service:
        service.call("CreateFlow", flow=flow_message(database, sqlite_lake, destination={"flush_interval": "20ms"}), start_immediately=True)
        opened.wait_count(1)
        service.call("PauseFlow", flow_id="shop", for_a_moment=True)
        service.server.kill()
        service.start()
        wait_until(lambda: service.server.events("the flow is paused for a moment"), 30, "a worker to wait")
        assert service.state_of("shop") == "paused"
        with closing(sqlite3.connect(service.state, timeout=30)) as state, state:
            state.execute("UPDATE flows SET updated_us = updated_us - 60000000")
        service.wait_state("shop", "running")
        assert "did not resume it" in service.call("GetFlow", flow_id="shop").reason
        database.sql("INSERT INTO t VALUES (2, 'v')")
        opened.wait_count(2)
        opened.same()
    opened.close()


def test_two_servers_on_one_state(tmp_path, server, database, sqlite_lake):
    """Both keep workers: one of them has the flow, the other one does not try it again and again, and takes over in seconds."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'v')")
    opened, state = Lake(database, sqlite_lake), server.database(database.name + "_state")
    settings = {"POSTGRES_DSN": state.dsn, "SECRET_KEY": "ab" * 32, "DISPATCH": "local"}
    with Service(tmp_path / "one", **settings) as one, Service(tmp_path / "two", **settings) as two:
        two.call("CreateFlow", flow=flow_message(database, sqlite_lake), start_immediately=True)
        opened.wait_count(1)
        owner, other = (one, two)
        wait_until(lambda: owner.server.events("worker ended") or other.server.events("worker ended"), 20, "one of them to be refused")
        if owner.server.events("worker ended"):
            owner, other = two, one
        (ended,) = other.server.events("worker ended")
        assert ended["code"] == 4
        renewed = "SELECT expires_us FROM ductstream.leases WHERE name = 'flow/shop'"
        before = state.value(renewed)
        wait_until(lambda: state.value(renewed) > before + 4_000_000, 20, "two renewals of the lease")
        assert len(other.server.events("worker started")) == 1 and not owner.server.events("worker ended")
        owner.server.kill()
        started = time.monotonic()
        database.sql("INSERT INTO t VALUES (2, 'v')")
        opened.wait_count(2)
        assert time.monotonic() - started < 40  # the same, a look of the other server, and a worker's start
        opened.same()
        other.call("StopFlow", flow_id="shop")
        wait_until(lambda: len(other.server.events("worker ended")) == 2, 30, "its worker to end")
    opened.close()
    state.drop()


def test_a_worker_that_crashes_at_once_is_started_less_and_less_often(tmp_path, monkeypatch):
    """The pause doubles from 0.2 s, and every end is told."""
    programs = tmp_path / "bin"
    programs.mkdir()
    shutil.copy(program(), programs)
    (programs / "ductstream-worker").write_text("#!/bin/sh\nkill -SEGV $$\n")
    (programs / "ductstream-worker").chmod(0o755)
    monkeypatch.setenv("DUCT_BIN", str(programs))
    source = {"type": 1, "options": {"dsn": "host=none", "slot": "s", "publication": "p"}}
    lake = {"name": "lake", "type": 14, "options": {"catalog": "sqlite:lake.sqlite", "data_path": "data"}}
    with Service(tmp_path / "service", DISPATCH="local") as service:
        service.call("CreateFlow", flow={"id": "shop", "source": source, "destinations": [lake]}, start_immediately=True)
        wait_until(lambda: len(service.server.events("worker ended")) >= 4, 20, "four crashes")
        ended = service.server.events("worker ended")[:4]
        assert [(e["level"], e["code"], e["pause_ms"]) for e in ended] == [("warn", -signal.SIGSEGV, 200 * 2**n) for n in range(4)]
        started = [datetime.fromisoformat(e["time"]) for e in service.server.events("worker started")[:4]]
        assert all((b - a).total_seconds() >= 0.19 * 2**n for n, (a, b) in enumerate(zip(started, started[1:])))
        assert service.state_of("shop") == "running"


def test_a_worker_that_cannot_be_started_is_tried_less_and_less_often(tmp_path, monkeypatch):
    """The machine has no room for another process: the server tries again after pauses that double, and stays."""
    programs = tmp_path / "bin"
    programs.mkdir()
    refuse = "-e trace=clone -e inject=clone:error=EAGAIN"  # threads are begun by clone3
    (programs / "ductstream").write_text(f'#!/bin/sh\nexec strace -D -f -qq -o {tmp_path}/trace {refuse} {program()} "$@"\n')
    (programs / "ductstream").chmod(0o755)
    monkeypatch.setenv("DUCT_BIN", str(programs))
    source = {"type": 1, "options": {"dsn": "host=none", "slot": "s", "publication": "p"}}
    lake = {"name": "lake", "type": 14, "options": {"catalog": "sqlite:lake.sqlite", "data_path": "data"}}
    with Service(tmp_path / "service", DISPATCH="local") as service:
        service.call("CreateFlow", flow={"id": "shop", "source": source, "destinations": [lake]}, start_immediately=True)
        refused = lambda: service.server.events("a worker cannot be started")  # noqa: E731
        wait_until(lambda: len(refused()) >= 4, 20, "four attempts")
        at = [datetime.fromisoformat(e["time"]) for e in refused()[:4]]
        assert all((b - a).total_seconds() >= 0.19 * 2**n for n, (a, b) in enumerate(zip(at, at[1:])))
        assert service.state_of("shop") == "running"


@pytest.mark.long
def test_a_server_ends_although_a_worker_stands_still(tmp_path, database, sqlite_lake):
    """Told to end, waited for, killed: 20 s at most."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'v')")
    opened = Lake(database, sqlite_lake)
    with Service(tmp_path / "service", DISPATCH="local") as service:
        service.call("CreateFlow", flow=flow_message(database, sqlite_lake), start_immediately=True)
        opened.wait_count(1)
        (started,) = service.server.events("worker started")
        os.kill(started["pid"], signal.SIGSTOP)
        begun = time.monotonic()
        assert service.server.stop(timeout_s=60) == 0
        assert 15 < time.monotonic() - begun < 40
        assert service.server.events("workers did not end in time and are killed")
        assert not os.path.exists(f"/proc/{started['pid']}")
    opened.close()
