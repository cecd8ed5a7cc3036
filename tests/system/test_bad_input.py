"""What is wrong with a flow file, a server or a catalog is said: which, where, why; the exit code is 2, nothing is written."""

import itertools
import shutil
import sqlite3
import subprocess

import pytest
import yaml

from lib.flow import EXIT_CONFIG, EXIT_DONE, EXIT_RETRY
from lib.pg import Postgres

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x')"


def nothing_written(m):
    assert not m.exists(), "a catalog was made"
    assert m.files() == []
    assert m.database.server.confirmed_lsn("shop") is None, "a slot was made"


# --- the flow file ---


@pytest.mark.parametrize(
    "where, options, words",
    [
        ("source", {"batch_sise": 5}, ["batch_sise", "batch_size"]),
        ("destination", {"catalogue": "x"}, ["catalogue", "catalog"]),
        ("source", {"batch_size": "many"}, ["batch_size", "many"]),
        ("source", {"batch_size": 0}, ["batch_size", "0", "1..10000000"]),
        ("source", {"batch_timeout": 5}, ["batch_timeout", "5"]),
        ("source", {"status_interval": "5ms"}, ["status_interval", "5ms"]),
        ("source", {"create_slot": "perhaps"}, ["create_slot", "perhaps"]),
        ("source", {"snapshot": "later"}, ["snapshot", "later", "auto", "never", "only"]),
        ("source", {"max_memory": "7 apples"}, ["max_memory", "7 apples"]),
        ("source", {"publication_tables": {"a": 1}}, ["publication_tables"]),
        ("source", {"slot": "No Slot"}, ["slot", "No Slot"]),
        ("source", {"start_lsn": "twelve"}, ["start_lsn", "twelve"]),
        ("source", {"parallel_tables": 2, "snapshot_workers": 3}, ["parallel_tables", "snapshot_workers"]),
        ("destination", {"compression": "zip"}, ["compression", "zip"]),
        ("destination", {"no_key": "ignore"}, ["no_key", "ignore", "append", "refuse"]),
        ("destination", {"flush_rows": -1}, ["flush_rows", "-1"]),
        ("destination", {"catalog": "mysql:host=x"}, ["catalog", "sqlite:", "postgres:"]),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, dict) else None,
)
def test_options_that_are_wrong(mirror_sqlite, where, options, words):
    m = mirror_sqlite(TABLE, **{where: options})
    stderr = m.fails(EXIT_CONFIG)
    assert all(word in stderr for word in words), stderr
    assert "flow.yaml" in stderr, stderr
    assert stderr.count("\n") <= 2, stderr
    nothing_written(m)


def test_an_option_given_twice(mirror_sqlite):
    m = mirror_sqlite(TABLE)
    text = m.flow.path.read_text().replace("    slot: shop\n", "    slot: shop\n    slot: shop\n")
    assert text.count("slot: shop") == 2
    m.flow.path.write_text(text)
    stderr = m.fails(EXIT_CONFIG)
    assert "slot" in stderr and "twice" in stderr and "flow.yaml:" in stderr, stderr
    nothing_written(m)


@pytest.mark.parametrize("missing", ["dsn", "slot", "publication"])
def test_a_required_option_that_is_missing(mirror_sqlite, missing):
    m = mirror_sqlite(TABLE)
    del m.flow.content["source"]["options"][missing]
    m.flow.write()
    stderr = m.fails(EXIT_CONFIG)
    assert missing in stderr and "flow.yaml" in stderr, stderr
    nothing_written(m)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda flow: flow.update(sauce={}), ["sauce", "source"]),
        (lambda flow: flow["source"].update(type="postgre"), ["postgre", "postgres"]),
        (lambda flow: flow["destinations"][0].update(type="ducklack"), ["ducklack", "ducklake"]),
        (lambda flow: flow.pop("source"), ["source"]),
        (lambda flow: flow.update(destinations=[]), ["destination"]),
        (lambda flow: flow.update(name="a b"), ["name", "a b"]),
        (lambda flow: flow["source"]["options"].update(dsn="${NOT_SET_ANYWHERE}"), ["NOT_SET_ANYWHERE"]),
    ],
    ids=["key", "source type", "destination type", "no source", "no destination", "name", "variable"],
)
def test_flow_files_that_are_wrong(mirror_sqlite, change, words):
    m = mirror_sqlite(TABLE)
    change(m.flow.content)
    m.flow.write()
    stderr = m.fails(EXIT_CONFIG)
    assert all(word in stderr for word in words), stderr
    assert "flow.yaml" in stderr, stderr
    nothing_written(m)


