"""bin/start and the copy page's own commands (issue 6, point 2; seed 000)."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading

import pytest
from lib import child
from lib.cli import ductstream
from lib.copies import delta_write
from lib.paths import EXTENSIONS, ROOT
from lib.s3 import free_port, missing
from lib.wait import wait_until

pytestmark = pytest.mark.skipif(missing() is not None, reason=str(missing()))

# The page's block; ${...} are the shell's.
BLOCK = """
     INSTALL ducklake;
     LOAD ducklake;
     SET s3_endpoint='localhost:19000';
     SET s3_use_ssl=false;
     SET s3_access_key_id='object_storage_root_user';
     SET s3_secret_access_key='object_storage_root_password';
     SET s3_url_style='path';

     ATTACH 'ducklake:postgres:dbname=ducklake_catalog host=localhost user=posthog password=posthog'
       AS ducklake (DATA_PATH 's3://ducklake-dev/');

     -- Discover available schemas
     SELECT * FROM information_schema.schemata WHERE catalog_name = 'ducklake';

     -- List tables in the ducklake catalog
     SELECT table_schema, table_name FROM information_schema.tables WHERE table_catalog = 'ducklake';

     -- Query a specific table
     SELECT * FROM ducklake.data_modeling_team_${TEAM_ID}.${MODEL_LABEL} LIMIT 10;
"""

CLIENT = """
import sys, duckdb
block, extensions = sys.argv[1], sys.argv[2]
c = duckdb.connect()
for name in ("httpfs", "postgres_scanner", "ducklake"):
    c.execute(f"LOAD '{extensions}/{name}.duckdb_extension'")
for statement in duckdb.extract_statements(block):
    if statement.query.strip() not in ("INSTALL ducklake;", "LOAD ducklake;", "INSTALL ducklake", "LOAD ducklake"):
        for row in c.execute(statement).fetchall():
            print(row)
"""


class Stack:
    def __init__(self, tmp_path):
        self.postgres, self.s3, self.lines = free_port(), free_port(), []
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DUCKLAKE_", "AWS_"))}
        env |= {
            "DUCTSTREAM_START_POSTGRES_PORT": str(self.postgres), "DUCTSTREAM_START_S3_PORT": str(self.s3), "HOME": str(tmp_path),
            "DUCTSTREAM_GRPC_LISTEN": "127.0.0.1:0", "DUCTSTREAM_HTTP_LISTEN": "off", "DUCTSTREAM_SECRET_KEY": "00" * 32,
            "DUCTSTREAM_STATE_PATH": f"{tmp_path}/state.db",
        }  # fmt: skip
        self.env = env
        self.process = child.popen([ROOT / "bin" / "start"], env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()
        wait_until(lambda: self.said("ready:") or self.process.poll() is not None, 60, "the stack to be ready")
        assert self.process.poll() is None, self.lines

    def said(self, text):
        return any(line.startswith(text) for line in self.lines)

    def exports(self):
        return dict(re.findall(r"^export (\w+)=(.*)$", "".join(self.lines), re.MULTILINE))


def listens(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_the_page_from_start_to_its_last_query(tmp_path):
    """bin/start, a copy by its defaults, the page's block unchanged but for INSTALL and the ports; Ctrl-C ends all of it."""
    import pyarrow as pa

    stack = Stack(tmp_path)
    try:
        env = {**stack.env, **stack.exports(), "DUCKLAKE_FEATURE_FLAGS": "ducklake-data-modeling-copy-workflow=123"}
        assert env["DUCKLAKE_BUCKET"] == "ducklake-dev" and env["DUCKLAKE_RDS_DATABASE"] == "ducklake_catalog"
        options = {
            "AWS_ENDPOINT_URL": f"http://localhost:{stack.s3}", "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "object_storage_root_user", "AWS_SECRET_ACCESS_KEY": "object_storage_root_password",
            "aws_conditional_put": "etag",
        }  # fmt: skip
        delta_write("s3://ducklake-dev/source/t", pa.table({"id": [1, 2], "name": ["a", "b"]}), storage_options=options)
        words = ("copy", "data-modeling", "--team-id", 123, "--model", "my_saved_query=s3://ducklake-dev/source/t")
        code, _, err = ductstream(*words, env=env)
        assert code == 0, err
        block = BLOCK.replace("19000", str(stack.s3)).replace("${TEAM_ID}", "123").replace("${MODEL_LABEL}", "my_saved_query")
        done = subprocess.run(
            [sys.executable, "-c", CLIENT, block, str(EXTENSIONS)],
            env={**stack.env, **stack.exports(), "PGPORT": str(stack.postgres)}, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "('data_modeling_team_123', 'my_saved_query')" in done.stdout
        assert "(1, 'a')" in done.stdout and "(2, 'b')" in done.stdout
        code, out, err = ductstream("check", "copy", env=env)
        assert code == 0, (out, err)
    finally:
        stack.process.send_signal(signal.SIGINT)
        assert stack.process.wait(timeout=60) == 0, stack.lines
    assert not listens(stack.postgres) and not listens(stack.s3)


def test_a_port_that_is_taken_is_named(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [ROOT / "bin" / "start", "--s3-port", str(port), "--postgres-port", str(free_port())],
            capture_output=True, text=True, timeout=60,
        )  # fmt: skip
    assert done.returncode == 1 and f"port {port} is taken" in done.stderr
