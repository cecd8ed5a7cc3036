"""The S3 server of the tests, its counting proxy, and the official clients on both (issue 6, point 1)."""

import threading

import pytest
from botocore.exceptions import ClientError

from lib.lake import LakeHome, OfficialLake
from lib.s3 import S3Server, missing
from lib.s3_proxy import Answer, Cut, Wait

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def client_of(s3, proxy):
    return s3.client(endpoint=proxy.endpoint)


def test_proxy_counts_requests_and_bytes(s3, bucket):
    body = b"x" * 300_000
    with s3.proxy() as proxy:
        c = client_of(s3, proxy)
        c.put_object(Bucket=bucket, Key="a/odd name+%é", Body=body)
        assert c.get_object(Bucket=bucket, Key="a/odd name+%é", Range="bytes=10-19")["Body"].read() == body[:10]
        assert [(r.method, r.bucket, r.key, r.status) for r in proxy.requests] == [
            ("PUT", bucket, "a/odd name+%é", 200),
            ("GET", bucket, "a/odd name+%é", 206),
        ]
        assert proxy.bytes_down == 10 and 300_000 <= proxy.bytes_up < 301_000
        assert proxy.count("GET") == 1 and proxy.count(key="odd") == 2 and proxy.count(query="uploads") == 0


def test_proxy_breaks_what_it_is_told(s3, bucket):
    go_on = threading.Event()
    with s3.proxy() as proxy:
        c = client_of(s3, proxy)
        proxy.fault = lambda r: Answer(503) if r.method == "PUT" else None
        with pytest.raises(ClientError, match="503"):
            c.put_object(Bucket=bucket, Key="x", Body=b"1")
        proxy.fault = lambda r: Cut(after_up=5)
        with pytest.raises(Exception, match="(?i)closed|reset|broken"):
            c.put_object(Bucket=bucket, Key="x", Body=b"1" * 1000)
        proxy.fault = lambda r: Wait(go_on)
        threading.Timer(0.1, go_on.set).start()
        c.put_object(Bucket=bucket, Key="y", Body=b"1")
        s3.put(bucket, "z", b"z" * 1000)
        proxy.fault = lambda r: Cut(after_down=300)
        with pytest.raises(Exception, match="(?i)closed|reset|broken|incomplete|read"):
            c.get_object(Bucket=bucket, Key="z")["Body"].read()
    assert s3.keys(bucket) == ["y", "z"]


def test_policies_bind_a_user(s3, bucket):
    name = "reader" + bucket[-8:]
    s3.user(name, "readersecret")
    c = s3.client(name, "readersecret")
    with pytest.raises(ClientError, match="AccessDenied"):
        c.list_objects_v2(Bucket=bucket)
    s3.allow(bucket, name, ["s3:ListBucket", "s3:GetObject"])
    s3.put(bucket, "x", b"1")
    assert c.list_objects_v2(Bucket=bucket)["KeyCount"] == 1
    with pytest.raises(ClientError, match="AccessDenied"):
        c.put_object(Bucket=bucket, Key="x", Body=b"2")


def test_a_killed_server_comes_back_with_what_it_had(tmp_path):
    with S3Server(tmp_path) as own:
        own.bucket("bucket")
        own.put("bucket", "x", b"1")
        own.kill()
        own.start()
        assert own.get("bucket", "x") == b"1" and own.keys("bucket") == ["x"] and own.uploads("bucket") == []


def test_official_lake_and_delta_on_it(s3, bucket, tmp_path):
    import deltalake
    import pyarrow

    deltalake.write_deltalake(f"s3://{bucket}/delta", pyarrow.table({"a": [1, 2, 3]}), storage_options=s3.delta_options())
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", f"s3://{bucket}/lake/", s3=s3)
    with OfficialLake(home.catalog, home.data_path, s3=s3, extensions=["delta"]) as lake:
        lake.sql("CALL lake.set_option('data_inlining_row_limit', 0)")
        lake.sql(f"CREATE TABLE t AS SELECT * FROM delta_scan('s3://{bucket}/delta')")
        assert lake.count("t") == 3
    assert [key for key in s3.keys(bucket, "lake/") if key.endswith(".parquet")]
    assert home.open().rows("t") == [(1,), (2,), (3,)]
    home.close()