def test_a_flow_file_that_is_no_yaml_or_is_not_there(mirror_sqlite):
    m = mirror_sqlite(TABLE)
    m.flow.path.write_text("name: [shop\nsource: }")
    assert "flow.yaml:" in m.fails(EXIT_CONFIG)
    m.flow.path.unlink()
    stderr = m.fails(EXIT_CONFIG)
    assert "flow.yaml" in stderr and "No such file" in stderr, stderr


# --- the source ---


def as_role(m, role, **options):
    m.flow.content["source"]["options"].update(dsn=m.database.dsn.replace("user=postgres", f"user={role}"), **options)
    m.flow.write()


_roles = itertools.count(1)


@pytest.fixture
def role(server):
    """A login without any rights of its own."""
    name = f"nobody_{next(_roles)}"
    server.sql(f"CREATE ROLE {name} LOGIN")
    return name


def test_a_role_that_may_not_replicate(mirror_sqlite, role):
    m = mirror_sqlite(TABLE, "CREATE PUBLICATION shop FOR ALL TABLES", f"GRANT SELECT ON t TO {role}")
    as_role(m, role)
    stderr = m.fails(EXIT_CONFIG)
    assert role in stderr and "REPLICATION" in stderr, stderr
    assert m.database.server.confirmed_lsn("shop") is None


def test_a_role_that_may_not_read_a_table(mirror_sqlite, server, role):
    m = mirror_sqlite(TABLE, "CREATE TABLE hidden (id int PRIMARY KEY)", "CREATE PUBLICATION shop FOR ALL TABLES",
                      f"GRANT SELECT ON t TO {role}")
    server.sql(f"ALTER ROLE {role} REPLICATION")
    as_role(m, role)
    stderr = m.fails(EXIT_CONFIG)
    assert "hidden" in stderr and "SELECT" in stderr.upper(), stderr
    assert m.lake.tables() == []
    assert m.database.server.confirmed_lsn("shop") is None, "the slot of a copy that failed stays and holds the log"
    m.sql(f"GRANT SELECT ON hidden TO {role}")
    m.sync()
    m.same("t", "hidden")


def test_no_server_is_tried_again_until_given_up(mirror_sqlite, tmp_path):
    m = mirror_sqlite(TABLE, config={"give_up_after": "1s"})
    m.flow.content["source"]["options"]["dsn"] = f"host={tmp_path} dbname=x password=hunter2secret"
    m.flow.write()
    stderr = m.fails(EXIT_RETRY)
    assert str(tmp_path) in stderr and "hunter2" not in stderr, stderr


@pytest.mark.parametrize("more", ["port=99999", "sslmode=perhaps", "service=nowhere"])
def test_a_connection_string_that_libpq_refuses(mirror_sqlite, more):
    """It is not tried again: nothing would be different."""
    m = mirror_sqlite(TABLE, config={"give_up_after": "60s"})
    m.flow.content["source"]["options"]["dsn"] = m.database.dsn + " " + more
    m.flow.write()
    assert more.split("=")[1] in m.fails(EXIT_CONFIG)


