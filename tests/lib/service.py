"""Flows of the service, and their workers, as a user has them: the server, a client, `ductstream-worker`."""

import os
import sqlite3
import subprocess
from contextlib import closing
from pathlib import Path

from . import child
from .api import Client, Server
from .compare import assert_same
from .paths import program
from .wait import wait_until

STATES = ["unspecified", "created", "running", "paused", "stopping", "failed", "stopped"]
POSTGRES, DUCKLAKE = 1, 14
FLOWS = "ductstream.v1.FlowService/"


class Service:
    """A server over a state in HOME, and what it knows."""

    def __init__(self, home, **settings):
        self.home = Path(home)
        self.home.mkdir(parents=True, exist_ok=True)
        self.state = self.home / "state.db"
        self.settings = settings
        self.workers = []
        self.server = None
        self.start()

    def start(self):
        self.server = Server(self.home, **self.settings).ready()
        self.client = Client(self.server.address)

    def close(self):
        for worker in self.workers:
            worker.kill()
        self.client.channel.close()
        self.server.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def call(self, method, **fields):
        """A method of FlowService, or SERVICE/METHOD of ductstream.v1."""
        full = FLOWS + method if "/" not in method else f"ductstream.v1.{method}"
        return self.client.call(full, timeout=90, **fields)

    def fails(self, method, **fields):
        """(name of the status code, message)"""
        full = FLOWS + method if "/" not in method else f"ductstream.v1.{method}"
        code, details = self.client.code(full, **fields)
        return code.name, details

    def state_of(self, flow_id):
        return STATES[self.call("GetFlow", flow_id=flow_id).state]

    def wait_state(self, flow_id, state, timeout_s=30):
        wait_until(lambda: self.state_of(flow_id) == state, timeout_s, f"flow {flow_id} to be {state}")

    def worker(self, flow_id, *args, env=None):
        worker = Worker(self, flow_id, args, env or {})
        self.workers.append(worker)
        return worker


def flow_message(database, home, flow_id="shop", source=None, destination=None, **more):
    """A Flow from that database into that lake."""
    return {
        "id": flow_id,
        "name": flow_id,
        "source": {
            "name": "shop",
            "type": POSTGRES,
            "options": {"dsn": database.dsn, "slot": flow_id, "publication": flow_id, **(source or {})},
        },
        "destinations": [
            {
                "name": "lake",
                "type": DUCKLAKE,
                "options": {"catalog": home.catalog, "data_path": str(home.data_path), **(destination or {})},
            }
        ],
        **more,
    }


class Worker(child.Child):
    """One `ductstream-worker` over the service's state."""

    what = "the worker"

    def __init__(self, service, flow_id, args, env):
        number = len(service.workers) + 1
        self.err_path = service.home / f"worker-{number}.err"
        clean = {k: v for k, v in os.environ.items() if not k.startswith("DUCTSTREAM_")}
        if "POSTGRES_DSN" in service.settings:
            clean["DUCTSTREAM_POSTGRES_DSN"] = service.settings["POSTGRES_DSN"]
        with open(self.err_path, "wb") as err:
            self.process = child.popen(
                [program("ductstream-worker"), "-flow-id", flow_id, *args],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=err,
                cwd=service.home,
                env={**clean, "HOME": str(service.home), "DUCTSTREAM_STATE_PATH": str(service.state), **env},
            )


class Lake:
    """What is in the lake now, and whether it is what is in the source."""

    def __init__(self, database, home):
        self.database, self.home = database, home
        self._lake = None

    def _exists(self):
        path = self.home.sqlite_path
        if not Path(path).exists():
            return False
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as connection:
            try:
                return bool(connection.execute("SELECT 1 FROM ducklake_snapshot LIMIT 1").fetchall())
            except sqlite3.OperationalError:
                return False

    def _open(self):
        if self._lake is None and self._exists():
            self._lake = self.home.open()
        return self._lake

    def count(self, table="public.t"):
        lake = self._open()
        if lake is None or table not in lake.tables():
            return -1
        return lake.count(table)

    def wait_count(self, count, table="public.t", timeout_s=60, of=None):
        (of.wait_for if of else wait_until)(lambda: self.count(table) == count, timeout_s, f"{count} rows in {table}")

    def same(self, *tables):
        assert_same(self.database, self._open(), *(tables or ("public.t",)))

    def close(self):
        if self._lake is not None:
            self._lake.close()
