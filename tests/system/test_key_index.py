"""The key index: ready after the copy, equal by bytes however it came about, fresh or rebuilt, right when hashes collide."""

import shutil
from pathlib import Path

import pytest

HEADER = 4096

KEYS = {
    "small": ("k int2", "i - 32768 + i"),
    "integer": ("k int4", "i * 7 - 100"),
    "large": ("k int8", "i::int8 * 4000000000 - 5"),
    "number": ("k numeric(20,4)", "i / 8.0"),
    "free": ("k numeric", "i * 1.5"),
    "single": ("k float4", "i / 4.0"),
    "double": ("k float8", "i / 3.0 - 5"),
    "words": ("k text", "'word ' || i"),
    "varying": ("k varchar(20)", "'w' || i"),
    "padded": ("k char(12)", "'c' || i"),
    "id": ("k uuid", "md5(i::text)::uuid"),
    "bytes": ("k bytea", "decode(md5(i::text), 'hex')"),
    "day": ("k date", "date '1999-12-01' + i"),
    "moment": ("k timestamp", "timestamp '1999-12-01' + i * interval '1.5 s'"),
    "zoned": ("k timestamptz", "timestamptz '1999-12-01 00:00+02' + i * interval '1.5 s'"),
    "clock": ("k time", "time '00:00' + i * interval '1 s'"),
    "span": ("k interval", "i * interval '1 s'"),
    "list": ("k int[]", "ARRAY[i, -i]"),
    "address": ("k inet", "'10.0.0.0'::inet + i"),
}
COMPOSITE = "CREATE TABLE composite (a int, k text, b timestamptz, v int, PRIMARY KEY (b, a, k))"
ROWS = 900


def tables_of_all_types():
    statements = [f"CREATE TABLE {name} ({column} PRIMARY KEY, v int)" for name, (column, _) in KEYS.items()]
    statements += [f"INSERT INTO {name} SELECT {value}, i FROM generate_series(1, {ROWS}) i" for name, (_, value) in KEYS.items()]
    fill = f"INSERT INTO composite SELECT i % 7, 'k' || i, now() + i * interval '1 s', i FROM generate_series(1, {ROWS}) i"
    return [*statements, COMPOSITE, fill]


def folder(m):
    return Path(m.home.catalog.removeprefix("sqlite:") + ".ductstream") / "shop"


def entries(m):
    """Table id -> the index without its header."""
    return {path.stem: path.read_bytes()[HEADER:] for path in folder(m).glob("*.idx")}


def touch_all(m, names):
    """Changes without effect: they need the index of each table."""
    m.sql("; ".join(f"INSERT INTO {name} SELECT * FROM spare.{name}_spare; DELETE FROM {name} WHERE v = -1" for name in names))
    m.sync()


def with_spares(names):
    """A row for each table that is not in it."""
    return [f"CREATE TABLE spare.{name}_spare AS SELECT * FROM {name} WHERE v = {ROWS}; DELETE FROM {name} WHERE v = {ROWS}; "
            f"UPDATE spare.{name}_spare SET v = -1" for name in names]


def test_equal_by_bytes_however_it_came_about(mirror_sqlite):
    """From the copy, from the lake, and step by step; for every type of key."""
    names = [*KEYS, "composite"]
    publication = f"CREATE PUBLICATION shop FOR TABLE {', '.join(names)}"
    m = mirror_sqlite(*tables_of_all_types(), "CREATE SCHEMA spare", *with_spares(names), publication,
                      source={"snapshot_workers": 3})
    m.sync()
    copied = entries(m)
    assert len(copied) == len(names)
    assert all(any(content) for content in copied.values())

    rebuild(m)
    touch_all(m, names)
    assert entries(m) == copied

    m.sql("; ".join(f"UPDATE {name} SET v = v + 1000 WHERE v % 5 = 0; DELETE FROM {name} WHERE v % 7 = 0" for name in names))
    m.sync()
    m.sql("; ".join(f"INSERT INTO {name} SELECT k, 5 FROM spare.{name}_spare; UPDATE {name} SET v = 6 WHERE v % 9 = 1" for name in KEYS))
    m.sync()
    assert entries(m) != copied
    m.sql("; ".join(f"DELETE FROM {name} WHERE v = 5 OR v % 3 > 0" for name in names))
    m.sync()
    stepped = entries(m)
    assert all(len(stepped[table]) < len(copied[table]) for table in copied)
    rebuild(m)
    touch_all(m, names)
    assert entries(m) == stepped
    m.same(*names)


def rebuild(m):
    """The next change of each table builds its index anew, with the same hashes."""
    for path in folder(m).glob("*.idx"):
        path.unlink()


# --- equal hashes ---


@pytest.mark.parametrize("bits", [4, 16])
def test_keys_with_equal_hashes_do_not_mix(mirror_sqlite, monkeypatch, bits):
    """Hashes have so few bits until the index has been given another seed. Equal ones are met in the copy, in the lake, in one transaction, and between a new key and an old one."""
    m = mirror_sqlite("CREATE TABLE t (a int, b text, v text, PRIMARY KEY (a, b))", "CREATE TABLE u (LIKE t INCLUDING ALL)",
                      "INSERT INTO t SELECT i, 'k' || i, 'x' FROM generate_series(1, 300) i")
    monkeypatch.setenv("DUCT_TEST_HASH_BITS", str(bits))
    m.sync()
    m.sql("INSERT INTO u SELECT i, 'k' || i, 'x' FROM generate_series(1, 8) i")
    m.sync()
    m.sql(*[f"INSERT INTO u VALUES ({i}, 'new', 'y')" for i in range(30)])
    m.sync()
    m.sql("UPDATE u SET v = v || a; UPDATE t SET v = v || a WHERE a % 2 = 0; DELETE FROM t WHERE a % 5 = 0",
          "UPDATE t SET a = a + 1000 WHERE a % 3 = 0; INSERT INTO t SELECT a, b, 'again' FROM u ON CONFLICT DO NOTHING")
    m.sync()
    m.same("t", "u")
    m.sql("UPDATE t SET v = 'z'; UPDATE u SET v = 'z'", "DELETE FROM t WHERE a % 2 = 0; DELETE FROM u WHERE a % 2 = 0")
    m.sync()
    m.same("t", "u")


def test_a_key_that_is_there_twice_is_drift_and_no_collision(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    m.sync()
    with m.home.open() as lake:
        lake.sql("CALL lake.set_option('data_inlining_row_limit', 0)")
        lake.sql("INSERT INTO lake.public.t VALUES (3, 'foreign')")
    m.flow.content["destinations"][0]["options"]["foreign_changes"] = "share"
    m.flow.write()
    m.sql("INSERT INTO t VALUES (3, 'ours')")
    assert "already" in m.fails(1)
