"""FlowService, CheckpointService and DDLService as a client sees them (issue 5, points 1, 2 and 3)."""

import socket
import sqlite3
import threading
import time
from contextlib import closing, suppress

import grpc
import pytest

from lib.api import Client, Server
from lib.cli import ductstream, lines
from lib.service import DUCKLAKE, POSTGRES, STATES, Service, flow_message

SECRET = "hunter2-and-no-more"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("service")) as running:
        yield running


def a_flow(flow_id, **more):
    """A flow that need not run."""
    return {
        "id": flow_id,
        "source": {
            "type": POSTGRES,
            "options": {"dsn": f"host=db user=u password={SECRET}", "slot": flow_id.replace("-", "_"), "publication": "p"},
        },
        "destinations": [
            {"name": "lake", "type": DUCKLAKE, "options": {"catalog": f"postgres:host=c password={SECRET}", "data_path": "/data"}}
        ],
        **more,
    }


def audit(service, object_id):
    with closing(sqlite3.connect(service.state)) as connection:
        return connection.execute("SELECT action, actor, via FROM audit_log WHERE object = ? ORDER BY id", (object_id,)).fetchall()


# --- create, get, list


def test_create_gives_an_id_and_begins_as_created(service):
    flow = a_flow("x")
    del flow["id"]
    made = service.call("CreateFlow", flow=flow)
    assert len(made.id) == 36 and made.name == made.id and STATES[made.state] == "created" and made.parallelism == 1
    assert service.call("GetFlow", flow_id=made.id) == made
    assert audit(service, made.id) == [("flow.create", "local", "grpc")]


def test_create_starts_at_once(service):
    made = service.call("CreateFlow", flow=a_flow("at-once"), start_immediately=True)
    assert STATES[made.state] == "running"
    service.call("PauseFlow", flow_id="at-once")


def test_create_keeps_every_field(service):
    config = {"ack_policy": 1, "primary_destination": "lake", "failure_mode": 1, "give_up_policy": 2, "ddl": {"gate": True}}
    made = service.call("CreateFlow", flow=a_flow("fields", name="Fields of a flow", wire_format=5, parallelism=3, config=config))
    assert (made.name, made.wire_format, made.parallelism) == ("Fields of a flow", 5, 3)
    assert made.config.primary_destination == "lake" and made.config.give_up_policy == 2
    assert made.config.ddl.gate and not made.config.ddl.HasField("auto_apply")


def test_create_refuses(service):
    service.call("CreateFlow", flow=a_flow("twice"))
    assert service.fails("CreateFlow", flow=a_flow("twice")) == ("ALREADY_EXISTS", 'flow.id: there is a flow "twice" already')
    assert service.fails("CreateFlow") == ("INVALID_ARGUMENT", "flow: is missing")
    code, message = service.fails("CreateFlow", flow=a_flow("running", state=2))
    assert code == "INVALID_ARGUMENT" and message.startswith("flow.state: ")
    assert service.fails("GetFlow", flow_id="running")[0] == "NOT_FOUND"
    code, message = service.fails("CreateFlow", flow=a_flow("a b"))
    assert code == "INVALID_ARGUMENT" and message.startswith('flow.id: "a b" is no valid id')


def test_create_names_connectors_that_are_missing(service):
    for number, name in ((3, "s3"), (4, "kafka"), (5, "http"), (2, "snowflake"), (13, "clickhouse"), (9, "snowpipe")):
        flow = a_flow("later")
        flow["destinations"][0]["type"] = number
        code, message = service.fails("CreateFlow", flow=flow)
        assert code == "INVALID_ARGUMENT"
        assert f'flow.destinations[0].type: type "{name}" is not built into this version yet: there are ducklake, ' in message
    code, message = service.fails("CreateFlow", flow=a_flow("later", wire_format=2))
    assert code == "INVALID_ARGUMENT" and 'flow.wire_format: this build has no encoder for "parquet"' in message
    assert service.fails("GetFlow", flow_id="later")[0] == "NOT_FOUND"


@pytest.mark.parametrize(("own", "flow", "fits"), [("json", 1, False), ("arrow", 1, True), ("json", 5, True), ("json", 0, True), ("", 1, True), ("avro", 0, False)])
def test_a_format_that_differs_is_refused(service, own, flow, fits):
    """Format order (issue 5, point 10): one that a connector names must be the flow's, while DUCTSTREAM_WIRE_ENFORCE is on."""
    wanted = a_flow("formats", wire_format=flow)
    wanted["destinations"] = [{"name": "s", "type": 8, "options": {"dsn": "dbname=x", **({"format": own} if own else {})}}]
    if fits:
        service.call("CreateFlow", flow=wanted)
        service.call("DeleteFlow", flow_id="formats")
    else:
        code, message = service.fails("CreateFlow", flow=wanted)
        assert code == "INVALID_ARGUMENT" and message.startswith("flow.destinations[0].options.format: "), message
        assert own in message


