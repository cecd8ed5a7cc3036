"""bench/: both programs run at a tiny scale and write what they should; goals and limits judge rightly (issue 4, point 5)."""

import importlib
import json
import os
import shutil
import subprocess
import sys

import pytest

from lib import limit
from lib.paths import CACHE, ROOT, program

sys.path.insert(0, str(ROOT / "bench"))
api, cases, fresh, goals = (importlib.import_module(name) for name in ("api", "cases", "fresh", "goals"))


def bench(name, folder, *args):
    """Runs bench/NAME, with its results and documents in FOLDER; returns what it printed."""
    command = [ROOT / "bench" / name, "--store", folder, "--write-docs", folder, *args]
    env = {**os.environ, "DUCT_BIN": str(program().parent)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=280, env=env)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def figures(wall_s=1.0, cpu_s=1.0, anon=100.0, catalog_cpu_s=0.0, read_mib=0.0, index_bytes=0):
    return {
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "server_cpu_s": 1.0,
        "catalog_cpu_s": catalog_cpu_s,
        "peak_anon_mib": anon,
        "other_cores": 0.0,
        "steal_cores": 0.0,
        "read_mib": read_mib,
        "index_bytes": index_bytes,
    }


def result(name, ours=None, rival=None, **more):
    """A measured case as bench/run keeps it."""
    case = next(case for case in cases.ALL if case.name == name)
    return {
        "case": name,
        "op": case.op,
        "shape": case.shape,
        "table": case.table.name,
        "rows": case.rows(1),
        "table_rows": case.table_rows(1),
        "tcp": case.tcp,
        "rival": case.rival,
        "catalog": "sqlite",
        "slots": case.slots,
        "goal": goals.ratio(case),
        "floor": [],
        "dlt": [],
        "ours": [ours or figures()],
        "start": [figures(wall_s=0.2, cpu_s=0.1, read_mib=1.0)],
        "failure": None,
        "note": None,
        case.rival: [rival or figures()],
        **more,
    }


def lines(*results, how="512M by a cgroup"):
    return goals.lines({"facts": {"memory_limit": how}, "results": list(results)})


def test_a_run_writes_tables_goals_and_plots(tmp_path):
    names = ["insert-narrow", "insert-slots-2", "update-keys-100k", "update-keys-10m", "delete-keys-10m", "update-unsent-1m"]
    names += ["snapshot-narrow-1", "delete-narrow-marks", "update-unsent-100k"]
    out = bench("run", tmp_path, "--scale", "0.002", "--repeat", "1", "--no-fsync", "--cases", ",".join(names))
    (stored,) = tmp_path.glob("*.json")
    run = json.loads(stored.read_text())
    assert {r["case"]: r["failure"] for r in run["results"]} == dict.fromkeys(names)
    assert all(len(r["ours"]) == len(r["floor"]) == 1 for r in run["results"])
    assert run["results"][-1]["ours"][0]["index_bytes"] > 0
    text = (tmp_path / "benchmarks.md").read_text()
    for name in names:
        assert f"| {name} |" in text and f"\n{name} " in out
    assert "](images/keys.svg)" in text and "](images/unsent.svg)" in text
    assert "20,000" in (tmp_path / "images" / "keys.svg").read_text()  # rows of the table "10m" at this scale
    assert "floor" in (tmp_path / "images" / "unsent.svg").read_text()


@pytest.mark.skipif(not (shutil.which("perf") or shutil.which("valgrind")), reason="neither perf nor valgrind is here")
def test_a_profile_names_our_functions():
    command = [ROOT / "bench" / "profile", "update-narrow-small", "--scale", "0.002"]
    env = {**os.environ, "DUCT_BIN": str(program().parent)}
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=280, env=env)
    assert done.returncode == 0, done.stderr
    assert "update-narrow-small alone: 2,000 rows in" in done.stdout
    assert "threads by the clock" in done.stdout


@pytest.mark.long
def test_dlt_copies_beside_us(tmp_path):
    out = bench("run", tmp_path, "--scale", "0.002", "--repeat", "1", "--no-fsync", "--cases", "snapshot-narrow-1-dlt")
    assert "copies at least 20 times dlt's rows per CPU-second: reached" in out  # its imports alone take seconds
    assert (CACHE / "bench-venv" / "requirements.txt").exists()
    assert "| dlt | 2,000 |" in (tmp_path / "benchmarks.md").read_text()


