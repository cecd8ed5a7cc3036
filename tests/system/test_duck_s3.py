"""DuckDB's own statements on S3 with our keys, which nobody sees (issue 6, points 1 and 2)."""

import time

import deltalake
import pyarrow
import pytest

from lib.aws import Issuer, Role, Sts, TemporaryKeys
from lib.net import Net, Refused
from lib.s3 import missing

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))
ARN = "arn:aws:iam::123456789012:role/lake"


@pytest.fixture
def net(tmp_path):
    made = []

    def make(s3, **more):
        made.append(Net.on(tmp_path, s3, **more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_statements_reach_the_bucket(s3, bucket, net):
    n = net(s3)
    copy = f"COPY (SELECT 'v' || i AS v FROM range(1000) t(i)) TO 's3://{bucket}/a b/x.parquet'"
    assert n.do("duck", before=copy, sql=f"SELECT max(v) FROM 's3://{bucket}/a b/x.parquet'")["value"] == "v999"
    deltalake.write_deltalake(f"s3://{bucket}/delta", pyarrow.table({"v": ["one", "two"]}), storage_options=s3.delta_options())
    assert n.do("duck", extension="delta", sql=f"SELECT max(v) FROM delta_scan('s3://{bucket}/delta')")["value"] == "two"


def test_a_scope_is_all_that_is_allowed(s3, bucket, net):
    s3.put(bucket, "in/x.csv", b"v\nfine\n")
    s3.put(bucket, "out/x.csv", b"v\nfine\n")
    n = net(s3)
    assert n.do("duck", scope=f"s3://{bucket}/in", sql=f"SELECT v FROM 's3://{bucket}/in/x.csv'")["value"] == "fine"
    with pytest.raises(Refused):
        n.do("duck", scope=f"s3://{bucket}/in", sql=f"SELECT v FROM 's3://{bucket}/out/x.csv'")


def test_keys_are_shown_nowhere(s3, bucket, net):
    n = net(s3)
    shown = n.do("duck", scope=f"s3://{bucket}", sql="SELECT string_agg(s::VARCHAR, '') FROM duckdb_secrets() s")["value"]
    assert s3.secret_key not in shown and "secret=redacted" in shown and 's3 of "tests"' in shown
    wrong = net(s3, secret_key="wr0ng ' secret")
    with pytest.raises(Refused) as refused:
        wrong.do("duck", sql=f"SELECT v FROM 's3://{bucket}/in/x.csv'")
    assert "wr0ng" not in str(refused.value)


def test_a_role_s_keys_with_their_end(s3, bucket, net):
    issuer = Issuer()
    with Sts({ARN: Role(external_id="x")}, {"BASEKEY": "s"}, issuer) as sts, TemporaryKeys(s3, issuer) as front:
        n = net(
            s3, endpoint=front.endpoint, env={"AWS_ENDPOINT_URL_STS": sts.endpoint}, access_key="BASEKEY", secret_key="s", role_arn=ARN,
            external_id="x",
        )  # fmt: skip
        copy = f"COPY (SELECT 'a' AS v) TO 's3://{bucket}/x.parquet'"
        answer = n.do("duck", before=copy, sql=f"SELECT v FROM 's3://{bucket}/x.parquet'")
        assert answer["value"] == "a" and 3000 < answer["expires_us"] / 1e6 - time.time() <= 3600
        assert {found.role for found in front.seen} == {ARN}


def test_no_keys_no_session(s3, net, tmp_path):
    n = net(s3, access_key=None, secret_key=None, env={"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"})
    with pytest.raises(Refused, match="no keys") as refused:
        n.do("duck")
    assert refused.value.kind == "config"
