"""Where keys come from, roles, and renewal, against stand-ins for STS, an instance and a container that check what they are asked with
(issue 6, point 1)."""

import json
import re

import pytest

from lib.aws import Container, Imds, Issuer, Role, Sts, TemporaryKeys
from lib.net import Net, Refused
from lib.paths import ROOT
from lib.s3 import missing
from lib.s3_proxy import Answer
from lib.wait import wait_until

ARN = "arn:aws:iam::123456789012:role/lake"
NOWHERE = {"AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def net(tmp_path):
    """net(env, **options) -> Net without any keys but those given."""
    made = []

    def make(env=None, endpoint="http://127.0.0.1:1", **options):
        made.append(Net(tmp_path, env={"HOME": str(tmp_path), **NOWHERE, **(env or {})}, endpoint=endpoint, **options))
        return made[-1]

    yield make
    for one in made:
        one.close()


def refusal(net, op="who", **fields):
    with pytest.raises(Refused) as refused:
        net.do(op, **fields)
    return refused.value.kind, str(refused.value)


def files(home, credentials="", config=""):
    (home / ".aws").mkdir()
    (home / ".aws" / "credentials").write_text(credentials)
    (home / ".aws" / "config").write_text(config)


# --- the chain, link by link ---


def test_nothing_anywhere(net):
    kind, message = refusal(net())
    assert kind == "config"
    for link in ("AWS_ACCESS_KEY_ID", "AWS_WEB_IDENTITY_TOKEN_FILE", "shared files", "container", "instance"):
        assert link in message


def test_options_come_before_the_environment(net):
    env = {"AWS_ACCESS_KEY_ID": "ENVIRON", "AWS_SECRET_ACCESS_KEY": "s"}
    assert net(env, access_key="GIVEN", secret_key="s").do("who")["who"] == "access key GIVE..."
    assert net(env).do("who")["who"] == "access key ENVI... of the environment"


def test_half_of_the_environment(net):
    kind, message = refusal(net({"AWS_ACCESS_KEY_ID": "ENVIRON"}))
    assert kind == "config" and message.endswith("environment: AWS_ACCESS_KEY_ID is set without AWS_SECRET_ACCESS_KEY")


def test_web_identity(net, tmp_path):
    (tmp_path / "token").write_text("the.web.token\n")
    env = {"AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"), "AWS_ROLE_SESSION_NAME": "job-7"}
    with Sts({ARN: Role(web_token="the.web.token")}) as sts:
        env["AWS_ENDPOINT_URL_STS"] = sts.endpoint
        kind, message = refusal(net(env))
        assert kind == "config" and "without AWS_ROLE_ARN" in message
        n = net({**env, "AWS_ROLE_ARN": ARN})
        assert n.do("who")["access_key"] == "ASIATEMP0001"
        form = sts.forms[-1]
        assert (form["Action"], form["RoleArn"], form["RoleSessionName"], form["DurationSeconds"]) == (
            "AssumeRoleWithWebIdentity", ARN, "job-7", "3600")  # fmt: skip
        (tmp_path / "token").write_text("another.token")
        kind, message = refusal(net({**env, "AWS_ROLE_ARN": ARN}))
        assert kind == "config" and f"web identity: {sts.endpoint[7:]} refuses role {ARN}" in message
        assert "InvalidIdentityToken" in message and "another.token" not in message
        (tmp_path / "token").unlink()
        assert "web identity: there is no token in" in refusal(net({**env, "AWS_ROLE_ARN": ARN}))[1]


def test_shared_files(net, tmp_path):
    files(
        tmp_path,
        "[default]\naws_access_key_id = FILEKEY # a comment\naws_secret_access_key=s=#x\n\n[half]\naws_access_key_id = HALF\n",
        "[default]\nregion = eu-west-1\n[profile \"odd name\"]\naws_access_key_id = ODDNAME\naws_secret_access_key = s\n"
        "[profile process]\ncredential_process = /bin/x\n",
    )
    assert net().do("who")["who"] == "access key FILE... of the shared files"
    assert net({"AWS_PROFILE": "odd name"}).do("who")["access_key"] == "ODDNAME"
    for profile, why in (("none", 'there is no profile "none"'), ("half", "no aws_secret_access_key"), ("process", "credential_process")):
        kind, message = refusal(net({"AWS_PROFILE": profile}))
        assert kind == "config" and "shared files" in message and why in message


