"""Columns and rules that destinations of tables share: metadata columns, soft delete, append mode, watermarks (issue 5, point 10)."""

import datetime
import subprocess

import pytest

from lib.duck_tables import DuckTables
from lib.flow import EXIT_CONFIG, Flow
from lib.lake import LakeHome
from lib.paths import program

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text, body text)"
NOW = datetime.timedelta(minutes=10)


class Sink:
    """A flow into one kind of destination with some options."""

    def __init__(self, kind, database, folder, options):
        self.database = database
        self.path = folder / "warehouse.duckdb"
        self.lake = LakeHome(f"sqlite:{folder}/lake.sqlite", folder / "data")
        place = {"dsn": str(self.path)} if kind == "duckdb" else {"catalog": self.lake.catalog, "data_path": str(self.lake.data_path)}
        self.kind = kind
        self.flow = Flow(
            folder / "flow", "shop", {"dsn": database.dsn, "slot": "shop", "publication": "shop"},
            [{"name": "there", "type": kind, "options": {**place, **options}}],
        )

    def sql(self, *statements):
        for statement in statements:
            self.database.sql(statement)

    def sync(self):
        self.flow.run_until_caught_up()

    def fails(self, code):
        run = self.flow.start("--until-caught-up")
        run.expect(code, 60)
        return run.stderr

    def checked(self):
        """What `ductstream check` says of a flow that will not run."""
        done = subprocess.run([program(), "check", self.flow.path], capture_output=True, text=True, timeout=60)
        assert done.returncode == EXIT_CONFIG, done.stdout + done.stderr
        return done.stdout

    def rows(self, query):
        """{} stands for the table."""
        tables = DuckTables(self.path) if self.kind == "duckdb" else self.lake.open()
        try:
            return tables.sql(query.replace("{}", tables.source("public.t")))
        finally:
            tables.close()

    def columns(self):
        return [row[:2] for row in self.rows("DESCRIBE SELECT * FROM {}")]

    def close(self):
        self.flow.close()
        self.lake.close()


@pytest.fixture(params=["duckdb", "ducklake"])
def sink(request, database, tmp_path):
    """sink(*statements, **options) -> Sink; the test runs once per destination."""
    made = []

    def make(*statements, **options):
        s = Sink(request.param, database, tmp_path, options)
        made.append(s)
        s.sql(*statements)
        return s

    yield make
    for s in made:
        s.close()


def test_metadata_columns(sink):
    s = sink(TABLE, "INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', NULL)", meta_enabled=True)
    s.sync()
    assert s.columns()[3:] == [
        ("__ds_synced_at", "TIMESTAMP WITH TIME ZONE"), ("__ds_is_deleted", "BOOLEAN"), ("__ds_watermark", "TIMESTAMP WITH TIME ZONE"),
        ("__ds_op", "VARCHAR"),
    ]
    s.sql("UPDATE t SET v = 'x' WHERE id = 1", "DELETE FROM t WHERE id = 2", "INSERT INTO t VALUES (3, 'c', NULL)")
    s.sync()
    assert s.rows("SELECT id, v, __ds_is_deleted, __ds_op FROM {} ORDER BY id") == [(1, "x", False, "update"), (3, "c", False, "insert")]
    for synced, mark in s.rows("SELECT epoch_us(__ds_synced_at), epoch_us(__ds_watermark) FROM {}"):
        assert mark <= synced and datetime.datetime.now().timestamp() * 1e6 - synced < NOW.total_seconds() * 1e6
    s.sync()
    s.sql("ALTER TABLE t ADD more int", "UPDATE t SET more = 5")
    s.sync()
    assert s.rows("SELECT id, more, __ds_op FROM {} ORDER BY id") == [(1, 5, "update"), (3, 5, "update")]