def test_a_run_notices_other_rows(tmp_path):
    from bed import Bed, WrongResult
    from measure import Server

    case = next(case for case in cases.ALL if case.name == "insert-narrow")
    with Server(fsync=False) as source, Bed(source, None, tmp_path, case, 0.001) as bed:
        bed.prepare()
        bed.begin(case)
        assert bed.ours(case).wall_s > 0
        bed.database.sql("UPDATE t SET amount = amount + 0.01 WHERE id = 500")
        with pytest.raises(WrongResult, match="other rows than the source"):
            bed.ours(case)


def test_freshness_writes_its_table_and_plot(tmp_path):
    bench("freshness", tmp_path, "--seconds", "4", "--rate", "400")
    stored = json.loads((tmp_path / "freshness.json").read_text())["results"]
    assert [r["catalog"] for r in stored] == ["postgres", "sqlite"]
    for r in stored:
        assert r["transactions"] == 160
        assert 0 < r["percentiles_ms"]["50"] <= r["percentiles_ms"]["99"]
        assert set(r["files"]) == {"account", "booking", "pulse"}
    text = (tmp_path / "freshness.md").read_text()
    assert "| postgres |" in text and "| sqlite |" in text and "](images/freshness.svg)" in text
    assert "Commit to visible" in (tmp_path / "images" / "freshness.svg").read_text()


def test_a_rate_that_was_not_reached_is_missed():
    found = {
        "catalog": "sqlite",
        "wanted_per_s": 5000,
        "changes_per_s": 4999.0,
        "percentiles_ms": {50: 150, 99: 900},
        "files": {"t": {"files": 8, "bound": 8.5}},
    }
    assert fresh.verdict(found) == "reached"
    assert fresh.verdict({**found, "changes_per_s": 4800.0}) == "MISSED: only 4,800 changes/s were written"
    assert fresh.verdict({**found, "catalog": "postgres"}) == "MISSED: p50 150 ms > 100, p99 900 ms > 300"
    assert fresh.verdict({**found, "files": {"t": {"files": 9, "bound": 8.5}}}) == "MISSED: t: 9 files > 8"


def test_a_ratio_below_its_goal_is_missed():
    good, bad = figures(wall_s=1.1), figures(wall_s=1.2)
    assert goals.verdict(result("insert-narrow", good)) == "reached"
    assert goals.verdict(result("insert-narrow", bad)) == "missed"
    assert goals.verdict(result("insert-narrow-small", figures(wall_s=1.17))) == "reached"
    assert goals.verdict(result("insert-narrow-tcp", bad)) == "reached"
    said = lines(result("insert-narrow", good), result("insert-wide", bad))
    assert "CDC inserts at least 0.9 of the floor's rows/s: MISSED by insert-wide 0.83" in said
    assert "updates at least 0.65: not measured" in said
    said = lines(result("insert-narrow", good), result("insert-wide", figures(wall_s=1.05)))
    assert "CDC inserts at least 0.9 of the floor's rows/s: reached, 0.91 at worst" in said


def test_costs_above_their_goals_are_missed():
    slow = result("update-keys-10m", figures(cpu_s=0.1 + 4.1))
    assert goals.verdict(slow) == "missed"
    assert "our CPU at 10 M keys at most 4.0 µs an update: MISSED by update-keys-10m 4.10" in lines(slow)
    assert goals.verdict(result("update-keys-10m", figures(cpu_s=0.1 + 3.9))) == "reached"
    marks = result("delete-narrow-marks", figures(catalog_cpu_s=0.35))
    assert "the Postgres catalog's CPU at most 0.6 µs a delete mark: MISSED by delete-narrow-marks 0.70" in lines(marks)
    unsent = result("update-unsent-100k", figures(wall_s=5.2))
    assert "rows with an unsent 10 kB column at least 5,000 a second: MISSED by update-unsent-100k 4,000" in lines(unsent)
    fat = result("insert-500tables", figures(anon=257.0))
    assert "peak anonymous memory at most 256 MiB in each: MISSED by insert-500tables 257" in lines(fat)


def test_the_start_is_no_part_of_what_a_change_costs():
    found = goals.figures(result("update-unsent-1m", figures(wall_s=4.2, cpu_s=2.1, read_mib=21.0)))
    assert (found["start"], found["change_rate"], found["change_us"]) == (0.2, 5000, 100)
    assert found["read_bytes"] == 2**20 / 1000
    short = goals.figures(result("update-unsent-1m", figures(wall_s=0.22)))
    assert short["change_rate"] is None and short["rate"] > 0


