"""The gRPC listener (issue 5, point 1, and "Bad input gets"): reflection, health, deadlines, cancellation, limits, broken clients, stops.

The server is tests/system/api_driver.c, under the sanitizers: the real listener with methods made up for these tests.
"""

import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import grpc
import pytest

from lib.api import Client, Server, Watch, api_driver, free_port, grpcurl, local_pool
from lib.paths import ROOT
from lib.wait import wait_until

FLOWS = "ductstream.v1.FlowService"
HEALTH = "grpc.health.v1.Health"
Code = grpc.StatusCode


@pytest.fixture
def server(start):
    return start()


@pytest.fixture
def client(server):
    with Client(server.address) as client:
        yield client


def waits(server, count=1):
    """Waits until methods wait."""
    wait_until(lambda: len(server.events("waiting")) >= count, 20, "the method to wait")


def curl(server, *words, data=None):
    program = grpcurl()
    if program is None:
        pytest.skip("no grpcurl (tools/setup --servers)")
    arguments = ["-plaintext", *(["-d", data] if data is not None else [])]
    flags = [word for word in words if word.startswith("-") or word.endswith(".proto")]
    rest = [word for word in words if word not in flags]
    done = subprocess.run(
        [program, *arguments, *flags, server.address, *rest], capture_output=True, text=True, timeout=30, cwd=ROOT / "proto"
    )
    return done.returncode, done.stdout + done.stderr


# --- descriptors ---------------------------------------------------------------------------------------------------


def test_grpcurl_lists_and_describes_by_reflection(server):
    code, out = curl(server, "list")
    assert code == 0, out
    assert out.split() == [
        "ductstream.v1.FlowService",
        "ductstream.v1.RunService",
        "ductstream.v1.StreamService",
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "grpc.reflection.v1alpha.ServerReflection",
    ]
    assert "ductstream.v1.FlowService.GetFlow" in curl(server, "list", FLOWS)[1]
    assert "rpc CreateFlow" in curl(server, "describe", FLOWS)[1]
    assert "repeated .ductstream.v1.Endpoint destinations = 4;" in curl(server, "describe", "ductstream.v1.Flow")[1]
    assert ".google.protobuf.Timestamp created_at = 20;" in curl(server, "describe", "ductstream.v1.Run")[1]
    code, out = curl(server, "describe", "ductstream.v1.Nothing")
    assert code != 0 and "not found" in out


def test_grpcurl_calls_with_reflection_and_with_local_protos(server):
    for more in ([], ["-import-path=.", "-proto=ductstream/v1/flow.proto"]):
        code, out = curl(server, *more, f"{FLOWS}/GetFlow", data='{"flow_id": "f1"}')
        assert code == 0 and '"id": "f1"' in out, out
        code, out = curl(server, *more, f"{FLOWS}/GetFlow", data='{"flow_id": "missing"}')
        assert code != 0 and "Code: NotFound" in out and 'flow "missing": there is none' in out


def test_reflection_is_off_by_default(start):
    server = start(GRPC_REFLECTION="")
    code, out = curl(server, "list")
    assert code != 0 and "does not support the reflection API" in out
    code, out = curl(server, "-import-path=.", "-proto=ductstream/v1/flow.proto", f"{FLOWS}/GetFlow", data='{"flow_id": "f1"}')
    assert code == 0, out


def test_reflection_gives_every_file_as_it_was_compiled(client):
    from google.protobuf import descriptor_pb2
    from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

    database = ProtoReflectionDescriptorDatabase(client.channel)
    seen = set()

    def compare(name):
        if name in seen:
            return
        seen.add(name)
        sent, local = database.FindFileByName(name), descriptor_pb2.FileDescriptorProto()
        local_pool().FindFileByName(name).CopyToProto(local)
        sent.ClearField("source_code_info")
        for message in sent.message_type:  # protoc writes names for JSON, the pool does not keep them all
            _without_json_names(message)
        for message in local.message_type:
            _without_json_names(message)
        assert sent == local
        for other in sent.dependency:
            compare(other)

    for service in database.get_services():
        if not service.startswith("grpc.reflection.v1alpha"):
            compare(database.FindFileContainingSymbol(service).name)
    assert {"ductstream/v1/types.proto", "google/protobuf/timestamp.proto"} <= seen