def test_names_and_watermarks(sink):
    s = sink(TABLE, "INSERT INTO t VALUES (1, 'a', NULL)", meta_enabled=True, meta_op="how", meta_synced_at="at", meta_deleted="gone",
             meta_watermark="lsn", watermark_source="lsn")
    s.sync()
    assert s.columns()[3:] == [("at", "TIMESTAMP WITH TIME ZONE"), ("gone", "BOOLEAN"), ("lsn", "UBIGINT"), ("how", "VARCHAR")]
    s.sql("UPDATE t SET v = 'x'")
    before = s.database.value("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
    s.sync()
    (mark,) = s.rows("SELECT lsn FROM {}")[0]
    assert 0 < mark <= before


def test_no_watermark(sink):
    s = sink(TABLE, meta_enabled=True, meta_watermark="-")
    s.sync()
    assert [name for name, _ in s.columns()] == ["id", "v", "body", "__ds_synced_at", "__ds_is_deleted", "__ds_op"]


def test_soft_delete(sink):
    """Deleted rows stay with all their values, may come again, be deleted again, and give their place to a moved row."""
    s = sink(
        TABLE, "ALTER TABLE t ALTER body SET STORAGE EXTERNAL",
        "INSERT INTO t SELECT i, 'v' || i, repeat('x', 4000) FROM generate_series(1, 6) i", soft_delete=True,
    )
    s.sync()
    s.sql("DELETE FROM t WHERE id IN (1, 2, 3, 4)")
    s.sync()
    state = "SELECT id, v, length(body), __ds_is_deleted, __ds_op FROM {} ORDER BY id"
    assert s.rows(state) == [(i, f"v{i}", 4000, i < 5, "delete" if i < 5 else "load") for i in range(1, 7)]
    s.sql(
        "INSERT INTO t VALUES (1, 'again', 'b')", "UPDATE t SET id = 2 WHERE id = 5",
        "BEGIN; INSERT INTO t VALUES (3, 'short', 'b'); DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (3, 'last', 'c'); COMMIT",
        "BEGIN; INSERT INTO t VALUES (7, 'new', 'b'); DELETE FROM t WHERE id = 7; COMMIT", "DELETE FROM t WHERE id = 6",
        "BEGIN; UPDATE t SET id = 6 WHERE id = 1; COMMIT",
    )
    s.sync()
    assert s.rows(state) == [
        (2, "v5", 4000, False, "update"), (3, "last", 1, False, "insert"), (4, "v4", 4000, True, "delete"), (6, "again", 1, False, "update"),
        (7, "new", 1, True, "delete"),
    ]


def test_append_mode(sink):
    s = sink(
        TABLE, "ALTER TABLE t ALTER body SET STORAGE EXTERNAL", "INSERT INTO t VALUES (1, 'a', repeat('x', 4000))", append_mode=True,
        watermark_source="lsn",
    )
    s.sync()
    s.sql("UPDATE t SET v = 'b'", "ALTER TABLE t REPLICA IDENTITY FULL", "UPDATE t SET v = 'c'", "UPDATE t SET id = 2", "DELETE FROM t",
          "INSERT INTO t VALUES (9, 'd', 'y')", "TRUNCATE t")
    s.sync()
    s.sql("INSERT INTO t VALUES (10, 'e', 'z')")
    s.sync()
    assert s.rows("SELECT id, v, length(body), __ds_op, __ds_is_deleted FROM {} ORDER BY __ds_watermark") == [
        (1, "a", 4000, "load", False), (1, "b", None, "update", False), (1, "c", 4000, "update", False), (2, "c", 4000, "update", False),
        (2, "c", 4000, "delete", True), (9, "d", 1, "insert", False), (None, None, None, "truncate", False), (10, "e", 1, "insert", False),
    ]


def test_write_mode_append(sink):
    """Inserts and updates are rows of their own, deletes leave nothing; no columns are added."""
    s = sink(TABLE, "INSERT INTO t VALUES (1, 'a', NULL)", write_mode="append")
    s.sync()
    s.sql("UPDATE t SET v = 'b'", "DELETE FROM t", "INSERT INTO t VALUES (1, 'c', NULL)", "TRUNCATE t")
    s.sync()
    assert s.rows("SELECT * FROM {} ORDER BY v") == [(1, "a", None), (1, "b", None), (1, "c", None)]


def test_tables_without_a_key(sink):
    s = sink("CREATE TABLE t (v text)", "INSERT INTO t VALUES ('a')", meta_enabled=True)
    s.sync()
    s.sql("INSERT INTO t VALUES ('b')")
    s.sync()
    assert s.rows("SELECT v, __ds_op FROM {} ORDER BY v") == [("a", "load"), ("b", "insert")]


def test_rows_found_by_all_values_cannot_have_columns_of_ours(sink):
    s = sink("CREATE TABLE t (v text)", "ALTER TABLE t REPLICA IDENTITY FULL", meta_enabled=True)
    assert '"public"."t" has no key' in s.fails(EXIT_CONFIG)


def test_a_column_of_the_source_with_such_a_name(sink):
    s = sink("CREATE TABLE t (id int PRIMARY KEY, __DS_OP text)", meta_enabled=True)
    assert '"public"."t" has a column "__ds_op", which is the name of a column that the destination adds' in s.checked()
    assert '"public"."t" has a column "__ds_op"' in s.fails(EXIT_CONFIG)
    s.flow.set_destination(meta_op="op")
    s.sync()
    assert [name for name, _ in s.columns()][:2] == ["id", "__ds_op"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"soft_delete": True, "append_mode": True}, 'option "soft_delete" marks rows'),
        ({"meta_enabled": True, "meta_op": "__ds_is_deleted"}, 'both name column "__ds_is_deleted"'),
        ({"meta_enabled": True, "meta_op": ""}, 'option "meta_op" is empty'),
        ({"watermark_source": "time"}, "watermark_source"),
    ],
)
def test_options_that_do_not_fit(sink, options, message):
    assert message in sink(TABLE, **options).fails(EXIT_CONFIG)


