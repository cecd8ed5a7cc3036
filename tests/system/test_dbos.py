"""Runs through a real DBOS system database (issue 5, point 5): PyPI dbos makes it, its Python client enqueues and watches."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from dbos import DBOSClient, WorkflowSerializationFormat
from dbos._error import DBOSAwaitedWorkflowCancelledError
from lib.service import DUCKLAKE, POSTGRES, Lake, Service, flow_message
from lib.wait import wait_until


FLOW = {
    "source": {"type": POSTGRES, "options": {"dsn": "host=db", "slot": "s", "publication": "p"}},
    "destinations": [{"name": "lake", "type": DUCKLAKE, "options": {"catalog": "sqlite:none/catalog.sqlite", "data_path": "none"}}],
}


def url(database):
    return f"postgresql://postgres@/{database.name}?host={database.server.folder}"


@pytest.fixture(scope="module")
def system_database(server):
    """A database with DBOS's schema, made once."""
    made = server.database("dbos_system")
    subprocess.run([Path(sys.executable).parent / "dbos", "migrate", "-s", url(made)], check=True, capture_output=True)
    yield made
    made.drop()


@pytest.fixture
def dbos(system_database):
    """The database without workflows of earlier tests."""
    tables = "workflow_status, workflow_input, workflow_output, operation_outputs, queues"
    system_database.sql(f"TRUNCATE {', '.join('dbos.' + name for name in tables.split(', '))} CASCADE")
    return system_database


@pytest.fixture
def client(dbos):
    made = DBOSClient(system_database_url=url(dbos))
    yield made
    made.destroy()


@pytest.fixture
def service(tmp_path, dbos, database):
    settings = {"DBOS_ENABLED": "true", "DBOS_DSN": dbos.dsn, "RUN_DSN_WAREHOUSE": database.dsn, "RUN_BACKOFF": "50ms"}
    with Service(tmp_path / "home", **settings, DISPATCH="dbos") as running:
        yield running


def enqueue(client, workflow, *args, queue="ductstream", app="ductstream", options=None, **named):
    return client.enqueue(
        {
            "workflow_name": workflow,
            "queue_name": queue,
            "serialization_type": WorkflowSerializationFormat.PORTABLE,
            "application_name": app,
            **(options or {}),
        },
        *args,
        **named,
    )


def sql(client, *statements, **more):
    given = {"dsn": "warehouse", "statements": list(statements)}
    return enqueue(client, "ductstream.run", kind="sql", input=given, **more)


def status(client, handle):
    return client.retrieve_workflow(handle.workflow_id).get_status().status


def test_a_workflow_of_the_python_client_is_a_run_of_ours(service, client, database):
    """Enqueued there, done here, its result there; the run has the workflow's id, a log and a worker."""
    database.sql("CREATE TABLE hits (run text)")
    handles = [sql(client, "INSERT INTO hits VALUES (current_setting('ductstream.run_id'))") for _ in range(40)]
    assert [handle.get_result() for handle in handles] == [{"statements": 1}] * 40
    ids = {handle.workflow_id for handle in handles}
    assert {run for (run,) in database.query("SELECT run FROM hits")} == ids
    assert database.value("SELECT count(*) FROM hits") == 40
    run = service.call("RunService/GetRun", id=handles[0].workflow_id)
    assert run.state == 3 and dict(run.tags) == {"from": "dbos"} and run.worker
    seen = client.retrieve_workflow(handles[0].workflow_id).get_status()
    assert (seen.status, seen.executor_id) == ("SUCCESS", "ductstream")
    (step,) = client.list_workflow_steps(handles[0].workflow_id)
    assert (step["function_id"], step["function_name"], step["output"]) == (1, "sql", {"statements": 1})


def test_errors_arrive_as_errors(service, client):
    """A failed run is an error there, with its message; so is one that cannot be begun."""
    for handle, text in [
        (sql(client, "SELECT 1/0"), "division by zero"),
        (enqueue(client, "ductstream.run", kind="nothing", input={}), "kind:"),
        (enqueue(client, "ductstream.run_flow", "none"), 'no flow "none"'),
        (enqueue(client, "ductstream.run", kind="command", input={"argv": ["/bin/true"]}), "not taken from DBOS"),
    ]:
        with pytest.raises(Exception, match=text) as caught:
            handle.get_result()
        assert caught.value.name == "DuctStreamRunFailed"


