"""Changes of tables: recorded, held at a gate, approved, applied (issue 5, point 7)."""

import json
import signal

import pytest

from lib.service import Service, flow_message
from lib.wait import wait_until

ADD = "ALTER TABLE t ADD COLUMN more text DEFAULT 'old'"


@pytest.fixture
def service(tmp_path):
    with Service(tmp_path / "service") as running:
        yield running


def each(database, *statements):
    """One transaction each."""
    for statement in statements:
        database.sql(statement)


def make(service, database, home, env=None, **ddl):
    """A flow with that policy, followed by a worker."""
    config = {"config": {"ddl": ddl}} if ddl else {}
    service.call("CreateFlow", flow=flow_message(database, home, "shop", destination={"flush_interval": "20ms"}, **config))
    return service.worker("shop", env=env)


def events(service, status=""):
    return list(service.call("DDLService/ListDDL", status=status, flow_id="shop").events)


def wait_events(service, status, n=1):
    wait_until(lambda: len(events(service, status)) == n, 30, f"{n} events {status}")
    return events(service, status)


def test_without_a_gate(service, database, sqlite_lake, lake):
    """It is done at its place in the stream and recorded as applied."""
    worker = make(service, database, sqlite_lake)
    lake.wait_count(100, of=worker)
    each(database, "INSERT INTO t VALUES (101, 'a')", ADD, "INSERT INTO t VALUES (102, 'b', 'new')")
    lake.wait_count(102, of=worker)
    lake.same()
    (event,) = wait_events(service, "applied")
    assert event.ddl == 'ALTER TABLE "public"."t" ADD COLUMN "more" varchar'
    plan = json.loads(event.plan_json)
    assert plan["changes"][0]["type"] == "add_column" and not plan["irreversible"]
    assert service.state_of("shop") == "running"


def held(service, database, lake, worker):
    """Changes before, with and after a change of the table: what came before it is there, the flow is paused at it."""
    lake.wait_count(100, of=worker)
    each(database, "INSERT INTO t VALUES (101, 'before')", ADD, "INSERT INTO t VALUES (102, 'after', 'new')")
    service.wait_state("shop", "paused")
    lake.wait_count(101, of=worker)
    return events(service)[0]


def test_approve_then_apply(service, database, sqlite_lake, lake):
    """Without auto_apply an approved change waits for `ddl apply`; then the flow goes on by itself."""
    worker = make(service, database, sqlite_lake, gate=True)
    event = held(service, database, lake, worker)
    assert event.status == "pending"
    assert service.call("DDLService/ListPendingDDL", flow_id="shop").events[0].id == event.id
    service.call("DDLService/ApproveDDL", id=event.id)
    # Resuming is no way around the gate.
    service.call("ResumeFlow", flow_id="shop")
    service.wait_state("shop", "paused")
    assert lake.count() == 101
    service.call("DDLService/MarkDDLApplied", id=event.id)
    lake.wait_count(102, of=worker)
    lake.same()
    service.wait_state("shop", "running")
    assert [e.status for e in events(service)] == ["applied"]
    service.call("DDLService/MarkDDLApplied", id=event.id)  # again: nothing changes
    service.call("ResumeFlow", flow_id="shop")
    assert [e.status for e in events(service)] == ["applied"]


@pytest.mark.parametrize("decide", ["ApproveDDL", "MarkDDLApplied"])
def test_goes_on_with_a_worker_of_the_server(tmp_path, database, sqlite_lake, lake, decide):
    """The server keeps no worker for a paused flow; what is decided makes it run again."""
    with Service(tmp_path / "local", DISPATCH="local") as service:
        ddl = {"gate": True, "auto_apply": decide == "ApproveDDL"}
        service.call("CreateFlow", flow=flow_message(database, sqlite_lake, "shop", config={"ddl": ddl}), start_immediately=True)
        wait_until(lambda: lake.count() == 100, 60, "the copy")
        each(database, "INSERT INTO t VALUES (101, 'before')", ADD, "INSERT INTO t VALUES (102, 'after', 'new')")
        service.wait_state("shop", "paused")
        wait_until(lambda: lake.count() == 101, 60, "what came before")
        wait_until(lambda: "worker ended" in service.server.text, 30, "the worker to end")
        service.call("DDLService/" + decide, id=events(service)[0].id)
        wait_until(lambda: lake.count() == 102, 60, "what came after")
        lake.same()
        assert [e.status for e in wait_events(service, "applied")] == ["applied"]
        assert service.state_of("shop") == "running"


