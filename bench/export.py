"""A day of a team's events, out of ClickHouse into the team's lake, beside the bare statement (issue 6, "Speed": at most 3 % more).

The bare one is the same `INSERT INTO FUNCTION s3(...) SELECT`, sent by itself. Ours is the whole of `ductstream
backfill run`: its start, the count, that statement, the file's footer, the commit that takes the day's place, the record of the run. Both by turns, on the real engine (chdb
behind HTTP) and versitygw on this machine; medians of wall time, and of CPU time, which other load on the machine does not touch: ours is that of the
engine and of all our processes. The rows are counted by an official client.
"""

import argparse
import os
import re
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from lib.exports import Team, exports_server  # noqa: E402
from lib.pg import Postgres  # noqa: E402
from lib.s3 import S3Server  # noqa: E402

from measure import load_average  # noqa: E402

GOAL = 1.03
DAY = "2024-01-15"


def put_events(clickhouse, team, rows):
    """Events with some 300 bytes of properties each, a piece at a time."""
    piece = 500_000
    for first in range(0, rows, piece):
        clickhouse.sql(
            "INSERT INTO events SELECT generateUUIDv4(), ['$pageview', 'click', 'purchase'][1 + number % 3], "
            "concat('{\"$current_url\": \"https://example.com/', hex(cityHash64(number)), '\", \"$session_id\": \"', toString(generateUUIDv4()), "
            "'\", \"$browser\": \"Firefox\", \"$os\": \"Linux\", \"$lib\": \"web\", \"price\": ', toString(number % 997), ', \"$referrer\": \"', "
            "hex(sipHash128(number)), hex(sipHash128(number + 1)), '\"}'), "
            f"toDateTime64('{DAY} 00:00:00', 6, 'UTC') + toIntervalMillisecond(number * 86400000 / {rows}), {team}, "
            "concat('user-', toString(number % 50000)), '', now64(6), generateUUIDv4(), now64(3), '{\"plan\": \"free\"}', '', '', '', '', '', "
            f"0, 0, 0, 0, 0, 'full', false FROM numbers({first}, {min(piece, rows - first)})"
        )


class Bench:
    def __init__(self, team, rows):
        self.team, self.rows, self.number = team, rows, 0
        self.team.run(f"_{DAY}")  # makes the lake
        self.statement = [s for s in team.clickhouse.statements() if s.startswith("INSERT INTO FUNCTION s3(")][-1]

    def cpu_s(self):
        """Of the engine, and of what we have started and waited for."""
        fields = Path(f"/proc/{self.team.clickhouse.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        own = resource.getrusage(resource.RUSAGE_CHILDREN)
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") + own.ru_utime + own.ru_stime

    def timed(self, run):
        start, cpu = time.monotonic(), self.cpu_s()
        run()
        return time.monotonic() - start, self.cpu_s() - cpu

    def bare(self):
        self.number += 1
        self.team.clickhouse.sql(re.sub(r"/[^/]*\.parquet", f"/bare{self.number}.parquet", self.statement))

    def ours(self):
        result, _ = self.team.run(f"_{DAY}")
        assert result["rows"] == self.rows


def compare(kind, team, options):
    bench = Bench(team, options.rows)
    times = {bench.bare: [], bench.ours: []}
    for _ in range(options.repetitions):
        for run, got in times.items():
            got.append(bench.timed(run))
    with team.lake() as lake:
        assert lake.count("posthog.events") == options.rows
    good = True
    for number, what in enumerate(("wall", "CPU")):
        medians = {run.__name__: statistics.median(one[number] for one in got) for run, got in times.items()}
        for run, got in times.items():
            print(f"{kind:9} {what:4} {run.__name__:5} {medians[run.__name__]:7.2f} s  ({' '.join(f'{one[number]:.2f}' for one in got)})", flush=True)
        ratio, more = medians["ours"] / medians["bare"], medians["ours"] - medians["bare"]
        print(f"{kind:9} {what:4} ratio {ratio:.3f} ({more:.2f} s more), goal {GOAL}: {'met' if ratio <= GOAL else 'MISSED'}", flush=True)
        good &= ratio <= GOAL
    return good


def main():
    parser = argparse.ArgumentParser(prog="bench/export", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--catalog", choices=["sqlite", "postgres"], help="only that one")
    options = parser.parse_args()
    good = True
    print(f"load before: {load_average():.1f}")
    with tempfile.TemporaryDirectory() as name, S3Server(Path(name) / "s3") as s3, exports_server(Path(name) / "clickhouse", s3) as clickhouse:
        for kind in [options.catalog] if options.catalog else ["sqlite", "postgres"]:
            folder = Path(name) / kind
            folder.mkdir()
            s3.bucket(f"acme-{kind}")
            if kind == "sqlite":
                team = Team(folder, f"sqlite:{folder}/lake.sqlite", s3, f"acme-{kind}", clickhouse)
                put_events(clickhouse, team.id, options.rows)
                good &= compare(kind, team, options)
            else:
                with Postgres() as postgres:
                    team = Team(folder, f"postgres:{postgres.database('lake').dsn}", s3, f"acme-{kind}", clickhouse)
                    put_events(clickhouse, team.id, options.rows)
                    good &= compare(kind, team, options)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
