"""One slot, several destinations: the same in all of them (issue 5, point 9). Under load and kills: fault/test_fan_out_faults.py."""

import re
import sqlite3
import urllib.request
from contextlib import closing

import pytest

from lib.cli import ductstream
from lib.compare import assert_same
from lib.lake import LakeHome
from lib.pause import Pause
from lib.service import Service, flow_message
from lib.wait import WaitTimeout

TABLES = "CREATE TABLE item (id int PRIMARY KEY, name text, amount int)"


@pytest.fixture
def second_lake(tmp_path):
    home = LakeHome(f"sqlite:{tmp_path}/second.sqlite", tmp_path / "second-data")
    yield home
    home.close()


def same(mirror, homes, *tables):
    for home in homes:
        assert_same(mirror.database, home.open(), *tables)


def test_the_same_in_both(mirror_postgres, second_lake):
    """Copy, changes, a column, a table that comes later."""
    mirror = mirror_postgres(TABLES, "INSERT INTO item SELECT g, 'n' || g, g FROM generate_series(1, 5000) g")
    options = {"catalog": second_lake.catalog, "data_path": str(second_lake.data_path)}
    mirror.flow.content["destinations"].append({"name": "second", "type": "ducklake", "options": options})
    mirror.flow.write()
    homes = (mirror.home, second_lake)
    mirror.sync()
    same(mirror, homes, "public.item")
    mirror.sql(
        "UPDATE item SET amount = amount + 1 WHERE id % 3 = 0",
        "DELETE FROM item WHERE id % 7 = 0",
        "ALTER TABLE item ADD COLUMN more text DEFAULT 'x'",
        "INSERT INTO item SELECT g, 'n', g, 'y' FROM generate_series(6000, 6100) g",
        "CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later SELECT generate_series(1, 100)",
    )
    mirror.sync()
    mirror.sql("INSERT INTO later VALUES (101)", "UPDATE item SET more = NULL WHERE id % 2 = 0")
    mirror.sync()
    same(mirror, homes, "public.item", "public.later")


def another(home):
    return {"name": "second", "type": "ducklake", "options": {"catalog": home.catalog, "data_path": str(home.data_path)}}


@pytest.mark.parametrize("parallelism", [1, 2])
def test_parallelism(mirror_postgres, second_lake, tmp_path, parallelism):
    """While one destination stands in its commit, the other one makes its own with parallelism 2, and waits with 1."""
    mirror = mirror_postgres(TABLES)
    mirror.flow.content["destinations"].append(another(second_lake))
    mirror.flow.content["parallelism"] = parallelism
    mirror.flow.write()
    mirror.sync()
    homes = (mirror.home, second_lake)
    pause = Pause(tmp_path, "commit-begin")
    run = mirror.flow.start(env=pause.env)
    mirror.sql("INSERT INTO item VALUES (1)")
    pause.wait(run)

    lakes = [home.open() for home in homes]

    def done():
        return sum(lake.count("public.item") for lake in lakes)

    if parallelism == 2:
        run.wait_for(lambda: done() == 1, 30, "the other one to commit")
    else:
        with pytest.raises(WaitTimeout):
            run.wait_for(done, 2, "none to commit")
    pause.release()
    run.wait_for(lambda: done() == 2, 30, "both to commit")
    assert run.terminate() == 0, run.describe()


def places(tmp_path, database):
    """Kinds of destinations, each twice in one place under two names of it."""
    (tmp_path / "link").symlink_to(tmp_path)
    dsn = database.dsn
    return [
        ("ducklake", "the same catalog", *({"catalog": f"sqlite:{at}", "data_path": f"{tmp_path}/{n}"}
                                          for n, at in enumerate((f"{tmp_path}/a.sqlite", f"{tmp_path}/link/x/../a.sqlite")))),
        ("ducklake", "the same catalog", {"catalog": f"postgres:{dsn}", "data_path": f"{tmp_path}/1"},
         {"catalog": f"postgres:{dsn} application_name=x", "data_path": f"{tmp_path}/2"}),
        ("ducklake", "the same data_path", {"catalog": f"sqlite:{tmp_path}/a.sqlite", "data_path": f"{tmp_path}/data"},
         {"catalog": f"sqlite:{tmp_path}/b.sqlite", "data_path": f"{tmp_path}/./data/"}),
        ("duckdb", "the same database file", {"dsn": f"{tmp_path}/w.duckdb"}, {"dsn": f"{tmp_path}/link/w.duckdb"}),
        ("pgstream", "the same stream", {"dsn": dsn, "stream": "orders"}, {"dsn": f"{dsn} application_name=x", "stream": "orders"}),
    ]  # fmt: skip


def test_two_in_one_place(mirror_sqlite, tmp_path):
    """Two destinations that would write to one place are refused before anything runs: by `check` and `run`, naming both."""
    mirror = mirror_sqlite(TABLES)
    for kind, what, *options in places(tmp_path, mirror.database):
        named = zip(("one", "two"), options, strict=True)
        mirror.flow.content["destinations"] = [{"name": name, "type": kind, "options": o} for name, o in named]
        mirror.flow.write()
        wanted = f'"two" is where destination "one" is ({what})'
        assert wanted in mirror.fails(2)
        code, _, err = ductstream("check", str(mirror.flow.path))
        assert code == 2 and wanted in err


