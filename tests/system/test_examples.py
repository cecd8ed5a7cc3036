"""Every flow of examples/flows does what its first comment says, with nothing but environment variables set."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing

import psycopg
import pytest

from lib.child import popen
from lib.compare import assert_same
from lib.duck_tables import DuckTables
from lib.lake import OfficialLake
from lib.paths import ROOT, program

FLOWS = sorted((ROOT / "examples" / "flows").glob("*.yaml"))
GRPC = ROOT / "examples" / "flows" / "postgres-to-grpc.yaml"
COPIED = {
    "postgres-to-ducklake": ["public.orders", "public.customers", "public.events", "public.measurements_1"],
    "postgres-to-ducklake-postgres-catalog": ["public.orders", "public.customers", "public.events"],
    "postgres-snapshot-only": ["public.orders", "public.customers", "public.events"],
    "postgres-append-only": ["public.orders", "public.customers", "public.events"],
    "postgres-partitioned-root": ["public.orders", "public.measurements"],
    "postgres-to-duckdb": ["public.orders", "public.customers", "public.events", "public.measurements_1"],
}
STREAMS = set(COPIED) - {"postgres-snapshot-only"}


@pytest.fixture
def shop(database, server, request, tmp_path):
    """A source, its environment and where its lake is."""
    database.sql(
        """CREATE TABLE orders (id int PRIMARY KEY, what text);
        CREATE TABLE customers (id int PRIMARY KEY, name text);
        CREATE TABLE events (at int, what text);
        ALTER TABLE events REPLICA IDENTITY FULL;
        CREATE TABLE measurements (id int PRIMARY KEY, v float8) PARTITION BY RANGE (id);
        CREATE TABLE measurements_1 PARTITION OF measurements FOR VALUES FROM (0) TO (1000);
        INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 100) i;
        INSERT INTO customers VALUES (1, 'Ann'), (2, NULL);
        INSERT INTO events VALUES (1, 'one'), (1, 'one'), (2, NULL);
        INSERT INTO measurements VALUES (1, 0.5), (2, 'NaN')"""
    )
    catalog = server.database(database.name + "_catalog")
    streams = server.database(database.name + "_streams")
    yield {
        "DUCTSTREAM_STREAM_DSN": streams.dsn,
        "DUCTSTREAM_SOURCE_DSN": database.dsn,
        "DUCTSTREAM_CATALOG_DSN": catalog.dsn,
        "DUCTSTREAM_LAKE": str(tmp_path),
    }
    catalog.drop()
    streams.drop()


def command(environment, *words):
    process = popen(
        [program(), *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": "/usr/bin:/bin", **environment},
    )
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def open_lake(flow, environment):
    if "to-duckdb" in flow.stem:
        return DuckTables(f"{environment['DUCTSTREAM_LAKE']}/warehouse.duckdb")
    catalog = f"sqlite:{environment['DUCTSTREAM_LAKE']}/catalog.sqlite"
    if "postgres-catalog" in flow.stem:
        catalog = f"postgres:{environment['DUCTSTREAM_CATALOG_DSN']}"
    return OfficialLake(catalog, f"{environment['DUCTSTREAM_LAKE']}/data")


def change(database):
    database.sql(
        """BEGIN;
        INSERT INTO orders VALUES (101, 'new');
        UPDATE orders SET what = 'changed' WHERE id = 1;
        DELETE FROM orders WHERE id = 2;
        INSERT INTO events VALUES (3, 'three');
        INSERT INTO measurements VALUES (3, 1.5);
        COMMIT"""
    )


def test_the_first_one_in_an_empty_folder(shop, database, tmp_path, monkeypatch):
    """As README has it: no lake is there, and where it will be is not said."""
    del shop["DUCTSTREAM_LAKE"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lib.lake._idle", [])  # those began in another folder
    flow = ROOT / "examples/flows/postgres-to-ducklake.yaml"
    code, out, err = command(shop, "check", str(flow))
    assert code == 0 and not list(tmp_path.iterdir()), out + err
    code, out, err = command(shop, "run", str(flow), "--until-caught-up")
    assert code == 0, out + err
    for at in ("catalog.sqlite", "data"):
        assert (tmp_path / "lake" / at).exists()
    with OfficialLake(f"sqlite:{tmp_path}/lake/catalog.sqlite") as lake:
        assert_same(database, lake, "public.orders")


@pytest.mark.parametrize("flow", [flow for flow in FLOWS if flow != GRPC], ids=lambda path: path.stem)
def test_example(flow, shop, database):
    code, out, err = command(shop, "check", str(flow))
    assert code == 0, out + err
    code, out, err = command(shop, "run", str(flow), "--until-caught-up")
    assert code == 0, err

    if flow.stem in (*STREAMS, "postgres-to-pgstream"):
        change(database)
        code, out, err = command(shop, "run", str(flow), "--until-caught-up")
        assert code == 0, err
    elif flow.stem == "postgres-without-snapshot":
        database.sql("INSERT INTO orders VALUES (101, 'new'); UPDATE orders SET what = 'newer' WHERE id = 101")
        code, out, err = command(shop, "run", str(flow), "--until-caught-up")
        assert code == 0, err
    elif flow.stem == "postgres-snapshot-only":
        assert database.query("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []

    if flow.stem == "postgres-to-pgstream":
        check_stream(shop["DUCTSTREAM_STREAM_DSN"])
        return

    lake = open_lake(flow, shop)
    try:
        for table in COPIED.get(flow.stem, []):
            assert_same(database, lake, table)
        if flow.stem == "postgres-without-snapshot":
            assert lake.sql("SELECT id, what FROM lake.public.orders") == [(101, "newer")]
        if flow.stem == "postgres-selected-tables":
            assert lake.sql("SELECT count(*), min(what), max(id) FROM lake.shop.orders") == [(100, "order 1", 100)]
            tables = lake.sql("SELECT table_name FROM information_schema.tables WHERE table_schema = 'shop' ORDER BY 1")
            assert tables == [("customers",), ("orders",)]
    finally:
        lake.close()


def check_stream(dsn):
    with psycopg.connect(dsn) as connection:
        rows = connection.execute("SELECT id, operation, table_name FROM ductstream.stream_events ORDER BY id").fetchall()
    assert [row[0] for row in rows] == list(range(1, 113))
    assert {row[1] for row in rows[:107]} == {"load"}
    changes = [("insert", "orders"), ("update", "orders"), ("delete", "orders"), ("insert", "events"), ("insert", "measurements_1")]
    assert [row[1:] for row in rows[107:]] == changes


def test_grpc_and_the_example_of_a_receiver(shop, database, tmp_path):
    """docs/grpc.md: the flow, to the receiver that is there to be copied (issue 5, point 1)."""
    (tmp_path / "gen").mkdir()
    protos = ["ductstream/v1/types.proto", "ductstream/v1/ingest.proto"]
    make = [sys.executable, "-m", "grpc_tools.protoc", "-I", ROOT / "proto", "--python_out=gen", "--grpc_python_out=gen", *protos]
    subprocess.run(make, check=True, cwd=tmp_path)
    receiver = popen(
        [sys.executable, ROOT / "examples" / "grpc" / "receiver.py", "shop.db", "localhost:0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(tmp_path / "gen")},
    )
    try:
        shop["DUCTSTREAM_RECEIVER"] = "localhost:" + receiver.stdout.readline().split()[-1]
        for words in (["check"], ["run", "--until-caught-up"]):
            code, out, err = command(shop, words[0], str(GRPC), *words[1:])
            assert code == 0, out + err
        change(database)
        assert command(shop, "run", str(GRPC), "--until-caught-up")[0] == 0
    finally:
        receiver.kill()
        receiver.wait()
        receiver.stdout.close()
    with closing(sqlite3.connect(tmp_path / "shop.db")) as kept:
        payloads = kept.execute("SELECT payload FROM payloads ORDER BY batch, part").fetchall()
    records = [(r["Table"], r["Operation"]) for (payload,) in payloads for r in json.loads(payload)["Records"]]
    changes = [("orders", "insert"), ("orders", "update"), ("orders", "delete"), ("events", "insert"), ("measurements_1", "insert")]
    assert len(records) == 107 + 5 and records[107:] == changes


def test_every_example_is_expected():
    assert {path.stem for path in FLOWS} == {*COPIED, GRPC.stem, "postgres-to-pgstream", "postgres-without-snapshot", "postgres-selected-tables"}
