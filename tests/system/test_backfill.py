"""`ductstream-worker -mode backfill`: tables copied again, joined with the stream; refused `-start-lsn` (issue 5, point 10)."""

import threading
from types import SimpleNamespace

import duckdb
import pytest

from lib.service import Lake, Service, flow_message
from lib.wait import wait_until

DUCKDB = 11

TABLES = """
CREATE TABLE t (id int PRIMARY KEY, v text);
INSERT INTO t SELECT i - 5000, CASE WHEN i % 7 <> 0 THEN 'v' || i END FROM generate_series(1, 20000) i;
CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other SELECT generate_series(1, 100);
CREATE SCHEMA side; CREATE TABLE side.more (id int PRIMARY KEY); INSERT INTO side.more SELECT generate_series(1, 10);
"""
ALL = ("public.t", "public.other", "side.more")


@pytest.fixture
def service(tmp_path):
    with Service(tmp_path / "service") as running:
        yield running


@pytest.fixture
def lake(service, database, sqlite_lake):
    database.sql(TABLES)
    service.call("CreateFlow", flow=flow_message(database, sqlite_lake, "shop", destination={"flush_interval": "20ms"}))
    opened = Lake(database, sqlite_lake)
    yield opened
    opened.close()


def files(lake):
    """The data files of each table."""
    rows = lake._open().sql(
        "SELECT t.table_name, f.path FROM __ducklake_metadata_lake.ducklake_data_file f "
        "JOIN __ducklake_metadata_lake.ducklake_table t USING (table_id) WHERE f.end_snapshot IS NULL"
    )
    found = {}
    for table, path in rows:
        found.setdefault(table, set()).add(path)
    return found


def test_before_anything_else(service, lake):
    """The first copy, and no more: the flow is as it was."""
    service.worker("shop", "-mode", "backfill", "-tables", "public.t").expect(0)
    lake.same(*ALL)
    assert service.state_of("shop") == "created"


@pytest.mark.parametrize("how", [(), ("-snapshot-workers", "4", "-partition-column", "v", "-partition-count", "8")])
def test_while_a_writer_never_stops(service, lake, database, how):
    """Only the named table is copied again, with everything that came meanwhile neither lost nor doubled; also cut by the hash of a column
    with NULLs (every hash, negative ones too)."""
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    before = files(lake)
    stop = threading.Event()

    def write():
        n = 0
        while not stop.is_set():
            n += 1
            database.sql(f"UPDATE t SET v = 'w{n}' WHERE id % 100 = {n % 100}; INSERT INTO t VALUES ({100000 + n}, NULL)")
            database.sql(f"DELETE FROM t WHERE id = {100000 + n - 5}; INSERT INTO other VALUES ({1000 + n})")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        service.worker("shop", "-mode", "backfill", "-tables", "t", *how).expect(0)
        service.worker("shop", "-max-empty-reads", "1").expect(0)
    finally:
        stop.set()
        writer.join()
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    lake.same(*ALL)
    after = files(lake)
    assert not before["t"] & after["t"] and before["other"] <= after["other"] and before["more"] == after["more"]


def test_schemas_and_a_paused_flow(service, lake):
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    before = files(lake)
    service.call("PauseFlow", flow_id="shop")
    service.worker("shop", "-mode", "backfill", "-schemas", "side").expect(0)
    assert service.state_of("shop") == "paused"
    after = files(lake)
    assert not before["more"] & after["more"] and before["t"] == after["t"]
    lake.same(*ALL)


def test_a_table_that_is_not_published(service, lake):
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    stderr = service.worker("shop", "-mode", "backfill", "-tables", "public.ohter").expect(2)
    assert 'table "public.ohter" is not in publication "shop": did you mean "other"?' in stderr
    assert service.state_of("shop") == "running"


def test_positions_of_a_replay(service, lake, database):
    """Below what the slot has: refused with both positions; above what the destination has: refused; where it stands: nothing is doubled.
    What a replay does: test_replay.py."""
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    database.sql("INSERT INTO t VALUES (200000, 'x')")
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    confirmed = database.value("SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = 'shop'")
    stderr = service.worker("shop", "-start-lsn", "0/1", "-max-empty-reads", "1").expect(2)
    assert confirmed in stderr and "0/1" in stderr
    stderr = service.worker("shop", "-start-lsn", "FF/0", "-max-empty-reads", "1").expect(2)
    assert "would leave out" in stderr
    assert service.state_of("shop") == "running"
    service.worker("shop", "-start-lsn", confirmed, "-max-empty-reads", "1").expect(0)
    lake.same(*ALL)


def test_names_with_spaces(service, lake, database):
    database.sql('CREATE TABLE "two words" (id int PRIMARY KEY); INSERT INTO "two words" VALUES (1)')
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    before = files(lake)
    service.worker("shop", "-mode", "backfill", "-tables", " public.two words , side.more ").expect(0)
    after = files(lake)
    assert not before["two words"] & after["two words"] and not before["more"] & after["more"] and before["t"] == after["t"]


@pytest.mark.parametrize("flags", [("-partition-count", "-3"), ("-snapshot-workers", "1000")])
def test_a_flag_that_is_wrong_says_nothing_about_the_flow(service, lake, flags):
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    assert flags[0].strip("-").replace("-", "_") in service.worker("shop", "-mode", "backfill", "-tables", "t", *flags).expect(2).replace("-", "_")
    assert service.state_of("shop") == "running"


