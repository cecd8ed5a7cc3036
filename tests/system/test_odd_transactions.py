"""Transactions of odd shapes: two large ones interleaved with small ones, a great many sub-transactions, a rollback at the end (issue 4, point 4)."""

import json
import os
import sys

import pytest
from lib.paths import SANITIZED
from lib.pause import Pause
from lib.usage import Usage, nameless_files
from lib.wait import wait_until

TABLES = """
CREATE TABLE a (id int PRIMARY KEY, v int, body text);
CREATE TABLE s (id int PRIMARY KEY)
"""
SOURCE = {"work_mem": "64kB", "max_memory": "1MiB"}
LONG = os.environ.get("DUCT_LONG") == "1"
MEMORY_LIMIT = (1000 if SANITIZED else 256) << 20


def fill(first, last, v):
    return f"INSERT INTO a SELECT i, {v}, repeat('x', 80) || i FROM generate_series({first}, {last}) i"


def streamed_transactions(m):
    """How many transactions the server sent before they ended."""
    return m.database.value("SELECT coalesce(sum(stream_txns), 0) FROM pg_stat_replication_slots WHERE slot_name = 'shop'")


def states(m):
    """What each snapshot shows: rows of the first large transaction, of the second, and the small ones."""
    columns = "count(*) FILTER (v = 1), count(*) FILTER (v = 2)"
    seen = []
    for snapshot in m.snapshots():
        at = f"AT (VERSION => {snapshot['snapshot_id']})"
        [large] = m.lake.sql(f"SELECT {columns} FROM lake.public.a {at}")
        small = {id for (id,) in m.lake.sql(f"SELECT id FROM lake.public.s {at}")}
        seen.append((*large, small))
    return seen


@pytest.mark.parametrize("streaming", ["auto", "off"])
def test_two_large_transactions_among_small_ones(mirror, tmp_path, streaming):
    """Each is one snapshot, and whatever the snapshot, it has exactly what was committed up to some moment."""
    m = mirror(TABLES, source={**SOURCE, "spool_dir": str(tmp_path), "streaming": streaming, "batch_size": 1},
               destination={"flush_bytes": "1MiB", "flush_rows": 3000, "flush_interval": "1ms"})
    m.sync()
    run = m.flow.start()
    with m.database.connect(autocommit=False) as one, m.database.connect(autocommit=False) as two:
        for i in range(10):
            one.execute(fill(i * 1000 + 1, i * 1000 + 1000, 1))
            two.execute(fill(100000 + i * 1000 + 1, 100000 + i * 1000 + 1000, 2))
            m.sql(f"INSERT INTO s VALUES ({i})")
        m.wait_rows(run, "s", 10)  # they do not wait for what is still open
        two.execute("DELETE FROM a WHERE v = 2 AND id % 4 = 0")
        one.execute("UPDATE a SET body = 'one' WHERE v = 1 AND id % 2 = 0")
        two.commit()
        m.sql(*[f"INSERT INTO s VALUES ({i})" for i in range(10, 20)])
        one.commit()
        m.sql(*[f"INSERT INTO s VALUES ({i})" for i in range(20, 30)])
    m.wait_rows(run, "s", 30)
    assert run.terminate() == 0
    m.same("a", "s")
    moments = [(10000 if n > 20 else 0, 7500 if n > 10 else 0, set(range(n))) for n in range(31)]
    moments += [(0, 7500, set(range(10))), (10000, 7500, set(range(20)))]
    seen = states(m)
    assert all(state in moments for state in seen), [state for state in seen if state not in moments]
    assert [len(state[2]) for state in seen] == sorted(len(state[2]) for state in seen)
    assert (0, 7500, set(range(10))) in seen  # a snapshot of their own each
    assert (10000, 7500, set(range(20))) in seen


def test_what_waits_behind_a_large_transaction_is_told(mirror_sqlite, tmp_path):
    """While it is applied the progress says of how many rows it is and for how long others wait; afterwards the log does."""
    m = mirror_sqlite(TABLES, source={**SOURCE, "spool_dir": str(tmp_path)}, destination={"flush_bytes": "1MiB", "flush_rows": 2000})
    m.sync()
    pause = Pause(tmp_path, "window-settled", 2)
    run = m.flow.start("--json", env=pause.env)
    with m.database.connect(autocommit=False) as connection:
        # What is rolled back sends it the way of the spool: nothing of it is applied ahead of its commit.
        connection.execute(f"SAVEPOINT p; {fill(1, 1000, 1)}; ROLLBACK TO p")
        connection.execute(fill(1, 20000, 1))
        xid = connection.execute("SELECT txid_current()").fetchone()[0] % 2**32
    m.sql("INSERT INTO s VALUES (1)")
    pause.wait(run)
    told = lambda: [line for line in run.json_lines() if line["event"] == "large-transaction"]
    wait_until(lambda: told() and told()[-1]["behind_seconds"] > 1.5, 30, "the delay to be told")
    last = told()[-1]
    assert last["xid"] == xid
    assert 2000 < last["rows"] <= 20000
    assert last["bytes"] > 80 * last["rows"]
    assert m.rows("s") == []
    pause.release()
    m.wait_rows(run, "s", 1)
    assert run.terminate() == 0
    m.same("a", "s")
    [line] = [line for line in run.stderr.splitlines() if "large transaction applied" in line]
    said = json.loads(line)
    assert (said["xid"], said["rows"]) == (xid, 20000), line
    assert said["behind_s"] > 1.5, line