def _without_json_names(message):
    for field in message.field:
        field.ClearField("json_name")
    for nested in message.nested_type:
        _without_json_names(nested)


# --- health --------------------------------------------------------------------------------------------------------


def test_health_of_every_name(client):
    serving = ["", FLOWS, HEALTH, "ductstream.startup", "ductstream.readiness", "ductstream.liveness"]
    assert [client.call(f"{HEALTH}/Check", service=name).status for name in serving] == [1] * len(serving)
    assert client.code(f"{HEALTH}/Check", service="nothing")[0] == Code.NOT_FOUND


def test_health_is_watched_until_the_server_stops(start):
    server = start()
    with Client(server.address) as client:
        whole = Watch(client.call(f"{HEALTH}/Watch", timeout=60, service=""))
        unknown = Watch(client.call(f"{HEALTH}/Watch", timeout=60, service="nothing"))
        alive = Watch(client.call(f"{HEALTH}/Watch", timeout=60, service="ductstream.liveness"))
        wait_until(lambda: whole.items and unknown.items and alive.items, 10, "first answers")
        assert server.stop() == 0
        assert whole.ended().code() == Code.UNAVAILABLE
        assert [item.status for item in whole.items] == [1, 2]
        assert [item.status for item in unknown.items] == [3]
        assert [item.status for item in alive.items] == [1]


# --- calls ---------------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_unimplemented(client):
    for path in (f"{FLOWS}/Nothing", "nothing.Service/Call", f"{FLOWS}/DeleteFlow", "x"):
        with pytest.raises(grpc.RpcError) as error:
            client.raw(path, b"")
        assert error.value.code() == Code.UNIMPLEMENTED, path
        assert path in error.value.details()


def test_errors_have_a_code_and_one_line(client):
    assert client.code(f"{FLOWS}/GetFlow", flow_id="internal") == (Code.INTERNAL, "two lines")
    assert client.code(f"{FLOWS}/CreateFlow") == (Code.INVALID_ARGUMENT, "flow: is missing")


def test_a_deadline_reaches_the_method(client, server):
    left = int(client.call(f"{FLOWS}/ListFlows", timeout=30).next_page_token)
    assert 25000 < left <= 30000
    assert client.code(f"{FLOWS}/ListFlows", timeout=0.3, page_token="wait:60000")[0] == Code.DEADLINE_EXCEEDED
    wait_until(lambda: server.events("cancelled"), 10, "the method to hear of it")


def test_a_call_without_deadline_has_none(client):
    callable_, request = client.method(f"{FLOWS}/ListFlows")
    assert callable_(request()).next_page_token == "-1"


@pytest.mark.parametrize("method", ["ListFlows", "Pull", "WatchRun"])
def test_a_cancelled_call_ends_its_method(client, server, method):
    service, fields = {
        "ListFlows": ("FlowService", {"page_token": "wait:60000"}),
        "Pull": ("StreamService", {"max_messages": 60000}),
        "WatchRun": ("RunService", {"id": "r"}),
    }[method]
    callable_, request = client.method(f"ductstream.v1.{service}/{method}")
    call = callable_(request(**fields)) if method == "WatchRun" else callable_.future(request(**fields))
    if method == "WatchRun":
        assert [next(call).run.fence for _ in range(3)] == [0, 1, 2]
    else:
        waits(server, 1)
    call.cancel()
    wait_until(lambda: [e for e in server.events("cancelled") if e["method"] == method], 10, "the method to end")


def test_a_killed_client_ends_its_methods(server, tmp_path):
    script = f"import sys; sys.path.insert(0, {str(ROOT / 'tests')!r})\nfrom lib.api import Client\n"
    script += f"for e in Client({server.address!r}).call('ductstream.v1.RunService/WatchRun', timeout=60, id='r'): print(1, flush=True)"
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE)
    process.stdout.readline()
    process.kill()
    process.wait()
    process.stdout.close()
    wait_until(lambda: server.events("cancelled"), 10, "the method to end")


