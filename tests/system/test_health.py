"""`ductstream health` of a lake: under a second, leaves nothing behind, and each thing that can be wrong is told (issue 6, point 6)."""

import json
import os
import resource
import sqlite3
import subprocess
import time
from pathlib import Path

import psycopg
import pytest
from lib.cli import ductstream
from lib.lake import LakeHome
from lib.paths import EXTENSIONS, SANITIZED
from lib.raw_server import Server
from lib.s3 import missing
from lib.s3_proxy import Answer
from lib.small_disk import SmallDisk
from lib.wait import wait_until

LAYERS = ["raw", "bronze", "silver", "gold"]


class Health:
    """What the command finds of one lake."""

    def __init__(self, home, **env):
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("DUCKLAKE_", "AWS_"))}
        self.env.update(DUCKLAKE_CATALOG=home.catalog, **env)
        self.took = None

    def __call__(self, *words, code=0, **env):
        """[(level, what, remedy)]"""
        begin = time.monotonic()
        got, out, err = ductstream("health", *words, "--json", env={**self.env, **env})
        self.took = time.monotonic() - begin
        found = [line for line in map(json.loads, out.splitlines()) if "finding" in line]
        assert got == code, (got, found, err)
        assert not [line for line in found if line["finding"] != "ok" and not line["remedy"]], found
        return [(line["finding"], line["what"], line["remedy"]) for line in found]

    def any(self):
        """Everything that is told, whatever the exit code."""
        return [json.loads(line).get("what", "") for line in ductstream("health", "--json", env=self.env)[1].splitlines()]

    def bad(self, *words, code=2, **env):
        """{what: remedy} of the errors."""
        return {what: remedy for level, what, remedy in self(*words, code=code, **env) if level == "error"}


def some_lake(home, layers=LAYERS):
    lake = home.open()
    for schema in layers:
        lake.sql(f"CREATE SCHEMA {schema}")
    lake.sql("CREATE TABLE raw.entries AS SELECT i FROM range(100) r(i)")
    return lake


def time_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def everything(home):
    """All files of the lake."""
    return sorted(str(path) for path in Path(home.data_path).rglob("*"))


@pytest.mark.alone
def test_a_quiet_lake_in_under_a_second(lake_home):
    lake = some_lake(lake_home)
    health = Health(lake_home)
    before = everything(lake_home), lake.last_snapshot()
    found = health()
    assert {level for level, _, _ in found} == {"ok"}
    said = "\n".join(what for _, what, _ in found)
    for part in ("DuckLake 1.0, 1 tables, snapshot 5", "schemas: raw, bronze, silver, gold", "a row written to the catalog, read back",
                 "no lock is waited for", "MiB are free", "attached by the official client (ducklake ", "1000 rows written to a file"):  # fmt: skip
        assert part in said, (part, said)
    assert (everything(lake_home), lake.last_snapshot()) == before
    if not SANITIZED:
        limit = max(1.0, os.getloadavg()[0] / os.cpu_count())  # other work of the machine is in it
        times, cpu = [], time_of_children()
        while len(times) < 10 and (not times or min(times) >= limit):
            health()
            times.append(health.took)
        assert min(times) < limit and (time_of_children() - cpu) / len(times) < 0.8, times
    code, out, _ = ductstream("health", env=health.env)
    assert code == 0 and len(out.splitlines()) <= 24 and "schemas: raw, bronze, silver, gold" in out, out


def test_which_lake(sqlite_lake, tmp_path):
    """By the same words and variables as models; none named: nothing but the libraries."""
    some_lake(sqlite_lake)
    env = {k: v for k, v in os.environ.items() if not k.startswith("DUCKLAKE_")}
    code, out, _ = ductstream("health", env=env)
    assert code == 0 and "no lake is named" in out
    code, out, _ = ductstream("health", "--catalog", sqlite_lake.catalog, env=env)
    assert code == 0 and f"catalog {sqlite_lake.catalog}: DuckLake 1.0" in out
    code, _, err = ductstream("health", "--long", "soon", env=env)
    assert code == 2 and "is not a duration" in err
    health = Health(LakeHome(f"sqlite:{tmp_path}/none.sqlite", tmp_path / "none"))
    [(level, what, remedy)] = health()
    assert level == "warn" and "no lake is there yet" in what and "DUCKLAKE_DATA_PATH" in remedy
    assert not Path(f"{tmp_path}/none.sqlite").exists()


