"""A workload that never stops, and what must hold of its mirror at every moment."""

import os
import random
import threading

import psycopg

from .compare import assert_same

SCHEMA = """
CREATE TABLE left_account (id int PRIMARY KEY, amount int NOT NULL, note text);
CREATE TABLE right_account (id int PRIMARY KEY, amount int NOT NULL, note text);
CREATE TABLE side (id bigserial PRIMARY KEY, body text, n int);
ALTER TABLE left_account ALTER note SET STORAGE EXTERNAL;
INSERT INTO left_account SELECT i, 100, repeat('l' || i, 1500) FROM generate_series(1, 60) i;
INSERT INTO right_account SELECT i, 100, NULL FROM generate_series(1, 60) i;
INSERT INTO side (body, n) SELECT md5(i::text), i FROM generate_series(1, 500) i;
"""
TABLES = ("left_account", "right_account", "side")
TOTAL = 60 * 200
LONG = os.environ.get("DUCT_LONG") == "1"


class Workload:
    """Transfers between two tables with a constant sum; key changes, unsent TOAST values, deletes, rolled-back savepoints,
    truncates on the side. One connection, one transaction after another, until stop()."""

    def __init__(self, database, seed=1):
        self.database = database
        self.random = random.Random(seed)
        self.committed = 0
        self.error = None
        self._stop = threading.Event()
        self._thread = None

    def start(self):
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def stop(self):
        self._stop.set()
        self._thread.join(30)
        if self.error:
            raise self.error

    def __enter__(self):
        return self.start()

    def __exit__(self, *_):
        self.stop()

    def _run(self):
        try:
            with psycopg.connect(self.database.dsn) as connection:
                self.work(connection)
        except Exception as error:  # raised again by stop()
            self.error = error

    def work(self, connection):
        while not self._stop.is_set():
            self.step(connection)
            connection.commit()
            self.committed += 1

    def step(self, connection):
        r, run = self.random, connection.execute
        for _ in range(r.randint(1, 4)):
            amount, one, other = r.randint(1, 5), r.randint(1, 60), r.randint(1, 60)
            run("UPDATE left_account SET amount = amount - %s WHERE id = %s OR id = %s + 1000", (amount, one, one))
            run("UPDATE right_account SET amount = amount + %s WHERE id = %s", (amount, other))
        kind = r.randint(0, 11)
        if kind == 0:  # key change of a row with an unsent value, and back another time
            run("UPDATE left_account SET id = CASE WHEN id > 1000 THEN id - 1000 ELSE id + 1000 END WHERE id %% 1000 = %s",
                (r.randint(1, 60),))
        elif kind == 1:
            with connection.transaction(force_rollback=True):
                run("UPDATE left_account SET amount = amount + 7")
                run("DELETE FROM right_account")
        elif kind == 2:
            run("DELETE FROM side WHERE id %% 7 = %s", (r.randint(0, 6),))
        elif kind == 3:
            run("UPDATE side SET n = n + 1 WHERE id %% 5 = %s", (r.randint(0, 4),))
            run("UPDATE side SET n = n + 1 WHERE id %% 5 = %s", (r.randint(0, 4),))
        elif kind == 4 and r.random() < 0.2:
            run("TRUNCATE side")
        elif kind == 5:
            run("UPDATE right_account SET note = repeat(%s, 400) WHERE id = %s", (str(r.random()), r.randint(1, 60)))
        else:
            run("INSERT INTO side (body, n) SELECT md5(random()::text), i FROM generate_series(1, %s) i", (r.randint(1, 30),))


def touch_all(database):
    """Updates every key and deletes half: what finds wrong row ids, stale places and double marks."""
    database.sql("UPDATE side SET n = n + 1")
    database.sql("UPDATE left_account SET note = left(note, 3000) || 'x' WHERE id % 2 = 0")
    database.sql("UPDATE left_account SET amount = amount + 1; UPDATE right_account SET amount = amount - 1")
    database.sql("DELETE FROM side WHERE id % 2 = 0")


def check_every_snapshot(lake, most=60):
    """At every snapshot that exists (when there are more than MOST: the newest half of them and as many others by lot; all
    with DUCT_LONG=1): the sum of both tables is constant, and the catalog's count is the scanned one."""
    first = min(s["snapshot_id"] for s in lake.snapshots() if "left_account" in str(s["changes"]))
    ids = [s["snapshot_id"] for s in lake.snapshots() if s["snapshot_id"] >= first]
    assert ids, "no snapshot has the tables"
    if len(ids) > most and not LONG:
        ids = sorted(random.sample(ids[: -(most // 2)], most // 2)) + ids[-(most // 2) :]
    for some in range(0, len(ids), 5):  # a statement costs more than what it looks at
        for at, counted, scans in lake.sql(" UNION ALL ".join(map(_at_snapshot, ids[some : some + 5]))):
            total, scanned = sum(amount for _, amount in scans), [rows or 0 for rows, _ in scans]
            assert total == TOTAL, f"snapshot {at} is torn: the sum is {total}, not {TOTAL}"
            assert counted == scanned, f"snapshot {at}: count(*) says {counted}, a scan {scanned} for {TABLES}"


def _at_snapshot(at):
    """Its number; for each table count(*), which the catalog answers; rows and amounts that a scan finds."""
    counts = [f"(SELECT count(*) FROM lake.public.{t} AT (VERSION => {at}))" for t in TABLES]
    amounts = {"left_account": "sum(amount)", "right_account": "sum(amount)", "side": "0"}
    scans = [f"(SELECT [sum(1 + 0 * id), {amounts[t]}] FROM lake.public.{t} AT (VERSION => {at}))" for t in TABLES]
    return f"SELECT {at}, [{', '.join(counts)}], [{', '.join(scans)}]"


def assert_whole(database, lake_home, flow):
    """Catches up, touches every row, catches up again; the lake equals the source, and every snapshot is whole."""
    tables = [f"public.{table}" for table in TABLES]
    flow.run_until_caught_up()
    with lake_home.open() as lake:
        assert_same(database, lake, *tables)
    touch_all(database)
    flow.run_until_caught_up()
    with lake_home.open() as lake:
        assert_same(database, lake, *tables)
        check_every_snapshot(lake)
