"""A flow made by a call and run by `ductstream-worker` (issue 5, points 1 and 4)."""

import json
import os
import signal
import sqlite3
import subprocess
import time
from contextlib import closing

import pytest
from google.protobuf import json_format, message_factory

from lib.api import Client, local_pool
from lib.lake import LakeHome
from lib.pause import freeze
from lib.paths import ROOT, program
from lib.receiver import Receiver
from lib.service import Lake, Service, flow_message
from lib.wait import wait_until


EXAMPLES = sorted((ROOT / "examples" / "flows").glob("*.json"))


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("service")) as running:
        yield running


@pytest.fixture
def flow(service, database, sqlite_lake, lake, request):
    """The id of a flow of its own."""
    flow_id = "f_" + database.name + "_" + str(abs(hash(request.node.name)) % 10**6)
    service.call("CreateFlow", flow=flow_message(database, sqlite_lake, flow_id, destination={"flush_interval": "20ms"}))
    yield flow_id
    for worker in service.workers:
        worker.kill()


def run(*args, env=None):
    """(exit code, stderr) of a worker that ends by itself."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith("DUCTSTREAM_")}
    done = subprocess.run(
        [program("ductstream-worker"), *args], env={**clean, **(env or {})}, capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr + done.stdout


def test_a_created_flow_runs_and_follows(service, flow, lake, database):
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    assert service.state_of(flow) == "running"
    database.sql("INSERT INTO t VALUES (101, 'new'); UPDATE t SET v = 'x' WHERE id <= 10; DELETE FROM t WHERE id > 95 AND id <= 100")
    lake.wait_count(96, of=worker)
    lake.same()
    with closing(sqlite3.connect(service.state)) as connection:
        (actor,) = connection.execute("SELECT actor FROM audit_log WHERE action = 'flow.move' AND object = ?", (flow,)).fetchone()
    assert actor.startswith("worker:") and actor.endswith(f":{worker.pid}")
    # Stopping the worker is not stopping the flow.
    assert worker.terminate() == 0
    assert service.state_of(flow) == "running"


def test_one_poll_and_out(service, flow, lake, database):
    service.worker(flow, "-max-empty-reads", "1").expect(0)
    lake.same()
    database.sql("INSERT INTO t VALUES (101, 'new')")
    service.worker(flow, "--max-empty-reads=2").expect(0)
    lake.same()
    assert service.state_of(flow) == "running"


def test_pause_and_resume(service, flow, lake, database):
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    database.sql("INSERT INTO t VALUES (101, 'before the pause')")
    service.call("PauseFlow", flow_id=flow)
    assert worker.wait() == 0, worker.stderr
    lake.same()
    database.sql("INSERT INTO t VALUES (102, 'while paused')")
    message = service.worker(flow).expect(2)
    assert f'flow "{flow}" is paused (paused by local)' in message and "resume it first" in message
    assert service.state_of(flow) == "paused"
    service.call("ResumeFlow", flow_id=flow)
    worker = service.worker(flow)
    lake.wait_count(102, of=worker)
    lake.same()
    assert worker.running


def test_stop_is_stopping_until_the_worker_has_ended(service, flow, lake):
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    assert service.call("StopFlow", flow_id=flow).state in (4, 6)
    assert worker.wait() == 0
    assert service.state_of(flow) == "stopped"
    assert service.call("DeleteFlow", flow_id=flow).deleted


@pytest.mark.parametrize("moment", ["INSERT ON leases", "UPDATE ON leases WHEN new.holder = ''"], ids=["begins", "ends"])
def test_a_flow_that_is_stopped_while_its_worker_begins_or_ends(service, flow, lake, moment):
    """The worker has the lease and has not looked at the flow yet, or does not look at it again: it does not stay stopping."""
    service.call("StartFlow", flow_id=flow)
    with closing(sqlite3.connect(service.state, timeout=30)) as state:
        state.execute(f"CREATE TRIGGER stop AFTER {moment} BEGIN UPDATE flows SET state = 'stopping' WHERE id = '{flow}'; END")
        service.worker(flow, "-max-empty-reads", "1").wait()
        state.execute("DROP TRIGGER stop")
    assert service.state_of(flow) == "stopped"


def test_a_flow_whose_worker_died_while_stopping_is_stopped(service, flow, lake):
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    freeze(worker, service.state)
    assert service.call("StopFlow", flow_id=flow).state == 4
    worker.kill()
    wait_until(lambda: service.call("StopFlow", flow_id=flow).state == 6, 30, "the dead worker's lease to end", 0.2)
    assert service.call("StartFlow", flow_id=flow).state == 2


def test_update_keeps_position_and_slot(service, flow, lake, database, sqlite_lake):
    """The worker goes on with the new definition: no second copy, the same slot, a position that only rises."""
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    slot = "SELECT slot_name, confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = '%s'" % flow
    before = database.query(slot)
    changed = flow_message(database, sqlite_lake, flow, source={"batch_size": "7"}, destination={"flush_interval": "40ms"})
    assert service.call("UpdateFlow", flow=changed).state == 2
    worker.wait_for(lambda: "going on with its new definition" in worker.stderr, 30, "the new definition to be taken up")
    database.sql("INSERT INTO t VALUES (101, 'after the update')")
    lake.wait_count(101, of=worker)
    lake.same()
    after = database.query(slot)
    assert len(after) == 1 and after[0][0] == before[0][0]
    assert "copy" not in worker.stderr.rpartition("new definition")[2]
    assert worker.terminate() == 0


def test_reconfigure_pauses_adds_tables_and_resumes(service, flow, lake, database, sqlite_lake):
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    service.call("PauseFlow", flow_id=flow)
    assert worker.wait() == 0
    changed = flow_message(database, sqlite_lake, flow, destination={"flush_interval": "30ms"})
    made = service.call("ReconfigureFlow", flow=changed, resume_after=True)
    assert made.state == 2 and made.destinations[0].options["flush_interval"] == "30ms"
    worker = service.worker(flow)
    database.sql("INSERT INTO t VALUES (101, 'new')")
    lake.wait_count(101, of=worker)
    made = service.call("ReconfigureFlow", flow=changed, resume_after=False)
    assert made.state == 3 and worker.wait() == 0
    # What is wrong is refused before anything is paused.
    service.call("ResumeFlow", flow_id=flow)
    changed["source"]["options"]["batch_size"] = "x"
    assert service.fails("ReconfigureFlow", flow=changed)[0] == "INVALID_ARGUMENT"
    assert service.state_of(flow) == "running"


def test_a_reconfiguration_that_is_given_up_leaves_the_flow_running(service, flow, lake, database, sqlite_lake):
    """Its worker stands still, and the caller does not wait for it."""
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    freeze(worker, service.state)
    changed = flow_message(database, sqlite_lake, flow, destination={"flush_interval": "30ms"})
    with Client(service.server.address) as client:
        code, _ = client.code("ductstream.v1.FlowService/ReconfigureFlow", timeout=1, flow=changed)
    assert code.name == "DEADLINE_EXCEEDED"
    wait_until(lambda: service.state_of(flow) == "running", 10, "the flow to be running again")
    assert service.call("GetFlow", flow_id=flow).destinations[0].options["flush_interval"] == "20ms"
    worker.signal(signal.SIGCONT)
    worker.kill()


def test_reconfigure_brings_the_publication_in_line(service, flow, lake, database, sqlite_lake):
    """A table that the new options name is published, copied and followed; the flow goes on."""
    database.sql("CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'there before')")
    options = {"publication_tables": "public.t", "batch_size": "7"}
    service.call("UpdateFlow", flow=flow_message(database, sqlite_lake, flow, source=options, destination={"flush_interval": "20ms"}))
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    assert lake.count("public.u") == -1
    options["publication_tables"] = "public.t,public.u"
    changed = flow_message(database, sqlite_lake, flow, source=options, destination={"flush_interval": "20ms"})
    assert service.call("ReconfigureFlow", flow=changed, sync_publication=True).state == 2
    assert sorted(service.call("ListPublicationTables", flow_id=flow).tables) == ["public.t", "public.u"]
    database.sql("INSERT INTO u VALUES (2, 'new'); INSERT INTO t VALUES (101, 'new')")
    lake.wait_count(2, "public.u", of=worker)
    lake.wait_count(101, of=worker)
    lake.same("public.t", "public.u")
    assert worker.running


def test_a_pause_for_a_moment_is_waited_for(service, flow, lake, database):
    """Without the lease; by who is running already and by who is started meanwhile. What is not resumed but stopped ends them in order."""
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    service.call("PauseFlow", flow_id=flow, for_a_moment=True)
    worker.wait_for(lambda: "the flow is paused for a moment" in worker.stderr, 30, "the worker to rest")
    assert service.state_of(flow) == "paused"
    database.sql("INSERT INTO t VALUES (101, 'meanwhile')")
    service.worker(flow, "-max-empty-reads", "1").expect(2)  # who comes for one poll does not wait
    service.call("ResumeFlow", flow_id=flow)
    lake.wait_count(101, of=worker)
    assert worker.running and "the flow goes on" in worker.stderr
    worker.terminate()
    service.call("PauseFlow", flow_id=flow, for_a_moment=True)
    waiting = service.worker(flow)
    waiting.wait_for(lambda: "the flow is paused for a moment" in waiting.stderr, 30, "the worker to rest")
    service.call("StopFlow", flow_id=flow)
    assert waiting.wait(20) == 0, waiting.stderr
    lake.same()


def test_the_position_and_the_counters_can_be_read(service, flow, lake, database):
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    database.sql("INSERT INTO t VALUES (101, 'new')")
    lake.wait_count(101, of=worker)

    def report():
        with closing(sqlite3.connect(service.state, timeout=10)) as connection:
            rows = connection.execute("SELECT report FROM flow_reports WHERE flow_id = ?", (flow,)).fetchall()
        return json.loads(rows[0][0]) if rows else {}

    worker.wait_for(lambda: report().get("committed_rows") == 1, 30, "the report")
    assert report()["phase"] == "streaming" and report()["copied_rows"] == 100 and str(worker.pid) in report()["worker"]

    def number(lsn):
        high, _, low = lsn.partition("/")
        return int(high, 16) << 32 | int(low, 16)

    # As much as the destination has proven is what the slot may be told, and what people are shown.
    durable = report()["durable"]
    worker.wait_for(
        lambda: number(service.call("CheckpointService/GetCheckpoint", flow_id=flow).checkpoint.lsn) >= number(durable), 30, "the copy"
    )
    assert service.fails("CheckpointService/PutCheckpoint", flow_id=flow, checkpoint={"lsn": "0/1"})[0] == "FAILED_PRECONDITION"


def test_a_second_worker_is_refused_with_the_name_of_the_first(service, flow, lake):
    first = service.worker(flow)
    lake.wait_count(100, of=first)
    started = time.monotonic()
    message = service.worker(flow).expect(4)
    assert time.monotonic() - started < 8
    assert f'flow "{flow}" is run by another worker: ' in message and f":{first.pid}:" in message
    assert first.running
    assert service.fails("CleanupFlow", flow_id=flow)[0] == "FAILED_PRECONDITION"
    service.call("PauseFlow", flow_id=flow)


def test_an_error_that_stays_makes_the_flow_failed(service, flow, lake, database, sqlite_lake):
    service.worker(flow, "-max-empty-reads", "1").expect(0)
    changed = flow_message(database, sqlite_lake, flow, source={"ensure_publication": "false", "publication": "gone"})
    service.call("UpdateFlow", flow=changed)
    worker = service.worker(flow)
    assert 'publication "gone" does not exist' in worker.expect(2)
    assert service.state_of(flow) == "failed"
    with closing(sqlite3.connect(service.state)) as connection:
        (reason,) = connection.execute("SELECT reason FROM flows WHERE id = ?", (flow,)).fetchone()
    assert 'publication "gone" does not exist' in reason
    # Mended, it goes on where it was.
    service.call("UpdateFlow", flow=flow_message(database, sqlite_lake, flow))
    service.call("ResumeFlow", flow_id=flow)
    database.sql("INSERT INTO t VALUES (101, 'new')")
    service.worker(flow, "-max-empty-reads", "1").expect(0)
    lake.same()


def test_two_destinations(service, flow, lake, database, sqlite_lake, tmp_path):
    """One slot, two lakes: both are the source."""
    other = LakeHome(f"sqlite:{tmp_path}/other.sqlite", tmp_path / "other")
    message = flow_message(database, sqlite_lake, flow)
    second = {"catalog": other.catalog, "data_path": str(other.data_path)}
    message["destinations"].append({"name": "other", "type": 14, "options": second})
    assert len(service.call("UpdateFlow", flow=message).destinations) == 2
    worker = service.worker(flow)
    lake.wait_count(100, of=worker)
    database.sql("INSERT INTO t VALUES (101, 'new')")
    lake.wait_count(101, of=worker)
    two = Lake(database, other)
    two.wait_count(101, of=worker)
    lake.same()
    two.same()
    two.close()
    other.close()


def test_a_flow_that_only_copies_is_stopped_by_its_end(service, flow, lake, database, sqlite_lake):
    service.call("UpdateFlow", flow=flow_message(database, sqlite_lake, flow, source={"snapshot": "only"}))
    service.worker(flow, "-snapshot-workers", "2").expect(0)
    lake.same()
    assert service.state_of(flow) == "stopped"


@pytest.mark.alone
def test_ready_within_a_third_of_a_second(service, flow, lake, database):
    """From exec to START_REPLICATION, as the server sees it. What others take of the machine can only add to it, so one of many counts."""
    service.worker(flow, "-max-empty-reads", "1").expect(0)
    active = f"SELECT 1 FROM pg_replication_slots WHERE slot_name = '{flow}' AND active"
    times = []
    while len(times) < 20 and min(times, default=1) >= 0.3:
        started = time.monotonic()
        worker = service.worker(flow)
        wait_until(lambda: database.query(active), 20, "the stream to begin", 0.002)
        times.append(time.monotonic() - started)
        assert worker.terminate() == 0
        wait_until(lambda: not database.query(active), 20, "the slot to be free", 0.002)
    assert min(times) < 0.3, times


def test_on_a_state_in_postgres(tmp_path, server, database, sqlite_lake, lake):
    """The same on a server's database: secrets, pause, a second worker, a takeover."""
    state = server.database(database.name + "_state")
    with Service(tmp_path / "service", POSTGRES_DSN=state.dsn) as service:
        made = service.call("CreateFlow", flow=flow_message(database, sqlite_lake, "shop", destination={"flush_interval": "20ms"}))
        assert made.source.options["slot"] == "shop" and not service.state.exists()
        assert database.dsn not in state.value("SELECT definition FROM ductstream.flows")
        first = service.worker("shop")
        lake.wait_count(100, of=first)
        assert f":{first.pid}:" in service.worker("shop").expect(4)
        first.kill()
        database.sql("INSERT INTO t VALUES (101, 'new')")
        second = service.worker("shop")
        lake.wait_count(101, of=second)
        service.call("PauseFlow", flow_id="shop")
        assert second.wait() == 0
        lake.same()
    state.drop()


