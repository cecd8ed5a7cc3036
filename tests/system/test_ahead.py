"""Streamed transactions are applied before they commit (issue 4, points 3 and 4): what they leave is the same whatever becomes of them."""

import random
import re
import time

import pytest
from lib.wait import WaitTimeout, wait_until

TABLES = """
CREATE TABLE a (id int PRIMARY KEY, v int, body text);
CREATE TABLE b (id int PRIMARY KEY, v int, body text);
CREATE TABLE s (id int PRIMARY KEY)
"""
SOURCE = {"work_mem": "64kB", "max_memory": "1MiB", "batch_size": 100}
SMALL = {"flush_bytes": "1MiB", "flush_rows": 2000}
ENDED = "no longer applied ahead"
XID = re.compile(r"\bxid=(\d+)")


def fill(table, first, last, v=0):
    return f"INSERT INTO {table} SELECT i, {v}, repeat('x', 80) || i FROM generate_series({first}, {last}) i"


class Ahead:
    """A flow that runs, a transaction of 20,000 rows that is open at the source, and parts of which are in files already."""

    def __init__(self, m, table="a", **env):
        self.m = m
        m.database.needs(14, "streaming of open transactions")
        self.before = len(m.snapshots())
        self.files = set(m.files())
        self.given_up = []  # transactions of ours that were not in files soon enough
        self.run = m.flow.start("--log-level=debug", env=env)
        m.wait_rows(self.run, "s", m.database.value("SELECT count(*) FROM s"))
        self.open = m.database.connect(autocommit=False)
        wait_until(lambda: self.begun(table), 120, "parts of the transaction in files")
        assert not self.ended()

    def begun(self, table):
        """False: it had to begin again, for none is applied ahead soon after an ordinary one, and machines may be slow."""
        time.sleep(1.2)
        self.open.execute(fill(table, 1, 20000, 1))
        try:
            self.run.wait_for(lambda: set(self.m.files()) - self.files, 8, "parts of the transaction in files")
        except WaitTimeout:
            self.given_up += self.open.execute("SELECT txid_current() % 4294967296").fetchone()
            self.open.rollback()
            return False
        return True

    def ended(self):
        """Why it is no longer ahead; [] while it is, and after it went well."""
        return [line for line in self.run.stderr.splitlines() if ENDED in line and int(XID.search(line)[1]) not in self.given_up]

    def stop(self, *tables, snapshots):
        self.open.close()
        assert self.run.terminate() == 0
        self.m.same("a", "b", "s", *tables)
        assert len(self.m.snapshots()) == self.before + snapshots


@pytest.fixture
def small(mirror):
    m = mirror(TABLES, fill("b", 1, 3000), "INSERT INTO s VALUES (0)", source=SOURCE, destination=SMALL)
    m.sync()
    return m


def test_a_transaction_is_in_files_before_it_commits(small):
    ahead = Ahead(small)
    ahead.open.execute("UPDATE a SET v = 2 WHERE id % 2 = 0; DELETE FROM a WHERE id % 5 = 0; UPDATE b SET v = id; DELETE FROM b WHERE id < 100")
    ahead.open.execute("TRUNCATE b; INSERT INTO b VALUES (1, 1, 'after')")
    ahead.open.execute(fill("a", 30001, 40000, 3))
    ahead.open.commit()
    small.wait_rows(ahead.run, "a", 26000)
    assert not ahead.ended()
    ahead.stop(snapshots=1)


@pytest.mark.parametrize("lake_home", ["sqlite"], indirect=True)
def test_one_after_the_other(small):
    """Each of several, and no ordinary one between them."""
    ahead = Ahead(small)
    ahead.open.commit()
    for i in range(1, 4):
        ahead.open.execute(fill("a", i * 100000, i * 100000 + 9999, i))
        ahead.open.execute(f"UPDATE a SET v = {i + 10} WHERE id % 3 = 0")
        ahead.open.commit()
    small.wait_rows(ahead.run, "a", 50000)
    assert not ahead.ended()
    ahead.stop(snapshots=4)


def rolled_back(ahead):
    ahead.open.rollback()


