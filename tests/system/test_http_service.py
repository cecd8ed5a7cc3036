"""The whole service by HTTP (issue 5, point 1: the same surface; point 11: what the metrics say; point 2: no secret comes back)."""

import json
import ssl
import subprocess

import pytest
from lib.api import TOKENS, Client, Server, tokens_file
from lib.http import Http, connect, read_all, samples
from lib.paths import ROOT
from lib.service import Lake, Service, flow_message
from lib.wait import wait_until

FLOW = {
    "flow": {
        "id": "shop",
        "name": "Shop",
        "source": {
            "name": "pg",
            "type": "postgres",
            "options": {"dsn": "host=localhost password=hunter2-secret dbname=shop", "slot": "shop", "publication": "shop"},
        },
        "destinations": [
            {"name": "lake", "type": "ducklake", "options": {"catalog": "sqlite:/tmp/lake.sqlite", "data_path": "/tmp/lake"}}
        ],
        "wire_format": "arrow",
        "parallelism": 2,
    }
}


@pytest.fixture
def api(tmp_path):
    with Server(tmp_path, HTTP_LISTEN=":0", GRPC_REFLECTION="true") as server:
        server.ready()
        yield server
        assert server.stop() == 0, server.text


@pytest.fixture
def client(api):
    with Http(api.addresses("http")[0]) as client:
        yield client


def test_a_flow_by_http_is_the_flow_by_grpc(api, client):
    created = client.post("/v1/flows", FLOW)
    assert created.status == 200, created
    assert created.json["state"] == "FLOW_STATE_CREATED" and created.json["wireFormat"] == "WIRE_FORMAT_ARROW"
    assert client.post("/v1/flows", FLOW).error == (409, "ALREADY_EXISTS")
    with Client(api.address) as grpc:
        flow = grpc.call("ductstream.v1.FlowService/GetFlow", flow_id="shop")
        assert flow.name == "Shop" and flow.source.type == 1 and flow.parallelism == 2
        assert client.get("/v1/flows").json["flows"][0]["id"] == "shop"
        assert client.post("/v1/flows/shop:start").json["state"] == "FLOW_STATE_RUNNING"
        assert grpc.call("ductstream.v1.FlowService/GetFlow", flow_id="shop").state == 2
    changed = json.loads(json.dumps(FLOW["flow"])) | {"name": "Shop 2"}
    assert client.ask("PUT", "/v1/flows/shop", {"flow": changed}).json["name"] == "Shop 2"
    assert client.post("/v1/flows/shop:pause").json["state"] == "FLOW_STATE_PAUSED"
    found, _ = samples(client.get("/metrics").body.decode())
    assert found['ductstream_flows{state="paused"}'] == 1 and found["ductstream_state_up"] == 1
    assert found['ductstream_api_requests_total{service="FlowService",method="GetFlow",code="OK",transport="grpc"}'] == 2
    everything = b"".join(client.get(path).body for path in ("/v1/flows", "/v1/flows/shop", "/metrics")) + created.body
    assert b"hunter2" not in everything and "hunter2" not in api.text
    assert client.post("/v1/flows/shop:stop").status == 200
    assert client.ask("DELETE", "/v1/flows/shop").json == {"deleted": True}
    assert client.get("/v1/flows/shop").error == (404, "NOT_FOUND")


def test_nothing_is_made_of_a_flow_that_is_wrong(client):
    wrong = json.loads(json.dumps(FLOW))
    wrong["flow"]["destinations"][0]["optoins"] = {}
    answer = client.post("/v1/flows", wrong)
    assert answer.error == (400, "INVALID_ARGUMENT") and "flow.destinations[0].optoins" in answer.json["message"]
    wrong = json.loads(json.dumps(FLOW))
    wrong["flow"]["source"]["options"]["slto"] = "x"
    answer = client.post("/v1/flows", wrong)
    assert answer.error == (400, "INVALID_ARGUMENT") and "slto" in answer.json["message"] and "hunter2" not in answer.json["message"]
    assert client.get("/v1/flows").json == {}


def test_runs_and_their_stream(client):
    assert client.post("/v1/flows", FLOW).status == 200
    run = client.post("/v1/runs", {"kind": "flow-once", "flowId": "shop", "queue": "nobody-takes-it", "key": "k"}).json
    assert run["state"] == "RUN_STATE_QUEUED"
    assert client.get(f"/v1/runs/{run['id']}").json["key"] == "k"
    assert [r["id"] for r in client.get("/v1/runs?key=k&state=queued").json["runs"]] == [run["id"]]
    found, _ = samples(client.get("/metrics").body.decode())
    assert found['ductstream_runs{state="queued"}'] == 1
    lines = client.get(f"/v1/runs/{run['id']}/watch", headers={"X-Timeout": "1"}).body.splitlines()
    assert json.loads(lines[0])["run"]["id"] == run["id"] and json.loads(lines[-1])["error"]["status"] == "DEADLINE_EXCEEDED"
    assert client.post(f"/v1/runs/{run['id']}:cancel").json["state"] == "RUN_STATE_CANCELLED"
    lines = client.get(f"/v1/runs/{run['id']}/watch").body.splitlines()
    assert json.loads(lines[-1])["run"]["state"] == "RUN_STATE_CANCELLED"