def test_all_findings_at_once(service):
    flow = a_flow("findings", parallelism=-1)
    flow["source"]["options"]["slto"] = "x"
    flow["source"]["options"]["batch_size"] = "0"
    flow["destinations"][0]["options"]["flush_interval"] = "soon"
    code, message = service.fails("CreateFlow", flow=flow)
    assert code == "INVALID_ARGUMENT"
    assert 'flow.source.options.slto: unknown option "slto": did you mean "slot"?' in message
    assert 'flow.source.options.batch_size: "0" is outside 1..10000000' in message
    assert 'flow.destinations[0].options.flush_interval: "soon" is not a duration' in message
    assert 'flow.parallelism: parallelism "-1" is outside 1..256' in message
    assert service.fails("GetFlow", flow_id="findings")[0] == "NOT_FOUND"


def test_list_pages(service):
    for i in range(5):
        service.call("CreateFlow", flow=a_flow(f"page-{i}"))
    seen, token, pages = [], "", 0
    while True:
        page = service.call("ListFlows", page_size=2, page_token=token)
        assert len(page.flows) <= 2
        seen += [flow.id for flow in page.flows]
        token, pages = page.next_page_token, pages + 1
        if not token:
            break
    assert seen == sorted(set(seen)) and {f"page-{i}" for i in range(5)} <= set(seen) and pages >= 3
    assert [flow.id for flow in service.call("ListFlows").flows] == seen
    assert service.fails("ListFlows", page_size=-1)[0] == "INVALID_ARGUMENT"
    assert service.fails("ListFlows", page_token="zz")[0] == "INVALID_ARGUMENT"


# --- update


def test_update_replaces_everything_but_the_state(service):
    service.call("CreateFlow", flow=a_flow("update"), start_immediately=True)
    changed = a_flow("update", name="renamed", wire_format=5, state=5)
    changed["source"]["options"]["batch_size"] = "7"
    made = service.call("UpdateFlow", flow=changed)
    assert STATES[made.state] == "running" and made.name == "renamed" and made.source.options["batch_size"] == "7"
    assert service.fails("UpdateFlow", flow=a_flow("nobody"))[0] == "NOT_FOUND"
    changed["source"]["options"]["slot"] = "another"
    code, message = service.fails("UpdateFlow", flow=changed)
    assert code == "FAILED_PRECONDITION" and "flow.source.options.slot" in message
    changed["source"]["options"]["slot"] = "update"
    changed["source"]["options"]["batch_size"] = "x"
    assert service.fails("UpdateFlow", flow=changed)[0] == "INVALID_ARGUMENT"
    assert service.call("GetFlow", flow_id="update").source.options["batch_size"] == "7"
    service.call("PauseFlow", flow_id="update")
    assert [row[0] for row in audit(service, "update")] == ["flow.create", "flow.update", "flow.move"]


def test_an_update_that_changes_nothing_is_none(service):
    service.call("CreateFlow", flow=a_flow("same"))
    service.call("UpdateFlow", flow=a_flow("same"))
    with closing(sqlite3.connect(service.state)) as connection:
        assert connection.execute("SELECT revision FROM flows WHERE id = 'same'").fetchone() == (1,)


# --- secrets


def test_secrets_are_shown_nowhere(service):
    made = service.call("CreateFlow", flow=a_flow("secret"))
    assert made.source.options["dsn"] == "host=db user=u password=***"
    assert made.destinations[0].options["catalog"] == "postgres:host=c password=***"
    answers = [made, service.call("GetFlow", flow_id="secret"), service.call("ListFlows"), service.call("StartFlow", flow_id="secret")]
    answers += [service.call("PauseFlow", flow_id="secret"), service.fails("ListReplicationSlots", flow_id="secret")]
    assert SECRET not in repr(answers)
    # What was shown comes back: the stored value stays.
    shown = service.call("GetFlow", flow_id="secret")
    shown.name = "renamed"
    service.call("UpdateFlow", flow=shown)
    shown.source.options["dsn"] = "host=other user=u password=***"
    code, message = service.fails("UpdateFlow", flow=shown)
    assert code == "INVALID_ARGUMENT" and "flow.source.options.dsn: a part of the value is hidden" in message
    for path in service.home.iterdir():
        if path.is_file():
            assert SECRET.encode() not in path.read_bytes(), path
    assert SECRET not in service.server.text


