"""Wire formats: what src/wire encodes of a real source's rows, read back by pyarrow and by a JSON parser (issue 5, point 10)."""

import base64
import json
import os
import subprocess
from decimal import Decimal

import duckdb
import pyarrow as pa
import pytest

from lib import child, sanitizer
from lib.compare import compare_table
from lib.duck_tables import DuckTables
from lib.paths import driver_program
from system.test_types import OWN_TYPES, create, inserts, own_columns, scalar_columns

OURS = [
    ("__op", pa.string()), ("__ts", pa.timestamp("us", "UTC")), ("__schema_version", pa.int64()), ("__table", pa.string()),
    ("__namespace", pa.string()), ("__key", pa.binary()), ("__before_json", pa.binary()), ("__unchanged", pa.list_(pa.field("element", pa.string()))),
    ("__lsn", pa.uint64()), ("__ddl", pa.string()),
]


class Wire:
    """All batches of a run of the driver: pairs of (arrow table, JSON object) in order."""

    def __init__(self, folder):
        self.pairs = []
        for path in sorted(folder.glob("*.arrow")):
            with pa.ipc.open_stream(path.read_bytes()) as reader:
                table = reader.read_all()
            table.validate(full=False)
            self.pairs.append((table, json.loads(path.with_suffix(".json").read_text(), parse_float=Decimal)))

    def arrow(self, name, *ops):
        """The batches of a table as one Arrow table; only records with these operations."""
        parts = [table for table, text in self.pairs if text["Schema"]["Name"] == name]
        whole = pa.concat_tables(parts)
        return whole.filter(pa.compute.is_in(whole["__op"], pa.array(ops))) if ops else whole

    def records(self, name, *ops):
        return [
            record
            for _, text in self.pairs
            if text["Schema"]["Name"] == name
            for record in text["Records"]
            if not ops or record["Operation"] in ops
        ]


@pytest.fixture
def encode(database, tmp_path):
    """encode(*statements, **options) -> Wire: a copy of all tables, then the changes of the statements."""

    def run(*statements, **options):
        folder = tmp_path / f"wire-{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        slot = f"wire_{len(list(tmp_path.iterdir()))}"
        given = {"dsn": database.dsn, "slot": slot, "publication": slot, **options}
        process = child.popen(
            [driver_program("wire_driver"), folder, *(f"{name}={value}" for name, value in given.items())],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **sanitizer.options(detect_leaks=0)},
        )
        assert process.stdout.readline() == "copied\n"
        for statement in statements:
            database.sql(statement)
        process.communicate("\n", timeout=60)
        assert process.returncode == 0
        return Wire(folder)

    return run