def test_a_stream_has_all_its_messages_in_order(client):
    call = client.call("ductstream.v1.RunService/WatchRun", id="r", after_seq=50)
    assert [event.run.fence for event in call] == list(range(50))
    assert call.code() == Code.OK


def test_many_calls_at_once(client):
    """None is lost or mixed up. One that took 100 ms, as any may on a busy machine, sends those of the next second to the workers, where
    256 may wait: what is refused then is asked once more."""
    callable_, request = client.method(f"{FLOWS}/GetFlow")
    left = [str(i) for i in range(2000)]

    def answered():
        calls = {i: callable_.future(request(flow_id=i), timeout=30) for i in left}
        left.clear()
        for i, call in calls.items():
            if call.code() == Code.RESOURCE_EXHAUSTED:
                left.append(i)
            else:
                assert call.result().id == i
        return not left

    wait_until(answered, 60, "an answer to each")


# --- limits --------------------------------------------------------------------------------------------------------


def test_a_large_request_is_refused_and_a_smaller_one_is_not(client):
    name = "x" * (4 << 20)
    code, message = client.code(f"{FLOWS}/CreateFlow", flow={"name": name})
    assert code == Code.RESOURCE_EXHAUSTED and "4194304" in message
    assert len(client.call(f"{FLOWS}/CreateFlow", flow={"name": name[:-100]}).name) == len(name) - 100


def test_a_large_response_is_refused_with_what_to_do(start):
    server = start(GRPC_MAX_RESPONSE="64KiB")
    with Client(server.address) as client:
        assert client.code(f"{FLOWS}/GetFlow", flow_id="big:60000")[0] == Code.OK
        code, message = client.code(f"{FLOWS}/GetFlow", flow_id="big:70000")
        assert code == Code.RESOURCE_EXHAUSTED and "DUCTSTREAM_GRPC_MAX_RESPONSE" in message
        code, message = client.code("ductstream.v1.RunService/WatchRun", id="big", after_seq=1)
        assert code == Code.RESOURCE_EXHAUSTED and "DUCTSTREAM_GRPC_MAX_RESPONSE" in message


def test_a_small_message_cannot_ask_for_much_memory(start):
    server = start(GRPC_MAX_MESSAGE="1MiB")
    with Client(server.address) as client:
        many_destinations = b"\x22\x00" * 250000
        data = b"\x0a" + _varint(len(many_destinations)) + many_destinations
        with pytest.raises(grpc.RpcError) as error:
            client.raw(f"{FLOWS}/CreateFlow", data)
        assert error.value.code() == Code.RESOURCE_EXHAUSTED


def _varint(n):
    out = b""
    while n > 127:
        out += bytes([n & 127 | 128])
        n >>= 7
    return out + bytes([n])


def test_calls_that_wait_have_a_limit_and_stop_nobody_else(start):
    server = start(GRPC_MAX_STREAMS=3)
    with Client(server.address) as client:
        watches = [Watch(client.call("ductstream.v1.RunService/WatchRun", timeout=60, id="r")) for _ in range(3)]
        wait_until(lambda: all(watch.items for watch in watches), 10, "three streams")
        code, message = client.code("ductstream.v1.StreamService/Pull", max_messages=1)
        assert code == Code.RESOURCE_EXHAUSTED and "DUCTSTREAM_GRPC_MAX_STREAMS" in message
        assert client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.OK
        assert client.code(f"{FLOWS}/ListFlows")[0] == Code.OK
        watches[0].call.cancel()
        wait_until(lambda: client.code("ductstream.v1.StreamService/Pull", max_messages=1)[0] == Code.OK, 10, "room again")


