"""The rows that src/lake writes into a catalog, against those of the official client for the same operations."""

import pytest

from lib.catalog_rows import Catalog, assert_same
from lib.lake import OfficialLake
from lib.lake_driver import Driver, DriverError, write_deletes, write_parquet

def test_new_catalog(two):
    """A new catalog has the official tables, column by column, and the official first rows."""
    official, native = two
    with OfficialLake(*official):
        pass
    with Driver(*native):
        pass
    ours = [row for row in Catalog(native[0]).layout() if not str(row[0]).startswith("ductstream")]
    assert ours == Catalog(official[0]).layout()
    assert_same(official, native)


ROWS = [
    "SELECT i::BIGINT AS id, 'n' || i AS \"odd \"\"name\"\"\", {'a': i::INTEGER, 'b c': [i / 2.0::DOUBLE]} AS s, "
    "MAP {'k' || i: (i * 1.5)::DECIMAL(9,2)} AS m, '2024-01-15 12:30:00+00'::TIMESTAMPTZ + i * INTERVAL 1 DAY AS ts, "
    "i % 2 = 0 AS f, i::INTEGER AS n FROM range(5, 10) r(i)",
    "SELECT i::BIGINT, NULL::VARCHAR, {'a': i::INTEGER, 'b c': [i / 2.0::DOUBLE]}, MAP {'k' || i: "
    "(i * 1.5)::DECIMAL(9,2)}, '2024-01-15 12:30:00+00'::TIMESTAMPTZ + i * INTERVAL 1 DAY, i % 2 = 0, i::INTEGER "
    "FROM range(0, 20) r(i)",
]
COLUMNS = [
    ("id", "int64"), ('odd "name"', "varchar"), ("s", "struct(a int32, b)"), ("m", "map(varchar, decimal(9,2))"),
    ("ts", "timestamptz"), ("f", "boolean"), ("n", "int32"),
]  # fmt: skip


def official_steps(lake):
    name = "lake.\"s x\".\"it's\""
    yield lake.sql("BEGIN"), lake.sql('CREATE SCHEMA lake."s x"'), lake.sql(
        f'CREATE TABLE {name} (id BIGINT, "odd ""name""" VARCHAR, s STRUCT(a INTEGER, b DOUBLE[]), '
        "m MAP(VARCHAR, DECIMAL(9,2)), ts TIMESTAMPTZ, f BOOLEAN, n INTEGER)"
    ), lake.sql("COMMIT")
    yield lake.sql(f"INSERT INTO {name} " + ROWS[0].replace("'b c'", "'b'"))
    yield lake.sql(f"INSERT INTO {name} " + ROWS[1].replace("'b c'", "'b'"))
    yield lake.sql(f"DELETE FROM {name} WHERE id IN (6, 8) AND \"odd \"\"name\"\"\" IS NOT NULL")
    yield lake.sql(f"ALTER TABLE {name} ADD COLUMN c2 INTEGER DEFAULT 7")
    yield lake.sql(f"ALTER TABLE {name} ADD COLUMN deep STRUCT(x INTEGER, y VARCHAR[])")
    yield lake.sql(f"ALTER TABLE {name} RENAME COLUMN c2 TO \"C 3\"")
    yield lake.sql(f"ALTER TABLE {name} ALTER COLUMN n TYPE BIGINT")
    yield lake.sql(f"ALTER TABLE {name} DROP COLUMN deep")
    yield lake.sql(f'ALTER TABLE {name} RENAME TO "new ☃"')
    yield lake.sql('DELETE FROM lake."s x"."new ☃" WHERE "odd ""name""" IS NULL')


