"""Every option of the page's list of source options has an effect (issue 5, "Purpose"): what is not shown elsewhere is shown here."""

import time

import pytest

from lib.flow import EXIT_CONFIG
from lib.pg import Postgres

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i"
STATE = "SELECT flow_id, slot_name, publication_name, state FROM {}"


def published(m):
    return [row[0] for row in m.database.query("SELECT tablename FROM pg_publication_tables WHERE pubname = 'shop' ORDER BY 1")]


def schemas(m):
    return [row[0] for row in m.database.query("SELECT nspname FROM pg_namespace WHERE nspname IN ('ductstream', 'aside')")]


def test_state_is_where_it_is_wanted(mirror_sqlite):
    """state_schema, state_table, flow_id."""
    m = mirror_sqlite(TABLE, source={"state_schema": "aside", "state_table": "places", "flow_id": "stable"})
    m.sync()
    assert schemas(m) == ["aside"]
    assert m.database.query(STATE.format("aside.places")) == [("stable", "shop", "shop", "stopped")]
    m.sql("INSERT INTO t VALUES (100, 'x')")
    m.sync()
    assert m.database.value("SELECT last_lsn > slot_lsn AND last_ack_at IS NOT NULL FROM aside.places") is True


def test_no_state(mirror_sqlite):
    """ensure_state: false."""
    m = mirror_sqlite(TABLE, source={"ensure_state": False})
    m.sync()
    assert schemas(m) == []
    m.same("t")


OTHER = "CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1); CREATE PUBLICATION shop FOR TABLE t"


@pytest.mark.parametrize(("mode", "wanted"), [({}, ["other", "t"]), ({"sync_publication_mode": "sync"}, ["other"])], ids=["add", "sync"])
def test_publication_is_brought_in_line(mirror_sqlite, mode, wanted):
    m = mirror_sqlite(TABLE, OTHER, source={"sync_publication": True, "publication_tables": "public.other", **mode})
    m.sync()
    assert published(m) == wanted
    m.same(*wanted)


def test_publication_is_left_alone(mirror_sqlite):
    """sync_publication is false unless set; for one of all tables it says that it does nothing."""
    m = mirror_sqlite(TABLE, OTHER, source={"publication_tables": "public.other"})
    m.sync()
    assert published(m) == ["t"]
    m.sql("DROP PUBLICATION shop", "CREATE PUBLICATION shop FOR ALL TABLES")
    m.flow.content["source"]["options"]["sync_publication"] = True
    m.flow.write()
    assert "sync_publication changes nothing" in m.flow.run_until_caught_up("--log-level", "info").stderr


def test_publication_is_made(mirror_sqlite):
    """ensure_publication, publication_tables and publication_schemas: named tables and whole schemas, and not by itself when that is off."""
    m = mirror_sqlite(TABLE, "CREATE TABLE other (id int PRIMARY KEY); CREATE SCHEMA side; CREATE TABLE side.more (id int PRIMARY KEY)",
                      source={"ensure_publication": False})
    assert "ensure_publication=true" in m.fails(EXIT_CONFIG)
    m.flow.content["source"]["options"] |= {"ensure_publication": True, "publication_tables": "public.t", "publication_schemas": "side"}
    m.flow.write()
    m.sync()
    assert published(m) == ["more", "t"]