def test_one_that_no_state_can_hold_stops_nobody_else(tmp_path, dbos, client, database):
    """What is too long for an index of the state ends as an error; those behind it are done."""
    settings = {"DBOS_ENABLED": "true", "DBOS_DSN": dbos.dsn, "RUN_DSN_WAREHOUSE": database.dsn, "POSTGRES_DSN": database.dsn}
    with Service(tmp_path / "home", **settings):
        long = os.urandom(2000).hex()
        for handle, text in [
            (enqueue(client, "ductstream.run_flow", long), "flow_id: longer than"),
            (sql(client, "SELECT 1", options={"workflow_id": long[:2600]}), "workflow id: longer than"),
            (sql(client, "SELECT 1", "-" * 2_000_000), "input_json: longer than"),
        ]:
            with pytest.raises(Exception, match=text):
                handle.get_result()
        assert sql(client, "SELECT 1").get_result() == {"statements": 1}


def test_a_cancel_there_ends_the_run_here(service, client, database):
    handle = sql(client, "SELECT pg_sleep(100)")
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(100)' AND state = 'active'"
    wait_until(lambda: database.value(sleeping) == 1, 20, "the statement to run")
    client.cancel_workflow(handle.workflow_id)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        handle.get_result()
    wait_until(lambda: service.call("RunService/GetRun", id=handle.workflow_id).state == 5, 20, "the run to be cancelled")
    assert status(client, handle) == "CANCELLED"
    client.resume_workflow(handle.workflow_id)
    wait_until(lambda: database.value(sleeping) == 1, 20, "the resumed statement to run")
    client.cancel_workflow(handle.workflow_id)
    wait_until(lambda: database.value(sleeping) == 0, 20, "the statement to end")


def test_deadlines_delays_and_deduplication(service, client, database):
    late = sql(client, "SELECT pg_sleep(100)", options={"workflow_timeout": 1.0})
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        late.get_result()
    database.sql("CREATE TABLE hits (at timestamptz DEFAULT clock_timestamp())")
    with database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(7)")
        sql(client, "SELECT pg_advisory_xact_lock(7)", options={"deduplication_id": "d"})  # it is not over before us
        with pytest.raises(Exception, match="[Dd]uplicat"):
            sql(client, "SELECT 1", options={"deduplication_id": "d"})
    began = time.time()
    delayed = sql(client, "INSERT INTO hits DEFAULT VALUES", options={"delay_seconds": 1.5})
    assert delayed.get_result() == {"statements": 1}
    assert database.value("SELECT extract(epoch FROM at)::float8 FROM hits") >= began + 1.4


OVERLAP = (
    "SELECT max(n) FROM (SELECT (SELECT count(*) FROM dbos.workflow_status b WHERE b.started_at_epoch_ms < a.completed_at "
    "AND b.completed_at > a.started_at_epoch_ms AND {same}) AS n FROM dbos.workflow_status a) x"
)


def test_concurrency_of_the_queue_holds(service, client, dbos):
    """dbos.queues.concurrency: so many at once."""
    dbos.sql("INSERT INTO dbos.queues (name, concurrency) VALUES ('ductstream', 1)")
    handles = [sql(client, "SELECT pg_sleep(0.05)") for _ in range(5)]
    assert all(handle.get_result() for handle in handles)
    assert dbos.value(OVERLAP.format(same="true")) == 1


def test_one_per_partition_at_once(service, client, dbos):
    """dbos.queues.partition_concurrency: one of each key, both keys beside each other."""
    dbos.sql("INSERT INTO dbos.queues (name, partition_queue, partition_concurrency) VALUES ('ductstream', true, 1)")
    handles = [sql(client, "SELECT pg_sleep(0.3)", options={"queue_partition_key": "ab"[i % 2]}) for i in range(6)]
    assert all(handle.get_result() for handle in handles)
    assert dbos.value(OVERLAP.format(same="a.queue_partition_key = b.queue_partition_key")) == 1
    assert dbos.value(OVERLAP.format(same="true")) >= 2  # out of step, one of a key meets two of the other


