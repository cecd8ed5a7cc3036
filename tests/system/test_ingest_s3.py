"""Ingestion with the lake, or the files, in S3 (issue 6, points 1 and 4)."""

import pytest
from lib.ingest import EXAMPLE, Ingest, day, rest
from lib.lake import LakeHome
from lib.rest import RestServer, nightscout
from lib.s3 import missing
from lib.s3_proxy import Answer, Cut

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

IN_FILES = EXAMPLE.read_text() + "inline_rows: 0\n"


@pytest.fixture(params=["sqlite", "postgres"])
def ingest(request, s3, bucket, tmp_path):
    """A lake whose data are in the bucket, on either catalog."""
    catalog = f"sqlite:{tmp_path}/lake.sqlite"
    if request.param == "postgres":
        catalog = f"postgres:{request.getfixturevalue('database').dsn}"
    home = LakeHome(catalog, f"s3://{bucket}/lake", s3=s3)
    (tmp_path / "tmp").mkdir()
    made = Ingest(home, tmp_path)
    made.env["TMPDIR"] = str(tmp_path / "tmp")
    yield made
    home.close()


@pytest.fixture
def ingest_sqlite(s3, bucket, tmp_path):
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", f"s3://{bucket}/lake", s3=s3)
    yield Ingest(home, tmp_path)
    home.close()


def left(ingest):
    """What is in TMPDIR."""
    return [path for path in (ingest.folder / "tmp").iterdir()]


def pairs(entries):
    return sorted((e["_id"], e["sgv"]) for e in entries)


def all_pairs(ingest):
    return ingest.rows("SELECT _id, sgv FROM raw.entries ORDER BY _id")


def data_keys(s3, bucket):
    return [key for key in s3.keys(bucket, "lake/raw/entries/")]


def test_partitions_in_a_bucket(ingest, s3, bucket):
    """Files go to the bucket, a merge finds old rows there, marks and ends them; nothing stays in TMPDIR (issue 6, points 1 and 4)."""
    entries = day("2024-10-15", 3000) + day("2024-10-16", 500, first=5000)
    path = ingest.file(IN_FILES)
    with RestServer(nightscout(entries)) as server:
        results = ingest.run(path, "--from", "2024-10-15", "--to", "2024-10-16", NIGHTSCOUT_URL=server.url)
        assert [(r["rows"], r["files"]) for r in results] == [(3000, 1), (500, 1)]
        assert len(data_keys(s3, bucket)) == 2
        del entries[100:200]
        entries[0]["sgv"] = 399
        (result,) = ingest.run(path, "--partition", "2024-10-15", NIGHTSCOUT_URL=server.url)
        assert (result["rows"], result["replaced"]) == (2900, 3000)
        assert all_pairs(ingest) == pairs(entries)
        # One that moves to the other day is deleted in that day's file.
        entries[0] = dict(entries[0], date=entries[-1]["date"], dateString=entries[-1]["dateString"])
        (result,) = ingest.run(path, "--partition", "2024-10-16", NIGHTSCOUT_URL=server.url)
        assert (result["rows"], result["replaced"]) == (501, 501)
        (result,) = ingest.run(path, "--partition", "2024-10-15", NIGHTSCOUT_URL=server.url)
        assert (result["rows"], result["replaced"]) == (2899, 2899)
    assert all_pairs(ingest) == pairs(entries)
    assert left(ingest) == []


@pytest.mark.parametrize("place", ["file-written", "file-sent", "ingest-planned", "commit-begin", "commit-done"])
def test_killed(ingest, s3, bucket, place):
    """Killed at any moment a partition is old or new; what was sent stays as an orphan and harms nobody (issue 6, point 4)."""
    entries = day("2024-10-15", 40)
    path = ingest.file(IN_FILES)
    with RestServer(nightscout(entries)) as server:
        ingest.run(path, "--partition", "2024-10-15", NIGHTSCOUT_URL=server.url)
        old, known = pairs(entries), set(data_keys(s3, bucket))
        for e in entries:
            e["sgv"] += 1
        point = {"DUCT_KILL_POINT": f"{place}:1"}
        ingest.fails(path, "--partition", "2024-10-15", code=4, NIGHTSCOUT_URL=server.url, **point)
        assert all_pairs(ingest) == (pairs(entries) if place == "commit-done" else old)
        more = set(data_keys(s3, bucket)) - known
        assert len(more) == (0 if place == "file-written" else 1)
        ingest.run(path, "--partition", "2024-10-15", NIGHTSCOUT_URL=server.url)
    assert all_pairs(ingest) == pairs(entries)
    assert left(ingest) == []  # the killed run's, too