def partly_rolled_back(ahead):
    ahead.open.execute("SAVEPOINT p; " + fill("a", 50001, 60000, 7) + "; ROLLBACK TO p; " + fill("a", 50001, 50010, 8))
    ahead.open.commit()


def overtaken(ahead):
    ahead.m.sql("INSERT INTO s VALUES (1)", "UPDATE b SET v = 5 WHERE id = 7")
    ahead.m.wait_rows(ahead.run, "s", 2)
    ahead.open.execute("UPDATE a SET v = 9 WHERE id < 100; UPDATE b SET v = v + 1 WHERE id = 7")
    ahead.open.commit()


def overtaken_by_another_one(ahead):
    with ahead.m.database.connect(autocommit=False) as other:
        other.execute(fill("b", 10001, 30000, 4))
        other.commit()
    ahead.m.wait_rows(ahead.run, "b", 23000)
    ahead.open.commit()


def reshaped(ahead):
    ahead.open.execute("ALTER TABLE a ADD extra int DEFAULT 4; UPDATE a SET extra = 5 WHERE id % 2 = 0")
    ahead.open.commit()


def column_made_again(ahead):
    """The R that follows says the same as before; only the catalog shows that it is another column."""
    ahead.open.execute("ALTER TABLE b DROP body; ALTER TABLE b ADD body text; UPDATE b SET v = 3 WHERE id < 50")
    ahead.open.commit()


def cut(ahead):
    """The connection is lost: the server sends all of it once more."""
    ahead.m.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
    ahead.run.wait_for(ahead.ended, 60, "the end of the ahead")
    ahead.open.execute("DELETE FROM a WHERE id <= 10")
    ahead.open.commit()


def with_a_new_table(ahead):
    ahead.open.execute("CREATE TABLE late (id int PRIMARY KEY, v int); INSERT INTO late SELECT i, i FROM generate_series(1, 5000) i")
    ahead.open.commit()
    ahead.m.wait_rows(ahead.run, "late", 5000)