def test_rate_of_the_queue_holds(service, client, dbos):
    """dbos.queues.rate_limit: never more than 3 begin within 2 s."""
    dbos.sql("INSERT INTO dbos.queues (name, rate_limit_max, rate_limit_period_sec) VALUES ('ductstream', 3, 2)")
    handles = [sql(client, "SELECT 1") for _ in range(8)]
    assert all(handle.get_result() for handle in handles)
    within = (
        "SELECT max(n) FROM (SELECT (SELECT count(*) FROM dbos.workflow_status b WHERE b.started_at_epoch_ms >= "
        "a.started_at_epoch_ms AND b.started_at_epoch_ms < a.started_at_epoch_ms + 2000) AS n FROM dbos.workflow_status a) x"
    )
    assert dbos.value(within) == 3


def test_priorities_order_the_queue(service, client, dbos, database):
    """Lower first, among those that wait."""
    dbos.sql("INSERT INTO dbos.queues (name, concurrency) VALUES ('ductstream', 1)")
    with database.connect() as holder:
        holder.execute("SELECT pg_advisory_lock(7)")
        first = sql(client, "SELECT pg_advisory_xact_lock(7)")  # it ends when all of them wait
        wait_until(lambda: status(client, first) == "PENDING", 20, "the first one to begin")
        handles = {p: sql(client, "SELECT 1", options={"priority": p}) for p in (5, 9, 2, 7)}
    assert all(handle.get_result() for handle in handles.values())
    order = [p for (p,) in dbos.query("SELECT priority FROM dbos.workflow_status ORDER BY started_at_epoch_ms")][1:]
    assert order == [2, 5, 7, 9]


def test_rows_of_other_applications_stay(service, client, dbos):
    other = enqueue(client, "ductstream.run", kind="sql", input={}, app="other")
    unknown = enqueue(client, "their.workflow", 1)
    mine = sql(client, "SELECT 1")
    assert mine.get_result() == {"statements": 1}
    assert status(client, other) == status(client, unknown) == "ENQUEUED"


def test_a_killed_server_loses_and_doubles_nothing(service, client, database):
    """kill -9 of the server while it bridges and works: the next one adopts its rows; each statement takes effect once."""
    database.sql("CREATE TABLE hits (run text)")
    handles = [sql(client, "INSERT INTO hits SELECT current_setting('ductstream.run_id') FROM pg_sleep(0.02)") for _ in range(60)]
    for done in (5, 15, 30):
        wait_until(lambda: database.value("SELECT count(*) FROM hits") >= done, 30, f"{done} runs")
        service.server.kill()
        service.start()
    assert [handle.get_result() for handle in handles] == [{"statements": 1}] * 60
    assert database.query("SELECT count(*), count(DISTINCT run) FROM hits") == [(60, 60)]


def test_one_server_bridges_an_application(service, client, dbos, tmp_path):
    """A second server, on a state of its own, waits; it takes over when the first one has died."""
    with Service(tmp_path / "other", **{**service.settings}) as other:
        wait_until(lambda: other.server.events("DBOS"), 20, "the second server to say that it waits")
        assert "another server bridges" in other.server.events("DBOS")[0]["error"]
        handles = [sql(client, "SELECT 1") for _ in range(20)]
        assert all(handle.get_result() for handle in handles)
        assert not other.call("RunService/ListRuns").runs
        service.server.kill()
        late = sql(client, "SELECT 1")
        assert late.get_result() == {"statements": 1}
        assert [run.id for run in other.call("RunService/ListRuns").runs] == [late.workflow_id]
    service.start()