def test_calls_that_work_have_a_queue_with_an_end(start):
    server = start(GRPC_THREADS=1)
    with Client(server.address) as one, Client(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as two:
        calls = []
        for client in (one, two):
            callable_, request = client.method(f"{FLOWS}/ListFlows")
            calls += [callable_.future(request(page_token="wait:60000"), timeout=60) for _ in range(150)]
        wait_until(lambda: any(call.done() for call in calls), 20, "the first to be refused")
        assert next(call for call in calls if call.done()).code() == Code.RESOURCE_EXHAUSTED
        # Not at once where the machine stood still during one: then such calls go to the workers, too, for a second.
        wait_until(lambda: one.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.OK, 20, "a quick call to pass the queue")
        for call in calls:
            call.cancel()
        wait_until(lambda: one.code(f"{FLOWS}/ListFlows")[0] == Code.OK, 20, "the queue to be empty")


def test_a_slow_look_at_the_state_does_not_stop_the_others(client):
    """A quick method that was slow is run on workers for a while."""
    callable_, request = client.method(f"{FLOWS}/GetFlow")
    slow = [callable_.future(request(flow_id=f"slow:{ms}"), timeout=60) for ms in (1000, 3000, 3000, 3000)]
    wait_until(lambda: slow[0].done(), 10, "the first")
    assert client.code(f"{HEALTH}/Check", service="")[0] == Code.OK
    assert not all(call.done() for call in slow), "it has waited for the others"
    assert all(call.result().id for call in slow)


def test_compressed_messages_are_refused(server):
    with Client(server.address, compression=grpc.Compression.Gzip) as client:
        assert client.code(f"{FLOWS}/GetFlow", flow_id="x" * 1000)[0] == Code.UNIMPLEMENTED


# --- broken messages and clients --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data, where",
    [
        (b"\x0a\xff\xff\xff\xff\x0f", "CreateFlowRequest"),
        (b"\x0a\x02\x12", "CreateFlowRequest"),
        (b"\xff" * 20, "CreateFlowRequest"),
        (b"\x0a\x03\x12\x01\xff", "flow.name"),
        (b"\x0a\x05\x12\x03a\x00b", "flow.name"),
        (b"\x0a\x07\x1a\x05\x1a\x03\x0a\x01\xff", "flow.source.options.key"),
    ],
)
def test_malformed_messages_are_invalid_arguments(client, data, where):
    with pytest.raises(grpc.RpcError) as error:
        client.raw(f"{FLOWS}/CreateFlow", data)
    assert error.value.code() == Code.INVALID_ARGUMENT
    assert where in error.value.details()


def test_unknown_fields_are_passed_over(client):
    assert client.raw(f"{FLOWS}/GetFlow", b"\x0a\x02f1\xf8\x07\x01").startswith(b"\x0a\x02f1")


def test_a_call_without_message_is_answered(client):
    call = client.channel.stream_unary(f"/{FLOWS}/GetFlow", request_serializer=bytes, response_deserializer=bytes)
    with pytest.raises(grpc.RpcError) as error:
        call(iter(()), timeout=10)
    assert error.value.code() == Code.INVALID_ARGUMENT


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\0\0\0\x04\0\0\0\0\0"
GARBAGE = [
    b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",  # the begin of a TLS handshake
    bytes(range(256)) * 40,
    PREFACE[:10],
    PREFACE + b"\xff" * 200,
    PREFACE + SETTINGS + b"\xff\xff\xff\x00\x00\0\0\0\x01",  # a frame of 16 MB
    PREFACE + SETTINGS + b"\0\0\x04\x01\x04\0\0\0\x01\xff\xff\xff\xff",  # headers that no HPACK decoder knows
    PREFACE + SETTINGS + b"\0\0\x04\x08\0\0\0\0\0\0\0\0\0" * 50,  # window updates of zero
    PREFACE + SETTINGS + SETTINGS * 5000,
    PREFACE + SETTINGS + b"\0\0\x08\x06\0\0\0\0\0pingping" * 2000,
]


@pytest.mark.parametrize("data", GARBAGE, ids=range(len(GARBAGE)))
def test_garbage_ends_its_own_connection_only(client, server, data):
    assert client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.OK
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
        try:
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65536):
                pass
        except OSError:
            pass  # closed while we were sending
    assert client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.OK
    assert server.process.poll() is None


def test_connections_that_say_nothing_are_closed_and_stop_nobody(start):
    server = start()
    silent = [socket.create_connection(("127.0.0.1", server.port), timeout=5) for _ in range(300)]
    for half in silent[::2]:
        half.sendall(PREFACE[:7])
    with Client(server.address) as client:
        assert client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.OK

    def closed(connection):
        connection.setblocking(False)
        try:
            while chunk := connection.recv(4096):
                del chunk
            return True
        except BlockingIOError:
            return False
        except OSError:
            return True

    wait_until(lambda: all(map(closed, silent)), 25, "the server to close silent connections", 0.2)
    for connection in silent:
        connection.close()