# --- the command line


def test_flags(tmp_path):
    env = {"HOME": str(tmp_path)}
    code, text = run("--help", env=env)
    lines = text.splitlines()
    assert code == 0 and len(lines) <= 24 and max(map(len, lines)) <= 80
    for flag in (
        "flow-id", "max-empty-reads", "mode", "tables", "schemas", "start-lsn", "snapshot-workers", "partition-column",
        "partition-count", "resolve-staging",
    ):
        assert f"-{flag}" in text
    for args, said in (
        ([], 'flag "-flow-id" is missing'),
        (["-flow-id", "a b"], "is no id of a flow"),
        (["-flow-id", "x", "-max-empty-reads", "-1"], 'flag "-max-empty-reads": "-1" is not a number'),
        (["-flow-id", "x", "-mode", "cd"], "is neither cdc nor backfill"),
        (["-flow-id", "x", "-tables", "a"], "needs -mode backfill"),
        (["-flow-id", "x", "-mode", "backfill", "-tables", ""], 'flag "-tables": "" names nothing'),
        (["-flow-id", "x", "-mode", "backfill", "-tables", "a", "-schemas", " ,"], 'flag "-schemas": " ," names nothing'),
        (["-flow-id", "x", "-start-lsn", "zz"], 'flag "-start-lsn"'),
        (["-flow-id", "x", "-flow-ids", "y"], "did you mean"),
        (["-flow-id", "x", "y"], "takes no arguments"),
    ):
        code, text = run(*args, env=env)
        assert code == 2 and said in text, (args, text)
    assert list(tmp_path.iterdir()) == []


