"""What the figures of a run come to, and whether they reach what they should (issue 4, points 1 and 3)."""

import statistics
from dataclasses import dataclass
from typing import Callable

MEMORY_MIB = 256
OVER_TCP = {"insert": 0.6, "update": 0.4, "delete": 0.4, "snapshot": 0.5}
ON_UNIX = {"insert": 0.9, "update": 0.65, "delete": 0.6, "snapshot": 0.7}
SMALL_INSERTS = 0.85
PLAIN = ("narrow", "wide", "jsonb")


def ratio(case):
    """Our rows/s against the rival's; None where only other figures count."""
    if case.rival == "dlt" or case.table.name not in PLAIN or case.suffix:
        return None
    if case.tcp:
        return OVER_TCP[case.op]
    return SMALL_INSERTS if (case.op, case.shape) == ("insert", "-small") else ON_UNIX[case.op]


# --- figures ---


def side(result, name):
    """Medians of one side as a dict; None values where it was not measured."""
    runs, rows = result[name], result["rows"]
    if not runs:
        return dict.fromkeys(["rate", "server", "catalog", "cpu", "cpu_us", "per_cpu", "anon"])

    def median(field):
        return statistics.median(run[field] for run in runs)

    return {
        "rate": rows / median("wall_s"),
        "server": median("server_cpu_s"),
        "catalog": median("catalog_cpu_s"),
        "cpu": median("cpu_s"),
        "cpu_us": median("cpu_s") / rows * 1e6,
        "per_cpu": rows / median("cpu_s"),
        "anon": max(run["peak_anon_mib"] for run in runs),
    }


def figures(result):
    """Our side, and beside it the floor's; the names of the floor's begin with floor_."""
    floor, ours = result["floor"], result["ours"]
    found = {f"floor_{key}": value for key, value in side(result, "floor").items()} | side(result, "ours")
    found |= dict.fromkeys(["ratio", "low", "high", "others", "index_bytes", "read_bytes", "catalog_us"])
    found |= _beyond_the_start(result)
    if floor or ours:
        found["others"] = max(run["other_cores"] + run["steal_cores"] for run in floor + ours)
    if ours:
        found["index_bytes"] = ours[-1]["index_bytes"] / max(1, result["table_rows"])
        found["catalog_us"] = found["catalog"] / result["rows"] * 1e6
    if floor and ours:
        found["ratio"] = found["rate"] / found["floor_rate"]
        single = [a["wall_s"] / b["wall_s"] for a, b in zip(floor, ours)]
        found["low"], found["high"] = min(single), max(single)
    return found


def _beyond_the_start(result):
    """What the changes alone cost: without a run of the program for a single one. None where that says nothing."""
    ours, start, rows = result["ours"], result["start"], result["rows"]
    found = dict.fromkeys(["start", "change_rate", "change_us", "read_bytes"])
    if not ours or not start:
        return found

    def medians(field):
        return statistics.median(run[field] for run in ours), statistics.median(run[field] for run in start)

    (wall, start_wall), (cpu, start_cpu), (read, start_read) = medians("wall_s"), medians("cpu_s"), medians("read_mib")
    found["start"] = start_wall
    found["read_bytes"] = max(0, read - start_read) * 2**20 / rows
    if start_wall < 0.8 * wall and start_cpu < cpu:
        found["change_rate"] = rows / (wall - start_wall)
        found["change_us"] = (cpu - start_cpu) / rows * 1e6
    return found


def beside_dlt(result):
    """Our rows per CPU-second against dlt's; None where one was not measured."""
    ours, theirs = side(result, "ours")["per_cpu"], side(result, "dlt")["per_cpu"]
    return ours / theirs if ours and theirs else None


def is_sized(result):
    return result["table"].startswith(("keys-", "unsent-"))


# --- goals ---


@dataclass(frozen=True)
class Goal:
    """A sentence, the results it speaks of, their figure, and the bound: `least` 1 from below, -1 from above."""

    text: str
    applies: Callable
    figure: Callable
    bound: float
    least: int = 1
    form: str = ".2f"
    always: bool = True  # False: nothing is said where no case was measured

    def misses(self, result):
        """The figure as text when it misses the bound."""
        found = self.figure(result)
        if not self.applies(result) or found is None or found * self.least >= self.bound * self.least:
            return None
        return format(found, self.form)

    def sentence(self, results):
        """Reached, missed (and where), or not measured."""
        mine = [r for r in results if self.applies(r) and not r["note"]]
        measured = [r for r in mine if self.figure(r) is not None and not r["failure"]]
        bad = [f"{r['case']} {self.misses(r)}" for r in measured if self.misses(r)]
        bad += [f"{r['case']} failed" for r in mine if r["failure"]]
        if bad or not measured:
            return sentence(self.text, bad, bad)
        worst = min((self.figure(r) for r in measured), key=lambda found: found * self.least)
        return f"{self.text}: reached, {format(worst, self.form)}" + (" at worst" if len(measured) > 1 else "")


