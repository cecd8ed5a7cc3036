"""`lake verify`: source and lake compared by content, at rest, under load, and when they really differ."""

import json
import os
import subprocess
import threading

from lib.flow import EXIT_CONFIG, EXIT_DATA, EXIT_DONE, EXIT_RETRY
from lib.paths import program

TABLES = """
CREATE TABLE orders (id bigint PRIMARY KEY, v text, n numeric(12,2), at timestamptz, tags text[], j jsonb);
CREATE TABLE events (what text, many int);
ALTER TABLE events REPLICA IDENTITY FULL
"""
FILL = """
INSERT INTO orders SELECT i, CASE WHEN i % 7 > 0 THEN 'row ' || i END, i / 8.0,
  '2024-01-01'::timestamptz + i * interval '1 s', ARRAY['a', NULL, i::text], jsonb_build_object('i', i)
FROM generate_series(1, 3000) i;
INSERT INTO events SELECT 'e' || i % 10, i % 3 FROM generate_series(1, 500) i;
UPDATE orders SET v = upper(v) WHERE id % 5 = 0;
DELETE FROM orders WHERE id % 11 = 0
"""


def verify(m, *args):
    """Exit code, JSON lines of stdout by table, stderr."""
    done = subprocess.run(
        [program(), "lake", "verify", m.flow.path, "--json", *args],
        capture_output=True, text=True, timeout=180, env={**os.environ},
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    return done.returncode, {f["table"]: f for f in found if f.get("event") == "table"}, done.stderr


def test_identical_at_rest(mirror):
    m = mirror(TABLES)
    m.sync()
    m.sql(FILL)
    m.sync()
    code, tables, stderr = verify(m)
    assert code == EXIT_DONE, stderr
    assert {name: (t["identical"], t["source_rows"], t["lake_rows"]) for name, t in tables.items()} == {
        "public.orders": (True, 2728, 2728),
        "public.events": (True, 500, 500),
    }


def test_differences_are_named(mirror_sqlite):
    m = mirror_sqlite(TABLES)
    m.sync()
    m.sql(FILL)
    m.sync()
    with m.home.open("DATA_INLINING_ROW_LIMIT 0") as lake:
        lake.sql("DELETE FROM lake.public.orders WHERE id = 7")
        lake.sql("INSERT INTO lake.public.orders SELECT * REPLACE (-1 AS id) FROM lake.public.orders WHERE id = 8")
    code, tables, stderr = verify(m, "--tables", "public.orders")
    assert code == EXIT_DATA, stderr
    (orders,) = tables.values()
    assert {(d["key"], d["kind"]) for d in orders["differences"]} == {("id=7", "missing"), ("id=-1", "extra")}
    assert orders["different_keys"] == 2 and not orders["identical"]


def test_rows_inside_the_catalog_are_not_taken_for_missing(mirror_sqlite):
    m = mirror_sqlite(TABLES)
    m.sync()
    m.sql(FILL)
    m.sync()
    with m.home.open() as lake:
        lake.sql("INSERT INTO lake.public.orders SELECT * REPLACE (-1 AS id) FROM lake.public.orders WHERE id = 8")
    code, tables, stderr = verify(m, "--tables", "public.orders")
    assert code == EXIT_DATA, stderr
    (orders,) = tables.values()
    assert {(d["key"], d["kind"]) for d in orders["differences"]} == {("id=-1", "extra")}


def test_a_lake_that_is_behind_is_no_difference(mirror_sqlite):
    m = mirror_sqlite(TABLES)
    m.sync()
    m.sql(FILL)
    code, tables, stderr = verify(m, "--timeout", "1s")
    assert code == EXIT_RETRY, stderr
    assert "is the flow running?" in stderr
    assert not any(t["different_keys"] for t in tables.values())


def test_unknown_table(mirror_sqlite):
    m = mirror_sqlite(TABLES)
    m.sync()
    code, _, stderr = verify(m, "--tables", "public.nope")
    assert code == EXIT_CONFIG and "public.nope" in stderr


def test_under_load(mirror):
    m = mirror(TABLES, FILL)
    m.sync()
    run = m.flow.start()
    ended = threading.Event()

    def load():
        with m.database.connect(autocommit=True) as connection:
            n = 0
            while not ended.is_set():
                n += 1
                connection.execute(f"UPDATE orders SET n = n + 1 WHERE id % 400 = {n % 400}")
                connection.execute(f"INSERT INTO orders (id) VALUES ({100000 + n})")
                connection.execute(f"DELETE FROM events WHERE ctid IN (SELECT ctid FROM events LIMIT 1)")
                ended.wait(0.01)

    thread = threading.Thread(target=load)
    thread.start()
    try:
        code, tables, stderr = verify(m)
    finally:
        ended.set()
        thread.join()
    assert code == EXIT_DONE, (stderr, tables)
    assert tables["public.orders"]["identical"]
    assert run.terminate() == EXIT_DONE
