"""Inlined rows are written to a file while commits go on: what happens to them, and to their table, in the meantime (issue 4, point 2)."""

import contextlib
import random
import sqlite3
import time

import pytest

from lib.pause import Pause
from system.test_inlining import history, inlined, live_files, touch_all

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text, n int)"
MARK = "CREATE TABLE mark (id int PRIMARY KEY)"
FIRST = "INSERT INTO t SELECT i, 'first' || i, i FROM generate_series(1, 60) i"
MEANWHILE = {
    "changes": [
        "UPDATE t SET v = 'changed' WHERE id <= 5",
        "DELETE FROM t WHERE id BETWEEN 10 AND 14",
        "UPDATE t SET v = 'again' WHERE id IN (3, 20)",
        "INSERT INTO t VALUES (10, 'is back', 0), (100, 'new', 0)",
        "DELETE FROM t WHERE id IN (3, 100)",
        "UPDATE t SET id = id + 1000 WHERE id IN (30, 31)",
    ],
    "every row changed": ["UPDATE t SET v = v || '!'"],
    "every row deleted": ["DELETE FROM t"],
    "truncated": ["TRUNCATE t", "INSERT INTO t VALUES (1, 'after', 1)"],
    "many rows": ["INSERT INTO t SELECT i, 'many', i FROM generate_series(1000, 1080) i", "UPDATE t SET v = 'few' WHERE id > 1000"],
    "column added": ["ALTER TABLE t ADD c int DEFAULT 7", "UPDATE t SET c = 8 WHERE id < 9", "INSERT INTO t VALUES (200, 'x', 1, 2)"],
    "column dropped": ["ALTER TABLE t DROP n", "UPDATE t SET v = 'y' WHERE id < 9"],
    "another key": [
        "ALTER TABLE t ALTER n SET NOT NULL, DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (n)",
        "UPDATE t SET v = 'y' WHERE id < 9",
    ],
}


def paused(mirror, **destination):
    """A running flow whose flush of 60 rows is written and not committed: (mirror, pause, run)."""
    m = mirror(TABLE, MARK, destination={"inline_flush_rows": 50, **destination})
    m.sync()
    pause = Pause(m.home.data_path.parent, "flush-written")
    run = m.flow.start("--log-level", "debug", env=pause.env)
    m.sql(FIRST)
    pause.wait(run)
    return m, pause, run


def wait_for_changes(m, run):
    m.sql("INSERT INTO mark SELECT coalesce(max(id), 0) + 1 FROM mark")
    m.wait_rows(run, "mark", m.database.value("SELECT count(*) FROM mark"))


@pytest.mark.parametrize("what", MEANWHILE)
def test_changes_while_a_flush_is_written(mirror, what):
    m, pause, run = paused(mirror)
    m.sql(*MEANWHILE[what])
    wait_for_changes(m, run)
    assert len(inlined(m)) >= 60, "nothing was flushed"
    m.close_lake()
    before, then = history(m), m.last_snapshot()
    m.close_lake()
    pause.release()
    m.wait_until(lambda: any("flushed_inlined" in s["changes"] for s in m.snapshots()), 30, "the flush")
    assert run.terminate() == 0, run.describe()
    m.close_lake()
    m.same("t")
    assert history(m, upto=then) == before
    touch_all(m, "t")


def test_the_index_follows_without_being_built_again(mirror):
    m, pause, run = paused(mirror)
    m.sql(*MEANWHILE["changes"])
    wait_for_changes(m, run)
    pause.release()
    m.wait_until(lambda: live_files(m) >= 1, 30, "the flush")
    m.sql("UPDATE t SET v = 'after' WHERE id % 3 = 0", "DELETE FROM t WHERE id % 7 = 0")
    wait_for_changes(m, run)
    assert run.terminate() == 0
    assert run.stderr.count("key index built") <= 1, run.stderr  # of the empty table
    m.same("t")
    touch_all(m, "t")


@pytest.mark.parametrize("who", ["flush", "flush of an older table", "delete", "drop the table"])
def test_others_while_a_flush_is_written(mirror, who):
    """Their flush takes the rows away, their delete is one more death; the flow starts over, and the lake is right."""
    m, pause, run = paused(mirror, foreign_changes="share")
    if who == "flush of an older table":  # which drops it
        m.sql("ALTER TABLE t ADD c int", "INSERT INTO t VALUES (500, 'new', 1, 2)")
        m.wait_rows(run, "t", 61)
    if who.startswith("flush"):
        m.lake.sql("CALL ducklake_flush_inlined_data('lake')")
    elif who == "delete":
        m.lake.sql("DELETE FROM lake.public.t WHERE id = 7")
    else:
        m.sql("DROP TABLE t", TABLE)
        m.lake.sql("DROP TABLE lake.public.t")
    m.close_lake()
    pause.release()
    if who == "drop the table":
        m.sql("INSERT INTO t VALUES (1, 'another table', 1)")
        m.wait_rows(run, "t", 1)
    else:
        m.wait_until(lambda: live_files(m) >= 1, 30, "the flush")
    assert run.terminate() == 0 or not who.startswith("flush"), run.describe()
    m.flow.set_destination(on_drift="repair")
    m.sql("DELETE FROM t WHERE id = 7")
    m.sync()
    m.close_lake()
    m.same("t")