def test_uploads_that_break_are_sent_again(ingest_sqlite, s3):
    """A connection that is cut and a server that is busy: the file comes, once (issue 6, point 1)."""
    entries = day("2024-10-15", 3000)
    faults = [Cut(after_up=1000), Answer(503, b"<Error><Code>SlowDown</Code></Error>")]
    with RestServer(nightscout(entries)) as server, s3.proxy() as proxy:
        proxy.fault = lambda r: faults.pop() if r.method == "PUT" and faults else None
        env = {"NIGHTSCOUT_URL": server.url, "DUCKLAKE_S3_ENDPOINT": proxy.endpoint}
        (result,) = ingest_sqlite.run(ingest_sqlite.file(IN_FILES), "--partition", "2024-10-15", **env)
        assert (result["rows"], faults) == (3000, [])
    assert all_pairs(ingest_sqlite) == pairs(entries)


def test_what_the_store_refuses(ingest_sqlite, s3, bucket, tmp_path):
    """A missing bucket, wrong keys, a missing right: which call, whose key, what to do; no secret; no row (issue 6, bad input)."""
    path = ingest_sqlite.file(IN_FILES)
    with RestServer(nightscout(day("2024-10-15"))) as server, s3.proxy() as proxy:
        env = {"NIGHTSCOUT_URL": server.url}
        other = {"DUCKLAKE_CATALOG": f"sqlite:{tmp_path}/other.sqlite", "DUCKLAKE_DATA_PATH": f"s3://{bucket}-none/lake"}
        said = ingest_sqlite.fails(path, "--partition", "2024-10-15", code=2, **env, **other)
        assert f'bucket "{bucket}-none" does not exist' in said
        said = ingest_sqlite.fails(path, "--partition", "2024-10-15", code=2, **env, DUCKLAKE_S3_SECRET_KEY="planted secret")
        assert "planted secret" not in said and "raw/entries" in said
        proxy.fault = lambda r: Answer(403, b"<Error><Code>AccessDenied</Code></Error>") if r.method == "PUT" else None
        said = ingest_sqlite.fails(path, "--partition", "2024-10-15", code=2, **env, DUCKLAKE_S3_ENDPOINT=proxy.endpoint)
        assert "refuses PutObject" in said and s3.secret_key not in said
        proxy.fault = lambda r: None
        ingest_sqlite.run(path, "--partition", "2024-10-15", **env)
        proxy.fault = lambda r: Answer(403, b"<Error><Code>AccessDenied</Code></Error>") if r.method != "PUT" else None
        said = ingest_sqlite.fails(path, "--partition", "2024-10-15", code=2, **env, DUCKLAKE_S3_ENDPOINT=proxy.endpoint)
        assert "403" in said and s3.secret_key not in said
    assert len(all_pairs(ingest_sqlite)) == 100


def test_a_merge_reads_what_may_have_its_keys(ingest_sqlite, s3, bucket):
    """Of 12 days in as many files a merge reads the one that has them, counted at the S3 server (docs/plan.md)."""
    dates = [f"2024-10-{n:02d}" for n in range(1, 13)]
    entries = [e for i, date in enumerate(dates) for e in day(date, 200, first=i * 1000)]
    path = ingest_sqlite.file(IN_FILES)
    with RestServer(nightscout(entries)) as server, s3.proxy() as proxy:
        env = {"NIGHTSCOUT_URL": server.url, "DUCKLAKE_S3_ENDPOINT": proxy.endpoint}
        results = ingest_sqlite.run(path, "--from", dates[0], "--to", dates[-1], **env)
        assert [r["files_scanned"] for r in results] == [0] * 12
        assert [r["files_skipped"] for r in results] == list(range(12))
        assert proxy.count("GET") == 0
        before = set(data_keys(s3, bucket))
        (result,) = ingest_sqlite.run(path, "--partition", dates[5], **env)
        assert (result["files_scanned"], result["files_skipped"], result["replaced"]) == (1, 11, 200)
        assert {r.key for r in proxy.requests if r.method in ("GET", "HEAD")} < before
        assert len({r.key for r in proxy.requests if r.method in ("GET", "HEAD")}) == 1
    assert all_pairs(ingest_sqlite) == pairs(entries)


def test_child_tables_and_append(ingest, s3, bucket):
    """Child tables have files of their own; rows that are few stay in the catalog (issue 6, point 4)."""
    items = [{"id": i, "lines": [{"sku": f"s{i}"}]} for i in range(20)]
    with RestServer(lambda request: (200, {}, items)) as server:
        more = "nested: tables\nwrite: merge\nmerge_key: [id]\n"
        path = ingest.file(rest(server.url, more + "inline_rows: 0\n", "raw.orders"))
        ingest.run(path)
        items[3]["lines"] = [{"sku": "x"}, {"sku": "y"}]
        ingest.run(path)
        kept = ingest.file(rest(server.url, more, "raw.kept"), "kept.yaml")
        ingest.run(kept)
    assert ingest.rows("SELECT sku FROM raw.orders__lines WHERE _parent_id = 3 ORDER BY ALL") == [("x",), ("y",)]
    assert ingest.rows("SELECT count(*), count(DISTINCT _parent_id) FROM raw.orders__lines") == [(21, 20)]
    assert ingest.rows("SELECT count(*) FROM raw.kept") == [(20,)]
    assert s3.keys(bucket, "lake/raw/orders__lines/") and not s3.keys(bucket, "lake/raw/kept/")
