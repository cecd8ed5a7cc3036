"""Traces and metrics by OTLP, and the trace in log lines (issue 5, point 11). The collector is a stand-in: lib/collector.py."""

import json
import os
import socket
import subprocess
import time

import grpc
import pytest

from lib.api import Client, Server
from lib.collector import Collector
from lib.http import Http
from lib.paths import program
from lib.service import Service, flow_message
from lib.wait import wait_until

GET = "ductstream.v1.FlowService/GetFlow"
TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SECRET = "secret-of-the-collector-0123"


def otel(collector, **more):
    """The environment of a process that exports to it."""
    endpoint = collector if isinstance(collector, str) else collector.endpoint
    return {
        "OTEL_TRACES_EXPORTER": "otlp",
        "OTEL_METRICS_EXPORTER": "otlp",
        "OTEL_METRICS_INTERVAL": "300ms",
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": f"x-api-key={SECRET}",
        **more,
    }


@pytest.fixture
def env(monkeypatch):
    """Sets the environment of the processes that a test starts."""

    def set_all(settings):
        for name, value in settings.items():
            monkeypatch.setenv(name, value)

    return set_all


def wait_spans(collector, n, name=None, **attributes):
    wait_until(lambda: len(collector.spans(name, **attributes)) >= n, 30, f"{n} spans {name}: {collector.spans()}")
    return collector.spans(name, **attributes)