def test_a_database_that_does_not_exist(mirror_sqlite):
    m = mirror_sqlite(TABLE)
    m.flow.content["source"]["options"]["dsn"] = m.database.dsn.replace(f"dbname={m.database.name}", "dbname=nowhere")
    m.flow.write()
    stderr = m.fails(EXIT_CONFIG)
    assert "nowhere" in stderr and "does not exist" in stderr, stderr


def test_publication_missing(mirror):
    m = mirror(TABLE, source={"ensure_publication": False})
    stderr = m.fails(EXIT_CONFIG)
    assert "publication" in stderr and '"shop"' in stderr and "ensure_publication" in stderr, stderr
    assert m.lake.tables() == []
    assert m.database.server.confirmed_lsn("shop") is None


def test_slot_missing_with_create_slot_false(mirror_sqlite):
    m = mirror_sqlite(TABLE, source={"create_slot": False})
    stderr = m.fails(EXIT_CONFIG)
    assert "slot" in stderr and '"shop"' in stderr and "create_slot" in stderr, stderr
    assert m.lake.tables() == []


def test_a_table_of_the_options_that_is_not_there(mirror_sqlite):
    m = mirror_sqlite(TABLE, source={"publication_tables": ["public.t", "public.nowhere"]})
    stderr = m.fails(EXIT_CONFIG)
    assert "public.nowhere" in stderr and "publication_tables" in stderr, stderr


def test_columns_that_differ_only_in_case(mirror):
    m = mirror('CREATE TABLE odd (id int PRIMARY KEY, "Name" text, name text)')
    stderr = m.fails(EXIT_CONFIG)
    assert "Name" in stderr and "name" in stderr and "odd" in stderr and "case" in stderr, stderr
    assert m.lake.tables() == []


def test_tables_that_differ_only_in_case(mirror_sqlite):
    m = mirror_sqlite('CREATE TABLE "Odd" (id int PRIMARY KEY); CREATE TABLE odd (id int PRIMARY KEY)')
    stderr = m.fails(EXIT_CONFIG)
    assert "odd" in stderr.lower() and "case" in stderr, stderr
    assert m.lake.tables() == []


def small_server(**settings):
    return Postgres(settings={name: str(value) for name, value in settings.items()})


def test_wal_level_is_not_logical(make_mirror, sqlite_lake):
    with small_server(wal_level="replica") as server:
        m = make_mirror(server.database("shop"), sqlite_lake, TABLE)
        stderr = m.fails(EXIT_CONFIG)
        assert "wal_level" in stderr and "replica" in stderr and "logical" in stderr, stderr
        assert m.lake.tables() == []


def test_no_free_slot_and_no_free_sender(make_mirror, sqlite_lake):
    with small_server(max_replication_slots=1, max_wal_senders=1) as server:
        m = make_mirror(server.database("shop"), sqlite_lake, TABLE, config={"give_up_after": "1s"})
        m.database.query("SELECT pg_create_logical_replication_slot('other', 'pgoutput')")
        stderr = m.fails(EXIT_CONFIG)
        assert "max_replication_slots" in stderr, stderr
        assert m.lake.tables() == []
        m.database.query("SELECT pg_drop_replication_slot('other')")
        with server.connect("shop", replication="database"):
            stderr = m.fails(EXIT_RETRY)
            assert "max_wal_senders" in stderr, stderr
            assert m.lake.tables() == []
        m.sync()
        m.same("t")


def test_a_slot_that_was_lost(make_mirror, sqlite_lake):
    with small_server(max_slot_wal_keep_size="1MB", min_wal_size="32MB", max_wal_size="32MB") as server:
        m = make_mirror(server.database("shop"), sqlite_lake, TABLE)
        m.sync()
        for _ in range(3):
            m.sql("SELECT pg_switch_wal()", "CREATE TABLE IF NOT EXISTS filler (v text)",
                  "INSERT INTO filler SELECT repeat('x', 1000) FROM generate_series(1, 5000)", "CHECKPOINT")
        m.wait_until(
            lambda: m.database.value("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'shop'") == "lost",
            30, "the slot to be lost",
        )
        stderr = m.refuses(EXIT_CONFIG)
        assert "lost" in stderr and "shop" in stderr and "max_slot_wal_keep_size" in stderr, stderr