def test_goals_over_several_cases():
    small, large = result("update-keys-100k"), result("update-keys-10m", figures(wall_s=1.24))
    text = "updates of a table of 10 M rows at least 0.8 of those of 100 k"
    assert f"{text}: MISSED by 0.77" in lines(small, large)
    assert f"{text}: reached, 1.00" in lines(small, small | {"table": "keys-10m"})
    dlt = result("snapshot-narrow-1-dlt", figures(cpu_s=0.5), figures(cpu_s=9.0))
    assert "copies at least 20 times dlt's rows per CPU-second: MISSED by snapshot-narrow-1-dlt 18.0" in lines(dlt)
    assert goals.verdict(dlt) == "missed"


def test_failed_and_unmeasured_cases_are_told_apart():
    failed = result("insert-narrow", failure="ended with 1")
    assert goals.verdict(failed) == "failed"
    text = "every case ends well inside a limit of memory (512M by a cgroup)"
    assert f"{text}: MISSED by insert-narrow" in lines(failed)
    assert f"{text}: reached" in lines(result("insert-narrow"))
    split = result("insert-slots-2", note="not measured: 2 cores")
    assert goals.verdict(split) == "not measured: 2 cores"
    assert "2 slots in parallel, insert-slots-2: not measured: 2 cores" in lines(split)
    assert "2 slots in parallel, insert-slots-2: 2.00 of the floor with one slot" in lines(
        result("insert-slots-2", figures(wall_s=0.5))
    )


def test_a_limit_of_memory_holds():
    tight = limit.Limit("256M")
    need = [sys.executable, "-c", "x = bytearray(300 << 20); print(len(x))"]
    assert subprocess.run([*tight.wrapper, *need], capture_output=True).returncode != 0
    assert subprocess.run([*limit.Limit("2G").wrapper, *need], capture_output=True).returncode == 0
    assert "256M" in tight.how and limit.Limit("none").wrapper == []
    with pytest.raises(ValueError, match="12Q"):
        limit.Limit("12Q")


def test_a_limit_is_a_group_of_our_own_where_we_may_make_one(tmp_path):
    """Below the group we are in, of version 2, when that has given its memory to groups below."""
    mounted, groups = tmp_path / "cgroup", tmp_path / "self"
    (mounted / "a/b").mkdir(parents=True)
    groups.write_text("4:memory:/other\n0::/a/b\n")
    given = mounted / "a/b/cgroup.subtree_control"
    own = lambda: limit._own_group("1M", 2**20, mounted, groups)
    assert own() is None  # not a group, as on a machine with version 1 only
    given.write_text("cpu pids\n")
    assert own() is None
    given.write_text("cpu memory pids\n")
    wrapper, how = own()
    [made] = given.parent.glob("ductstream-limit-*")
    assert ((made / "memory.max").read_text(), how) == (str(2**20), "1M by a cgroup")
    shown = subprocess.check_output([*wrapper, sys.executable, "-c", "import os; print(os.getpid())", "x y"], text=True)
    assert (made / "cgroup.procs").read_text() == shown
    groups.write_text("4:memory:/other\n")
    assert own() is None


def test_consumers_are_measured(tmp_path):
    """bench/pgstream drains its streams to the last message (issue 5, point 8)."""
    command = [sys.executable, ROOT / "bench" / "pgstream.py", "--messages", "2000", "--repeat", "1", "--no-fsync", "--json"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    results = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(results) == 4 and all(r["rate"] > 0 and r["messages"] in (1000, 2000) for r in results), done.stdout + done.stderr


@pytest.mark.skipif(not shutil.which("ghz", path=f"{CACHE / 'bin'}:{os.environ['PATH']}"), reason="ghz is not here: it is built from source in minutes, and bench/api alone uses it")
def test_calls_are_measured_beside_their_floor(tmp_path):
    """bench/api asks GetFlow and the health check of one server in turns (issue 5, "Speed")."""
    command = [sys.executable, ROOT / "bench" / "api.py", "--calls", "300", "--repeat", "1", "--json", "--store", tmp_path]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120)
    one, fifty, memory = (json.loads(line) for line in done.stdout.splitlines())
    for found in (one, fifty):
        assert found["get_flow"]["rate"] > 0 and found["health"]["rate"] > 0, done.stdout + done.stderr
        assert found["ratio"] == pytest.approx(found["get_flow"]["rate"] / found["health"]["rate"])
    assert (one["goal"], fifty["goal"]) == (8000, 12000) and memory["idle"] > 0
    (stored,) = tmp_path.glob("api-*.json")
    assert json.loads(stored.read_text())["results"] == [one, fifty, memory]


def test_calls_are_judged_by_rate_and_by_floor():
    assert api.verdicts(8000, 0.8, 8000) == {"goal_met": True, "ratio_met": True}
    assert api.verdicts(7999, 0.79, 8000) == {"goal_met": False, "ratio_met": False}
