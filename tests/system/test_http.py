"""The HTTP listener (issue 5, point 1: the same surface as HTTP/JSON, /metrics, /healthz, /readyz; point 2: who may; "Bad input gets").

The server is tests/system/api_driver.c, under the sanitizers: the real listener with methods made up for these tests.
"""

import json
import os
import random
import re
import signal
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from lib.api import TOKENS, Server, api_driver, tokens_file
from lib.http import Http, connect, raw, read_all, samples
from lib.paths import ROOT
from lib.wait import wait_until


@pytest.fixture
def start(start):
    def begin(**settings):
        server = start(**({"HTTP_LISTEN": ":0"} | settings))
        server.http = server.addresses("http")[0]
        return server

    return begin


@pytest.fixture
def server(start):
    return start()


@pytest.fixture
def client(server):
    with Http(server.http) as client:
        yield client


# --- methods -------------------------------------------------------------------------------------------------------


def test_both_ways_to_a_method(client):
    expected = {"id": "a/b", "name": "local"}
    assert client.post("/v1/FlowService/GetFlow", {"flow_id": "a/b"}).json == expected
    answer = client.get("/v1/flows/a%2Fb")
    assert answer.status == 200 and answer.json == expected
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert client.get("/v1/flows?page_size=3").json == {"nextPageToken": "-1"}
    created = client.post("/v1/flows", {"flow": {"id": "x", "source": {"type": "postgres"}, "destinations": [{"options": {"a": "b"}}]}})
    assert created.json == {"id": "x", "source": {"type": "ENDPOINT_TYPE_POSTGRES"}, "destinations": [{"options": {"a": "b"}}]}


def test_head_is_get_without_a_body(client):
    length = client.get("/v1/flows/a").headers["Content-Length"]
    answer = client.ask("HEAD", "/v1/flows/a")
    assert answer.status == 200 and answer.body == b"" and answer.headers["Content-Length"] == length
    assert client.ask("HEAD", "/healthz").status == 200
    answer = client.ask("HEAD", "/v1/runs/r/watch")
    assert answer.status == 405 and answer.headers["Allow"] == "GET"


def test_errors_have_the_code_s_status_and_one_form(client):
    answer = client.get("/v1/flows/missing")
    assert answer.status == 404
    assert answer.json == {"code": 5, "status": "NOT_FOUND", "message": 'flow "missing": there is none'}
    answer = client.get("/v1/flows/internal")
    assert answer.error == (500, "INTERNAL") and answer.json["message"] == "two lines"
    answer = client.post("/v1/FlowService/CreateFlow", {"flow": {"destinations": [{}, {"optoins": {}}]}})
    assert answer.error == (400, "INVALID_ARGUMENT")
    assert answer.json["message"] == 'flow.destinations[1].optoins: there is no such field, did you mean "options"?'
    assert client.post("/v1/FlowService/CreateFlow").json["message"] == "flow: is missing"
    assert client.post("/v1/FlowService/DeleteFlow", {"flow_id": "a"}).error == (501, "UNIMPLEMENTED")
    assert client.get("/v1/nothing").error == (404, "NOT_FOUND")
    answer = client.ask("PATCH", "/v1/flows/a")
    assert answer.error == (405, "UNIMPLEMENTED") and answer.headers["Allow"] == "GET, HEAD, PUT, DELETE"
    answer = client.post("/healthz", {})
    assert answer.status == 405 and answer.headers["Allow"] == "GET, HEAD"


