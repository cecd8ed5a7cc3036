"""bench/freshness: from a source commit to what the official DuckLake client sees, under a steady load at default options (issue 4, point 2)."""

import argparse
import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from pathlib import Path

import psycopg

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from lib.flow import Flow  # noqa: E402
from lib.lake import OfficialLake  # noqa: E402
from lib.wait import wait_until  # noqa: E402

import measure  # noqa: E402
import plot  # noqa: E402
import report  # noqa: E402

_processes = multiprocessing.get_context("fork")

ACCOUNTS = 100_000
PER_TRANSACTION = 10
GOALS_MS = {"postgres": (100, 300), "sqlite": (200, None)}  # p50, p99
WRITERS = 4
STEADY = 0.98  # of the wanted rate
GIVE_UP_S = 30  # a writer that is so late ends
PAUSE_S = 0.005  # of the client between an answer and its next question
PERCENTS = [1, *range(5, 100, 5), 99, 99.9]

SCHEMA = f"""
CREATE TABLE account (id int8 PRIMARY KEY, balance numeric(14,2), note text, changed timestamptz);
CREATE TABLE booking (id int8 PRIMARY KEY, account int8, amount numeric(12,2), at timestamptz, text text);
CREATE TABLE pulse (id int4 PRIMARY KEY, count int8);
INSERT INTO account SELECT g, 1000, md5(g::text), now() FROM generate_series(1, {ACCOUNTS}) g;
INSERT INTO pulse SELECT g, 0 FROM generate_series(0, {WRITERS - 1}) g;
CREATE PUBLICATION bench FOR TABLE account, booking, pulse;
"""

# Each transaction: 4 accounts change, 4 bookings come, 1 booking of a minute ago goes, and the writer's pulse counts.
STEP = f"""
CREATE FUNCTION step(writer int, number int8, beat int8) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE account SET balance = balance + 1, changed = now()
        WHERE id IN (SELECT (beat * 4 + i) * 7919 % {ACCOUNTS} + 1 FROM generate_series(0, 3) i);
    INSERT INTO booking SELECT beat * 4 + i, (beat * 4 + i) * 7919 % {ACCOUNTS} + 1, 1, now(), 'booking ' || beat
        FROM generate_series(0, 3) i;
    DELETE FROM booking WHERE id = (beat - 30000) * 4;
    UPDATE pulse SET count = number WHERE id = writer;
END $$
"""


class Writer:
    """A process of its own that commits by a schedule fixed beforehand: a late transaction delays none that come after it.

    began[n] is the time at which the COMMIT of its transaction n was sent, 0 before that.
    """

    def __init__(self, dsn, number, rate, seconds):
        self._dsn, self._number, self._gap_s, self._seconds = dsn, number, PER_TRANSACTION * WRITERS / rate, seconds
        self.total = int(seconds / self._gap_s)
        self.began = _processes.Array("d", self.total + 1, lock=False)
        self._process = _processes.Process(target=self._write, daemon=True)

    def start(self, when):
        self._when = when + self._number * self._gap_s / WRITERS
        self._process.start()

    def running(self):
        return self._process.is_alive()

    def failed(self):
        return self._process.exitcode not in (0, None)

    def _write(self):
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            for n in range(1, self.total + 1):
                wait = self._when + n * self._gap_s - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                elif wait < -GIVE_UP_S:
                    return  # far behind: the rate that was reached tells it
                connection.execute(f"BEGIN; SELECT step({self._number}, {n}, {n * WRITERS + self._number})")
                self.began[n] = time.monotonic()
                connection.execute("COMMIT")

    def sent(self, n):
        """When the COMMIT of transaction N, which somebody has seen, was sent."""
        while not self.began[n]:  # the writer has not been given its turn since
            time.sleep(0.0001)
        return self.began[n]

    def last(self):
        return next((n for n in range(self.total, 0, -1) if self.began[n]), 0)

    def late_s(self):
        """How late each transaction was against the schedule."""
        return [self.began[n] - self._when - n * self._gap_s for n in range(1, self.last() + 1)]


