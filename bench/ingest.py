"""Rows of a REST API into a lake per CPU-second, beside dlt on the same local server (issue 6, "Speed": at least 10 times as many).

Both ask for the same pages of glucose readings and append them to a table of a lake on a SQLite catalog. What counts is the CPU time of the
whole process tree, so other load on the machine matters little. Each figure is the median of the repetitions.
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from lib.lake import OfficialLake  # noqa: E402
from lib.paths import program  # noqa: E402
from lib.rest import RestServer  # noqa: E402

import peer  # noqa: E402

GOAL = 10
PAGE = 10_000


def pages(rows):
    def row(i):
        return {
            "_id": f"{i:024x}",
            "sgv": 60 + i % 200,
            "date": 1728950400000 + i * 1000,
            "dateString": f"2024-10-15T{i // 3600 % 24:02d}:{i // 60 % 60:02d}:{i % 60:02d}.000Z",
            "trend": 4,
            "direction": "Flat",
            "device": "share2",
            "type": "sgv",
            "utcOffset": 0,
        }

    return [json.dumps([row(i) for i in range(at, min(at + PAGE, rows))]) for at in range(0, rows, PAGE)]


def cpu_seconds(command, env):
    """Of the command and all that it starts; it must succeed."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([str(word) for word in command], env=env, check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(url, folder):
    source = folder / "source.yaml"
    source.write_text(f"into: raw.entries\nurl: {url}/entries\npaging: {{type: page, param: page, size: {PAGE}}}\n")
    env = {
        **os.environ,
        "DUCKLAKE_CATALOG": f"sqlite:{folder}/lake.sqlite",
        "DUCKLAKE_DATA_PATH": str(folder / "data"),
        "DUCTSTREAM_STATE_PATH": str(folder / "state.sqlite"),
    }
    return cpu_seconds([program(), "ingest", source], env)


def dlt(url, folder):
    return cpu_seconds(peer.command(url, folder, "dlt_rest.py"), {**os.environ, "HOME": str(folder)})


def measure(run, url, rows):
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "data").mkdir()
        seconds = run(url, folder)
        with OfficialLake(f"sqlite:{folder}/lake.sqlite") as lake:
            [(landed,)] = lake.sql("SELECT count(*) FROM raw.entries")
        assert landed == rows, landed
        return seconds


def main():
    parser = argparse.ArgumentParser(prog="bench/ingest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    bodies = pages(options.rows)

    def answer(request):
        page = int(request.params["page"])
        return 200, {"Content-Type": "application/json"}, bodies[page - 1] if page <= len(bodies) else "[]"

    with RestServer(answer) as server:
        times = {run.__name__: [] for run in (ours, dlt)}
        for _ in range(options.repetitions):
            for run in (ours, dlt):
                times[run.__name__].append(measure(run, server.url, options.rows))
    rates = {name: options.rows / statistics.median(seconds) for name, seconds in times.items()}
    for name, rate in rates.items():
        print(f"{name:5} {rate:12,.0f} rows per CPU-second  {' '.join(f'{s:.2f}' for s in times[name])} s")
    ratio = rates["ours"] / rates["dlt"]
    print(f"ratio {ratio:.1f}, goal {GOAL}: {'met' if ratio >= GOAL else 'MISSED'}")
    return 0 if ratio >= GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
