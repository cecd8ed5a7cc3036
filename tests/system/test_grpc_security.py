"""Who may call what (issue 5, point 2): tokens, certificates, TLS, roles; the listener of tests/system/api_driver.c and, for the roles,
the real server with all its services."""

import re
import resource
import subprocess

import grpc
import pytest

from lib.api import ROLES, TOKENS, Client, Server, api_driver, free_port, grpcurl, reflected_methods, tokens_file
from lib.certificates import Authority
from lib.http import Http
from lib.paths import ROOT, program
from lib.wait import wait_until

FLOWS = "ductstream.v1.FlowService"
HEALTH = "grpc.health.v1.Health"
Code = grpc.StatusCode


@pytest.fixture
def authority(tmp_path):
    return Authority(tmp_path)


def tls(authority, client=None):
    pair = {"private_key": client[1].read_bytes(), "certificate_chain": client[0].read_bytes()} if client else {}
    return grpc.ssl_channel_credentials(root_certificates=authority.cert.read_bytes(), **pair)


def answer(server, method=f"{FLOWS}/GetFlow", token=None, credentials=None, **fields):
    address = f"localhost:{server.port}" if credentials else server.address
    with Client(address, token, credentials) as client:
        return client.code(method, timeout=5, **(fields or {"flow_id": "x"}))


# --- tokens ----------------------------------------------------------------------------------------------------------


def test_a_token_is_needed_and_has_its_role(start, tmp_path):
    server = start(TOKENS_FILE=tokens_file(tmp_path))
    assert answer(server)[0] == Code.UNAUTHENTICATED
    assert answer(server, token="wrong-token-0123456789") == (Code.UNAUTHENTICATED, "the token is not known here")
    assert answer(server, token=TOKENS["viewer"][:-1])[0] == Code.UNAUTHENTICATED
    with Client(server.address, TOKENS["operator"]) as client:
        assert client.call(f"{FLOWS}/GetFlow", flow_id="x").name == "token:operator"
    assert answer(server, f"{FLOWS}/CreateFlow", TOKENS["operator"], flow={"name": "n"}) == (
        Code.PERMISSION_DENIED,
        f"{FLOWS}/CreateFlow needs the role admin, and token:operator is operator",
    )
    assert answer(server, f"{FLOWS}/CreateFlow", TOKENS["admin"], flow={"name": "n"})[0] == Code.OK
    assert answer(server, f"{HEALTH}/Check", service="")[0] == Code.OK
    wanted = {"UNAUTHENTICATED", "PERMISSION_DENIED"}
    wait_until(lambda: {line["code"] for line in server.events("call refused")} == wanted, 10, "what the log says")
    assert all(line["peer"].startswith("ipv4:127.0.0.1") for line in server.events("call refused"))
    for token in (*TOKENS.values(), "wrong-token-0123456789"):
        assert token not in server.text


def test_other_forms_of_the_header_are_refused(start, tmp_path):
    server = start(TOKENS_FILE=tokens_file(tmp_path))
    good = TOKENS["admin"]
    headers = [
        [("authorization", good)],
        [("authorization", f"Basic {good}")],
        [("authorization", "Bearer ")],
        [("authorization", f"Bearer {good}"), ("authorization", f"Bearer {good}")],
        [("authorization", f"Bearer {good}, Bearer {good}")],
        [("authorization", "Bearer " + "x" * 6000)],
    ]
    with Client(server.address) as client:
        for client.metadata in headers:
            assert client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.UNAUTHENTICATED
        client.metadata = [("authorization", f"bearer {good}")]
        assert client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.OK


def test_the_token_of_the_environment(start):
    server = start(TOKEN="token-of-the-environment", TOKEN_ROLE="viewer")
    with Client(server.address, "token-of-the-environment") as client:
        assert client.call(f"{FLOWS}/GetFlow", flow_id="x").name == "token:env"
        assert client.code(f"{FLOWS}/CreateFlow", flow={"name": "n"})[0] == Code.PERMISSION_DENIED