def http_port(server):
    return server.addresses("http")[0]


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_calls_are_spans(tmp_path, env, protocol):
    """Their names, codes and roles, under the caller's trace; both forms of OTLP are the official messages."""
    with Collector() as collector:
        env(otel(collector, OTEL_EXPORTER_OTLP_PROTOCOL=protocol, OTEL_RESOURCE_ATTRIBUTES="team=data%20movers"))
        with Server(tmp_path, HTTP_LISTEN="127.0.0.1:0", TOKEN="token-of-somebody-01234", OTEL_SERVICE="shop") as server:
            server.ready()
            with Client(server.address, token="token-of-somebody-01234") as client:
                client.metadata.append(("traceparent", f"00-{TRACE}-{PARENT}-01"))
                assert client.code(GET, flow_id="none")[0] == grpc.StatusCode.NOT_FOUND
                client.metadata.pop()
                client.call("ductstream.v1.FlowService/ListFlows")
            with Http(http_port(server), token="token-of-somebody-01234") as http:
                assert http.get("/v1/flows/none", headers={"traceparent": f"00-{TRACE}-{PARENT}-01"}).status == 404
                assert http.get("/v1/flows/none", headers={"traceparent": "rubbish"}).status == 404
                assert http.get("/v1/flows/none", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"}).status == 404
            (listed,) = wait_spans(collector, 1, "ductstream.v1.FlowService/ListFlows")
            three = wait_spans(collector, 3, GET)
            assert server.stop() == 0
        assert len(collector.spans(GET)) == 3, "what the caller does not want recorded is not"
        under = [span for span in three if span.trace == TRACE]
        assert {span.attributes["rpc.system"] for span in under} == {"grpc", "http"} and len(under) == 2
        assert all(span.parent == PARENT and span["code"] == "NOT_FOUND" and not span.failed for span in under)
        (own,) = [span for span in three if span.trace != TRACE]
        assert own.parent == "" and own.kind == 2 and own.attributes["rpc.grpc.status_code"] == 5
        assert listed["role"] == "admin" and listed["code"] == "OK" and listed.parent == ""
        assert listed.resource["service.name"] == "shop" and listed.resource["team"] == "data movers"
        assert listed.executable == "ductstream" and 0 <= listed.end - listed.begin < 20e9
        assert abs(time.time_ns() - listed.begin) < 120e9
        assert b"token-of-somebody" not in collector.raw and SECRET.encode() not in collector.raw
        assert all(headers["x-api-key"] == SECRET for _, _, headers, _, _ in collector.requests)
        assert SECRET not in server.text


def test_a_command_of_somebodys_trace(tmp_path, env):
    """ductstream-admin passes TRACEPARENT on; what is none it leaves out."""
    with Collector() as collector:
        env(otel(collector))
        with Server(tmp_path) as server:
            server.ready()
            for parent in (f"00-{TRACE}-{PARENT}-01", "rubbish"):
                command = [program("ductstream-admin"), "flow", "list", "--endpoint", server.address, "--insecure"]
                subprocess.run(command, env={**os.environ, "TRACEPARENT": parent}, check=True, capture_output=True)
            first, second = wait_spans(collector, 2, "ductstream.v1.FlowService/ListFlows")
            assert server.stop() == 0
        assert (first.trace, first.parent) == (TRACE, PARENT) and second.parent == ""


@pytest.mark.parametrize("protocol", ["http/protobuf", "http/json"])
def test_metrics_are_those_of_the_page(tmp_path, env, protocol):
    with Collector() as collector:
        env(otel(collector, OTEL_EXPORTER_OTLP_PROTOCOL=protocol))
        with Server(tmp_path, HTTP_LISTEN="127.0.0.1:0") as server:
            server.ready()
            with Http(http_port(server)) as http:
                for _ in range(3):
                    http.get("/v1/flows/none")
                page = http.get("/metrics").body.decode()
            name = "ductstream_api_requests_total"
            wait_until(lambda: name in collector.metrics() and collector.metrics()[name].sum.data_points, 20, "metrics")
            assert server.stop() == 0
        found = collector.metrics()
        names = {line.split()[2] for line in page.splitlines() if line.startswith("# TYPE")}
        empty = {n for n in names if not any(line.startswith((n + " ", n + "{", n + "_bucket")) for line in page.splitlines())}
        assert set(found) | empty >= names and set(found) <= names | {"ductstream_otel_failures_total"}
        requests = found[name]
        (point,) = requests.sum.data_points
        assert requests.sum.is_monotonic and requests.sum.aggregation_temporality == 2 and point.as_double == 3
        labels = {a.key: a.value.string_value for a in point.attributes}
        assert labels == {"service": "FlowService", "method": "GetFlow", "code": "NOT_FOUND", "transport": "http"}
        assert point.start_time_unix_nano < point.time_unix_nano
        (seconds,) = found["ductstream_api_request_seconds"].histogram.data_points
        assert seconds.count == 3 == sum(seconds.bucket_counts) and seconds.sum > 0
        assert len(seconds.bucket_counts) == len(seconds.explicit_bounds) + 1 and seconds.explicit_bounds[0] == 0.0005
        assert found["process_resident_memory_bytes"].gauge.data_points[0].as_double > 1e6
        assert found["ductstream_state_up"].gauge.data_points[0].as_double == 1
        assert found[name].description


def test_a_flow_as_a_trace(tmp_path, env, database, sqlite_lake, lake):
    """The worker's run, its copy, its commits, a change that is held, all in one trace, as its log lines are."""
    with Collector() as collector, Service(tmp_path / "service") as service:
        message = flow_message(database, sqlite_lake, "shop", destination={"flush_interval": "20ms"}, config={"ddl": {"gate": True}})
        service.call("CreateFlow", flow=message)
        settings = otel(collector, TRACEPARENT=f"00-{TRACE}-{PARENT}-01", DUCTSTREAM_LOG_FORMAT="json")
        worker = service.worker("shop", env=settings)
        lake.wait_count(100, of=worker)
        database.sql("INSERT INTO t VALUES (101, 'a'), (102, 'b')")
        lake.wait_count(102, of=worker)
        (commit,) = wait_spans(collector, 1, "commit", rows=2)
        database.sql("ALTER TABLE t ADD COLUMN more text; INSERT INTO t VALUES (103, 'c', 'd')")
        (held,) = wait_spans(collector, 1, "ddl")
        assert worker.terminate() == 0
        spans = collector.spans()
        flow = collector.spans("flow")[0]
        (copy,) = collector.spans("copy")
        assert {span.trace for span in spans} == {TRACE} and {span.executable for span in spans} == {"ductstream-worker"}
        assert flow.parent == PARENT and copy.parent == flow.id and commit.parent == flow.id and held.parent in (flow.id, commit.id)
        assert copy["rows"] == 100 and copy["tables"] == 1 and copy["flow"] == "shop"
        assert commit["snapshot_id"] > 0 and "/" in commit["lsn"] and commit["destination"] == "lake"
        assert held.events == ["ddl.gated"] and held["table"] == "t" and held["ddl.status"] == "pending"
        assert flow["copied_rows"] == 100 and flow["commits"] >= 1
        assert "process_cpu_seconds_total" in collector.metrics("ductstream-worker")
        lines = [json.loads(line) for line in worker.stderr.splitlines()]
        assert all("time" in line or "class" in line for line in lines)
        assert any(line.get("trace_id") == TRACE for line in lines), lines


def test_an_attempt_of_a_run_and_its_worker(tmp_path, env, database, sqlite_lake, lake):
    """The flow that a run drives in a process of its own is under the attempt."""
    with Collector() as collector:
        env(otel(collector))
        with Service(tmp_path / "service") as service:
            service.call("CreateFlow", flow=flow_message(database, sqlite_lake, "shop"))
            service.call("StartFlow", flow_id="shop")
            run = service.call("RunService/SubmitRun", kind="flow-once", flow_id="shop")
            (attempt,) = wait_spans(collector, 1, "run")
            flow = wait_spans(collector, 1, "flow")[0]
            assert attempt["flow"] == "shop" and attempt["run.kind"] == "flow-once"
            assert attempt["run.attempt"] == 1 and attempt["run.state"] == "succeeded"
            assert attempt["run.id"] == run.id
            told = lambda: [line for line in service.server.events("run") if line["run"] == run.id]  # noqa: E731
            (line,) = wait_until(told, 20, "the run's line")
            assert (line["trace_id"], line["span_id"]) == (attempt.trace, attempt.id)
            assert flow.trace == attempt.trace and flow.parent == attempt.id
            assert attempt.executable == "ductstream" and flow.executable == "ductstream-worker"


@pytest.mark.parametrize("how", ["down", "slow", "500", "503"])
def test_a_collector_that_does_not_take_it(tmp_path, env, database, sqlite_lake, lake, how):
    """The flow goes on and ends in time, and the log says it once per signal."""
    with Collector(status=int(how) if how.isdigit() else 200, delay=60 if how == "slow" else 0) as collector, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # it does not listen, and nobody else gets its port
        endpoint = f"http://127.0.0.1:{nobody.getsockname()[1]}" if how == "down" else collector.endpoint
        with Service(tmp_path / "service") as service:
            service.call("CreateFlow", flow=flow_message(database, sqlite_lake, "shop", destination={"flush_interval": "20ms"}))
            worker = service.worker("shop", env=otel(endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="2000"))
            lake.wait_count(100, of=worker)
            said = "the collector does not take what is exported"
            for i in range(20):
                database.sql(f"INSERT INTO t VALUES ({200 + i}, 'x')")
            lake.wait_count(120, of=worker)
            worker.wait_for(lambda: said in worker.stderr, 30, "the complaint")
            begin = time.monotonic()
            assert worker.terminate() == 0
            assert time.monotonic() - begin < 15
            lake.same()
            assert worker.stderr.count(said) <= 2 and SECRET not in worker.stderr


def test_it_goes_on_when_the_collector_is_back(tmp_path, env):
    """What waited meanwhile is sent; the log says both."""
    with Collector(status=503) as collector:
        env(otel(collector, OTEL_METRICS_EXPORTER="none"))
        with Server(tmp_path) as server:
            server.ready()
            with Client(server.address) as client:
                client.code(GET, flow_id="a")
                said = "the collector does not take what is exported: it is tried again, and told when it does"
                wait_until(lambda: server.events(said), 20, "the complaint")
                collector.status = 200
                (span,) = wait_spans(collector, 1, GET)
            wait_until(lambda: server.events("the collector takes what is exported again"), 10, "the good news")
            assert server.stop() == 0
        assert span["code"] == "NOT_FOUND" and len(collector.spans(GET)) == 1


def test_memory_stays_bounded(tmp_path, env):
    """Nobody takes the spans: the queue holds 4 MiB of them, what comes after that is dropped and counted."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(1)
        env(otel(f"http://127.0.0.1:{deaf.getsockname()[1]}", OTEL_METRICS_EXPORTER="none"))
        with Server(tmp_path, HTTP_LISTEN="127.0.0.1:0") as server:
            server.ready()
            value = lambda name: next(float(l.split()[-1]) for l in page().splitlines() if l.startswith(name + " "))  # noqa: E731,E741
            with Http(http_port(server)) as http, Client(server.address) as client:
                page = lambda: http.get("/metrics").body.decode()  # noqa: E731
                method, request = client.method(GET)
                before = value("process_resident_memory_bytes")

                def call_many():
                    calls = [method.future(request(flow_id="none")) for _ in range(1000)]
                    for call in calls:
                        call.exception()
                    return value("ductstream_otel_spans_dropped_total") > 1000

                for _ in range(60):
                    if call_many():
                        break
                assert value("ductstream_otel_spans_dropped_total") > 1000
                assert value("process_resident_memory_bytes") - before < 96 << 20
            begin = time.monotonic()
            assert server.stop() == 0 and time.monotonic() - begin < 10


def test_settings_that_are_wrong(tmp_path, env):
    """A value nobody knows is told and does not count; one that cannot be read ends the start."""
    env({"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_METRICS_EXPORTER": "none"})
    with Server(tmp_path) as server:
        server.ready()
        (line,) = server.events("a setting is not known here")
        assert (line["name"], line["value"], line["instead"]) == ("OTEL_TRACES_EXPORTER", "zipkin", "none")
        assert server.stop() == 0
    env({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_HEADERS": SECRET})
    with Server(tmp_path) as server:
        code, text = server.ended()
        assert code == 2 and "OTEL_EXPORTER_OTLP_HEADERS" in text and SECRET not in text
