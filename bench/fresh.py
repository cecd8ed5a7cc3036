"""bench/freshness: from a source commit to what the official DuckLake client sees, under a steady load at default options."""

import argparse
import json
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from lib.flow import Flow  # noqa: E402
from lib.lake import OfficialLake  # noqa: E402
from lib.wait import wait_until  # noqa: E402

import measure  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402

ACCOUNTS = 100_000
PER_TRANSACTION = 10
GOALS_MS = {"postgres": (100, 300), "sqlite": (200, None)}  # p50, p99
PERCENTS = [1, *range(5, 100, 5), 99, 99.9]

SCHEMA = f"""
CREATE TABLE account (id int8 PRIMARY KEY, balance numeric(14,2), note text, changed timestamptz);
CREATE TABLE booking (id int8 PRIMARY KEY, account int8, amount numeric(12,2), at timestamptz, text text);
CREATE TABLE pulse (id int4 PRIMARY KEY, beat int8);
INSERT INTO account SELECT g, 1000, md5(g::text), now() FROM generate_series(1, {ACCOUNTS}) g;
INSERT INTO pulse VALUES (1, 0);
CREATE PUBLICATION bench FOR TABLE account, booking, pulse;
"""

# Each transaction: 4 accounts change, 4 bookings come, 1 booking of a minute ago goes, and the pulse beats.
STEP = f"""
CREATE FUNCTION step(beat int8) RETURNS void LANGUAGE sql AS $$
    UPDATE account SET balance = balance + 1, changed = now()
        WHERE id IN (SELECT (beat * 4 + i) * 7919 % {ACCOUNTS} + 1 FROM generate_series(0, 3) i);
    INSERT INTO booking SELECT beat * 4 + i, (beat * 4 + i) * 7919 % {ACCOUNTS} + 1, 1, now(), 'booking ' || beat
        FROM generate_series(0, 3) i;
    DELETE FROM booking WHERE id = (beat - 30000) * 4;
    UPDATE pulse SET beat = step.beat WHERE id = 1;
$$
"""


class Writer(threading.Thread):
    """Commits at a steady rate; `began[beat]` is the time at which the COMMIT of that beat was sent."""

    def __init__(self, database, rate, seconds):
        super().__init__(daemon=True)
        self.database, self.rate, self.seconds = database, rate, seconds
        self.began, self.failure, self.late_s = {}, None, 0.0

    def run(self):
        try:
            self._write()
        except Exception as failure:  # shown by the main thread
            self.failure = failure

    def _write(self):
        with self.database.connect() as connection:
            connection.autocommit = True
            start, beat = time.monotonic(), 0
            while time.monotonic() < start + self.seconds:
                beat += 1
                wait = start + beat * PER_TRANSACTION / self.rate - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                self.late_s = max(self.late_s, -wait)
                connection.execute("BEGIN")
                connection.execute("SELECT step(%s)", (beat,), prepare=True)
                self.began[beat] = time.monotonic()
                connection.execute("COMMIT")


def delays(writer, lake, warm_up_s):
    """Seconds from COMMIT to the end of the first query of the client that shows it, one per transaction."""
    seen, found, start = 0, [], time.monotonic()
    while writer.is_alive() or seen < max(writer.began):
        beat = lake.value("SELECT beat FROM public.pulse")
        now = time.monotonic()
        for n in range(seen + 1, beat + 1):
            began = writer.began.get(n)
            while began is None:  # the writer has not been given its turn since it sent the COMMIT
                time.sleep(0.0001)
                began = writer.began.get(n)
            if began - start >= warm_up_s:
                found.append(now - began)
        seen = max(seen, beat)
        if not writer.is_alive() and now > max(writer.began.values()) + 60:
            raise SystemExit("bench/freshness: the last change was not seen within 60 s")
    return found


def percentiles(values):
    ordered = sorted(values)
    return {p: ordered[min(len(ordered) - 1, int(len(ordered) * p / 100))] * 1000 for p in PERCENTS}


def file_counts(lake, written_mib):
    """Live data files per table and the bound: 8 + a file per 16 MiB written."""
    rows = lake.sql("SELECT table_name, file_count, file_size_bytes FROM ducklake_table_info('lake')")
    return {name: {"files": files, "mib": round(size / 2**20, 1), "bound": 8 + written_mib / 16} for name, files, size in rows}


def folder_mib(folder):
    return sum(path.stat().st_size for path in folder.rglob("*.parquet")) / 2**20


def same(database, lake):
    """Whether sums of all tables agree."""
    sums = {
        "account": "count(*), sum(id), sum(balance), sum(length(note))",
        "booking": "count(*), sum(id), sum(account), sum(amount)",
        "pulse": "count(*), sum(beat)",
    }
    for table, select in sums.items():
        left = [str(value) for value in database.query(f"SELECT {select} FROM {table}")[0]]
        right = [str(value) for value in lake.sql(f"SELECT {select} FROM public.{table}")[0]]
        if [float(a) for a in left] != [float(b) for b in right]:
            raise SystemExit(f"bench/freshness: {table} differs: {left} at the source, {right} in the lake")