# --- sub-transactions ---

RAISED = """
DO $$ BEGIN FOR i IN {first}..{last} LOOP
    BEGIN
        INSERT INTO a VALUES (i, i % 7, 'row ' || i);
        IF i % 2 = 0 THEN RAISE division_by_zero; END IF;
    EXCEPTION WHEN division_by_zero THEN NULL; END;
END LOOP; END $$
"""


def with_savepoints(first, last):
    """One transaction: each row behind a savepoint of its own, every second one rolled back."""
    ends = ("ROLLBACK TO p; RELEASE p", "RELEASE p")
    rows = (f"SAVEPOINT p; INSERT INTO a VALUES ({i}, 0, 'row {i}'); {ends[i % 2]}" for i in range(first, last + 1))
    return "; ".join(["BEGIN", *rows, "COMMIT"])


def pass_subtransactions(m, first, last, statement):
    """Returns the processor time that it took.

    The checkpoint lets the slot's restart position pass the transaction. Otherwise the server decodes it again in the next run,
    and what it does not stream it puts aside sub-transaction by sub-transaction, looking at all of them each time (until 17).
    """
    m.sql(statement, "CHECKPOINT")
    run = m.flow.start("--until-caught-up")
    usage = Usage(run.pid)
    run.expect(0, 3600)
    assert usage.stop() < MEMORY_LIMIT, f"{usage.peak_bytes >> 20} MiB"
    print(f"{last - first + 1:,} sub-transactions: {usage.cpu_s:.2f} s, {usage.peak_bytes >> 20} MiB", file=sys.stderr)
    m.same("a")
    assert m.lake.sql(f"SELECT count(*), min(id), max(id) FROM lake.public.a WHERE id BETWEEN {first} AND {last}") == [
        ((last - first + 1) // 2, first, last - 1)]
    return usage.cpu_s


@pytest.mark.parametrize("streaming", ["auto", "off"])
def test_every_second_subtransaction_is_rolled_back(mirror, tmp_path, streaming):
    m = mirror(TABLES, source={**SOURCE, "spool_dir": str(tmp_path), "streaming": streaming})
    m.sync()
    before = len(m.snapshots())
    pass_subtransactions(m, 1, 10000, RAISED.format(first=1, last=10000))
    pass_subtransactions(m, 100001, 102000, with_savepoints(100001, 102000))
    assert len(m.snapshots()) == before + 2
    assert streaming == "off" or m.database.version < 14 or streamed_transactions(m) > 0


@pytest.mark.long
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("streaming", ["auto", "off"])
def test_100_000_subtransactions_in_linear_time(mirror_sqlite, tmp_path, streaming):
    # What the server does not stream it puts aside, one sub-transaction each time: let it not have to.
    work_mem = "64kB" if streaming == "auto" else "64MB"
    m = mirror_sqlite(TABLES, source={"work_mem": work_mem, "spool_dir": str(tmp_path), "streaming": streaming})
    m.sync()
    took = {}
    for n, first in ((10_000, 1), (50_000, 1_000_001), (100_000, 2_000_001)):
        took[n] = pass_subtransactions(m, first, first + n - 1, RAISED.format(first=first, last=first + n - 1))
    assert took[100_000] < 10 * took[10_000] + 2, took
    pass_subtransactions(m, 3_000_001, 3_100_000, with_savepoints(3_000_001, 3_100_000))


# --- a rollback at the end ---


def open_spools(run, folder):
    return nameless_files(run.pid, folder / "ductstream-spool")


def test_a_rollback_at_the_end_leaves_no_trace(mirror, database, tmp_path):
    """No row, no file, no snapshot; the room in the spool is given back, and what comes later goes on."""
    database.needs(14, "streaming of open transactions")
    spool = tmp_path / "spool"
    spool.mkdir()
    m = mirror(TABLES, fill(1, 2000, 0), source={**SOURCE, "spool_dir": str(spool)}, destination={"inline_rows": 0})
    m.sync()
    before = m.state()
    run = m.flow.start()
    with m.database.connect(autocommit=False) as connection:
        connection.execute(fill(10001, 40000, 1))
        connection.execute("UPDATE a SET v = 5 WHERE id <= 1000; DELETE FROM a WHERE id > 39000")
        wait_until(lambda: sum(open_spools(run, spool)) > 1 << 20, 60, "the transaction to be spooled")
        connection.rollback()
    m.sql("INSERT INTO s VALUES (1)")
    m.wait_rows(run, "s", 1)
    assert not open_spools(run, spool)
    assert not list(spool.iterdir())
    assert run.terminate() == 0
    now = m.state()
    assert now[0] == before[0] + 1  # that of the row that came later
    new = set(now[2]) - set(before[2])
    assert len(new) == 1 and "/s/" in new.pop()
    m.same("a", "s")
    m.sql("UPDATE a SET v = v + 1", "DELETE FROM a WHERE id % 2 = 0")
    m.sync()
    m.same("a")
