"""Objects on a real S3 server, by src/net (issue 6, point 1)."""

import threading
import time

import pytest

from lib.net import Net, Refused, pattern, sha256
from lib.s3 import S3Server, missing
from lib.s3_proxy import Answer, Cut, Wait
from lib.wait import wait_until

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

ODD_KEYS = ["a b", "a+b", "100%", "%41", "ä/€/𝄞", "k=v/x=1", "a&b<c>'\"", "q?x#y", "[1]*(2)!$,;:@", "~tilde", "tab\tend", "back\\slash"]
MIB = 1 << 20


@pytest.fixture
def net(tmp_path):
    """net(s3, …) -> Net; each ends in order with the test."""
    made = []

    def make(s3, endpoint=None, **more):
        made.append(Net.on(tmp_path, s3, endpoint, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def refusal(net, op, **fields):
    with pytest.raises(Refused) as refused:
        net.do(op, **fields)
    assert "odd=characters" not in str(refused.value)
    return refused.value.kind, str(refused.value)


# --- every operation, odd names included ---


def test_objects_under_odd_names(s3, bucket, net):
    n = net(s3)
    for number, key in enumerate(ODD_KEYS):
        n.do("put", bucket=bucket, key=key, text=f"object {number}")
        assert n.do("get", bucket=bucket, key=key)["text"] == f"object {number}"
        assert s3.get(bucket, key) == f"object {number}".encode()
        n.do("copy", bucket=bucket, key=key, size=8, to_bucket=bucket, to_key="copies/" + key)
    listed = [key for key, _, _ in n.do("list", bucket=bucket, prefix="")["objects"]]
    assert listed == s3.keys(bucket) and len(listed) == 2 * len(ODD_KEYS)
    for key in ODD_KEYS:
        assert n.do("list", bucket=bucket, prefix=key)["objects"] == [[key, 8 if ODD_KEYS.index(key) < 10 else 9, False]]
    n.do("delete_all", bucket=bucket, keys=["copies/" + key for key in ODD_KEYS] + ["never was"])
    assert s3.keys(bucket) == sorted(ODD_KEYS, key=lambda k: k.encode())
    n.do("delete", bucket=bucket, key=ODD_KEYS[0])
    n.do("delete", bucket=bucket, key=ODD_KEYS[0])
    assert n.do("head", bucket=bucket, key=ODD_KEYS[0])["found"] is False


def test_ranges_and_streams(s3, bucket, net):
    n, body = net(s3), pattern(3 * MIB + 17)
    assert n.do("put", bucket=bucket, key="x", size=len(body))["sha256"] == sha256(body)
    assert sha256(s3.get(bucket, "x")) == sha256(body)
    assert n.do("head", bucket=bucket, key="x")["size"] == len(body)
    assert n.do("stream", bucket=bucket, key="x")["sha256"] == sha256(body)
    assert n.do("stream", bucket=bucket, key="x", **{"from": 1000, "len": 70_001})["sha256"] == sha256(body[1000:71_001])
    assert n.do("stream", bucket=bucket, key="x", **{"from": len(body) - 5})["bytes"] == 5
    assert n.do("ranges", bucket=bucket, key="x", count=100, len=30_000)["sha256"] == sha256(body[:3_000_000])
    assert refusal(n, "ranges", bucket=bucket, key="x", count=2, len=2 * MIB)[0] == "data"
    kind, message = refusal(n, "stream", bucket=bucket, key="x", **{"from": 9 * MIB, "len": 5})
    assert kind == "data" and f'"s3://{bucket}/x" ends before byte {9 * MIB}' in message
    assert refusal(n, "get", bucket=bucket, key="x", max=MIB)[0] == "data"
    kind, message = refusal(n, "stream", bucket=bucket, key="x", refuse_after=10)
    assert kind == "data" and message.endswith(": enough")
    n.do("put", bucket=bucket, key="empty", text="")
    assert n.do("stream", bucket=bucket, key="empty")["bytes"] == 0


def test_many_ranges_go_side_by_side(s3, bucket, net, proxy):
    n = net(s3, proxy.endpoint)
    n.do("put", bucket=bucket, key="x", size=400_000)
    gate = threading.Event()
    arrived = []

    def hold(request):
        arrived.append(request)
        if len(arrived) >= 16:
            gate.set()
        return Wait(gate) if request.method == "GET" else None

    proxy.reset()
    proxy.fault = hold
    assert n.do("ranges", bucket=bucket, key="x", count=40, len=10_000)["sha256"] == sha256(pattern(400_000))
    assert proxy.count("GET") == 40 and proxy.bytes_down == 400_000


def test_lists_in_pages_and_with_a_delimiter(s3, bucket, net, proxy):
    keys = [f"p/{number:04}" for number in range(1005)]
    n = net(s3, proxy.endpoint)
    (s3.folder / "data" / bucket / "p").mkdir()
    for key in keys:
        (s3.folder / "data" / bucket / key).touch()
    found = n.do("list", bucket=bucket, prefix="p/")["objects"]
    assert [key for key, _, _ in found] == keys and proxy.count("GET") == 2
    n.do("put", bucket=bucket, key="q/a b/x", text="1")
    n.do("put", bucket=bucket, key="top", text="1")
    found = n.do("list", bucket=bucket, prefix="", delimiter="/")["objects"]
    assert sorted(found) == [["p/", 0, True], ["q/", 0, True], ["top", 1, False]]
    assert n.do("list", bucket=bucket, prefix="q/", delimiter="/")["objects"] == [["q/a b/", 0, True]]
    n.do("delete_all", bucket=bucket, keys=keys)
    assert proxy.count("POST") == 2 and s3.keys(bucket, "p/") == []


@pytest.mark.parametrize("size", [0, 1, 8 * MIB, 8 * MIB + 1, 33 * MIB + 5])
def test_uploads_of_any_size(s3, bucket, net, size):
    n = net(s3)
    sent = n.do("upload", bucket=bucket, key="x/y", size=size, piece=3 * MIB + 1)
    got = s3.get(bucket, "x/y")
    assert len(got) == size and sha256(got) == sent["sha256"] and s3.uploads(bucket) == []


def test_files_are_put(s3, bucket, net, tmp_path):
    n = net(s3)
    for size in (0, 5, 16 * MIB, 20 * MIB + 3):
        (tmp_path / "file").write_bytes(pattern(size))
        n.do("put_file", bucket=bucket, key="f", path=str(tmp_path / "file"))
        assert sha256(s3.get(bucket, "f")) == sha256(pattern(size))
    kind, message = refusal(n, "put_file", bucket=bucket, key="f", path="/nowhere/x")
    assert kind == "retry" and "/nowhere/x" in message


def test_buckets(s3, net):
    n, name = net(s3), "made-" + str(time.time_ns())
    assert n.do("bucket", bucket=name)["exists"] is False
    n.do("create", bucket=name)
    n.do("create", bucket=name)
    assert n.do("bucket", bucket=name)["exists"] is True


# --- who may what ---


def test_wrong_secret_and_unknown_key(s3, bucket, net):
    kind, message = refusal(net(s3, secret_key="wrong"), "put", bucket=bucket, key="x", text="1")
    assert kind == "config" and "the secret key is not that of access key test..." in message and s3.access_key not in message
    kind, message = refusal(net(s3, access_key="nobody-at-all"), "get", bucket=bucket, key="x")
    assert kind == "config" and "does not know access key nobo..." in message


def test_missing_bucket_and_object(s3, bucket, net):
    n = net(s3)
    for op in ("put", "get", "list", "upload"):
        kind, message = refusal(n, op, bucket="nowhere", key="a/b", size=9 * MIB, prefix="a/")
        assert kind == "config" and 'bucket "nowhere" does not exist at 127.0.0.1' in message, message
    kind, message = refusal(n, "get", bucket=bucket, key="a/b")
    assert kind == "config" and f'"s3://{bucket}/a/b" does not exist' in message


def test_policies_refuse_by_name(s3, bucket, net):
    name = "reader" + bucket[-8:]
    s3.user(name, "readersecret")
    s3.put(bucket, "in/x", b"1")
    s3.allow(bucket, name, ["s3:ListBucket", "s3:GetObject"])
    n = net(s3, access_key=name, secret_key="readersecret")
    assert n.do("get", bucket=bucket, key="in/x")["text"] == "1"
    for op, action in (("put", "PutObject"), ("delete", "DeleteObject"), ("upload", "PutObject")):
        kind, message = refusal(n, op, bucket=bucket, key="in/x", size=9 * MIB)
        assert kind == "config", message
        assert f'bucket "{bucket}" refuses {action} of "in/x" to access key read...: AccessDenied' in message
    s3.allow(bucket, name, ["s3:GetObject"])
    kind, message = refusal(n, "list", bucket=bucket, prefix="in/")
    assert f'bucket "{bucket}" refuses ListBucket under "in/" to access key read...' in message


def test_the_session_token_is_sent_and_signed(s3, bucket, net, proxy):
    n = net(s3, proxy.endpoint, session_token="a/token+with=signs")
    kind, message = refusal(n, "put", bucket=bucket, key="x", text="1")
    assert kind == "config" and "InvalidToken" in message and "signs" not in message  # it has not made this one
    sent = proxy.requests[-1].headers
    assert sent["x-amz-security-token"] == "a/token+with=signs"
    assert "x-amz-security-token" in sent["authorization"].split("SignedHeaders=")[1].split(",")[0]


def test_another_region_is_named(s3, bucket, net, proxy):
    answer = b"<Error><Code>PermanentRedirect</Code><Message>use the other</Message></Error>"
    proxy.fault = lambda r: Answer(301, answer, {"x-amz-bucket-region": "eu-west-1"})
    kind, message = refusal(net(s3, proxy.endpoint), "get", bucket=bucket, key="x")
    assert kind == "config" and f'bucket "{bucket}" is in region eu-west-1, not in us-east-1' in message


def test_hosts_are_named_by_bucket_where_asked(s3, bucket, net, proxy):
    n = net(s3, proxy.endpoint.replace("127.0.0.1", "localhost"), style=2)
    kind, _ = refusal(n, "put", bucket=bucket, key="x", text="1")  # the server knows no names of buckets
    sent = proxy.requests[-1]
    assert kind == "config" and sent.headers["host"].startswith(f"{bucket}.localhost:") and sent.target == "/x"


# --- what passes ---


def test_busy_servers_are_asked_again(s3, bucket, net, proxy):
    told = [Answer(503, b"<Error><Code>SlowDown</Code></Error>"), Answer(500), Cut(after_up=3), Cut(after_down=0),
            Answer(400, b"<Error><Code>RequestTimeout</Code></Error>")]  # fmt: skip
    proxy.fault = lambda r: told.pop(0) if told else None
    net(s3, proxy.endpoint).do("put", bucket=bucket, key="x", text="all of it")
    assert s3.get(bucket, "x") == b"all of it"
    assert [r.status for r in proxy.requests] == [503, 500, 0, 0, 400, 200]


def test_a_busy_server_is_given_up(s3, bucket, net, proxy):
    proxy.fault = lambda r: Answer(503, b"<Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>")
    kind, message = refusal(net(s3, proxy.endpoint, retry_ms=700), "put", bucket=bucket, key="x", text="1")
    assert kind == "retry" and "SlowDown: Reduce your rate" in message and proxy.count("PUT") > 1


def test_a_broken_read_goes_on_where_it_broke(s3, bucket, net, proxy):
    body = pattern(5 * MIB)
    s3.put(bucket, "x", body)
    cuts = [Cut(after_down=MIB), Cut(after_down=MIB + 5), Cut(after_down=0)]
    proxy.fault = lambda r: cuts.pop(0) if cuts else None
    n = net(s3, proxy.endpoint)
    assert n.do("stream", bucket=bucket, key="x")["sha256"] == sha256(body)
    assert proxy.count("GET") == 4 and proxy.bytes_down <= len(body)
    assert proxy.requests[-1].headers["range"].startswith("bytes=") and "if-match" in proxy.requests[-1].headers


def test_a_server_that_falls_silent(s3, bucket, net, proxy):
    body = pattern(MIB)
    s3.put(bucket, "x", body)
    gate = threading.Event()
    proxy.fault = lambda r: Wait(gate) if r.number < 3 else None
    assert net(s3, proxy.endpoint, stall_ms=300).do("stream", bucket=bucket, key="x")["sha256"] == sha256(body)
    gate.set()
    proxy.reset()
    proxy.fault = lambda r: Wait(gate)
    gate.clear()
    kind, message = refusal(net(s3, proxy.endpoint, stall_ms=200, retry_ms=300), "put", bucket=bucket, key="y", text="1")
    assert kind == "retry" and "nothing came or went for 200 ms" in message


def test_a_list_without_an_end(s3, bucket, net, proxy):
    page = b"<ListBucketResult><NextContinuationToken>again</NextContinuationToken></ListBucketResult>"
    proxy.fault = lambda r: Answer(200, page)
    kind, message = refusal(net(s3, proxy.endpoint), "list", bucket=bucket, prefix="")
    assert kind == "fatal" and "has no end" in message
    proxy.fault = lambda r: Answer(200, b"<html><p>a page of a proxy")
    assert refusal(net(s3, proxy.endpoint), "list", bucket=bucket, prefix="")[0] == "retry"


def test_an_object_that_changes_under_a_read(s3, bucket, net, proxy):
    s3.put(bucket, "x", pattern(2 * MIB))

    def change(request):
        if request.number == 1:
            return Cut(after_down=MIB)
        s3.put(bucket, "x", b"y" * 2 * MIB)
        return None

    proxy.fault = change
    kind, message = refusal(net(s3, proxy.endpoint), "stream", bucket=bucket, key="x")
    assert kind == "retry" and "was changed while it was read" in message


def test_a_lost_reply_to_the_last_step_of_an_upload(s3, bucket, net, proxy):
    cuts = [Cut(after_down=0)]
    proxy.fault = lambda r: cuts.pop() if cuts and r.method == "POST" and "uploadId" in r.query else None
    n = net(s3, proxy.endpoint)
    sent = n.do("upload", bucket=bucket, key="x", size=10 * MIB)
    assert sha256(s3.get(bucket, "x")) == sent["sha256"] and not cuts


# --- what is stopped, or left ---


def test_a_failed_upload_leaves_nothing(s3, bucket, net, proxy):
    s3.put(bucket, "x", b"as it was")
    proxy.fault = lambda r: Answer(403, b"<Error><Code>AccessDenied</Code></Error>") if r.query.get("partNumber") == "2" else None
    assert refusal(net(s3, proxy.endpoint), "upload", bucket=bucket, key="x", size=20 * MIB)[0] == "config"
    assert s3.get(bucket, "x") == b"as it was" and s3.uploads(bucket) == []


def test_a_server_that_is_killed_in_an_upload_and_comes_back(tmp_path, net):
    with S3Server(tmp_path / "own") as own, own.proxy() as proxy:
        own.bucket("bucket")

        def crash(request):
            if request.query.get("partNumber") == "3" and not killed.is_set():
                own.kill()
                killed.set()

        killed = threading.Event()
        proxy.fault = crash
        n = net(own, proxy.endpoint)
        n.begin("upload", bucket="bucket", key="x", size=36 * MIB)
        wait_until(killed.is_set, 60, "the third part")
        own.start()
        sent = n.end()
        assert sha256(own.get("bucket", "x")) == sent["sha256"] and own.uploads("bucket") == []


def test_a_server_that_is_killed_in_an_upload_for_good(tmp_path, net):
    with S3Server(tmp_path / "own") as own, own.proxy() as proxy:
        own.bucket("bucket")
        proxy.fault = lambda r: own.kill() if r.query.get("partNumber") == "2" else None
        n = net(own, proxy.endpoint, retry_ms=500)
        kind, message = refusal(n, "upload", bucket="bucket", key="x", size=20 * MIB)
        assert kind == "retry", message
        proxy.fault = lambda r: None
        own.start()
        assert own.keys("bucket") == [] and own.uploads("bucket") == ["x"]
        assert n.do("abort_uploads", bucket="bucket", prefix="")["aborted"] == 1
        assert own.uploads("bucket") == []


def test_a_program_that_dies_in_an_upload(s3, bucket, tmp_path, net):
    dying = Net.on(tmp_path, s3)
    dying.begin("upload", bucket=bucket, key="sub/x y", size=40 * MIB, leave=True, die=True)
    assert dying.wait() == 9
    assert s3.keys(bucket) == [] and s3.uploads(bucket) == ["sub/x y"]
    n = net(s3)
    assert n.do("abort_uploads", bucket=bucket, prefix="other/")["aborted"] == 0
    assert n.do("abort_uploads", bucket=bucket, prefix="sub/")["aborted"] == 1
    assert s3.uploads(bucket) == []


def test_a_stop_ends_at_once_and_takes_parts_back(s3, bucket, net, proxy):
    gate, waiting = threading.Event(), threading.Event()

    def hold(request):
        if request.query.get("partNumber") == "3":
            waiting.set()
            return Wait(gate)
        return None

    proxy.fault = hold
    n = net(s3, proxy.endpoint)
    n.begin("upload", bucket=bucket, key="x", size=30 * MIB)
    wait_until(waiting.is_set, 60, "the third part")
    wait_until(lambda: [r.status for r in proxy.of("PUT")].count(200) == 3, 60, "the other parts")
    n.signal(15)
    with pytest.raises(Refused) as refused:
        n.end()
    assert refused.value.kind == "cancelled" and s3.keys(bucket) == []
    wait_until(lambda: s3.uploads(bucket) == [], 10, "the parts to be gone")
