"""Random histories over three keys mean the same whether they become one commit of the lake or one each, or one in many
windows, and the same as at the source: savepoints, swaps through a third key, unsent values, rows that move between leaves of a partitioned table."""

import os
import random
import sqlite3

import psycopg
import pytest

from lib.compare import assert_same
from lib.lake import LakeHome

HISTORIES = 200 if os.environ.get("DUCT_LONG") == "1" else 12
TRANSACTIONS = 7
SCHEMA = """
CREATE TABLE tick (id int PRIMARY KEY, n int);
CREATE TABLE t (id int PRIMARY KEY, v text, wide text);
ALTER TABLE t ALTER wide SET STORAGE EXTERNAL;
CREATE TABLE p (id int, leaf int, v text, wide text, PRIMARY KEY (id, leaf)) PARTITION BY LIST (leaf);
ALTER TABLE p ALTER wide SET STORAGE EXTERNAL;
CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1);
CREATE TABLE p_2 (gone int, wide text, leaf int NOT NULL, v text, id int NOT NULL, PRIMARY KEY (id, leaf));
ALTER TABLE p_2 DROP gone;
ALTER TABLE p_2 ALTER wide SET STORAGE EXTERNAL;
ALTER TABLE p ATTACH PARTITION p_2 FOR VALUES IN (2);
INSERT INTO tick VALUES (1, 0);
CREATE PUBLICATION by_root FOR TABLE tick, t, p WITH (publish_via_partition_root = true);
CREATE PUBLICATION by_leaf FOR TABLE tick, t, p;
"""
TABLES = {"by_root": ("public.t", "public.p"), "by_leaf": ("public.t", "public.p_1", "public.p_2")}


class History:
    """Statements that may hit rows or none; one that breaks a key is rolled back to the savepoint before it.

    None truncates a leaf: Postgres does not publish that via the root (see CREATE PUBLICATION).
    """

    def __init__(self, connection, seed):
        self.connection = connection
        self.random = random.Random(seed)

    def transaction(self):
        with self.connection.transaction():
            self.connection.execute("UPDATE tick SET n = n + 1")
            for _ in range(self.random.randint(1, 6)):
                self._step(0)

    def _step(self, depth):
        r = self.random
        if depth < 2 and r.random() < 0.3:
            with self.connection.transaction(force_rollback=r.random() < 0.5):
                for _ in range(r.randint(1, 3)):
                    self._step(depth + 1)
            return
        try:
            with self.connection.transaction():
                for statement in self._statements():
                    self.connection.execute(statement)
        except psycopg.errors.UniqueViolation:
            pass

    def _statements(self):
        r = self.random
        key, other, leaf = r.randint(1, 3), r.randint(1, 3), r.randint(1, 2)
        value = f"'{r.randint(0, 10**6)}'"
        wide = f"repeat({value}, 700)"
        choices = [
            (4, [f"INSERT INTO t VALUES ({key}, {value}, {wide})"]),
            (4, [f"UPDATE t SET v = {value} WHERE id = {key}"]),
            (2, [f"UPDATE t SET wide = {wide} WHERE id = {key}"]),
            (2, [f"UPDATE t SET wide = NULL WHERE id = {key}"]),
            (3, [f"DELETE FROM t WHERE id = {key}"]),
            (3, [f"UPDATE t SET id = {other} WHERE id = {key}"]),
            (3, [f"UPDATE t SET id = {a} WHERE id = {b}" for a, b in ((99, key), (key, other), (other, 99))]),
            (2, [f"UPDATE t SET id = id + 10, v = {value}", "UPDATE t SET id = id - 10"]),
            (1, ["TRUNCATE t"]),
            (4, [f"INSERT INTO p VALUES ({key}, {leaf}, {value}, {wide})"]),
            (4, [f"UPDATE p SET v = {value} WHERE id = {key}"]),
            (4, [f"UPDATE p SET leaf = 3 - leaf WHERE id = {key}"]),
            (2, [f"UPDATE p SET id = {other}, leaf = {leaf} WHERE id = {key} AND leaf = {3 - leaf}"]),
            (3, [f"DELETE FROM p WHERE id = {key}"]),
            (1, ["TRUNCATE p"]),
        ]
        weights, statements = zip(*choices)
        return r.choices(statements, weights)[0]


def checkpoint(home, column):
    with sqlite3.connect(home.catalog.removeprefix("sqlite:"), timeout=30) as connection:
        found = connection.execute(f"SELECT {column} FROM ductstream_checkpoint").fetchone()[0]
    connection.close()
    return found


