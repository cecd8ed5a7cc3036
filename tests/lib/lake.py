"""The lake as any user sees it: the official ducklake extension, in a process of its own."""

import pickle
import re
import selectors
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import child
from .paths import EXTENSIONS

NAME = "lake"
# What may be asked again: nothing else hangs on whether the first try did it.
REPEATABLE = re.compile(r"\s*(SELECT|FROM|WITH|DESCRIBE|ATTACH|CALL)\b", re.IGNORECASE)


class LakeError(Exception):
    """What DuckDB said; `kind` is the class of its exception."""

    def __init__(self, kind, message):
        super().__init__(f"{kind}: {message}")
        self.kind = kind


def quoted(text):
    return "'" + text.replace("'", "''") + "'"


def identifier(name):
    return '"' + name.replace('"', '""') + '"'


_idle = []  # workers that lakes were closed on: starting one costs more than most tests do


def _worker():
    while _idle:
        worker = _idle.pop()
        if worker.poll() is None:
            return worker
    return child.popen(
        [sys.executable, Path(__file__).with_name("lake_worker.py"), EXTENSIONS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


class OfficialLake:
    """Attaches a DuckLake catalog as `lake` and makes it the default.

    catalog    as in a flow file: "sqlite:/path/lake.sqlite" or "postgres:host=… dbname=…"
    data_path  needed only when the catalog does not exist yet
    options    more ATTACH options as SQL text, for example "READ_ONLY" or "SNAPSHOT_VERSION 3"
    s3         an S3Server (lib/s3.py) that it may use, or several of them, each with the scope of its buckets: {"s3://lake": server}
    extensions more of the official ones: "delta", "excel"
    """

    def __init__(self, catalog, data_path=None, options="", timeout_s=120, s3=None, extensions=()):
        self.timeout_s = timeout_s
        self._worker = _worker()
        self._knows_secrets = bool(s3)
        wanted = ([f"DATA_PATH {quoted(str(data_path))}"] if data_path else []) + ([options] if options else [])
        try:
            self.sql("SET TimeZone = 'UTC'")
            for name in [*(["httpfs"] if s3 else []), *extensions]:
                self.sql(f"LOAD {quoted(f'{EXTENSIONS}/{name}.duckdb_extension')}")
            for number, (scope, at) in enumerate(s3.items() if isinstance(s3, dict) else [(None, s3)] if s3 else []):
                self.sql(at.secret_sql(f"s3_{number}", scope))
            self.sql(f"ATTACH {quoted('ducklake:' + catalog)} AS {NAME}" + (f" ({', '.join(wanted)})" if wanted else ""))
            self.sql(f"USE {NAME}")
        except BaseException:
            self.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def pid(self):
        return self._worker.pid

    def close(self):
        """Detaches; nothing of an open transaction stays. The process serves the next lake, or ends when it cannot."""
        worker, self._worker = self._worker, None
        if worker is None:
            return
        if worker.poll() is None and not self._knows_secrets and self._detached(worker):
            _idle.append(worker)
            return
        worker.kill()
        worker.wait()
        worker.stdin.close()
        worker.stdout.close()

    def _detached(self, worker):
        """Brings a worker back to how it began; False when that fails."""
        self._worker = worker
        try:
            self._ask("ROLLBACK", 10)  # an error when nothing is open
            done = [self._ask(text, 10)[0] for text in ("USE memory", f"DETACH DATABASE IF EXISTS {NAME}")]
        except (LakeError, OSError):
            return False
        finally:
            self._worker = None
        return done == ["rows", "rows"]

    def kill(self):
        """kill -9, for tests of a client that dies."""
        self._worker.kill()
        self._worker.wait()

    # --- requests ---

    def _ask(self, statement, timeout_s):
        if self._worker is None:
            raise LakeError("Ended", "the lake is closed")
        if self._worker.poll() is not None:
            raise LakeError("Ended", f"the lake's process has ended with {self._worker.returncode}")
        pickle.dump(statement, self._worker.stdin)
        self._worker.stdin.flush()
        with selectors.DefaultSelector() as ready:
            ready.register(self._worker.stdout, selectors.EVENT_READ)
            if not ready.select(timeout_s):
                self.kill()
                raise LakeError("Timeout", f"no answer in {timeout_s} s to: {statement}")
        try:
            return pickle.load(self._worker.stdout)
        except EOFError:
            raise LakeError("Ended", f"the lake's process died of: {statement}") from None

    def _result(self, statement, timeout_s=None):
        for pause_s in (0.05, 0.1, 0.2, 0.4, 0.8, 1, 2, 4, None):
            tag, first, second = self._ask(statement, timeout_s or self.timeout_s)
            if tag != "error":
                return first, second
            # The official client does not wait for a SQLite catalog that is locked for a moment, whoever locks it.
            if pause_s is None or "database is locked" not in second or not REPEATABLE.match(statement):
                raise LakeError(first, f"{second}\n  in: {statement}")
            time.sleep(pause_s)

    def sql(self, statement, timeout_s=None):
        """Runs a statement; its rows as a list of tuples (empty when it has none)."""
        return self._result(statement, timeout_s)[1]

    def dicts(self, statement):
        """The rows as a list of dicts."""
        columns, rows = self._result(statement)
        return [dict(zip(columns, row)) for row in rows]

    def value(self, statement):
        """The first column of the first row."""
        return self.sql(statement)[0][0]

    # --- the lake ---

    def snapshots(self):
        """All snapshots, oldest first, as dicts: snapshot_id, snapshot_time, schema_version, changes, author, …"""
        return self.dicts(f"FROM ducklake_snapshots('{NAME}') ORDER BY snapshot_id")

    def last_snapshot(self):
        return self.snapshots()[-1]["snapshot_id"]

    def tables(self):
        """Names of all tables as "schema.table", sorted."""
        return [
            f"{schema}.{table}"
            for schema, table in self.sql(
                f"SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = '{NAME}' ORDER BY ALL"
            )
        ]

    def columns(self, table, at=None):
        """Column name -> DuckDB type, in the table's order."""
        return {row[0]: row[1] for row in self.sql(f"DESCRIBE SELECT * FROM {self.source(table, at)}")}

    def source(self, table, at=None):
        """TABLE ("table" or "schema.table") as it stands in a FROM clause, at a snapshot when AT is given."""
        name = ".".join(identifier(part) for part in [NAME, *table.split(".")])
        return name + (f" AT (VERSION => {at})" if at is not None else "")

    def rows(self, table, at=None):
        """All rows as tuples, sorted by all columns."""
        return self.sql(f"SELECT * FROM {self.source(table, at)} ORDER BY ALL")

    def count(self, table, at=None):
        return self.value(f"SELECT count(*) FROM {self.source(table, at)}")


@dataclass
class LakeHome:
    """Where a lake is. open() gives an OfficialLake, which the fixture closes."""

    catalog: str
    data_path: Path  # or "s3://…"
    s3: object = None  # the S3Server behind it
    _opened: list = field(default_factory=list)

    @property
    def sqlite_path(self):
        """None with a catalog of another kind."""
        kind, _, path = self.catalog.partition(":")
        return path if kind == "sqlite" else None

    def open(self, options="", timeout_s=120):
        lake = OfficialLake(self.catalog, self.data_path, options, timeout_s, s3=self.s3)
        self._opened.append(lake)
        return lake

    def close(self):
        while self._opened:
            self._opened.pop().close()
