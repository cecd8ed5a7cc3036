#!/usr/bin/env python3
"""bench/profile: where one case spends its time, with perf (callgrind when perf is not there)."""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import threading
from collections import Counter, defaultdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import compare  # noqa: E402
import measure  # noqa: E402
from bed import Bed  # noqa: E402
from compare import pairs  # noqa: E402
from lib.paths import program  # noqa: E402


def arguments(argv):
    parser = argparse.ArgumentParser(prog="bench/profile", description=__doc__)
    parser.add_argument("case", help="a name of bench/run --list")
    parser.add_argument("--scale", type=float, default=0.3)
    parser.add_argument("--catalog", choices=["sqlite", "postgres"], default="sqlite")
    parser.add_argument("--tool", choices=["perf", "callgrind"], default="perf" if shutil.which("perf") else "callgrind")
    parser.add_argument("--top", type=int, default=20, help="functions to show (20)")
    parser.add_argument("--keep", metavar="FILE", help="keep the tool's own data here (perf report -i FILE)")
    parser.add_argument("--source-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--destination-option", action="append", default=[], metavar="NAME=VALUE")
    return parser.parse_args(argv)


# --- perf ---


def perf_command(data):
    return ["perf", "record", "-q", "-F", "997", "-g", "-o", data, "--"]


FRAME = re.compile(r"^\s+[0-9a-f]+ (.+) \(([^()]*)\)$")


def samples(data):
    """(thread, frames) of each sample, frames as (function, library), innermost first."""
    command = ["perf", "script", "-i", data, "-F", "tid,ip,sym,dso"]
    listing = subprocess.run(command, capture_output=True, text=True, errors="replace", check=True).stdout
    for block in listing.split("\n\n"):
        lines = block.strip("\n").splitlines()
        if len(lines) < 2:
            continue
        frames = [(m[1].split("(")[0][:90], m[2].rsplit("/", 1)[-1]) for m in map(FRAME.match, lines[1:]) if m]
        if frames:
            yield lines[0].strip(), frames


def show_shares(title, counter, total, top):
    print(f"\n{title}")
    for name, count in counter.most_common(top):
        print(f"  {100 * count / total:5.1f} %  {name}")


def is_kernel(library):
    return library.startswith("[")


def show_perf(data, top):
    """Kernel and library time counts for the function of ours that asked for it, where the stack tells."""
    libraries, own, asked, inclusive, threads = Counter(), Counter(), Counter(), Counter(), Counter()
    reasons = defaultdict(Counter)
    total = 0
    for thread, frames in samples(data):
        total += 1
        leaf, library = frames[0]
        library = "kernel" if is_kernel(library) else library
        libraries[library] += 1
        own[f"{leaf} ({library})"] += 1
        ours = [function for function, lib in frames if lib == program().name]
        # DuckDB has no frame pointers, so the stack ends inside it.
        blamed = ours[0] if ours else f"({next((lib for _, lib in frames if not is_kernel(lib)), 'kernel')})"
        asked[blamed] += 1
        entry = next((function for function, lib in frames if not is_kernel(lib)), leaf)
        reasons[blamed][f"kernel for {entry}" if library == "kernel" else f"{leaf} ({library})"] += 1
        threads[(thread, "".join(ours[-1:]) or "-")] += 1
        for function in set(ours):
            inclusive[function] += 1
    show_shares("threads and their first function", Counter({f"{t} {f}": n for (t, f), n in threads.items()}), total, 12)
    show_shares("libraries", libraries, total, 8)
    show_shares("functions of any library, their own time", own, total, top)
    show_shares("our functions with everything they call", inclusive, total, top)
    print("\nour functions without the ones of ours that they call, and what the time goes to")
    for name, count in asked.most_common(top):
        parts = ", ".join(f"{100 * n / total:.1f} {reason}" for reason, n in reasons[name].most_common(3))
        print(f"  {100 * count / total:5.1f} %  {name}: {parts}")


# --- callgrind ---


def callgrind_command(data):
    return ["valgrind", "--tool=callgrind", f"--callgrind-out-file={data}", "-q"]


def show_callgrind(data, top):
    for title, options in [("functions, their own instructions", []), ("with what they call", ["--inclusive=yes"])]:
        command = ["callgrind_annotate", "--threshold=95", *options, data]
        lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
        print(f"\n{title}")
        print("\n".join([line for line in lines if re.match(r"\s*[\d,]+ ", line)][: top + 1]))


# --- what threads wait for ---


class ThreadSampler(threading.Thread):
    """Looks every 10 ms at the threads of the newest process of our program: running, or waiting where."""

    def __init__(self):
        super().__init__(daemon=True)
        self._end = threading.Event()
        self.states = defaultdict(Counter)

    def run(self):
        pid = None
        while not self._end.wait(0.01):
            if pid is None or not Path(f"/proc/{pid}").exists():
                pid = self._find()
            if pid is not None:
                self._look(pid)

    def _find(self):
        for path in Path("/proc").glob("[0-9]*"):
            try:
                if (path / "exe").resolve() == program().resolve():
                    return path.name
            except OSError:
                continue
        return None

    def _look(self, pid):
        for task in Path(f"/proc/{pid}/task").glob("*"):
            try:
                stat = (task / "stat").read_text()
                where = (task / "wchan").read_text() or "0"
            except OSError:
                continue
            name, state = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2]
            self.states[f"{task.name} {name}"]["runs or wants to" if state == "R" else f"{state} {where}"] += 1

    def stop(self):
        self._end.set()
        self.join()

    def show(self):
        print("\nthreads by the clock (of one run without the profiler)")
        for name, states in self.states.items():
            seen = sum(states.values())
            if seen >= 5:
                print(f"  {name}: " + ", ".join(f"{100 * n / seen:.0f} % {state}" for state, n in states.most_common(4)))


def profile(args, case, source, catalog, folder):
    data = args.keep or str(folder / "profile.data")
    wrapper = perf_command(data) if args.tool == "perf" else callgrind_command(data)
    options = pairs(args.source_option), pairs(args.destination_option)
    with Bed(source, catalog, folder, case, args.scale, *options) as bed:
        bed.prepare()
        bed.begin(case)
        clock = ThreadSampler()
        clock.start()
        plain = bed.ours(case)
        clock.stop()
        profiled = bed.ours(case, wrapper)
    for name, figures in (("alone", plain), (f"under {args.tool}", profiled)):
        print(
            f"{case.name} {name}: {case.rows(args.scale):,} rows in {figures.wall_s:.2f} s, CPU {figures.cpu_s:.2f} s, "
            f"server {figures.server_cpu_s:.2f} s, others {figures.other_cores:.2f} cores"
        )
    clock.show()
    show_perf(data, args.top) if args.tool == "perf" else show_callgrind(data, args.top)


def main():
    args = arguments(sys.argv[1:])
    case = compare.chosen(compare.arguments(["--all", "--cases", args.case]))[0][0]
    if not shutil.which("perf" if args.tool == "perf" else "valgrind"):
        sys.exit("bench/profile: neither perf (package linux-perf) nor callgrind (package valgrind) is here")
    folder = Path(tempfile.mkdtemp(prefix="duct-profile-"))
    try:
        with measure.Server() as source:
            catalog = measure.Server().start() if (case.catalog or args.catalog) == "postgres" else None
            try:
                profile(args, case, source, catalog, folder)
            finally:
                if catalog:
                    catalog.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
