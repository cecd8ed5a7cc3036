"""Bucket policies that refuse each call in turn: what was refused and to whom is said, nothing is half done, and the next run ends as if nothing had been (issue 6)."""

import os
import time
import uuid
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lib.cli import ductstream, lines
from lib.copies import Copies, delta_write
from lib.ingest import Ingest, rest
from lib.lake import LakeHome
from lib.rest import RestServer
from lib.s3 import missing
from lib.s3_proxy import Answer

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

DENIED = b'<?xml version="1.0"?><Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>'
MINE = "lake.data_modeling_team_123.my_saved_query"


def call_of(request):
    """The S3 call that a request is."""
    query = request.query
    if request.method == "PUT":
        return "UploadPart" if "partNumber" in query else "PutObject"
    if request.method == "POST":
        return "CreateMultipartUpload" if "uploads" in query else "CompleteMultipartUpload" if "uploadId" in query else "DeleteObjects"
    if request.method == "DELETE":
        return "AbortMultipartUpload" if "uploadId" in query else "DeleteObject"
    if request.method == "HEAD":
        return "HeadObject"
    return "GetObject" if request.key else "ListMultipartUploads" if "uploads" in query else "ListBucket"


def refuse(proxy, call, key=""):
    proxy.fault = lambda r: Answer(403, DENIED) if call_of(r) == call and key in r.key else None


def allow(proxy):
    proxy.fault = lambda r: None


def test_copies(s3, bucket, tmp_path):
    """DuckDB says 403 and an address; the message has call and key. The old table stays."""
    source = f"s3://{bucket}/delta"
    delta_write(source, pa.table({"id": range(5)}), storage_options=s3.delta_options())
    copies = Copies(tmp_path, data_path=f"s3://{bucket}/lake/", s3=s3)
    with s3.proxy() as proxy:
        env = {"DUCKLAKE_S3_ENDPOINT": proxy.endpoint}
        copies.table(source, **env)
        texts = [os.urandom(100_000).hex() for _ in range(100)]  # files of several parts
        delta_write(source, pa.table({"id": range(100, 200), "text": texts}), storage_options=s3.delta_options(), schema_mode="overwrite")
        for call, key, said in (
            ("ListBucket", "", f'"{bucket}" refuses ListBucket under "delta/_delta_log/" to access key'),
            ("GetObject", "delta/_delta_log", "refuses GetObject of"),
            ("GetObject", "delta/part", "s3:GetObject is refused to access key"),
            ("CreateMultipartUpload", "lake/", "s3:PutObject is refused to access key"),
            ("UploadPart", "lake/", "s3:PutObject is refused to access key"),
            ("CompleteMultipartUpload", "lake/", "s3:PutObject is refused to access key"),
            ("GetObject", "lake/", "s3:GetObject is refused to access key"),
        ):
            refuse(proxy, call, key)
            done = copies.model(source, **env)
            # A file that cannot be read back is a check that failed.
            assert done["code"] == (3 if (call, key) == ("GetObject", "lake/") else 2) and said in done["error"], (call, key, done)
            assert s3.secret_key not in str(done)
        allow(proxy)
        assert copies.rows(f"SELECT id FROM {MINE} ORDER BY id") == [(n,) for n in range(5)]
        assert copies.table(source, **env)["mode"] == "full"
    assert copies.rows(f"SELECT id FROM {MINE} ORDER BY id") == [(n,) for n in range(100, 200)]


@pytest.fixture
def ingest(s3, bucket, tmp_path):
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", f"s3://{bucket}/lake", s3=s3)
    yield Ingest(home, tmp_path)
    home.close()


def test_ingestion(ingest, s3, bucket, tmp_path):
    """Rows of an API, written and merged; files that are read."""
    items = [{"id": i, "v": 0} for i in range(100)]
    with RestServer(lambda request: (200, {}, items)) as server, s3.proxy() as proxy:
        env = {"DUCKLAKE_S3_ENDPOINT": proxy.endpoint}
        path = ingest.file(rest(server.url, "write: merge\nmerge_key: [id]\ninline_rows: 0\n"))
        refuse(proxy, "PutObject")
        assert "refuses PutObject of" in ingest.fails(path, code=2, **env)
        allow(proxy)
        ingest.run(path, **env)
        items[:] = [{"id": i, "v": 1} for i in range(50, 150)]
        refuse(proxy, "GetObject")
        assert "s3:GetObject is refused to access key" in ingest.fails(path, code=2, **env)
        assert ingest.rows("SELECT count(*), sum(v) FROM raw.t") == [(100, 0)]
        allow(proxy)
        ingest.run(path, **env)
        assert ingest.rows("SELECT count(*), sum(v) FROM raw.t") == [(150, 100)]
        pq.write_table(pa.table({"id": range(7)}), tmp_path / "x.parquet")
        s3.put(bucket, "in/x.parquet", (tmp_path / "x.parquet").read_bytes())
        refuse(proxy, "ListBucket")
        said = ingest.fails(f"s3://{bucket}/in/*.parquet", "--into", "raw.files", code=2, **env)
        assert "s3:ListBucket is refused to access key" in said
        refuse(proxy, "GetObject", "in/")
        said = ingest.fails(f"s3://{bucket}/in/*.parquet", "--into", "raw.files", code=2, **env)
        assert "s3:GetObject is refused to access key" in said and s3.secret_key not in said
        allow(proxy)
        ingest.run(f"s3://{bucket}/in/*.parquet", "--into", "raw.files", **env)
    assert ingest.rows("SELECT count(*) FROM raw.files") == [(7,)]


def test_orphans(ingest, s3, bucket):
    """What may not be asked or removed is named, the rest is removed; the next call removes it too."""
    with RestServer(lambda request: (200, {}, [{"id": 1}])) as server:
        ingest.run(ingest.file(rest(server.url, "inline_rows: 0\n")))

    def leave():
        for _ in range(2):
            s3.put(bucket, f"lake/raw/t/ducklake-{uuid.uuid4()}.parquet", b"x")
        s3.client().create_multipart_upload(Bucket=bucket, Key=f"lake/raw/t/ducklake-{uuid.uuid4()}.parquet")
        for path in (Path(s3.folder) / "data" / bucket).rglob("*"):
            os.utime(path, (time.time() - 86400,) * 2)

    with s3.proxy() as proxy:
        env = {**ingest.env, "DUCKLAKE_S3_ENDPOINT": proxy.endpoint}

        def orphans():
            code, out, err = ductstream("lake", "orphans", "--catalog", ingest.home.catalog, "--delete", "--json", env=env)
            return code, (lines(out) or [{}])[-1].get("removed"), out + err

        for call, code, removed, said in (
            ("ListBucket", 2, None, "refuses ListBucket under"),
            ("ListMultipartUploads", 0, 2, "refuses ListBucketMultipartUploads under"),
            ("AbortMultipartUpload", 2, 2, "refuses AbortMultipartUpload of"),
            ("HeadObject", 2, 1, "refuses HeadObject of"),
            ("DeleteObjects", 0, 3, ""),  # then one by one
        ):
            leave()
            refuse(proxy, call)
            got = orphans()
            assert got[:2] == (code, removed) and said in got[2], (call, got)
            allow(proxy)
            assert orphans()[:2] == (0, 3 - (removed or 0)), call
    assert len(s3.keys(bucket, "lake/")) == 1 and s3.uploads(bucket) == []