class Writers:
    """All of them; together they make the rate."""

    def __init__(self, dsn, rate, seconds):
        self.all = [Writer(dsn, number, rate, seconds) for number in range(WRITERS)]
        self.rate = rate

    def start(self):
        self.start_s = time.monotonic() + 0.5
        for writer in self.all:
            writer.start(self.start_s)

    def running(self):
        return any(writer.running() for writer in self.all)

    def transactions(self):
        return sum(writer.last() for writer in self.all)

    def reached(self):
        """Changes a second from the first to the last commit."""
        elapsed = max(writer.began[writer.last()] for writer in self.all) - self.start_s
        return self.transactions() * PER_TRANSACTION / elapsed


def delays(writers, lake, warm_up_s):
    """Seconds from COMMIT to the end of the first query of the client that shows it, one per transaction."""
    seen, found = [0] * WRITERS, []
    while writers.running() or any(n < writer.last() for n, writer in zip(seen, writers.all)):
        time.sleep(PAUSE_S)
        rows = lake.sql("SELECT id, count FROM public.pulse")
        now = time.monotonic()
        for number, count in rows:
            writer = writers.all[number]
            sent = [writer.sent(n) for n in range(seen[number] + 1, count + 1)]
            found += [now - each for each in sent if each - writers.start_s >= warm_up_s]
            seen[number] = max(seen[number], count)
        if not writers.running() and now > max(writer.began[writer.last()] for writer in writers.all) + 60:
            raise SystemExit("bench/freshness: the last change was not seen within 60 s")
    if any(writer.failed() for writer in writers.all):
        raise SystemExit("bench/freshness: a writer failed")
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
        "pulse": "count(*), sum(count)",
    }
    for table, select in sums.items():
        left = [str(value) for value in database.query(f"SELECT {select} FROM {table}")[0]]
        right = [str(value) for value in lake.sql(f"SELECT {select} FROM public.{table}")[0]]
        if [float(a) for a in left] != [float(b) for b in right]:
            raise SystemExit(f"bench/freshness: {table} differs: {left} at the source, {right} in the lake")


def measure_catalog(kind, args, folder):
    """A dict of figures, and the server's version."""
    with measure.Server(autovacuum="on") as source:
        version = source.value("SHOW server_version")
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
        writers = Writers(source.dsn("fresh"), args.rate, args.seconds)
        run = flow.start()
        with OfficialLake(catalog, options="READ_ONLY") as lake:
            wait_until(lambda: lake.value("SELECT count(*) FROM public.pulse") == WRITERS, 30, "the first copy")
            load = measure.load_average()
            writers.start()
            found = delays(writers, lake, min(5, args.seconds / 4))
            assert run.terminate() == 0, run.describe()
            same(database, lake)
            files = file_counts(lake, folder_mib(data) - base_mib)
            commits = lake.value("SELECT count(*) FROM ducklake_snapshots('lake')")
        flow.close()
    late = percentiles([each for writer in writers.all for each in writer.late_s()])
    result = {
        "catalog": kind,
        "seconds": args.seconds,
        "transactions": writers.transactions(),
        "wanted_per_s": args.rate,
        "changes_per_s": writers.reached(),
        "late_ms": {"p50": late[50], "p99": late[99]},
        "load": load,
        "percentiles_ms": percentiles(found),
        "files": files,
        "snapshots": commits,
    }
    return result, version


def verdict(result):
    p50, p99 = GOALS_MS[result["catalog"]]
    found, wanted = result["percentiles_ms"], result["wanted_per_s"]
    reached = result["changes_per_s"]
    bad = [f"only {reached:,.0f} changes/s were written"] if reached < STEADY * wanted else []
    bad += [f"p50 {found[50]:.0f} ms > {p50}"] if found[50] > p50 else []
    bad += [f"p99 {found[99]:.0f} ms > {p99}"] if p99 and found[99] > p99 else []
    bad += [f"{name}: {f['files']} files > {f['bound']:.0f}" for name, f in result["files"].items() if f["files"] > f["bound"]]
    return "reached" if not bad else "MISSED: " + ", ".join(bad)