def test_reflection_needs_a_token_when_there_are_some(start, tmp_path):
    server = start(TOKENS_FILE=tokens_file(tmp_path))
    with Client(server.address) as client, pytest.raises(grpc.RpcError) as error:
        reflected_methods(client)
    assert error.value.code() == Code.UNAUTHENTICATED
    with Client(server.address, TOKENS["viewer"]) as client:
        assert f"{FLOWS}/GetFlow" in reflected_methods(client)


def test_a_tokens_file_that_others_may_read_is_refused(tmp_path):
    path = tokens_file(tmp_path)
    path.chmod(0o640)
    with Server(tmp_path, api_driver(), TOKENS_FILE=path) as server:
        code, text = server.ended()
    assert code == 2 and "may be read by others (mode 0640): run `chmod 600` on it" in text


def test_tokens_are_read_again_when_the_file_changes(start, tmp_path):
    path = tokens_file(tmp_path)
    server = start(TOKENS_FILE=path)
    assert answer(server, token=TOKENS["viewer"])[0] == Code.OK
    path.write_text("other viewer another-token-0123456789\n")
    wait_until(lambda: answer(server, token="another-token-0123456789")[0] == Code.OK, 10, "the new token")
    assert answer(server, token=TOKENS["viewer"])[0] == Code.UNAUTHENTICATED
    path.write_text("nonsense\n")
    wait_until(lambda: answer(server, token="another-token-0123456789") and server.events("tokens stay as they were"), 10, "a look")
    assert answer(server, token="another-token-0123456789")[0] == Code.OK


def test_a_token_is_taken_away_though_the_file_could_not_be_read_at_once(start, tmp_path):
    """Descriptors had run out just then."""
    path = tokens_file(tmp_path)
    server = start(TOKENS_FILE=path)
    with Client(server.address, TOKENS["viewer"]) as client:
        refused = lambda: client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == Code.UNAUTHENTICATED  # noqa: E731
        assert not refused()
        (soft, hard) = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (3, hard))
        path.write_text("other viewer another-token-0123456789\n")
        wait_until(lambda: not refused() and server.events("tokens stay as they were"), 10, "the look that fails")
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (soft, hard))
        wait_until(refused, 10, "the token to be refused")


def test_refusals_do_not_fill_the_log(start, tmp_path):
    server = start(TOKENS_FILE=tokens_file(tmp_path))
    with Client(server.address) as client:
        for _ in range(500):
            client.code(f"{FLOWS}/GetFlow", flow_id="x")
    assert len(server.events("call refused")) < 60


# --- TLS -------------------------------------------------------------------------------------------------------------


def test_tls_and_tokens_on_every_address(start, tmp_path, authority):
    cert, key = authority.sign("server")
    server = start(GRPC_LISTEN="0.0.0.0:0", TLS_CERT_FILE=cert, TLS_KEY_FILE=key, TOKENS_FILE=tokens_file(tmp_path))
    assert answer(server, token=TOKENS["viewer"], credentials=tls(authority))[0] == Code.OK
    assert answer(server, credentials=tls(authority))[0] == Code.UNAUTHENTICATED
    assert answer(server, token=TOKENS["viewer"])[0] == Code.UNAVAILABLE  # without TLS
    other = Authority(tmp_path, "other")
    assert answer(server, token=TOKENS["viewer"], credentials=tls(other))[0] == Code.UNAVAILABLE


