"""Messages per second that consumers of a stream pull and acknowledge, with Postgres (fsync on) on the same machine.

Each case drains a stream of its own group from the beginning; the figure is the median of the repetitions, and counts only when every
message was acknowledged once. The goal: 20,000 messages/s by 4 consumers in pulls of 100 (issue 5, point 8).
"""

import argparse
import json
import os
import statistics
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from lib.pg import Postgres  # noqa: E402
from lib.stream import Stream, finish  # noqa: E402

GOAL = 20_000
CASES = [  # name, consumers, messages of a pull
    ("4 consumers, pulls of 100", 4, 100),
    ("1 consumer, pulls of 100", 1, 100),
    ("4 consumers, pulls of 1,000", 4, 1000),
    ("4 consumers, pulls of 10", 4, 10),
]


def measure(stream, n, consumers, most, group):
    """Seconds of one drain."""
    told = finish(stream.consume("--consumers", str(consumers), "--max", str(most), group=group), timeout_s=600)
    lag = stream.lag(group)
    assert told["messages"] == n and lag["messages"] == 0, f"{told} {lag}"
    return told["seconds"]


def run(args):
    settings = {"shared_buffers": "256MB", "max_wal_size": "4GB"}
    with Postgres(fsync=not args.no_fsync, settings=settings) as server:
        stream = Stream(server.database("streams"))
        stream.fill(args.messages, payload_bytes=args.bytes)
        stream.database.sql("VACUUM ANALYZE")
        for name, consumers, most in CASES:
            n = args.messages if most >= 100 else max(1000, args.messages // 10)
            if n < args.messages:  # the slow ones drain a shorter one
                stream = Stream(stream.database, f"short-{most}")
                stream.fill(n, payload_bytes=args.bytes)
            rates = [n / measure(stream, n, consumers, most, f"{consumers}-{most}-{i}") for i in range(args.repeat)]
            yield {"case": name, "messages": n, "rate": statistics.median(rates), "least": min(rates), "most": max(rates)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--messages", type=int, default=200_000)
    parser.add_argument("--bytes", type=int, default=500, help="of payload (%(default)s)")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--no-fsync", action="store_true")
    parser.add_argument("--json", action="store_true", help="a JSON object per case")
    args = parser.parse_args()
    if not args.json:
        print(f"{len(os.sched_getaffinity(0))} cores, {args.bytes} bytes a message, medians of {args.repeat}")
    met = True
    for number, result in enumerate(run(args)):
        if number == 0:
            met = result["goal_met"] = result["rate"] >= GOAL
        if args.json:
            print(json.dumps(result))
        else:
            verdict = "" if number else f"  goal {GOAL:,}: {'met' if met else 'MISSED'}"
            print(f"{result['case']:<30}{result['rate']:>10,.0f} messages/s  ({result['least']:,.0f}-{result['most']:,.0f}){verdict}", flush=True)
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