def test_two_in_one_place_of_the_service(mirror_sqlite, tmp_path):
    """Likewise by CreateFlow and UpdateFlow."""
    mirror = mirror_sqlite(TABLES)
    types = {"ducklake": 14, "duckdb": 11, "pgstream": 8}
    with Service(tmp_path / "service") as service:
        for n, (kind, what, *options) in enumerate(places(tmp_path, mirror.database)):
            flow = flow_message(mirror.database, mirror.home, flow_id=f"place{n}")
            both = [{"name": name, "type": types[kind], "options": o} for name, o in zip(("one", "two"), options, strict=True)]
            code, message = service.fails("CreateFlow", flow={**flow, "destinations": both})
            assert code == "INVALID_ARGUMENT", message
            assert f'flow.destinations[1]: "two" is where destination "one" is ({what})' in message
            service.call("CreateFlow", flow={**flow, "destinations": both[:1]})
            assert service.fails("UpdateFlow", flow={**flow, "destinations": both})[0] == "INVALID_ARGUMENT"


def test_two_beside_each_other(mirror_postgres, tmp_path):
    """Two catalogs in one database, by metadata_schema, are two places."""
    mirror = mirror_postgres(TABLES, "INSERT INTO item VALUES (1)")
    options = {"catalog": mirror.home.catalog, "metadata_schema": "other", "data_path": str(tmp_path / "other-data")}
    mirror.flow.content["destinations"].append({"name": "second", "type": "ducklake", "options": options})
    mirror.flow.write()
    mirror.sync()


def test_two_sources_of_one_flow(mirror_postgres, second_lake, databases):
    """A destination that has changes of another source does not follow this one, whichever is further."""
    other = databases.take()
    mirror = mirror_postgres(TABLES, "INSERT INTO item VALUES (1)")
    mirror.sync()
    first = mirror.flow.content["destinations"][0]
    mirror.flow.content["destinations"] = [another(second_lake)]
    mirror.flow.content["source"]["options"].update(dsn=other.dsn, slot="other")
    mirror.flow.write()
    other.sql(TABLES)
    mirror.sync()
    for order in (1, -1):
        mirror.flow.content["destinations"] = [first, another(second_lake)][::order]
        mirror.flow.write()
        err = mirror.fails(2)
        assert "have changes of two sources" in err and '"lake"' in err and '"second"' in err
    databases.give_back(other)


# --- what the service tells


def full_outbox_message(database, home, second, tmp_path, **config):
    flow = flow_message(database, home, destination={"flush_interval": "20ms"}, source={"status_interval": "200ms"})
    options = {"catalog": second.catalog, "data_path": str(second.data_path)}
    flow["destinations"].append({"name": "second", "type": 14, "options": options})
    flow["config"] = {"ack_policy": 2, "outbox_dir": str(tmp_path / "outbox"), "outbox_limit": "1MiB", **config}
    return flow


def metric(service, name):
    """Values of a metric by its destination and state."""
    text = urllib.request.urlopen(f"http://{service.server.addresses('http')[0]}/metrics", timeout=10).read().decode()
    found = re.findall(rf'^{name}{{flow="shop",destination="(\w+)"(?:,state="(\w+)")?}} (\S+)$', text, re.MULTILINE)
    return {(destination, state): float(value) for destination, state, value in found}


def events(service):
    with closing(sqlite3.connect(service.state)) as connection:
        return connection.execute("SELECT from_state, to_state, reason FROM flow_state_events ORDER BY id").fetchall()


