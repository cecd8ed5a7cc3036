"""One case on its servers: prepared once, then the floor and DuctStream run over the same changes as often as wanted."""

import os
import shutil

import yaml
from lib.lake import OfficialLake
from lib.paths import ROOT, program

import measure
import peer
import workload

DRAIN = ROOT / "build" / "bench" / "drain"

# Several flows at once; $0 is the program.
SEVERAL = """
for flow; do "$0" run "$flow" --until-caught-up & flows="$flows $!"; done
for flow in $flows; do wait "$flow" || exit 1; done
"""


class WrongResult(Exception):
    pass


def drain_values(line):
    """What bench/drain printed, as a dict of numbers."""
    return {key: float(value) for key, value in (pair.split("=") for pair in line.split())}


def _copy_index(source, target):
    """As our program writes it, and at rest: large pieces, and pages on their way to the disk, cost whoever changes them."""
    with open(source, "rb") as old, open(target, "wb", buffering=0) as new:
        while piece := old.read(16384):
            new.write(piece)
        os.fsync(new.fileno())


def _link_or_copy(source, target):
    """Data files never change; the catalog and the key index do."""
    if source.endswith(".parquet"):
        os.link(source, target)
    elif source.endswith(".idx"):
        _copy_index(source, target)
    else:
        shutil.copy2(source, target)


