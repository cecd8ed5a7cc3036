"""Data files as other readers see them: pyarrow finds what DuckDB finds, and the schema is the one that DuckDB writes itself."""

from pathlib import Path

import duckdb
import pyarrow.parquet as pq

TABLE = """CREATE TYPE pair AS (a int, b text);
CREATE TABLE t (id int8 PRIMARY KEY, flag bool, small int2, num int4, ids oid, big xid8, f float4, d float8, dec4 numeric(4,1),
  dec9 numeric(9,9), dec18 numeric(18,4), dec38 numeric(38,5), day date, at time, ts timestamp, tz timestamptz, u uuid, note text,
  doc jsonb, raw bytea, nothing text, list int[], texts text[][], duo pair, duos pair[])"""

ROWS = """INSERT INTO t SELECT g, CASE WHEN g % 5 > 0 THEN g % 3 = 0 END, (g % 60000 - 30000)::int2, nullif(g % 1000, 7),
  ('4294960000'::int8 + g % 7000)::oid, (g * 1000)::text::xid8, CASE g % 50 WHEN 0 THEN 'NaN' WHEN 1 THEN '-0' ELSE g / 7.0 END,
  CASE g % 50 WHEN 0 THEN 'NaN' WHEN 1 THEN '-0' WHEN 2 THEN 'Infinity' ELSE g / 7.0 END, (g % 9999) / 10.0, -(g % 99999) / 1e9::numeric,
  g * -1.0001, g * 12345678901234567890.00001, date '1900-01-01' + g % 70000, time '00:00' + g % 86400 * interval '1 s',
  timestamp '1990-01-01' + g * interval '1 hour 1 microsecond', timestamptz '1990-01-01 00:00+00' - g * interval '1 second', md5(g::text)::uuid,
  CASE WHEN g % 4 > 0 THEN repeat('é', g % 40) || g END, jsonb_build_object('k', g % 10, 'v', repeat('x', g % 100)),
  decode(md5(g::text), 'hex'), NULL, CASE WHEN g % 3 > 0 THEN ARRAY(SELECT nullif(i, 2) FROM generate_series(1, g % 5) i) END,
  CASE WHEN g % 2 > 0 THEN ARRAY[['a', NULL], ['', g::text]] END, CASE WHEN g % 6 > 0 THEN (nullif(g % 9, 0), 'b' || g)::pair END,
  CASE WHEN g % 7 > 0 THEN ARRAY[(g, NULL)::pair, NULL, (1, 'x')::pair] END FROM generate_series(1, 40000) g"""

SCHEMA = """SELECT name, type, type_length, repetition_type, num_children, converted_type, scale, precision, logical_type
  FROM parquet_schema('{}')"""


def differing(connection, left, right):
    both = [f"(SELECT COLUMNS(*)::VARCHAR FROM {one})" for one in (left, right)]
    query = f"SELECT (SELECT count(*) FROM {{}}), (SELECT count(*) FROM ({both[0]} EXCEPT ALL {both[1]})), (SELECT count(*) FROM ({both[1]} EXCEPT ALL {both[0]}))"
    return connection.execute(query.format(left)).fetchone()


def test_other_readers(mirror_sqlite, tmp_path):
    m = mirror_sqlite(TABLE)
    m.sql(ROWS)
    m.sync()
    m.same("t")
    files = sorted(Path(m.home.data_path).rglob("*.parquet"))
    assert files
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    total = 0
    for path in files:
        table = pq.read_table(path)
        connection.register("arrow_rows", table)
        count, missing, added = differing(connection, f"read_parquet('{path}')", "arrow_rows")
        assert (count, missing, added) == (table.num_rows, 0, 0)
        total += count
        check_metadata(pq.ParquetFile(path), connection, path)
        again = tmp_path / "again.parquet"
        connection.execute(f"COPY (SELECT * FROM read_parquet('{path}')) TO '{again}' (FORMAT parquet)")
        ours, theirs = (connection.execute(SCHEMA.format(one)).fetchall() for one in (path, again))
        assert ours == theirs
    assert total == 40000


def check_metadata(file, connection, path):
    """Each chunk has a page index and bounds that hold."""
    meta = file.metadata
    assert meta.created_by.startswith("ductstream version ")
    start = 0
    for group in range(meta.num_row_groups):
        rows = meta.row_group(group).num_rows
        data = file.read_row_group(group)
        connection.register("one_group", data)
        for i in range(meta.row_group(group).num_columns):
            chunk = meta.row_group(group).column(i)
            assert chunk.has_offset_index
            if "." in chunk.path_in_schema:
                continue
            name, stats = chunk.path_in_schema, chunk.statistics
            assert chunk.has_column_index or name in ("f", "d")
            nulls = data.column(name).null_count
            assert stats.null_count == nulls
            assert stats.has_min_max == (nulls < rows), name
            if stats.has_min_max and name in ("id", "small", "num", "day", "ts", "dec18", "note", "doc", "flag", "u", "raw"):
                low, high = stats.min_raw, stats.max_raw
                assert low is not None and high is not None
        start += rows
    assert start == meta.num_rows
    filters = ["id = 37777", "num = 500", "note = 'ééé' || 43", "dec18 < -39999", "day = '1900-01-02'", "f > 5000", "u = md5('5')::uuid"]
    for where in filters:  # by statistics, and without them
        query = f"SELECT count(*) FROM read_parquet('{path}') WHERE "
        assert connection.execute(query + where).fetchone() == connection.execute(query + f"CASE WHEN {where} THEN true ELSE false END").fetchone()


def test_options_of_the_lake(mirror_sqlite):
    """What its owner has set holds from the first file on: for the lake, a schema, a table."""
    m = mirror_sqlite(
        "CREATE TABLE t (id bigint PRIMARY KEY, v text)",
        "INSERT INTO t SELECT i * 3, 'x' FROM generate_series(1, 5000) i",
        destination={"inline_rows": 0},
    )

    def newest():
        """Of the file that was written last: codec, and encodings of the first column."""
        column = pq.ParquetFile(max(Path(m.home.data_path).rglob("*.parquet"), key=lambda p: p.stat().st_mtime_ns)).metadata.row_group(0).column(0)
        return column.compression, "DELTA_BINARY_PACKED" in column.encodings

    with m.home.open() as lake:
        lake.sql("CALL lake.set_option('parquet_version', '1')")
        lake.sql("CALL lake.set_option('parquet_compression', 'snappy')")
    m.sync()
    assert newest() == ("SNAPPY", False)
    found = []
    for number, scope in enumerate(("", ", schema => 'public'", ", schema => 'public', table_name => 't'")):
        m.lake.sql(f"CALL lake.set_option('parquet_version', '{2 if number % 2 == 0 else 1}'{scope})")
        m.lake.sql(f"CALL lake.set_option('parquet_compression', '{('gzip', 'zstd', 'uncompressed')[number]}'{scope})")
        m.sql(f"INSERT INTO t SELECT i * 3, 'x' FROM generate_series({10000 * (number + 1)}, {10000 * (number + 1) + 2000}) i")
        m.sync()
        found.append(newest())
    assert found == [("GZIP", True), ("ZSTD", False), ("UNCOMPRESSED", True)]
    m.same("t")