def native_steps(driver):
    kinds = [(n, k.replace("b)", "b list(float64))") if n == "s" else k) for n, k in COLUMNS]
    driver.begin()
    handle, path = driver.create("s x", "it's", *kinds)
    columns = driver.columns(handle)
    yield driver.commit(1)
    table_id = driver.find("s x", "it's")[0]
    files = []
    for query in ROWS:
        (handle,) = driver.begin(table_id)
        written = write_parquet(path, query.replace("'b c'", "'b'"), columns)
        driver.put(handle, **written)
        files.append((driver.commit(2)[1][0][0], written["path"]))
        yield
    (handle,) = driver.begin(table_id)
    deleted = write_deletes(path, files[0][1], [1, 3])
    driver.ask("deletes", handle, files[0][0], -1, *deleted)
    yield driver.commit(3)
    for command in (
        ("add", 0, 0, "c2", "int32", "7"),
        ("add", 0, 0, "deep", "struct(x int32, y list(varchar))", None),
        ("rename", 0, 11, "C 3", ""),
        ("retype", 0, None, "", "int64"),
        ("drop", 0, None, "", ""),
        ("rename_table", 0, "s x", "new ☃", ""),
    ):
        (handle,) = driver.begin(table_id)
        ids = {name: number for number, name, *_ in driver.columns(handle)}
        command = list(command)
        if command[0] == "rename":
            command[2] = ids["c2"]
        if command[2] is None:
            command[2] = ids["n" if command[0] == "retype" else "deep"]
        driver.ask(*command)
        yield driver.commit(4)
    (handle,) = driver.begin(table_id)
    driver.ask("end", handle, files[1][0])
    yield driver.commit(5)


def test_same_rows_as_the_official_client(two):
    """After each operation every catalog table holds the rows that the official client writes for it."""
    official, native = two
    with OfficialLake(*official, options="DATA_INLINING_ROW_LIMIT 0") as lake, Driver(*native) as driver:
        for step, _ in enumerate(zip(official_steps(lake), native_steps(driver), strict=True)):
            try:
                assert_same(official, native)
            except AssertionError as error:
                raise AssertionError(f"step {step}: {error}") from None
    # Row by row at each snapshot, both read by the official client.
    with OfficialLake(*official) as one, OfficialLake(*native) as other:
        for at in range(2, 12):
            name = "s x.it's" if at < 10 else "s x.new ☃"
            assert other.rows(name, at) == one.rows(name, at), at
            assert other.count(name, at) == len(other.rows(name, at))


def content(lake, name, at=None):
    return lake.sql(f"SELECT rowid, * FROM {lake.source(name, at)} ORDER BY ALL")


