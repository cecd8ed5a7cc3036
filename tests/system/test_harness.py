"""The harness itself: the comparison must see every kind of difference, and no difference where there is none."""

import subprocess

import pytest

from lib import pg
from lib.compare import assert_same, compare_table
from lib.lake import LakeError
from lib.wait import WaitTimeout, wait_until

TYPES = """
CREATE EXTENSION hstore;
CREATE TYPE address AS (street text, number int, codes int[]);
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
"""

RANGE = 'STRUCT(lower {bound}, upper {bound}, lower_inc BOOLEAN, upper_inc BOOLEAN, "empty" BOOLEAN)'

# Postgres type, Postgres literal, lake type, lake literal: the same value on both sides.
SAME = [
    ("boolean", "true", "BOOLEAN", "true"),
    ("int8", "-9223372036854775808", "BIGINT", "(-9223372036854775808)"),
    ("numeric(12,2)", "1.50", "DECIMAL(12,2)", "1.5"),
    ("numeric", "12345678901234567890123456789012345678901.2300", "VARCHAR", "'12345678901234567890123456789012345678901.23'"),
    ("float8", "0.1::float8 + 0.2", "DOUBLE", "0.1::DOUBLE + 0.2"),
    ("float8", "'NaN'", "DOUBLE", "'nan'::DOUBLE"),
    ("float4", "3.4028235e38", "FLOAT", "3.4028235e38::FLOAT"),
    ("text", "'O''Brien €'", "VARCHAR", "'O''Brien €'"),
    ("char(5)", "'ab'", "VARCHAR", "'ab'"),
    ("bytea", "'\\x00ff5c6127'", "BLOB", "'\\x00\\xFF\\x5C\\x61\\x27'::BLOB"),
    ("date", "'0044-03-15 BC'", "DATE", "'0044-03-15 (BC)'"),
    ("date", "'infinity'", "DATE", "'infinity'"),
    ("timestamp", "'2024-01-15 12:30:00.100'", "TIMESTAMP", "'2024-01-15 12:30:00.1'"),
    ("timestamptz", "'2024-01-15 12:30:00+05:30'", "TIMESTAMPTZ", "'2024-01-15 07:00:00+00'"),
    ("timestamptz", "'-infinity'", "TIMESTAMPTZ", "'-infinity'"),
    ("time", "'24:00:00'", "TIME", "'24:00:00'"),
    ("uuid", "'550E8400-E29B-41D4-A716-446655440000'", "UUID", "'550e8400-e29b-41d4-a716-446655440000'"),
    ("jsonb", '\'{"b": 1.50, "a": [1, null]}\'', "JSON", '\'{"a":[1,null],"b":1.50}\''),
    ("inet", "'10.0.0.1'", "VARCHAR", "'10.0.0.1'"),
    ("int4[]", "'{1,NULL,3}'", "INTEGER[]", "[1, NULL, 3]"),
    ("int4[]", "'{}'", "INTEGER[]", "[]"),
    ("text[]", "'{a,\"b,c\",\"NULL\"}'", "VARCHAR[]", "['a', 'b,c', 'NULL']"),
    ("int4[]", "'{{1,2},{3,4}}'", "INTEGER[][]", "[[1, 2], [3, 4]]"),
    ("bytea[]", "'{\"\\\\x00ff\"}'", "BLOB[]", "['\\x00\\xFF'::BLOB]"),
    ("interval", "'1 year 2 mons -3 days 04:05:06.789'", "VARCHAR", "'P1Y2M-3DT4H5M6.789S'"),
    (
        "interval",
        "'-00:00:00.5'",
        "STRUCT(months INTEGER, days INTEGER, micros BIGINT)",
        "{'months': 0, 'days': 0, 'micros': -500000}",
    ),
    ("point", "'(1,-2.5)'", "STRUCT(x DOUBLE, y DOUBLE)", "{'x': 1, 'y': -2.5}"),
    (
        "int4range",
        "'[1,5)'",
        RANGE.format(bound="INTEGER"),
        "{'lower': 1, 'upper': 5, 'lower_inc': true, 'upper_inc': false, 'empty': false}",
    ),
    (
        "tstzrange",
        "'(,2024-01-15 12:00+02]'",
        RANGE.format(bound="TIMESTAMPTZ"),
        "{'lower': NULL, 'upper': '2024-01-15 10:00:00+00', 'lower_inc': false, 'upper_inc': true, 'empty': false}",
    ),
    ("int4range", "'[1,5)'", "VARCHAR", "'[1,5)'"),
    (
        "int4multirange",
        "'{[1,2),[5,7)}'",
        RANGE.format(bound="INTEGER") + "[]",
        "[{'lower': 1, 'upper': 2, 'lower_inc': true, 'upper_inc': false, 'empty': false},"
        " {'lower': 5, 'upper': 7, 'lower_inc': true, 'upper_inc': false, 'empty': false}]",
    ),
    (
        "address",
        "ROW('a \"b\", c', 7, '{1,NULL}')",
        "STRUCT(street VARCHAR, number INTEGER, codes INTEGER[])",
        "{'street': 'a \"b\", c', 'number': 7, 'codes': [1, NULL]}",
    ),
    (
        "address[]",
        "ARRAY[ROW(NULL, 7, '{}')::address, NULL]",
        "STRUCT(street VARCHAR, number INTEGER, codes INTEGER[])[]",
        "[{'street': NULL, 'number': 7, 'codes': []}, NULL]",
    ),
    ("address", "NULL", "STRUCT(street VARCHAR, number INTEGER, codes INTEGER[])", "NULL"),
    ("address", "ROW(NULL, NULL, NULL)", "STRUCT(street VARCHAR, number INTEGER, codes INTEGER[])",
     "{'street': NULL, 'number': NULL, 'codes': NULL}"),
    ("hstore", "'a=>1, b=>NULL'", "MAP(VARCHAR, VARCHAR)", "MAP {'b': NULL, 'a': '1'}"),
    ("positive", "7", "INTEGER", "7"),
    ("mood", "'happy'", "VARCHAR", "'happy'"),
    ("mood[]", "'{happy,NULL}'", "VARCHAR[]", "['happy', NULL]"),
    ("text", "NULL", "VARCHAR", "NULL"),
]

