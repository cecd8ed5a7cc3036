"""S3 servers, and what stands between them and us, that lie: nothing is lost, doubled or believed, and no message carries their bytes or our secrets (issue 6, point 1)."""

import time

import pytest
from lib.aws import Issuer, Role, Sts, TemporaryKeys
from lib.net import Net, Refused, sha256
from lib.raw_server import Server, ok, status
from lib.s3 import missing
from lib.s3_proxy import Answer

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

MIB = 1 << 20
ARN = "arn:aws:iam::123456789012:role/lake"
HTML = b"<html><body>Welcome to the hotel's network</body></html>"


@pytest.fixture
def net(tmp_path):
    made = []

    def make(endpoint, env=None, **options):
        options = {"access_key": "KNOWNKEY", "secret_key": "planted secret", "retry_ms": 600, **options}
        made.append(Net(tmp_path, env, endpoint=endpoint, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


@pytest.fixture
def through(s3, proxy, net):
    """By way of the proxy, with the right keys."""
    return net(proxy.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, session_token="")


def refusal(net, op, **fields):
    with pytest.raises(Refused) as refused:
        net.do(op, bucket=fields.pop("bucket", "bucket"), **fields)
    said = str(refused.value)
    assert "planted" not in said and "t0ken" not in said and "odd=characters" not in said
    assert not [c for c in said if ord(c) < 32 or ord(c) == 127], said
    return refused.value.kind, said


# --- the last step of an upload


def last_step(answer, before=None):
    """A fault: the request that completes an upload is answered so, once."""
    left = [answer]

    def fault(request):
        if request.method != "POST" or "uploadId" not in request.query or not left:
            return None
        if before:
            before(request)
        return left.pop()

    return fault


ERROR = b'<?xml version="1.0"?>\n  <Error><Code>%s</Code><Message>try later</Message></Error>'


@pytest.mark.parametrize("body", [HTML, b"", b" \n \n ", ERROR % b"InternalError", ERROR % b"SlowDown"])
def test_an_upload_that_is_said_to_be_done(body, s3, bucket, proxy, through):
    """200 with something else than a result: the object is there as a whole, or it is an error and as it was."""
    s3.put(bucket, "x", b"as it was")
    proxy.fault = last_step(Answer(200, body))
    if body.startswith(b"<?xml"):
        sent = through.do("upload", bucket=bucket, key="x", size=10 * MIB)
        assert sha256(s3.get(bucket, "x")) == sent["sha256"]
    else:
        kind, said = refusal(through, "upload", bucket=bucket, key="x", size=10 * MIB)
        assert kind == "retry" and "the answer is no CompleteMultipartUploadResult" in said and "hotel" not in said
        assert s3.get(bucket, "x") == b"as it was"
    assert s3.uploads(bucket) == []


@pytest.mark.parametrize("body", [HTML, b""])
def test_an_upload_that_is_done_and_not_said_so(body, s3, bucket, proxy, through):
    """The server completes it, its answer is lost on the way: the object is asked."""
    client = s3.client()

    def complete(request):
        parts = client.list_parts(Bucket=bucket, Key="x", UploadId=request.query["uploadId"])["Parts"]
        told = [{"PartNumber": p["PartNumber"], "ETag": p["ETag"]} for p in parts]
        client.complete_multipart_upload(Bucket=bucket, Key="x", UploadId=request.query["uploadId"], MultipartUpload={"Parts": told})

    proxy.fault = last_step(Answer(200, body), complete)
    sent = through.do("upload", bucket=bucket, key="x", size=10 * MIB)
    assert sha256(s3.get(bucket, "x")) == sent["sha256"] and s3.uploads(bucket) == []


def test_an_upload_that_is_refused_late(s3, bucket, proxy, through):
    s3.put(bucket, "x", b"as it was")
    proxy.fault = last_step(Answer(200, ERROR % b"AccessDenied"))
    kind, said = refusal(through, "upload", bucket=bucket, key="x", size=10 * MIB)
    assert kind == "config" and "refuses PutObject" in said
    assert s3.get(bucket, "x") == b"as it was" and s3.uploads(bucket) == []


def test_keys_that_end_in_the_middle_of_an_upload(s3, bucket, net):
    """Parts before and after are of one object."""
    issuer = Issuer()
    with Sts({ARN: Role()}, {"BASEKEY": "s"}, issuer) as sts, TemporaryKeys(s3, issuer) as front:

        def expire(request):
            if request.query.get("partNumber") == "6":
                issuer.issued["ASIATEMP0001"].expires = 0

        front.fault = expire
        n = net(front.endpoint, {"AWS_ENDPOINT_URL_STS": sts.endpoint}, access_key="BASEKEY", secret_key="s", role_arn=ARN, retry_ms=9000)
        sent = n.do("upload", bucket=bucket, key="x", size=65 * MIB)
        assert sha256(s3.get(bucket, "x")) == sent["sha256"] and len(issuer.issued) == 2


# --- answers that are none


@pytest.mark.parametrize(
    "op, fields",
    [("put", {"text": "1"}), ("copy", {"size": 5, "to_bucket": "bucket", "to_key": "y"}), ("list", {"prefix": ""}), ("delete_all", {"keys": ["a"]}),
     ("abort_uploads", {"prefix": ""})],
)  # fmt: skip
def test_a_page_of_somebody_between(op, fields, net):
    """200 and HTML, as hotels and proxies answer: no success, and no empty list."""
    with Server(ok(HTML.decode())) as server:
        kind, said = refusal(net(server.url), op, key="x", **fields)
    assert kind == "retry" and "hotel" not in said


LISTED = "<ListBucketResult><IsTruncated>%s</IsTruncated>%s<Contents><Key>%s</Key><Size>1</Size></Contents></ListBucketResult>"


def test_lists_that_are_cut_off(net):
    """Never taken for all there is."""
    for text, kind, part in (
        (LISTED % ("true", "", "a"), "fatal", "is cut off, and names no next page"),
        (LISTED % ("true", "<NextMarker>a</NextMarker>", "a"), "fatal", "is cut off, and names no next page"),
        (LISTED % ("true", "<NextContinuationToken>t</NextContinuationToken>", "a"), "fatal", "names itself as the next"),
        ((LISTED % ("false", "", "a"))[:-30], "retry", "ends too early"),
        (LISTED % ("false", "<EncodingType>url</EncodingType>", "a%00b"), "data", "byte 0"),
        ("", "retry", "another document"),
    ):
        with Server(ok(text)) as server:
            assert (refusal(net(server.url), "list")[0], part in refusal(net(server.url), "list")[1]) == (kind, True), text
    with Server(ok(LISTED % ("false", "<NextContinuationToken>old</NextContinuationToken>", "a"))) as server:
        assert net(server.url).do("list", bucket="bucket")["objects"] == [["a", 1, False]]
        assert len(server.heads) == 1


def test_uploads_whose_list_names_itself(net):
    text = "<ListMultipartUploadsResult><IsTruncated>true</IsTruncated><NextKeyMarker>k</NextKeyMarker></ListMultipartUploadsResult>"
    with Server(ok(text)) as server:
        kind, said = refusal(net(server.url), "abort_uploads", prefix="")
    assert kind == "fatal" and "names itself as the next" in said


def test_other_ranges_than_were_asked_for(net):
    def ranged(value, text="0123456789"):
        return ok(text, f"Content-Range: {value}", 'ETag: "e"').replace(b"200 OK", b"206 Partial Content")

    for value in ("bytes 0-9/100", "bytes 11-20/100", "lines 10-19/100", "bytes -10/100"):
        with Server(ranged(value)) as server:
            kind, said = refusal(net(server.url), "stream", key="x", **{"from": 10, "len": 10})
        assert kind == "fatal" and "another range" in said, value
    with Server(ranged("bytes 10-19/100")) as server:
        assert net(server.url).do("stream", bucket="bucket", key="x", **{"from": 10, "len": 10})["bytes"] == 10
    with Server(ranged("bytes 10-30/100", "0123456789" * 2)) as server:
        kind, said = refusal(net(server.url), "stream", key="x", **{"from": 10, "len": 10})
        assert kind == "fatal" and "more than was asked for" in said
    for value in ("bytes 0-9/100", "bytes 90-98/99", "bytes 90-99/*", "bytes 80-99/100", "10"):
        with Server(ranged(value)) as server:
            kind, said = refusal(net(server.url), "tail", key="x", len=10)
        assert kind == "fatal" and "does not heed the header Range" in said, value
    with Server(ranged("bytes 90-99/100")) as server:
        found = net(server.url).do("tail", bucket="bucket", key="x", len=10)
        assert (found["text"], found["size"]) == ("0123456789", 100)


def test_bodies_without_an_end(net):
    """The end of a connection is no end of a body: it may have broken."""
    bare = b'HTTP/1.1 200 OK\r\nETag: "e"\r\nConnection: close\r\n\r\nhalf of it'
    for op in ("get", "stream"):
        with Server(bare) as server:
            kind, said = refusal(net(server.url), op, key="x")
        assert kind == "retry" and "does not say how long" in said
    for broken in (
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 100\r\n\r\nhalf of it',
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\na\r\nhalf of it\r\n',
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhalf of it\r\n0\r\n\r\n',
        b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: -5\r\n\r\nhalf of it',
    ):
        with Server(broken) as server:
            assert refusal(net(server.url), "get", key="x")[0] == "retry", broken
    with Server(b"220 this is another protocol\r\n\r\n") as server:
        assert refusal(net(server.url), "get", key="x")[0] == "config"


def test_interim_answers_and_chunks_are_fine(net):
    text = b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nETag: "no"\r\n\r\n'
    text += b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nfine\r\n0\r\n\r\n'
    with Server(text) as server:
        assert net(server.url).do("get", bucket="bucket", key="x")["text"] == "fine"


def test_a_server_that_drips(net):
    """What is asked while others wait for a lock ends soon, however long bytes keep coming."""

    def drip(sock):
        sock.sendall(b"HTTP/1.1 200 OK\r\n")
        while not server.ended.wait(0.2):
            sock.sendall(b"X-More: to come\r\n")

    with Server(drip) as server:
        begin = time.monotonic()
        kind, said = refusal(net(server.url, retry_ms=30000), "modified", key="x", other="y")
        assert kind == "retry" and 2 < time.monotonic() - begin < 15, said


# --- what is sent where, and said


def test_keys_are_sent_to_nobody_else(net):
    """A redirect is not followed, not even to where it says that the bucket is."""
    with Server(ok("fine", 'ETag: "e"')) as other:
        for code, more in ((301, ""), (302, ""), (307, "<Error><Code>TemporaryRedirect</Code></Error>"), (308, "")):
            with Server(status(code, f"Location: {other.url}/bucket/x", text=more)) as server:
                kind, said = refusal(net(server.url), "put", key="x", text="1")
                assert kind == "config", said
        assert other.heads == []


def test_what_a_server_says_is_no_line_of_ours(net):
    """No control characters of theirs in a message, however long it is; none of ours that they send back."""
    evil = "line\n2026-01-01 INFO all is well \x1b[31mred&#27;[0m&#10;tab\t" + "x" * 5000
    for code in ("AccessDenied", "Strange&#10;Code&#27;[2J", "InvalidAccessKeyId"):
        with Server(status(403, text=f"<Error><Code>{code}</Code><Message>{evil}</Message></Error>")) as server:
            _, said = refusal(net(server.url), "put", key="x", text="1")
            assert len(said) < 600
    with Server(status(301, "x-amz-bucket-region: eu\x1b[31m-west-1", text="")) as server:
        assert "is in region eu [31m-west-1, not in" in refusal(net(server.url), "put", key="x", text="1")[1]
    issuer_says = status(403, text=f"<ErrorResponse><Error><Code>AccessDenied</Code><Message>{evil}</Message></Error></ErrorResponse>")
    with Server(issuer_says) as sts:
        n = net("http://127.0.0.1:1", {"AWS_ENDPOINT_URL_STS": sts.url}, role_arn=ARN)
        assert "AccessDenied: line 2026-01-01" in refusal(n, "put", key="x", text="1")[1]


@pytest.mark.parametrize("field, value", [("secret_key", "planted\n"), ("session_token", "t0ken\r\nX-Evil: 1"), ("access_key", "KEY\n"), ("access_key", "K Y")])
def test_keys_with_a_line_break(field, value, net):
    """As files and editors leave one: said, and not sent."""
    with Server(ok("fine", 'ETag: "e"')) as server:
        kind, said = refusal(net(server.url, **{field: value}), "put", key="x", text="1")
        assert kind == "config" and f"the {field.replace('_', ' ')} has a line break" in said and server.heads == []


def test_a_bucket_of_many_odd_keys(s3, bucket, net, proxy):
    """More than a page, names that XML and URLs do not like; all are listed, looked at and deleted."""
    keys = sorted([f"many/{i:04d} ä&<+%20'\"/é" for i in range(1100)])
    for key in keys:
        (s3.folder / "data" / bucket / key).parent.mkdir(parents=True, exist_ok=True)
        (s3.folder / "data" / bucket / key).write_bytes(b"1")
    n = net(proxy.endpoint, access_key=s3.access_key, secret_key=s3.secret_key, retry_ms=9000)
    assert sorted(o[0] for o in n.do("list", bucket=bucket, prefix="many/")["objects"]) == keys
    now = time.time() * 1e6
    seen = n.do("modified", bucket=bucket, key=keys[0], other="many/none")
    assert abs(seen["modified_us"][0] - now) < 600e6 and seen["modified_us"][1] == 0 and abs(seen["clock_us"] - now) < 600e6
    n.do("delete_all", bucket=bucket, keys=keys)
    assert s3.keys(bucket) == [] and proxy.count("POST") == 2
