#!/usr/bin/env python3
"""bench/run: DuctStream against the floor, side by side. See docs/benchmarks.md for what the figures mean."""

import argparse
import datetime
import fnmatch
import itertools
import json
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

import cases  # noqa: E402
import measure  # noqa: E402
import report  # noqa: E402
from bed import Bed, WrongResult  # noqa: E402


def pairs(texts):
    """["a=b"] as a dict."""
    return dict(text.split("=", 1) for text in texts)


def arguments(argv):
    parser = argparse.ArgumentParser(prog="bench/run", description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1 (default): a million narrow rows")
    parser.add_argument("--cases", default="*", help="comma-separated names or patterns, like insert-*,snapshot-wide-1")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions, of which the median counts (3)")
    parser.add_argument("--catalog", choices=["sqlite", "postgres"], default="sqlite")
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
    parser.add_argument("--write-docs", action="store_true", help="also write docs/benchmarks.md")
    parser.add_argument("--floor-only", action="store_true", help="measure the floor alone")
    return parser.parse_args(argv)


def chosen(args):
    """The cases of the command line, in groups that share a workload."""
    patterns = [pattern.strip() for pattern in args.cases.split(",")]
    found = [case for case in cases.ALL if any(fnmatch.fnmatch(case.name, pattern) for pattern in patterns)]
    if args.unix:
        found = [case for case in found if not case.tcp]
    if args.tcp:
        found = list(dict.fromkeys(cases.Case(c.op, c.table, c.shape, c.connections, True) for c in found))
    if not found:
        sys.exit(f"bench/run: no case is called {args.cases}; bench/run --list shows them")
    return [list(group) for _, group in itertools.groupby(found, lambda case: case.group)]


def say(text):
    print(text, file=sys.stderr, flush=True)


def blank(case, args):
    return {
        "case": case.name,
        "op": case.op,
        "table": case.table.name,
        "rows": case.rows(args.scale),
        "table_rows": case.table_rows(args.scale),
        "transactions": case.transactions(args.scale) if case.op != "snapshot" else 0,
        "connections": case.connections,
        "tcp": case.tcp,
        "goal": case.goal(),
        "floor": [],
        "ours": [],
        "failure": None,
    }


def measure_case(bed, case, args):
    """All repetitions of one case: the order alternates, so that a drift of the machine hits both sides."""
    result = blank(case, args)
    sides = {"floor": bed.floor} if args.floor_only else {"floor": bed.floor, "ours": bed.ours}
    for repetition in range(args.repeat):
        for side in list(sides) if repetition % 2 == 0 else reversed(list(sides)):
            measure.wait_for_quiet(args.quiet)
            try:
                figures = sides[side](case)
            except (measure.ChildFailed, WrongResult) as failure:
                result["failure"] = str(failure)
                say(f"  {case.name}: {failure}")
                return result
            result[side].append(figures.as_dict())
            say(
                f"  {case.name} {repetition + 1}/{args.repeat} {side:5} {result['rows'] / figures.wall_s:9,.0f} rows/s"
                f"  cpu {figures.cpu_s:.2f}  server {figures.server_cpu_s:.2f}  anon {figures.peak_anon_mib:.0f} MiB"
                f"  others {figures.other_cores:.2f}"
            )
    return result


def measure_group(group, source, catalog, folder, args):
    say(f"{group[0].group}: preparing")
    options = pairs(args.source_option), pairs(args.destination_option)
    with Bed(source, catalog, folder, group[0], args.scale, *options) as bed:
        try:
            bed.prepare(args.floor_only)
        except measure.ChildFailed as failure:
            say(f"  {failure}")
            return [{**blank(case, args), "failure": f"first copy: {failure}"} for case in group]
        return [measure_case(bed, case, args) for case in group]


def measure_all(args):
    groups = chosen(args)
    folder = Path(tempfile.mkdtemp(prefix="duct-bench-", dir=args.folder))
    facts = report.machine(args, folder)
    results = []
    try:
        with measure.Server(fsync=not args.no_fsync) as source:
            facts["postgres"] = source.value("SHOW server_version")
            catalog = measure.Server(fsync=not args.no_fsync).start() if args.catalog == "postgres" else None
            try:
                for group in groups:
                    results += measure_group(group, source, catalog, folder, args)
            finally:
                if catalog:
                    catalog.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {"facts": facts, "results": results}


def store(run):
    folder = ROOT / "bench" / "results"
    folder.mkdir(exist_ok=True)
    path = folder / f"{datetime.datetime.now():%Y%m%d-%H%M%S}.json"
    path.write_text(json.dumps(run, indent=1) + "\n")
    return path


def main():
    args = arguments(sys.argv[1:])
    if args.list:
        print("\n".join(case.name for case in cases.ALL))
        return 0
    if args.results:
        run = json.loads(Path(args.results).read_text())
    else:
        run = measure_all(args)
        say(f"stored in {store(run)}")
    print(report.text(run))
    if args.write_docs:
        (ROOT / "docs").mkdir(exist_ok=True)
        (ROOT / "docs" / "benchmarks.md").write_text(report.markdown(run))
    return 0


if __name__ == "__main__":
    sys.exit(main())