# The same, but the values differ: the comparison must say so.
DIFFERENT = [
    ("int4", "1", "INTEGER", "2"),
    ("int4", "NULL", "INTEGER", "0"),
    ("text", "''", "VARCHAR", "NULL"),
    ("text", "'a'", "VARCHAR", "'a '"),
    ("text[]", "'{NULL}'", "VARCHAR[]", "['NULL']"),
    ("int4[]", "'{}'", "INTEGER[]", "NULL"),
    ("numeric", "0.1", "DECIMAL(38,20)", "0.10000000000000000001"),
    ("float4", "0.1", "FLOAT", "0.10000001::FLOAT"),
    ("float8", "0.3", "DOUBLE", "0.30000000000000004::DOUBLE"),
    ("bytea", "'\\x00'", "BLOB", "'0'::BLOB"),
    ("timestamptz", "'2024-01-15 12:30:00+00'", "TIMESTAMPTZ", "'2024-01-15 12:30:00.000001+00'"),
    ("date", "'0044-03-15 BC'", "DATE", "'0044-03-15'"),
    ("jsonb", "'{\"a\": 1}'", "JSON", "'{\"a\":\"1\"}'"),
    ("interval", "'1 mon'", "VARCHAR", "'30 days'"),
    ("point", "'(1,2)'", "STRUCT(x DOUBLE, y DOUBLE)", "{'x': 1, 'y': 3}"),
    (
        "int4range",
        "'[1,5)'",
        RANGE.format(bound="INTEGER"),
        "{'lower': 1, 'upper': 5, 'lower_inc': true, 'upper_inc': true, 'empty': false}",
    ),
    ("address", "ROW(NULL, NULL, NULL)", "STRUCT(street VARCHAR, number INTEGER, codes INTEGER[])", "NULL"),
    (
        "address",
        "ROW('a', 7, '{1}')",
        "STRUCT(street VARCHAR, number INTEGER, codes INTEGER[])",
        "{'street': 'a', 'number': 7, 'codes': [2]}",
    ),
    ("hstore", "'a=>1'", "MAP(VARCHAR, VARCHAR)", "MAP {'a': NULL}"),
]


