"""The state goes away while runs are under way (issue 5, point 5): nothing is lost, workers go on by themselves."""

import time

import pytest
from lib.runs import Runs
from lib.wait import wait_until


@pytest.mark.timeout(180)
def test_workers_outlive_a_restart_of_the_state(own_server, tmp_path):
    """Postgres is killed and comes back: a run that ended meanwhile is written down, others are done, each once."""
    own_server.sql("CREATE DATABASE state")
    env = {"DUCTSTREAM_POSTGRES_DSN": own_server.dsn("state"), "DUCTSTREAM_RUN_COMMANDS": "true", "DUCTSTREAM_RUN_LEASE": "30s"}
    runs = Runs(tmp_path, env)
    try:
        worker = runs.worker()
        tally, began = tmp_path / "tally", tmp_path / "began"
        script = f"touch {began}; sleep 2; echo one >> {tally}"
        run_id = runs.submit("command", {"argv": ["/bin/sh", "-c", script]})
        wait_until(began.exists, 20, "the program to begin")
        own_server.kill()
        wait_until(lambda: tally.exists(), 20, "the program to end")
        own_server.start()
        run = runs.wait(run_id, timeout_s=60)
        assert (run["state"], run["attempt"]) == ("succeeded", 1)
        assert tally.read_text() == "one\n"
        more = [runs.submit("command", {"argv": ["/bin/true"]}) for _ in range(5)]
        assert all(runs.wait(each)["state"] == "succeeded" for each in more)
        assert worker.poll() is None
    finally:
        runs.close()


@pytest.mark.timeout(180)
def test_a_state_that_refuses_for_a_moment(own_server, tmp_path):
    """The role loses its rights while a run ends, and has them again within the lease: it is not done a second time."""
    own_server.sql("CREATE DATABASE state")
    own_server.sql("CREATE ROLE worker LOGIN; GRANT CREATE ON DATABASE state TO worker")
    dsn = f"host={own_server.folder} dbname=state user=worker"
    runs = Runs(tmp_path, {"DUCTSTREAM_POSTGRES_DSN": dsn, "DUCTSTREAM_RUN_COMMANDS": "true", "DUCTSTREAM_RUN_LEASE": "20s"})
    try:
        runs.worker()
        tally, began = tmp_path / "tally", tmp_path / "began"
        run_id = runs.submit("command", {"argv": ["/bin/sh", "-c", f"touch {began}; sleep 1; echo one >> {tally}"]})
        wait_until(began.exists, 20, "the program to begin")
        own_server.sql("ALTER SCHEMA ductstream OWNER TO postgres; REVOKE ALL ON SCHEMA ductstream FROM worker", "state")
        wait_until(tally.exists, 20, "the program to end")
        until = time.monotonic() + 2
        wait_until(lambda: time.monotonic() > until, 10, "its end to be refused")
        own_server.sql("ALTER SCHEMA ductstream OWNER TO worker", "state")
        run = runs.wait(run_id, timeout_s=60)
        assert (run["state"], run["attempt"]) == ("succeeded", 1)
        assert tally.read_text() == "one\n"
    finally:
        runs.close()


@pytest.mark.timeout(180)
def test_who_cannot_reach_the_state_takes_his_runs_for_lost(own_server, tmp_path):
    """Away for longer than the lease: the worker ends what it does before others may begin it."""
    own_server.sql("CREATE DATABASE state")
    env = {"DUCTSTREAM_POSTGRES_DSN": own_server.dsn("state"), "DUCTSTREAM_RUN_COMMANDS": "true", "DUCTSTREAM_RUN_LEASE": "2s"}
    runs = Runs(tmp_path, env)
    try:
        runs.worker()
        ended, began = tmp_path / "ended", tmp_path / "began"
        script = f"test $DUCTSTREAM_RUN_ATTEMPT = 2 && exit 0; touch {began}; trap 'touch {ended}; exit 1' TERM; sleep 100 & wait"
        run_id = runs.submit("command", {"argv": ["/bin/sh", "-c", script]})
        wait_until(began.exists, 20, "the program to begin")
        own_server.kill()
        wait_until(lambda: "run lost" in runs.said(), 30, "the worker to give the run up")
        own_server.start()
        run = runs.wait(run_id, timeout_s=60)
        assert (run["state"], run["attempt"]) == ("succeeded", 2)
    finally:
        runs.close()


@pytest.mark.timeout(180)
def test_the_disk_of_the_state_is_full(small_disk, tmp_path):
    """While a run ends: that is written down once there is room, the run is not done again, and the log does not fill what is left."""
    disk = small_disk()
    env = {"DUCTSTREAM_STATE_PATH": f"{disk.path}/state.db", "DUCTSTREAM_RUN_COMMANDS": "true", "DUCTSTREAM_RUN_LEASE": "20s"}
    runs = Runs(tmp_path, env)
    try:
        runs.worker()
        tally, began = tmp_path / "tally", tmp_path / "began"
        run_id = runs.submit("command", {"argv": ["/bin/sh", "-c", f"touch {began}; sleep 4; echo one >> {tally}"]})
        wait_until(began.exists, 20, "the program to begin")
        with open(disk.path / "junk", "wb", buffering=0) as junk, pytest.raises(OSError, match="No space"):
            while True:
                junk.write(bytes(4096))
        wait_until(tally.exists, 20, "the program to end")
        wait_until(lambda: "heartbeat of a run failed" in runs.said(), 20, "a heartbeat")  # with every quarter of the lease
        until = time.monotonic() + 1
        wait_until(lambda: time.monotonic() > until, 10, "its end to be refused")
        assert runs.said().count("heartbeat of a run failed") == 1, runs.said()
        disk.grow()
        run = runs.wait(run_id, timeout_s=60)
        assert (run["state"], run["attempt"]) == ("succeeded", 1)
        assert tally.read_text() == "one\n"
    finally:
        runs.close()