def test_columns_can_be_added_later(sink):
    s = sink(TABLE, "INSERT INTO t VALUES (1, 'a', NULL), (2, 'b', NULL)")
    s.sync()
    s.flow.set_destination(meta_enabled=True)
    s.sql("UPDATE t SET v = 'x' WHERE id = 1")
    s.sync()
    assert s.rows("SELECT id, __ds_op FROM {} ORDER BY id") == [(1, "update"), (2, None)]


# --- types ---


def test_type_mappings(sink, tmp_path):
    """Of keys, too; widening, to text and from text; values of a copy, of changes and of old rows."""
    (tmp_path / "more.json").write_text('{"text": "INTEGER", "public.mood": "VARCHAR"}')
    s = sink(
        "CREATE TYPE mood AS ENUM ('sad', 'happy')", "CREATE TABLE t (id int, at date, n numeric(6,2), j jsonb, v text, m mood, PRIMARY KEY (id, at))",
        "INSERT INTO t VALUES (1, '2024-02-29', 1.5, '{\"a\": 1}', '12', 'sad'), (2, '2024-02-29', NULL, NULL, '7', NULL)",
        type_mappings={"int4": "BIGINT", "date": "VARCHAR", "numeric(6,2)": "DECIMAL(20,4)", "jsonb": "VARCHAR"},
        type_mappings_file=str(tmp_path / "more.json"),
    )
    s.sync()
    assert [type_ for _, type_ in s.columns()] == ["BIGINT", "VARCHAR", "DECIMAL(20,4)", "VARCHAR", "INTEGER", "VARCHAR"]
    s.sql("UPDATE t SET n = 2.25 WHERE id = 1", "UPDATE t SET at = '2025-01-01', v = '-3' WHERE id = 2", "INSERT INTO t VALUES (3, '2025-01-01', 0, 'null', '0', 'happy')",
          "DELETE FROM t WHERE id = 3")
    s.sync()
    assert [tuple(map(str, row)) for row in s.rows("SELECT * FROM {} ORDER BY id")] == [
        ("1", "2024-02-29", "2.2500", '{"a": 1}', "12", "sad"), ("2", "2025-01-01", "None", "None", "-3", "None"),
    ]


def test_a_value_that_the_mapped_type_does_not_have(sink):
    s = sink(TABLE, "INSERT INTO t VALUES (1, '5', 'x')", type_mappings={"text": "INTEGER"})
    assert 'column "body" of "public"."t"' in s.fails(3)


def test_a_mapping_that_would_lose_something(sink):
    s = sink(TABLE, type_mappings={"integer": "SMALLINT"})
    assert 'column "id" of "public"."t" is integer, whose values are not values of int16' in s.checked()
    assert 'column "id" of "public"."t" is integer, whose values are not values of int16' in s.fails(EXIT_CONFIG)


# --- staging ---

ROWS = "INSERT INTO t SELECT i, 'v' || i, NULL FROM generate_series(1, 100) i"


@pytest.mark.parametrize("resolution", ["append", "replace"])
def test_staged_copies_are_taken_over(sink, resolution):
    s = sink(TABLE, ROWS, batch_mode="staging", batch_resolution=resolution)
    s.sync()
    assert s.rows("SELECT count(*), sum(id) FROM {}") == [(100, 5050)]
    s.sql("UPDATE t SET v = 'x' WHERE id < 10", "DELETE FROM t WHERE id > 90")
    s.sync()
    assert s.rows("SELECT count(*), count(*) FILTER (WHERE v = 'x') FROM {}") == [(90, 9)]


def test_staged_copies_stay(sink):
    """With no resolution nothing of the copy is in the table, and the flow goes on with what it has."""
    s = sink(TABLE, ROWS, batch_mode="staging", staging_schema="aside")
    s.sync()
    staging = "lake.aside.t_staging" if s.kind == "ducklake" else "aside.t_staging"
    assert s.rows(f"SELECT (SELECT count(*) FROM {{}}), (SELECT count(*) FROM {staging})") == [(0, 100)]
    s.sql("UPDATE t SET v = 'x' WHERE id < 10", "DELETE FROM t WHERE id > 90")
    s.sync()
    assert s.rows("SELECT count(*), count(*) FILTER (WHERE v = 'x') FROM {}") == [(9, 9)]