def lines(results):
    """A Markdown table and a verdict per catalog."""
    yield "| catalog | changes/s | writers late p99 ms | p50 ms | p90 ms | p99 ms | p99.9 ms | snapshots | files per table |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|---|"
    for r in results:
        p, files = r["percentiles_ms"], ", ".join(f"{name} {f['files']}" for name, f in sorted(r["files"].items()))
        yield (
            f"| {r['catalog']} | {r['changes_per_s']:,.0f} | {r['late_ms']['p99']:.0f} | {p[50]:.0f} | {p[90]:.0f} | {p[99]:.0f} | {p[99.9]:.0f} "
            f"| {r['snapshots']:,} | {files} |"
        )
    yield ""
    for r in results:
        p50, p99 = GOALS_MS[r["catalog"]]
        goal = f"{r['wanted_per_s']:,} changes/s, p50 at most {p50} ms" + (f", p99 at most {p99} ms" if p99 else "")
        yield f"- {r['catalog']}: {goal}, at most 8 live files per table and one more per 16 MiB: {verdict(r)}"


EXPLANATION = """# Freshness

Written by `bench/freshness --write-docs`. Four connections commit transactions of 10 changes (updates, inserts, a delete) by a schedule that is
fixed beforehand, so a slow moment of the source makes transactions late (`writers late`) but not fewer. Source, catalog, writers, flow and
client share the machine. The flow runs at default options; the official DuckLake client asks for the newest transactions, and again 5 ms
after each answer. A delay is the time from sending the COMMIT to the source until the end of the client's first query that shows the
transaction, so it contains the source's own commit, our part, and the client's look at the catalog; the first five seconds are not
counted. On a SQLite catalog the goal is of the median only. The bound on files of a table is 8,
and one more for each 16 MiB that the flow has written.
"""


def write_docs(facts, results, docs):
    (docs / "images").mkdir(parents=True, exist_ok=True)
    series = {r["catalog"]: [(p, ms) for p, ms in r["percentiles_ms"].items()] for r in results}
    plot.lines(docs / "images" / "freshness.svg", "Commit to visible", "percent of transactions", "ms", series)
    seconds = f"- {results[0]['seconds']} s for each catalog, load average {facts['load']:.2f} at the start"
    head = [*(f"- {line}" for line in report.fact_lines(facts)[:4]), seconds]
    text = [EXPLANATION, *head, "", "![delays by percentile](images/freshness.svg)", "", *lines(results), ""]
    (docs / "freshness.md").write_text("\n".join(text))


def arguments(argv):
    parser = argparse.ArgumentParser(prog="bench/freshness", description=__doc__)
    parser.add_argument("--catalog", choices=["sqlite", "postgres", "both"], default="both")
    parser.add_argument("--seconds", type=int, default=60, help="of load for each catalog (60)")
    parser.add_argument("--rate", type=int, default=5000, help="changes in a second (5000)")
    parser.add_argument("--destination-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument(
        "--write-docs", nargs="?", const=ROOT / "docs", type=Path, metavar="FOLDER", help="also write freshness.md and its plot"
    )
    parser.add_argument("--store", type=Path, default=ROOT / "bench" / "results", metavar="FOLDER", help="for the results")
    return parser.parse_args(argv)


def main():
    args = arguments(sys.argv[1:])
    # What report.machine records of a bench/run.
    args.scale, args.repeat, args.no_fsync, args.source_option = 1, 1, False, []
    facts, results = None, []
    for kind in ["postgres", "sqlite"] if args.catalog == "both" else [args.catalog]:
        folder = Path(tempfile.mkdtemp(prefix="duct-fresh-"))
        try:
            facts = facts or {**report.machine(args, folder), "memory_limit": "none"}
            result, facts["postgres"] = measure_catalog(kind, args, folder)
            results.append(result)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    print("\n".join(lines(results)))
    args.store.mkdir(parents=True, exist_ok=True)
    (args.store / "freshness.json").write_text(json.dumps({"facts": facts, "results": results}, indent=1))
    if args.write_docs:
        write_docs(facts, results, args.write_docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
