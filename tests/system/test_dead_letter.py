"""Rows that cannot be stored go to the dead-letter table, when that is wished; the lake equals the source without them."""

import json
import subprocess
import time

import pytest

from lib.compare import assert_same
from lib.flow import EXIT_CONFIG, EXIT_DATA, EXIT_DONE
from lib.mirror import Mirror
from lib.paths import program

DEAD = {"source": {"dead_letter": True}}
TABLE = "CREATE TABLE t (id int PRIMARY KEY, price numeric(12,2), at timestamp, list int[], v text)"
LATE = "294276-12-31 23:59:59.999999"  # behind the last moment that the lake has

# Column, literal, and how the dead letter shows it, from the binary and from the text stream.
UNSTORABLE = [
    ("price", "'NaN'", "NaN"),
    ("at", f"'{LATE}'", LATE),
    ("list", "'{{1,2},{3,NULL}}'", "{{1,2},{3,NULL}}"),
]
columns = pytest.mark.parametrize("column, literal, shown", UNSTORABLE, ids=[row[0] for row in UNSTORABLE])


def letters(m):
    """(op, table, key, row, error) of every dead letter, in order of their key."""
    rows = m.lake.sql(
        'SELECT op, source_schema, source_table, "key"::varchar, "row"::varchar, error, lsn, commit_time FROM lake.ductstream.dead_letter'
    )
    # an LSN is two numbers, whose texts have an order of their own
    rows.sort(key=lambda row: (row[3] or "", [int(part, 16) for part in row[6].split("/")], row[0]))
    return [
        {"op": op, "table": f"{schema}.{table}", "key": key and json.loads(key), "row": json.loads(row), "error": error, "lsn": lsn, "time": time}
        for op, schema, table, key, row, error, lsn, time in rows
    ]


@columns
def test_rows_of_a_copy(mirror, column, literal, shown):
    m = mirror(
        TABLE,
        f"INSERT INTO t (id, v) SELECT i, 'v' || i FROM generate_series(1, 50) i",
        f"UPDATE t SET {column} = {literal} WHERE id IN (7, 50)",
        "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)",
        **DEAD,
    )
    m.sync()
    m.same("t", where="id NOT IN (7, 50)")
    m.same("other")
    assert m.lake.count("public.t") == 48
    found = letters(m)
    assert [letter["key"] for letter in found] == [{"id": "50"}, {"id": "7"}]
    for letter in found:
        assert letter["op"] == "R" and letter["table"] == "public.t"
        assert letter["row"][column] == shown and letter["row"]["v"] == "v" + letter["key"]["id"]
        assert column in letter["error"] and letter["key"]["id"] in letter["error"]
        assert "/" in letter["lsn"] and letter["time"] is None
    # what was left out may change, go and come back
    m.sql(f"UPDATE t SET v = 'still' WHERE id = 7", "DELETE FROM t WHERE id = 50", f"UPDATE t SET {column} = NULL WHERE id = 7")
    m.sync()
    m.same("t")
    assert [letter["op"] for letter in letters(m)] == ["R", "R", "U"]


def test_a_copy_of_many_refused_rows_by_several_workers(mirror_sqlite):
    m = mirror_sqlite(
        TABLE,
        "INSERT INTO t (id, price, v) SELECT i, CASE WHEN i % 3 > 0 THEN 'NaN'::numeric ELSE i END, repeat('x', i % 50)"
        " FROM generate_series(1, 30000) i",
        source={"dead_letter": True, "snapshot_workers": 3, "partition_column": "id", "partition_count": 5},
    )
    m.sync()
    m.same("t", where="id % 3 = 0")
    assert m.lake.count("public.t") == 10000
    assert m.lake.sql('SELECT count(*), count(DISTINCT "key"::varchar), min("key"->>\'id\') FROM lake.ductstream.dead_letter') == [
        (20000, 20000, "1")
    ]


