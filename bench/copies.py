"""A Delta table into a lake, beside DuckDB's own COPY (SELECT * FROM delta_scan(..)) TO one Parquet file (issue 6, "Speed": at least 0.8).

Both are whole processes, in turns, on the same table, on local disk and on a local S3 server: ours pins the version, writes, reads back and compares
each column, and commits; the other writes. Medians of the repetitions, of time and of CPU time. At last ours once more with little memory.
"""

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from lib.copies import Copies, delta_write  # noqa: E402
from lib.paths import EXTENSIONS  # noqa: E402
from lib.s3 import S3Server  # noqa: E402

GOAL = 0.8
STEP = 1_000_000
COPY = """
import duckdb, sys
extensions, secret, source, target, memory = sys.argv[1:]
c = duckdb.connect(config={"allow_unsigned_extensions": "true", "memory_limit": memory})
for name in (["httpfs"] if secret else []) + ["delta"]:
    c.execute(f"LOAD '{extensions}/{name}.duckdb_extension'")
if secret:
    c.execute(secret)
c.execute(f"COPY (SELECT * FROM delta_scan('{source}')) TO '{target}' (FORMAT parquet)")
"""


def make(uri, rows, **more):
    import numpy as np
    import pyarrow as pa

    random = np.random.default_rng(1)
    categories = np.array([f"category {i:03d}" for i in range(200)])
    for at in range(0, rows, STEP):
        n = min(STEP, rows - at)
        times = 1704067200000000 + np.sort(random.integers(0, 86400_000_000 * 30, n))
        table = pa.table(
            {
                "id": np.arange(at, at + n),
                "at": pa.array(times, pa.timestamp("us", "UTC")),
                "team": random.integers(0, 500, n),
                "amount": random.normal(100, 20, n),
                "category": pa.array(categories[random.integers(0, 200, n)]),
                "url": pa.array([f"https://example.com/page/{x}" for x in random.integers(0, 1_000_000, n)]),
                "ok": random.random(n) < 0.9,
            }
        )
        delta_write(uri, table, "append", **more)


def measure(command, env):
    """(seconds, CPU seconds, MiB at most) of the command and all that it starts."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    process = subprocess.Popen([str(word) for word in command], env=env, stdout=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        peak = max(peak, tree_bytes(process.pid))
        time.sleep(0.02)
    seconds, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    assert process.returncode == 0, command
    return seconds, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, peak / 2**20


def tree_bytes(pid):
    """Resident, of a process and its children."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = [child for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()]
    except (OSError, IndexError):
        return 0
    return pages * resource.getpagesize() + sum(tree_bytes(int(child)) for child in children)


class Case:
    """One place of tables and files. s3: None, or (server, bucket)."""

    def __init__(self, name, folder, rows, memory, s3=None):
        self.name, self.folder, self.memory, self.s3 = name, folder, memory, s3
        self.base = f"s3://{s3[1]}" if s3 else str(folder)
        self.source = f"{self.base}/delta"
        self.times = {"ours": [], "duckdb": []}
        self.runs = 0
        make(self.source, rows, **({"storage_options": s3[0].delta_options()} if s3 else {}))

    def ours(self, memory=None):
        self.runs += 1
        folder = self.folder / f"ours-{self.runs}"
        folder.mkdir()
        copies = Copies(folder, data_path=f"{self.base}/lake-{self.runs}/", s3=self.s3 and self.s3[0])
        env = {**copies.env, "DUCKDB_MEMORY_LIMIT": memory or self.memory, "DUCKDB_TEMP_DIRECTORY": str(folder)}
        return measure(copies.words("data-modeling", "--team-id", 123, "--model", f"q={self.source}"), env)

    def duckdb(self):
        secret = self.s3[0].secret_sql() if self.s3 else ""
        target = f"{self.base}/plain.parquet"
        return measure([sys.executable, "-c", COPY, EXTENSIONS, secret, self.source, target, self.memory], os.environ)

    def repeat(self):
        for run in (self.ours, self.duckdb):
            self.times[run.__name__].append(run())

    def tell(self):
        middle = {name: [statistics.median(t[i] for t in times) for i in range(3)] for name, times in self.times.items()}
        for name, (seconds, cpu, peak) in middle.items():
            each = " ".join(f"{t[0]:.2f}" for t in self.times[name])
            print(f"{self.name:5} {name:7} {seconds:6.2f} s  {cpu:6.2f} CPU s  {peak:5.0f} MiB   ({each})")
        ratio, of_cpu = (middle["duckdb"][i] / middle["ours"][i] for i in (0, 1))
        print(f"{self.name:5} ratio {ratio:.2f} (of CPU {of_cpu:.2f}), goal {GOAL}: {'met' if ratio >= GOAL else 'MISSED'}", flush=True)
        return ratio


def main():
    parser = argparse.ArgumentParser(prog="bench/copies", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--memory", default="1GB", help="DUCKDB_MEMORY_LIMIT of both (1GB)")
    parser.add_argument("--little", default="256MB", help="and of the last run (256MB)")
    parser.add_argument("--only", choices=("local", "s3"))
    parser.add_argument("--folder", help="where the tables are made ($TMPDIR)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder, ratios = Path(name), []
        for where in ("local", "s3"):
            if options.only not in (None, where):
                continue
            (folder / where).mkdir()
            server = S3Server(folder / "server") if where == "s3" else None
            case = Case(where, folder / where, options.rows, options.memory, (server, server.bucket("bench")) if server else None)
            print(f"{where}: made; load {os.getloadavg()[0]:.1f}", flush=True)
            for _ in range(options.repetitions):
                case.repeat()
            ratios.append(case.tell())
            seconds, cpu, peak = case.ours(options.little)
            print(f"{where:5} ours, limit {options.little}: {seconds:.2f} s  {cpu:.2f} CPU s  {peak:.0f} MiB", flush=True)
            if server:
                server.kill()
    return 0 if min(ratios) >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
