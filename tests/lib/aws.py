"""Stand-ins for AWS's services that hand out keys: STS, an instance's metadata, a container's. Each checks what it is asked with.

    with Sts(roles={ARN: Role(external_id="x")}, keys={"base": "secret"}) as sts, TemporaryKeys(s3, sts) as front:
        ...                                     # a client with AWS_ENDPOINT_URL_STS=sts.endpoint and endpoint front.endpoint

versitygw knows no session tokens: TemporaryKeys checks keys, token, time and signature of a request itself and signs it anew for the root user.
"""

import hashlib
import hmac
import json
import threading
import time
from dataclasses import dataclass, field
from datetime import datetime, timezone
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

from .s3_proxy import Answer, S3Proxy


def signature(secret, method, target, headers, signed, scope, body_hash):
    """SigV4 as AWS documents it. target: path and query as sent; signed: names; scope: "DATE/REGION/SERVICE/aws4_request"."""
    path, _, query = target.partition("?")
    parameters = sorted(tuple((p + "=").split("=")[:2]) for p in query.split("&") if p)
    canonical = "\n".join(
        [method, path, "&".join(f"{n}={v}" for n, v in parameters)]
        + [f"{name}:{' '.join(headers[name].split())}" for name in signed]
        + ["", ";".join(signed), body_hash]
    )
    text = "\n".join(["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


@dataclass
class Signed:
    """What an Authorization header says."""

    access_key: str
    scope: str
    names: list
    value: str

    @classmethod
    def of(cls, headers):
        text = headers.get("authorization", "")
        if not text.startswith("AWS4-HMAC-SHA256 "):
            return None
        parts = dict(part.strip().split("=", 1) for part in text.split(" ", 1)[1].split(","))
        access_key, _, scope = parts["Credential"].partition("/")
        return cls(access_key, scope, parts["SignedHeaders"].split(";"), parts["Signature"])

    def is_of(self, secret, method, target, headers, body_hash):
        return hmac.compare_digest(self.value, signature(secret, method, target, headers, self.names, self.scope, body_hash))


@dataclass
class Temporary:
    access_key: str
    secret_key: str
    token: str
    expires: float  # of time.time()
    role: str = ""
    session: str = ""

    @property
    def expiration(self):
        return datetime.fromtimestamp(self.expires, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")

    @property
    def json(self):
        return {"Code": "Success", "Type": "AWS-HMAC", "AccessKeyId": self.access_key, "SecretAccessKey": self.secret_key,
                "Token": self.token, "Expiration": self.expiration}  # fmt: skip


class Issuer:
    """What was handed out, by whichever stand-in."""

    def __init__(self, lifetime_s=3600):
        self.lifetime_s, self.issued = lifetime_s, {}

    def issue(self, role="", session=""):
        n = len(self.issued) + 1
        found = Temporary(f"ASIATEMP{n:04}", f"temporary/secret+{n}", f"token/{n}+{'x' * 200}==", int(time.time() + self.lifetime_s), role, session)
        self.issued[found.access_key] = found
        return found


class _Server:
    """An HTTP server on loopback whose answer(method, target, headers, body) gives (status, body)."""

    def __init__(self):
        self.asked = []  # (method, target)
        own = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _do(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                own.asked.append((self.command, self.path))
                status, answer = own.answer(self.command, self.path, {k.lower(): v for k, v in self.headers.items()}, body)
                answer = answer.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST = _do

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()


@dataclass
class Role:
    external_id: str | None = None  # that must be given
    web_token: str | None = None  # by which it is had without keys
    may: list = field(default_factory=list)  # access keys that may assume it; empty: all


class Sts(_Server):
    """roles: ARN -> Role; keys: access key -> secret key of those who ask."""

    def __init__(self, roles, keys=(), issuer=None):
        self.roles, self.keys, self.issuer = roles, dict(keys), issuer or Issuer()
        self.forms, self.status = [], None  # status: answers with it
        super().__init__()

    @staticmethod
    def _error(status, code, message):
        return status, f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"

    def answer(self, method, target, headers, body):
        form = dict(parse_qsl(body.decode(), keep_blank_values=True))
        self.forms.append(form)
        if self.status:
            return self._error(self.status, "Unavailable", "not now")
        role = self.roles.get(form.get("RoleArn"))
        kind = form["Action"]
        if kind == "AssumeRoleWithWebIdentity":
            if role is None or role.web_token is None or form["WebIdentityToken"] != role.web_token:
                return self._error(400, "InvalidIdentityToken", "No OpenIDConnect provider found for this token")
        else:
            refused = self._check(method, target, headers, body, form, role)
            if refused:
                return refused
        found = self.issuer.issue(form["RoleArn"], form["RoleSessionName"])
        return 200, (
            f'<{kind}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><{kind}Result><Credentials>'
            f"<AccessKeyId>{found.access_key}</AccessKeyId><SecretAccessKey>{found.secret_key}</SecretAccessKey>"
            f"<SessionToken>{found.token}</SessionToken><Expiration>{found.expiration}</Expiration></Credentials>"
            f"</{kind}Result></{kind}Response>"
        )

    def _check(self, method, target, headers, body, form, role):
        signed = Signed.of(headers)
        secret = signed and self.keys.get(signed.access_key)
        issued = signed and self.issuer.issued.get(signed.access_key)
        if issued and headers.get("x-amz-security-token") == issued.token:
            secret = issued.secret_key
        if not secret:
            return self._error(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
        if not signed.is_of(secret, method, target, headers, hashlib.sha256(body).hexdigest()):
            return self._error(403, "SignatureDoesNotMatch", "The request signature we calculated does not match")
        if role is None or role.external_id != form.get("ExternalId") or (role.may and signed.access_key not in role.may):
            return self._error(403, "AccessDenied", f"User is not authorized to perform: sts:AssumeRole on resource: {form['RoleArn']}")
        return None


class Imds(_Server):
    """An instance's metadata service, version 2 only."""

    def __init__(self, role="web-role", issuer=None):
        self.role, self.issuer, self.tokens = role, issuer or Issuer(), set()
        super().__init__()

    def answer(self, method, target, headers, body):
        base = "/latest/meta-data/iam/security-credentials/"
        if (method, target) == ("PUT", "/latest/api/token") and "x-aws-ec2-metadata-token-ttl-seconds" in headers:
            self.tokens.add(f"imds-token-{len(self.tokens)}")
            return 200, f"imds-token-{len(self.tokens) - 1}"
        if headers.get("x-aws-ec2-metadata-token") not in self.tokens:
            return 401, "no token"
        if target == base and self.role:
            return 200, self.role
        if self.role and target == base + self.role:
            return 200, json.dumps(self.issuer.issue(self.role).json)
        return 404, ""


class Container(_Server):
    """The endpoint that ECS and EKS give a container; `authorization` is what it wants to see."""

    def __init__(self, authorization=None, issuer=None):
        self.authorization, self.issuer = authorization, issuer or Issuer()
        super().__init__()

    def answer(self, method, target, headers, body):
        if self.authorization != headers.get("authorization"):
            return 401, '{"message": "wrong token"}'
        return (200, json.dumps(self.issuer.issue().json)) if target == "/creds" else (404, "")


class TemporaryKeys(S3Proxy):
    """A proxy in front of an S3Server that takes what an Issuer has handed out, and nothing else."""

    def __init__(self, s3, issuer):
        self.s3, self.issuer, self.seen = s3, issuer, []
        super().__init__(s3.port)

    def admit(self, request, raw):
        signed = Signed.of(request.headers)
        found = signed and self.issuer.issued.get(signed.access_key)
        body_hash = request.headers.get("x-amz-content-sha256", "")
        if not found:
            return self._refuse(403, "InvalidAccessKeyId")
        if request.headers.get("x-amz-security-token") != found.token or "x-amz-security-token" not in signed.names:
            return self._refuse(400, "InvalidToken")
        if time.time() >= found.expires:
            return self._refuse(400, "ExpiredToken")
        if not signed.is_of(found.secret_key, request.method, request.target, request.headers, body_hash):
            return self._refuse(403, "SignatureDoesNotMatch")
        self.seen.append(found)
        names = [name for name in signed.names if name != "x-amz-security-token"]
        value = signature(self.s3.secret_key, request.method, request.target, request.headers, names, signed.scope, body_hash)
        lines = [line for line in raw.decode("latin-1").split("\r\n") if not line.lower().startswith(("authorization:", "x-amz-security-token:"))]
        own = f"Authorization: AWS4-HMAC-SHA256 Credential={self.s3.access_key}/{signed.scope}, SignedHeaders={';'.join(names)}, Signature={value}"
        return "\r\n".join([lines[0], own, *lines[1:]]).encode("latin-1")

    @staticmethod
    def _refuse(status, code):
        return Answer(status, f"<Error><Code>{code}</Code><Message>by the stand-in</Message></Error>".encode())