def test_more_connections_than_descriptors_stop_nobody_for_good(start):
    """A listener that fails to accept once must not be deaf afterwards."""
    server = start()
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (160, 160))
    many = []
    for _ in range(200):  # what the server cannot take is fewer than 128, which wait with any kernel
        many.append(socket.create_connection(("127.0.0.1", server.port), timeout=5))
    for connection in many:
        connection.close()

    def works():
        with Client(server.address) as client:
            return client.code(f"{FLOWS}/GetFlow", timeout=2, flow_id="x")[0] == Code.OK

    wait_until(works, 30, "the server to accept again")
    assert server.stop() == 0


def test_a_client_that_does_not_read_stops_nobody(start):
    server = start()
    with Client(server.address) as client:
        stuck = client.call("ductstream.v1.RunService/WatchRun", timeout=60, id="big")
        next(stuck)
        for i in range(20):
            assert client.code(f"{FLOWS}/GetFlow", flow_id=str(i))[0] == Code.OK
        stuck.cancel()
        wait_until(lambda: server.events("cancelled"), 10, "the method to end")


# --- addresses -------------------------------------------------------------------------------------------------------


def test_an_address_without_host_is_this_machine_only(start):
    port = free_port()
    server = start(GRPC_LISTEN=f":{port}")
    (line,) = [line for line in server.lines if line.get("protocol") == "grpc"]
    assert line["event"] == "listening, for this machine only: the address names no host"
    assert server.addresses()[0] == f"127.0.0.1:{port}"
    assert bound(port) and bound(port) <= {
        "0100007F",  # 127.0.0.1
        "00000000000000000000000001000000",  # ::1
        "0000000000000000FFFF00000100007F",  # ::ffff:127.0.0.1
    }


def bound(port):
    """The addresses on which somebody listens at that port, as the kernel writes them."""
    tables = [Path(f"/proc/net/{name}") for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables if table.exists() for line in table.read_text().splitlines()[1:]]
    return {row[1].split(":")[0] for row in rows if row[3] == "0A" and int(row[1].split(":")[1], 16) == port}


@pytest.mark.parametrize("address", ["0.0.0.0:0", "[::]:0"])
def test_other_hosts_need_protection(tmp_path, address):
    with Server(tmp_path, api_driver(), GRPC_LISTEN=address) as server:
        code, text = server.ended()
    assert code == 2
    assert "is reached by other machines, and has no TLS and no tokens" in text
    assert "set DUCTSTREAM_TLS_CERT_FILE and DUCTSTREAM_TLS_KEY_FILE, and DUCTSTREAM_TOKENS_FILE" in text
    assert "listening" not in text


def test_a_second_server_on_the_port_is_refused(start, tmp_path):
    first = start()
    (tmp_path / "second").mkdir()
    with Server(tmp_path / "second", api_driver(), GRPC_LISTEN=first.address) as second:
        code, text = second.ended()
    assert code == 2
    assert f"{first.address} cannot be bound: Address already in use, another server has it" in text


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"GRPC_LISTEN": "8080"}, "is not an address: write HOST:PORT"),
        ({"GRPC_LISTEN": "203.0.113.7:1", "TLS_CLIENT_CA_FILE": "x"}, "DUCTSTREAM_TLS_CLIENT_CA_FILE needs DUCTSTREAM_TLS_CERT_FILE"),
        ({"GRPC_MAX_MESSAGE": "lots"}, "is not a size such as 64KB"),
        ({"GRPC_REFLECTION": "maybe"}, "is neither true nor false"),
        ({"WIRE_FORMAT": "arow"}, 'did you mean \\"arrow\\"?'),
        ({"TOKEN": "short"}, "DUCTSTREAM_TOKEN is shorter than 16 characters"),
        ({"TLS_CERT_FILE": "/nowhere"}, "are set together: the key is missing"),
    ],
)
def test_wrong_settings_are_refused_with_the_variable(tmp_path, settings, text):
    with Server(tmp_path, api_driver(), **settings) as server:
        code, said = server.ended()
    assert code == 2 and text in said, said
    assert "DUCTSTREAM_" in said