def test_life_beside_official_clients(two):
    """Marks, explicit row ids, truncation; then everything the official client can do on the same lake."""
    _, native = two
    with Driver(*native) as driver:
        driver.begin()
        handle, path = driver.create("main", "t", ("k", "int64"), ("v", "varchar"))
        columns = driver.columns(handle)
        driver.put(handle, **write_parquet(path, "SELECT i AS k, 'v' || i AS v FROM range(100) r(i)", columns))
        driver.commit(0x10)
        table_id = driver.find("main", "t")[0]
        (handle,) = driver.begin(table_id)
        driver.ask("mark", handle, 0, *range(10, 30))
        driver.ask("mark", handle, 0, 50)
        changed = "SELECT k, 'w' || k AS v, k AS _ducklake_internal_row_id FROM range(10, 15) r(k)"
        driver.put(handle, **write_parquet(path, changed, columns, row_ids=True))
        snapshot, ((_, row_id_start),) = driver.commit(0x20)
        assert row_id_start == -1
        assert driver.find("main", "t")[1:3] == (105, 100)
        expected = sorted(
            [(i, i, f"v{i}") for i in range(100) if not 10 <= i < 30 and i != 50] + [(i, i, f"w{i}") for i in range(10, 15)]
        )
        with OfficialLake(*native) as lake:
            assert content(lake, "t") == expected
            assert lake.count("t") == len(expected)
            assert lake.count("t", 1) == 100
            changes = lake.sql(f"SELECT change_type, count(*) FROM lake.table_changes('t', {snapshot}, {snapshot}) GROUP BY 1")
            assert dict(changes) == {"update_preimage": 5, "update_postimage": 5, "delete": 16}
            # A flush that only writes our marks down moves positions and changes no row.
            lake.sql("CALL ducklake_flush_inlined_data('lake')")
            assert content(lake, "t") == expected
        assert driver.sync()[1] == {table_id: 2}
        (first, _) = driver.files(table_id)
        assert (first["deleted"], first["marked"]) == (21, 0)
        (handle,) = driver.begin(table_id)
        driver.ask("mark", handle, first["id"], 0)
        driver.commit(0x30)
        expected = expected[1:]
        with OfficialLake(*native) as lake:
            assert content(lake, "t") == expected
            lake.sql("INSERT INTO t VALUES (1000, 'mine')")
        assert driver.sync()[1] == {table_id: 4}
        with OfficialLake(*native) as lake:
            lake.sql("UPDATE t SET v = 'u' WHERE k = 99")
            lake.sql("DELETE FROM t WHERE k = 98")
        assert driver.sync()[1][table_id] & 4
        rows = lambda: [row[1:] for row in expected]  # noqa: E731
        expected = [row for row in expected if row[1] not in (98, 99)] + [(99, 99, "u"), (100, 1000, "mine")]
        expected.sort(key=lambda row: row[1:])
        with OfficialLake(*native) as lake:
            assert lake.rows("t") == rows()
            for statement in (
                "CALL ducklake_flush_inlined_data('lake')",
                "CALL ducklake_rewrite_data_files('lake', delete_threshold => 0)",
                "CALL ducklake_merge_adjacent_files('lake')",
                "CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 DAY)",
                "CALL ducklake_cleanup_old_files('lake', cleanup_all => true)",
            ):
                lake.sql(statement)
                assert lake.rows("t") == rows(), statement
                assert lake.count("t") == len(expected), statement
        head, notes = driver.sync()
        assert notes[table_id] & 2
        # Added columns, then an official inlined insert into a table of ours that never had an inlined table.
        (handle,) = driver.begin(table_id)
        driver.ask("add", handle, 0, "Flag", "boolean", "true")
        driver.commit(0x40)
        with OfficialLake(*native) as lake:
            lake.sql("INSERT INTO t VALUES (2000, 'new', false)")
            assert lake.sql("SELECT \"Flag\", count(*) FROM t GROUP BY 1 ORDER BY 1") == [(False, 1), (True, len(expected))]
        assert driver.sync()[1][table_id] & 4
        (handle,) = driver.begin(table_id)
        driver.ask("truncate", handle)
        driver.put(handle, **write_parquet(path, "SELECT 7::BIGINT AS k, 'x' AS v, NULL::BOOLEAN AS f", driver.columns(handle)))
        driver.commit(0x50)
        with OfficialLake(*native) as lake:
            assert lake.rows("t") == [(7, "x", None)]
            assert lake.count("t") == 1
            assert lake.sql("SELECT k FROM t WHERE v = 'x'") == [(7,)]
            assert lake.sql("SELECT count(*) FROM t WHERE k = 1000") == [(0,)]


EVERYTHING = (
    "b BOOLEAN, i1 TINYINT, i2 SMALLINT, i4 INTEGER, i8 BIGINT, u1 UTINYINT, u2 USMALLINT, u4 UINTEGER, u8 UBIGINT, "
    "f4 FLOAT, f8 DOUBLE, d DECIMAL(9,2), s VARCHAR, j JSON, x BLOB, u UUID, da DATE, t TIME, tz TIMETZ, ts TIMESTAMP, "
    "ms TIMESTAMP_MS, tstz TIMESTAMPTZ, iv INTERVAL, h HUGEINT, l INTEGER[], st STRUCT(a INTEGER), m MAP(INTEGER, VARCHAR)"
)


