"""Stops a run at a named place (src/base/killpoint.h) until the test lets it go on, or as it stands."""

import os
import signal
import sqlite3
from pathlib import Path

from .usage import thread_states
from .wait import wait_until


class Pause:
    """The N-th call of a place, from the start of the run on.

    run = flow.start(env=pause.env); pause.wait(run); …; pause.release()
    """

    def __init__(self, folder, name, n=1):
        self.path = Path(folder) / f"go-{name}-{n}"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.env = {"DUCT_PAUSE_POINT": f"{name}:{n}:{self.path}"}

    @property
    def reached(self):
        return self.path.with_name(self.path.name + ".reached").exists()

    def wait(self, run, timeout_s=60):
        run.wait_for(lambda: self.reached, timeout_s, f"the run to reach {self.path.name}")

    def release(self):
        self.path.touch()


def run_to(flow, folder, name, *args, **env):
    """A run until caught up that has reached the place for the first time: (pause, run)."""
    pause = Pause(folder, name)
    run = flow.start("--until-caught-up", *args, env={**pause.env, **env})
    pause.wait(run)
    return pause, run


def overtaken(flow, database, folder, name):
    """A run that stood still (SIGSTOP) at the place with a change under way, was overtaken by another, was woken, and has ended."""
    pause = Pause(folder, name)
    run = flow.start(env=pause.env)
    database.sql("UPDATE left_account SET amount = amount + 1")
    pause.wait(run, 30)
    run.signal(signal.SIGSTOP)
    database.query("SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()")
    flow.run_until_caught_up(timeout_s=30)
    pause.release()
    run.signal(signal.SIGCONT)
    run.wait(60)
    return run


def is_free(path):
    """Whether nobody is inside a write transaction of that SQLite database now."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("ROLLBACK")
    except sqlite3.OperationalError:
        return False
    finally:
        connection.close()
    return True


def freeze(run, *databases):
    """SIGSTOP, at a moment when it locks none of those SQLite databases (None: nothing): nobody could take over from such an owner."""
    for _ in range(200):
        os.kill(run.pid, signal.SIGSTOP)
        wait_until(lambda: set(thread_states(run.pid)) <= {"T"}, 30, "all its threads to stand still", 0.001)  # they do so a little later
        if all(path is None or is_free(path) for path in databases):
            return
        os.kill(run.pid, signal.SIGCONT)
    raise AssertionError("it is inside a transaction whenever it is stopped")
