"""Registering 1,000 files: ours beside the official ducklake_add_data_files (issue 6, "Speed": at least 10 times as fast).

The files are events of 25 columns, written by DuckDB. Ours (bench/register.c) reads their footers and puts them in by one commit of lake/register.h, as a
run of a backfill does. The official client does it twice: with one call that is given all paths, and with a call per file, as the backfill's page does. Both have the
lake open before the clock starts. Medians of repetitions in turns, each into a new lake; the rows are counted by an official client.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from lib.lake import OfficialLake  # noqa: E402
from lib.pg import Postgres  # noqa: E402
from lib.s3 import S3Server  # noqa: E402

from measure import load_average  # noqa: E402

GOAL = 10
ROWS = 100
TEXTS = ["uuid", "event", "properties", "distinct_id", "elements_chain", "person_id", "person_properties", "person_mode"]
TEXTS += [f"group{n}_properties" for n in range(5)]
TIMES = ["timestamp", "created_at", "person_created_at", "_inserted_at", *(f"group{n}_created_at" for n in range(5))]
COLUMNS = {**dict.fromkeys(TEXTS, "VARCHAR"), **dict.fromkeys(TIMES, "TIMESTAMPTZ"), "team_id": "BIGINT", "project_id": "BIGINT", "flag": "BOOLEAN"}


def write_files(where, n, s3=None):
    """Into a folder or bucket; their paths."""
    texts = ", ".join(f"md5((i * 31 + {k})::VARCHAR) AS {name}" for k, name in enumerate(TEXTS))
    times = ", ".join(f"'2024-01-15 00:00:00+00'::TIMESTAMPTZ + INTERVAL (i) SECOND AS {name}" for name in TIMES)
    query = f"SELECT {texts}, {times}, 5 AS team_id, 5 AS project_id, i % 2 = 0 AS flag FROM range({{}}, {{}}) r(i)"
    paths = [f"{where}/f{k:05}.parquet" for k in range(n)]
    with tempfile.TemporaryDirectory() as folder, OfficialLake(f"sqlite:{folder}/l.sqlite", Path(folder), s3=s3) as duck:
        for k, path in enumerate(paths):
            duck.sql(f"COPY ({query.format(k * ROWS, (k + 1) * ROWS)}) TO '{path}' (FORMAT parquet)")
    return paths


class Case:
    """Files in one place, a new lake of one kind of catalog for each repetition."""

    def __init__(self, paths, data, s3=None):
        self.paths, self.data, self.s3 = paths, data, s3

    def lake(self, catalog, new=False):
        return OfficialLake(catalog, self.data if new else None, s3=self.s3)

    def ours(self, catalog):
        keys = {"AWS_ACCESS_KEY_ID": self.s3.access_key, "AWS_SECRET_ACCESS_KEY": self.s3.secret_key} if self.s3 else {}
        more = {**keys, "DUCKLAKE_S3_ENDPOINT": self.s3.endpoint} if self.s3 else {}
        words = [ROOT / "build" / "bench" / "register_files", catalog, self.data, "posthog", "events"]
        done = subprocess.run([str(w) for w in words], input="\n".join(self.paths), env={**os.environ, **more}, stdout=subprocess.PIPE, check=True, text=True)
        return float(done.stdout)

    def official(self, catalog, each):
        """One call with all paths, or one for each."""
        lists = [[path] for path in self.paths] if each else [self.paths]
        with self.lake(catalog) as lake:
            lake.sql("SELECT count(*) FROM posthog.events")
            start = time.monotonic()
            for paths in lists:
                lake.sql(f"CALL ducklake_add_data_files('lake', 'events', {paths!r}, schema => 'posthog')", timeout_s=900)
            return time.monotonic() - start

    def one_call(self, catalog):
        return self.official(catalog, False)

    def a_call_each(self, catalog):
        return self.official(catalog, True)

    def measure(self, run, catalog):
        with self.lake(catalog, new=True) as lake:
            lake.sql("CREATE SCHEMA posthog")
            lake.sql(f"CREATE TABLE posthog.events ({', '.join(map(' '.join, COLUMNS.items()))})")
        seconds = run(catalog)
        with self.lake(catalog) as lake:
            assert lake.sql("SELECT count(*), count(DISTINCT uuid) FROM posthog.events") == [(len(self.paths) * ROWS,) * 2]
        return seconds


def compare(name, case, make_catalog, options):
    times = {}
    for repetition in range(options.repetitions):
        for run in (case.ours, case.one_call, case.a_call_each):
            if run == case.a_call_each and repetition >= options.each:
                continue
            with tempfile.TemporaryDirectory() as folder:
                catalog = make_catalog(Path(folder), f"{name}_{run.__name__}_{repetition}".replace(" ", "_"))
                times.setdefault(run.__name__, []).append(case.measure(run, catalog))
    medians = {what: statistics.median(got) for what, got in times.items()}
    for what, got in times.items():
        print(f"{name:18} {what:12} {medians[what]:8.3f} s  ({' '.join(f'{s:.3f}' for s in got)})", flush=True)
    ratio = medians["one_call"] / medians["ours"]
    each = f", a call each {medians['a_call_each'] / medians['ours']:.0f}" if "a_call_each" in medians else ""
    print(f"{name:18} ratio {ratio:.1f}{each}, goal {GOAL}: {'met' if ratio >= GOAL else 'MISSED'}", flush=True)
    return ratio >= GOAL


def main():
    parser = argparse.ArgumentParser(prog="bench/register", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=1000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--each", type=int, default=1, help="repetitions with a call for each file")
    parser.add_argument("--place", choices=["folder", "s3"], help="only there")
    options = parser.parse_args()
    good = True
    print(f"load before: {load_average():.1f}")
    with tempfile.TemporaryDirectory() as name, Postgres() as postgres, S3Server(Path(name) / "s3") as s3:
        (Path(name) / "files").mkdir()
        (Path(name) / "data").mkdir()
        s3.bucket("files")
        cases = {}
        if options.place != "s3":
            cases["folder"] = Case(write_files(f"{name}/files", options.files), f"{name}/data/")
        if options.place != "folder":
            cases["s3"] = Case(write_files("s3://files/in", options.files, s3), "s3://files/lake/", s3)
        for place, case in cases.items():
            good &= compare(f"sqlite {place}", case, lambda folder, _: f"sqlite:{folder}/lake.sqlite", options)
            good &= compare(f"postgres {place}", case, lambda _, db: f"postgres:{postgres.database(db).dsn}", options)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