# The official client writes some structs into the catalog in a form it cannot read again; it writes Parquet rightly.
NO_INLINING = "DATA_INLINING_ROW_LIMIT 0"


def fill(database, lake, cases):
    """One row per case would need one type per column: so one column per case and one row."""
    source = ", ".join(f"c{i} {case[0]}" for i, case in enumerate(cases))
    target = ", ".join(f"c{i} {case[2]}" for i, case in enumerate(cases))
    database.sql(TYPES)
    database.sql(f"CREATE TABLE t ({source}); INSERT INTO t VALUES ({', '.join(case[1] for case in cases)})")
    lake.sql("CREATE SCHEMA public")
    lake.sql(f"CREATE TABLE public.t ({target})")
    lake.sql(f"INSERT INTO public.t VALUES ({', '.join(case[3] for case in cases)})")


def test_same_values_are_identical(database, lake_home):
    database.needs(14, "multiranges")
    lake = lake_home.open(NO_INLINING)
    fill(database, lake, SAME)
    assert assert_same(database, lake, "public.t") == 1


def test_each_different_value_is_seen(database, sqlite_lake):
    lake = sqlite_lake.open(NO_INLINING)
    fill(database, lake, DIFFERENT)
    names = [f"c{i}" for i in range(len(DIFFERENT))]
    for i, case in enumerate(DIFFERENT):
        others = [name for name in names if name != f"c{i}"]
        assert not compare_table(database, lake, "public.t", ignore=others).identical, case


def test_rows_are_compared_as_a_multiset(database, sqlite_lake):
    lake = sqlite_lake.open()
    database.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1), (2), (2)")
    lake.sql("CREATE SCHEMA public")
    lake.sql("CREATE TABLE public.t (a INTEGER)")
    lake.sql("INSERT INTO public.t VALUES (2), (1), (2)")
    assert_same(database, lake, "public.t")
    lake.sql("INSERT INTO public.t VALUES (1)")
    difference = compare_table(database, lake, "public.t")
    assert (difference.missing, difference.unexpected) == ([], [("1",)])
    assert "unexpected      (1)" in difference.report()
    assert compare_table(database, lake, "public.t", at=lake.last_snapshot() - 1).identical
    with pytest.raises(AssertionError, match="1 unexpected"):
        assert_same(database, lake, "public.t")


def test_columns_must_be_the_same(database, sqlite_lake):
    lake = sqlite_lake.open()
    database.sql("CREATE TABLE t (a int, b int)")
    lake.sql("CREATE SCHEMA public")
    lake.sql("CREATE TABLE public.t (a INTEGER, extra INTEGER)")
    assert not compare_table(database, lake, "public.t").identical
    assert compare_table(database, lake, "public.t", ignore=("b", "extra")).identical


def test_server_comes_back_after_a_kill(own_server):
    own_server.sql("CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
    own_server.kill()
    assert not own_server.running
    own_server.start()
    assert own_server.query("SELECT a FROM t") == [(1,)]


def test_lake_process_reports_errors_and_stays(sqlite_lake):
    lake = sqlite_lake.open()
    with pytest.raises(LakeError, match="nowhere"):
        lake.sql("SELECT * FROM nowhere")
    assert lake.value("SELECT 41 + 1") == 42


def test_a_wait_ends(tmp_path):
    with pytest.raises(WaitTimeout, match="a file"):
        wait_until((tmp_path / "never").exists, timeout_s=0.1, what="a file")


def test_a_cache_that_was_copied(monkeypatch, tmp_path):
    """cp -r as root gives the folder that servers are copied from to root, which Postgres refuses."""
    template = pg._template(pg.programs_folder())  # others may be in the making, or another user's
    cache = tmp_path / "cache"
    cache.mkdir()
    subprocess.run(["cp", "-r", template, cache], check=True)
    monkeypatch.setattr(pg, "CACHE", cache)
    with pg.Postgres() as server:
        assert server.database("shop").value("SELECT 1") == 1
