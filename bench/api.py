"""GetFlow calls per second on SQLite state, beside the standard health check of the same server, and the server's memory.

The client (ghz) runs on the same machine. The health check does nothing but answer, so it is the floor that gRPC's own library sets on
this machine; both are measured in turns. Goals (issue 5, "Speed"): 8,000 a second with one call in flight, 12,000 with fifty, and at
least 0.8 of the floor; below 60 MiB idle. Each figure is the median of the repetitions.
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from lib.paths import CACHE  # noqa: E402
from lib.service import Service  # noqa: E402

CASES = [("one in flight", 1, 8_000), ("fifty in flight", 50, 12_000)]  # and the goal
RATIO_GOAL = 0.8
IDLE_GOAL_MIB = 60
FLOW = {
    "id": "shop",
    "source": {"name": "shop", "type": 1, "options": {"dsn": "host=db dbname=shop", "slot": "shop", "publication": "shop"}},
    "destinations": [{"name": "lake", "type": 14, "options": {"catalog": "sqlite:lake.sqlite", "data_path": "lake"}}],
}
GET_FLOW = ("ductstream/v1/flow.proto", "ductstream.v1.FlowService.GetFlow", '{"flow_id": "shop"}')
HEALTH = ("grpc/health/v1/health.proto", "grpc.health.v1.Health.Check", "{}")
TICK = os.sysconf("SC_CLK_TCK")


def ghz():
    found = shutil.which("ghz", path=str(CACHE / "bin")) or shutil.which("ghz")
    if not found:
        sys.exit("bench/api: ghz is missing: GOBIN=$PWD/.cache/bin go install github.com/bojand/ghz/cmd/ghz@v0.120.0")
    return found


def cpu_s(pid):
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICK


def measure(server, call, in_flight, calls):
    """(calls a second, the server's CPU in µs a call); all calls must have been answered."""
    proto, method, data = call
    command = [ghz(), "--insecure", "--proto", ROOT / "proto" / proto, "-i", ROOT / "proto", "--call", method, "-d", data]
    command += ["-c", str(in_flight), "--connections", "1" if in_flight == 1 else "4", "-n", str(calls), "--format", "json"]
    before = cpu_s(server.process.pid)
    done = subprocess.run([*command, server.address], check=True, capture_output=True, text=True)
    used = cpu_s(server.process.pid) - before
    told = json.loads(done.stdout)
    assert told["statusCodeDistribution"] == {"OK": calls}, told["statusCodeDistribution"]
    return told["rps"], used / calls * 1e6


def spread(found):
    rates = [rate for rate, _ in found]
    return {
        "rate": statistics.median(rates),
        "least": min(rates),
        "most": max(rates),
        "cpu_us": statistics.median(cpu for _, cpu in found),
    }


def run_case(server, name, in_flight, goal, args):
    """GetFlow and the floor, one after the other as often as asked for."""
    ours, floor = [], []
    for turn in range(args.repeat + 1):
        found = [measure(server, call, in_flight, args.calls) for call in (GET_FLOW, HEALTH)]
        if turn:  # the first warms up
            ours.append(found[0])
            floor.append(found[1])
    ratio = statistics.median(a[0] / b[0] for a, b in zip(ours, floor))
    result = {"case": name, "in_flight": in_flight, "calls": args.calls, "get_flow": spread(ours), "health": spread(floor), "ratio": ratio}
    return result | {"goal": goal, "ratio_goal": RATIO_GOAL} | verdicts(result["get_flow"]["rate"], ratio, goal)


def verdicts(rate, ratio, goal):
    return {"goal_met": rate >= goal, "ratio_met": ratio >= RATIO_GOAL}


def resident_mib(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def results(args):
    with tempfile.TemporaryDirectory(prefix="duct-api-") as home, Service(home) as service:
        pid = service.server.process.pid
        idle = resident_mib(pid)
        service.call("CreateFlow", flow=FLOW)
        for name, in_flight, goal in CASES:
            yield run_case(service.server, name, in_flight, goal, args)
        yield {"case": "MiB", "idle": idle, "after": resident_mib(pid), "goal": IDLE_GOAL_MIB, "goal_met": idle < IDLE_GOAL_MIB}


def said(met):
    return "reached" if met else "MISSED"


def line(result):
    if result["case"] == "MiB":
        return f"{result['idle']:.0f} MiB idle, {result['after']:.0f} after the calls: goal {result['goal']}, {said(result['goal_met'])}"
    lines = [
        f"{result['case']:<17}{what:<14}{found['rate']:>10,.0f}{found['least']:>10,.0f}{found['most']:>10,.0f}{found['cpu_us']:>10.0f}"
        for what, found in (("GetFlow", result["get_flow"]), ("health check", result["health"]))
    ]
    lines[0] += f"  goal {result['goal']:,}: {said(result['goal_met'])}"
    lines[1] += f"  ratio {result['ratio']:.2f}, goal {RATIO_GOAL}: {said(result['ratio_met'])}"
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--calls", type=int, default=40_000)
    parser.add_argument("--json", action="store_true", help="a JSON object per case")
    parser.add_argument("--store", type=Path, default=ROOT / "bench" / "results", help="folder for the results (%(default)s)")
    args = parser.parse_args()
    if not args.json:
        load = os.getloadavg()[0]
        print(f"{len(os.sched_getaffinity(0))} cores, load average {load:.2f} at the start, medians of {args.repeat} repetitions")
        print(f"{'case':<17}{'call':<14}{'calls/s':>10}{'least':>10}{'most':>10}{'µs CPU':>10}")
    found = []
    for result in results(args):
        found.append(result)
        print(json.dumps(result) if args.json else line(result), flush=True)
    args.store.mkdir(parents=True, exist_ok=True)
    stored = args.store / time.strftime("api-%Y%m%d-%H%M%S.json", time.gmtime())
    stored.write_text(json.dumps({"results": found}, indent=1) + "\n")


if __name__ == "__main__":
    main()