def test_a_partition_column_that_is_not_there(service, lake):
    """It is said, and all rows are copied."""
    stderr = service.worker("shop", "-mode", "backfill", "-tables", "t", "-partition-column", "nope", "-partition-count", "3").expect(0)
    assert "does not have the partition_column" in stderr and "nope" in stderr
    lake.same(*ALL)


SHAPES = {
    "text": ("id text PRIMARY KEY, v int", "repeat(chr(65 + i % 26), 1 + i % 3) || i, i"),
    "uuid": ("id uuid PRIMARY KEY, v int", "md5(i::text)::uuid, i"),
    "numeric": ("id numeric PRIMARY KEY, v int", "(i - 250) * 1.5, i"),
    "composite": ("a int, id int, v text, PRIMARY KEY (a, id)", "i % 7, -i, 'x'"),
    "nulls": ("v text PRIMARY KEY, id timestamptz", "i::text, CASE WHEN i % 3 <> 0 THEN now() - i * interval '1 day' END"),
    "none": ("id int, v text", "i % 5, 'same'"),
    "generated": ("id bigint PRIMARY KEY, v int, g int GENERATED ALWAYS AS (v * 2) STORED", "i, i"),
    "empty": ("id int PRIMARY KEY, v text", None),
    "few": ("id int PRIMARY KEY, v text", "3 - i, NULL"),
}


@pytest.mark.parametrize("count", [1, 2, 7, 64])
def test_hash_parts_cover_every_row(mirror_sqlite, count):
    """Whatever the column is; empty tables, tables without key or with fewer rows than parts, partitioned ones."""
    made = []
    for name, (columns, values) in SHAPES.items():
        made.append(f"CREATE TABLE {name}_t ({columns})")
        if values:
            named = " (id, v)" if name == "generated" else ""
            made.append(f"INSERT INTO {name}_t{named} SELECT {values} FROM generate_series(1, {5 if name == 'few' else 500}) i")
    made += [
        "CREATE TABLE p (id int, v text, PRIMARY KEY (id)) PARTITION BY HASH (id)",
        *(f"CREATE TABLE p_{i} PARTITION OF p FOR VALUES WITH (MODULUS 2, REMAINDER {i})" for i in (0, 1)),
        "INSERT INTO p SELECT i - 100, 'p' FROM generate_series(1, 200) i",
    ]
    options = {"partition_column": "id", "partition_count": count, "parallel_tables": 3, "publish_via_partition_root": True}
    m = mirror_sqlite(*made, source=options)
    m.sync()
    m.same("p", *(f"{name}_t" for name in SHAPES if name not in ("generated", "none")))
    assert m.lake.sql("SELECT id, v FROM public.generated_t ORDER BY 1") == [(i, i) for i in range(1, 501)]
    assert m.lake.sql("SELECT count(*), sum(id) FROM public.none_t") == [(500, 1000)]


def test_ranges_of_pages(mirror_sqlite):
    """partition_count without a column: so many ranges, and no more than there are pages."""
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series(1, 5000) i",
                      "CREATE TABLE tiny (id int PRIMARY KEY); INSERT INTO tiny VALUES (1)", "ANALYZE", source={"partition_count": 6})
    m.sync()
    m.same("t", "tiny")
    files = m.catalog("SELECT t.table_name, count(*) FROM {}ducklake_data_file f JOIN {}ducklake_table t USING (table_id) GROUP BY 1 ORDER BY 1")
    assert [tuple(row) for row in files] == [("t", 6), ("tiny", 1)]


def test_as_a_run(service, lake):
    """A durable run of kind backfill; what its input lacks is said before anything is enqueued."""
    service.worker("shop", "-max-empty-reads", "1").expect(0)
    before = files(lake)
    code, message = service.fails("RunService/SubmitRun", kind="backfill", flow_id="shop", input_json="{}")
    assert code == "INVALID_ARGUMENT" and "tables, schemas or resolve_staging" in message
    run = service.call("RunService/SubmitRun", kind="backfill", flow_id="shop", input_json='{"tables": "public.t"}')
    wait_until(lambda: service.call("RunService/GetRun", id=run.id).state not in (1, 2), 60, "the run's end")
    done = service.call("RunService/GetRun", id=run.id)
    assert done.state == 3, done
    after = files(lake)
    assert not before["t"] & after["t"] and before["other"] == after["other"]
    lake.same(*ALL)


def test_staged_rows_are_resolved(service, database, tmp_path):
    """batch_mode staging: copied rows wait beside the table until -resolve-staging puts them in."""
    path = tmp_path / "out.duckdb"
    database.sql(TABLES)
    message = flow_message(database, SimpleNamespace(catalog="", data_path=""), "staged")
    options = {"dsn": str(path), "batch_mode": "staging"}
    message["destinations"] = [{"name": "out", "type": DUCKDB, "options": options}]
    service.call("CreateFlow", flow=message)
    service.worker("staged", "-mode", "backfill", "-tables", "public.t").expect(0)

    def count():
        with duckdb.connect(str(path), read_only=True) as connection:
            return connection.execute("SELECT count(*) FROM public.t").fetchone()[0]

    staged = count()
    service.worker("staged", "-mode", "backfill", "-resolve-staging").expect(0)
    assert (staged, count()) == (0, 20000)
    code = service.worker("staged", "-resolve-staging").expect(2)
    assert "-mode backfill or -max-empty-reads" in code
