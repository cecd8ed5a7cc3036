"""kill -9 while a table is marked to be copied again, and while it is: under a writer, nothing is lost and nothing doubled."""

import os
import signal
import subprocess

import pytest

from lib.paths import program
from lib.workload import SCHEMA, Workload, assert_whole

KILLED = -signal.SIGKILL
KEY_CHANGE = (
    "INSERT INTO side (body, n) VALUES ('before', 1); ALTER TABLE side DROP CONSTRAINT side_pkey, ADD PRIMARY KEY (id, n); "
    "UPDATE side SET body = body || '.'"
)
# The state's own transaction, then the copy: the stream waits for it, so that the first file and the first commit are its.
MARK = {"sqlite": ("commit-statement:1", "commit-statement:2", "state-set:1"), "postgres": ("commit-sent:1", "state-set:1")}
COPY = {
    "sqlite": ("setup-keeper:1", "setup-parts:1", "file-written:1", "file-synced:1", "commit-planned:1", "commit-begin:1",
               "commit-statement:1", "commit-statement:4", "commit-done:1", "commit-planned:2"),
    "postgres": ("file-synced:1", "commit-begin:1", "commit-sent:1", "commit-done:1", "commit-planned:2"),
}


def cases(points):
    return [(home, point) for home in points for point in points[home]]


@pytest.fixture
def stuck(database, lake_home, make_flow):
    """A copied flow, and a transaction that it cannot follow as the first thing to come."""
    database.sql(SCHEMA)
    flow = make_flow(database, lake_home, source={"status_interval": "200ms"}, destination={"flush_interval": "20ms"})
    flow.run_until_caught_up()
    database.sql(KEY_CHANGE)
    return database, lake_home, flow


def killed_at(flow, point):
    run = flow.start(env={"DUCT_KILL_POINT": point})
    assert run.wait(60) == KILLED, f"{point} was not reached\n{run.describe()}"


@pytest.mark.parametrize(("lake_home", "point"), cases(MARK), indirect=["lake_home"])
def test_kill_while_it_is_marked(stuck, point):
    database, lake_home, flow = stuck
    with Workload(database, seed=31):
        killed_at(flow, point)
        flow.run_until_caught_up()
    assert_whole(database, lake_home, flow)


@pytest.mark.parametrize(("lake_home", "point"), cases(COPY), indirect=["lake_home"])
def test_kill_while_it_is_copied(stuck, point):
    database, lake_home, flow = stuck
    with Workload(database, seed=32):
        killed_at(flow, "state-set:1")
        killed_at(flow, point)
        flow.run_until_caught_up()
    assert_whole(database, lake_home, flow)


def test_kill_of_the_command(mirrored):
    database, lake_home, flow = mirrored
    command = [program(), "lake", "copy-again", flow.path, "public.side"]
    with Workload(database, seed=33):
        for point in ("epoch-raised:1", "state-set:1"):
            done = subprocess.run(command, env={**os.environ, "DUCT_KILL_POINT": point}, capture_output=True, timeout=60,
                                  check=False)
            assert done.returncode == KILLED, (point, done)
            flow.run_until_caught_up()
    assert_whole(database, lake_home, flow)