def measure_catalog(kind, args, folder):
    with measure.Server() as source:
        database = source.database("fresh")
        database.sql(SCHEMA)
        database.sql(STEP)
        catalog = f"sqlite:{folder}/lake.sqlite"
        if kind == "postgres":
            source.sql("CREATE DATABASE catalog")
            catalog = f"postgres:{source.dsn('catalog')}"
        data = folder / "data"
        data.mkdir()
        options = dict(pair.split("=", 1) for pair in args.destination_option)
        flow = Flow.to_ducklake(folder, "bench", source.dsn("fresh"), catalog, data, destination=options)
        flow.run_until_caught_up()
        base_mib = folder_mib(data)
        run = flow.start()
        with OfficialLake(catalog, options="READ_ONLY") as lake:
            wait_until(lambda: lake.value("SELECT beat FROM public.pulse") == 0, 30, "the first copy")
            writer = Writer(database, args.rate, args.seconds)
            load = measure.load_average()
            writer.start()
            wait_until(lambda: len(writer.began) > 1, 30, "the writer")
            found = delays(writer, lake, min(5, args.seconds / 4))
            if writer.failure:
                raise writer.failure
            assert run.terminate() == 0, run.describe()
            same(database, lake)
            files = file_counts(lake, folder_mib(data) - base_mib)
            commits = lake.value("SELECT count(*) FROM ducklake_snapshots('lake')")
        flow.close()
    return {
        "catalog": kind,
        "transactions": len(writer.began),
        "changes_per_s": len(writer.began) * PER_TRANSACTION / args.seconds,
        "late_ms": writer.late_s * 1000,
        "load": load,
        "percentiles_ms": percentiles(found),
        "files": files,
        "snapshots": commits,
    }


def verdict(result):
    p50, p99 = GOALS_MS[result["catalog"]]
    found = result["percentiles_ms"]
    bad = [f"p50 {found[50]:.0f} ms > {p50}"] if found[50] > p50 else []
    bad += [f"p99 {found[99]:.0f} ms > {p99}"] if p99 and found[99] > p99 else []
    bad += [f"{name}: {f['files']} files > {f['bound']:.0f}" for name, f in result["files"].items() if f["files"] > f["bound"]]
    return "reached" if not bad else "MISSED: " + ", ".join(bad)


def lines(results):
    """A Markdown table and a verdict per catalog."""
    yield "| catalog | changes/s | p50 ms | p90 ms | p99 ms | p99.9 ms | snapshots | files per table |"
    yield "|---|--:|--:|--:|--:|--:|--:|---|"
    for r in results:
        p, files = r["percentiles_ms"], ", ".join(f"{name} {f['files']}" for name, f in sorted(r["files"].items()))
        yield (
            f"| {r['catalog']} | {r['changes_per_s']:,.0f} | {p[50]:.0f} | {p[90]:.0f} | {p[99]:.0f} | {p[99.9]:.0f} "
            f"| {r['snapshots']:,} | {files} |"
        )
    yield ""
    for r in results:
        p50, p99 = GOALS_MS[r["catalog"]]
        goal = f"p50 at most {p50} ms" + (f", p99 at most {p99} ms" if p99 else "")
        yield f"- {r['catalog']}: {goal}, at most 8 live files per table and one more per 16 MiB: {verdict(r)}"


EXPLANATION = """# Freshness

Written by `bench/freshness --write-docs`. A writer commits transactions of 10 changes (updates, inserts, a delete) at a steady rate; the
flow runs at default options; the official DuckLake client asks for the newest transaction as fast as it can. A delay is the time
from sending the COMMIT to the source until the end of the client's first query that shows the transaction, so it contains the
source's own commit, our part, and the client's look at the catalog.
"""


def write_docs(facts, results):
    docs = ROOT / "docs"
    (docs / "images").mkdir(exist_ok=True)
    series = {r["catalog"]: [(p, ms) for p, ms in r["percentiles_ms"].items()] for r in results}
    plot.lines(docs / "images" / "freshness.svg", "Commit to visible", "percent of transactions", "ms", series)
    head = [f"- {line}" for line in report.fact_lines(facts)[:4]] + [f"- {results[0]['seconds']} s for each catalog"]
    text = [EXPLANATION, *head, "", "![delays by percentile](images/freshness.svg)", "", *lines(results), ""]
    (docs / "freshness.md").write_text("\n".join(text))


def arguments(argv):
    parser = argparse.ArgumentParser(prog="bench/freshness", description=__doc__)
    parser.add_argument("--catalog", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--seconds", type=int, default=60, help="of load for each catalog (60)")
    parser.add_argument("--rate", type=int, default=5000, help="changes in a second (5000)")
    parser.add_argument("--destination-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--write-docs", action="store_true", help="also write docs/freshness.md and its plot")
    return parser.parse_args(argv)


def main():
    args = arguments(sys.argv[1:])
    # What report.machine records of a bench/run.
    args.scale, args.repeat, args.no_fsync, args.source_option = 1, 1, False, []
    results = []
    for kind in ["postgres", "sqlite"] if args.catalog == "both" else [args.catalog]:
        folder = Path(tempfile.mkdtemp(prefix="duct-fresh-"))
        try:
            facts = report.machine(args, folder)
            facts["postgres"] = "15"
            results.append({**measure_catalog(kind, args, folder), "seconds": args.seconds})
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(lines(results)))
    (ROOT / "bench" / "results").mkdir(exist_ok=True)
    (ROOT / "bench" / "results" / "freshness.json").write_text(json.dumps({"facts": facts, "results": results}, indent=1))
    if args.write_docs:
        write_docs(facts, results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
