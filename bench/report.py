"""Results as tables; figures and verdicts come from the measurements alone."""

import datetime
import os
import platform
import statistics
import subprocess
import time
from pathlib import Path

from lib.paths import ROOT, program

import goals

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
        f"catalog: {facts['catalog']}; options beside the defaults: {', '.join(options) or 'none'}; "
        f"memory limit around our program: {facts['memory_limit']}",
        f"scale {facts['scale']:g}, medians of {facts['repeat']}, load average {facts['load']:.2f} at the start",
    ]


# --- tables ---


def _number(value, form):
    return "-" if value is None else format(value, form)


HEAD = [
    "case", "rows", "floor rows/s", "rows/s", "ratio", "spread", "goal", "anon MiB", "server CPU floor", "server CPU",
    "catalog CPU", "floor CPU", "our CPU", "our µs/row", "others", "verdict",
]  # fmt: skip


def _cells(result):
    f = goals.figures(result)
    return [
        result["case"],
        f"{result['rows']:,}",
        _number(f["floor_rate"], ",.0f"),
        _number(f["rate"], ",.0f"),
        _number(f["ratio"], ".2f"),
        "-" if f["low"] is None else f"{f['low']:.2f}-{f['high']:.2f}",
        _number(result["goal"], "g"),
        _number(f["anon"], ".0f"),
        _number(f["floor_server"], ".2f"),
        _number(f["server"], ".2f"),
        "in ours" if result["catalog"] == "sqlite" and f["rate"] else _number(f["catalog"], ".2f"),
        _number(f["floor_cpu"], ".2f"),
        _number(f["cpu"], ".2f"),
        _number(f["cpu_us"], ".2f"),
        _number(f["others"], ".2f"),
        goals.verdict(result),
    ]


SIZE_HEAD = [
    "case", "rows of the table", "changes", "rows/s", "start s", "changes/s", "our µs a change", "index bytes a row",
    "bytes read a change",
]  # fmt: skip


def _size_cells(result):
    f = goals.figures(result)
    return [
        result["case"],
        f"{result['table_rows']:,}",
        f"{result['rows']:,}",
        _number(f["rate"], ",.0f"),
        _number(f["start"], ".2f"),
        _number(f["change_rate"], ",.0f"),
        _number(f["change_us"], ".2f"),
        _number(f["index_bytes"], ".1f"),
        _number(f["read_bytes"], ",.0f"),
    ]


DLT_HEAD = ["copy by", "rows", "rows/s", "CPU seconds", "rows per CPU-second", "anon MiB"]


def _dlt_rows(result):
    for name, side in (("DuctStream", "ours"), ("dlt", "dlt")):
        f = goals.side(result, side)
        yield [name, f"{result['rows']:,}"] + [
            _number(f[key], form) for key, form in (("rate", ",.0f"), ("cpu", ".2f"), ("per_cpu", ",.0f"), ("anon", ".0f"))
        ]


def tables(run):
    """(title, head, rows) of each table that has rows."""
    results = run["results"]
    sized = [r for r in results if goals.is_sized(r)]
    sized.sort(key=lambda r: (r["op"], r["table"].split("-")[0], r["table_rows"]))
    yield "The figures", HEAD, [_cells(r) for r in results if r["rival"] == "floor"]
    yield "Against the size of the table", SIZE_HEAD, [_size_cells(r) for r in sized]
    yield "Beside dlt", DLT_HEAD, [row for r in results if r["rival"] == "dlt" for row in _dlt_rows(r)]


def failures(run):
    return [f"{result['case']}: {result['failure']}" for result in run["results"] if result["failure"]]


def text(run):
    """For a terminal."""
    lines = fact_lines(run["facts"])
    for _, head, rows in tables(run):
        if not rows:
            continue
        table = [head, *rows]
        widths = [max(len(row[i]) for row in table) for i in range(len(head))]
        lines += ["", *(row[0].ljust(widths[0]) + "".join("  " + c.rjust(w) for c, w in zip(row[1:], widths[1:])) for row in table)]
    return "\n".join([*lines, "", *goals.lines(run), *failures(run)])