def test_a_missing_extension(lake_home, tmp_path):
    some_lake(lake_home)
    for path in Path(EXTENSIONS).iterdir():
        if not path.name.startswith("ducklake."):
            (tmp_path / path.name).symlink_to(path)
    code, out, _ = ductstream("health", env={**Health(lake_home).env, "DUCTSTREAM_EXTENSIONS": str(tmp_path)})
    assert code == 2 and 'the extension "ducklake" is not at' in out and "extension ducklake           missing" in out, out
    (tmp_path / "ducklake.duckdb_extension").write_bytes(b"no extension")
    [(what, _)] = Health(lake_home).bad(DUCTSTREAM_EXTENSIONS=str(tmp_path)).items()
    assert "cannot be loaded" in what


def test_the_catalog_is_away(sqlite_lake, own_server, tmp_path):
    health = Health(LakeHome(f"postgres:{own_server.database('lake').dsn}", tmp_path / "data"))
    assert "no lake is there yet" in health()[0][1]
    own_server.stop()
    [(what, remedy)] = health.bad().items()
    assert "cannot connect" in what and "look whether its server runs" in remedy
    for catalog, said in (
        ("postgres:host=/nowhere dbname=x user=u password=planted", "cannot connect"),
        ("postgres:host=/nowhere password='planted", "cannot be parsed"),
        ("postgres://u:plan%ted@/nowhere", "cannot be"),
        ("postgre:host=/nowhere password=planted", "must be"),
        ("sqlite:", "must be"),
    ):
        found = Health(LakeHome(catalog, tmp_path / "data")).bad()
        assert len(found) == 1 and said in str(found) and "plan" not in str(found), found
    (tmp_path / "text").write_text("this is no database, and it is long enough to be looked at as one" * 20)
    [(what, _)] = Health(LakeHome(f"sqlite:{tmp_path}/text", tmp_path)).bad().items()
    assert "not a database" in what


def test_another_version(sqlite_lake):
    some_lake(sqlite_lake).close()
    with sqlite3.connect(sqlite_lake.sqlite_path) as db:
        db.execute("UPDATE ducklake_metadata SET value = '0.2' WHERE key = 'version'")
    [(what, remedy)] = Health(sqlite_lake).bad().items()
    assert 'DuckLake version "0.2"' in what and "migrate" in remedy
    with sqlite3.connect(sqlite_lake.sqlite_path) as db:
        db.execute("UPDATE ducklake_metadata SET value = '1.0' WHERE key = 'version'")
        db.execute("UPDATE ducklake_metadata SET value = 'true' WHERE key = 'encrypted'")
    [(what, _)] = Health(sqlite_lake).bad().items()
    assert "the lake is encrypted" in what


def test_settings_that_jobs_refuse(sqlite_lake, tmp_path):
    """Another data path than the catalog's; a folder of DuckDB's that is none."""
    some_lake(sqlite_lake).close()
    health = Health(sqlite_lake)
    assert {level for level, _, _ in health(DUCKLAKE_DATA_PATH=f"{sqlite_lake.data_path}/./")} == {"ok"}
    [(what, remedy)] = health.bad(DUCKLAKE_DATA_PATH=str(tmp_path)).items()
    assert "is not the catalog's own" in what and "DUCKLAKE_DATA_PATH" in remedy
    [(what, _)] = health.bad(DUCKDB_TEMP_DIRECTORY=f"{tmp_path}/none").items()
    assert "DUCKDB_TEMP_DIRECTORY" in what


def test_a_missing_schema(lake_home):
    some_lake(lake_home, ["raw", "silver"])
    assert ("warn", "schemas that are missing: bronze, gold") in [found[:2] for found in Health(lake_home)()]