@pytest.mark.parametrize(
    "body, headers, status",
    [
        ("{", {}, 400),
        ("[]", {}, 400),
        (b'{"flowId": "\xff"}', {}, 400),
        ('{"flowId": "a", "flowId": "b"}', {}, 400),
        ('{"flowId": "\\u0000"}', {}, 400),
        ("[" * 200, {}, 400),
        ("flow_id=a", {"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ("{}", {"Content-Type": "text/plain"}, 415),
        ("{}", {"Content-Type": ""}, 415),
        ('{"flowId": "a"}', {"Content-Type": "application/json; charset=utf-8"}, 200),
        ('{"flowId": "a"}', {"Content-Type": "Application/JSON"}, 200),
        ("x" * (4 << 20) + "x", {}, 413),
        ('{"flowId": "a"' + " " * ((4 << 20) - 15) + "}", {}, 200),
    ],
)
def test_bodies(client, body, headers, status):
    answer = client.post("/v1/FlowService/GetFlow", body, headers=headers)
    assert answer.status == status, answer
    assert client.get("/v1/flows/a").status == 200  # the server goes on


def test_a_body_in_chunks(client):
    def pieces(n):
        yield b'{"flow'
        yield b'Id": "a"'
        yield b" " * n
        yield b"}"

    headers = {"Content-Type": "application/json"}
    client.connection.request("POST", "/v1/FlowService/GetFlow", body=pieces(10), headers=headers, encode_chunked=True)
    assert json.loads(client.connection.getresponse().read())["id"] == "a"
    client.connection.request("POST", "/v1/FlowService/GetFlow", body=pieces(5 << 20), headers=headers, encode_chunked=True)
    answer = client.connection.getresponse()
    assert answer.status == 413 and json.loads(answer.read())["status"] == "RESOURCE_EXHAUSTED"


def test_who_expects_to_be_told_is_told_before_he_sends_a_body_that_is_too_large(server):
    head = (
        f"POST /v1/FlowService/GetFlow HTTP/1.1\r\nHost: {server.http}\r\nContent-Type: application/json\r\n"
        "Content-Length: 99999999999\r\nExpect: 100-continue\r\n\r\n"
    )
    assert raw(server.http, head.encode()).startswith(b"HTTP/1.1 413 ")


# --- time ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("headers", [{"X-Timeout": "0.3"}, {"grpc-timeout": "300m"}])
def test_deadlines_are_kept(server, client, headers):
    begun = time.monotonic()
    answer = client.get("/v1/flows?page_token=wait:20000", headers=headers)
    assert answer.error == (504, "DEADLINE_EXCEEDED")
    assert 0.25 < time.monotonic() - begun < 5
    wait_until(lambda: server.events("cancelled"), 10, "the method to be told")
    left = int(client.get("/v1/flows", headers={"X-Timeout": "7.5"}).json["nextPageToken"])
    assert 5000 < left <= 7500
    assert client.get("/v1/flows", headers={"X-Timeout": "soon"}).error == (400, "INVALID_ARGUMENT")


def test_a_deadline_is_kept_by_a_method_that_does_not_look_at_it(client):
    begun = time.monotonic()
    answer = client.post("/v1/FlowService/CreateFlow", {"flow": {"id": "slow:8000"}}, headers={"X-Timeout": "0.2"})
    assert answer.error == (504, "DEADLINE_EXCEEDED")
    assert client.get("/v1/flows/a").status == 200  # on the same connection
    assert time.monotonic() - begun < 6


def test_a_client_that_leaves_ends_its_call(server):
    with connect(server.http) as s:
        s.sendall(f"GET /v1/flows?page_token=wait:60000 HTTP/1.1\r\nHost: {server.http}\r\n\r\n".encode())
        wait_until(lambda: server.events("waiting"), 10, "the method to wait")
    wait_until(lambda: server.events("cancelled"), 10, "the method to be told")


def test_slow_calls_block_nobody(server):
    """More waiting calls than there are threads that share the work; quick calls go on, and so do other waiting ones."""
    clients = [connect(server.http) for _ in range(12)]
    for s in clients:
        s.sendall(
            f"POST /v1/streams/x:pull HTTP/1.1\r\nHost: {server.http}\r\nContent-Type: application/json\r\nContent-Length: 21\r\n\r\n".encode()
            + b'{"maxMessages":30000}'
        )
    wait_until(lambda: len(server.events("waiting")) == 12, 20, "all to wait")
    with Http(server.http) as client:
        begun = time.monotonic()
        assert client.get("/v1/flows/a").status == 200
        assert client.get("/v1/flows").status == 200
        assert time.monotonic() - begun < 5
    for s in clients:
        s.close()
    wait_until(lambda: len(server.events("cancelled")) == 12, 20, "all to be told")


def test_too_many_waiting_calls_are_refused(start):
    server = start(GRPC_MAX_STREAMS=2)
    clients = [Http(server.http) for _ in range(2)]
    for client in clients:
        client.connection.request("GET", "/v1/runs/r/watch")
    assert [client.connection.getresponse().status for client in clients] == [200, 200]  # both are under way
    with Http(server.http) as third:
        wait_until(lambda: third.get("/v1/runs/r/watch?after_seq=1").status == 429, 10, "the third to be refused")
    for client in clients:
        client.connection.close()
    wait_until(lambda: _watch_status(server) == 200, 20, "room for another")
    assert server.stop() == 0, server.text


def test_a_stream_learns_that_its_client_is_gone(start):
    """Without a word, as a machine does that loses its power: the kernel asks for it."""
    server = start()
    with Http(server.http) as client:
        client.connection.request("GET", "/v1/runs/r/watch")
        wait_until(lambda: server.events("waiting"), 10, "it to wait")
        (_, ours), (_, theirs) = client.connection.sock.getpeername(), client.connection.sock.getsockname()

        def ticks():
            """Until a question to a silent client, in hundredths of a second; None: what was sent last is not acknowledged yet."""
            rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
            (timer,) = (row[5] for row in rows if (row[1][-4:], row[2][-4:]) == (f"{ours:04X}", f"{theirs:04X}"))
            kind, left = timer.split(":")
            return int(left, 16) if kind == "02" else None

        assert wait_until(ticks, 10, "the kernel's timer", 0.001) <= 60 * 100


def _watch_status(server):
    with Http(server.http) as client:
        return client.get("/v1/runs/r/watch?after_seq=1").status


# --- streams -------------------------------------------------------------------------------------------------------


def test_a_stream_is_one_object_a_line(client):
    answer = client.get("/v1/runs/r/watch?after_seq=5")
    assert answer.status == 200 and answer.headers["Content-Type"] == "application/x-ndjson"
    lines = [json.loads(line) for line in answer.body.splitlines()]
    assert [int(line["run"].get("fence", 0)) for line in lines] == list(range(5))
    answer = client.post("/v1/RunService/WatchRun", {"id": "r", "afterSeq": 2})
    assert len(answer.body.splitlines()) == 2
    assert client.get("/v1/runs/r/watch?after_seq=x").error == (400, "INVALID_ARGUMENT")


def test_large_messages_of_a_stream(client):
    lines = client.get("/v1/runs/big/watch?after_seq=5").body.splitlines()
    assert [len(json.loads(line)["run"]["error"]) for line in lines] == [1000000] * 5


def test_lines_come_when_they_are_there_and_leaving_ends_the_stream(server):
    with connect(server.http) as s:
        s.sendall(f"GET /v1/runs/r/watch HTTP/1.1\r\nHost: {server.http}\r\n\r\n".encode())
        got = b""
        while got.count(b'"fence"') < 3:
            got += s.recv(4096)
    wait_until(lambda: server.events("cancelled"), 10, "the method to be told")


def test_a_deadline_ends_a_stream_with_an_error_line(client):
    lines = client.get("/v1/runs/r/watch", headers={"X-Timeout": "0.5"}).body.splitlines()
    assert len(lines) > 2 and json.loads(lines[-1])["error"]["status"] == "DEADLINE_EXCEEDED"


def test_who_does_not_read_a_stream_is_given_up(start):
    server = start(HTTP_REQUEST_TIMEOUT="500ms")
    with connect(server.http) as s, Http(server.http) as client:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        s.sendall(f"GET /v1/runs/big/watch HTTP/1.1\r\nHost: {server.http}\r\n\r\n".encode())
        wait_until(lambda: server.events("cancelled"), 20, "the method to be told")
        # Its connection is closed as well, though nothing was read.
        port = int(server.http.rpartition(":")[2])
        wait_until(lambda: (port, s.getsockname()[1]) not in established(), 20, "the connection to be closed")
        assert client.get("/healthz").status == 200
    assert server.stop() == 0, server.text


def established():
    """(local port, remote port) of connections over IPv4 that are established."""
    with open("/proc/net/tcp") as lines:
        rows = [line.split() for line in lines][1:]
    return {(int(row[1].split(":")[1], 16), int(row[2].split(":")[1], 16)) for row in rows if row[3] == "01"}


# --- who may -------------------------------------------------------------------------------------------------------


def test_tokens_and_roles(start, tmp_path):
    server = start(TOKENS_FILE=tokens_file(tmp_path))
    with Http(server.http) as client:
        for path in ("/v1/flows/a", "/metrics", "/openapi.json", "/v1/nothing"):
            answer = client.get(path)
            assert answer.error == (401, "UNAUTHENTICATED") and answer.headers["WWW-Authenticate"] == "Bearer"
            assert client.get(path, token="wrong-token-0123456789").status == 401
        assert client.get("/healthz").status == client.get("/readyz").status == 200
        assert client.get("/v1/flows/a", token=TOKENS["viewer"]).json["name"] == "token:viewer"
        for role, pull, create in (("viewer", 403, 403), ("operator", 200, 403), ("admin", 200, 200)):
            assert client.get("/metrics", token=TOKENS[role]).status == 200
            assert client.post("/v1/streams/x:pull", {}, token=TOKENS[role]).status == pull
            answer = client.post("/v1/flows", {"flow": {}}, token=TOKENS[role])
            assert answer.status == create
        assert client.post("/v1/flows", {}, token=TOKENS["viewer"]).error == (403, "PERMISSION_DENIED")
    assert not any(token in server.text for token in TOKENS.values())
    assert server.stop() == 0, server.text


def test_pages_of_other_sites_cannot_use_the_browser(client, server):
    port = server.http.rpartition(":")[2]
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": f"http://evil.example:{port}", "Host": f"evil.example:{port}"},
        {"Host": "evil.example"},
    ):
        assert client.post("/v1/flows/a:start", headers=headers).error == (403, "PERMISSION_DENIED"), headers
    assert client.get("/v1/flows/a", headers={"Origin": f"http://{server.http}"}).status == 200
    assert client.get("/v1/flows/a", headers={"Host": f"localhost:{port}"}).status == 200
    assert "Access-Control-Allow-Origin" not in client.get("/v1/flows/a").headers


def test_without_a_host_only_this_machine_is_served_and_a_line_says_so(server):
    lines = [line for line in server.lines if line.get("protocol") == "http"]
    assert len(lines) == 1 and "this machine only" in lines[0]["event"]
    assert all(a.startswith(("127.0.0.1:", "[::1]:")) for a in server.addresses("http"))


@pytest.mark.parametrize(
    "settings, finding",
    [
        ({"HTTP_LISTEN": "0.0.0.0:0"}, "DUCTSTREAM_HTTP_LISTEN"),
        ({"HTTP_LISTEN": "0.0.0.0:0", "TOKEN": "a-token-of-sixteen"}, "DUCTSTREAM_TLS_CERT_FILE"),
        ({"HTTP_LISTEN": "nonsense"}, "is not an address"),
    ],
)
def test_addresses_that_are_refused(tmp_path, settings, finding):
    code, text = Server(tmp_path, api_driver(), **settings).ended()
    assert code == 2 and finding in text


def test_an_address_in_use_is_refused(server, tmp_path):
    code, text = Server(tmp_path, api_driver(), HTTP_LISTEN=server.http).ended()
    assert code == 2 and "Address already in use" in text


# --- pages ---------------------------------------------------------------------------------------------------------


def test_health_and_readiness(client):
    assert client.get("/healthz").body == b"ok\n"
    assert client.get("/readyz").body == b"ok\n"


def test_metrics_count_calls(client):
    client.get("/v1/flows/a")
    client.get("/v1/flows/missing")
    client.post("/v1/FlowService/GetFlow", "{")
    text = client.get("/metrics").body.decode()
    found, names = samples(text)
    labels = 'service="FlowService",method="GetFlow",code="{}",transport="http"'
    for code in ("OK", "NOT_FOUND", "INVALID_ARGUMENT"):
        assert found["ductstream_api_requests_total{" + labels.format(code) + "}"] == 1, text
    assert found['ductstream_api_request_seconds_count{service="FlowService",method="GetFlow",transport="http"}'] == 3
    assert found["process_resident_memory_bytes"] > 1e6
    assert any(name.startswith("ductstream_build_info{version=") for name in found)


def test_every_metric_is_documented_and_every_documented_one_is_there(client):
    """docs/metrics.md has a table row for each name (issue 5, point 11)."""
    _, names = samples(client.get("/metrics").body.decode())
    rows = re.findall(r"^\| `([a-z_]+)`", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows))
    assert names == set(rows)