def test_inlined_tables_follow_columns(two):
    """A change of columns makes the inlined table that the official client makes."""
    official, native = two
    for home in two:
        with OfficialLake(*home) as lake:
            lake.sql(f"CREATE TABLE t ({EVERYTHING})")
            lake.sql("INSERT INTO t (i4) VALUES (1)")
    with OfficialLake(*official) as lake:
        lake.sql('ALTER TABLE t ADD COLUMN "new one" DOUBLE')
        lake.sql("ALTER TABLE t ALTER i1 TYPE INTEGER")
        lake.sql("ALTER TABLE t RENAME TO t2")
    with Driver(*native) as driver:
        for command in (
            ("add", 0, 0, "new one", "float64", None),
            ("retype", 0, 2, "", "int32"),
            ("rename_table", 0, "main", "t2"),
        ):
            driver.begin(1)
            driver.ask(*command)
            driver.commit()
    assert Catalog(native[0]).dump("inlined_data_tables") == Catalog(official[0]).dump("inlined_data_tables")
    pick = lambda home: [row for row in Catalog(home[0]).layout() if "inlined_data_1" in row[0]]  # noqa: E731
    found, expected = pick(native), pick(official)
    assert [[str(field).upper() for field in row] for row in found] == [
        [str(field).upper() for field in row] for row in expected
    ]
    assert_same(official, native)
    with OfficialLake(*native) as lake:
        lake.sql('INSERT INTO t2 (i1, "new one") VALUES (1000, 1.5)')
        assert lake.sql('SELECT i1, i4, "new one" FROM t2 ORDER BY ALL') == [(1000, None, 1.5), (None, 1, None)]


def test_refused_catalogs(two, tmp_path):
    """Another version, encryption, another data_path, a missing catalog: CONFIG, naming what was found."""
    _, (catalog, data) = two

    def refused(match, folder=data, flags="ci", **more):
        with pytest.raises(DriverError, match=match) as caught, Driver(catalog, folder, flags=flags, **more):
            pass
        assert caught.value.kind == "config"

    refused("there is no (such file|DuckLake catalog)", flags="")
    refused("data_path is needed", folder=None)
    with Driver(catalog, data):
        pass
    (tmp_path / "other").mkdir()
    refused(f'data_path "{tmp_path}/other" is not the catalog\'s own, which is "{data}/"', folder=tmp_path / "other")
    with Driver(catalog, None) as driver:
        assert driver.opened.split()[3] == f"{data}/"
    Catalog(catalog).execute("UPDATE ducklake_metadata SET value = 'true' WHERE key = 'encrypted'")
    refused("encrypted")
    Catalog(catalog).execute("UPDATE ducklake_metadata SET value = '0.4' WHERE key = 'version'")
    refused('version "0.4": only "1.0"')


def test_odd_metadata_schema(server, request, tmp_path):
    """The official tables and ours live in the schema that was asked for, whatever its name."""
    database = server.database("odd_schema")
    request.addfinalizer(database.drop)
    odd = 'we"ird %s schéma'
    with Driver(f"postgres:{database.dsn}", tmp_path, schema=odd) as driver:
        driver.begin()
        driver.create("main", "t", ("k", "int64"))
        driver.commit(1)
    assert {row[0] for row in database.query("SELECT DISTINCT table_schema FROM information_schema.tables WHERE table_name LIKE 'duc%'")} == {odd}
    with Driver(f"postgres:{database.dsn}", tmp_path, schema=odd, flags="") as driver:
        assert driver.find("MAIN", "T")[0] == 1
    with pytest.raises(DriverError, match="config: .*password|config: .*role") as caught:
        Driver(f"postgres:host={server.folder} dbname=odd_schema user=nobody password=hunter2", tmp_path)
    assert "hunter2" not in str(caught.value)
    with pytest.raises(DriverError, match='config: .*database "absent" does not exist'):
        Driver(f"postgres:{server.dsn('absent')}", tmp_path)
    with pytest.raises(DriverError, match="retry: "):
        Driver("postgres:host=/nowhere dbname=x", tmp_path)
    with pytest.raises(DriverError, match="config: .*cannot be parsed") as caught:
        Driver("postgres:password hunter2", tmp_path)
    assert "hunter2" not in str(caught.value)
