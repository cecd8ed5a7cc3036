"""A destination of tables without a flow around it: table_driver, a C program that takes it through steps."""

import subprocess

from . import child
from .duck_tables import DuckTables
from .lake import LakeHome
from .paths import driver_program


class Driven:
    """A destination that a driver takes through steps (tests/system/table_driver.c)."""

    def __init__(self, kind, folder, **options):
        self.kind = kind
        self.path = folder / "warehouse.duckdb"
        self.lake = LakeHome(f"sqlite:{folder}/lake.sqlite", folder / "data")
        self.place = {"dsn": self.path} if kind == "duckdb" else {"catalog": self.lake.catalog, "data_path": self.lake.data_path}
        self.options = options

    def run(self, *steps, fails=None):
        """What it printed; it must succeed, or fail with a message that has FAILS in it."""
        words = [f"{name}={value}" for name, value in {**self.place, **self.options}.items()]
        process = child.popen([driver_program("table_driver"), self.kind, *words, "--", *steps], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        out, err = process.communicate(timeout=60)
        if fails is None:
            assert process.returncode == 0, err
        else:
            assert process.returncode == 1 and fails in err, err
        return out

    def rows(self, table="public.t"):
        tables = DuckTables(self.path) if self.kind == "duckdb" else self.lake.open()
        try:
            return tables.sql(f"SELECT id, v FROM {tables.source(table)} ORDER BY id")
        finally:
            tables.close()

    def columns(self, table="public.t"):
        tables = DuckTables(self.path) if self.kind == "duckdb" else self.lake.open()
        try:
            return tables.columns(table)
        finally:
            tables.close()

    def tables(self):
        tables = DuckTables(self.path) if self.kind == "duckdb" else self.lake.open()
        try:
            return tables.tables()
        finally:
            tables.close()