@pytest.mark.parametrize("binary", ["auto", "off"])
@columns
def test_rows_of_the_stream(mirror, column, literal, shown, binary):
    m = mirror(
        TABLE,
        "INSERT INTO t (id, v) VALUES (1, 'one'), (2, 'two'), (3, 'three')",
        source={"dead_letter": True, "binary": binary},
    )
    m.sync()
    assert letters(m) == []
    m.sql(
        f"INSERT INTO t (id, v) VALUES (10, 'good'); INSERT INTO t (id, v, {column}) VALUES (11, 'bad', {literal});"
        f" UPDATE t SET {column} = {literal}, v = 'bad two' WHERE id = 2"
    )
    m.sync()
    m.same("t", where="id NOT IN (2, 11)")
    assert m.lake.count("public.t") == 3
    insert, update = letters(m)
    assert (insert["op"], insert["key"], insert["row"]["v"], insert["row"][column]) == ("I", {"id": "11"}, "bad", shown)
    assert (update["op"], update["key"], update["row"]["v"], update["row"][column]) == ("U", {"id": "2"}, "bad two", shown)
    assert insert["lsn"] == update["lsn"] and insert["time"] == update["time"] and insert["time"] is not None
    assert insert["row"]["price" if column != "price" else "at"] is None
    assert column in update["error"] and "(id)=(2)" in update["error"]
    # they come into the same snapshot as the rest of their transaction
    at = m.last_snapshot()
    assert m.lake.count("ductstream.dead_letter", at) == 2 and m.lake.count("ductstream.dead_letter", at - 1) == 0
    # back to what can be stored: one by a run of its own, one with more changes between
    m.sql(f"UPDATE t SET {column} = NULL WHERE id = 2")
    m.sync()
    m.same("t", where="id <> 11")
    m.sql("UPDATE t SET v = 'bad again' WHERE id = 11", f"UPDATE t SET {column} = NULL, id = 12 WHERE id = 11", "DELETE FROM t WHERE id = 2")
    m.sync()
    m.same("t")
    assert [letter["op"] for letter in letters(m)] == ["I", "U", "U"]


def test_changes_of_one_row_in_one_commit(mirror):
    """Whatever happens to it before the commit: only its last state counts."""
    m = mirror(TABLE, "INSERT INTO t (id, v) SELECT i, 'v' FROM generate_series(1, 6) i", **DEAD)
    m.sync()
    bad, good = "UPDATE t SET price = 'NaN' WHERE id = {0}", "UPDATE t SET price = {0} WHERE id = {0}"
    m.sql(
        bad.format(1), good.format(1),  # out and in again
        bad.format(2), bad.format(2), "UPDATE t SET v = 'w' WHERE id = 2", "DELETE FROM t WHERE id = 2",
        bad.format(3), "UPDATE t SET id = 33 WHERE id = 3", good.format(33),  # under another key
        bad.format(4), "DELETE FROM t WHERE id = 4", "INSERT INTO t (id, v) VALUES (4, 'new')",
        "INSERT INTO t (id, price) VALUES (7, 'NaN')", "DELETE FROM t WHERE id = 7",
        "INSERT INTO t (id, price) VALUES (8, 'NaN')", good.format(8),
        bad.format(5), "TRUNCATE t", "INSERT INTO t (id, price) VALUES (9, 'NaN'), (10, 1)", "UPDATE t SET v = 'x' WHERE id = 9",
        "UPDATE t SET price = 1 WHERE id = 9",
    )
    m.sync()
    m.same("t")
    count = len(letters(m))
    m.sql("UPDATE t SET v = v || '!'", "INSERT INTO t VALUES (1), (2), (3), (4), (5), (7), (8), (33)", "DELETE FROM t WHERE id > 7")
    m.sync()
    m.same("t")
    assert len(letters(m)) == count == 12


def test_keys_that_cannot_be_stored(mirror_sqlite):
    m = mirror_sqlite(
        "CREATE TABLE t (k timestamp PRIMARY KEY, v int)",
        f"INSERT INTO t VALUES ('{LATE}', 1), ('2024-01-01', 1)",
        **DEAD,
    )
    m.sync()
    m.same("t", where="k < '2100-01-01'")
    m.sql(f"UPDATE t SET v = 2 WHERE k = '{LATE}'", "UPDATE t SET v = 2 WHERE k < '2100-01-01'")
    m.sync()
    m.same("t", where="k < '2100-01-01'")
    m.sql(f"UPDATE t SET k = '2025-01-01' WHERE k = '{LATE}'", f"UPDATE t SET k = '{LATE}' WHERE k = '2024-01-01'")
    m.sync()
    m.same("t", where="k < '2100-01-01'")
    m.sql(f"DELETE FROM t WHERE k = '{LATE}'")
    m.sync()
    m.same("t")
    assert [(letter["op"], letter["key"]) for letter in letters(m)] == [(op, {"k": LATE}) for op in "RUU"]