def test_what_a_worker_reports_is_in_the_metrics(tmp_path, database, sqlite_lake):
    """Every sample about flows, from a real worker's report."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' FROM generate_series(1, 100) i")
    with Service(tmp_path, HTTP_LISTEN=":0") as service, Http(service.server.addresses("http")[0]) as client:
        service.call("CreateFlow", flow=flow_message(database, sqlite_lake, "shop"))
        lake = Lake(database, sqlite_lake)
        worker = service.worker("shop")
        lake.wait_count(100, of=worker)
        database.sql("INSERT INTO t SELECT i, 'w' FROM generate_series(101, 150) i")
        lake.wait_count(150, of=worker)
        lake.close()

        def found():
            return samples(client.get("/metrics").body.decode())[0]

        def of_flow(name):
            return found().get(f'ductstream_flow_{name}{{flow="shop"}}')

        wait_until(lambda: of_flow("committed_rows_total") == 50, 20, "the report of the worker")
        assert of_flow("copied_rows_total") == 100 and of_flow("received_rows_total") == 50
        assert of_flow("commits_total") >= 1 and of_flow("received_bytes_total") > 0 and of_flow("dead_rows_total") == 0
        assert of_flow("retries_total") == 0 and of_flow("queue_bytes") is not None and 0 <= of_flow("report_age_seconds") < 20
        assert of_flow("lag_seconds") is not None
        now = found()
        assert now['ductstream_flow_phase{flow="shop",phase="streaming"}'] == 1
        position = [now[f'ductstream_flow_position_bytes{{flow="shop",position="{p}"}}'] for p in ("durable", "written", "received")]
        assert 0 < position[0] <= position[1] <= position[2]
        assert now['ductstream_flows{state="running"}'] == 1


def test_who_changed_what_says_http(client, tmp_path):
    assert client.post("/v1/flows", FLOW).status == 200
    import sqlite3

    with sqlite3.connect(tmp_path / "state.db") as db:
        assert db.execute("SELECT actor, via FROM audit_log WHERE object LIKE '%shop%'").fetchone() == ("local", "http")


# --- certificates --------------------------------------------------------------------------------------------------


def openssl(*words, cwd):
    subprocess.run(["openssl", *words], cwd=cwd, check=True, capture_output=True)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """An authority, a certificate of the server, of a client, of a client whose time is over, and of a stranger."""
    home = tmp_path_factory.mktemp("certificates")
    for ca in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-subj", f"/CN={ca}", "-days", "2", cwd=home)
    (home / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    (home / "ca.conf").write_text("")
    for name, ca in (("server", "ca"), ("client", "ca"), ("stranger", "other"), ("late", "ca")):
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}", cwd=home)
        days = "-1" if name == "late" else "2"
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial", "-days", days,
                "-extfile", "names", "-out", f"{name}.pem", cwd=home)  # fmt: skip
    return home


def context(certificates, client=None):
    tls = ssl.create_default_context(cafile=certificates / "ca.pem")
    if client:
        tls.load_cert_chain(certificates / f"{client}.pem", certificates / f"{client}.key")
    return tls


def test_tls_with_tokens_is_reached_from_other_machines(tmp_path, certificates):
    settings = {"TLS_CERT_FILE": certificates / "server.pem", "TLS_KEY_FILE": certificates / "server.key"}
    with Server(tmp_path, HTTP_LISTEN="0.0.0.0:0", TOKENS_FILE=tokens_file(tmp_path), **settings) as server:
        address = server.ready().addresses("https")[0].replace("0.0.0.0", "127.0.0.1")
        with Http(address, TOKENS["viewer"], tls=context(certificates)) as client:
            assert client.get("/v1/flows").json == {}
            assert client.get("/v1/flows", headers={"Host": "ductstream.example"}).status == 200
            assert client.post("/v1/flows", FLOW).error == (403, "PERMISSION_DENIED")
        with Http(address, tls=context(certificates)) as client:
            assert client.get("/v1/flows").status == 401
        with connect(address) as s:  # no TLS
            s.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert b"200" not in read_all(s)
        with Http(address, TOKENS["admin"], tls=context(certificates)) as client:
            assert client.get("/healthz").status == 200
        assert server.stop() == 0, server.text


def test_client_certificates(tmp_path, certificates):
    settings = {
        "TLS_CERT_FILE": certificates / "server.pem",
        "TLS_KEY_FILE": certificates / "server.key",
        "TLS_CLIENT_CA_FILE": certificates / "ca.pem",
        "MTLS_ROLES": "client=operator",
    }
    with Server(tmp_path, HTTP_LISTEN="0.0.0.0:0", **settings) as server:
        address = server.ready().addresses("https")[0].replace("0.0.0.0", "127.0.0.1")
        with Http(address, tls=context(certificates, "client")) as client:
            assert client.get("/v1/flows").json == {}
            assert client.post("/v1/flows/none:start").error == (404, "NOT_FOUND")  # an operator may
            assert client.ask("DELETE", "/v1/flows/none").error == (403, "PERMISSION_DENIED")
        for other in (None, "stranger", "late"):
            with Http(address, tls=context(certificates, other)) as client:
                try:
                    assert client.get("/v1/flows").status == 401, other
                except (ssl.SSLError, OSError):
                    pass  # or not even a handshake
        assert server.stop() == 0, server.text


def put(path, content):
    """The same file with another time: file systems tell moments apart by ticks of some milliseconds, and the length may be the same."""
    before = path.stat().st_mtime_ns if path.exists() else 0

    def another():
        path.write_bytes(content)
        return path.stat().st_mtime_ns != before

    wait_until(another, 10, f"another time of {path.name}", 0.001)


def presented(address, certificates):
    with connect(address, tls=context(certificates)) as s:
        return s.getpeercert()["subject"][0][0][1]


def test_certificates_are_read_again_when_they_change(tmp_path, certificates):
    cert, key = tmp_path / "now.pem", tmp_path / "now.key"

    def use(name, with_key=True):
        put(cert, (certificates / f"{name}.pem").read_bytes())
        if with_key:
            put(key, (certificates / f"{name}.key").read_bytes())

    use("server")
    with Server(tmp_path, HTTP_LISTEN=":0", TLS_CERT_FILE=cert, TLS_KEY_FILE=key) as server:
        address = server.ready().addresses("https")[0]
        assert presented(address, certificates) == "server"
        use("client")
        assert presented(address, certificates) == "client"
        use("server", with_key=False)  # not a pair
        assert presented(address, certificates) == "client"
        wait_until(lambda: server.events("certificates stay as they were"), 10, "the line that says so")
        use("server")
        assert presented(address, certificates) == "server"
        assert server.stop() == 0, server.text


def test_a_certificate_that_cannot_be_used_is_named(tmp_path, certificates):
    for cert, key in (("none.pem", "server.key"), ("names", "server.key"), ("server.pem", "client.key")):
        settings = {"TLS_CERT_FILE": certificates / cert, "TLS_KEY_FILE": certificates / key}
        code, text = Server(tmp_path, HTTP_LISTEN=":0", GRPC_LISTEN=":0", **settings).ended()
        assert code == 2 and "certificate" in text.lower(), text


# --- a Postgres that goes away -------------------------------------------------------------------------------------


def test_ready_is_who_reaches_the_state(tmp_path, own_server):
    with Server(tmp_path, HTTP_LISTEN=":0", POSTGRES_DSN=own_server.dsn()) as server:
        with Http(server.ready().addresses("http")[0], timeout=60) as client:
            assert client.get("/readyz").status == 200
            found, _ = samples(client.get("/metrics").body.decode())
            assert found["ductstream_state_up"] == 1 and found['ductstream_flows{state="created"}'] == 0
            own_server.stop()
            answer = client.get("/readyz")
            assert answer.error == (503, "UNAVAILABLE") and answer.json["message"]
            assert client.get("/healthz").status == 200
            found, _ = samples(client.get("/metrics").body.decode())
            assert found["ductstream_state_up"] == 0
            own_server.start()
            wait_until(lambda: client.get("/readyz").status == 200, 30, "the state to answer again")
        assert server.stop() == 0, server.text


def test_a_state_file_that_is_taken_away_takes_nothing_more(tmp_path):
    """Whoever removes the file, or puts another in its place, is told; nothing is answered for that nobody would find again."""
    run = {"id": "r", "kind": "sql", "inputJson": '{"dsn": "w", "statements": ["SELECT 1"]}'}
    with Service(tmp_path / "home", HTTP_LISTEN=":0", RUN_WORKERS=0) as service:
        with Http(service.server.addresses("http")[0]) as client:
            assert client.post("/v1/runs", run).status == 200
            service.state.rename(tmp_path / "away")
            for answer in (client.post("/v1/runs", run | {"id": "s"}), client.get("/v1/runs/r"), client.get("/readyz")):
                assert answer.error == (503, "UNAVAILABLE") and "not there any more" in answer.json["message"]
            (tmp_path / "away").rename(service.state)
            assert client.get("/readyz").status == 200
            assert [each["id"] for each in client.get("/v1/runs").json["runs"]] == ["r"]


def test_docs_show_what_works(api, client):
    """The commands of docs/http.md, with this server's port and a flow file that is there."""
    text = (ROOT / "docs" / "http.md").read_text()
    block = text.split("```bash\n", 1)[1].split("```", 1)[0]
    port = api.addresses("http")[0].rpartition(":")[2]
    block = block.replace("localhost:8082", f"127.0.0.1:{port}")
    answers = subprocess.run(["bash", "-ec", block], cwd=ROOT, check=True, capture_output=True, text=True).stdout.splitlines()
    assert len(answers) == 4 and json.loads(answers[0]) == {}
    for line in answers[1:]:
        assert "code" not in json.loads(line), line
