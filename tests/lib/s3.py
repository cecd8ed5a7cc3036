"""An S3 server on loopback: a real versitygw, and a proxy in front of it that counts and breaks what a test says.

    with S3Server(tmp_path / "s3") as s3:                # or the fixture `s3`, one for all tests of a process
        s3.bucket("lake")
        s3.put("lake", "a/x.txt", b"hello")
        with s3.proxy() as proxy:
            ...                                          # a client with endpoint proxy.endpoint
            assert proxy.count("GET") == 3 and proxy.bytes_down < 10_000
"""

import json
import socket
import subprocess
from pathlib import Path

from . import child
from .paths import CACHE
from .ports import free_port
from .s3_proxy import S3Proxy
from .wait import wait_until

PROGRAM = CACHE / "bin" / "versitygw"
ACCESS_KEY, SECRET_KEY, REGION = "testkey", "test secret/with+odd=characters", "us-east-1"


def missing():
    """Why there is no S3 server here, or None; for skipif."""
    return None if PROGRAM.exists() else "no versitygw: tools/setup --servers builds it (with Go)"


class S3Server:
    """One versitygw over a folder. The root user may do everything; user() makes others, who may do what policies say.

    kill() and start() are a crash and a restart over the same folder, on the same port.
    """

    def __init__(self, folder, port=None, tls=None):
        """tls: (certificate, key), files."""
        self.folder, self.port, self.tls = Path(folder), port or free_port(), tls
        self.access_key, self.secret_key, self.region = ACCESS_KEY, SECRET_KEY, REGION
        self.process = None
        self.start()

    def start(self):
        # The sidecar's folder must not begin like the data's.
        for name in ("data", "meta", "users"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        more = ["--cert", self.tls[0], "--key", self.tls[1]] if self.tls else []
        with open(self.folder / "log", "ab") as log:
            self.process = child.popen(
                [PROGRAM, "--port", self.address, "--quiet", "--health", "/health", "--iam-dir", self.folder / "users",
                 "--iam-cache-disable", *more, "posix", "--sidecar", self.folder / "meta", self.folder / "data"],
                env={"PATH": "/usr/bin:/bin", "ROOT_ACCESS_KEY": self.access_key, "ROOT_SECRET_KEY": self.secret_key},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )  # fmt: skip
        wait_until(self._listens, 30, "the S3 server to listen")
        return self

    def _listens(self):
        assert self.process.poll() is None, (self.folder / "log").read_text(errors="replace")[-2000:]
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    def kill(self):
        """kill -9"""
        self.process.kill()
        self.process.wait(timeout=30)

    def close(self):
        self.kill()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    @property
    def endpoint(self):
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def proxy(self):
        return S3Proxy(self.port)

    # --- users ---

    def user(self, access_key, secret_key):
        """Makes a user, who may do nothing until a policy() allows it."""
        subprocess.run(
            [PROGRAM, "admin", "--access", self.access_key, "--secret", self.secret_key, "--endpoint-url", self.endpoint,
             "create-user", "--access", access_key, "--secret", secret_key, "--role", "user"],
            check=True,
            capture_output=True,
            timeout=30,
        )  # fmt: skip

    def allow(self, bucket, access_key, actions, prefix=""):
        """The bucket's policy: that user, and nobody else, may do ACTIONS ("s3:PutObject", …) under the prefix."""
        resources = [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{prefix}*"]
        kinds = {resources[0]: [], resources[1]: []}
        for action in actions:
            kinds[resources[0 if "Bucket" in action else 1]].append(action)
        statements = [
            {"Effect": "Allow", "Principal": {"AWS": [access_key]}, "Action": found, "Resource": [resource]}
            for resource, found in kinds.items()
            if found
        ]
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements})
        self.client().put_bucket_policy(Bucket=bucket, Policy=policy)

    # --- what is in it, by the official client ---

    def client(self, access_key=None, secret_key=None, endpoint=None):
        import boto3  # most tests do without it, and it takes half a second
        from botocore.config import Config

        return boto3.client(
            "s3",
            endpoint_url=endpoint or self.endpoint,
            aws_access_key_id=access_key or self.access_key,
            aws_secret_access_key=secret_key or self.secret_key,
            region_name=self.region,
            verify=False if self.tls else None,
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}),
        )

    def bucket(self, name):
        """Makes a bucket that is not there yet; its name."""
        client = self.client()
        if name not in (found["Name"] for found in client.list_buckets()["Buckets"]):
            client.create_bucket(Bucket=name)
        return name

    def put(self, bucket, key, body):
        self.client().put_object(Bucket=bucket, Key=key, Body=body)

    def get(self, bucket, key):
        return self.client().get_object(Bucket=bucket, Key=key)["Body"].read()

    def keys(self, bucket, prefix=""):
        """All keys under the prefix, sorted."""
        pages = self.client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return sorted(found["Key"] for page in pages for found in page.get("Contents", []))

    def uploads(self, bucket):
        """Keys of multipart uploads that are neither completed nor aborted."""
        return [found["Key"] for found in self.client().list_multipart_uploads(Bucket=bucket).get("Uploads", [])]

    # --- for others ---

    def secret_sql(self, name="s3", scope=None, endpoint=None):
        """DuckDB's statement that lets a session of an official client in."""
        address = (endpoint or self.endpoint).split("://")[1]
        return (
            f"CREATE OR REPLACE SECRET {name} (TYPE s3, KEY_ID '{self.access_key}', SECRET '{self.secret_key}', "
            f"REGION '{self.region}', ENDPOINT '{address}', URL_STYLE 'path', USE_SSL {'true' if self.tls else 'false'}"
            + (f", SCOPE '{scope}'" if scope else "")
            + ")"
        )

    def delta_options(self, endpoint=None):
        """storage_options of the deltalake package."""
        return {
            "AWS_ENDPOINT_URL": endpoint or self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "aws_conditional_put": "etag",
        }
