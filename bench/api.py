"""GetFlow calls per second on SQLite state, the client (ghz) on the same machine, and the server's memory (issue 5, "Speed").

Goals: 8,000 a second with one call in flight, 12,000 with fifty; below 60 MiB idle. Each figure is the median of the repetitions.
"""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from lib.paths import CACHE  # noqa: E402
from lib.service import Service  # noqa: E402

CASES = [("one in flight", 1, 8_000), ("fifty in flight", 50, 12_000)]  # and the goal
IDLE_GOAL_MIB = 60
FLOW = {
    "id": "shop",
    "source": {"name": "shop", "type": 1, "options": {"dsn": "host=db dbname=shop", "slot": "shop", "publication": "shop"}},
    "destinations": [{"name": "lake", "type": 14, "options": {"catalog": "sqlite:lake.sqlite", "data_path": "lake"}}],
}


def ghz():
    found = shutil.which("ghz", path=str(CACHE / "bin")) or shutil.which("ghz")
    if not found:
        sys.exit("bench/api: ghz is missing: GOBIN=$PWD/.cache/bin go install github.com/bojand/ghz/cmd/ghz@v0.120.0")
    return found


def rate(address, in_flight, calls):
    """Calls a second, all of which were answered."""
    command = [ghz(), "--insecure", "--proto", ROOT / "proto/ductstream/v1/flow.proto", "-i", ROOT / "proto"]
    command += ["--call", "ductstream.v1.FlowService.GetFlow", "-d", '{"flow_id": "shop"}', "-c", str(in_flight)]
    command += ["--connections", "1" if in_flight == 1 else "4", "-n", str(calls), "--format", "json", address]
    told = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert told["statusCodeDistribution"] == {"OK": calls}, told["statusCodeDistribution"]
    return told["rps"]


def resident_mib(pid):
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) / 1024


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--calls", type=int, default=40_000)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="duct-api-") as home, Service(home) as service:
        pid = service.server.process.pid
        idle = resident_mib(pid)
        service.call("CreateFlow", flow=FLOW)
        print(f"{'case':<18}{'calls/s':>10}{'least':>10}{'most':>10}{'goal':>10}  verdict")
        for name, in_flight, goal in CASES:
            rates = [rate(service.server.address, in_flight, args.calls) for _ in range(args.repeat)]
            middle = statistics.median(rates)
            verdict = "reached" if middle >= goal else "MISSED"
            print(f"{name:<18}{middle:>10,.0f}{min(rates):>10,.0f}{max(rates):>10,.0f}{goal:>10,}  {verdict}")
        verdict = "reached" if idle < IDLE_GOAL_MIB else "MISSED"
        print(f"{'MiB idle':<18}{idle:>10.0f}{'':>20}{IDLE_GOAL_MIB:>10}  {verdict}; {resident_mib(pid):.0f} after the calls")


if __name__ == "__main__":
    main()
