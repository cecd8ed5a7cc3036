"""Very many tables in one publication: 1,000 of them, 10,000 in the long run; memory, files that are open, locks, time per table (issue 4, point 4)."""

import os
import random
import signal
import sys
import time

import pytest
from lib.lake import LakeHome
from lib.limit import Limit
from lib.paths import SANITIZED
from lib.pause import Pause
from lib.pg import Postgres
from lib.usage import Usage

LONG = os.environ.get("DUCT_LONG") == "1"
MANY = 10_000 if LONG else 1000
MEMORY_LIMIT = (1000 if SANITIZED else 256) << 20
FEW_FILES = ("prlimit", "--nofile=256:256")


@pytest.fixture
def wide_server():
    """One that lets a transaction touch all the tables."""
    with Postgres(settings={"max_locks_per_transaction": "4096", "max_connections": "40"}) as pg:
        yield pg


def in_slices(statement, n, size=500):
    """The statement, with %1$s for the number, once for each table; a transaction per slice."""
    return [f"DO $$ BEGIN FOR i IN {first}..{min(first + size, n) - 1} LOOP EXECUTE format('{statement}', i); END LOOP; END $$"
            for first in range(0, n, size)]


def tables(n, rows=3):
    return in_slices("CREATE TABLE t%1$s (id int PRIMARY KEY, v int, body text); "
                     f"INSERT INTO t%1$s SELECT k, 0, ''row '' || k FROM generate_series(1, {rows}) k", n)


def in_one(statement, n):
    [text] = in_slices(statement, n, n)
    return text