def test_openapi_is_valid_and_served(client):
    from openapi_spec_validator import validate

    served = client.get("/openapi.json")
    validate(served.json)
    committed = json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text())
    validate(committed)
    assert set(served.json["components"]["securitySchemes"]) == set(committed["components"]["securitySchemes"])


def test_the_table_of_paths_is_what_there_is():
    """docs/http.md against docs/reference/openapi.json, which tests/generated.py keeps true."""
    api = json.loads((ROOT / "docs" / "reference" / "openapi.json").read_text())
    shape = lambda path: re.sub(r"\{[^}]*\}", "{}", path)  # noqa: E731
    served = {(verb.upper(), shape(path)) for path, verbs in api["paths"].items() for verb in verbs if "Service/" not in path}
    pages = {("GET", f"/{name}") for name in ("healthz", "readyz", "metrics", "openapi.json")}
    rows = re.findall(r"^\| (GET|POST|PUT|DELETE) \| `([^`]+)` \| (\w+)/(\w+) \|$", (ROOT / "docs" / "http.md").read_text(), re.MULTILINE)
    assert {(verb, shape(path)) for verb, path, _, _ in rows} | pages == served
    assert {f"/v1/{service}/{method}" for *_, service, method in rows} <= set(api["paths"])


# --- rude clients --------------------------------------------------------------------------------------------------