def test_a_folder_that_cannot_be_written(sqlite_lake, tmp_path):
    disk = SmallDisk(tmp_path / "data", "8m")
    try:
        some_lake(sqlite_lake)
        subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True)
        bad = Health(sqlite_lake).bad()
        assert any("cannot be written: Read-only file system" in what for what in bad), bad
        assert any(what.startswith("rows cannot be written and read back") for what in bad), bad
        subprocess.run(["mount", "-o", "remount,rw", disk.path], check=True)
        little = [what for level, what, _ in Health(sqlite_lake)() if level == "warn"]
        assert len(little) == 1 and "MiB are free" in little[0]
    finally:
        disk.close()
    Path(sqlite_lake.data_path).rmdir()
    assert any("is not there" in what for what in Health(sqlite_lake).bad())


@pytest.mark.skipif(missing() is not None, reason=str(missing()))
def test_rights_in_a_bucket(s3, bucket, tmp_path):
    """Each of the four is named when it is missing, whatever becomes of the others; nothing stays."""
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", f"s3://{bucket}/lake/", s3=s3)
    try:
        some_lake(home)
        keys = s3.keys(bucket)
        env = dict(DUCKLAKE_S3_ENDPOINT=s3.endpoint, DUCKLAKE_S3_ACCESS_KEY=s3.access_key, DUCKLAKE_S3_SECRET_KEY=s3.secret_key)
        health = Health(home, **env)
        found = health()
        assert {level for level, _, _ in found} == {"ok"}, found
        assert {f"s3:{right} under s3://{bucket}/lake/" for right in ("ListBucket", "PutObject", "GetObject", "DeleteObject")} <= {
            what for _, what, _ in found
        }
        assert "✓ list, put, get and delete under" in ductstream("health", env={**health.env, "LC_ALL": "C.UTF-8"})[1]
        assert s3.keys(bucket) == keys and s3.uploads(bucket) == []

        name = "health" + bucket[-8:]
        s3.user(name, "planted secret")
        rights = ["s3:ListBucket", "s3:PutObject", "s3:GetObject", "s3:DeleteObject"]
        for right in rights:
            s3.allow(bucket, name, [other for other in rights if other != right], "lake/")
            bad = health.bad(DUCKLAKE_S3_ACCESS_KEY=name, DUCKLAKE_S3_SECRET_KEY="planted secret")
            told = [what for what in bad if "is missing under" in what]
            assert len(told) == 1 and told[0].startswith(f"{right} is missing under s3://{bucket}/lake/"), bad
            assert "planted" not in str(bad)
            s3.allow(bucket, name, rights, "lake/")
        bad = health.bad(DUCKLAKE_S3_SECRET_KEY="wrong one")
        assert any("the secret key is not that of" in what for what in bad) and "wrong one" not in str(bad)
        with s3.proxy() as proxy:
            for method, status, said in (
                ("PUT", 503, "s3:PutObject has failed"), ("GET", 500, "s3:GetObject has failed"), ("DELETE", 301, "s3:DeleteObject has failed"),
                ("GET", 200, "what was put comes back as something else"),
            ):  # fmt: skip
                proxy.fault = lambda r, of=method, status=status: Answer(status, b"<html>") if r.method == of else None
                bad = health.bad(DUCKLAKE_S3_ENDPOINT=proxy.endpoint)
                assert any(said in what and "look at the server" in remedy for what, remedy in bad.items()), bad
                assert not any("is missing" in what for what in bad), bad
            proxy.fault = lambda r: Answer(404, b"<Error><Code>NoSuchBucket</Code></Error>")
            bad = health.bad(DUCKLAKE_S3_ENDPOINT=proxy.endpoint)
        assert any(f'bucket "{bucket}" does not exist' in what for what in bad), bad
        [(what, remedy)] = health.bad(DUCKLAKE_S3_ENDPOINT="http://127.0.0.1:1").items()
        assert "Couldn't connect" in what and "DUCKLAKE_S3_ENDPOINT" in remedy and health.took < 10
        with Server(lambda sock: server.ended.wait()) as server:
            [(what, _)] = health.bad(DUCKLAKE_S3_ENDPOINT=server.url).items()
        assert "nothing came or went for 2000 ms" in what and health.took < (9 if not SANITIZED else 20)
    finally:
        home.close()