def digests(query, schema, n):
    """What is in some of the tables, as one text each: the official client takes long with very many."""
    rows = f"SELECT {{0}}, string_agg(id || ' ' || v || ' ' || body, ',' ORDER BY id) FROM {schema}t{{0}}"
    return dict(query(" UNION ALL ".join(rows.format(i) for i in {*range(0, n, max(n // 30, 1)), n - 1})))


def same(m, n):
    with m.home.open(timeout_s=3600) as lake:
        assert digests(lake.sql, "lake.public.", n) == digests(m.database.query, "", n)


def pass_bounded(m, n, what, *statements, wrapper=()):
    """The statements' changes within the memory of a flow of one table; says how long each table took."""
    m.sql(*statements)
    before, begun = m.last_snapshot() if m.exists() else 0, time.monotonic()
    run = m.flow.start("--until-caught-up", wrapper=wrapper)
    usage = Usage(run.pid)
    run.expect(0, 7200)
    took, peak = time.monotonic() - begun, usage.stop()
    print(f"{what}, {n:,} tables: {took:.1f} s, {took / n * 1000:.2f} ms and {usage.cpu_s / n * 1000:.2f} ms of processor time "
          f"a table, {peak >> 20} MiB", file=sys.stderr)
    assert peak < MEMORY_LIMIT, f"{what}: {peak >> 20} MiB"
    assert "attempt failed" not in run.stderr, run.describe()
    return m.last_snapshot() - before


UPDATED = "UPDATE t%1$s SET v = v + 1 WHERE id < 3; INSERT INTO t%1$s VALUES (%1$s + 100, 1, ''new''); DELETE FROM t%1$s WHERE id = 3"


@pytest.mark.long
@pytest.mark.timeout(8 * 3600 if LONG else 600)
@pytest.mark.parametrize("catalog", ["sqlite", "postgres"])
def test_very_many_tables(request, wide_server, make_mirror, catalog):
    """Copied; changed in one transaction, which is one snapshot; changed in many. With 256 files open at most."""
    database = wide_server.database("many")
    m = make_mirror(database, request.getfixturevalue(f"{catalog}_lake"), *tables(MANY))
    pass_bounded(m, MANY, "copy", wrapper=FEW_FILES)
    same(m, MANY)
    assert pass_bounded(m, MANY, "one transaction", in_one(UPDATED, MANY), wrapper=FEW_FILES) <= 2  # a flush may follow
    same(m, MANY)
    with database.connect() as connection:
        for i in range(MANY):
            connection.execute(f"UPDATE t{i} SET v = v + 1; INSERT INTO t{i} VALUES (5, 5, 'small')")
    pass_bounded(m, MANY, "many transactions", wrapper=FEW_FILES)
    same(m, MANY)


def test_more_tables_than_the_catalogs_server_has_locks_for(wide_server, make_mirror, tmp_path):
    """A commit leaves to files what would lock too many tables; and what is inlined in many is flushed in time."""
    n = 400
    with Postgres(settings={"max_locks_per_transaction": "10", "max_connections": "20"}) as small:
        home = LakeHome(f"postgres:{small.database('lake').dsn}", tmp_path / "data")
        m = make_mirror(wide_server.database("many"), home, *tables(n))
        pass_bounded(m, n, "copy")
        pass_bounded(m, n, "one transaction", in_one(UPDATED, n))
        same(m, n)
        for turn in range(2):
            pass_bounded(m, n, "a few tables at a time", *in_slices("INSERT INTO t%1$s VALUES (-1 - " + str(turn) + ", 1, ''small'')", n, 10))
            pass_bounded(m, n, "all of them", in_one("UPDATE t%1$s SET v = v + 10", n))
            same(m, n)
        m.close_lake()
        home.close()


def test_a_commit_that_is_sent_in_parts(wide_server, make_mirror, postgres_lake):
    """That of many tables is longer than one string to Postgres: killed between two of them, and refused in the last one, it leaves nothing."""
    n = 300
    m = make_mirror(wide_server.database("many"), postgres_lake, *tables(n))
    m.sync()
    m.sql(in_one(UPDATED, n))
    before = m.last_snapshot()
    assert m.flow.start("--until-caught-up", env={"DUCT_KILL_POINT": "commit-piece-sent:1"}).wait(60) == -signal.SIGKILL
    assert m.last_snapshot() == before
    m.sync()
    same(m, n)
    m.sql(in_one(UPDATED.replace("+ 100", "+ 1000"), n))
    before = m.last_snapshot()
    [[last]] = m.catalog("SELECT max(table_id) FROM {}ducklake_table")
    m.change_catalog(f"CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                     f"IF NEW.table_id = {last} THEN RETURN NULL; END IF; RETURN NEW; END $$")
    m.change_catalog("CREATE TRIGGER refuse BEFORE UPDATE ON ducklake_table_stats FOR EACH ROW EXECUTE FUNCTION refuse()")
    assert "the statistics row of a table" in m.fails(1)
    assert m.last_snapshot() == before
    m.change_catalog("DROP FUNCTION refuse CASCADE")
    m.sync()
    same(m, n)


def test_frozen_between_the_parts_of_a_commit(wide_server, make_mirror, postgres_lake, tmp_path):
    """It has the lock of all that share the catalog: the server ends its session after ten seconds, and another flow goes on."""
    n = 300
    m = make_mirror(wide_server.database("many"), postgres_lake, *tables(n))
    other = make_mirror(wide_server.database("other"), postgres_lake, "CREATE TABLE o (id int PRIMARY KEY)", name="other")
    m.sync()
    other.sync()
    m.sql(in_one(UPDATED, n))
    pause = Pause(tmp_path, "commit-piece-sent")
    run = m.flow.start("--until-caught-up", env=pause.env)
    pause.wait(run)
    run.signal(signal.SIGSTOP)
    other.sql("INSERT INTO o VALUES (1)")
    other.sync(timeout_s=60)
    other.same("o")
    pause.release()
    run.signal(signal.SIGCONT)
    run.expect(0, 60)
    same(m, n)


@pytest.mark.parametrize("n", [1, 500])
def test_memory_under_load_at_the_defaults(wide_server, make_mirror, sqlite_lake, n):
    """Large and small transactions over all tables, with values of all lengths; nothing in the options. In a group of 512 MiB
    where the machine gives one (points 3 and 4)."""
    m = make_mirror(wide_server.database("load"), sqlite_lake, *tables(n))
    m.sync()
    chance = random.Random(n)
    values = "SELECT k, k %% 7, repeat(md5(k::text), k %% 40) FROM generate_series({0}, {1}) k"
    per_table = (200_000 if LONG else 50_000) // n
    loads = [in_one(f"INSERT INTO t%1$s {values.format(10, 9 + per_table)}", n), in_one("UPDATE t%1$s SET v = v + 1", n),
             in_one("UPDATE t%1$s SET body = md5(body) WHERE id %% 2 = 0; DELETE FROM t%1$s WHERE id %% 5 = 0", n)]
    m.sql(*loads)
    with m.database.connect() as connection:
        for i in range(2000):
            t = chance.randrange(n)
            connection.execute(f"UPDATE t{t} SET v = {i} WHERE id = {chance.randrange(10, 9 + per_table)}; "
                               f"INSERT INTO t{t} VALUES ({1_000_000 + i}, {i}, 'small')")
    pass_bounded(m, n, "load", wrapper=() if SANITIZED else Limit("512M").wrapper)
    same(m, n)