def test_roles_of_profiles(net, tmp_path):
    with Sts({ARN: Role(external_id="x 1"), ARN + "2": Role()}, {"BASEKEY": "base secret"}) as sts:
        files(
            tmp_path,
            "[base]\naws_access_key_id = BASEKEY\naws_secret_access_key = base secret\n",
            f"[profile role]\nrole_arn = {ARN}\nsource_profile = base\nexternal_id = x 1\nrole_session_name = me\n"
            f"[profile chained]\nrole_arn = {ARN}2\nsource_profile = role\n[profile round]\nrole_arn = {ARN}\nsource_profile = round2\n"
            f"[profile round2]\nrole_arn = {ARN}\nsource_profile = round\n",
        )
        env = {"AWS_ENDPOINT_URL_STS": sts.endpoint}
        assert ARN in net({**env, "AWS_PROFILE": "role"}).do("who")["who"]
        assert sts.forms[-1]["RoleSessionName"] == "me" and sts.forms[-1]["ExternalId"] == "x 1"
        assert f"role {ARN}2" in net({**env, "AWS_PROFILE": "chained"}).do("who")["who"]  # with the first role's token
        assert "source_profile" in refusal(net({**env, "AWS_PROFILE": "round"}))[1]


def test_container(net, tmp_path):
    with Container("the token") as container:
        env = {"AWS_CONTAINER_CREDENTIALS_FULL_URI": container.endpoint + "/creds", "AWS_CONTAINER_AUTHORIZATION_TOKEN": "the token"}
        assert net(env).do("who")["who"] == "access key ASIA... of the container"
        (tmp_path / "token").write_text("the token")
        by_file = {**env, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": str(tmp_path / "token"), "AWS_CONTAINER_AUTHORIZATION_TOKEN": "x"}
        assert net(by_file).do("who")["access_key"] == "ASIATEMP0002"
        kind, message = refusal(net({**env, "AWS_CONTAINER_AUTHORIZATION_TOKEN": "wrong secret"}))
        assert kind == "config" and "container: " in message and "401" in message and "secret" not in message
        far = {**env, "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://10.0.0.1/creds"}
        assert "neither https nor of this machine" in refusal(net(far))[1]


def test_instance(net):
    with Imds() as imds:
        env = {"AWS_EC2_METADATA_DISABLED": "false", "AWS_EC2_METADATA_SERVICE_ENDPOINT": imds.endpoint + "/"}
        assert net(env).do("who")["who"] == "access key ASIA... of the instance"
        assert imds.asked[0] == ("PUT", "/latest/api/token")
        imds.role = None
        kind, message = refusal(net(env))
        assert kind == "config" and message.endswith("instance: the instance has no role")


# --- a role on top, and what expires ---


def test_a_role_with_its_external_id(net):
    with Sts({ARN: Role(external_id="the id", may=["BASEKEY"])}, {"BASEKEY": "base secret", "OTHERKEY": "s"}) as sts:
        env = {"AWS_ENDPOINT_URL_STS": sts.endpoint}
        given = {"access_key": "BASEKEY", "secret_key": "base secret", "role_arn": ARN}
        assert net(env, **given, external_id="the id").do("who")["who"] == f"role {ARN} (access key ASIA...)"
        form = sts.forms[-1]
        assert (form["RoleSessionName"], form["DurationSeconds"], form["ExternalId"]) == ("ductstream", "3600", "the id")
        for wrong, why in (
            ({"external_id": "an0ther"}, "AccessDenied"),
            ({}, "AccessDenied"),
            ({"external_id": "the id", "access_key": "OTHERKEY", "secret_key": "s"}, "AccessDenied"),
            ({"external_id": "the id", "secret_key": "wr0ng"}, "SignatureDoesNotMatch"),
            ({"external_id": "the id", "access_key": "UNKNOWN"}, "InvalidClientTokenId"),
        ):
            kind, message = refusal(net(env, **{**given, **wrong}))
            assert kind == "config" and f"AssumeRole: {sts.endpoint[7:]} refuses role {ARN} to access key" in message and why in message
            assert "the id" not in message and "an0ther" not in message and "wr0ng" not in message


def test_sts_that_is_away_or_busy(net):
    with Sts({ARN: Role()}, {"BASEKEY": "s"}) as sts:
        given = {"access_key": "BASEKEY", "secret_key": "s", "role_arn": ARN}
        answer = sts.answer

        def busy(*asked):
            if len(sts.forms) == 2:
                return answer(*asked)
            sts.forms.append({})
            return 503, "not now"

        sts.answer = busy
        n = net({"AWS_ENDPOINT_URL_STS": sts.endpoint}, **given)
        assert n.do("who")["access_key"] == "ASIATEMP0001" and len(sts.forms) == 3


def test_many_threads_ask_once(net):
    with Sts({ARN: Role()}, {"BASEKEY": "s"}) as sts:
        n = net({"AWS_ENDPOINT_URL_STS": sts.endpoint}, access_key="BASEKEY", secret_key="s", role_arn=ARN)
        n.do("who", threads=16)
        assert len(sts.forms) == 1


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_renewal_before_the_end(s3, bucket, net):
    issuer = Issuer(lifetime_s=5)  # renewed when a quarter is left
    with Sts({ARN: Role()}, {"BASEKEY": "s"}, issuer) as sts, TemporaryKeys(s3, issuer) as front:
        n = net({"AWS_ENDPOINT_URL_STS": sts.endpoint}, front.endpoint, access_key="BASEKEY", secret_key="s", role_arn=ARN)
        wait_until(lambda: n.do("put", bucket=bucket, key="x", text="1") and len(issuer.issued) >= 3, 60, "two renewals", 0.05)
        assert [r.status for r in front.requests if r.status != 200] == []  # nobody was sent with keys that had ended
        assert s3.get(bucket, "x") == b"1" and {found.role for found in front.seen} == {ARN}


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_old_keys_serve_while_a_renewal_fails(s3, bucket, net):
    issuer = Issuer(lifetime_s=10)
    with Sts({ARN: Role()}, {"BASEKEY": "s"}, issuer) as sts, TemporaryKeys(s3, issuer) as front:
        n = net({"AWS_ENDPOINT_URL_STS": sts.endpoint}, front.endpoint, access_key="BASEKEY", secret_key="s", role_arn=ARN)
        n.do("put", bucket=bucket, key="x", text="1")
        sts.status = 403
        wait_until(lambda: n.do("put", bucket=bucket, key="x", text="1") and len(sts.forms) >= 2, 60, "a renewal", 0.05)
        n.do("put", bucket=bucket, key="x", text="1")
        with pytest.raises(Refused) as refused:
            wait_until(lambda: not n.do("put", bucket=bucket, key="x", text="1"), 60, "the end of the old keys", 0.05)
        assert refused.value.kind == "config" and "AWS credentials: AssumeRole: " in str(refused.value)
        assert len(sts.forms) < 30  # it is not asked before each request


def test_the_page_names_what_is_read():
    page = (ROOT / "docs" / "object-storage.md").read_text()
    text = "".join(path.read_text() for path in [*(ROOT / "src" / "net").glob("*.c"), ROOT / "src" / "duck" / "lake.c"])
    names = set(re.findall(r"`((?:AWS|DUCKLAKE)_[A-Z0-9_]+)`", page))
    assert len(names) > 20 and {name for name in names if f'"{name}"' not in text} == set()


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_keys_that_a_server_calls_expired_are_renewed(s3, bucket, net):
    issuer = Issuer()
    with Sts({ARN: Role()}, {"BASEKEY": "s"}, issuer) as sts, TemporaryKeys(s3, issuer) as front:
        n = net({"AWS_ENDPOINT_URL_STS": sts.endpoint}, front.endpoint, access_key="BASEKEY", secret_key="s", role_arn=ARN)
        n.do("put", bucket=bucket, key="x", text="1")
        issuer.issued["ASIATEMP0001"].expires = 0
        n.do("put", bucket=bucket, key="x", text="2")
        assert s3.get(bucket, "x") == b"2" and [r.status for r in front.requests] == [200, 400, 200]
        issuer.issued["ASIATEMP0002"].expires = 0
        assert n.do("head", bucket=bucket, key="x")["size"] == 1  # whose answers say less
        issuer.lifetime_s = -1
        issuer.issued["ASIATEMP0003"].expires = 0
        kind, message = refusal(n, "put", bucket=bucket, key="x", text="3")
        assert kind == "config" and "has expired" in message and len(issuer.issued) < 8


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_refusals_name_the_role(s3, bucket, net):
    issuer = Issuer()
    with Sts({ARN: Role()}, {"BASEKEY": "s"}, issuer) as sts, TemporaryKeys(s3, issuer) as front:
        front.fault = lambda r: Answer(403, b"<Error><Code>AccessDenied</Code><Message>no</Message></Error>")
        n = net({"AWS_ENDPOINT_URL_STS": sts.endpoint}, front.endpoint, access_key="BASEKEY", secret_key="s", role_arn=ARN)
        kind, message = refusal(n, "put", bucket=bucket, key="x", text="1")
        assert kind == "config" and f'bucket "{bucket}" refuses PutObject of "x" to role {ARN} (access key ASIA...): AccessDenied' in message
        assert json.dumps(issuer.issued["ASIATEMP0001"].json) and "temporary/secret" not in message


def test_fixed_keys_that_have_expired_are_not_tried_again(net):
    with Imds() as server:
        server.answer = lambda *_: (400, "<Error><Code>ExpiredToken</Code></Error>")
        n = net(None, server.endpoint, access_key="GIVEN", secret_key="s", session_token="t0ken")
        kind, message = refusal(n, "put", bucket="bucket", key="x", text="1")
        assert kind == "config" and "the session token of access key GIVE... has expired" in message and len(server.asked) == 1