def test_no_path_hides_another():
    """Of the paths that fit a request the first one counts: what a pattern with its fields filled in leads to is its own method."""
    table = re.findall(r'\{"(\w+)", "(/v1/[^"]*)", "(\w+/\w+)"\}', (ROOT / "src/api/http_routes.c").read_text())
    assert len(table) > 50
    for verb, path, method in table:
        filled = re.sub(r"\{[^}]*\}", "x", path)
        fits = [m for v, p, m in table if v == verb and re.fullmatch(re.sub(r"\\\{[^}]*\\\}", "[^/]+", re.escape(p)), filled)]
        assert fits[0] == method, path


def test_half_requests_and_slow_ones_are_given_up(start):
    server = start(HTTP_REQUEST_TIMEOUT="1s")
    begun = time.monotonic()
    idle, half, drip = connect(server.http), connect(server.http), connect(server.http)
    half.sendall(b"GET /v1/flows/a HTTP/1.1\r\nHost: ")
    drip.sendall(f"POST /v1/flows HTTP/1.1\r\nHost: {server.http}\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n".encode())

    def pour():
        try:
            while True:
                drip.sendall(b" ")  # a byte now and then is no progress
                if stop.wait(0.1):
                    return
        except OSError:
            pass

    stop = threading.Event()
    thread = threading.Thread(target=pour)
    thread.start()
    for s in (idle, half, drip):
        read_all(s)
        s.close()
    assert time.monotonic() - begun < 15
    stop.set()
    thread.join()
    with Http(server.http) as client:
        assert client.get("/v1/flows/a").status == 200
    assert server.stop() == 0, server.text