class Bed:
    """The database of a group of cases, with its slots, its workloads and the lake as it was before the workload.

    source, catalog  Servers; catalog None: the lake's catalog is SQLite
    folder           for the lake
    source_options, destination_options  added to the flow file
    wrapper          goes before our program
    """

    def __init__(self, source, catalog, folder, case, scale, source_options=None, destination_options=None, wrapper=()):
        self.source, self.catalog, self.folder, self.case, self.scale = source, catalog, folder, case, scale
        self.options = (
            {**dict(case.source_options), **(source_options or {})},
            {**dict(case.options), **(destination_options or {})},
        )
        self.wrapper = list(wrapper)
        self.name = "bench_" + case.group.replace("-", "_")
        self.database = source.database(self.name)
        self.home, self.base = folder / "lake", folder / "lake-before"
        self.numbers = [""] if case.slots == 1 else range(1, case.slots + 1)  # of the flows
        self.workers = 1
        self.work = self.end_lsn = None
        self.floor_only = False

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.database.drop()
        self._remove_lake()
        self._remove_base()

    def prepare(self, floor_only=False):
        """Tables, slots and first copy."""
        self.floor_only = floor_only
        workload.create(self.database, self.case, self.scale)
        if self.case.op == "snapshot":
            return
        if floor_only:
            self._slot("before")
        else:
            self._first_copy()

    def begin(self, case):
        """Makes the changes that CASE measures, unless the case before it had the same."""
        if self.work == case.work:
            return
        if self.work:
            self._settle()
        self.work, self.case = case.work, case
        if case.op != "snapshot":
            self.end_lsn = workload.workload(self.database, case, self.scale)
        self.expected = self._sums(self.database.query)

    def _first_copy(self):
        """The copy, and one change after it."""
        self._fresh_lake()
        self.flow(tcp=False)
        measure.run(self._command(), self.source, self.catalog, self.folder)
        self._touch()
        self._settle()

    def _touch(self):
        """A change that changes nothing."""
        self.database.sql("UPDATE t SET id = id WHERE id = 1")

    def _settle(self):
        """Where the slots and the lake stand now is where the next measurements begin."""
        if self.floor_only:
            self.database.query(f"SELECT pg_replication_slot_advance('before', '{self.end_lsn}')")
            return
        measure.run(self._command(), self.source, self.catalog, self.folder)
        self._remove_base()
        self._save()
        for number in self.numbers:
            self._copy_slot(f"bench{number}", f"before{number}")

    # --- the flow ---

    @property
    def lake_dsn(self):
        return f"postgres:{self.catalog.dsn(self.name)}" if self.catalog else f"sqlite:{self.home}/lake.sqlite"

    def flow(self, tcp):
        """Writes the flow files."""
        for number in self.numbers:
            path = self.folder / f"flow{number}.yaml"
            path.write_text(yaml.safe_dump(self._flow(f"bench{number}", tcp), sort_keys=False))

    def _flow(self, name, tcp):
        source = {"dsn": self.source.dsn(self.name, tcp), "slot": name, "publication": name}
        if self.workers > 1:
            source["snapshot_workers"] = self.workers
        destination = {"catalog": self.lake_dsn, "data_path": f"{self.home}/data/"}
        return {
            "name": name,
            "source": {"type": "postgres", "options": {**source, **self.options[0]}},
            "destinations": [{"name": "lake", "type": "ducklake", "options": {**destination, **self.options[1]}}],
        }

    def _command(self, wrapper=()):
        files = [self.folder / f"flow{number}.yaml" for number in self.numbers]
        if len(files) > 1:
            return [*wrapper, "sh", "-c", SEVERAL, program(), *files]
        return [*wrapper, program(), "run", files[0], "--until-caught-up"]

    # --- the lake, before and again ---

    def _remove_lake(self):
        shutil.rmtree(self.home, ignore_errors=True)
        if self.catalog:
            self.catalog.sql(f'DROP DATABASE IF EXISTS "{self.name}" WITH (FORCE)')

    def _remove_base(self):
        shutil.rmtree(self.base, ignore_errors=True)
        if self.catalog:
            self.catalog.sql(f'DROP DATABASE IF EXISTS "{self.name}_before"')

    def _fresh_lake(self):
        self._remove_lake()
        (self.home / "data").mkdir(parents=True)
        if self.catalog:
            self.catalog.sql(f'CREATE DATABASE "{self.name}"')

    def _save(self):
        shutil.copytree(self.home, self.base, copy_function=_link_or_copy)
        if self.catalog:
            self.catalog.sql(f'CREATE DATABASE "{self.name}_before" TEMPLATE "{self.name}"')

    def _restore(self):
        self._remove_lake()
        shutil.copytree(self.base, self.home, copy_function=_link_or_copy)
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
            command = [DRAIN, "copy", dsn, *workload.ranges(self.database, case.connections)]
        else:
            self._copy_slot(f"before{self.numbers[0]}", "floor")
            command = [DRAIN, "stream", dsn, "floor", "bench", self.end_lsn]
        figures, line = measure.run(command, self.source, None, self.folder)
        if case.op != "snapshot":
            self._drop_slot("floor")
        rows = drain_values(line)["rows"]
        if rows != case.rows(self.scale):
            raise WrongResult(f"the floor of {case.name} read {rows:.0f} rows instead of {case.rows(self.scale)}")
        return figures

    def dlt(self, case):
        """Copies the table by dlt into a lake of its own, on a SQLite catalog. Returns Figures, of all its processes."""
        self._fresh_lake()
        command = peer.command(self.source.url(self.name), self.home)
        figures, _ = measure.run(command, self.source, None, self.folder)
        self._check(case, f"sqlite:{self.home}/lake.sqlite", "dlt's lake")
        return figures

    def ours(self, case, wrapper=()):
        """Runs DuctStream over CASE and compares the lake with the source. Returns Figures."""
        if case.op == "snapshot":
            self._drop_slot("bench")
            self.database.sql("DROP SCHEMA IF EXISTS ductstream CASCADE")
            self._fresh_lake()
        else:
            for number in self.numbers:
                self._copy_slot(f"before{number}", f"bench{number}")
            self._restore()
        self.workers = case.connections
        self.flow(case.tcp)
        figures, _ = measure.run(self._command(wrapper or self.wrapper), self.source, self.catalog, self.folder)
        figures.index_bytes = sum(path.stat().st_size for path in self.home.rglob("*.idx"))
        self._check(case, self.lake_dsn, "the lake")
        return figures

    def start(self):
        """Runs DuctStream once more, for a single change, which makes it open the key index. Returns Figures."""
        self._touch()
        return measure.run(self._command(self.wrapper), self.source, self.catalog, self.folder)[0]

    def _sums(self, query):
        return workload.sums(self.case, query)

    def _check(self, case, dsn, where):
        with OfficialLake(dsn, options="READ_ONLY", timeout_s=600) as lake:
            lake.sql("USE lake.public")
            found = self._sums(lake.sql)
        if found != self.expected:
            names = self.case.table.sums
            raise WrongResult(f"{case.name}: {where} has other rows than the source in {names}: {found}, {self.expected}")