def same(database, name, table):
    """Compares an Arrow table with a table of the source, value by value."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute("CREATE SCHEMA public")
    columns = [column for column in table.column_names if not column.startswith("__")]
    rows = table.select(columns)  # noqa: F841 (DuckDB finds it by its name)
    connection.execute(f"CREATE TABLE public.{name} AS SELECT * FROM rows")
    with DuckTables(connection) as tables:
        difference = compare_table(database, tables, f"public.{name}")
        assert difference.identical, difference.report()
    return difference.source_rows


@pytest.mark.parametrize("binary", ["auto", "off"])
def test_every_type_is_read_back_by_pyarrow(encode, database, binary):
    """By the copy, by the binary and by the text stream."""
    scalars, own = list(scalar_columns(database.version)), own_columns(database.version)
    database.sql(OWN_TYPES)
    database.sql("CREATE EXTENSION IF NOT EXISTS hstore")
    for table, columns in (("copied", scalars), ("own_copied", own), ("streamed", scalars), ("own_streamed", own)):
        database.sql(create(table, columns))
        if table.endswith("copied"):
            for statement in inserts(table, columns):
                database.sql(statement)
    wire = encode(*inserts("streamed", scalars), *inserts("own_streamed", own), binary=binary)
    for name in ("copied", "own_copied", "streamed", "own_streamed"):
        assert same(database, name, wire.arrow(name)) > 3


def test_types_of_columns(encode, database):
    database.sql(
        "CREATE TABLE t (id int PRIMARY KEY, b boolean, s smallint, l bigint, o oid, x xid8, r real, d double precision, n numeric(12,2),"
        " w numeric(38,10), u numeric, day date, t time, ts timestamp, tz timestamptz, u_id uuid, body text, j jsonb, raw bytea, a int[],"
        " aa text[][], p point, g int4range)"
    )
    database.sql("INSERT INTO t (id) VALUES (1)")
    schema = encode().arrow("t").schema
    assert [(field.name, field.type) for field in schema][: len(OURS)] == OURS
    assert [field.name for field in schema if not field.nullable] == ["__op", "__schema_version", "__unchanged"]
    found = {field.name: field.type for field in list(schema)[len(OURS):]}
    element = lambda type_: pa.list_(pa.field("element", type_))
    assert found == {
        "id": pa.int32(), "b": pa.bool_(), "s": pa.int16(), "l": pa.int64(), "o": pa.uint32(), "x": pa.uint64(), "r": pa.float32(),
        "d": pa.float64(), "n": pa.decimal128(12, 2), "w": pa.decimal128(38, 10), "u": pa.string(), "day": pa.date32(),
        "t": pa.time64("us"), "ts": pa.timestamp("us"), "tz": pa.timestamp("us", "UTC"), "u_id": pa.uuid(), "body": pa.string(),
        "j": pa.json_(), "raw": pa.binary(), "a": element(pa.int32()), "aa": element(element(pa.string())),
        "p": pa.struct([("x", pa.float64()), ("y", pa.float64())]),
        "g": pa.struct([("lower", pa.int32()), ("upper", pa.int32()), ("lower_inc", pa.bool_()), ("upper_inc", pa.bool_()), ("empty", pa.bool_())]),
    }
    assert schema.field("n").metadata == {b"ductstream.source_type": b"numeric(12,2)"}


def test_what_happened_to_rows(encode, database):
    """Operations, keys, old rows, unchanged TOAST values, positions: the same in both formats."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY, n int, body text)")
    database.sql("ALTER TABLE t ALTER body SET STORAGE EXTERNAL")
    database.sql("INSERT INTO t VALUES (1, 1, repeat('x', 5000)), (2, 2, NULL)")
    wire = encode(
        "UPDATE t SET n = 10 WHERE id = 1", "UPDATE t SET id = 3, body = 'y' WHERE id = 1", "DELETE FROM t WHERE id = 2",
        "INSERT INTO t VALUES (4, NULL, '')", "TRUNCATE t",
    )
    records, rows = wire.records("t"), wire.arrow("t").to_pylist()
    assert [record["Operation"] for record in records] == ["load", "load", "update", "update", "delete", "insert", "ddl"]
    assert [row["__op"] for row in rows] == [record["Operation"] for record in records]
    keys = [record["Key"] and json.loads(base64.b64decode(record["Key"])) for record in records]
    assert keys == [{"id": 1}, {"id": 2}, {"id": 1}, {"id": 1}, {"id": 2}, {"id": 4}, None]
    assert [row["__key"] and json.loads(row["__key"]) for row in rows] == keys
    assert [record["Before"] for record in records] == [None, None, None, {"id": 1}, {"id": 2}, None, None]
    assert [row["__before_json"] and json.loads(row["__before_json"]) for row in rows] == [record["Before"] for record in records]
    assert [record["After"] for record in records][2:] == [
        {"id": 1, "n": 10}, {"id": 3, "n": 10, "body": "y"}, None, {"id": 4, "n": None, "body": ""}, None,
    ]
    assert [record["Unchanged"] for record in records] == [None, None, ["body"], None, None, None, None]
    assert [row["__unchanged"] for row in rows] == [record["Unchanged"] or [] for record in records]
    assert records[-1]["DDL"] == rows[-1]["__ddl"] == 'TRUNCATE TABLE "public"."t"'
    lsns = [record["LSN"] for record in records[2:]]
    numbers = [int(high, 16) << 32 | int(low, 16) for high, low in (lsn.split("/") for lsn in lsns)]
    assert numbers == sorted(numbers) and numbers == [row["__lsn"] for row in rows[2:]]
    assert all(row["__ts"] is not None for row in rows[2:])
    assert wire.pairs[-1][1]["Checkpoint"]["LSN"] == lsns[-1]


def test_old_rows_of_identity_full(encode, database):
    database.sql("CREATE TABLE bag (a int, b text)")
    database.sql("ALTER TABLE bag REPLICA IDENTITY FULL")
    database.sql("INSERT INTO bag VALUES (1, 'x')")
    wire = encode("UPDATE bag SET b = 'y'", "DELETE FROM bag")
    update, delete = wire.records("bag", "update", "delete")
    assert (update["Before"], update["After"]) == ({"a": 1, "b": "x"}, {"a": 1, "b": "y"})
    assert json.loads(base64.b64decode(update["Key"])) == {"a": 1, "b": "x"}
    assert delete["Before"] == {"a": 1, "b": "y"}


def test_json_says_every_value(encode, database):
    """The JSON of every scalar type, as Postgres itself writes it in JSON where JSON has a word for it."""
    values = {
        "numeric": ("12345678901234567890.123456789", Decimal("12345678901234567890.123456789")),
        "numeric(60,20)": ("-1.50", Decimal("-1.5")),
        "float8": ("-Infinity", "-Infinity"),
        "timestamptz": ("2024-02-29 12:30:00.000001-08", "2024-02-29T20:30:00.000001Z"),
        "timestamp": ("0044-03-15 12:00 BC", "0044-03-15T12:00:00 BC"),
        "date": ("infinity", "infinity"),
        "time": ("24:00:00", "24:00:00"),
        "bytea": ("\\x00ff", "AP8="),
        "uuid": ("550e8400-e29b-41d4-a716-446655440000",) * 2,
        "jsonb": ('{"a": [1, {"b": null}]}', {"a": [1, {"b": None}]}),
        "int[]": ("{1,NULL}", [1, None]),
        "numeric[]": ("{1.50,NaN}", [Decimal("1.5"), "NaN"]),
        "int4range": ("[1,5)", {"lower": 1, "upper": 5, "lower_inc": True, "upper_inc": False, "empty": False}),
        "interval": ("1 mon 2 days", "P1M2D"),
    }
    columns = [(f"c{i}", type_, [f"'{literal}'"]) for i, (type_, (literal, _)) in enumerate(values.items())]
    database.sql(create("t", columns))
    for statement in inserts("t", columns):
        database.sql(statement)
    after = encode().records("t", "load")[0]["After"]
    assert [after[f"c{i}"] for i in range(len(values))] == [wanted for _, wanted in values.values()]