@pytest.mark.timeout(3600)
def test_one_commit_or_many(database, make_flow, tmp_path):
    seed = int(os.environ.get("DUCT_SEED", random.randrange(10**6)))
    print(f"DUCT_SEED={seed}")
    database.sql(SCHEMA)
    homes, each, at_once = {}, {}, {}
    for publication in TABLES:
        for way in ("each", "once"):
            home = homes[publication, way] = LakeHome(f"sqlite:{tmp_path}/{publication}-{way}.sqlite", tmp_path / f"{publication}-{way}")
            source = {"publication": publication}
            flow = make_flow(database, home, name=f"{publication}_{way}", source=source, destination={"flush_interval": "1ms", "inline_flush_rows": 9})
            flow.run_until_caught_up()
            if way == "each":
                each[publication] = flow.start()
            else:
                flow.content["destinations"][0]["options"]["flush_interval"] = "1h"
                flow.write()
                at_once[publication] = flow
    commits = 0
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for number in range(HISTORIES):
            history = History(connection, f"{seed}-{number}")
            before = {publication: checkpoint(homes[publication, "once"], "seq") for publication in TABLES}
            for _ in range(TRANSACTIONS):
                lsn = int(database.value("SELECT pg_current_wal_lsn() - '0/0'"))
                history.transaction()
                for publication, run in each.items():  # by its position: rows that move out of the catalog are commits, too
                    home = homes[publication, "each"]
                    run.wait_for(lambda: checkpoint(home, "lsn") > lsn, 30, f"the commit (DUCT_SEED={seed}, history {number})")
            for publication, tables in TABLES.items():
                at_once[publication].run_until_caught_up()
                commits += checkpoint(homes[publication, "once"], "seq") - before[publication]
                for way in ("each", "once"):
                    with homes[publication, way].open() as lake:
                        try:
                            assert_same(database, lake, *tables)
                        except AssertionError as error:
                            raise AssertionError(f"DUCT_SEED={seed}, history {number}, {publication}, {way}:\n{error}") from None
    for publication, run in each.items():
        assert run.terminate() == 0, run.describe()
    assert commits <= HISTORIES * len(TABLES) * 3, "the histories were not folded"


BAG = """
CREATE TABLE bag (a int, b text);
ALTER TABLE bag REPLICA IDENTITY FULL;
INSERT INTO bag SELECT i % 3, 'x' FROM generate_series(1, 20) i;
ALTER PUBLICATION by_root ADD TABLE bag
"""


def bag_statement(r):
    a, b = r.randint(0, 3), r.randint(0, 3)
    row = f"ctid IN (SELECT ctid FROM bag WHERE a = {a} LIMIT {r.randint(1, 3)})"
    return r.choice(
        [f"INSERT INTO bag SELECT {a}, 'x' FROM generate_series(1, {r.randint(1, 3)})", f"DELETE FROM bag WHERE {row}",
         f"UPDATE bag SET a = {b} WHERE {row}", f"INSERT INTO bag VALUES ({a}, repeat('y', 5000))"]
    )


@pytest.mark.timeout(3600)
def test_one_transaction_in_many_windows(database, make_flow, sqlite_lake):
    """A transaction that is written aside every few rows: keys come back in later windows, their rows having been written,
    ended, or ended and written again by earlier ones."""
    seed = int(os.environ.get("DUCT_SEED", random.randrange(10**6)))
    print(f"DUCT_SEED={seed}")
    database.sql(SCHEMA + BAG)
    flow = make_flow(
        database, sqlite_lake, source={"publication": "by_root", "max_memory": "1MiB", "streaming": "off"},
        destination={"flush_rows": 1},
    )
    flow.run_until_caught_up()
    tables = (*TABLES["by_root"], "public.bag")
    with psycopg.connect(database.dsn, autocommit=True) as connection:
        for number in range(HISTORIES // 3):
            history = History(connection, f"{seed}-{number}")
            with connection.transaction():
                for _ in range(120):
                    history._step(0)
                    connection.execute(bag_statement(history.random))
            flow.run_until_caught_up()
            with sqlite_lake.open() as lake:
                try:
                    assert_same(database, lake, *tables)
                except AssertionError as error:
                    raise AssertionError(f"DUCT_SEED={seed}, history {number}:\n{error}") from None
    with sqlite3.connect(sqlite_lake.catalog.removeprefix("sqlite:")) as connection:
        files = connection.execute("SELECT max(n) FROM (SELECT count(*) n FROM ducklake_data_file GROUP BY begin_snapshot)").fetchone()[0]
    assert files > 10, "the transactions were not written in windows"