def promote(server):
    """The server goes on as its own replica does that takes over: on the next timeline."""
    server.stop()
    subprocess.run(["cp", "-a", server.data / "PG_VERSION", server.data / "standby.signal"], check=True)  # its owner's
    server.start()
    server.sql("SELECT pg_promote()")
    server.sql("CHECKPOINT")


def test_a_flow_lives_on_through_switches_of_the_timeline(make_mirror, sqlite_lake):
    """Its position is on a later one than its copy was; on one that the server has left it is still refused."""
    with small_server() as server:
        m = make_mirror(server.database("shop"), sqlite_lake, TABLE)
        m.sync()
        for i in range(3):
            promote(server)
            for k in range(2):
                m.sql(f"INSERT INTO t VALUES ({1000 + i * 10 + k}, 'x')")
                m.sync()
        m.same("t")
        server.stop()
        before = server.folder / "before"
        subprocess.run(["cp", "-a", server.data, before], check=True)
        server.start()
        m.sql("INSERT INTO t SELECT i, 'lost' FROM generate_series(5000, 6000) i")
        m.sync()
        server.stop()
        shutil.rmtree(server.data)
        before.rename(server.data)
        promote(server)
        m.sql("INSERT INTO t SELECT i, 'other' FROM generate_series(5000, 9000) i")
        stderr = m.refuses(EXIT_CONFIG)
        assert "of timeline 4, but the server left that timeline" in stderr, stderr


# --- the catalog ---


def test_catalog_of_another_version(mirror):
    m = mirror(TABLE)
    m.sync()
    version = "UPDATE {}ducklake_metadata SET value = '0.3' WHERE key = 'version'"
    m.close_lake()
    m.change_catalog(version)
    stderr = m.refuses(EXIT_CONFIG)
    assert "0.3" in stderr and "1.0" in stderr and "version" in stderr, stderr


def test_data_path_that_is_not_the_catalogs(mirror, tmp_path):
    m = mirror(TABLE)
    m.sync()
    m.flow.content["destinations"][0]["options"]["data_path"] = str(tmp_path / "elsewhere")
    m.flow.write()
    stderr = m.refuses(EXIT_CONFIG)
    assert "data_path" in stderr and "elsewhere" in stderr and str(m.home.data_path) in stderr, stderr
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("path", ["{}/file/data", "/proc/data"], ids=["below_a_file", "forbidden"])
def test_data_path_that_cannot_be_written(mirror_sqlite, tmp_path, path):
    (tmp_path / "file").write_text("no folder")
    m = mirror_sqlite(TABLE)
    m.flow.content["destinations"][0]["options"]["data_path"] = path.format(tmp_path)
    m.flow.write()
    stderr = m.fails(EXIT_CONFIG)
    assert "data_path" in stderr and path.format(tmp_path) in stderr, stderr
    nothing_written(m)


def test_no_data_path_for_a_new_catalog(mirror_sqlite):
    m = mirror_sqlite(TABLE)
    del m.flow.content["destinations"][0]["options"]["data_path"]
    m.flow.write()
    stderr = m.fails(EXIT_CONFIG)
    assert "data_path" in stderr, stderr
    nothing_written(m)


def test_no_catalog_and_none_to_be_made(mirror):
    m = mirror(TABLE, destination={"create_catalog": False})
    stderr = m.fails(EXIT_CONFIG)
    assert "catalog" in stderr and ("no DuckLake catalog" in stderr or "cannot be opened" in stderr), stderr
    nothing_written(m)


