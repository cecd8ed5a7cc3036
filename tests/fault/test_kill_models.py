"""kill -9 of a build of SQL models at every step and at random moments: a reader sees the old rows or the new ones (issue 6, point 5)."""

import json
import random
import signal
import subprocess

import pytest
from lib import child
from lib.cli import ductstream, lines
from lib.models import Models
from lib.paths import program
from lib.wait import wait_until

POINTS = ("model-staged", "model-written", "model-checked", "model-committed")
ROWS = 3000


@pytest.fixture
def built(lake_home, tmp_path):
    """(models, lake): a table of many rows that bear one version, and a table made of it."""
    models = Models(tmp_path, lake_home)
    lake = lake_home.open()
    lake.sql("CREATE SCHEMA raw")
    lake.sql("CREATE TABLE raw.version AS SELECT 1 AS v")
    header = "-- materialized: table\n-- tests:\n--   - unique: i\n"
    models.write("silver/wide.sql", f"{header}SELECT i, v, repeat('x', 20) AS filler FROM range({ROWS}) t(i), raw.version")
    models.write("gold/keyed.sql", "-- materialized: incremental\n-- unique_key: i\nSELECT i, v FROM wide WHERE i < 100")
    models.run()
    return models, lake


def versions(lake):
    """Of both tables, which must be whole."""
    seen = []
    for table, rows in ("silver.wide", ROWS), ("gold.keyed", 100):
        [(count, least, most)] = lake.sql(f"SELECT count(*), min(v), max(v) FROM {table}")
        assert (count, least) == (rows, most), f"{table}: {count} rows of versions {least} to {most}"
        seen.append(most)
    return seen


@pytest.mark.parametrize("point", POINTS)
def test_killed_at(built, point):
    """At each place: what is committed is whole, a kill before COMMIT leaves the old rows, and files without a commit are listed."""
    models, lake = built
    staged_only = point == "model-staged" and not models.home.sqlite_path  # there a table is written by its query
    for n, done in ((1, 1),) if staged_only else ((1, 0), (2, 1)):  # while the first model is built, and the second
        lake.sql(f"UPDATE raw.version SET v = {n + 1}")
        before = versions(lake)
        code, out, err = models.call("run", "--parallel", "1", DUCT_KILL_POINT=f"{point}:{n}")
        assert code == 4 and "ended by signal 9" in err, (code, err, out)
        after = versions(lake)
        done += point == "model-committed"
        assert after == [n + 1] * done + before[done:], (before, after)
        if point in ("model-written", "model-checked") and n == 1:
            _, listed, _ = ductstream("lake", "orphans", "--catalog", models.home.catalog, "--older-than", "0", "--json", env=models.env)
            assert lines(listed)[-1]["files"] >= 1
        states = models.run()
        assert versions(lake) == [n + 1, n + 1], states
        assert set(models.run().values()) == {"up_to_date"}


def test_the_next_one_says_what_it_waits_for(sqlite_lake, tmp_path):
    models = Models(tmp_path, sqlite_lake)
    models.env["DUCTSTREAM_RUN_LEASE"] = "6s"  # it must not have ended before the next one looks
    models.write("silver/slow.sql", "-- materialized: table\nSELECT count(*) AS n FROM range(1000000000000000)")
    process = child.popen([program(), "model", "run", models.folder], env=models.env, stderr=subprocess.DEVNULL)
    wait_until(lambda: "RUN_STATE_RUNNING" in ductstream("runs", "list", "--json", env=models.env)[1], 30, "the run to begin")
    process.kill()
    process.wait()
    models.write("silver/slow.sql", "-- materialized: table\nSELECT 1 AS n")
    code, out, err = models.call("run")
    assert code == 0, (out, err)
    said = [line["text"] for line in out if line.get("level") == "warn"]
    assert len(said) == 1 and "was begun by a process that is gone: waiting for its lease to end (6 s at most)" in said[0], out


def test_killed_before_anybody_has_the_run(sqlite_lake, tmp_path):
    """Its run was queued for ever, in a queue of which nobody knew, and kept all others of its key out."""
    models = Models(tmp_path, sqlite_lake)
    models.env["DUCTSTREAM_RUN_LEASE"] = "6s"
    models.write("silver/one.sql", "-- materialized: table\nSELECT 1 AS n")
    assert models.call("run", DUCT_KILL_POINT="run-submitted:1")[0] == -9
    code, out, err = models.call("run")
    assert code == 0, (out, err)
    assert "was begun by a process that is gone" in next(line["text"] for line in out if line.get("level") == "warn")
    runs = json.loads(ductstream("runs", "list", "--json", env=models.env)[1])["runs"]
    assert [(run["state"], run["error"]) for run in runs] == [("RUN_STATE_SUCCEEDED", ""), ("RUN_STATE_FAILED", "the process that began it is gone")]


def test_killed_at_any_moment(built):
    """The command and its child, killed together, over and over while readers look; the next run goes on after the lease (here 2 s)."""
    models, lake = built
    models.env["DUCTSTREAM_RUN_LEASE"] = "2s"
    seed = random.Random(6)
    reader = models.home.open()
    for n in range(2, 8):
        lake.sql(f"UPDATE raw.version SET v = {n}")
        process = child.popen(
            [program(), "model", "run", models.folder, "--json"], env=models.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(timeout=seed.uniform(0.1, 1.5))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        assert set(versions(reader)) <= {1, n - 1, n}
        models.run()
        assert versions(reader) == [n, n]