@pytest.mark.parametrize("policy", [1, 2])
def test_told_by_the_service(database, postgres_lake, second_lake, tmp_path, policy):
    """Past the outbox limit the flow's policy happens (1 never: hold, 2 on_retry_exhaustion: give up), and GetFlow, transitions, audit log and metrics
    tell it; a flow that is resumed gives what was given up a new copy."""
    database.sql(TABLES + "; INSERT INTO item SELECT generate_series(1, 10); CREATE PUBLICATION shop FOR ALL TABLES")
    state, told = (("full", "has a full outbox"), ("given_up", "is given up: its outbox is full"))[policy - 1]
    with Service(tmp_path / "service", HTTP_LISTEN="127.0.0.1:0") as service:
        message = full_outbox_message(database, postgres_lake, second_lake, tmp_path, give_up_policy=policy)
        assert service.call("CreateFlow", flow=message, start_immediately=True).config.outbox_limit == "1MiB"
        worker = service.worker("shop")
        worker.wait_for(lambda: metric(service, "ductstream_destination_state").get(("second", "streaming")) == 1, 60, "a start")
        with closing(sqlite3.connect(second_lake.catalog.removeprefix("sqlite:"), timeout=30, isolation_level=None)) as lock:
            lock.execute("BEGIN IMMEDIATE")
            for n in range(40):
                database.sql(f"INSERT INTO item SELECT g, repeat('x', 500) FROM generate_series({n * 100 + 100}, {n * 100 + 199}) g")
            worker.wait_for(lambda: f'destination "second" {told}' in service.call("GetFlow", flow_id="shop").reason, 60, "a reason")
            worker.wait_for(lambda: metric(service, "ductstream_destination_state").get(("second", state)) == 1, 30, "a metric")
            assert metric(service, "ductstream_destination_state")[("lake", "streaming")] == 1

            def is_ahead():
                positions = metric(service, "ductstream_destination_position_bytes")
                return positions[("lake", "")] > positions[("second", "")]

            worker.wait_for(is_ahead, 30, "the first one to commit, and to be told")
            if policy == 1:
                worker.wait_for(lambda: metric(service, "ductstream_destination_outbox_bytes")[("second", "")] > 0, 30, "a full outbox")
            assert any(a == b == "running" and told in reason for a, b, reason in events(service))
            assert service.state_of("shop") == "running"
        with closing(sqlite3.connect(service.state)) as connection:
            assert ("flow.note",) in connection.execute("SELECT action FROM audit_log WHERE object = 'shop'").fetchall()
        if policy == 2:
            service.call("PauseFlow", flow_id="shop")
            worker.expect(0)
            service.call("ResumeFlow", flow_id="shop")
            worker = service.worker("shop")
        worker.wait_for(lambda: metric(service, "ductstream_destination_state").get(("second", "streaming")) == 1, 60, "its return")
        database.sql("UPDATE item SET amount = 1")
        for lake in (postgres_lake.open(), second_lake.open()):
            changed = "SELECT count(*) FROM lake.public.item WHERE amount = 1"
            worker.wait_for(lambda lake=lake: lake.value(changed) == 4010, 60, "the last change")
        assert worker.terminate() == 0
    for home in (postgres_lake, second_lake):
        assert_same(database, home.open(), "public.item")


def test_a_flow_that_gives_up(database, sqlite_lake, tmp_path):
    """give_up_policy on_retry_exhaustion of a flow with one destination: failed with the reason; resumed, it goes on."""
    database.sql(TABLES + "; INSERT INTO item VALUES (1); CREATE PUBLICATION shop FOR ALL TABLES")
    with Service(tmp_path / "service") as service:
        message = flow_message(database, sqlite_lake, config={"give_up_policy": 2, "give_up_after": "1s"})
        dsn = message["source"]["options"]["dsn"]
        message["source"]["options"]["dsn"] = "host=127.0.0.1 port=1 dbname=none"
        service.call("CreateFlow", flow=message, start_immediately=True)
        service.worker("shop").expect(4)
        shown = service.call("GetFlow", flow_id="shop")
        assert shown.state == 5 and "given up after" in shown.reason
        message["source"]["options"]["dsn"] = dsn
        message["config"]["give_up_after"] = "60s"  # a slot is not free the moment that its reader has ended
        service.call("UpdateFlow", flow=message)
        service.call("ResumeFlow", flow_id="shop")
        worker = service.worker("shop")
        worker.terminate()
        service.worker("shop", "-max-empty-reads", "1").expect(0)
    assert_same(database, sqlite_lake.open(), "public.item")


def test_a_destination_that_was_taken_out_and_comes_back(database, sqlite_lake, second_lake, tmp_path):
    """The slot is past it: the flow stops and says which one it is, and the way on of the page goes on."""
    database.sql(TABLES + "; INSERT INTO item VALUES (1)")

    def ids(home):
        return home.open().sql("SELECT list(id ORDER BY id) FROM lake.public.item")[0][0]

    with Service(tmp_path / "service") as service:
        one = flow_message(database, sqlite_lake)
        both = flow_message(database, sqlite_lake)
        options = {"catalog": second_lake.catalog, "data_path": str(second_lake.data_path)}
        both["destinations"].append({**both["destinations"][0], "name": "second", "options": options})
        service.call("CreateFlow", flow=both, start_immediately=True)
        for n, flow in enumerate((both, one), 2):
            service.call("UpdateFlow", flow=flow)
            database.sql(f"INSERT INTO item VALUES ({n})")
            service.worker("shop", "-max-empty-reads", "1").expect(0)
        service.call("UpdateFlow", flow=both)
        service.worker("shop", "-max-empty-reads", "1").expect(2)
        reason = service.call("GetFlow", flow_id="shop").reason
        assert 'destination "second", which is behind the others' in reason and "option accept_gap" in reason
        both["source"]["options"]["accept_gap"] = "true"
        service.call("UpdateFlow", flow=both)
        service.call("ResumeFlow", flow_id="shop")
        database.sql("INSERT INTO item VALUES (4)")
        service.worker("shop", "-max-empty-reads", "1").expect(0)
    assert ids(sqlite_lake) == [1, 2, 3, 4] and ids(second_lake) == [1, 2, 4]
