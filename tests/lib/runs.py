"""Runs without a server: run_driver speaks with the state, ductstream-worker -runs does the work."""

import json
import os
import signal
import subprocess

from . import child
from .paths import ROOT, driver_program, program
from .wait import wait_until

OVER = ("succeeded", "failed", "cancelled", "skipped")


class Driver:
    """tests/system/run_driver.c: call(verb, ...) -> its answer."""

    def __init__(self, env=None):
        self._process = child.popen(
            [driver_program("run_driver")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, **(env or {})},
        )

    def call(self, verb, **arguments):
        answer = self.answer(verb, **arguments)
        assert "error" not in answer or "id" in answer, answer
        return answer

    def answer(self, verb, **arguments):
        """The same, errors as {"error": text}."""
        self._process.stdin.write(json.dumps({"do": verb, **arguments}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self):
        self._process.stdin.close()
        assert self._process.wait(timeout=30) == 0


class Runs:
    """A state, a driver for it, and workers that take its runs."""

    def __init__(self, folder, env, log=None):
        self.folder = folder
        self.env = {
            **os.environ,
            "DUCTSTREAM_SECRET_KEY": "00" * 32,
            "DUCTSTREAM_RUN_BACKOFF": "100ms",
            "DUCTSTREAM_RUN_LEASE": "5s",  # who waits for one to run out takes a shorter one; others must not lose theirs to a slow disk
            **env,
        }
        self.driver = Driver(self.env)
        self.log = open(log or folder / "workers.log", "ab")
        self.workers = []

    def submit(self, kind, input=None, **more):
        return self.driver.call("submit", kind=kind, input=json.dumps(input or {}), **more)["id"]

    def get(self, run_id):
        return self.driver.call("get", id=run_id)

    def logs(self, run_id):
        return self.driver.call("logs", id=run_id)["lines"]

    def counts(self):
        return self.driver.call("counts")

    def wait(self, run_id, state=None, timeout_s=30):
        """The run, once it is over or in that state."""

        def there():
            run = self.get(run_id)
            return run if run["state"] == state or state is None and run["state"] in OVER else None

        return wait_until(there, timeout_s, f"run {run_id} to be {state or 'over'}")

    def worker(self, *flags, **env):
        """One more `ductstream-worker -runs`."""
        process = child.popen(
            [program("ductstream-worker"), "-runs", *flags],
            stdin=subprocess.DEVNULL,
            stdout=self.log,
            stderr=self.log,
            env={**self.env, **env},
            start_new_session=True,
        )
        self.workers.append(process)
        return process

    def said(self):
        return (self.folder / "workers.log").read_text()

    def close(self):
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
        for worker in self.workers:
            worker.wait(timeout=30)
        self.driver.close()
        self.log.close()