def test_the_schedule_enqueues_running_flows(tmp_path, dbos, database, sqlite_lake):
    """The page: with DUCTSTREAM_DBOS_SCHEDULE, DBOS enqueues one run for each flow in running; the polls bring the changes."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION shop FOR TABLE t; INSERT INTO t VALUES (1)")
    settings = {"DBOS_ENABLED": "true", "DBOS_DSN": dbos.dsn, "DBOS_SCHEDULE": "*/2 * * * * *", "DISPATCH": "dbos"}
    with Service(tmp_path / "home", **settings) as service:
        service.call("CreateFlow", flow=flow_message(database, sqlite_lake), start_immediately=True)
        service.call("CreateFlow", flow=flow_message(database, sqlite_lake, flow_id="idle"))
        lake = Lake(database, sqlite_lake)
        try:
            lake.wait_count(1)
            database.sql("INSERT INTO t SELECT generate_series(2, 50)")
            lake.wait_count(50)
        finally:
            lake.close()
        service.call("PauseFlow", flow_id="shop")
        time_of = lambda: service.call("ScheduleService/GetSchedule", name="dbos-flows").last_at.seconds  # noqa: E731
        paused = time_of()
        wait_until(lambda: time_of() > paused, 20, "a tick: one that had seen the flow running is over then")
        rows = dbos.query(
            "SELECT w.workflow_uuid, w.name, w.application_name, i.inputs FROM dbos.workflow_status w "
            "JOIN dbos.workflow_input i USING (workflow_uuid)"
        )
        assert rows
        for workflow_id, name, app, inputs in rows:
            assert workflow_id.startswith("sched-dbos-flows-") and workflow_id.endswith("-shop")
            assert (name, app) == ("ductstream.run_flow", "ductstream")
            assert json.loads(inputs)["namedArgs"] == {"flow_id": "shop", "max_empty_reads": 1}
        left = "SELECT FROM dbos.workflow_status WHERE status <> 'SUCCESS'"
        wait_until(lambda: not dbos.query(left), 20, "all of them to succeed")
        n = dbos.value("SELECT count(*) FROM dbos.workflow_status")
        last = time_of()
        wait_until(lambda: time_of() >= last + 4, 20, "two more ticks")
        assert dbos.value("SELECT count(*) FROM dbos.workflow_status") == n


def test_a_dbos_that_says_nothing_holds_no_other_schedule(tmp_path):
    """The schedules of the state go on, those after it too, and the server ends at once."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        dsn = f"host=127.0.0.1 port={silent.getsockname()[1]} user=nobody connect_timeout=120"
        with Service(tmp_path / "home", DBOS_ENABLED="true", DBOS_DSN=dsn, DBOS_SCHEDULE="* * * * * *", RUN_WORKERS=0) as service:
            names = ("after", "zulu")  # before and after dbos-flows
            for name in names:
                given = {"name": name, "cron": "* * * * * *", "kind": "sql", "input_json": '{"dsn": "w", "statements": ["SELECT 1"]}'}
                service.call("ScheduleService/CreateSchedule", schedule=given)
            runs = lambda name: service.call("RunService/ListRuns", schedule=name).runs  # noqa: E731
            wait_until(lambda: all(map(runs, names)), 10, "a run of each")
            last = lambda: service.call("ScheduleService/GetSchedule", name="zulu").last_at.seconds  # noqa: E731
            first = last()
            wait_until(lambda: last() >= first + 2, 10, "its next ticks")
            assert service.server.stop(timeout_s=10) == 0


def test_a_poll_waits_for_dbos_no_longer_than_its_caller(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(30)
        dsn = f"host=127.0.0.1 port={silent.getsockname()[1]} user=nobody connect_timeout=120"
        with Service(tmp_path / "home", DBOS_ENABLED="true", DBOS_DSN=dsn, DISPATCH="dbos", RUN_WORKERS=0) as service:
            bridge, _ = silent.accept()
            service.call("CreateFlow", flow={"id": "shop", **FLOW}, start_immediately=True)
            code = service.client.code("ductstream.v1.FlowService/RunFlowOnce", flow_id="shop", timeout=1)[0]
            assert code.name == "DEADLINE_EXCEEDED"
            asked, _ = silent.accept()
            asked.settimeout(10)
            while asked.recv(4096):
                pass  # until the server has given it up
            bridge.close(), asked.close()


def test_a_schema_that_is_too_old_is_refused(tmp_path, database):
    """Version gate: what it found, what it needs, what to do; the server goes on."""
    database.sql("CREATE SCHEMA dbos; CREATE TABLE dbos.dbos_migrations AS SELECT 108::bigint AS version")
    with Service(tmp_path / "home", DBOS_ENABLED="true", DBOS_DSN=database.dsn) as service:
        wait_until(lambda: service.server.events("DBOS"), 20, "the server to say so")
        (line, *_) = service.server.events("DBOS")
        assert "schema version 108: 114 or later is needed" in line["error"]
        assert service.call("ListFlows").flows == []
