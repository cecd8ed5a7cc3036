"""bin/start: the local stack of the copy page. Everything it starts, and every byte of it, ends with it, unless --folder keeps the objects."""

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests")]

from lib import child  # noqa: E402
from lib.paths import program  # noqa: E402
from lib.pg import Postgres  # noqa: E402
from lib.s3 import S3Server  # noqa: E402

USER = PASSWORD = "posthog"
DATABASE, BUCKET = "ducklake_catalog", "ducklake-dev"
KEY, SECRET = "object_storage_root_user", "object_storage_root_password"


class S3(S3Server):
    def start(self):
        self.access_key, self.secret_key = KEY, SECRET
        return super().start()


def say(text):
    print(text, flush=True)


def must_be_free(port, option):
    with socket.socket() as s:
        if s.connect_ex(("127.0.0.1", port)) == 0:
            sys.exit(f"bin/start: port {port} is taken: end what listens there, or say {option} PORT")


def start_postgres(port):
    os.environ["PGPORT"] = str(port)  # for the socket
    server = Postgres(settings={"port": port, "listen_addresses": "'127.0.0.1'"})
    with open(server.data / "pg_hba.conf", "a") as hba:
        hba.write("host all all 127.0.0.1/32 scram-sha-256\n")
    server.start()
    server.sql(f"CREATE ROLE {USER} LOGIN CREATEDB PASSWORD '{PASSWORD}'")
    server.sql(f"CREATE DATABASE {DATABASE} OWNER {USER}")
    return server


def environment(arguments):
    """The page's defaults, with the ports that they really have."""
    return {
        "DUCTSTREAM_ENV": "dev",
        "DUCKLAKE_RDS_HOST": "localhost",
        "DUCKLAKE_RDS_PORT": str(arguments.postgres_port),
        "DUCKLAKE_RDS_DATABASE": DATABASE,
        "DUCKLAKE_RDS_USERNAME": USER,
        "DUCKLAKE_RDS_PASSWORD": PASSWORD,
        "DUCKLAKE_BUCKET": BUCKET,
        "DUCKLAKE_BUCKET_REGION": "us-east-1",
        "DUCKLAKE_S3_ACCESS_KEY": KEY,
        "DUCKLAKE_S3_SECRET_KEY": SECRET,
        "AWS_REGION": "us-east-1",  # the page's `duckdb -c` names none, and DuckDB has no default for it any more
        "DUCKLAKE_S3_ENDPOINT": f"http://localhost:{arguments.s3_port}",
    }


def stack(arguments, folder, stop):
    env = environment(arguments)
    postgres = start_postgres(arguments.postgres_port)
    s3 = server = None
    try:
        s3 = S3(folder / "s3", port=arguments.s3_port)
        s3.bucket(BUCKET)
        server = child.popen([program()], env={**os.environ, **env}, stdin=subprocess.DEVNULL)
        for name, value in env.items():
            say(f"export {name}={value}")
        say(f"ready: Postgres localhost:{arguments.postgres_port}, S3 localhost:{arguments.s3_port}, the API server; Ctrl-C ends them")
        while not stop.wait(0.2):
            if server.poll() is not None:
                say(f"the API server has ended with {server.returncode}")
                return 1
        return 0
    finally:
        if server and server.poll() is None:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=30)
        if s3:
            s3.close()
        postgres.close()
        say("everything has ended")


def main():
    parser = argparse.ArgumentParser(prog="bin/start", description="Postgres, S3 and the API server of the copy page, until Ctrl-C.")
    parser.add_argument("--postgres-port", type=int, default=int(os.environ.get("DUCTSTREAM_START_POSTGRES_PORT", 5432)))
    parser.add_argument("--s3-port", type=int, default=int(os.environ.get("DUCTSTREAM_START_S3_PORT", 19000)))
    parser.add_argument("--folder", type=Path, help="where the objects are kept (default: a temporary folder)")
    arguments = parser.parse_args()
    must_be_free(arguments.postgres_port, "--postgres-port")
    must_be_free(arguments.s3_port, "--s3-port")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="ductstream-start-"))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return stack(arguments, folder, stop)
    finally:
        if not arguments.folder:
            shutil.rmtree(folder, ignore_errors=True)


sys.exit(main())