@pytest.mark.parametrize(
    "dsn", [f"postgres://u:{SECRET}@h/db", f"host=h password = '{SECRET}'", f"w.duckdb?motherduck_token={SECRET}", f"md:db?x={SECRET}"]
)
def test_a_connection_string_in_the_place_of_a_file_is_refused_and_not_shown(service, dsn):
    """Paths are shown, so nothing secret may come in as one."""
    flow = a_flow("misplaced")
    flow["destinations"][0] = {"name": "warehouse", "type": 11, "options": {"dsn": dsn}}
    code, message = service.fails("CreateFlow", flow=flow)
    assert code == "INVALID_ARGUMENT" and SECRET not in message
    assert "is the path of a DuckDB file" in message or '"dsn": the value (hidden) has a password' in message
    flow["destinations"][0]["options"]["dsn"] = "/data/users/hosts/pass.duckdb"
    flow["id"] = f"placed-{len(dsn)}"
    assert service.call("CreateFlow", flow=flow).destinations[0].options["dsn"] == "/data/users/hosts/pass.duckdb"


@pytest.mark.parametrize(
    "kind, options, says",
    [
        (14, {"catalog": f"sqlite:postgres://u:{SECRET}@h/db"}, "behind sqlite: is the path of a file"),
        (14, {"catalog": f"sqlite:host=h password={SECRET}"}, "behind sqlite: is the path of a file"),
        (14, {"catalog": "sqlite:/l/c", "data_path": f"s3://key:{SECRET}@bucket/lake"}, '"data_path": the value (hidden)'),
        (14, {"catalog": "sqlite:/l/c", "data_path": f"s3://bucket/lake?secret={SECRET}"}, '"data_path" is a folder'),
        (6, {"endpoint": f"http://u:{SECRET}@h:1", "token": "t"}, '"endpoint": the value (hidden)'),
        (14, {"catalog": "sqlite:/l/c", "compression": f"postgres://u:{SECRET}@h/db"}, '"compression": the value (hidden)'),
        (14, {"catalog": "sqlite:/l/c", "schema": f"host=h password={SECRET}"}, '"schema": the value (hidden)'),
        (6, {"endpoint": "localhost:1", "format": f"host=h password={SECRET}"}, '"format": the value (hidden)'),
    ],
)
def test_a_secret_in_what_is_shown_is_refused_and_not_shown(service, kind, options, says):
    flow = a_flow("shown")
    flow["destinations"][0] = {"name": "lake", "type": kind, "options": {"data_path": "/l/d", **options} if kind == 14 else options}
    code, message = service.fails("CreateFlow", flow=flow)
    assert code == "INVALID_ARGUMENT" and says in message and SECRET not in message


@pytest.mark.parametrize("option", ["slot", "publication", "publication_tables", "start_lsn", "spool_dir"])
def test_a_connection_string_in_the_place_of_an_option_that_is_shown(service, option):
    for text in (f"postgres://u:{SECRET}@h/db", f"host=h password={SECRET}"):
        flow = a_flow("shown-option")
        flow["source"]["options"][option] = text
        code, message = service.fails("CreateFlow", flow=flow)
        assert code == "INVALID_ARGUMENT" and f'{option}": the value (hidden) has a password' in message and SECRET not in message


@pytest.mark.parametrize("name", ["STATE_PATH", "CHECKPOINT_PATH", "CHECKPOINT_DSN"])
def test_a_connection_string_in_the_place_of_a_state_file_is_refused_and_not_shown(tmp_path, name):
    """The path is shown, and would be made."""
    value = f"mysql://u:{SECRET}@h/d" if name == "CHECKPOINT_DSN" else f"host=h password={SECRET}"
    code, said = Server(tmp_path, **{name: value}).ended()
    assert code == 2 and f"DUCTSTREAM_{name}: this is no path" in said and SECRET not in said


def test_a_password_behind_sqlite_is_not_shown(service):
    flow = a_flow("prefixed")
    flow["source"]["options"]["dsn"] = f"sqlite:/x?password={SECRET}"
    assert SECRET not in repr(service.call("CreateFlow", flow=flow)) + repr(service.call("GetFlow", flow_id="prefixed"))


def test_secrets_are_not_in_what_a_worker_says(service):
    """Neither source nor lake can be reached: both are named, without their passwords."""
    flow = a_flow("said")
    flow["source"]["options"]["dsn"] = f"postgresql://u:{SECRET}@127.0.0.1:1/db"
    flow["destinations"][0]["options"]["catalog"] = f"postgres:host=127.0.0.1 port=1 password={SECRET}"
    service.call("CreateFlow", flow=flow, start_immediately=True)
    worker = service.worker("said", "-log-level", "debug")
    worker.wait_for(lambda: worker.stderr.count("attempt failed") >= 2, 30, "two attempts")
    assert worker.terminate() == 0
    assert "127.0.0.1" in worker.stderr and SECRET not in worker.stderr
    service.call("StopFlow", flow_id="said")
    assert SECRET.encode() not in service.state.read_bytes()


