#!/usr/bin/env python3
"""bench/run: DuctStream against the floor, side by side. See docs/benchmarks.md for what the figures mean."""

import argparse
import contextlib
import dataclasses
import datetime
import fnmatch
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import cases  # noqa: E402
import document  # noqa: E402
import goals  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
from bed import Bed, WrongResult  # noqa: E402
from lib.limit import Limit  # noqa: E402


TOGETHER = 2  # groups that are prepared at the same time, each on a server of its own


def pairs(texts):
    """["a=b"] as a dict."""
    return dict(text.split("=", 1) for text in texts)


def arguments(argv):
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1 (default): a million narrow rows")
    parser.add_argument("--cases", default="*", help="comma-separated names or patterns, like insert-*,snapshot-wide-1")
    parser.add_argument("--all", action="store_true", help="with what is else left out unless it is named (in --list with a star)")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, of which the median counts (3)")
    parser.add_argument("--catalog", choices=["sqlite", "postgres"], default="sqlite", help="of cases that do not name theirs")
    parser.add_argument("--skip-large", action="store_true", help="no tables of 10 M rows (they take a third of the time)")
    parser.add_argument("--memory-limit", default="512M", metavar="SIZE", help="around our program (512M); none: without")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--tcp", action="store_true", help="all cases over TCP on loopback")
    where.add_argument("--unix", action="store_true", help="no cases over TCP")
    parser.add_argument("--no-fsync", action="store_true", help="servers without fsync: faster to prepare, less honest")
    parser.add_argument(
        "--quiet", type=float, default=0, metavar="SECONDS", help="wait so long for a quiet machine before each measurement"
    )
    parser.add_argument("--source-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--destination-option", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--folder", help="where lakes are made (the system's temporary folder)")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    parser.add_argument("--from", dest="results", metavar="FILE", help="show stored results, measure nothing")
    parser.add_argument(
        "--write-docs", nargs="?", const=ROOT / "docs", type=Path, metavar="FOLDER", help="also write benchmarks.md and its plots"
    )
    parser.add_argument("--store", type=Path, default=ROOT / "bench" / "results", metavar="FOLDER", help="for the results")
    parser.add_argument("--floor-only", action="store_true", help="measure the floor alone")
    return parser.parse_args(argv)


def chosen(args):
    """The cases of the command line, in groups that share a workload."""
    patterns = [pattern.strip() for pattern in args.cases.split(",")]
    found = [case for case in cases.ALL if any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns)]
    if not args.all:
        found = [case for case in found if not case.extra or case.name in patterns]
    if args.unix:
        found = [case for case in found if not case.tcp or case.rival != "floor"]
    if args.tcp:
        found = list(dict.fromkeys(dataclasses.replace(case, tcp=True) for case in found))
    if args.skip_large:
        found = [case for case in found if not case.large]
    if not found:
        sys.exit(f"bench/run: no case is called {args.cases}; bench/run --list shows them")
    return [list(group) for _, group in itertools.groupby(found, lambda c: (c.group, c.catalog or args.catalog))]


def say(text):
    print(text, file=sys.stderr, flush=True)


def blank(case, args):
    return {
        "case": case.name,
        "op": case.op,
        "shape": case.shape,
        "table": case.table.name,
        "rows": case.rows(args.scale),
        "table_rows": case.table_rows(args.scale),
        "transactions": case.transactions(args.scale) if case.op != "snapshot" else 0,
        "connections": case.connections,
        "tcp": case.tcp,
        "rival": case.rival,
        "catalog": case.catalog or args.catalog,
        "slots": case.slots,
        "goal": goals.ratio(case),
        "floor": [],
        "dlt": [],
        "ours": [],
        "start": [],  # runs of ours for a single change
        "failure": None,
        "note": note(case),
        "seconds": 0,
    }


def note(case):
    """Why the figures of a case say nothing here; None when they do."""
    cores = len(os.sched_getaffinity(0))
    return f"not measured: {cores} cores" if case.slots > 1 and cores < 2 * case.slots else None


def measure_case(bed, case, args):
    """All repetitions of one case: the order alternates, so that a drift of the machine hits both sides."""
    result = blank(case, args)
    sides = {case.rival: getattr(bed, case.rival), "ours": bed.ours}
    if args.floor_only:
        del sides["ours"]
    repeat = 1 if result["note"] else args.repeat
    for repetition in range(repeat):
        for side in list(sides) if repetition % 2 == 0 else reversed(list(sides)):
            measure.wait_for_quiet(args.quiet)
            try:
                figures = sides[side](case)
                if side == "ours" and goals.is_sized(result):
                    result["start"].append(bed.start().as_dict())
            except (measure.ChildFailed, WrongResult) as failure:
                result["failure"] = str(failure)
                say(f"  {case.name}: {failure}")
                return result
            result[side].append(figures.as_dict())
            say(
                f"  {case.name} {repetition + 1}/{repeat} {side:5} {result['rows'] / figures.wall_s:9,.0f} rows/s"
                f"  cpu {figures.cpu_s:.2f}  server {figures.server_cpu_s:.2f}  anon {figures.peak_anon_mib:.0f} MiB"
                f"  others {figures.other_cores:.2f}"
            )
    return result


def ready(bed, args):
    """Prepares a bed for the first of its cases. Returns why that failed, or None."""
    try:
        bed.prepare(args.floor_only)
        bed.begin(bed.case)
    except measure.ChildFailed as failure:
        return str(failure)
    return None


def measure_group(group, bed, failed, args):
    """All cases of a group, one after the other in the same database. Yields a result for each."""
    for case in group:
        start = time.monotonic()
        try:
            if failed is None:
                bed.begin(case)
        except measure.ChildFailed as failure:
            failed = str(failure)
        if failed is None:
            result = measure_case(bed, case, args)
        else:
            say(f"  {case.name}: before it: {failed}")
            result = {**blank(case, args), "failure": f"before it: {failed}"}
        yield {**result, "seconds": round(time.monotonic() - start, 1)}


def measure_together(groups, servers, folder, args, limit):
    """Prepares as many groups at the same time as there are sources, then measures one after the other. Yields results."""
    say(f"{', '.join(group[0].group for group in groups)}: preparing")
    options = pairs(args.source_option), pairs(args.destination_option)
    with contextlib.ExitStack() as stack:
        beds = []
        for number, (group, source) in enumerate(zip(groups, servers["sources"])):
            own = folder / str(number)
            own.mkdir(exist_ok=True)
            catalog = servers["catalog"] if (group[0].catalog or args.catalog) == "postgres" else None
            beds.append(stack.enter_context(Bed(source, catalog, own, group[0], args.scale, *options, limit.wrapper)))
        with ThreadPoolExecutor() as pool:
            failures = list(pool.map(lambda bed: ready(bed, args), beds))
        for group, bed, failed in zip(groups, beds, failures):
            yield from measure_group(group, bed, failed, args)


def measure_all(args):
    """Measures; what is there is stored after each case, so that a run that is cut short is not lost."""
    groups = chosen(args)
    folder = Path(tempfile.mkdtemp(prefix="duct-bench-", dir=args.folder))
    limit = Limit(args.memory_limit)
    run = {"facts": report.machine(args, folder), "results": []}
    run["facts"]["memory_limit"] = limit.how
    path = args.store / f"{datetime.datetime.now():%Y%m%d-%H%M%S}.json"
    start = time.monotonic()
    try:
        with contextlib.ExitStack() as stack:

            def server():
                return stack.enter_context(measure.Server(fsync=not args.no_fsync))

            servers = {"sources": [server() for _ in groups[:TOGETHER]]}
            run["facts"]["postgres"] = servers["sources"][0].value("SHOW server_version")
            if any((case.catalog or args.catalog) == "postgres" for group in groups for case in group):
                servers["catalog"] = server()
            for first in range(0, len(groups), TOGETHER):
                for result in measure_together(groups[first : first + TOGETHER], servers, folder, args, limit):
                    run["results"].append(result)
                    run["facts"]["seconds"] = round(time.monotonic() - start)
                    store(run, path)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    say(f"stored in {path}; {run['facts']['seconds']} s")
    return run


def store(run, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(run, indent=1) + "\n")


def main():
    args = arguments(sys.argv[1:])
    if args.list:
        print("\n".join(case.name + (" *" if case.extra else "") for case in cases.ALL))
        return 0
    run = json.loads(Path(args.results).read_text()) if args.results else measure_all(args)
    print(report.text(run))
    if args.write_docs:
        document.write(run, args.write_docs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