def test_an_unsent_value_of_a_row_that_others_have_flushed(mirror):
    """It is not where the index says any more: that is no value that the lake lacks."""
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, v text); ALTER TABLE t ALTER v SET STORAGE EXTERNAL")
    m.sync()
    run = m.flow.start()
    m.sql("INSERT INTO t SELECT i, repeat('v', 3000) FROM generate_series(1, 5) i")
    m.wait_rows(run, "t", 5)
    m.lake.sql("CALL ducklake_flush_inlined_data('lake')")
    m.sql("UPDATE t SET id = 100 WHERE id = 2", "INSERT INTO t VALUES (101, 'new')")
    m.wait_rows(run, "t", 6)
    assert run.terminate() == 0, run.describe()
    touch_all(m, "t")


def test_readers_miss_nothing_while_rows_become_files(mirror_postgres):
    """Every read has every row, wherever it is. On a SQLite catalog the official client cannot promise that (docs/ducklake.md)."""
    m = mirror_postgres(TABLE, destination={"inline_flush_rows": 2, "flush_interval": "20ms"})
    m.sync()
    run = m.flow.start()

    def flushes():
        return sum("flush of inlined rows" in s["commit_message"] for s in m.snapshots())

    seen, until = [0], time.monotonic() + 6
    for i in range(1, 1000):
        m.sql(f"INSERT INTO t VALUES ({i}, 'v', {i})")
        while seen[-1] < i:
            seen.append(len(m.lake.sql("SELECT id + 0 FROM lake.public.t")))
        if time.monotonic() > until and flushes() > 3:
            break
    assert seen == sorted(seen)
    assert flushes() > 3
    assert run.terminate() == 0


def test_stopped_while_a_flush_is_written(mirror):
    """SIGTERM: what was begun is finished."""
    m, pause, run = paused(mirror)
    m.sql("UPDATE t SET v = 'last' WHERE id = 1")
    pause.release()
    assert run.terminate() == 0
    assert live_files(m) == 1
    m.sync()
    m.same("t")
    touch_all(m, "t")


@pytest.mark.long
def test_files_grow_where_there_are_many(mirror_sqlite):
    """A table with several small files is flushed later, and in larger pieces."""
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, v text)", destination={"inline_flush_rows": 10})
    m.sync()
    run = m.flow.start()
    pick = random.Random(5)
    rows = 0
    while rows < 400:
        n = pick.randrange(3, 8)
        m.sql(f"INSERT INTO t SELECT i, 'x' FROM generate_series({rows + 1}, {rows + n}) i")
        rows += n
        m.wait_rows(run, "t", rows)
    run.terminate()
    assert 8 <= live_files(m) <= 18, "40 without"
    m.same("t")
    touch_all(m, "t")


def test_an_official_flush_is_left_alone_until_it_has_dropped_its_tables(mirror_sqlite):
    """The official flush drops emptied tables after its commit; meeting our lock there, it would remove the files that it has just committed."""
    m = mirror_sqlite(TABLE, destination={"flush_interval": "1ms"})
    m.sql("INSERT INTO t VALUES (1, 'a', 1)")
    m.sync()
    run = m.flow.start()
    m.sql("ALTER TABLE t ADD c int", "INSERT INTO t VALUES (2, 'b', 2, 2)")
    m.wait_rows(run, "t", 2)
    with contextlib.closing(sqlite3.connect(m.home.sqlite_path, isolation_level=None)) as other:  # as if it had just committed
        columns = [name for _, name, *_ in other.execute("PRAGMA table_info(ducklake_snapshot)")]
        values = ", ".join(f"{name} + 1" if name == "snapshot_id" else name for name in columns)
        other.execute("BEGIN IMMEDIATE")
        other.execute(f"INSERT INTO ducklake_snapshot SELECT {values} FROM ducklake_snapshot ORDER BY snapshot_id DESC LIMIT 1")
        other.execute(
            "INSERT INTO ducklake_snapshot_changes (snapshot_id, changes_made) SELECT max(snapshot_id), 'inline_flush:99' FROM ducklake_snapshot"
        )
        other.execute("COMMIT")
        flush = m.last_snapshot()
        began = time.monotonic()
        m.sql("INSERT INTO t VALUES (3, 'c', 3, 3)")
        run.wait_for(lambda: m.last_snapshot() > flush, 30, "the next commit")
        assert time.monotonic() - began > 0.4  # it waits for a second, as nobody drops them
        m.wait_rows(run, "t", 3)
    m.sql("INSERT INTO t VALUES (4, 'd', 4, 4)")
    m.wait_rows(run, "t", 4)
    assert run.terminate() == 0
    m.same("t")