def test_more_connections_than_allowed_wait(start):
    server = start(HTTP_MAX_CONNECTIONS=4, HTTP_REQUEST_TIMEOUT="1s")
    crowd = [connect(server.http) for _ in range(20)]
    with Http(server.http) as client:
        assert client.get("/v1/flows/a").status == 200
    for s in crowd:
        s.close()
    assert server.stop() == 0, server.text


HEAD = b"GET /v1/flows/a HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00",  # a TLS greeting
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /\r\n\r\n",
        b"\r\n" * 1000,
        b"GET /v1/flows/a HTTP/1.1\r\n\r\n",  # no Host
        b"GET /v1/flows/a HTTP/9.9\r\nHost: x\r\n\r\n",
        b"GET /v1/flows/%zz HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/flows/%00 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET http://evil.example/v1/flows/a HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        HEAD + b"X: " + b"y" * 100000 + b"\r\n\r\n",
        HEAD + b"X: y\r\n" * 20000 + b"\r\n",
        HEAD + b" folded\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Content-Length: 99999999999999999999999\r\n\r\n",
        HEAD + b"Content-Length: 3\r\nContent-Length: 5\r\n\r\nabcde",
        HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff1\r\n",
        HEAD + b"Authorization: Bearer " + b"\xff" * 100 + b"\r\n\r\n",
        HEAD + b"X-Timeout: 1e999\r\n\r\n",
        bytes(range(256)) * 50,
    ],
)
def test_malformed_requests_end_with_an_error_and_the_server_goes_on(start, data):
    server = start(HTTP_REQUEST_TIMEOUT="1s")
    answer = raw(server.http, data)
    status = re.match(rb"HTTP/1\.[01] (\d+) ", answer)
    assert not answer or int(status[1]) in {200, 400, 403, 404, 405, 411, 413, 414, 431, 501, 505}, answer
    with Http(server.http) as client:
        assert client.get("/v1/flows/a").status == 200
    assert server.stop() == 0, server.text


