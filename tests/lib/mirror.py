"""One source database, one flow, one lake: the object most system tests work with."""

import json
import sqlite3

import psycopg

from .compare import assert_same
from .wait import wait_until


class Mirror:
    """A database mirrored into a lake home by a flow. sql() changes the source, sync() runs the flow to the source's
    present end, same() compares tables by content."""

    def __init__(self, database, home, flow):
        self.database = database
        self.home = home
        self.flow = flow
        self._lake = None

    # --- source ---

    def sql(self, *statements):
        """Each text is one call: a text with several statements is one transaction."""
        for text in statements:
            self.database.sql(text)

    def lsn(self):
        """Where the log ends. (Where the next record will begin is sometimes behind a page's head, and nobody confirms that.)"""
        return self.database.value("SELECT pg_current_wal_lsn()::text")

    # --- runs ---

    def sync(self, *args, **options):
        return self.flow.run_until_caught_up(*args, **options)

    def fails(self, code, *args, timeout_s=60):
        """Runs until caught up and expects the exit code; returns what it printed on stderr."""
        run = self.flow.start("--until-caught-up", *args)
        run.expect(code, timeout_s)
        return run.stderr

    def refuses(self, code, *args, timeout_s=60):
        """The same, and nothing may have been written: no snapshot, no file, no position. Returns stderr."""
        before = self.state()
        stderr = self.fails(code, *args, timeout_s=timeout_s)
        assert self.state() == before, stderr
        return stderr

    def refuses_any(self, *args, timeout_s=60):
        """The same with any exit code but success and the ones of a retry or a stop."""
        before = self.state()
        run = self.flow.start("--until-caught-up", *args)
        assert run.wait(timeout_s) in (1, 2, 3), run.describe()
        assert self.state() == before, run.describe()
        return run.stderr

    def change_catalog(self, statement):
        """Changes the catalog behind everybody's back; {} as in catalog()."""
        kind, _, rest = self.home.catalog.partition(":")
        if kind == "sqlite":
            connection = sqlite3.connect(rest, timeout=30)
            with connection:
                connection.execute(statement.replace("{}", ""))
            connection.close()
            return
        with psycopg.connect(rest, autocommit=True) as connection:
            connection.execute(statement.replace("{}", "public."))

    # --- lake ---

    @property
    def lake(self):
        if self._lake is None:
            self._lake = self.home.open()
        return self._lake

    def close_lake(self):
        if self._lake is not None:
            self._lake.close()
            self._lake = None

    def same(self, *tables, **options):
        """Compares tables; a name without schema is in public."""
        return assert_same(self.database, self.lake, *map(qualified, tables), **options)

    def rows(self, table, at=None):
        return self.lake.rows(qualified(table), at)

    def snapshots(self):
        """The snapshots our flow made: the official dicts, with commit_extra_info parsed as "info"."""
        return [
            {**snapshot, "info": json.loads(snapshot["commit_extra_info"])}
            for snapshot in self.lake.snapshots()
            if snapshot["author"] == "ductstream"
        ]

    def last_snapshot(self):
        """The newest snapshot id, read without the official client."""
        return self.catalog("SELECT max(snapshot_id) FROM {}ducklake_snapshot")[0][0]

    # --- catalog ---

    def catalog(self, query):
        """Rows of a query on the catalog itself; {} stands before table names (a schema, when there is one)."""
        kind, _, rest = self.home.catalog.partition(":")
        if kind == "sqlite":
            with sqlite3.connect(f"file:{rest}?mode=ro", uri=True, timeout=30) as connection:
                rows = connection.execute(query.replace("{}", "")).fetchall()
            connection.close()
            return rows
        with psycopg.connect(rest, autocommit=True) as connection:
            return connection.execute(query.replace("{}", "public.")).fetchall()

    def exists(self):
        """Whether the catalog has been made."""
        kind, _, rest = self.home.catalog.partition(":")
        try:
            return bool(self.catalog("SELECT 1 FROM {}ducklake_snapshot LIMIT 1"))
        except (sqlite3.OperationalError, psycopg.errors.UndefinedTable):
            return False

    def position(self):
        """The stored position (as the catalog holds it) of the flow's checkpoint and its state."""
        rows = self.catalog("SELECT lsn, state FROM {}ductstream_checkpoint")
        return rows[0] if rows else None

    def state(self):
        """What a refused run must not change: snapshots, position, files."""
        if not self.exists():
            return (None, None, self.files())
        return (self.last_snapshot(), self.position(), self.files())

    def files(self):
        """Parquet files under the data path."""
        if not self.home.data_path.exists():
            return []
        return sorted(str(path.relative_to(self.home.data_path)) for path in self.home.data_path.rglob("*.parquet"))

    # --- the running flow ---

    def wait_rows(self, run, table, count, timeout_s=60):
        """Waits until the lake's table has COUNT rows."""
        run.wait_for(lambda: self._count(table) == count, timeout_s, f"{count} rows in {table}")

    def _count(self, table):
        if not self.exists() or qualified(table) not in self.lake.tables():
            return None
        return self.lake.count(qualified(table))

    def wait_confirmed(self, lsn, timeout_s=30):
        self.database.server.wait_confirmed(self.flow.name, lsn, timeout_s)

    def wait_until(self, condition, timeout_s=30, what="the condition"):
        return wait_until(condition, timeout_s, what)


def qualified(table):
    return table if "." in table else f"public.{table}"
