"""Positions mean something only on the server they come from: what does not belong together stops, each with its sentence."""

import os
import shutil
from pathlib import Path

import pytest

from lib.flow import EXIT_CONFIG
from lib.lake import LakeHome
from lib.pg import Postgres

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'copied')"


@pytest.fixture
def streaming(make_mirror, database, sqlite_lake):
    """A mirror that has streamed a little."""
    m = make_mirror(database, sqlite_lake, TABLE)
    m.sync()
    m.sql("INSERT INTO t VALUES (2, 'streamed')")
    m.sync()
    m.same("t")
    let_go(m)
    return m


def let_go(m, slot="shop"):
    """The server's process of the run that has ended gives the slot back at its own pace."""
    held = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{slot}' AND active"
    m.wait_until(lambda: not m.database.query(held), 30, f"slot {slot} to be free")


def goes_on_with_accept_gap(m, lost):
    """With --accept-gap it streams on, warns, and only the rows of the gap are missing."""
    run = m.sync("--accept-gap")
    assert "warn" in run.stderr and "gap" in run.stderr.lower(), run.stderr
    m.sql("INSERT INTO t VALUES (1000, 'after')", "UPDATE t SET v = 'changed' WHERE id = 1")
    m.sync()
    m.same("t", where=f"id NOT IN ({lost})")
    assert m.lake.value(f"SELECT count(*) FROM public.t WHERE id IN ({lost})") == 0


def test_slot_dropped(streaming):
    m = streaming
    m.database.query("SELECT pg_drop_replication_slot('shop')")
    m.sql("INSERT INTO t VALUES (3, 'lost')")
    stderr = m.refuses(EXIT_CONFIG)
    assert "slot" in stderr and "shop" in stderr and ("gone" in stderr or "missing" in stderr or "does not exist" in stderr), stderr
    assert m.database.server.confirmed_lsn("shop") is None, "a missing slot must not be made again"
    goes_on_with_accept_gap(m, 3)


def test_slot_made_again(streaming):
    m = streaming
    m.database.query("SELECT pg_drop_replication_slot('shop')")
    m.sql("INSERT INTO t VALUES (3, 'lost')")
    m.database.query("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')")
    stderr = m.refuses(EXIT_CONFIG)
    assert "made again" in stderr and "--accept-gap" in stderr, stderr
    goes_on_with_accept_gap(m, 3)


def test_slot_advanced_by_hand(streaming):
    m = streaming
    m.sql("INSERT INTO t VALUES (3, 'lost')")
    m.database.query("SELECT pg_replication_slot_advance('shop', pg_current_wal_lsn())")
    stderr = m.refuses(EXIT_CONFIG)
    assert "advanced" in stderr and "--accept-gap" in stderr, stderr
    goes_on_with_accept_gap(m, 3)


def test_catalog_restored_to_an_older_state(streaming, tmp_path):
    m = streaming
    m.close_lake()
    path = m.home.catalog.removeprefix("sqlite:")
    shutil.copy(path, tmp_path / "backup.sqlite")
    m.sql("INSERT INTO t VALUES (3, 'lost')")
    m.sync()
    m.close_lake()
    for leftover in (path, path + "-wal", path + "-shm"):
        Path(leftover).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup.sqlite", path)
    stderr = m.refuses(EXIT_CONFIG)
    assert "destination was restored" in stderr and "--accept-gap" in stderr, stderr
    goes_on_with_accept_gap(m, 3)


def test_source_restored_to_an_older_state(make_mirror, own_server, sqlite_lake):
    own_server.sql("SELECT 1")
    database = own_server.database("shop")
    m = make_mirror(database, sqlite_lake, TABLE)
    m.sync()
    m.sql("INSERT INTO t VALUES (2, 'kept')")
    m.sync()
    own_server.stop()
    shutil.copytree(own_server.data, own_server.folder / "backup", symlinks=True)
    own_server.start()
    m.sql("INSERT INTO t SELECT i, repeat('lost', 1000) FROM generate_series(10, 500) i")
    m.sync()
    own_server.stop()
    shutil.rmtree(own_server.data)
    (own_server.folder / "backup").rename(own_server.data)
    chown_like(own_server)
    own_server.start()
    stderr = m.refuses(EXIT_CONFIG)
    assert "source" in stderr and "older" in stderr and "restored" in stderr, stderr
    assert "--accept-gap" not in stderr, stderr
    m.refuses(EXIT_CONFIG, "--accept-gap")  # rows that the source lost are no gap


def chown_like(server):
    """Gives a copied data folder to the user the server runs as."""
    owner = os.stat(server.folder)
    for folder, folders, files in os.walk(server.data):
        for name in [".", *files]:
            os.chown(os.path.join(folder, name), owner.st_uid, owner.st_gid, follow_symlinks=False)


def test_another_server(streaming, make_mirror):
    m = streaming
    with Postgres(fresh=True) as other:
        database = other.database(m.database.name)
        database.sql(TABLE)
        database.sql("CREATE PUBLICATION shop FOR ALL TABLES")
        database.query("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')")
        m.flow.content["source"]["options"]["dsn"] = database.dsn
        m.flow.write()
        stderr = m.refuses(EXIT_CONFIG)
        assert "another server" in stderr, stderr
        m.refuses(EXIT_CONFIG, "--accept-gap")


def test_another_database(streaming, server):
    m = streaming
    database = server.database(m.database.name + "_other")
    database.sql(TABLE)
    database.sql("CREATE PUBLICATION shop FOR ALL TABLES")
    m.flow.content["source"]["options"]["dsn"] = database.dsn
    m.flow.write()
    stderr = m.refuses(EXIT_CONFIG)
    assert "another database" in stderr, stderr


def test_another_slot(streaming):
    m = streaming
    m.flow.content["source"]["options"]["slot"] = "other"
    m.flow.write()
    stderr = m.refuses(EXIT_CONFIG)
    assert "another slot" in stderr and "other" in stderr, stderr


def test_a_start_below_the_stored_position(streaming):
    """start_lsn counts only while the destination has no position."""
    m = streaming
    m.flow.content["source"]["options"]["start_lsn"] = "0/1"
    m.flow.write()
    run = m.flow.start("--until-caught-up")
    run.wait()
    m.same("t")
    assert run.code in (0, EXIT_CONFIG), run.describe()


def test_the_sentences_differ(make_mirror, server, tmp_path):
    """The same flow, broken in four ways, says four things."""
    sentences = {}
    for kind in ("dropped", "remade", "advanced"):
        database = server.database(f"sentences_{kind}")
        home = LakeHome(f"sqlite:{tmp_path}/{kind}.sqlite", tmp_path / kind)
        m = make_mirror(database, home, TABLE, name=f"flow_{kind}")
        m.sync()
        slot = f"flow_{kind}"
        let_go(m, slot)
        m.sql("INSERT INTO t VALUES (3, 'lost')")
        if kind == "advanced":
            database.query(f"SELECT pg_replication_slot_advance('{slot}', pg_current_wal_lsn())")
        else:
            database.query(f"SELECT pg_drop_replication_slot('{slot}')")
        if kind == "remade":
            database.query(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
        error = [line for line in m.fails(EXIT_CONFIG).splitlines() if "error:" in line]
        sentences[kind] = "".join(c for c in error[-1].replace(kind, "") if not c.isdigit())
        database.drop_slots()
        home.close()
    assert len(set(sentences.values())) == 3, sentences