def test_catalog_locked_by_another_process(mirror_sqlite):
    m = mirror_sqlite(TABLE, destination={"busy_timeout": "300ms"})
    m.sync()
    m.sql("INSERT INTO t VALUES (2, 'y')")
    m.close_lake()
    path = m.home.catalog.removeprefix("sqlite:")
    before = m.state()
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    stderr = m.fails(EXIT_CONFIG)
    other.execute("ROLLBACK")
    other.close()
    assert "locked" in stderr and "lake.sqlite" in stderr, stderr
    assert m.state() == before
    m.sync()
    m.same("t")


def test_catalog_locked_for_long_while_the_flow_runs(mirror_sqlite):
    """At the start that is for the operator to decide; a run at work outlasts it."""
    m = mirror_sqlite(TABLE, destination={"busy_timeout": "100ms"})
    m.sync()
    run = m.flow.start()
    m.sql("INSERT INTO t VALUES (2, 'y')")
    m.wait_rows(run, "t", 2)
    m.close_lake()
    other = sqlite3.connect(m.home.catalog.removeprefix("sqlite:"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    m.sql("INSERT INTO t VALUES (3, 'z')")
    run.wait_for(lambda: run.stderr.count("locked by another process") >= 3, 30, "several attempts")
    other.execute("ROLLBACK")
    other.close()
    m.wait_rows(run, "t", 3)
    assert run.terminate() == EXIT_DONE
    m.same("t")


def test_a_catalog_that_is_no_catalog(mirror_sqlite, tmp_path):
    (tmp_path / "lake.sqlite").write_text("this is not a database, but a text of some length " * 20)
    m = mirror_sqlite(TABLE)
    stderr = m.fails(EXIT_CONFIG)
    assert "lake.sqlite" in stderr, stderr
    assert (tmp_path / "lake.sqlite").read_text().startswith("this is not")


def test_a_lake_table_of_somebody_else(mirror):
    m = mirror(TABLE)
    m.lake.sql("CREATE SCHEMA public")
    m.lake.sql("CREATE TABLE public.t (mine INTEGER)")
    m.lake.sql("INSERT INTO public.t VALUES (42)")
    stderr = m.fails(EXIT_CONFIG)
    assert "public" in stderr and '"t"' in stderr and "schema" in stderr, stderr
    assert m.rows("t") == [(42,)]
    m.flow.content["destinations"][0]["options"]["schema"] = "mirrored"
    m.flow.write()
    m.sync()
    assert m.lake.sql("SELECT * FROM mirrored.t") == [(1, "x")]


# --- secrets ---


@pytest.mark.parametrize("args", [["--until-caught-up"], ["--until-caught-up", "--json"]], ids=["text", "json"])
@pytest.mark.parametrize(
    "dsn",
    [
        "host=/nowhere dbname=x user=u password=hunter2secret",
        "host=/nowhere password='hunter2 secret' dbname=x",
        "postgresql://u:hunter2secret@/x?host=/nowhere",
        "postgresql://u@/x?host=/nowhere&password=hunter2secret&sslpassword=hunter2too",
        "host=/nowhere password=hunter2secret unclosed='",
        "postgresql://u:hunter2/secret@localhost/x",
        "postgresql://u:1/hunter2@localhost/x",
        "postgresql://u:x@hunter2@localhost/x",
    ],
    ids=["keywords", "quoted", "uri", "uri_query", "malformed", "bare_slash", "bare_slash_behind_digits", "bare_at"],
)
def test_secrets_are_never_shown(mirror_sqlite, dsn, args):
    m = mirror_sqlite(config={"give_up_after": "300ms"})
    m.flow.content["source"]["options"]["dsn"] = dsn
    m.flow.content["destinations"][0]["options"]["catalog"] = "postgres:" + dsn
    m.flow.write()
    run = m.flow.start(*args)
    assert run.wait(60) in (EXIT_CONFIG, EXIT_RETRY), run.describe()
    assert "hunter2" not in run.stderr + run.stdout, run.stderr + run.stdout
    assert yaml.safe_load(m.flow.path.read_text())["source"]["options"]["dsn"] == dsn