@pytest.mark.parametrize("key", ["", "PRIMARY KEY"], ids=["bag", "keyed"])
def test_identity_full(mirror_sqlite, key):
    m = mirror_sqlite(
        f"CREATE TABLE t (id int {key}, n numeric(4,1), v text); ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t VALUES (1, 'NaN', 'one'), (2, 2, 'two'), (3, 3, 'three'), (4, 'NaN', 'four')",
        **DEAD,
    )
    m.sync()
    m.same("t", where="id IN (2, 3)")
    m.sql("UPDATE t SET n = 'NaN' WHERE id = 2", "UPDATE t SET n = 1 WHERE id = 1", "DELETE FROM t WHERE id = 4")
    m.sync()
    m.same("t", where="id <> 2")
    m.sql("DELETE FROM t WHERE id = 2", "UPDATE t SET n = 'NaN'", "UPDATE t SET id = id + 10", "UPDATE t SET n = id")
    m.sync()
    m.same("t")


def test_tables_without_any_key(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int, n numeric(4,1)); INSERT INTO t VALUES (1, 1), (2, 'NaN')", **DEAD)
    m.sync()
    m.sql("INSERT INTO t VALUES (3, 'NaN'), (4, 4)")
    m.sync()
    m.same("t", where="id IN (1, 4)")
    assert sorted((letter["op"], letter["row"]["id"], letter["key"]) for letter in letters(m)) == [("I", "3", None), ("R", "2", None)]


def test_no_key_refused_does_not_mean_dead_letters(mirror_sqlite):
    m = mirror_sqlite(TABLE, source={"dead_letter": True}, destination={"no_key": "refuse"})
    m.sync()
    m.sql("INSERT INTO t (id, price) VALUES (1, 'NaN'), (2, 2)")
    m.sync()
    m.same("t", where="id = 2")
    assert len(letters(m)) == 1


def test_a_large_transaction(mirror_sqlite):
    """Streamed while open, spooled, handed on in parts; a part that is rolled back leaves no letters."""
    m = mirror_sqlite(TABLE, source={"dead_letter": True, "max_memory": "1MiB", "work_mem": "64kB"})
    m.sync()
    m.sql(
        "BEGIN; INSERT INTO t (id, price, v) SELECT i, CASE WHEN i % 10 = 0 THEN 'NaN'::numeric ELSE i END, repeat('x', 100)"
        " FROM generate_series(1, 20000) i; SAVEPOINT s; INSERT INTO t (id, price) SELECT i, 'NaN' FROM generate_series(30000, 39999) i;"
        " ROLLBACK TO s; UPDATE t SET price = 0 WHERE id % 20 = 0; COMMIT"
    )
    m.sync()
    m.same("t", where="id % 10 <> 0 OR id % 20 = 0")
    assert m.lake.count("ductstream.dead_letter") == 2000


def test_tables_added_later_keep_the_letters(mirror_sqlite):
    m = mirror_sqlite(TABLE, "INSERT INTO t (id, price) VALUES (1, 'NaN')", **DEAD)
    m.sync()
    m.sql("CREATE TABLE later (id int PRIMARY KEY, n numeric(4,1)); INSERT INTO later VALUES (1, 'NaN'), (2, 2)")
    m.sync()
    m.same("later", where="id = 2")
    assert sorted(letter["table"] for letter in letters(m)) == ["public.later", "public.t"]


def test_the_option_on_an_existing_flow(make_flow, mirror_sqlite, database, sqlite_lake):
    """Stopped by a row, the flow goes on from there once the option is set."""
    m = mirror_sqlite(TABLE, "INSERT INTO t (id, v) VALUES (1, 'one')")
    m.sync()
    m.sql("INSERT INTO t (id, v) VALUES (2, 'two'); INSERT INTO t (id, price) VALUES (4711, 'NaN')")
    stderr = m.refuses(EXIT_DATA)
    for word in ("public", '"t"', "price", "4711"):
        assert word in stderr, stderr
    m.flow = make_flow(database, sqlite_lake, **DEAD)
    m.sync()
    m.same("t", where="id <> 4711")
    assert [letter["key"] for letter in letters(m)] == [{"id": "4711"}]


def verify(m, *args):
    done = subprocess.run([program(), "lake", "verify", m.flow.path, *args], capture_output=True, text=True, timeout=120)
    return done.returncode, done.stdout, done.stderr