def test_flags_from_the_environment(service, flow, lake):
    environment = {
        "HOME": str(service.home),
        "DUCTSTREAM_STATE_PATH": str(service.state),
        "DUCTSTREAM_WORKER_FLOW_ID": flow,
        "DUCTSTREAM_WORKER_MAX_EMPTY_READS": "1",
    }
    code, text = run(env=environment)
    assert code == 0, text
    lake.same()


def test_unknown_flows_are_named(service):
    code, text = run("-flow-id", "none-such", env={"HOME": str(service.home), "DUCTSTREAM_STATE_PATH": str(service.state)})
    assert code == 2 and 'flow "none-such": there is none in sqlite ' in text


# --- examples


@pytest.fixture
def receiver():
    with Receiver() as receiver:
        yield receiver


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_run_as_they_are_sent(service, database, server, tmp_path, receiver, path):
    """Each request of examples/flows, with nothing but environment variables set (issue 5, point 1)."""
    database.sql(
        """CREATE TABLE orders (id int PRIMARY KEY, what text); CREATE TABLE customers (id int PRIMARY KEY, name text);
        INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 10) i"""
    )
    catalog = server.database(database.name + "_catalog")
    request = json.loads(path.read_text())
    made = service.call("CreateFlow", **json_message(request))
    env = {
        "DUCTSTREAM_SOURCE_DSN": database.dsn,
        "DUCTSTREAM_CATALOG_DSN": catalog.dsn,
        "DUCTSTREAM_STREAM_DSN": catalog.dsn,
        "DUCTSTREAM_LAKE": str(tmp_path),
        "DUCTSTREAM_RECEIVER": receiver.address,
    }
    worker = service.worker(made.id, "-max-empty-reads", "1", env=env)
    worker.expect(0)
    into_lake = made.destinations[0].type == 14 and "without-snapshot" not in path.stem
    assert not into_lake or (tmp_path / "data").exists()
    assert service.state_of(made.id) == "running"
    service.call("StopFlow", flow_id=made.id)
    service.call("DeleteFlow", flow_id=made.id)
    catalog.drop()


def json_message(request):
    """The fields of a request as grpcurl reads them."""
    method = local_pool().FindMessageTypeByName("ductstream.v1.CreateFlowRequest")
    message = json_format.ParseDict(request, message_factory.GetMessageClass(method)())
    return {"flow": message.flow, "start_immediately": message.start_immediately}