def test_a_mistyped_setting_is_warned_about(start):
    server = start(GRPC_LISTN="x")
    (line,) = server.events("unknown setting")
    assert line["name"] == "DUCTSTREAM_GRPC_LISTN" and line["nearest"] == "DUCTSTREAM_GRPC_LISTEN"


# --- stops ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_lets_calls_end(start, number):
    server = start()
    with Client(server.address) as client:
        callable_, request = client.method(f"{FLOWS}/ListFlows")
        working = callable_.future(request(page_token="wait:1500"), timeout=30)
        waits(server)
        watching = Watch(client.call("ductstream.v1.RunService/WatchRun", timeout=30, id="r"))
        wait_until(lambda: watching.items, 10, "the stream")
        server.process.send_signal(number)
        assert watching.ended().code() == Code.UNAVAILABLE
        assert working.result().next_page_token  # it was let end
        assert server.ended(timeout_s=10)[0] == 0
        assert server.events("stopped")
        assert client.code(f"{FLOWS}/GetFlow", timeout=2, flow_id="x")[0] == Code.UNAVAILABLE


def test_a_stop_has_a_bound(start):
    server = start()
    with Client(server.address) as client:
        callable_, request = client.method(f"{FLOWS}/ListFlows")
        working = callable_.future(request(page_token="wait:60000"), timeout=90)
        waits(server)
        began = time.monotonic()
        assert server.stop(timeout_s=30) == 0, server.text
        assert 8 < time.monotonic() - began < 20
        assert working.exception(timeout=5).code() in (Code.CANCELLED, Code.UNAVAILABLE)


def test_a_second_signal_ends_at_once(start):
    server = start()
    with Client(server.address) as client:
        callable_, request = client.method(f"{FLOWS}/ListFlows")
        working = callable_.future(request(page_token="wait:60000"), timeout=90)
        waits(server)
        server.process.send_signal(signal.SIGTERM)
        wait_until(lambda: server.events("stopping"), 5, "the first to be heard")
        assert server.stop(timeout_s=5) == 130
        assert working.exception(timeout=10) is not None


def test_stopping_under_load_loses_no_answer(start):
    """Every call that a client began gets an answer or UNAVAILABLE; the server ends well."""
    server = start()
    codes, over = [], threading.Event()

    def load():
        with Client(server.address) as client:
            while not over.is_set():
                codes.append(client.code(f"{FLOWS}/GetFlow", timeout=5, flow_id="x")[0])

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_until(lambda: len(codes) > 200, 20, "some calls")
    assert server.stop() == 0
    over.set()
    for thread in threads:
        thread.join()
    assert set(codes) <= {Code.OK, Code.UNAVAILABLE, Code.CANCELLED}


# --- the real server -----------------------------------------------------------------------------------------------------


def test_not_ready_while_the_state_does_not_answer(tmp_path, own_server):
    """The state lies in a Postgres that goes away and comes back; the server stays, and is alive all the time."""
    own_server.database("state")
    with Server(tmp_path, POSTGRES_DSN=own_server.dsn("state")) as server:
        server.ready(60)
        with Client(server.address) as client:
            ready = Watch(client.call(f"{HEALTH}/Watch", timeout=170, service="ductstream.readiness"))
            wait_until(lambda: [item.status for item in ready.items] == [1], 10, "the first answer")
            assert client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.NOT_FOUND
            own_server.stop(immediate=True)
            wait_until(lambda: [item.status for item in ready.items] == [1, 2], 40, "NOT_SERVING")
            assert client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.UNAVAILABLE
            assert client.call(f"{HEALTH}/Check", service="ductstream.liveness").status == 1
            own_server.start()
            wait_until(lambda: [item.status for item in ready.items] == [1, 2, 1], 60, "SERVING again")
            assert client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.NOT_FOUND
        assert server.stop(timeout_s=40) == 0