@pytest.mark.parametrize(
    "dsn",
    [
        f"host=127.0.0.1 port=1 dbname='password={SECRET}'",
        f"port=1 dbname=postgres://u:{SECRET}@h/d",
        f"host=postgres://u:{SECRET}@h/d port=1",
        f"host=127.0.0.1;Password={SECRET}",
        f"postgresql://u@127.0.0.1:1/d&password={SECRET}",
    ],
)
def test_a_connection_string_in_the_place_of_a_name_is_refused_and_not_shown(service, tmp_path, dsn):
    """Messages name the database: no connection is tried with such a one."""
    code, message = service.fails("ListReplicationSlots", dsn=dsn)
    assert code == "FAILED_PRECONDITION" and "dbname and service are names" in message and SECRET not in message
    flow = a_flow(f"nested-{len(dsn)}")
    flow["source"]["options"]["dsn"] = dsn
    flow["destinations"][0]["options"] = {"catalog": f"sqlite:{tmp_path}/lake.sqlite", "data_path": str(tmp_path)}
    assert SECRET not in repr(service.call("CreateFlow", flow=flow, start_immediately=True))
    said = service.worker(flow["id"], "-log-level", "debug").expect(2)
    assert "dbname and service are names" in said and SECRET not in said
    assert SECRET not in repr(service.call("GetFlow", flow_id=flow["id"])) and SECRET.encode() not in service.state.read_bytes()


def test_a_reference_is_stored_as_it_is(service):
    flow = a_flow("reference")
    flow["source"]["options"]["dsn"] = "${SHOP_DSN}"
    assert service.call("CreateFlow", flow=flow).source.options["dsn"] == "${SHOP_DSN}"
    code, message = service.fails("ListReplicationSlots", flow_id="reference")
    assert code == "FAILED_PRECONDITION" and "environment" in message


def test_a_reference_with_a_default_shows_what_is_no_secret_of_it(service):
    flow = a_flow("default")
    flow["source"]["options"]["dsn"] = f"${{SHOP_DSN:-host=h password={SECRET}}}"
    flow["destinations"][0]["options"]["catalog"] = f"${{LAKE:-postgres:postgres://u:{SECRET}@h/d}}"
    made = service.call("CreateFlow", flow=flow)
    assert made.source.options["dsn"] == "${SHOP_DSN:-host=h password=***}"
    assert made.destinations[0].options["catalog"] == "${LAKE:-postgres:postgres://u:***@h/d}"
    assert service.call("UpdateFlow", flow=made).source.options["dsn"] == made.source.options["dsn"]


def test_without_the_key_a_list_still_lists(tmp_path):
    flow = a_flow("sealed")
    with Service(tmp_path, SECRET_KEY="ab" * 32) as service:
        service.call("CreateFlow", flow=flow)
    with Service(tmp_path, SECRET_KEY="cd" * 32) as service:
        (listed,) = service.call("ListFlows").flows
        assert listed.id == "sealed" and not listed.source.options
        code, message = service.fails("GetFlow", flow_id="sealed")
        assert code == "FAILED_PRECONDITION" and "key" in message and SECRET not in message
        assert service.fails("UpdateFlow", flow=flow)[0] == code
        assert service.fails("CreateFlow", flow=a_flow("another"))[0] == code
    with Service(tmp_path, SECRET_KEY="ab" * 32) as service:
        assert service.call("GetFlow", flow_id="sealed").source.options["slot"] == "sealed"


def test_a_flow_whose_key_is_lost_can_be_stopped_and_deleted(tmp_path):
    with Service(tmp_path) as service:
        service.call("CreateFlow", flow=a_flow("lost"), start_immediately=True)
    (tmp_path / "secret.key").unlink()
    with Service(tmp_path) as service:
        assert STATES[service.call("PauseFlow", flow_id="lost").state] == "paused"
        assert STATES[service.call("ResumeFlow", flow_id="lost").state] == "running"
        stopped = service.call("StopFlow", flow_id="lost")
        assert STATES[stopped.state] == "stopped" and not stopped.source.options
        assert service.call("DeleteFlow", flow_id="lost").deleted


# --- states


