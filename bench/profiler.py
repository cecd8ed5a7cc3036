#!/usr/bin/env python3
"""bench/profile: where one case spends its time, with perf (callgrind when perf is not there)."""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import measure  # noqa: E402
from bed import Bed  # noqa: E402
from compare import chosen, pairs  # noqa: E402


def arguments(argv):
    parser = argparse.ArgumentParser(prog="bench/profile", description=__doc__)
    parser.add_argument("case", help="a name of bench/run --list")
    parser.add_argument("--scale", type=float, default=0.3)
    parser.add_argument("--catalog", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--tool", choices=["perf", "callgrind"], default="perf" if shutil.which("perf") else "callgrind")
    parser.add_argument("--top", type=int, default=25, help="functions to show")
    parser.add_argument("--keep", metavar="FILE", help="keep the tool's own data here (perf report -i FILE)")
    parser.add_argument("--machine", action="store_true", help="perf of the whole machine, the server included")
    parser.add_argument("--source-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--destination-option", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args(argv)
    args.cases, args.unix, args.tcp = args.case, False, False
    return args


def perf_command(data, machine):
    return ["perf", "record", "-q", "-F", "997", "-g", "-o", data, *(["-a"] if machine else []), "--"]


def perf_report(data, *more):
    """Lines of perf report without its comments; libraries without symbols stay as addresses."""
    command = ["perf", "report", "-i", data, "--stdio", "-g", "none", "--percent-limit", "0.3", *more]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [line.rstrip() for line in found.splitlines() if line.strip() and not line.startswith("#")]


def show_perf(data, top, machine):
    parts = [
        ("processes and threads", ["--no-children", "-s", "comm" if machine else "comm,tid"]),
        ("libraries", ["--no-children", "-s", "comm,dso" if machine else "dso"]),
        ("functions, their own time", ["--no-children", "-s", "dso,symbol"]),
        ("functions with what they call", ["--children", "-s", "dso,symbol"]),
    ]
    for title, options in parts:
        print(f"\n{title}")
        print("\n".join(perf_report(data, *options)[:top]))


def callgrind_command(data):
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={data}", "-q"]


def show_callgrind(data, top):
    for title, options in [("functions, their own instructions", []), ("with what they call", ["--inclusive=yes"])]:
        command = ["callgrind_annotate", "--threshold=95", *options, data]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        print(f"\n{title}")
        print("\n".join([line for line in lines if re.match(r"\s*[\d,]+ ", line)][: top + 1]))


def profile(args, case, source, catalog, folder):
    data = args.keep or str(folder / "profile.data")
    wrapper = perf_command(data, args.machine) if args.tool == "perf" else callgrind_command(data)
    options = pairs(args.source_option), pairs(args.destination_option)
    with Bed(source, catalog, folder, case, args.scale, *options) as bed:
        bed.prepare()
        plain = bed.ours(case)
        profiled = bed.ours(case, wrapper)
    for name, figures in (("alone", plain), (f"under {args.tool}", profiled)):
        print(
            f"{case.name} {name}: {case.rows(args.scale):,} rows in {figures.wall_s:.2f} s, CPU {figures.cpu_s:.2f} s, "
            f"server {figures.server_cpu_s:.2f} s, others {figures.other_cores:.2f} cores"
        )
    if args.tool == "perf":
        show_perf(data, args.top, args.machine)
    else:
        show_callgrind(data, args.top)


def main():
    args = arguments(sys.argv[1:])
    group = chosen(args)[0]
    if not shutil.which(args.tool if args.tool == "perf" else "valgrind"):
        sys.exit("bench/profile: neither perf (package linux-perf) nor callgrind (package valgrind) is here")
    folder = Path(tempfile.mkdtemp(prefix="duct-profile-"))
    try:
        with measure.Server() as source:
            catalog = measure.Server().start() if args.catalog == "postgres" else None
            try:
                profile(args, group[0], source, catalog, folder)
            finally:
                if catalog:
                    catalog.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    os.environ["PERF_PAGER"] = "cat"
    sys.exit(main())
