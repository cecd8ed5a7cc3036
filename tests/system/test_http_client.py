"""src/net/http.h against servers that misbehave: timeouts, retries, stops, redirects, TLS, and what errors do not say (issue 6, point 1)."""

import gzip
import ssl
import time

import pytest

from lib.certificates import Authority
from lib.net import Net, Refused
from lib.raw_server import Server, ok, status
from lib.wait import wait_until


@pytest.fixture
def net(tmp_path):
    made = []

    def make(**options):
        made.append(Net(tmp_path, endpoint="http://127.0.0.1:1", access_key="K", secret_key="s", **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def refusal(net, **fields):
    with pytest.raises(Refused) as refused:
        net.do("http", **fields)
    return refused.value


def test_what_is_sent(net):
    with Server(ok()) as server:
        answer = net().do("http", method="PUT", url=server.url + "/a/../b?x=1", text="body", header="X-Odd: y")
        assert answer["text"] == "fine" and answer["tries"] == 1
        head = server.heads[0]
        assert head.startswith("PUT /a/../b?x=1 HTTP/1.1\r\n") and "\r\nX-Odd: y\r\n" in head and "\r\nUser-Agent: ductstream/" in head
        assert "Content-Type" not in head and "Expect" not in head and "\r\nContent-Length: 4\r\n" in head


def test_statuses_that_pass_are_tried_again(net):
    with Server(status(503), status(429), status(500), status(502), ok()) as server:
        assert net().do("http", url=server.url)["tries"] == 5
    with Server(status(503, text="busy\r\n now")) as server:
        refused = refusal(net(tries=3), url=server.url)
        assert (refused.kind, refused.status, len(server.heads)) == ("retry", 503, 3)
        assert str(refused).endswith("answered with 503: busy now")


def test_statuses_that_do_not_pass(net):
    for code in (400, 401, 403, 404, 409, 501):
        with Server(status(code, text="no")) as server:
            refused = refusal(net(), url=server.url + "/x")
            assert (refused.kind, refused.status, len(server.heads)) == ("config", code, 1)
            assert str(refused) == f"GET {server.url}/x: answered with {code}: no"


def test_retry_after_is_heeded_within_the_bound(net):
    with Server(status(503, "Retry-After: 1"), ok()) as server:
        began = time.monotonic()
        assert net().do("http", url=server.url)["tries"] == 2
        assert time.monotonic() - began >= 1
    with Server(status(429, "Retry-After: 120"), ok()) as server:
        refused = refusal(net(), url=server.url)
        assert (refused.kind, refused.status, len(server.heads)) == ("retry", 429, 1)  # longer than tries may last


def test_retry_after_may_be_longer_than_tries_last(net):
    """Where a client has time for what servers ask for, that does not count as time of failing; it has an end of its own."""
    asked = status(429, "Retry-After: 1")
    with Server(asked, asked, ok()) as server:
        assert net(retry_ms=500, most_asked_ms=5000).do("http", url=server.url)["tries"] == 3
    with Server(asked) as server:
        refused = refusal(net(retry_ms=500, most_asked_ms=1500), url=server.url)
        assert (refused.status, len(server.heads)) == (429, 2)


def test_what_may_not_be_done_twice(net):
    with Server(status(503)) as server:
        assert refusal(net(), method="POST", url=server.url, text="x", once=True).kind == "retry" and len(server.heads) == 1
    with Server(lambda sock: None) as server:
        refused = refusal(net(), method="POST", url=server.url, text="x", once=True)
        assert refused.kind == "retry" and len(server.heads) == 1
    with Server(status(429), ok()) as server:
        assert net().do("http", method="POST", url=server.url, text="x", once=True)["tries"] == 2


def test_nobody_there(net):
    refused = refusal(net(retry_ms=600), url="http://127.0.0.1:1/x")
    assert refused.kind == "retry" and "GET http://127.0.0.1:1/x: " in str(refused) and refused.answer["tries"] > 1
    assert refusal(net(retry_ms=0), url="http://nowhere.invalid/x").kind == "retry"


def test_a_silent_server(net):
    with Server(ok()) as server:
        server.answers = [server.silent]
        refused = refusal(net(stall_ms=200, tries=2), url=server.url)
        assert refused.kind == "retry" and "nothing came or went for 200 ms (2 tries)" in str(refused)
        wait_until(lambda: len(server.heads) == 2, 10, "the server to have read the second one")
        refused = refusal(net(total_ms=200, tries=1), url=server.url)
        assert refused.kind == "retry" and "timed out" in str(refused)


def test_a_slow_server_is_waited_for_while_bytes_come(net):
    def slowly(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\nConnection: close\r\n\r\n")
        for _ in range(8):
            assert not server.ended.wait(0.15)
            sock.sendall(b"x")

    with Server(slowly) as server:
        assert net(stall_ms=1000, tries=1).do("http", url=server.url)["text"] == "x" * 8


def test_a_stop_ends_a_request_and_a_wait(net):
    with Server(ok()) as server:
        server.answers = [server.silent]
        n = net()
        n.begin("http", url=server.url)
        wait_until(lambda: server.heads, 30, "the request")
        n.signal(15)
        with pytest.raises(Refused, match="stopped") as refused:
            n.end()
        assert refused.value.kind == "cancelled"
    with Server(status(503, "Retry-After: 25")) as server:
        n = net()
        n.begin("http", url=server.url)
        wait_until(lambda: server.heads, 30, "the request")
        began = time.monotonic()
        n.signal(15)
        with pytest.raises(Refused, match="stopped"):
            n.end()
        assert time.monotonic() - began < 20


def test_long_answers_are_refused(net):
    with Server(ok("x" * 2000)) as server:
        refused = refusal(net(), url=server.url, max=1999)
        assert refused.kind == "data" and str(refused).endswith("the answer is longer than 1999 bytes") and len(server.heads) == 1
        assert net().do("http", url=server.url, max=2000)["text"] == "x" * 2000
    bomb = gzip.compress(b"x" * 100_000)
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\nContent-Length: {len(bomb)}\r\n\r\n".encode()
    with Server(head + bomb) as server:
        assert refusal(net(), url=server.url, max=99_999, compressed=True).kind == "data"
        assert len(net().do("http", url=server.url, max=100_000, compressed=True)["text"]) == 100_000


def test_redirects_only_where_asked_for(net):
    with Server(ok("there")) as there, Server(status(302, f"Location: {there.url}/x?token=secret")) as here:
        refused = refusal(net(), url=here.url)
        assert refused.kind == "config" and f"it sends elsewhere, to {there.url}/x, which is not followed" in str(refused)
        assert not there.heads
        assert net().do("http", url=here.url, redirects=1)["text"] == "there"
    with Server(ok()) as loop:
        loop.answers = [status(302, f"Location: {loop.url}")]
        assert refusal(net(), url=loop.url, redirects=3).kind == "config" and len(loop.heads) == 4


def test_no_secret_of_a_url_is_told(net):
    refused = refusal(net(tries=1), url="http://user:s3cret@127.0.0.1:1/path?token=s3cret#s3cret")
    assert "s3cret" not in str(refused) and "user" not in str(refused) and "http://127.0.0.1:1/path: " in str(refused)
    for wrong in ("file:///etc/passwd", "gopher://x", "http://[s3cret", "http://host:99999999/?s3cret"):
        refused = refusal(net(tries=1), url=wrong)
        assert refused.kind == "config" and "s3cret" not in str(refused).replace("http://[s3cret", ""), str(refused)


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    return Authority(tmp_path_factory.mktemp("ca"))


def tls_of(pair):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    return context


def test_certificates_are_verified(net, authority):
    with Server(ok(), tls=tls_of(authority.sign("server"))) as server:
        assert net(ca_file=str(authority.cert)).do("http", url=server.url)["text"] == "fine"
        refused = refusal(net(), url=server.url)
        assert refused.kind == "config" and "certificate" in str(refused) and refused.answer["tries"] == 1
        refused = refusal(net(ca_file="/nowhere.pem"), url=server.url)
        assert refused.kind == "config" and len(server.heads) == 1
    with Server(ok(), tls=tls_of(authority.sign("old", days=-1))) as server:
        refused = refusal(net(ca_file=str(authority.cert)), url=server.url)
        assert refused.kind == "config" and "expired" in str(refused) and not server.heads


def test_no_redirect_from_tls_to_the_clear(net, authority):
    with Server(ok()) as clear, Server(status(302, f"Location: {clear.url}"), tls=tls_of(authority.sign("server"))) as server:
        assert refusal(net(ca_file=str(authority.cert)), url=server.url, redirects=5).kind == "config" and not clear.heads