def test_states(service):
    service.call("CreateFlow", flow=a_flow("states"))
    assert service.fails("PauseFlow", flow_id="states")[0] == "FAILED_PRECONDITION"
    assert service.fails("RunFlowOnce", flow_id="states")[0] == "FAILED_PRECONDITION"
    assert STATES[service.call("StartFlow", flow_id="states").state] == "running"
    assert STATES[service.call("ResumeFlow", flow_id="states").state] == "running"
    assert service.fails("DeleteFlow", flow_id="states")[0] == "FAILED_PRECONDITION"
    assert service.fails("CleanupFlow", flow_id="states")[0] == "FAILED_PRECONDITION"
    assert STATES[service.call("PauseFlow", flow_id="states").state] == "paused"
    assert STATES[service.call("ResumeFlow", flow_id="states").state] == "running"
    assert STATES[service.call("StopFlow", flow_id="states").state] == "stopped"
    assert STATES[service.call("StopFlow", flow_id="states").state] == "stopped"
    assert STATES[service.call("StartFlow", flow_id="states").state] == "running"
    with closing(sqlite3.connect(service.state)) as connection:
        rows = connection.execute("SELECT from_state, to_state, reason FROM flow_state_events WHERE flow_id = 'states' ORDER BY id")
        assert rows.fetchall() == [
            ("created", "running", "started by local"),
            ("running", "paused", "paused by local"),
            ("paused", "running", "resumed by local"),
            ("running", "stopped", "stopped by local"),
            ("stopped", "running", "started by local"),
        ]
    service.call("StopFlow", flow_id="states")
    assert service.call("DeleteFlow", flow_id="states").deleted
    assert service.fails("DeleteFlow", flow_id="states")[0] == "NOT_FOUND"


def test_a_reconfiguration_whose_server_died_is_made_again(service):
    """Between pause and resume: the second one resumes the flow."""
    service.call("CreateFlow", flow=a_flow("halfway"), start_immediately=True)
    assert STATES[service.call("PauseFlow", flow_id="halfway", for_a_moment=True).state] == "paused"
    assert STATES[service.call("ReconfigureFlow", flow=a_flow("halfway", name="changed")).state] == "running"
    service.call("PauseFlow", flow_id="halfway")
    assert STATES[service.call("ReconfigureFlow", flow=a_flow("halfway")).state] == "paused"


def test_run_once_without_a_dispatcher_says_so(service):
    service.call("CreateFlow", flow=a_flow("once"), start_immediately=True)
    code, message = service.fails("RunFlowOnce", flow_id="once")
    assert code == "FAILED_PRECONDITION" and "DUCTSTREAM_DISPATCH is none" in message and "ductstream-worker -flow-id once" in message
    service.call("PauseFlow", flow_id="once")


def test_ids_are_asked_for(service):
    for method in ("GetFlow", "StartFlow", "StopFlow", "PauseFlow", "ResumeFlow", "RunFlowOnce", "DeleteFlow", "CleanupFlow"):
        assert service.fails(method) == ("INVALID_ARGUMENT", "flow_id: is missing")
        assert service.fails(method, flow_id="../x")[0] == "INVALID_ARGUMENT"
        assert service.fails(method, flow_id="none-such")[0] == "NOT_FOUND"


# --- slots and publications


@pytest.fixture
def source(service, database, sqlite_lake, request):
    """A flow whose source is there, and has tables, a slot and a publication."""
    flow_id = request.node.name.replace("_", "-")[:60].strip("-")
    slot = "s_" + database.name
    database.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY); CREATE SCHEMA other")
    database.sql('CREATE TABLE other."C c" (id int PRIMARY KEY); CREATE PUBLICATION pub FOR TABLE a')
    database.query(f"SELECT pg_create_logical_replication_slot('{slot}', 'pgoutput')")
    flow = flow_message(database, sqlite_lake, flow_id, source={"slot": slot, "publication": "pub"})
    service.call("CreateFlow", flow=flow)
    return flow_id, slot


def test_slots(service, database, source):
    flow_id, slot = source
    listed = service.call("ListReplicationSlots", flow_id=flow_id)
    assert [s.slot_name for s in listed.slots] == [slot] and listed.flow_id == flow_id
    one = service.call("GetReplicationSlot", dsn=database.dsn, slot=slot).slot
    assert (one.plugin, one.slot_type, one.database, one.active) == ("pgoutput", "logical", database.name, False)
    assert not one.active_pid_present and "/" in one.restart_lsn and one.wal_status == "reserved"
    assert service.fails("GetReplicationSlot", flow_id=flow_id, slot="none")[0] == "NOT_FOUND"
    assert service.fails("ListReplicationSlots")[0] == "INVALID_ARGUMENT"
    assert service.fails("ListReplicationSlots", flow_id=flow_id, dsn=database.dsn)[0] == "INVALID_ARGUMENT"
    dropped = service.call("DropReplicationSlot", flow_id=flow_id)
    assert dropped.found and dropped.dropped and dropped.slot == slot
    assert service.fails("DropReplicationSlot", flow_id=flow_id)[0] == "NOT_FOUND"
    again = service.call("DropReplicationSlot", flow_id=flow_id, if_exists=True)
    assert not again.found and not again.dropped
    assert ("slot.drop", "local", "grpc") in audit(service, flow_id)
    code, message = service.fails("ListReplicationSlots", dsn=f"host=127.0.0.1 port=1 user=u password={SECRET}")
    assert code == "UNAVAILABLE" and SECRET not in message


