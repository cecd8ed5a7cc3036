"""Copies with the Delta tables and the lake in S3, counted at the server (issue 6, point 2)."""

import time

import pyarrow as pa
import pytest
from lib.aws import Container, Issuer, TemporaryKeys
from lib.cli import ductstream
from lib.copies import Copies, delta_write
from lib.pause import Pause
from lib.s3 import missing
from lib.s3_proxy import Answer
from lib.wait import wait_until

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

MINE = "lake.data_modeling_team_123.my_saved_query"


@pytest.fixture
def source(s3, bucket):
    return f"s3://{bucket}/delta/my table"


def write(s3, uri, table, mode="overwrite", **more):
    delta_write(uri, table, mode, storage_options=s3.delta_options(), **more)


def numbers(start, n):
    return pa.table({"id": range(start, start + n), "text": [f"row {i * 7919 % 1000003}" for i in range(start, start + n)]})


@pytest.mark.parametrize("rows", [1_000_000, pytest.param(10_000_000, marks=pytest.mark.long)])
def test_one_percent_more_moves_two_percent(s3, bucket, source, tmp_path, rows):
    """An append of 1 % moves at most 2 % of the bytes, both ways."""
    copies = Copies(tmp_path, data_path=f"s3://{bucket}/lake/", s3=s3)
    for at in range(0, rows, 1_000_000):
        write(s3, source, numbers(at, 1_000_000), "append", target_file_size=4 << 20)
    with s3.proxy() as proxy:
        env = {"DUCKLAKE_S3_ENDPOINT": proxy.endpoint}
        assert copies.table(source, **env)["mode"] == "full"
        whole = proxy.bytes_up + proxy.bytes_down
    write(s3, source, numbers(rows, rows // 100), "append")
    with s3.proxy() as proxy:
        added = copies.table(source, DUCKLAKE_S3_ENDPOINT=proxy.endpoint)
        moved = proxy.bytes_up + proxy.bytes_down
    assert (added["mode"], added["rows"]) == ("append", rows // 100)
    assert moved <= whole * 0.02, (moved, whole)
    assert copies.rows(f"SELECT count(*), count(DISTINCT id), sum(id) FROM {MINE}") == [
        (n := rows + rows // 100, n, n * (n - 1) // 2)
    ]


def test_keys_that_end_during_a_copy(s3, bucket, tmp_path):
    """Between two statements a role's keys end: the next has others, without another attempt."""
    source = f"s3://{bucket}/delta"  # the stand-in does not check signatures of names with blanks
    write(s3, source, numbers(0, 10))
    issuer = Issuer(lifetime_s=8)
    with Container(issuer=issuer) as container, TemporaryKeys(s3, issuer) as front:
        copies = Copies(
            tmp_path, data_path=f"s3://{bucket}/lake/", s3=s3, DUCKLAKE_S3_ENDPOINT=front.endpoint, DUCKLAKE_S3_ACCESS_KEY="", DUCKLAKE_S3_SECRET_KEY="",
            AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{container.endpoint}/creds", DUCTSTREAM_ENV="staging", DUCKLAKE_BUCKET=bucket,
        )  # fmt: skip
        pause = Pause(tmp_path, "copy-written")
        process = copies.start("data-modeling", "--team-id", 123, "--model", f"my_saved_query={source}", **pause.env)
        wait_until(lambda: pause.reached or process.poll() is not None, 60, "the copy to be written")
        assert pause.reached, process.communicate()
        ends = max(keys.expires for keys in issuer.issued.values())
        wait_until(lambda: time.time() > ends, 30, "the keys to end")
        pause.release()
        out, _ = process.communicate(timeout=60)
        assert process.returncode == 0 and "tried again" not in out, out
        assert len(issuer.issued) > 1


def test_a_refused_upload_names_who_and_what(s3, bucket, source, tmp_path):
    copies = Copies(tmp_path, data_path=f"s3://{bucket}/lake/", s3=s3)
    write(s3, source, numbers(0, 10))
    with s3.proxy() as proxy:
        proxy.fault = lambda r: Answer(403, b"<Error><Code>AccessDenied</Code></Error>") if "lake/" in r.key and r.method != "GET" else None
        done = copies.model(source, DUCKLAKE_S3_ENDPOINT=proxy.endpoint)
    assert done["state"] == "failed" and "403" in done["error"]
    assert s3.secret_key not in str(done)
    assert copies.table(source)["mode"] == "full"


def test_wrong_keys_and_missing_buckets(s3, bucket, source, tmp_path):
    copies = Copies(tmp_path, data_path=f"s3://{bucket}/lake/", s3=s3)
    write(s3, source, numbers(0, 10))
    wrong = copies.model(source, DUCKLAKE_S3_SECRET_KEY="planted secret")
    assert wrong["code"] == 2 and "planted secret" not in str(wrong)
    other = f"{bucket}-new"
    lake = {"DUCKLAKE_DATA_PATH": f"s3://{other}/lake/", "DUCKLAKE_CATALOG": f"sqlite:{tmp_path}/other.sqlite"}
    strict = copies.model(source, **lake, DUCTSTREAM_ENV="staging", DUCKLAKE_BUCKET=other)
    assert strict["code"] == 2 and f'"{other}" (DUCKLAKE_BUCKET) does not exist' in strict["error"]
    made = copies.model(source, **lake)
    assert made["state"] == "succeeded" and any("is created" in line for line in made["log"])
    assert s3.keys(other, "lake/data_modeling_team_123/my_saved_query/")


def test_a_table_on_postgres_and_s3(s3, bucket, source, tmp_path, database):
    """The page's variables: a catalog in Postgres, data in the bucket; the password is nowhere."""
    database.sql("CREATE ROLE copier LOGIN SUPERUSER PASSWORD 'planted pass''word'")
    copies = Copies(
        tmp_path, s3=s3, DUCKLAKE_CATALOG="", DUCKLAKE_DATA_PATH="", DUCKLAKE_RDS_HOST=str(database.server.folder), DUCKLAKE_RDS_PORT="5432",
        DUCKLAKE_RDS_DATABASE=database.name, DUCKLAKE_RDS_USERNAME="copier", DUCKLAKE_RDS_PASSWORD="planted pass'word",
        DUCKLAKE_BUCKET=bucket,
    )  # fmt: skip
    copies.catalog = f"postgres:{database.dsn}"
    write(s3, source, numbers(0, 10))
    try:
        assert copies.table(source)["mode"] == "full"
        assert copies.rows(f"SELECT count(*) FROM {MINE}") == [(10,)]
        said = str(copies.model(source, "other"))
        assert "planted" not in said and s3.secret_key not in said
    finally:
        database.sql("DROP OWNED BY copier; DROP ROLE copier")


def test_check_copy_names_what_is_missing(s3, bucket, source, tmp_path):
    """(issue 6, point 2) list, get, put and delete below the prefix are tried, and nothing stays."""
    copies = Copies(tmp_path, data_path=f"s3://{bucket}/lake/", s3=s3)
    code, out, err = ductstream("check", "copy", env=copies.env)
    assert code == 0 and all(f"s3:{what}Object under" in out for what in ("Put", "Get", "Delete")), (out, err)
    assert s3.keys(bucket) == []
    for method, action in (("PUT", "s3:PutObject"), ("DELETE", "s3:DeleteObject")):
        with s3.proxy() as proxy:
            denied = Answer(403, b"<Error><Code>AccessDenied</Code></Error>")
            proxy.fault = lambda r, method=method: denied if r.method == method else None
            code, out, err = ductstream("check", "copy", env={**copies.env, "DUCKLAKE_S3_ENDPOINT": proxy.endpoint})
        assert code == 2 and out.count("is missing under") == 1 and f"{action} is missing under s3://{bucket}/lake/" in out, out
        assert s3.secret_key not in out + err
    missing_one = {**copies.env, "DUCKLAKE_DATA_PATH": f"s3://{bucket}-none/", "DUCTSTREAM_ENV": "staging"}
    code, out, err = ductstream("check", "copy", env=missing_one)
    assert code == 2 and f'bucket "{bucket}-none" does not exist' in out, (out, err)
