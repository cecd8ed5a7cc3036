"""`lake orphans`: what killed runs left is found, all of it and nothing else; what is in use stays."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest

from lib.cli import ductstream, lines
from lib.compare import assert_same
from lib.flow import EXIT_CONFIG, EXIT_DONE
from lib.pause import Pause, run_to
from lib.wait import wait_until
from lib.workload import SCHEMA, TABLES, assert_whole

KILLED = -signal.SIGKILL


def orphans(flow, *args):
    """Paths of the orphans, as a set."""
    code, out, err = ductstream("lake", "orphans", flow.path, "--json", *args)
    assert code == EXIT_DONE, err
    *found, summary = lines(out)
    assert summary["event"] == "summary" and summary["files"] == len(found)
    if "--delete" in args:
        assert all(o["removed"] for o in found) and summary["removed"] == len(found)
    return {o["path"] for o in found}


def official_orphans(lake):
    rows = lake.sql("CALL ducklake_delete_orphaned_files('lake', dry_run => true, cleanup_all => true)")
    return {row[0] for row in rows}


def make_old(folder, hours=3):
    then = time.time() - hours * 3600
    for path in folder.rglob("*.parquet"):
        os.utime(path, (then, then))


def age(path):
    return time.time() - os.stat(path).st_mtime


def parquet(folder):
    return {str(path) for path in folder.rglob("*.parquet")}


def named(lake, *tables):
    """Data and delete files that the lake needs now."""
    rows = [row for table in tables for row in lake.sql(f"FROM ducklake_list_files('lake', '{table}', schema => 'public')")]
    return {value for row in rows for value in row if isinstance(value, str) and value.endswith(".parquet")}


def kill_everywhere(flow, database, kind):
    """kill -9 in the copy and at the points of commits; returns the number of kills."""
    points = ["file-written:2", "file-synced:3", "commit-planned:1"]
    for point in points:
        flow.start(env={"DUCT_KILL_POINT": point}).expect(KILLED)
    flow.run_until_caught_up()
    more = ["commit-planned:1", "commit-begin:1", "commit-statement:4" if kind == "sqlite" else "commit-sent:1", "commit-done:1"]
    for n, point in enumerate(more):
        database.sql(f"UPDATE side SET n = n + 1 WHERE id % 3 = 0; INSERT INTO side (body, n) VALUES ('k', {n})")
        database.sql("DELETE FROM side WHERE id % 50 < 3")
        flow.start("--until-caught-up", env={"DUCT_KILL_POINT": point}).expect(KILLED)
    flow.run_until_caught_up()
    return len(points)


@pytest.fixture
def killed(database, lake_home, make_flow, request):
    database.sql(SCHEMA)
    flow = make_flow(database, lake_home, destination={"flush_interval": "20ms", "delete_file_rows": 20})
    kind = "sqlite" if lake_home.catalog.startswith("sqlite") else "postgres"
    return flow, kill_everywhere(flow, database, kind)


def test_exactly_the_orphans_are_found_and_removed(killed, database, lake_home):
    flow, kills = killed
    data = lake_home.data_path
    index = set(data.rglob("*")) - set(data.rglob("*.parquet"))
    with lake_home.open() as lake:
        expected = parquet(data) - named(lake, *TABLES)
        assert orphans(flow) == set(), "files of this hour"
        make_old(data)
        found = orphans(flow)
        assert len(found) >= kills
        # Files that ended but are kept for older snapshots are named, too.
        assert found <= expected
        assert found == official_orphans(lake)
        (data / "notes.parquet").write_text("somebody's own")
        (data / "public" / "ducklake-0192.parquet").write_text("not our naming")
        make_old(data)
        assert orphans(flow) == found
        kept = parquet(data) - found
        assert orphans(flow, "--delete") == found
        assert parquet(data) == kept
        assert orphans(flow) == set()
        assert index <= set(data.rglob("*")), "the key index is no data file"
        assert_same(database, lake, *(f"public.{table}" for table in TABLES))
    assert_whole(database, lake_home, flow)
    assert ductstream("lake", "verify", flow.path)[0] == EXIT_DONE


def test_files_of_dropped_and_scheduled_rows_are_named(mirrored):
    database, lake_home, flow = mirrored
    with lake_home.open() as lake:
        lake.sql("CREATE SCHEMA theirs")
        lake.sql("CREATE TABLE theirs.t AS SELECT i AS id FROM range(10) r(i)")
        lake.sql("ALTER TABLE theirs.t RENAME TO u")
        lake.sql("DROP TABLE theirs.u")
        for n in range(3):
            database.sql(f"INSERT INTO side (body, n) VALUES ('m', {n})")
            flow.run_until_caught_up()
        lake.sql("CALL ducklake_merge_adjacent_files('lake')")
        make_old(lake_home.data_path)
        assert orphans(flow) == set() == official_orphans(lake)
        lake.sql(f"CALL ducklake_expire_snapshots('lake', versions => {[s['snapshot_id'] for s in lake.snapshots()[:-1]]})")
        assert orphans(flow) == set() == official_orphans(lake)
        lake.sql("CALL ducklake_cleanup_old_files('lake', cleanup_all => true)")
        assert orphans(flow) == set()
        assert_same(database, lake, *(f"public.{table}" for table in TABLES))


def test_links_are_not_followed(mirrored, tmp_path):
    database, lake_home, flow = mirrored
    name = "ducklake-01920000-0000-7000-8000-000000000000.parquet"
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / name).write_text("precious")
    (lake_home.data_path / "link").symlink_to(elsewhere)
    (lake_home.data_path / name.replace("0192", "0193")).symlink_to(elsewhere / name)
    make_old(tmp_path)
    assert orphans(flow, "--delete") == set()
    assert (elsewhere / name).read_text() == "precious"


def test_a_file_that_is_named_in_the_last_moment_stays(mirrored, tmp_path):
    """The writer was frozen for hours between its files and its commit; it goes on while we have found its files."""
    database, lake_home, flow = mirrored
    flow.set_destination(inline_rows=0)
    database.sql("INSERT INTO side (body, n) VALUES ('late', 1)")
    before = parquet(lake_home.data_path)
    writer, run = run_to(flow, tmp_path / "writer", "commit-planned")
    make_old(lake_home.data_path)
    (late,) = parquet(lake_home.data_path) - before
    assert orphans(flow) == {late}
    cleaner = Pause(tmp_path / "cleaner", "orphans-slice")
    with Cleaner(flow, cleaner) as done:
        wait_until(lambda: cleaner.reached, 30, "the cleaner to have found it")
        writer.release()
        run.expect(EXIT_DONE)
        os.utime(late, (time.time() - 10000,) * 2)
        cleaner.release()
    (listed,) = [o for o in done.lines if o["event"] == "orphan"]
    assert listed["path"] == late and not listed["removed"] and "failure" not in listed
    assert os.path.exists(late)
    assert_whole(database, lake_home, flow)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_a_slow_clean_up_keeps_its_lock(mirrored, tmp_path):
    """Nobody commits while files are removed, however long that takes and whatever time-outs the catalog's server has."""
    database, lake_home, flow = mirrored
    flow.run_until_caught_up()
    (lake_home.data_path / "ducklake-01920000-0000-7000-8000-000000000000.parquet").write_text("left")
    make_old(lake_home.data_path)
    with psycopg.connect(lake_home.catalog.partition(":")[2], autocommit=True) as catalog:
        name = catalog.info.dbname
        catalog.execute(f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '300ms'")
        cleaner = Pause(tmp_path, "orphans-locked")
        with Cleaner(flow, cleaner) as done:
            wait_until(lambda: cleaner.reached, 30, "the cleaner to have the lock")
            time.sleep(2)
            own = "database = (SELECT oid FROM pg_database WHERE datname = current_database())"
            held = catalog.execute(f"SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND {own}").fetchone()
            cleaner.release()
        assert held == (1,) and [o["removed"] for o in done.lines if o["event"] == "orphan"] == [True]


class Cleaner:
    """`lake orphans --delete` as a child that stops at a pause."""

    def __init__(self, flow, pause):
        self.pool = ThreadPoolExecutor(1)
        self.done = self.pool.submit(
            ductstream, "lake", "orphans", flow.path, "--json", "--delete", env={**os.environ, **pause.env}
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        code, out, err = self.done.result()
        self.pool.shutdown()
        assert code == EXIT_DONE, err
        self.lines = lines(out)


@pytest.mark.parametrize("removed", [False, True])
def test_files_of_a_writer_that_was_frozen(removed, mirrored, tmp_path):
    """Before it commits it says that its files are wanted; when they are gone it writes them again."""
    database, lake_home, flow = mirrored
    flow.set_destination(inline_rows=0)
    database.sql("INSERT INTO side (body, n) VALUES ('late', 1); UPDATE left_account SET amount = amount")
    before = parquet(lake_home.data_path)
    pause, run = run_to(flow, tmp_path / "writer", "commit-planned")
    late = parquet(lake_home.data_path) - before
    make_old(lake_home.data_path)
    if removed:
        assert orphans(flow, "--delete") == late
    pause.release()
    run.expect(EXIT_DONE)
    assert ("is not there any more" in run.stderr) == removed, run.describe()
    if not removed:
        assert all(age(path) < 600 for path in late), "a clean-up would still have taken them"
    assert_whole(database, lake_home, flow)


def test_files_of_a_copy_that_was_removed_under_it(database, lake_home, make_flow, tmp_path):
    database.sql(SCHEMA)
    flow = make_flow(database, lake_home)
    pause, run = run_to(flow, tmp_path / "writer", "commit-planned")
    make_old(lake_home.data_path)
    assert len(orphans(flow, "--delete")) == len(TABLES)
    pause.release()
    run.expect(EXIT_DONE)
    assert "is not there any more" in run.stderr, run.describe()
    assert_whole(database, lake_home, flow)


def test_file_that_cannot_be_removed_is_said(killed, lake_home):
    if os.geteuid() == 0:
        pytest.skip("root may remove everything")
    flow, _ = killed
    make_old(lake_home.data_path)
    folder = Path(min(orphans(flow))).parent
    folder.chmod(0o500)
    code, out, err = ductstream("lake", "orphans", flow.path, "--json", "--delete")
    folder.chmod(0o700)
    assert code == EXIT_CONFIG and any("Permission denied" in o.get("failure", "") for o in lines(out)), err


def test_young_files_are_not_deleted_on_demand(mirrored):
    _, _, flow = mirrored
    code, _, err = ductstream("lake", "orphans", flow.path, "--delete", "--older-than", "9m")
    assert code == EXIT_CONFIG and "at least 10m" in err