def test_paused_by_somebody_meanwhile(service, database, sqlite_lake, lake):
    """The decision ends its own pause only."""
    worker = make(service, database, sqlite_lake, gate=True)
    event = held(service, database, lake, worker)
    service.call("PauseFlow", flow_id="shop")
    worker.expect(0, 20)  # a paused flow has no worker
    service.call("DDLService/ApproveDDL", id=event.id)
    service.call("DDLService/MarkDDLApplied", id=event.id)
    assert service.state_of("shop") == "paused"
    service.call("ResumeFlow", flow_id="shop")
    lake.wait_count(102, of=service.worker("shop"))
    lake.same()


def test_for_a_moment_meanwhile(service, database, sqlite_lake, lake):
    """As `publication sync` pauses it: its worker waits for the end of that, and asks again."""
    worker = make(service, database, sqlite_lake, gate=True)
    event = held(service, database, lake, worker)
    service.call("PauseFlow", flow_id="shop", for_a_moment=True)
    service.call("DDLService/MarkDDLApplied", id=event.id)
    assert service.state_of("shop") == "paused"
    service.call("ResumeFlow", flow_id="shop")
    lake.wait_count(102, of=worker)
    lake.same()


def test_goes_on_though_its_worker_died(service, database, sqlite_lake, lake):
    worker = make(service, database, sqlite_lake, gate=True)
    event = held(service, database, lake, worker)
    worker.kill()
    service.call("DDLService/ApproveDDL", id=event.id)
    assert service.state_of("shop") == "paused"  # no auto_apply
    service.call("DDLService/MarkDDLApplied", id=event.id)
    assert service.state_of("shop") == "running"
    lake.wait_count(102, of=service.worker("shop"))
    lake.same()


def test_auto_apply(service, database, sqlite_lake, lake):
    """Approval is enough; the policy comes from the environment."""
    worker = make(service, database, sqlite_lake, env={"DUCTSTREAM_DDL_GATE": "true", "DUCTSTREAM_DDL_AUTO_APPLY": "true"})
    event = held(service, database, lake, worker)
    service.call("DDLService/ApproveDDL", id=event.id)
    lake.wait_count(102, of=worker)
    lake.same()
    wait_events(service, "applied")


def test_what_the_flow_says_goes_before_the_environment(service, database, sqlite_lake, lake):
    worker = make(service, database, sqlite_lake, env={"DUCTSTREAM_DDL_GATE": "true"}, gate=False)
    lake.wait_count(100, of=worker)
    each(database, ADD, "INSERT INTO t VALUES (101, 'a', 'new')")
    lake.wait_count(101, of=worker)
    lake.same()
    wait_events(service, "applied")


def test_auto_approve_and_apply(service, database, sqlite_lake, lake):
    worker = make(service, database, sqlite_lake, gate=True, auto_approve=True, auto_apply=True)
    lake.wait_count(100, of=worker)
    each(database, ADD, "INSERT INTO t VALUES (101, 'a', 'new')", "ALTER TABLE t DROP COLUMN v", "INSERT INTO t VALUES (102, 'x')")
    lake.wait_count(102, of=worker)
    lake.same()
    wait_events(service, "applied", 2)
    assert [json.loads(e.plan_json)["irreversible"] for e in events(service)] == [False, True]


