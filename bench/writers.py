"""32 writers on one catalog: commits a second of ours and of official clients (issue 6, "Speed": at least 5 times as many).

Each writer is a process that makes its rows itself and adds them to one table as a Parquet file, a commit at a time. Both kinds have their
libraries loaded before the clock starts: ours (bench/append.c) commit by src/lake, as flows and jobs do, an official client by DuckDB, which
retries as its own options say (--set); what it gives up is tried again by the client and counted. `runs` are, for comparison, `ductstream ingest` of a
REST source by as many processes, a run per commit: start of a process, requests and records of runs included. Medians; the rows are counted after each.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import date, timedelta
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from lib.lake import OfficialLake  # noqa: E402
from lib.paths import EXTENSIONS, program  # noqa: E402
from lib.pg import Postgres  # noqa: E402
from lib.rest import RestServer  # noqa: E402

GOAL = 5
FIRST = date(2024, 1, 1)
SETTINGS = ["ducklake_max_retry_count=1000", "ducklake_retry_wait_ms=100", "ducklake_retry_backoff=1"]


def answer(rows):
    def body(first):
        return "[" + ",".join(f'{{"id":{i},"v":"v{i}","n":{100 + i % 200},"f":{i}.5}}' for i in range(first, first + rows)) + "]"

    return lambda request: (200, {}, body((date.fromisoformat(request.params["day"]) - FIRST).days * rows))


def children_cpu_s():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def clients(command, options):
    """Starts a writer each, lets them begin together: seconds, commits given up, CPU seconds."""
    running = []
    for writer in range(options.writers):
        words = command(writer, writer * options.commits * options.rows)
        running.append(subprocess.Popen([str(w) for w in words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for writer in running:
        assert writer.stdout.readline() == "loaded\n"
    start = time.monotonic()
    for writer in running:
        writer.stdin.write("go\n")
        writer.stdin.flush()
    told = [writer.communicate(timeout=options.timeout)[0].split() for writer in running]
    assert not any(writer.returncode for writer in running), "a writer failed"
    return time.monotonic() - start, sum(int(failed) for failed, _ in told), sum(float(cpu) for _, cpu in told)


def ours(catalog, folder, options, url):
    program = ROOT / "build" / "bench" / "append"
    return clients(lambda n, first: [program, catalog, "raw", "t", f"writer_{n}", first, options.rows, options.commits], options)


def official(catalog, folder, options, url):
    words = [sys.executable, ROOT / "bench" / "official_writer.py", catalog, EXTENSIONS]
    return clients(lambda _, first: [*words, first, options.rows, options.commits, *options.set], options)


def runs(catalog, folder, options, url):
    source = folder / "source.yaml"
    source.write_text(f"into: raw.t\nurl: {url}/t\nparams: {{day: '{{partition.key}}'}}\npartition: {{every: day}}\n")
    env = {
        **os.environ,
        "DUCKLAKE_CATALOG": catalog,
        "DUCKLAKE_DATA_PATH": str(folder / "data"),
    }
    start, cpu, running = time.monotonic(), children_cpu_s(), []
    for writer in range(options.writers):
        first, last = (FIRST + timedelta(days=writer * options.commits + n) for n in (0, options.commits - 1))
        words = [program(), "ingest", source, "--from", str(first), "--to", str(last)]
        env["DUCTSTREAM_STATE_PATH"] = str(folder / f"state_{writer}.sqlite")  # the same for all would be another catalog to wait for
        running.append(subprocess.Popen([str(w) for w in words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE))
    for writer in running:
        said = writer.communicate()[1]
        assert writer.returncode == 0, said
    return time.monotonic() - start, 0, children_cpu_s() - cpu


def measure(run, catalog, folder, options, url):
    (folder / "data").mkdir()
    with OfficialLake(catalog, folder / "data") as lake:
        lake.sql("CREATE SCHEMA raw")
        lake.sql("CREATE TABLE raw.t (id BIGINT, v VARCHAR, n BIGINT, f DOUBLE)")
    seconds, failed, cpu = run(catalog, folder, options, url)
    wanted = options.writers * options.commits * options.rows
    with OfficialLake(catalog) as lake:
        got = lake.sql("SELECT count(*), count(DISTINCT id) FROM raw.t")
        assert got == [(wanted, wanted)], (run.__name__, got, wanted)
    return options.writers * options.commits / seconds, failed, cpu / options.writers / options.commits


def compare(kind, make_catalog, options, url):
    rates = {ours: [], official: [], runs: []}
    for repetition in range(options.repetitions):
        for run in rates:
            with tempfile.TemporaryDirectory() as name:
                catalog = make_catalog(Path(name), f"{run.__name__}_{repetition}")
                rates[run].append(measure(run, catalog, Path(name), options, url))
    medians = {run: statistics.median(one[0] for one in got) for run, got in rates.items()}
    for run, got in rates.items():
        given_up = sum(one[1] for one in got)
        cpu = statistics.median(one[2] for one in got) * 1000
        print(
            f"{kind:9} {run.__name__:9} {medians[run]:7.1f} commits per second  ({' '.join(f'{one[0]:.1f}' for one in got)}), "
            f"CPU of the clients {cpu:.0f} ms a commit" + (f", {given_up} given up by a client and tried again" if given_up else ""),
            flush=True,
        )
    ratio = medians[ours] / medians[official]
    print(
        f"{kind:9} ratio {ratio:.1f}, goal {GOAL}: {'met' if ratio >= GOAL else 'MISSED'}; "
        f"of a run per commit {medians[runs] / medians[official]:.1f}",
        flush=True,
    )
    return ratio >= GOAL


def main():
    parser = argparse.ArgumentParser(prog="bench/writers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=32)
    parser.add_argument("--commits", type=int, default=4, help="of each writer")
    parser.add_argument("--rows", type=int, default=100, help="of each commit")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--timeout", type=int, default=300, help="seconds for one official client")
    parser.add_argument("--set", nargs="*", default=SETTINGS, help="options of the official client: NAME=VALUE")
    parser.add_argument("--catalog", choices=["sqlite", "postgres"], help="only that one")
    options = parser.parse_args()
    good = True
    with RestServer(answer(options.rows)) as server:
        if options.catalog != "postgres":
            good &= compare("sqlite", lambda folder, _: f"sqlite:{folder}/lake.sqlite", options, server.url)
        if options.catalog != "sqlite":
            with Postgres() as postgres:
                good &= compare("postgres", lambda _, name: f"postgres:{postgres.database(name).dsn}", options, server.url)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