def test_who_has_the_sqlite_catalog(sqlite_lake):
    some_lake(sqlite_lake).close()
    sqlite_lake.close()
    health = Health(sqlite_lake)
    code = "import sqlite3, sys; db = sqlite3.connect(sys.argv[1], isolation_level=None); db.execute(sys.argv[2]); print('has it', flush=True); input()"
    for journal, begin in (("WAL", "BEGIN IMMEDIATE"), ("WAL", "BEGIN EXCLUSIVE"), ("DELETE", "BEGIN IMMEDIATE"), ("DELETE", "BEGIN EXCLUSIVE")):
        with sqlite3.connect(sqlite_lake.sqlite_path) as db:
            db.execute(f"PRAGMA journal_mode = {journal}")
        db.close()
        holder = subprocess.Popen(["python3", "-c", code, sqlite_lake.sqlite_path, begin], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert holder.stdout.readline() == "has it\n"
            name = Path(f"/proc/{holder.pid}/comm").read_text().strip()
            bad = health.bad()
            assert any(f"write lock is held by process {holder.pid} ({name})" in what for what in bad), (journal, begin, bad)
        finally:
            holder.communicate("\n", timeout=30)
        assert {level for level, _, _ in health()} == {"ok"}


def test_who_holds_up_the_postgres_catalog(postgres_lake, server):
    """A long transaction, one that others wait for, a strong lock, a prepared one: who, how long, what it blocks, what to do."""
    some_lake(postgres_lake)
    health = Health(postgres_lake)
    dsn = postgres_lake.catalog.removeprefix("postgres:")
    with psycopg.connect(dsn, application_name="dreamer") as idle:
        idle.execute("SELECT 1")
        assert {level for level, _, _ in health()} == {"ok"}
        wait_until(lambda: [f for f in health("--long", "1s") if f[0] == "warn"], 10, "it to be long")
        [(_, what, remedy)] = [found for found in health("--long", "1s") if found[0] == "warn"]
        assert f"session {idle.info.backend_pid} (" in what and "dreamer" in what and "idle in transaction" in what, what
        assert f"pg_terminate_backend({idle.info.backend_pid})" in remedy

        idle.execute("INSERT INTO ducklake_snapshot SELECT max(snapshot_id) + 1, now(), 0, 0, 0 FROM ducklake_snapshot")
        waiter = psycopg.connect(dsn, application_name="committer")
        waiter.autocommit = True
        waiter.pgconn.send_query(b"INSERT INTO ducklake_snapshot SELECT max(snapshot_id) + 1, now(), 0, 0, 0 FROM ducklake_snapshot")
        wait_until(lambda: any("; 1 has waited for it up to " in what for what in health.any()), 20, "somebody to wait")
        assert any("dreamer" in what and "transactionid lock" in what for what in health.bad())
        idle.rollback()
        waiter.close()

        idle.execute("LOCK TABLE ducklake_snapshot IN ACCESS EXCLUSIVE MODE")
        time_of_lock = time.monotonic()
        wait_until(lambda: time.monotonic() - time_of_lock > 1.1, 5, "the lock to be a second old")
        bad = health.bad()
        assert any("holds AccessExclusiveLock on ducklake_snapshot" in what and "dreamer" in what for what in bad), bad
        assert health.took < 5
        idle.rollback()
    with psycopg.connect(dsn) as gone:
        gone.execute("CREATE ROLE catalog_reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO catalog_reader")
    try:
        bad = Health(LakeHome(f"postgres:{dsn} user=catalog_reader", postgres_lake.data_path)).bad()
        assert any("the catalog cannot be written: " in what and "permission denied" in what for what in bad), bad
        with psycopg.connect(dsn) as gone:
            gone.execute("GRANT INSERT ON ducklake_metadata TO catalog_reader")
        bad = Health(LakeHome(f"postgres:{dsn} user=catalog_reader", postgres_lake.data_path)).bad()
        assert any("this role may not write ducklake_column, " in what for what in bad), bad
    finally:
        with psycopg.connect(dsn) as gone:
            gone.execute("DROP OWNED BY catalog_reader; DROP ROLE catalog_reader")
    standby = Health(LakeHome(f"postgres:{dsn} options='-c default_transaction_read_only=on'", postgres_lake.data_path))
    bad = standby.bad()
    assert any("standby" in remedy for remedy in bad.values()), bad