def test_publications(service, database, source):
    flow_id, _ = source
    assert list(service.call("ListPublicationTables", flow_id=flow_id).tables) == ["public.a"]
    assert list(service.call("AddPublicationTables", flow_id=flow_id, tables=["b", "public.a", "other.C c"]).tables) == [
        "public.b",
        "public.a",
        "other.C c",
    ]
    assert list(service.call("ListPublicationTables", flow_id=flow_id).tables) == ["other.C c", "public.a", "public.b"]
    service.call("DropPublicationTables", dsn=database.dsn, publication="pub", tables=["public.b", "other.C c"])
    assert list(service.call("ListPublicationTables", flow_id=flow_id).tables) == ["public.a"]
    synced = service.call("SyncPublicationTables", flow_id=flow_id, tables=["public.b"], mode="add")
    assert (list(synced.added), list(synced.removed)) == (["public.b"], [])
    synced = service.call("SyncPublicationTables", flow_id=flow_id, tables=["public.b"], mode="sync")
    assert (list(synced.added), list(synced.removed)) == ([], ["public.a"])
    found = service.call("ScrapePublicationTables", flow_id=flow_id, schemas=["public", "other"])
    assert (sorted(found.discovered_tables), sorted(found.missing_tables)) == (
        ["other.C c", "public.a", "public.b"],
        ["other.C c", "public.a"],
    )
    assert not found.applied and list(service.call("ListPublicationTables", flow_id=flow_id).tables) == ["public.b"]
    assert service.call("ScrapePublicationTables", flow_id=flow_id, schemas=["public"], apply=True).applied
    assert list(service.call("ListPublicationTables", flow_id=flow_id).tables) == ["public.a", "public.b"]
    code, message = service.fails("AddPublicationTables", flow_id=flow_id, tables=["public.none", "x y.z'"])
    assert code == "INVALID_ARGUMENT" and message.startswith('tables[0]: there is no table "public.none"')
    assert service.fails("AddPublicationTables", flow_id=flow_id)[0] == "INVALID_ARGUMENT"
    assert service.fails("ListPublicationTables", flow_id=flow_id, publication="none")[0] == "NOT_FOUND"
    assert service.fails("SyncPublicationTables", flow_id=flow_id, tables=["a"], mode="x")[0] == "INVALID_ARGUMENT"
    actions = [row[0] for row in audit(service, flow_id)]
    assert {"publication.add", "publication.sync", "publication.scrape"} <= set(actions)


def test_cleanup(service, database, source):
    flow_id, slot = source
    database.sql("CREATE SCHEMA ductstream; CREATE TABLE ductstream.source_state (flow_id text PRIMARY KEY)")
    database.sql(f"INSERT INTO ductstream.source_state VALUES ('{flow_id}'), ('other')")
    assert service.call("CleanupFlow", flow_id=flow_id).cleaned
    assert database.query("SELECT 1 FROM pg_replication_slots WHERE slot_name = '%s'" % slot) == []
    assert database.query("SELECT flow_id FROM ductstream.source_state") == [("other",)]
    assert database.query("SELECT pubname FROM pg_publication") == [("pub",)]
    assert service.call("CleanupFlow", flow_id=flow_id, drop_publication=True, drop_source_state=False).cleaned
    assert database.query("SELECT pubname FROM pg_publication") == []
    assert [row[0] for row in audit(service, flow_id)] == ["flow.create", "flow.cleanup", "flow.cleanup", "publication.drop"]


def test_what_a_cleanup_has_done_is_written_down_when_the_rest_fails(service, database, source):
    flow_id, slot = source
    database.sql("CREATE SCHEMA ductstream; CREATE TABLE ductstream.source_state (other int)")
    assert service.fails("CleanupFlow", flow_id=flow_id)[0] == "FAILED_PRECONDITION"
    assert database.query("SELECT 1 FROM pg_replication_slots WHERE slot_name = '%s'" % slot) == []
    assert ("flow.cleanup", "local", "grpc") in audit(service, flow_id)