def test_a_table_gets_another_name(service, database, sqlite_lake, lake):
    """Asked about as any other change, with the rows of its transaction on both sides of it."""
    worker = make(service, database, sqlite_lake, gate=True)
    lake.wait_count(100, of=worker)
    database.sql("INSERT INTO t VALUES (101, 'before'); ALTER TABLE t RENAME TO u; INSERT INTO u VALUES (102, 'after')")
    service.wait_state("shop", "paused")
    (event,) = events(service)
    assert event.ddl == 'ALTER TABLE "public"."t" RENAME TO "u"' and lake.count() == 100
    (change,) = json.loads(event.plan_json)["changes"]
    assert (change["type"], change["table"], change["to_table"], change["irreversible"]) == ("rename_table", "t", "u", False)
    service.call("DDLService/ApproveDDL", id=event.id)
    service.call("DDLService/MarkDDLApplied", id=event.id)
    lake.wait_count(102, "public.u", of=worker)
    lake.same("public.u")
    assert lake.count() == -1
    wait_events(service, "applied")


def test_nothing_is_asked_twice(service, database, sqlite_lake, lake):
    """Over restarts and kills the same change is the same event, and what was decided stays."""
    worker = make(service, database, sqlite_lake, gate=True, auto_apply=True)
    event = held(service, database, lake, worker)
    worker.signal(signal.SIGKILL)
    service.call("ResumeFlow", flow_id="shop")
    worker = service.worker("shop")
    service.wait_state("shop", "paused")
    assert [e.id for e in events(service)] == [event.id]
    worker.signal(signal.SIGKILL)
    service.call("DDLService/ApproveDDL", id=event.id)
    service.call("ResumeFlow", flow_id="shop")
    worker = service.worker("shop")
    lake.wait_count(102, of=worker)
    lake.same()
    assert [(e.id, e.status) for e in wait_events(service, "applied")] == [(event.id, "applied")]


def test_rejected(service, database, sqlite_lake, lake):
    """The flow stays where it is, nothing is lost; it can be approved later."""
    worker = make(service, database, sqlite_lake, gate=True, auto_apply=True)
    event = held(service, database, lake, worker)
    service.call("DDLService/RejectDDL", id=event.id)
    service.call("ResumeFlow", flow_id="shop")
    service.wait_state("shop", "paused")
    assert lake.count() == 101
    service.call("DDLService/ApproveDDL", id=event.id)
    lake.wait_count(102, of=worker)
    lake.same()


def test_rejected_and_then_without_a_gate(service, database, sqlite_lake, lake):
    """It is done, and said to be."""
    worker = make(service, database, sqlite_lake, gate=True)
    event = held(service, database, lake, worker)
    service.call("DDLService/RejectDDL", id=event.id)
    flow = flow_message(database, sqlite_lake, "shop", destination={"flush_interval": "20ms"}, config={"ddl": {"gate": False}})
    service.call("UpdateFlow", flow=flow)
    service.call("ResumeFlow", flow_id="shop")
    lake.wait_count(102, of=worker)
    lake.same()
    wait_events(service, "applied")


def test_a_large_transaction_is_asked_about_once(service, database, sqlite_lake, lake):
    """It comes in parts, and between two attempts other positions have become durable before it."""
    database.needs(14, "streaming of open transactions")
    database.sql("CREATE TABLE o (id int PRIMARY KEY)")
    source = {"work_mem": "64kB", "max_memory": "1MiB"}
    flow = flow_message(database, sqlite_lake, "shop", source=source, config={"ddl": {"gate": True}})
    service.call("CreateFlow", flow=flow)
    worker = service.worker("shop")
    lake.wait_count(100, of=worker)
    worker.kill()
    database.sql(ADD)
    worker = service.worker("shop")
    with database.connect(autocommit=False) as large:
        large.execute("INSERT INTO t SELECT i, repeat('x', 80) || i, 'new' FROM generate_series(101, 30000) i")
        database.sql("INSERT INTO o VALUES (1)")
        lake.wait_count(1, "public.o", of=worker)
        large.commit()
    service.wait_state("shop", "paused")
    (event,) = events(service)
    database.sql("INSERT INTO o SELECT generate_series(2, 9)")
    worker.kill()
    service.call("ResumeFlow", flow_id="shop")
    worker = service.worker("shop")
    service.wait_state("shop", "paused")
    service.call("DDLService/ApproveDDL", id=event.id)
    service.call("DDLService/MarkDDLApplied", id=event.id)
    lake.wait_count(30000, of=worker)
    lake.same("public.t", "public.o")
    assert [e.id for e in wait_events(service, "applied")] == [event.id]