def test_they_are_told(mirror):
    """In the log by table, key and reason, without the row's other values; counted in the progress, once each."""
    m = mirror(TABLE, "INSERT INTO t (id, price, v) VALUES (7, 'NaN', 'secret7'), (8, 1, 'fine')", **DEAD)
    run = m.sync("--json")
    warnings = [line for line in map(json.loads, run.stderr.splitlines()) if line["level"] == "warn"]
    assert [(line["table"], json.loads(line["key"])) for line in warnings] == [("public.t", {"id": "7"})], run.stderr
    assert "price" in warnings[0]["reason"] and "NaN" in warnings[0]["reason"] and "secret" not in run.stderr
    assert run.json_lines()[-1]["dead_rows"] == 1
    m.sql("INSERT INTO t (id, v) VALUES (9, 'nine')", "UPDATE t SET price = 'NaN', v = 'secret8' WHERE id IN (8, 9)")
    run = m.sync("--json")
    assert run.json_lines()[-1]["dead_rows"] == 2 and run.stderr.count('"key"') == 2 and "secret" not in run.stderr
    m.sql("INSERT INTO t (id, price) SELECT i, 'NaN' FROM generate_series(1000, 1999) i")
    began = time.monotonic()
    run = m.sync()
    windows = 1 + int(time.monotonic() // 10) - int(began // 10)  # of ten seconds by that clock: twenty are told in each
    assert "1,000 dead rows" in run.stderr and "more rows" in run.stderr
    assert 20 <= run.stderr.count("key=") <= 20 * windows


def test_verify_knows_them(mirror):
    m = mirror(TABLE, "INSERT INTO t (id, v) SELECT i, 'v' FROM generate_series(1, 100) i", **DEAD)
    m.sync()
    m.sql("UPDATE t SET price = 'NaN' WHERE id IN (1, 50)")
    m.sync()
    code, out, err = verify(m)
    assert code == EXIT_DONE, out + err
    assert out == "public.t: 98 rows, identical; without 2 dead rows, which cannot be stored\n"
    assert json.loads(verify(m, "--json")[1])["dead_rows"] == 2
    m.close_lake()  # without the option such a row is an error
    m.flow.content["source"]["options"]["dead_letter"] = False
    m.flow.write()
    code, out, err = verify(m)
    assert code == EXIT_DATA and "price" in err, out + err


def test_verify_finds_a_dead_row_in_the_lake(mirror_sqlite):
    m = mirror_sqlite(TABLE, "INSERT INTO t (id, v) SELECT i, 'v' FROM generate_series(1, 100) i", **DEAD)
    m.sync()
    m.sql("UPDATE t SET price = 'NaN' WHERE id = 50")
    m.sync()
    with m.home.open() as lake:
        lake.sql("INSERT INTO lake.public.t SELECT * REPLACE (50 AS id) FROM lake.public.t WHERE id BETWEEN 1 AND 20")
        lake.sql("CALL ducklake_flush_inlined_data('lake')")
    code, out, err = verify(m)
    assert code == EXIT_DATA and "id=50: only in the lake" in out, out + err


def test_two_flows_in_one_lake(make_flow, mirror_sqlite, database, sqlite_lake):
    m = mirror_sqlite(TABLE, "INSERT INTO t (id, price) VALUES (1, 'NaN')", source={"dead_letter": True, "publication_tables": ["public.t"]})
    m.sync()
    m.close_lake()
    database.sql("CREATE SCHEMA two; CREATE TABLE two.u (id int PRIMARY KEY, n numeric(4,1)); INSERT INTO two.u VALUES (5, 'NaN')")
    more = {"dead_letter": True, "publication_tables": ["two.u"], "state_table": "other"}
    second = Mirror(database, sqlite_lake, make_flow(database, sqlite_lake, "second", source=more))
    stderr = second.fails(EXIT_CONFIG)
    assert "dead_letter_table" in stderr and '"second"' in stderr, stderr
    second.flow.content["source"]["options"]["dead_letter_table"] = "dead_letter_second"
    second.flow.write()
    second.sync()
    database.sql("INSERT INTO two.u VALUES (6, 'NaN'), (7, 7)")
    second.sync()
    m.sql("INSERT INTO t (id, price) VALUES (2, 'NaN')")
    m.sync()
    assert [letter["key"] for letter in letters(m)] == [{"id": "1"}, {"id": "2"}]
    assert m.lake.sql('SELECT "key"->>\'id\' FROM lake.ductstream.dead_letter_second ORDER BY 1') == [("5",), ("6",)]
    assert_same(database, m.lake, "two.u", where="id = 7")


def test_another_name_for_the_table(mirror):
    """The letters that are there go with it."""
    m = mirror(TABLE, "INSERT INTO t (id, price) VALUES (1, 'NaN')", **DEAD)
    m.sync()
    m.flow.content["source"]["options"]["dead_letter_table"] = "shop's letters"
    m.flow.write()
    m.sql("INSERT INTO t (id, price) VALUES (2, 'NaN')")
    m.sync()
    assert m.lake.sql("SELECT \"key\"->>'id' FROM lake.ductstream.\"shop's letters\" ORDER BY 1") == [("1",), ("2",)]
    assert "ductstream.dead_letter" not in m.lake.tables()