@pytest.mark.parametrize("lake_home", ["sqlite"], indirect=True)
@pytest.mark.parametrize(
    ("what", "rows", "snapshots"),
    [(rolled_back, 0, 0), (partly_rolled_back, 20010, 1), (overtaken, 20000, None), (overtaken_by_another_one, 20000, 2),
     (reshaped, 20000, None), (column_made_again, 20000, None), (cut, 19990, 1),
     (with_a_new_table, 20000, None)],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_withdrawn(small, what, rows, snapshots):
    ahead = Ahead(small)
    what(ahead)
    ahead.run.wait_for(ahead.ended, 60, "the end of the ahead")
    small.wait_rows(ahead.run, "a", rows)
    small.sql("INSERT INTO s VALUES (100)")
    small.wait_rows(ahead.run, "s", small.database.value("SELECT count(*) FROM s"))
    # where a table has to be copied again the flow opens again, and has the transaction once more
    assert len(ahead.ended()) == 1 or what is column_made_again, ahead.ended()
    if snapshots is None:
        snapshots = len(small.snapshots()) - ahead.before - 1
    ahead.stop(*(["late"] if what is with_a_new_table else []), snapshots=snapshots + 1)
    files = small.catalog("SELECT path FROM ducklake_data_file")
    assert what is not rolled_back or len(small.files()) == len(ahead.files) == len(files)  # what was aside is gone


@pytest.mark.parametrize("lake_home", ["sqlite"], indirect=True)
def test_a_run_until_caught_up_does_not_wait_for_it(small):
    with small.database.connect(autocommit=False) as connection:
        connection.execute(fill("a", 1, 20000, 1))
        small.sql("INSERT INTO s VALUES (1)")
        small.sync()
        small.same("s")
        assert small.rows("a") == []
        connection.commit()
    small.sync()
    small.same("a")


@pytest.mark.parametrize("lake_home", ["sqlite"], indirect=True)
def test_one_that_rests_is_withdrawn(small):
    """What waits aside for a commit costs somebody something; the spool keeps it."""
    ahead = Ahead(small)
    ahead.run.wait_for(ahead.ended, 30, "the end of the ahead")
    ahead.open.execute("UPDATE a SET v = 3 WHERE id < 1000")
    ahead.open.commit()
    small.wait_rows(ahead.run, "a", 20000)
    ahead.stop(snapshots=1)


def test_killed_while_it_is_ahead(small):
    ahead = Ahead(small)
    ahead.run.kill()
    ahead.open.execute("DELETE FROM a WHERE id % 2 = 0")
    ahead.open.commit()
    ahead.open.close()
    small.sync()
    small.same("a", "b", "s")
    assert len(small.snapshots()) == ahead.before + 1


@pytest.mark.parametrize("end", ["rollback", "commit"])
def test_what_is_wrong_with_it_counts_only_once_it_has_committed(small, end):
    """A row that it deletes is not in the lake: that stops the flow when it commits, and is nothing when it does not."""
    small.flow.set_destination(foreign_changes="share")
    small.lake.sql("DELETE FROM lake.public.b WHERE id = 7")
    small.close_lake()
    ahead = Ahead(small)
    ahead.open.execute("DELETE FROM b WHERE id = 7; " + fill("a", 30001, 50000))
    ahead.run.wait_for(lambda: "has not committed yet" in ahead.run.stderr, 60, "the attempt to be given up")
    getattr(ahead.open, end)()
    ahead.open.close()
    if end == "commit":
        assert ahead.run.wait(60) == 1
        assert "is not in the lake" in ahead.run.stderr
        return
    small.sql("INSERT INTO s VALUES (100)")
    small.wait_rows(ahead.run, "s", 2)
    assert ahead.run.terminate() == 0
    small.same("a", "s")


def steps(choose):
    """Statements of one transaction, over keys 1 to 3,000 of both tables."""
    for _ in range(choose.randint(2, 6)):
        table, first = choose.choice("ab"), choose.randint(1, 3000)
        last = first + choose.randint(500, 3000)
        yield choose.choice([
            f"INSERT INTO {table} SELECT i, {first}, repeat('y', 60) || i FROM generate_series({first}, {last}) i ON CONFLICT (id) DO UPDATE SET v = -1",
            f"UPDATE {table} SET v = v + 1 WHERE id BETWEEN {first} AND {last}",
            f"DELETE FROM {table} WHERE id BETWEEN {first} AND {last} AND id % 3 = 0",
            f"UPDATE {table} SET id = -id WHERE id BETWEEN {first} AND {last} AND -id NOT IN (SELECT id FROM {table})",
        ])
        if choose.random() < 0.2:
            yield f"SAVEPOINT p; UPDATE {table} SET v = 0 WHERE id <= {last}; {choose.choice(['ROLLBACK TO', 'RELEASE'])} p"


@pytest.mark.parametrize(("lake_home", "seed"), [("sqlite", 1), ("postgres", 2)], indirect=["lake_home"])
def test_random_transactions(small, seed):
    """Large and small, ended in whatever way, while the flow runs: every committed state in its order, and nothing else."""
    choose, m = random.Random(seed), small
    run = m.flow.start("--log-level=debug")
    m.wait_rows(run, "s", 1)
    n = 0
    for _ in range(12):
        time.sleep(choose.choice([0, 1.1]))
        with m.database.connect(autocommit=False) as connection:
            for statement in steps(choose):
                connection.execute(statement)
                if choose.random() < 0.15:
                    n += 1
                    m.sql(f"INSERT INTO s VALUES ({n})")
            (connection.rollback if choose.random() < 0.3 else connection.commit)()
    m.sql("INSERT INTO s VALUES (-1)")
    m.wait_rows(run, "s", n + 2)
    assert run.terminate() == 0
    m.same("a", "b", "s")


@pytest.mark.parametrize("lake_home", ["sqlite"], indirect=True)
def test_two_at_once(small):
    """An open transaction is spooled and applied: the next one, while the first is ahead, is only spooled."""
    ahead = Ahead(small)
    with small.database.connect(autocommit=False) as other:
        other.execute(fill("b", 10001, 20000, 4))
        wait_until(lambda: small.database.value("SELECT stream_txns FROM pg_stat_replication_slots WHERE slot_name = 'shop'") >= 2, 60, "both")
        ahead.open.commit()
        small.wait_rows(ahead.run, "a", 20000)
        assert not ahead.ended()
        other.commit()
    small.wait_rows(ahead.run, "b", 13000)
    ahead.stop(snapshots=2)