def _of(key):
    return lambda result: figures(result)[key]


def _plain(op, tcp=False):
    return lambda r: r["op"] == op and r["tcp"] == tcp and r["goal"] is not None and r["goal"] != SMALL_INSERTS


def _at_10m(op):
    return lambda r: (r["op"], r["table"]) == (op, "keys-10m")


GOALS = [
    Goal("CDC inserts at least 0.9 of the floor's rows/s", _plain("insert"), _of("ratio"), 0.9),
    Goal("100,000 transactions of 10 inserts at least 0.85", lambda r: r["goal"] == SMALL_INSERTS, _of("ratio"), 0.85),
    Goal("updates at least 0.65", _plain("update"), _of("ratio"), 0.65),
    Goal("deletes at least 0.6", _plain("delete"), _of("ratio"), 0.6),
    Goal("copies at least 0.7 of COPY binary with as many connections", _plain("snapshot"), _of("ratio"), 0.7),
    *(
        Goal(f"over TCP: {op} at least {bound:g}", _plain(op, tcp=True), _of("ratio"), bound, always=False)
        for op, bound in OVER_TCP.items()
    ),
    Goal("our CPU at 10 M keys at most 2.8 µs an insert", _at_10m("insert"), _of("change_us"), 2.8, -1),
    Goal("our CPU at 10 M keys at most 4.0 µs an update", _at_10m("update"), _of("change_us"), 4.0, -1),
    Goal("our CPU at 10 M keys at most 3.0 µs a delete", _at_10m("delete"), _of("change_us"), 3.0, -1),
    Goal(
        "the Postgres catalog's CPU at most 0.6 µs a delete mark",
        lambda r: r["case"].endswith("-marks"),
        _of("catalog_us"),
        0.6,
        -1,
    ),
    Goal(
        "rows with an unsent 10 kB column at least 5,000 a second",
        lambda r: r["table"].startswith("unsent-"),
        _of("change_rate"),
        5000,
        form=",.0f",
    ),
    Goal("copies at least 20 times dlt's rows per CPU-second", lambda r: r["rival"] == "dlt", beside_dlt, 20, form=".1f"),
    Goal(
        f"peak anonymous memory at most {MEMORY_MIB} MiB in each", lambda r: r["ours"], _of("anon"), MEMORY_MIB, -1, ".0f"
    ),
]


def verdict(result):
    """"reached", "missed" or "failed", of all goals that speak of this case."""
    if result["failure"]:
        return "failed"
    if result["note"]:
        return result["note"]
    if not result["ours"] or not result[result["rival"]]:
        return "not measured"
    return "missed" if any(goal.misses(result) for goal in GOALS) else "reached"


def lines(run):
    """One sentence per goal."""
    results = run["results"]
    said = [goal.sentence(results) for goal in GOALS if goal.always or any(goal.applies(r) for r in results)]
    return [*said, *_across(results), *_limited(run), *_parallel(results)]


def _across(results):
    """Goals over two cases, and what has no goal but must be told."""
    rate = {r["table"]: figures(r)["change_rate"] for r in results if is_sized(r) and r["op"] == "update" and not r["failure"]}
    small, large = rate.get("keys-100k"), rate.get("keys-10m")
    text = "updates of a table of 10 M rows at least 0.8 of those of 100 k"
    if not small or not large:
        yield sentence(text, False, [])
    else:
        ratio = f"{large / small:.2f}"
        yield f"{text}: " + (f"reached, {ratio}" if large >= 0.8 * small else f"MISSED by {ratio}")


def _limited(run):
    """Whether all cases ended well inside the limit of memory."""
    how = run["facts"]["memory_limit"]
    mine = [r for r in run["results"] if r["ours"] or r["failure"]]
    failed = [r["case"] for r in mine if r["failure"]]
    yield sentence(f"every case ends well inside a limit of memory ({how})", mine and how != "none", failed)


def _parallel(results):
    for r in results:
        if r["slots"] > 1:
            f = figures(r)
            what = r["note"] or (f"{f['ratio']:.2f} of the floor with one slot" if f["ratio"] else "not measured")
            yield f"{r['slots']} slots in parallel, {r['case']}: {what}"


def sentence(text, measured, bad):
    if not measured:
        return f"{text}: not measured"
    return f"{text}: " + (f"MISSED by {', '.join(bad)}" if bad else "reached")