@pytest.mark.parametrize("given", ["tls", "tokens"])
def test_half_a_protection_is_none(tmp_path, authority, given):
    cert, key = authority.sign("server")
    settings = {"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key} if given == "tls" else {"TOKENS_FILE": tokens_file(tmp_path)}
    with Server(tmp_path, api_driver(), GRPC_LISTEN="0.0.0.0:0", **settings) as server:
        code, text = server.ended()
    assert code == 2 and f"has no {'tokens' if given == 'tls' else 'TLS'}:" in text


def test_client_certificates_have_roles(start, tmp_path, authority):
    cert, key = authority.sign("server")
    settings = {"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key, "TLS_CLIENT_CA_FILE": authority.cert, "MTLS_ROLES": "boss=admin"}
    server = start(GRPC_LISTEN="0.0.0.0:0", **settings)
    boss, guest = authority.sign("boss"), authority.sign("guest")
    with Client(f"localhost:{server.port}", credentials=tls(authority, boss)) as client:
        assert client.call(f"{FLOWS}/GetFlow", flow_id="x").name == "cert:boss"
        assert client.code(f"{FLOWS}/CreateFlow", flow={"name": "n"})[0] == Code.OK
    with Client(f"localhost:{server.port}", credentials=tls(authority, guest)) as client:
        assert client.call(f"{FLOWS}/GetFlow", flow_id="x").name == "cert:guest"
        assert client.code(f"{FLOWS}/CreateFlow", flow={"name": "n"})[0] == Code.PERMISSION_DENIED
    assert answer(server, credentials=tls(authority))[0] == Code.UNAVAILABLE  # none
    expired = authority.sign("boss", days=-1, file="expired")
    assert answer(server, credentials=tls(authority, expired))[0] == Code.UNAVAILABLE
    foreign = Authority(tmp_path, "other").sign("boss", file="foreign")
    assert answer(server, credentials=tls(authority, foreign))[0] == Code.UNAVAILABLE
    assert answer(server, credentials=tls(authority, boss))[0] == Code.OK


def test_certificates_are_read_again_when_they_change(start, tmp_path, authority):
    cert, key = authority.sign("server")
    server = start(TLS_CERT_FILE=cert, TLS_KEY_FILE=key)
    other = Authority(tmp_path, "other")
    assert answer(server, credentials=tls(other))[0] == Code.UNAVAILABLE
    for new, old in zip(other.sign("server", file="new"), (cert, key)):
        new.replace(old)
    assert answer(server, credentials=tls(other))[0] == Code.OK
    wait_until(lambda: server.events("certificates read again"), 10, "what the log says")
    cert.write_text("nonsense")
    assert answer(server, credentials=tls(other))[0] == Code.OK
    wait_until(lambda: server.events("certificates stay as they were"), 10, "what the log says")


def test_a_key_that_was_away_for_a_moment(start, tmp_path, authority):
    """While the certificate changed: both are taken when it is back, as the file that it was."""
    cert, key = authority.sign("server")
    server = start(TLS_CERT_FILE=cert, TLS_KEY_FILE=key)
    other = Authority(tmp_path, "other")
    new_cert, new_key = other.sign("server", file="new")
    new_key.replace(key)
    assert answer(server, credentials=tls(authority))[0] == Code.OK
    aside = key.rename(tmp_path / "aside")
    new_cert.replace(cert)
    assert answer(server, credentials=tls(authority))[0] == Code.OK
    aside.rename(key)
    assert answer(server, credentials=tls(other))[0] == Code.OK
    wait_until(lambda: server.events("certificates read again"), 10, "the log's last line")
    assert len(server.events("certificates stay as they were")) == 2


def test_certificates_that_cannot_work_are_refused(tmp_path, authority):
    cert, key = authority.sign("server")
    expired = authority.sign("server", days=-1, file="expired")
    (tmp_path / "nonsense").write_text("nonsense")
    cases = [
        (expired[0], expired[1], "the certificate has expired"),
        (cert, expired[1], "is not the key of the certificate in"),
        (tmp_path / "nonsense", key, "has no certificate in PEM form"),
        (cert, tmp_path / "nonsense", "has no private key in PEM form"),
        (cert, tmp_path / "none", "No such file or directory"),
    ]
    for given, given_key, why in cases:
        with Server(tmp_path, api_driver(), TLS_CERT_FILE=given, TLS_KEY_FILE=given_key) as server:
            code, text = server.ended()
        assert code == 2 and why in text and "PRIVATE" not in text, text


# --- roles -----------------------------------------------------------------------------------------------------------


def documented_roles():
    """{"ductstream.v1.FlowService/GetFlow": "viewer"}, of docs/reference/roles.md."""
    rows = re.findall(r"^\| `([\w.]+/\w+)` \| (\w+) \|", (ROOT / "docs" / "reference" / "roles.md").read_text(), re.MULTILINE)
    return dict(rows)


def test_every_method_as_every_role_and_as_nobody(tmp_path):
    """The table in the documentation against the real server: whoever has the role gets any answer but a refusal, all others a refusal,
    before the message is looked at. Covers every service that the server lists, and nothing is left out of the table."""
    documented = documented_roles()
    with Server(tmp_path, TOKENS_FILE=tokens_file(tmp_path)) as server:
        server.ready()
        with Client(server.address, TOKENS["viewer"]) as client:
            methods = reflected_methods(client)
        served = {}
        for role in ROLES:
            with Client(server.address, TOKENS.get(role)) as client:
                for method, streams in methods.items():
                    if method.startswith("grpc.health."):
                        continue
                    allowed = method in documented and ROLES.index(role) >= ROLES.index(documented[method])
                    served.setdefault(method, {})[role] = _code_of_an_empty_call(client, method, streams, 0.5 if allowed else 20)
        assert server.stop() == 0
    unserved = {method for method, codes in served.items() if codes["admin"] == Code.UNIMPLEMENTED}
    assert set(documented) == set(served) - unserved
    wrong = []
    for method, needed in documented.items():
        for rank, role in enumerate(ROLES):
            code = served[method][role]
            allowed = rank >= ROLES.index(needed)
            expected = "an answer" if allowed else Code.UNAUTHENTICATED if role == "nobody" else Code.PERMISSION_DENIED
            refused = code in (Code.UNAUTHENTICATED, Code.PERMISSION_DENIED)
            if refused if allowed else code != expected:
                wrong.append(f"{method} as {role}: {code}, not {expected}")
    assert not wrong, "\n".join(wrong)


def test_every_method_as_every_role_and_as_nobody_by_http(tmp_path):
    """The same by POST /v1/SERVICE/METHOD: the same table, the same answers."""
    wrong = []
    with Server(tmp_path, TOKENS_FILE=tokens_file(tmp_path), HTTP_LISTEN="127.0.0.1:0") as server:
        server.ready()
        with Http(server.addresses("http")[0]) as client:
            for method, needed in documented_roles().items():
                package, _, name = method.rpartition("v1.")
                if package != "ductstream.":
                    continue
                for rank, role in enumerate(ROLES):
                    answer = client.post(f"/v1/{name}", {}, token=TOKENS.get(role))
                    refused = answer.status in (401, 403)
                    as_it_should = not refused if rank >= ROLES.index(needed) else answer.status == (401 if role == "nobody" else 403)
                    if not as_it_should or b"there is no /v1" in answer.body:
                        wrong.append(f"{name} as {role}: {answer}")
    assert not wrong, "\n".join(wrong)


def _code_of_an_empty_call(client, method, streams, stream_s):
    """A call without fields; a stream, which may have no end, is cut off."""
    try:
        if streams[1]:
            list(client.call(method, timeout=stream_s))
        else:
            client.raw(method, b"", timeout=20)
    except grpc.RpcError as error:
        return error.code()
    return Code.OK


# --- documentation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", ["server", "security"])
def test_the_commands_of_the_documentation_work(tmp_path, page):
    """The shell blocks of docs/server.md and docs/security.md, as they are but for the ports."""
    if grpcurl() is None:
        pytest.skip("no grpcurl (tools/setup --servers)")
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "docs" / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL)
    script = "\n".join(blocks).replace("8443", str(free_port()))
    if "8080" in script:
        port = free_port()
        script = f"export DUCTSTREAM_GRPC_LISTEN=:{port} DUCTSTREAM_HTTP_LISTEN=off\n" + script.replace("8080", str(port))
    environment = {"HOME": str(tmp_path), "PATH": f"{program().parent}:{grpcurl().parent}:/usr/bin:/bin"}
    done = subprocess.run(
        ["bash", "-c", f"{script}\nlast=$?; kill %1; wait %1 && exit $last"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FlowService" in done.stdout if page == "server" else "{}" in done.stdout
