"""Results as a table for a terminal and as docs/benchmarks.md; figures and verdicts come from the measurements alone."""

import datetime
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

from lib.paths import ROOT, program

import cases

# --- facts about the machine ---


def _line(path, key):
    for line in Path(path).read_text().splitlines():
        if line.startswith(key):
            return line.split(":", 1)[1].strip()
    return "unknown"


def _output(*command):
    try:
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def fdatasync_ms(folder):
    """Median time to make 8 KiB durable on the disk that is measured."""
    times = []
    path = Path(folder) / "fdatasync"
    with open(path, "wb") as file:
        for _ in range(50):
            file.write(b"x" * 8192)
            file.flush()
            start = time.monotonic()
            os.fdatasync(file.fileno())
            times.append(time.monotonic() - start)
    path.unlink()
    return statistics.median(times) * 1000


def machine(args, folder):
    """What a reader must know to judge the figures."""
    return {
        "date": f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC",
        "commit": _output("git", "rev-parse", "--short=10", "HEAD"),
        "changed": _output("git", "status", "--porcelain", "--untracked-files=no", "--", "src") != "",
        "version": _output(str(program()), "version"),
        "cpu": _line("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(_line("/proc/meminfo", "MemTotal").split()[0]) / 2**20, 1),
        "system": f"{_pretty_name()}, Linux {platform.release()}",
        "fdatasync_ms": fdatasync_ms(folder),
        "load": os.getloadavg()[0],
        "scale": args.scale,
        "repeat": args.repeat,
        "catalog": args.catalog,
        "fsync": not args.no_fsync,
        "source_options": args.source_option,
        "destination_options": args.destination_option,
    }


def _pretty_name():
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("PRETTY_NAME="):
            return line.split("=", 1)[1].strip('"')
    return platform.system()


def fact_lines(facts):
    options = facts["source_options"] + facts["destination_options"]
    return [
        f"date: {facts['date']}",
        f"version: {' '.join(facts['version'].split())}, commit {facts['commit']}{' with changes' if facts['changed'] else ''}",
        f"machine: {facts['cpu']}, {facts['cores']} cores, {facts['memory_gib']} GiB, fdatasync {facts['fdatasync_ms']:.2f} ms",
        f"system: {facts['system']}, Postgres {facts['postgres']} (fsync {'on' if facts['fsync'] else 'off'})",
        f"catalog: {facts['catalog']}; options beside the defaults: {', '.join(options) or 'none'}",
        f"scale {facts['scale']:g}, medians of {facts['repeat']}, load average {facts['load']:.2f} at the start",
    ]


# --- figures ---


def _median(runs, field):
    return statistics.median(run[field] for run in runs)


def figures(result):
    """Medians of a case as a dict; None values where a side was not measured."""
    rows, floor, ours = result["rows"], result["floor"], result["ours"]
    found = dict.fromkeys(
        ["floor_rate", "rate", "ratio", "low", "high", "floor_server", "server", "catalog", "floor_cpu", "cpu", "anon", "others"]
    )
    if floor:
        found["floor_rate"] = rows / _median(floor, "wall_s")
        found["floor_server"] = _median(floor, "server_cpu_s")
        found["floor_cpu"] = _median(floor, "cpu_s")
        found["others"] = max(run["other_cores"] + run["steal_cores"] for run in floor + ours)
    if ours:
        found["rate"] = rows / _median(ours, "wall_s")
        found["server"] = _median(ours, "server_cpu_s")
        found["catalog"] = _median(ours, "catalog_cpu_s")
        found["cpu"] = _median(ours, "cpu_s")
        found["anon"] = max(run["peak_anon_mib"] for run in ours)
    if floor and ours:
        found["ratio"] = found["rate"] / found["floor_rate"]
        single = [a["wall_s"] / b["wall_s"] for a, b in zip(floor, ours)]
        found["low"], found["high"] = min(single), max(single)
    return found


def verdict(result):
    """"reached", "missed" or "failed", of the speed and of the memory together."""
    found = figures(result)
    if result["failure"]:
        return "failed"
    if found["ratio"] is None:
        return "not measured"
    return "reached" if found["ratio"] >= result["goal"] and found["anon"] <= cases.MEMORY_GOAL_MIB else "missed"


HEAD = [
    "case", "rows", "floor rows/s", "rows/s", "ratio", "spread", "goal", "anon MiB", "server CPU floor", "server CPU",
    "catalog CPU", "floor CPU", "our CPU", "others", "verdict",
]  # fmt: skip


def _number(value, form):
    return "-" if value is None else format(value, form)


def _cells(result, sqlite):
    f = figures(result)
    return [
        result["case"],
        f"{result['rows']:,}",
        _number(f["floor_rate"], ",.0f"),
        _number(f["rate"], ",.0f"),
        _number(f["ratio"], ".2f"),
        "-" if f["low"] is None else f"{f['low']:.2f}-{f['high']:.2f}",
        f"{result['goal']:.1f}",
        _number(f["anon"], ".0f"),
        _number(f["floor_server"], ".2f"),
        _number(f["server"], ".2f"),
        "in ours" if sqlite and f["rate"] else _number(f["catalog"], ".2f"),
        _number(f["floor_cpu"], ".2f"),
        _number(f["cpu"], ".2f"),
        _number(f["others"], ".2f"),
        verdict(result),
    ]


def rows_of(run):
    return [_cells(result, run["facts"]["catalog"] == "sqlite") for result in run["results"]]


UNSENT_GOAL = 5000

GOALS = [
    ("CDC inserts at least 0.6 of the floor's rows/s", ("insert",)),
    ("updates at least 0.4", ("update",)),
    ("deletes at least 0.4", ("delete",)),
    ("copies at least 0.5 of COPY binary with as many connections", ("snapshot",)),
]


def goal_lines(run):
    """One sentence per goal: reached, missed (and where), or not measured."""
    lines = []
    for text, ops in GOALS:
        mine = [result for result in run["results"] if result["op"] in ops]
        measured = [result for result in mine if figures(result)["ratio"] is not None and not result["failure"]]
        bad = [f"{r['case']} {figures(r)['ratio']:.2f}" for r in measured if figures(r)["ratio"] < r["goal"]]
        bad += [f"{r['case']} failed" for r in mine if r["failure"]]
        lines.append(_sentence(text, mine and (measured or bad), bad))
    lines += size_lines(run)
    measured = [result for result in run["results"] if result["ours"]]
    bad = [f"{r['case']} {figures(r)['anon']:.0f} MiB" for r in measured if figures(r)["anon"] > cases.MEMORY_GOAL_MIB]
    lines.append(_sentence(f"peak anonymous memory at most {cases.MEMORY_GOAL_MIB} MiB in each", measured, bad))
    return lines


def size_lines(run):
    """Rows/s against the size of the table, what the key index takes, and what unsent values cost."""
    done = {r["table"]: r for r in run["results"] if r["ours"] and not r["failure"]}
    rate = {name: figures(r)["rate"] for name, r in done.items()}
    lines = []
    if {"keys-100k", "keys-10m"} <= done.keys():
        ratio = rate["keys-10m"] / rate["keys-100k"]
        lines.append(_sentence("updates of 10 M rows at 0.8 of those of 100 k", True, [f"{ratio:.2f}"] if ratio < 0.8 else []))
    sizes = [
        f"{name} {r['ours'][-1]['index_bytes'] / r['table_rows']:.0f}" for name, r in done.items() if name.startswith("keys-")
    ]
    if sizes:
        lines.append(f"bytes of key index a row: {', '.join(sizes)}")
    unsent = [name for name in done if name.startswith("unsent-")]
    slow = [f"{name} {rate[name]:,.0f}" for name in unsent if rate[name] < UNSENT_GOAL]
    lines.append(_sentence(f"rows with an unsent 10 kB column at least {UNSENT_GOAL:,} a second", unsent, slow))
    for name in unsent:
        lines.append(f"{name}: {done[name]['ours'][-1]['read_mib'] * 2**20 / done[name]['rows']:,.0f} bytes read a row")
    return lines


def _sentence(text, measured, bad):
    if not measured:
        return f"{text}: not measured"
    return f"{text}: " + (f"MISSED by {', '.join(bad)}" if bad else "reached")


def failures(run):
    return [f"{result['case']}: {result['failure']}" for result in run["results"] if result["failure"]]


# --- for a terminal ---


def text(run):
    table = [HEAD, *rows_of(run)]
    widths = [max(len(row[i]) for row in table) for i in range(len(HEAD))]
    align = [row[0].ljust(widths[0]) + "  " + "  ".join(c.rjust(w) for c, w in zip(row[1:], widths[1:])) for row in table]
    return "\n".join([*fact_lines(run["facts"]), "", *align, "", *goal_lines(run), *failures(run)])


# --- docs/benchmarks.md ---

EXPLANATION = """# Benchmarks

Written by `bench/run --write-docs`: all figures and verdicts below come from one run.

The **floor** (`bench/drain.c`) is a C program that drains the same changes from a copy of the same slot, with the best options of
the protocol (version 2, binary values, streamed transactions), or reads the same `COPY ... (FORMAT binary)` on as many connections,
and throws everything away. No mover can be faster on this server; **ratio** is our rows/s divided by the floor's. Both sides are
measured from the start of the program to its end, in turns, on the same Postgres, machine and run. After each of our runs the
official DuckLake client compares counts and sums of the lake with the source.

- `insert`, `update`, `delete`: changes of a table that was copied before; 1,000 rows in a transaction, `-small` 10, `-one` all rows
  in one. Updates and deletes hit each key once, in scattered order; deletes leave half of the table. The table's key index exists
  already, as it does after a copy.
- `narrow` has 11 columns (217 bytes a message), `wide` 60, `jsonb` a document of about 1 kB. `-tcp` is over loopback, the others
  over a unix socket. `snapshot-TABLE-N` is a first copy with N connections.
- CPU columns are CPU-seconds: of the server's sessions while the floor ran and while we ran, of the catalog's server, of the
  floor's and of our process (a SQLite catalog's work is in it). `anon MiB` is the highest anonymous memory of our process in any repetition.
- `keys-N` are 100,000 updates in tables of N rows (two integers), `unsent-N` 20,000 of an integer beside 10 kB that the server
  does not send again and we read back from the lake.
- `spread` is the lowest and the highest ratio of a single pair of runs. `others` is how many cores something else kept busy during
  the worst of the runs: above some 0.2 the figures of that line are blurred.
"""


def markdown(run):
    lines = [EXPLANATION, "## The run", ""]
    lines += [f"- {line}" for line in fact_lines(run["facts"])]
    lines += ["", "## The goals", ""]
    lines += [f"- {line}" for line in goal_lines(run) + failures(run)]
    lines += ["", "## The figures", ""]
    lines += ["| " + " | ".join(HEAD) + " |", "|---|" + "--:|" * (len(HEAD) - 1)]
    lines += ["| " + " | ".join(cells) + " |" for cells in rows_of(run)]
    return "\n".join(lines) + "\n"
