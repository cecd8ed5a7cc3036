"""Rows whose values are a large part of memory: 100 MB each in the long run, 24 MB in the short one (issue 4, point 4)."""

import os
import sys

import pytest
from lib.paths import SANITIZED
from lib.usage import Usage, nameless_files

LONG = os.environ.get("DUCT_LONG") == "1"
ROW = 100_000_000 if LONG else 24_000_000
MEMORY_LIMIT = (256 << 20) + 5 * ROW

# Neither compresses: a value is what the row takes on its way.
VALUES = {
    "bytea": "(SELECT string_agg(sha512(({seed} * 1000000 + i)::text::bytea), ''::bytea) FROM generate_series(1, {pieces}) i)",
    "text": "(SELECT string_agg(encode(sha512(({seed} * 1000000 + i)::text::bytea), 'hex'), '') FROM generate_series(1, {pieces}) i)",
}
PIECE = {"bytea": 64, "text": 128}


def value(type_name, seed):
    return VALUES[type_name].format(seed=seed, pieces=ROW // PIECE[type_name])



def pass_bounded(m, what, *statements):
    """The statements' changes, in bounded memory."""
    m.sql(*statements)
    run = m.flow.start("--until-caught-up")
    usage = Usage(run.pid)
    run.expect(0, 3600)
    peak = usage.stop()
    print(f"{what}: {peak >> 20} MiB, {(peak - (60 << 20)) / ROW:.1f} rows above 60 MiB", file=sys.stderr)
    same(m)
    assert SANITIZED or peak < MEMORY_LIMIT, f"{what}: {peak >> 20} MiB"


def same(m):
    """By length and digest: the rows themselves are too large to be compared one by one."""
    assert m.lake.sql("SELECT count(*) FROM lake.public.w") == m.database.query("SELECT count(*) FROM w")
    lake = m.lake.sql("SELECT id, v, octet_length(body::blob), md5(body::blob) FROM lake.public.w ORDER BY id")
    source = m.database.query("SELECT id, v, octet_length(body), md5(body) FROM w ORDER BY id")
    assert [tuple(row) for row in lake] == source


@pytest.mark.long
@pytest.mark.timeout(4 * 3600 if LONG else 300)
@pytest.mark.parametrize("type_name", ["bytea", "text"])
def test_wide_rows_in_bounded_memory(make_mirror, own_server, sqlite_lake, tmp_path, type_name):
    """Copied, inserted, updated, with another key, with the wide value left alone, and deleted."""
    database = own_server.database("wide")
    m = make_mirror(database, sqlite_lake, f"CREATE TABLE w (id int PRIMARY KEY, v int, body {type_name})",
                    "ALTER TABLE w ALTER body SET STORAGE EXTERNAL", source={"spool_dir": str(tmp_path)})
    insert = "INSERT INTO w VALUES ({0}, 0, " + value(type_name, "{0}") + ")"
    pass_bounded(m, "copy", *[insert.format(i) for i in (1, 2, 3)])
    pass_bounded(m, "inserts", *[insert.format(i) for i in (4, 5, 6)])
    pass_bounded(m, "inserts in one transaction", "; ".join(insert.format(i) for i in (7, 8, 9)))
    pass_bounded(m, "update", "UPDATE w SET v = 1, body = " + value(type_name, 21) + " WHERE id = 1")
    pass_bounded(m, "key change with the value", "UPDATE w SET id = 22, body = " + value(type_name, 22) + " WHERE id = 2")
    pass_bounded(m, "value left alone", "UPDATE w SET v = 3 WHERE id = 3")
    pass_bounded(m, "values left alone", "UPDATE w SET v = v + 1 WHERE id IN (4, 5, 6)")
    pass_bounded(m, "key change without the value", "UPDATE w SET id = 27 WHERE id = 7")
    pass_bounded(m, "delete", "DELETE FROM w WHERE id IN (1, 8)", "DELETE FROM w")


def test_a_wide_row_of_an_open_transaction_comes_once(mirror_sqlite, database, tmp_path):
    """The connection is renewed after such a row, but not between the blocks of a transaction, which would begin again each time."""
    database.needs(14, "streaming of open transactions")
    m = mirror_sqlite("CREATE TABLE w (id int PRIMARY KEY, v int, body text)", "ALTER TABLE w ALTER body SET STORAGE EXTERNAL",
                      source={"spool_dir": str(tmp_path), "max_memory": "1MiB", "work_mem": "1MB"})
    m.sync()
    run = m.flow.start()
    process = lambda: m.database.value("SELECT active_pid FROM pg_replication_slots WHERE slot_name = 'shop'")
    with m.database.connect(autocommit=False) as connection:
        for n in (1, 2):
            connection.execute(f"INSERT INTO w VALUES ({n}, 0, repeat(md5('{n}'), 600000))")
            m.sql("SELECT pg_logical_emit_message(true, 'test', '')")  # its commit writes out the log, which the server sends only then
            spooled = lambda: sum(nameless_files(run.pid, tmp_path / "ductstream-spool"))
            run.wait_for(lambda: spooled() > n * 19_000_000, 60, f"row {n} in the spool")
            first = first if n > 1 else process()
            assert process() == first
        connection.commit()
    m.wait_rows(run, "w", 2)
    run.wait_for(lambda: process() not in (first, None), 60, "another connection")
    assert run.terminate() == 0
    m.sql("UPDATE w SET v = 1")
    m.sync()
    same(m)
