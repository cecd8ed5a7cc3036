"""ductstream-admin against the real server: commands, files, refusals, signals, both ends compared (issue 5, point 6)."""

import json
import re
import socket
import subprocess
import threading

import pytest
import yaml

from lib.admin import SECRET, Admin
from lib.api import TOKENS, Server, free_port, tokens_file
from lib.paths import ROOT, program
from lib.wait import wait_until

EXAMPLE = ROOT / "examples" / "flows" / "postgres-to-ducklake.yaml"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    home = tmp_path_factory.mktemp("service")
    with Server(home) as server:
        server.state_path = home / "state.db"
        yield server.ready()


@pytest.fixture
def admin(service):
    return Admin(service.address)


def flow_file(folder, name="shop", dsn="host=/nowhere dbname=x", **options):
    path = folder / f"{name}.yaml"
    content = {
        "name": name,
        "source": {"type": "postgres", "options": {"dsn": dsn, "slot": name, "publication": name, **options}},
        "destinations": [
            {
                "name": "lake",
                "type": "ducklake",
                "options": {"catalog": f"sqlite:{folder}/{name}.sqlite", "data_path": f"{folder}/{name}"},
            }
        ],
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def create(admin, path, *more):
    return admin.json("flow", "create", "-file", path, *more)["id"]


# --- the command line


def commands():
    listed = Admin().ok("completion")
    return sorted(set(re.findall(r"^\t\"([a-z -]+?) ?\"\*?\)", listed, re.MULTILINE)))


def test_every_command_has_a_screen_of_help():
    admin = Admin()
    names = commands()
    assert len(names) > 50 and "flow create" in names and "certify" in names
    texts = [admin.ok(), admin.ok("help", "flow")]
    for name in names:
        text = admin.ok("help", *name.split())
        assert text == admin.ok(*name.split(), "--help") == admin.ok(*name.split(), "-h")
        assert text.startswith(f"usage: ductstream-admin {name}"), text
        texts.append(text)
    for text in texts:
        assert len(text.splitlines()) <= 24, text
        assert max(map(len, text.splitlines())) <= 80, text


def test_an_error_is_one_line_whatever_was_typed():
    """Nor does it move the cursor of whoever reads it."""
    message = Admin().refused("flow", "list", "--state", "a\nb\x1b[2J\x7f")
    assert message.startswith('flag "--state": "a b [2J " is none of created')


def test_the_overview_names_every_command():
    overview = Admin().ok("help")
    words = {word for line in overview.splitlines() for word in line.split()}
    for name in commands():
        assert set(name.split()) <= {word.strip(",") for word in words}, name


@pytest.mark.parametrize(
    "words, message",
    [
        (["flow", "crate"], 'unknown command "flow crate": did you mean "flow create"?'),
        (["flwo", "list"], 'unknown command "flwo list": did you mean "flow list"?'),
        (["nothing"], "unknown command \"nothing\": `ductstream-admin help` lists the commands"),
        (["flow", "get"], 'flag "--flow-id" is missing: the flow'),
        (["flow", "get", "-flow-id", "a", "b"], "this command takes no arguments"),
        (["flow", "get", "--flow", "a"], 'unknown flag "--flow": add --help for the ones this command takes'),
        (["flow", "get", "--flow-idd", "a"], 'unknown flag "--flow-idd": did you mean "--flow-id"?'),
        (["flow", "list", "--endpiont", "a"], 'unknown flag "--endpiont": did you mean "--endpoint"?'),
        (["flow", "list", "--token", SECRET], 'unknown flag "--token": '),
        (["flow", "list", "--state", "runing"], "did you mean \"running\"?"),
        (["flow", "list", "--page-size", "many"], 'flag "--page-size": "many" is no whole number in range'),
        (["stream", "ack", "-stream", "s", "-group", "g", "-ids", "1,x"], 'flag "--ids": "x": whole numbers with commas'),
        (["stream", "replay", "-stream", "s", "-group", "g"], "from where: name --from-lsn or --since"),
        (["slot", "list"], "name a flow with --flow-id, or its source with --dsn"),
        (["certify"], "name a flow with --flow-id, or its file with --file"),
        (["flow", "list", "--timeout", "5"], 'flag "--timeout": "5" is not a duration such as 30s or 5m'),
        (["flow", "list", "--insecure", "--tls"], 'flags "--insecure" and "--tls" exclude each other'),
        (["publication", "sync", "-flow-id", "a", "-mode", "all"], 'flag "--mode": "all" is neither add nor sync'),
        (["flow", "create", "-file", "/nowhere"], "/nowhere: cannot be read: No such file or directory"),
        (["completion", "--shell", "dish"], 'flag "--shell": "dish" is neither bash nor zsh'),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_refusals_without_a_server(words, message):
    assert message in Admin("127.0.0.1:1").refused(*words)


def test_completion_completes():
    script = Admin().ok("completion") + '\nCOMP_WORDS=(ductstream-admin flow cre); COMP_CWORD=2; _ductstream_admin; echo "${COMPREPLY[@]}"\n'
    script += 'COMP_WORDS=(ductstream-admin flow get --fl); COMP_CWORD=3; _ductstream_admin; echo "${COMPREPLY[@]}"\n'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["create", "--flow-id"], done.stderr


def test_version_and_common_flags_before_the_command(admin):
    assert admin.ok("version").startswith("ductstream-admin ")
    assert admin.json("version")["version"]
    endpoint = admin.env.pop("DUCTSTREAM_ENDPOINT")
    assert "flows" in admin.json("--endpoint", endpoint, "flow", "list")
    assert "flows" in admin.json(f"-endpoint={endpoint}", "flow", "list")
    assert admin.ok("flow", "list", "-endpoint", endpoint, "--pretty").startswith("{\n  ")


# --- flows


def test_life_of_a_flow(admin, tmp_path):
    path = flow_file(tmp_path, dsn=f"host=/nowhere dbname=x password={SECRET}")
    flow = create(admin, path)
    shown = admin.ok("flow", "get", "-flow-id", flow)
    assert "shop" in shown and "postgres" in shown and "***" in shown
    assert admin.json("flow", "get", "--flow-id", flow)["state"] == "FLOW_STATE_CREATED"
    assert flow in admin.ok("flow", "list", "-state", "created") and flow not in admin.ok("flow", "list", "-state", "running")
    for command, state in [("start", "running"), ("pause", "paused"), ("resume", "running"), ("resume", "running"), ("stop", None)]:
        out = admin.ok("flow", command, "-flow-id", flow)
        assert state is None or re.search(rf"^state +{state}$", out, re.MULTILINE), out
    assert re.search(r"^state +(stopped|stopping)$", out, re.MULTILINE), out
    admin.ok("flow", "wait", "-flow-id", flow, "-state", "stopped", "-interval", "20ms")
    assert "is not running after 100ms" in admin.refused(
        "flow", "wait", "-flow-id", flow, "-state", "running", "-timeout", "100ms", "-interval", "20ms", code=4
    )
    assert admin.json("flow", "delete", "-flow-id", flow) == {"deleted": True}
    assert "there is none (NOT_FOUND)" in admin.refused("flow", "get", "-flow-id", flow)


def test_files_of_every_form_make_the_same_flow(admin, tmp_path):
    """A YAML flow file, the same in JSON, a Flow and a CreateFlowRequest as grpcurl sends it."""
    as_yaml = EXAMPLE.read_text()
    tree = yaml.safe_load(as_yaml)
    forms = {
        "yaml": as_yaml,
        "json": json.dumps(tree),
        "request": EXAMPLE.with_suffix(".json").read_text(),
        "flow": json.dumps(json.loads(EXAMPLE.with_suffix(".json").read_text())["flow"]),
    }
    made = []
    for name, text in forms.items():
        path = tmp_path / name
        path.write_text(text)
        flow = admin.json("flow", "get", "-flow-id", create(admin, path, "-flow-id", f"form-{name}"))
        made.append((flow["name"], flow["source"]["options"], flow["destinations"]))
    flow = admin.json("flow", "create", "-file", "-", stdin=as_yaml)
    made.append((flow["name"], flow["source"]["options"], flow["destinations"]))
    assert all(one == made[0] for one in made)
    assert made[0][1]["dsn"].startswith("${DUCTSTREAM_SOURCE_DSN"), "references are kept as they are"


def test_start_and_id_and_values_of_the_environment(admin, tmp_path):
    path = tmp_path / "f.yaml"
    path.write_text(flow_file(tmp_path, "env").read_text().replace("slot: env", "slot: ${THE_SLOT}"))
    flow = admin.json("flow", "create", "-file", path, "-start", "-flow-id", "the-flow", "-expand-env", THE_SLOT="from_here")
    assert (flow["id"], flow["state"]) == ("the-flow", "FLOW_STATE_RUNNING")
    assert flow["source"]["options"]["slot"] == "from_here"
    assert "ALREADY_EXISTS" in admin.refused("flow", "create", "-file", path, "-flow-id", "the-flow", "-expand-env", THE_SLOT="x")
    assert '"THE_SLOT" is not set' in admin.refused("flow", "create", "-file", path, "-expand-env")


def test_lists_of_options_and_settings_of_the_flow(admin, tmp_path):
    path = flow_file(tmp_path, "lists", publication_tables=["public.a", "public.b"])
    path.write_text(path.read_text() + "config: {max_memory: 64MiB, give_up_after: 5m, ack_policy: all}\nparallelism: 2\n")
    flow = admin.json("flow", "get", "-flow-id", create(admin, path))
    assert flow["source"]["options"]["publication_tables"] == "public.a,public.b"
    assert flow["parallelism"] == 2 and flow["config"]["maxMemory"] == "64MiB" and flow["config"]["giveUpAfter"] == "5m"


def test_update_keeps_the_state_and_plan_says_what_changes(admin, tmp_path):
    path = flow_file(tmp_path, "plan", dsn=f"host=/nowhere password={SECRET}")
    flow = create(admin, path, "-start")
    changed = flow_file(tmp_path, "plan", dsn="host=/nowhere password=other", batch_size=7)
    changes = admin.json("flow", "plan", "-file", changed, "-flow-id", flow)["changes"]
    found = {change["path"]: (change["change"], change["after"]) for change in changes}
    assert found["source.options.batch_size"] == ("add", "7")
    assert found["source.options.dsn"] == ("secret", "***")
    assert "name" not in found and "state" not in found
    assert admin.json("flow", "update", "-file", changed, "-flow-id", flow)["state"] == "FLOW_STATE_RUNNING"
    assert admin.json("flow", "get", "-flow-id", flow)["source"]["options"]["batch_size"] == "7"
    assert admin.json("flow", "update", "-file", path, "-flow-id", flow, "-pause", "-resume")["state"] == "FLOW_STATE_RUNNING"
    assert admin.json("flow", "reconfigure", "-file", changed, "-flow-id", flow)["state"] == "FLOW_STATE_RUNNING"
    assert "does not say which flow it is: add --flow-id" in admin.refused("flow", "update", "-file", changed)


def test_a_failed_update_lets_the_flow_go_on(admin, tmp_path):
    flow = create(admin, flow_file(tmp_path, "goes_on"), "-start")
    bad = flow_file(tmp_path, "goes_on", batch_size="none")
    assert "batch_size" in admin.refused("flow", "update", "-file", bad, "-flow-id", flow, "-pause", "-resume")
    assert admin.json("flow", "get", "-flow-id", flow)["state"] == "FLOW_STATE_RUNNING"


def test_list_gives_all_pages_or_one(admin, tmp_path):
    path = flow_file(tmp_path, "pages")
    made = {create(admin, path) for _ in range(5)}
    everything = {flow["id"] for flow in admin.json("flow", "list")["flows"]}
    assert made <= everything
    first = admin.json("flow", "list", "-page-size", 2)
    assert len(first["flows"]) == 2 and first["nextPageToken"]
    second = admin.json("flow", "list", "-page-size", 2, "-page-token", first["nextPageToken"])
    assert not {f["id"] for f in first["flows"]} & {f["id"] for f in second["flows"]}
    assert f"more: --page-token {first['nextPageToken']}" in admin.ok("flow", "list", "-page-size", 2)


def test_validate_lists_every_finding_and_needs_no_server(tmp_path):
    admin = Admin("127.0.0.1:1")
    assert admin.ok("flow", "validate", "-file", EXAMPLE) == 'flow "shop": valid\n'
    assert admin.ok("flow", "validate", "-file", EXAMPLE.with_suffix(".json")) == 'flow "shop": valid\n'
    path = flow_file(tmp_path, dsn=f"password={SECRET}", batch_size="none", slott="x")
    code, out, err = admin("flow", "validate", "-file", path)
    assert code == 2 and out == "" and len(err.splitlines()) == 2
    assert "batch_size" in err and 'did you mean "slot"?' in err


def test_dry_run_shows_the_request_without_secrets(tmp_path):
    path = flow_file(tmp_path, dsn=f"host=/nowhere password={SECRET}")
    request = json.loads(Admin("127.0.0.1:1").ok("flow", "dry-run", "-file", path))
    assert request["flow"]["source"]["options"] == {"dsn": "***", "slot": "shop", "publication": "shop"}


def test_quotes_of_a_copied_command_are_taken_off(admin, tmp_path):
    flow = create(admin, flow_file(tmp_path, "quoted"))
    assert admin.json("flow", "get", "-flow-id", f'"{flow}"')["id"] == flow


# --- what goes wrong on the way


def test_no_server():
    port = free_port()
    message = Admin(f"127.0.0.1:{port}").refused("flow", "list", code=4)
    assert f'no server at "127.0.0.1:{port}" (connection refused)' in message and "DUCTSTREAM_ENDPOINT" in message
    code, _, err = Admin(f"127.0.0.1:{port}")("flow", "list", "--json")
    assert code == 4 and json.loads(err)["class"] == "retry"


@pytest.fixture
def silent():
    """An address that accepts connections and says nothing; how many there were."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        taken = []

        def accept():
            try:
                while True:
                    taken.append(listener.accept()[0])
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        yield f"127.0.0.1:{listener.getsockname()[1]}", taken
        for connection in taken:
            connection.close()


def test_a_server_that_does_not_answer(silent):
    address, _ = silent
    message = Admin(address).refused("flow", "list", "--timeout", "300ms", code=4)
    assert "did not answer within 0.3 s: --timeout gives it longer" in message


def test_ctrl_c_ends_a_call(silent):
    address, taken = silent
    code, err = Admin(address).interrupted("flow", "list", when=lambda: taken)
    assert (code, err) == (130, "ductstream-admin: error: stopped\n")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """ca.pem, and server.pem with server.key for localhost; other.pem is nobody's authority."""
    folder = tmp_path_factory.mktemp("certificates")

    def openssl(*words):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True, cwd=folder)

    for name in ("ca", "other"):
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", f"{name}.key", "-out", f"{name}.pem", "-days", 2, "-subj", f"/CN={name}")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=localhost")
    (folder / "names").write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    openssl("x509", "-req", "-in", "server.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", 2, "-extfile", "names", "-out", "server.pem")
    return folder


@pytest.fixture(scope="module")
def guarded(tmp_path_factory, certificates):
    """A server with TLS and tokens."""
    home = tmp_path_factory.mktemp("guarded")
    settings = {
        "TLS_CERT_FILE": certificates / "server.pem",
        "TLS_KEY_FILE": certificates / "server.key",
        "TOKENS_FILE": tokens_file(home),
    }
    with Server(home, **settings) as server:
        yield server.ready()


def test_tls_and_tokens(guarded, certificates, tmp_path):
    ca = ("--tls-ca", certificates / "ca.pem")
    admin = Admin(f"localhost:{guarded.port}")
    assert "set DUCTSTREAM_TOKEN, or name a file with --token-file" in admin.refused("flow", "list", *ca)
    assert "the token is not one of the server's" in admin.refused("flow", "list", *ca, DUCTSTREAM_TOKEN=SECRET + "-0123456789")
    assert "flows" in admin.json("flow", "list", *ca, DUCTSTREAM_TOKEN=TOKENS["viewer"])
    assert "PERMISSION_DENIED" in admin.refused("flow", "delete", "-flow-id", "x", *ca, DUCTSTREAM_TOKEN=TOKENS["viewer"])
    token = tmp_path / "token"
    token.write_text(TOKENS["admin"] + "\n")
    token.chmod(0o644)
    assert "everybody may read" in admin.refused("flow", "list", *ca, "--token-file", token)
    token.chmod(0o600)
    assert "flows" in admin.json("flow", "list", *ca, "--token-file", token)


def test_tls_mismatches(guarded, service, certificates):
    admin = Admin(f"localhost:{guarded.port}", DUCTSTREAM_TOKEN=TOKENS["admin"])
    message = admin.refused("flow", "list", code=4)
    assert "closed the connection: if it speaks TLS, add --tls" in message
    assert "signed by nobody known: name its authority with --tls-ca" in admin.refused("flow", "list", "--tls-ca", certificates / "other.pem")
    assert "does not speak TLS: leave --tls away" in Admin(service.address).refused("flow", "list", "--tls-ca", certificates / "ca.pem")
    assert "is no PEM file" in admin.refused("flow", "list", "--tls-ca", "/dev/null")
    assert "belong together" in admin.refused("flow", "list", "--tls", "--tls-cert", certificates / "server.pem")


def test_a_token_does_not_go_in_the_clear():
    message = Admin(f"http://u:{SECRET}@127.0.0.1:1").refused("flow", "list")
    assert "without user, password" in message and SECRET not in message
    message = Admin("db.example:8080", DUCTSTREAM_TOKEN=SECRET).refused("flow", "list")
    assert "would go to" in message and "add --tls" in message


# --- the source


@pytest.fixture
def shop(database, tmp_path):
    database.sql(
        """CREATE TABLE orders (id int PRIMARY KEY, what text); CREATE TABLE new_table (id int PRIMARY KEY);
        INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 100) i;
        CREATE PUBLICATION shop FOR TABLE orders"""
    )
    return flow_file(tmp_path, "shop", dsn=database.dsn)


def run_once(path):
    done = subprocess.run([program(), "run", path, "--until-caught-up", "--quiet"], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_publications_and_slots(admin, shop, database):
    flow = create(admin, shop)
    database.sql("SELECT pg_create_logical_replication_slot('shop', 'pgoutput')")
    assert admin.json("publication", "list", "-flow-id", flow)["tables"] == ["public.orders"]
    found = admin.json("publication", "scrape", "-flow-id", flow, "-schemas", "public")
    assert found["missingTables"] == ["public.new_table"] and not found["applied"]
    synced = admin.json("publication", "sync", "-flow-id", flow, "-schemas", "public", "-mode", "add", "-pause", "-resume")
    assert synced["added"] == ["public.new_table"] and synced["removed"] == []
    admin.ok("publication", "remove", "-flow-id", flow, "-tables", "public.new_table")
    assert admin.json("publication", "list", "-flow-id", flow)["tables"] == ["public.orders"]
    assert "public.new_table" in admin.ok("publication", "add", "-dsn", database.dsn, "-publication", "shop", "-tables", "public.new_table")
    assert [slot["slotName"] for slot in admin.json("slot", "list", "-flow-id", flow)["slots"]] == ["shop"]
    assert re.search(r"^slot +shop$", admin.ok("slot", "show", "-flow-id", flow), re.MULTILINE)
    assert admin.json("slot", "drop", "-flow-id", flow, "-slot", "shop")["dropped"]
    assert not admin.json("slot", "drop", "-dsn", database.dsn, "-slot", "shop")["found"]
    assert admin(*"slot drop --if-exists=false -slot shop -dsn".split(), database.dsn)[0] == 2


def test_sync_leaves_a_running_flow_running(admin, shop):
    flow = create(admin, shop, "-start")
    admin.ok("publication", "sync", "-flow-id", flow, "-tables", "public.new_table", "-snapshot", "-pause", "-resume")
    assert admin.json("flow", "get", "-flow-id", flow)["state"] == "FLOW_STATE_RUNNING"
    assert admin.refused("publication", "sync", "-flow-id", flow, "-tables", "public.not_there")
    assert admin.json("flow", "get", "-flow-id", flow)["state"] == "FLOW_STATE_RUNNING"


def test_a_flow_that_the_server_runs_is_stopped(shop, tmp_path):
    """Its worker gets a signal and sees the state of the flow, in either order."""
    home = tmp_path / "local"
    home.mkdir()
    with Server(home, DISPATCH="local") as server:
        admin = Admin(server.ready().address)
        flow = create(admin, shop, "-start")
        wait_until(lambda: admin("checkpoint", "get", "-flow-id", flow)[0] == 0, 60, "the first copy", interval_s=0.1)
        admin.ok("flow", "stop", "-flow-id", flow)
        admin.ok("flow", "wait", "-flow-id", flow, "-state", "stopped", "-timeout", "20s", "-interval", "50ms")


# --- both ends


def test_certify_and_check_a_file(shop, database):
    admin = Admin("127.0.0.1:1")
    assert admin(*"flow check -file".split(), shop)[0] == 0
    run_once(shop)
    table = admin.json("certify", "-file", shop)
    assert table["identical"] and table["source_rows"] == table["destination_rows"] == 100
    assert table["source_hash"] == table["destination_hash"] and re.fullmatch("[0-9a-f]{32}", table["source_hash"])
    out = admin.ok("certify", "-file", shop, "-tables", "public.orders")
    assert "public.orders: 100 rows, identical; hash" in out and "source and destination are the same" in out
    database.sql("UPDATE orders SET what = 'other' WHERE id = 7")
    code, out, err = admin("certify", "-file", shop, "--timeout", "2s")
    assert code == 4, "nobody brings the lake up to date: " + out + err


def test_certify_finds_a_difference(shop, sqlite_lake, tmp_path):
    run_once(shop)
    from lib.lake import OfficialLake

    with OfficialLake(f"sqlite:{tmp_path}/shop.sqlite", f"{tmp_path}/shop") as lake:
        lake.sql("DELETE FROM lake.public.orders WHERE id = 5")
    code, out, err = Admin()("certify", "-file", shop, "--json")
    table = json.loads(out.splitlines()[0])
    assert code == 3 and not table["identical"] and table["different_keys"] == 1
    assert table["source_hash"] != table["destination_hash"]


def test_certify_by_id_reads_the_state(service, admin, shop, tmp_path):
    """The flow's secret is sealed in the state and opened here."""
    flow = create(admin, shop, "-start")
    state = {"DUCTSTREAM_STATE_PATH": service.state_path, "HOME": tmp_path}
    done = subprocess.run(
        [program("ductstream-worker"), "-flow-id", flow, "-max-empty-reads", "1", "-quiet"],
        env={**admin.env, **{k: str(v) for k, v in state.items()}},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert admin.json("certify", "-flow-id", flow, **state)["identical"]
    assert admin(*"check -flow-id".split(), flow, **state)[0] == 0
    assert "there is none in" in admin.refused("certify", "-flow-id", "nobody", **state)


def test_checkpoints(admin, service, tmp_path):
    flow = create(admin, flow_file(tmp_path, "positions"))
    assert "NOT_FOUND" in admin.refused("checkpoint", "get", "-flow-id", flow)
    assert "checkpoints" in admin.json("checkpoint", "list")
    message = admin.refused("checkpoint", "put", "-flow-id", flow, "-lsn", "0/16B6C50")
    assert "lake" in message or "destination" in message, "the destination decides: " + message
