"""One case on its servers: prepared once, then the floor and DuctStream run over the same changes as often as wanted."""

import shutil
import subprocess
from decimal import Decimal

import yaml
from lib.lake import OfficialLake
from lib.paths import ROOT, program

import cases
import measure

DRAIN = ROOT / "build" / "bench" / "drain"


class WrongResult(Exception):
    pass


def drain_values(line):
    """What bench/drain printed, as a dict of numbers."""
    return {key: float(value) for key, value in (pair.split("=") for pair in line.split())}


class Bed:
    """The database of a group of cases, with its slot, its workload and the lake as it was before the workload.

    source, catalog  Servers; catalog None: the lake's catalog is SQLite
    folder           for the lake
    source_options, destination_options  added to the flow file
    """

    def __init__(self, source, catalog, folder, case, scale, source_options=None, destination_options=None):
        self.source, self.catalog, self.folder, self.case, self.scale = source, catalog, folder, case, scale
        self.options = (source_options or {}, destination_options or {})
        self.name = "bench_" + case.group.replace("-", "_")
        self.database = source.database(self.name)
        self.home, self.base = folder / "lake", folder / "lake-before"
        self.workers = 1
        self.end_lsn = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.database.drop()
        self._remove_lake()
        shutil.rmtree(self.base, ignore_errors=True)
        if self.catalog:
            self.catalog.sql(f'DROP DATABASE IF EXISTS "{self.name}_before"')

    def prepare(self, floor_only=False):
        """Table, slot and first copy, then the workload."""
        cases.create(self.database, self.case, self.scale)
        if self.case.op != "snapshot":
            self._first_copy() if not floor_only else self._slot("before")
            self.end_lsn = cases.workload(self.database, self.case, self.scale)
        self.expected = self._sums(self.database.query)

    def _first_copy(self):
        """The copy, and one change after it."""
        self._fresh_lake()
        self.flow(tcp=False)
        measure.run(self._command(), self.source, self.catalog, self.folder)
        self.database.sql("UPDATE t SET id = id WHERE id = 1")
        measure.run(self._command(), self.source, self.catalog, self.folder)
        self._save()
        self._copy_slot("bench", "before")

    # --- the flow ---

    @property
    def lake_dsn(self):
        return f"postgres:{self.catalog.dsn(self.name)}" if self.catalog else f"sqlite:{self.home}/lake.sqlite"

    def flow(self, tcp):
        """Writes the flow file."""
        content = {
            "name": "bench",
            "source": {
                "type": "postgres",
                "options": {
                    "dsn": self.source.dsn(self.name, tcp),
                    "slot": "bench",
                    "publication": "bench",
                    **({"snapshot_workers": self.workers} if self.workers > 1 else {}),
                    **self.options[0],
                },
            },
            "destinations": [
                {
                    "name": "lake",
                    "type": "ducklake",
                    "options": {"catalog": self.lake_dsn, "data_path": f"{self.home}/data/", **self.options[1]},
                }
            ],
        }
        (self.folder / "flow.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    def _command(self, wrapper=()):
        return [*wrapper, program(), "run", self.folder / "flow.yaml", "--until-caught-up"]

    # --- the lake, before and again ---

    def _remove_lake(self):
        shutil.rmtree(self.home, ignore_errors=True)
        if self.catalog:
            self.catalog.sql(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')

    def _fresh_lake(self):
        self._remove_lake()
        (self.home / "data").mkdir(parents=True)
        if self.catalog:
            self.catalog.sql(f'CREATE DATABASE "{self.name}"')

    def _save(self):
        subprocess.run(["cp", "-a", self.home, self.base], check=True)
        if self.catalog:
            self.catalog.sql(f'CREATE DATABASE "{self.name}_before" TEMPLATE "{self.name}"')

    def _restore(self):
        self._remove_lake()
        subprocess.run(["cp", "-a", self.base, self.home], check=True)
        if self.catalog:
            self.catalog.sql(f'CREATE DATABASE "{self.name}" TEMPLATE "{self.name}_before"')

    # --- slots ---

    def _slot(self, name):
        self.database.query(f"SELECT pg_create_logical_replication_slot('{name}', 'pgoutput')")

    def _drop_slot(self, name):
        self.database.query(
            f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{name}'"
        )

    def _copy_slot(self, old, new):
        self._drop_slot(new)
        self.database.query(f"SELECT pg_copy_logical_replication_slot('{old}', '{new}')")

    # --- measuring ---

    def floor(self, case):
        """Runs the floor of CASE. Returns Figures and what drain printed."""
        dsn = self.source.dsn(self.name, case.tcp)
        if case.op == "snapshot":
            command = [DRAIN, "copy", dsn, *cases.ranges(self.database, case.connections)]
        else:
            self._copy_slot("before", "floor")
            command = [DRAIN, "stream", dsn, "floor", "bench", self.end_lsn]
        figures, line = measure.run(command, self.source, None, self.folder)
        if case.op != "snapshot":
            self._drop_slot("floor")
        rows = drain_values(line)["rows"]
        if rows != case.rows(self.scale):
            raise WrongResult(f"the floor of {case.name} read {rows:.0f} rows instead of {case.rows(self.scale)}")
        return figures

    def ours(self, case, wrapper=()):
        """Runs DuctStream over CASE and compares the lake with the source. Returns Figures."""
        if case.op == "snapshot":
            self._drop_slot("bench")
            self.database.sql("DROP SCHEMA IF EXISTS ductstream CASCADE")
            self._fresh_lake()
        else:
            self._copy_slot("before", "bench")
            self._restore()
        self.workers = case.connections
        self.flow(case.tcp)
        figures, _ = measure.run(self._command(wrapper), self.source, self.catalog, self.folder)
        figures.index_bytes = sum(path.stat().st_size for path in self.home.rglob("*.idx"))
        self._check(case)
        return figures

    def _sums(self, query):
        return [Decimal(str(value or 0)) for value in query(f"SELECT {self.case.table.sums} FROM t")[0]]

    def _check(self, case):
        with OfficialLake(self.lake_dsn, options="READ_ONLY", timeout_s=600) as lake:
            lake.sql("USE lake.public")
            found = self._sums(lake.sql)
        if found != self.expected:
            names = self.case.table.sums
            raise WrongResult(f"{case.name}: the lake has other rows than the source in {names}: {found}, {self.expected}")