def test_slot_is_not_made(mirror_sqlite):
    m = mirror_sqlite(TABLE, source={"create_slot": False})
    assert "create_slot" in m.fails(EXIT_CONFIG)
    assert m.database.query("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []


def test_types_are_not_looked_up(mirror_sqlite):
    """resolve_types: false. What only pg_type could tell is text."""
    m = mirror_sqlite("CREATE TYPE pair AS (a int, b text); CREATE TABLE t (id int PRIMARY KEY, p pair); INSERT INTO t VALUES (1, '(1,x)')",
                      source={"resolve_types": False})
    m.sync()
    m.sql("INSERT INTO t VALUES (2, '(2,y)')")
    m.sync()
    assert m.lake.sql("SELECT typeof(p), p FROM public.t ORDER BY id") == [("VARCHAR", "(1,x)"), ("VARCHAR", "(2,y)")]


@pytest.mark.parametrize(("validates", "said"), [(True, "ALTER SYSTEM SET wal_level"), (False, "wal_level")])
def test_the_server_is_looked_at(make_mirror, sqlite_lake, validates, said):
    """validate_replication: a sentence that says what to do; without it what the server says."""
    with Postgres(settings={"wal_level": "replica"}) as server:
        m = make_mirror(server.database("shop"), sqlite_lake, TABLE, source={"validate_replication": validates})
        run = m.flow.start("--until-caught-up")
        assert run.wait(60) != 0 and said in run.stderr
        assert validates == ("managed services" in run.stderr)


def position(m):
    return m.catalog("SELECT lsn FROM {}ductstream_checkpoint")[0][0]


@pytest.mark.parametrize("emits", [True, False])
def test_positions_without_rows(mirror_sqlite, emits):
    """emit_empty: log of others moves the position at once; without it only now and then."""
    m = mirror_sqlite(TABLE, "CREATE TABLE elsewhere (id int)", "CREATE PUBLICATION shop FOR TABLE t", source={"emit_empty": emits})
    run = m.flow.start()
    m.wait_rows(run, "t", 20)
    before = position(m)
    m.sql("INSERT INTO elsewhere SELECT generate_series(1, 1000)")
    if emits:
        run.wait_for(lambda: position(m) != before, 8, "the position to move")
    else:
        m.sql("INSERT INTO t VALUES (50, 'x')")  # a commit of rows moves it
        m.wait_rows(run, "t", 21)
        here = position(m)
        m.sql("INSERT INTO elsewhere SELECT generate_series(1, 1000)")
        m.sql("UPDATE elsewhere SET id = id + 1")
        until = time.monotonic() + 3
        m.wait_until(lambda: time.monotonic() > until or position(m) != here, 5, "three seconds")
        assert position(m) == here
    assert run.terminate() == 0


@pytest.mark.parametrize(("interval", "most_s"), [("200ms", 1.5)])
def test_the_server_hears_of_us(mirror_sqlite, interval, most_s):
    """status_interval: an idle stream reports that often."""
    m = mirror_sqlite(TABLE, source={"status_interval": interval})
    run = m.flow.start()
    m.wait_rows(run, "t", 20)
    query = "SELECT a.pid, r.reply_time FROM pg_stat_replication r JOIN pg_replication_slots a ON a.active_pid = r.pid WHERE a.slot_name = 'shop' AND a.database = current_database()"
    run.wait_for(lambda: m.database.query(query.replace("a.pid", "r.pid")), 20, "the stream")
    seen = set()

    def heard():
        seen.update(row[1] for row in m.database.query(query.replace("a.pid", "r.pid")))
        return len(seen) > 5

    begun = time.monotonic()
    run.wait_for(heard, 15, "six reports")
    assert (max(seen) - min(seen)).total_seconds() / (len(seen) - 1) < most_s and time.monotonic() - begun < 15
    assert run.terminate() == 0


def commits(m):
    return len(m.snapshots())


@pytest.mark.parametrize(("size", "few"), [(1, False), (100000, True)])
def test_records_in_a_batch(mirror_sqlite, size, few):
    """batch_size: transactions that wait are handed on one by one, or together; each hand-over can be a commit."""
    m = mirror_sqlite(TABLE, source={"batch_size": size, "batch_timeout": "1h"}, destination={"flush_interval": "0s", "flush_rows": 1})
    m.sync()
    before = commits(m)
    for i in range(60):
        m.sql(f"INSERT INTO t VALUES ({1000 + i}, 'x')")
    m.sync()
    made = commits(m) - before
    assert made < 20 if few else made > 40, made
    m.same("t")
