"""The local stack of the pages (bin/start), with a ClickHouse and a Nightscout beside it, and the rows of docs/from-the-pages.md."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import psycopg

from . import child
from .clickhouse import DISTINCT_IDS, EVENTS, PERSONS, ClickHouse
from .http import Http
from .ingest import day as nightscout_day
from .lake import OfficialLake
from .paths import ROOT, program
from .ports import free_port
from .rest import RestServer, nightscout
from .s3 import S3Server
from .wait import wait_until

OVER = ("RUN_STATE_SUCCEEDED", "RUN_STATE_FAILED", "RUN_STATE_CANCELLED", "RUN_STATE_SKIPPED")
CELL = re.compile(r"^`(.*)`$", re.DOTALL)


def rows():
    """[{"id", "section", "page", "command", "call", "says"}] of the tables, in order; cells without a command are None."""
    found, section = [], None
    for line in (ROOT / "docs/from-the-pages.md").read_text().splitlines():
        if line.startswith("## "):
            section = line[3:]
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] if line.startswith("| ") else []
        if not cells or not re.fullmatch(r"[A-Z]\d+", cells[0]):
            assert not cells or not cells[0] or section is None, f"a row without a name: {line}"
            continue
        assert len(cells) == 5, line
        command, call = (CELL.match(cell) for cell in cells[2:4])
        assert (command or cells[2] == "—") and (call or cells[3] == "—"), line
        found.append(
            {
                "id": cells[0],
                "section": section,
                "page": cells[1],
                "command": command and command[1].replace("\\|", "|"),
                "call": call and call[1].replace("\\|", "|"),
                "says": cells[4],
            }
        )
    return found


class Stack:
    """bin/start in a folder of its own, where relative paths of the page are; a ClickHouse and a Nightscout are beside it."""

    def __init__(self, folder, days, programs):
        """days: of the Nightscout; programs: {name: text} of what is in the PATH."""
        self.folder, self.lines = folder, []
        self.postgres, self.s3_port, self.http_port = free_port(), free_port(), free_port()
        self.nightscout = RestServer(
            nightscout([entry for number, date in enumerate(days) for entry in nightscout_day(date, first=1000 * number)])
        )
        self.clickhouse = ClickHouse(folder / "clickhouse", SimpleNamespace(access_key=ACCESS_KEY, secret_key=SECRET_KEY))
        for statement in (EVENTS, PERSONS, DISTINCT_IDS):
            self.clickhouse.sql(statement)
        (folder / "examples").symlink_to(ROOT / "examples")
        (folder / "bin").mkdir()
        for name, text in {**programs, "duckdb": DUCKDB}.items():
            (folder / "bin" / name).write_text(f"#!{sys.executable}\n{text}")
            (folder / "bin" / name).chmod(0o755)
        self.env = self.environment()
        self.process = child.popen(
            [ROOT / "bin" / "start"], env=self.env, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        threading.Thread(target=lambda: self.lines.extend(self.process.stdout), daemon=True).start()
        wait_until(lambda: self.said("ready:") or self.process.poll() is not None, 60, "the stack to be ready")
        assert self.process.poll() is None, self.lines
        self.exports = dict(re.findall(r"^export (\w+)=(.*)$", "".join(self.lines), re.MULTILINE))
        self.env |= self.exports
        wait_until(self.is_ready, 30, "the API server to be ready")
        (grpc,) = re.findall(r"protocol=grpc address=(\S+)", "".join(self.lines))
        self.env["DUCTSTREAM_ENDPOINT"] = grpc
        self.s3 = StackS3(self)

    def environment(self):
        env = {k: v for k, v in os.environ.items() if not k.startswith(("DUCKLAKE_", "AWS_", "DUCTSTREAM_"))}
        return env | {
            "PATH": f"{self.folder}/bin:{program().parent}:/usr/bin:/bin",
            "HOME": str(self.folder),
            "PYTHONPATH": str(ROOT / "tests"),
            "DUCTSTREAM_START_POSTGRES_PORT": str(self.postgres),
            "DUCTSTREAM_START_S3_PORT": str(self.s3_port),
            "DUCTSTREAM_GRPC_LISTEN": "127.0.0.1:0",
            "DUCTSTREAM_HTTP_LISTEN": f"127.0.0.1:{self.http_port}",
            "DUCTSTREAM_SECRET_KEY": "00" * 32,
            "DUCTSTREAM_STATE_PATH": f"{self.folder}/state.db",
            "DUCTSTREAM_RUN_COMMANDS": "true",
            "DUCTSTREAM_RUN_COMMAND_ENV": "PYTHONPATH,DUCKLAKE_S3_ENDPOINT",
            "DUCTSTREAM_RUN_WORKERS": "3",
            "DUCTSTREAM_RUN_BACKOFF": "50ms",
            "DUCTSTREAM_EXPORT_RETRY_WAIT_MS": "50",
            "DUCTSTREAM_FULL_BACKFILL_MAX_PARTITIONS": "3",
            "DUCKLAKE_FEATURE_FLAGS": "ducklake-data-modeling-copy-workflow=123;ducklake-data-imports-copy-workflow=123",
            "CLICKHOUSE_URL": self.clickhouse.url,
            "NIGHTSCOUT_URL": self.nightscout.url,
            "DUCKDB_TEMP_DIRECTORY": str(self.folder),
            "TEAM_PASSWORD": "posthog",
            "AWS_ENDPOINT_URL_STS": "http://127.0.0.1:9",  # no role is to be had
        }

    def said(self, text):
        return any(line.startswith(text) for line in list(self.lines))

    def is_ready(self):
        try:
            return self.call("GET /readyz").status == 200
        except OSError:
            return False

    def sh(self, command, timeout_s=120, **env):
        """What bash makes of a command: code, out, err, and all of it."""
        done = subprocess.run(
            ["bash", "-c", command], env=self.env | env, cwd=self.folder, capture_output=True, text=True, timeout=timeout_s,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
        return SimpleNamespace(code=done.returncode, out=done.stdout, err=done.stderr, all=done.stdout + done.stderr)

    def _read(self, value):
        return (self.folder / value[1:]).read_text() if isinstance(value, str) and value.startswith("@") else value

    def call(self, text):
        """The answer to "VERB PATH [BODY]", as docs/from-the-pages.md writes it."""
        verb, path, body = (text.split(" ", 2) + [None])[:3]
        body = json.loads(body) if body else None if verb in ("GET", "DELETE") else {}
        if body and "input" in body:
            body["input_json"] = json.dumps({name: self._read(value) for name, value in body.pop("input").items()})
        with Http(f"127.0.0.1:{self.http_port}", timeout=90) as http:
            return http.ask(verb, path, body)

    def get(self, run_id):
        return self.call(f"GET /v1/runs/{run_id}").json

    def over(self, run_id, timeout_s=90):
        """The run when it is over: state as "succeeded", the result as `left`."""
        run = wait_until(lambda: (got := self.get(run_id)).get("state") in OVER and got, timeout_s, f"run {run_id} to be over")
        return run | {"left": json.loads(run.get("resultJson") or "{}"), "state": run["state"].removeprefix("RUN_STATE_").lower()}

    def database(self, name):
        with psycopg.connect(
            host="localhost", port=self.postgres, user="posthog", password="posthog", dbname="ducklake_catalog", autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}")

    def lake(self, database="ducklake_catalog"):
        """An official client of a lake of the stack."""
        return OfficialLake(f"postgres:host=localhost port={self.postgres} user=posthog password=posthog dbname={database}", s3=self.s3)

    def close(self):
        """Ctrl-C."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=60)
        self.clickhouse.close()
        self.nightscout.__exit__()
        assert code == 0 and self.said("everything has ended"), "".join(self.lines[-20:])


ACCESS_KEY, SECRET_KEY = "object_storage_root_user", "object_storage_root_password"


class StackS3(S3Server):
    """The stack's, for who looks into its buckets."""

    def __init__(self, stack):
        self.port, self.tls, self.region, self.process = stack.s3_port, None, "us-east-1", None
        self.access_key, self.secret_key = ACCESS_KEY, SECRET_KEY


# `duckdb -c TEXT` by the official client, which has its extensions already.
DUCKDB = """
import os, sys, duckdb
from lib.paths import EXTENSIONS
os.environ["PGPORT"] = os.environ["DUCKLAKE_RDS_PORT"]
assert sys.argv[1] == "-c"
c = duckdb.connect()
for name in ("httpfs", "postgres_scanner", "ducklake"):
    c.execute(f"LOAD '{EXTENSIONS}/{name}.duckdb_extension'")
for statement in duckdb.extract_statements(sys.argv[2]):
    if statement.query.strip().rstrip(";") not in ("INSTALL ducklake", "LOAD ducklake"):
        for row in c.execute(statement).fetchall():
            print(row)
"""