def test_random_bytes_and_cut_connections(start):
    """Requests with bytes changed, cut off at any place, closed with and without a reset, from several clients at once."""
    server = start(HTTP_REQUEST_TIMEOUT="1s")
    seed = int(os.environ.get("DUCT_SEED", "7"))
    whole = [
        b'POST /v1/FlowService/GetFlow HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 14\r\n\r\n{"flowId":"a"}',
        b"GET /v1/runs/r/watch?after_seq=3 HTTP/1.1\r\nHost: localhost\r\nX-Timeout: 0.2\r\n\r\n",
        b"GET /v1/flows?page_token=wait:50 HTTP/1.1\r\nHost: localhost\r\n\r\nGET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b'POST /v1/streams/x:pull HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"maxMessages":5}\r\n0\r\n\r\n',
    ]

    def attack(number):
        rng = random.Random(seed * 100 + number)
        for _ in range(60):
            data = bytearray(rng.choice(whole) * rng.choice([1, 1, 3]))
            for _ in range(rng.choice([0, 0, 1, 4])):
                data[rng.randrange(len(data))] = rng.randrange(256)
            cut = rng.choice([len(data), rng.randrange(len(data) + 1)])
            try:
                with connect(server.http, timeout=5) as s:
                    s.sendall(data[:cut])
                    if rng.random() < 0.3:
                        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    elif rng.random() < 0.5:
                        s.settimeout(rng.choice([0.01, 0.1]))
                        s.recv(1000)
            except OSError:
                pass

    threads = [threading.Thread(target=attack, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Http(server.http) as client:
        assert client.get("/v1/flows/a").status == 200
        wait_until(lambda: samples(client.get("/metrics").body.decode())[0]["process_open_fds"] < 100, 20, "descriptors to be closed")
    assert server.stop() == 0, server.text


# --- the end -------------------------------------------------------------------------------------------------------


def test_a_stop_lets_every_call_have_its_answer(start):
    """Many that end in the same moment: the last answers are still on their way when no method works any more."""
    server = start()
    calls = [connect(server.http) for _ in range(12)]
    for call in calls:
        call.sendall(f"GET /v1/flows?page_token=wait:700 HTTP/1.1\r\nHost: {server.http}\r\n\r\n".encode())
    wait_until(lambda: len(server.events("waiting")) == len(calls), 20, "all to be under way")
    server.process.send_signal(signal.SIGTERM)
    answers = [read_all(call) for call in calls]
    assert all(answer.startswith(b"HTTP/1.1 200 ") and b"nextPageToken" in answer for answer in answers), answers
    assert server.process.wait(timeout=20) == 0, server.text


def test_a_stop_ends_streams_and_lets_calls_finish(start):
    server = start()
    stream, call = connect(server.http), connect(server.http)
    stream.sendall(f"GET /v1/runs/r/watch HTTP/1.1\r\nHost: {server.http}\r\n\r\n".encode())
    call.sendall(f"GET /v1/flows?page_token=wait:1500 HTTP/1.1\r\nHost: {server.http}\r\n\r\n".encode())
    wait_until(lambda: {e["method"] for e in server.events("waiting")} >= {"WatchRun", "ListFlows"}, 20, "both to be under way")
    server.process.send_signal(signal.SIGTERM)
    assert b'"status":"UNAVAILABLE"' in read_all(stream)
    answer = read_all(call)
    assert answer.startswith(b"HTTP/1.1 200 ") and b"nextPageToken" in answer
    assert server.process.wait(timeout=20) == 0, server.text