def test_a_source_that_does_not_answer(service):
    """The caller's deadline counts, and nobody else waits."""
    with socket.create_server(("127.0.0.1", 0)) as hole:
        flow = a_flow("hole")
        flow["source"]["options"]["dsn"] = f"host=127.0.0.1 port={hole.getsockname()[1]} user=u password={SECRET}"
        service.call("CreateFlow", flow=flow)
        started = time.monotonic()
        with pytest.raises(grpc.RpcError) as error:
            service.client.call("ductstream.v1.FlowService/ListReplicationSlots", timeout=1, flow_id="hole")
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - started < 10
        asked = []
        hole.setblocking(False)
        with suppress(BlockingIOError):
            asked.append(hole.accept()[0])  # of the call that was given up
        ask, request = service.client.method("ductstream.v1.FlowService/ListReplicationSlots")
        waiting = ask.future(request(flow_id="hole"), timeout=60)
        hole.settimeout(30)
        asked.append(hole.accept()[0])
        assert service.call("GetFlow", flow_id="hole").id == "hole" and not waiting.done()
        waiting.cancel()
        for connection in asked:
            connection.close()


def test_updates_at_the_same_time(service):
    """Each is whole or ABORTED; the revision counts those that were."""
    service.call("CreateFlow", flow=a_flow("race"))
    codes = []

    def update(number):
        flow = a_flow("race", name=f"name {number}")
        flow["source"]["options"]["batch_size"] = str(number + 1)
        with Client(service.server.address) as client:
            codes.append(client.code("ductstream.v1.FlowService/UpdateFlow", flow=flow)[0].name)

    threads = [threading.Thread(target=update, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(codes) <= {"OK", "ABORTED"} and "OK" in codes
    found = service.call("GetFlow", flow_id="race")
    assert found.name == f"name {int(found.source.options['batch_size']) - 1}"
    with closing(sqlite3.connect(service.state)) as connection:
        assert connection.execute("SELECT revision FROM flows WHERE id = 'race'").fetchone() == (1 + codes.count("OK"),)


def test_run_once_enqueues_a_run(tmp_path):
    """DUCTSTREAM_DISPATCH=dbos: a durable run is enqueued, once while one waits."""
    with Service(tmp_path, DISPATCH="dbos", RUN_WORKERS="0") as service:
        service.call("CreateFlow", flow=a_flow("queued"))
        assert service.fails("RunFlowOnce", flow_id="queued")[0] == "FAILED_PRECONDITION"
        service.call("StartFlow", flow_id="queued")
        assert service.call("RunFlowOnce", flow_id="queued").dispatched
        assert service.call("RunFlowOnce", flow_id="queued").dispatched
        with closing(sqlite3.connect(service.state)) as connection:
            assert connection.execute("SELECT kind, flow_id, state FROM runs").fetchall() == [("flow-once", "queued", 1)]
        assert service.state_of("queued") == "running"


# --- checkpoints


def test_a_destination_that_keeps_its_position_decides(service):
    service.call("CreateFlow", flow=a_flow("position"))
    code, message = service.fails("CheckpointService/PutCheckpoint", flow_id="position", checkpoint={"lsn": "0/10"})
    assert code == "FAILED_PRECONDITION" and "its destination commits the position together with the rows" in message
    assert service.fails("CheckpointService/GetCheckpoint", flow_id="position")[0] == "NOT_FOUND"
    assert service.fails("CheckpointService/PutCheckpoint", flow_id="none", checkpoint={"lsn": "0/10"})[0] == "NOT_FOUND"


def test_positions_that_the_service_keeps(service):
    """A destination that another build has, and that keeps no position."""
    with closing(sqlite3.connect(service.state)) as connection, connection:
        connection.execute(
            "INSERT INTO flows VALUES ('kept', 'kept', 'running', '', '{\"destinations\":[{\"type\":\"other\"}]}', 1, 0, 0)"
        )
    put, get = "CheckpointService/PutCheckpoint", "CheckpointService/GetCheckpoint"
    checkpoint = {"lsn": "A/0", "timestamp_unix_millis": 5, "metadata": {"mode": "cdc"}}
    assert service.call(put, flow_id="kept", checkpoint=checkpoint).checkpoint.lsn == "A/0"
    # An LSN is a number: 9/FF is below A/0, 10/0 above it, whatever their texts say.
    code, message = service.fails(put, flow_id="kept", checkpoint={"lsn": "9/FF"})
    assert code == "FAILED_PRECONDITION" and "9/FF is below the stored A/0" in message and "pause it" in message
    assert service.call(put, flow_id="kept", checkpoint={"lsn": "10/0"}).checkpoint.lsn == "10/0"
    service.call("PauseFlow", flow_id="kept")
    assert service.call(put, flow_id="kept", checkpoint=checkpoint).checkpoint.lsn == "A/0"
    found = service.call(get, flow_id="kept")
    assert found.checkpoint.metadata["mode"] == "cdc" and found.checkpoint.timestamp_unix_millis == 5
    assert found in service.call("CheckpointService/ListCheckpoints").checkpoints
    code, message = service.fails(put, flow_id="kept", checkpoint={"lsn": "x"})
    assert code == "INVALID_ARGUMENT" and message.startswith("checkpoint.lsn: ")
    with closing(sqlite3.connect(service.state)) as connection:
        rows = connection.execute("SELECT detail FROM audit_log WHERE action = 'checkpoint.put' ORDER BY id").fetchall()
    assert [row[0] for row in rows] == [
        '{"lsn":"A/0","back":false}',
        '{"lsn":"10/0","back":false}',
        '{"lsn":"A/0","back":true}',
    ]


def test_a_flow_is_deleted_with_its_position(tmp_path):
    """Which may be in another database: when that one refuses, the flow is there and can be deleted again."""
    with Service(tmp_path, CHECKPOINT_PATH=str(tmp_path / "positions.db")) as service:
        service.call("CreateFlow", flow=a_flow("gone"))
        with closing(sqlite3.connect(tmp_path / "positions.db")) as positions:
            positions.execute("INSERT INTO checkpoints VALUES ('gone', 16, 0, 1, '{}', 0)")
            positions.execute("CREATE TRIGGER refuse BEFORE DELETE ON checkpoints BEGIN SELECT raise(ABORT, 'not now'); END")
            positions.commit()
            assert "not now" in service.fails("DeleteFlow", flow_id="gone")[1]
            assert service.call("GetFlow", flow_id="gone").id == "gone"
            positions.execute("DROP TRIGGER refuse")
            assert service.call("DeleteFlow", flow_id="gone").deleted
            assert positions.execute("SELECT * FROM checkpoints").fetchall() == []


# --- changes of schema


def test_changes_of_schema_are_decided(service):
    service.call("CreateFlow", flow=a_flow("ddl"))
    with closing(sqlite3.connect(service.state)) as connection, connection:
        for number in range(3):
            connection.execute(
                "INSERT INTO ddl_events (flow_id, schema_name, table_name, ddl, plan, lsn, fingerprint, status, decided_by, "
                "created_us, decided_us, applied_us) VALUES ('ddl', 's', 't', 'ALTER TABLE', '{}', ?, 'f', 'pending', '', 1500000, 0, 0)",
                (number + 16,),
            )
    pending = service.call("DDLService/ListPendingDDL", flow_id="ddl").events
    assert [(e.ddl, e.lsn, e.status, e.flow_id) for e in pending[:1]] == [("ALTER TABLE", "0/10", "pending", "ddl")]
    assert pending[0].created_at.seconds == 1 and pending[0].created_at.nanos == 500000000
    first, second, third = (event.id for event in pending)
    assert service.call("DDLService/ApproveDDL", id=first).event.status == "approved"
    assert service.call("DDLService/RejectDDL", id=second).event.status == "rejected"
    assert service.call("DDLService/MarkDDLApplied", id=first).event.status == "applied"
    assert service.call("DDLService/MarkDDLApplied", id=first).event.status == "applied"
    code, message = service.fails("DDLService/RejectDDL", id=first)
    assert code == "FAILED_PRECONDITION" and "is applied" in message
    assert service.fails("DDLService/ApproveDDL", id=99999)[0] == "NOT_FOUND"
    by_status = {s: [e.id for e in service.call("DDLService/ListDDL", status=s, flow_id="ddl").events] for s in ("pending", "applied", "")}
    assert by_status == {"pending": [third], "applied": [first], "": [first, second, third]}
    assert service.fails("DDLService/ListDDL", status="x")[0] == "INVALID_ARGUMENT"


# --- flow files


def test_a_flow_file_is_checked_as_a_whole(tmp_path):
    """`ductstream check` and `run` list everything that is wrong, and begin nothing."""
    path = tmp_path / "flow.yaml"
    path.write_text(
        "name: shop\nsource:\n  type: postgres\n  options: {dsn: 'password=%s', slot: S, publication: p, batch_size: 0}\n"
        "destinations:\n- {name: lake, type: ducklake, options: {catlog: x}}\nparallelism: x\n" % SECRET
    )
    for command in ("check", "run"):
        code, out, err = ductstream(command, path)
        assert code == 2 and out == "" and SECRET not in err
        assert [line.removeprefix(f"ductstream: error: {path}") for line in err.splitlines()] == [
            ':4: source "postgres": option "batch_size": "0" is outside 1..10000000',
            ':6: destination "lake": unknown option "catlog": did you mean "catalog"?',
            ': destination "lake": option "catalog" is required: the DuckLake catalog: sqlite:PATH or postgres:DSN',
            ':7: parallelism "x" is outside 1..256',
        ]
        code, out, err = ductstream(command, path, "--json")
        assert code == 2 and len(lines(err)) == 4
