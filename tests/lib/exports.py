"""Teams whose days `ductstream backfill` brings from a ClickHouse into lakes of their own."""

import json
import os
import subprocess
from contextlib import closing

from . import child
from .cli import ductstream, lines
from .clickhouse import DISTINCT_IDS, EVENTS, PERSONS, ClickHouse
from .lake import OfficialLake
from .paths import program

EVENTS_JOB, PERSONS_JOB = "duckling_events_backfill_job", "duckling_persons_backfill_job"


def exports_server(folder, s3):
    """A ClickHouse with the tables that are exported; to be closed."""
    server = ClickHouse(folder, s3)
    for table in (EVENTS, PERSONS, DISTINCT_IDS):
        server.sql(table)
    return closing(server)


class Team:
    """A team with a bucket and a lake of its own, and the commands that fill it."""

    next_id = 100

    def __init__(self, tmp_path, catalog, s3, bucket, clickhouse):
        Team.next_id += 1
        self.id, self.catalog, self.s3, self.bucket, self.clickhouse = Team.next_id, catalog, s3, bucket, clickhouse
        self.registry = tmp_path / "ducklings.yaml"
        self.registry.write_text(
            f"- team_id: {self.id}\n  bucket: {bucket}\n  bucket_region: us-east-1\n  endpoint: {s3.endpoint}\n  catalog: \"{catalog}\"\n"
        )
        self.env = {
            **os.environ,
            "DUCTSTREAM_STATE_PATH": str(tmp_path / "state.db"),
            "DUCTSTREAM_SECRET_KEY": "00" * 32,
            "DUCTSTREAM_DUCKLINGS": str(self.registry),
            "DUCTSTREAM_EXPORT_RETRY_WAIT_MS": "50",
            "DUCTSTREAM_RUN_LEASE": "10s",  # a run of a sensor has one attempt, which a disk that stands still must not cost
            "CLICKHOUSE_URL": clickhouse.url,
            "AWS_ACCESS_KEY_ID": s3.access_key,
            "AWS_SECRET_ACCESS_KEY": s3.secret_key,
        }

    def run(self, key, job=EVENTS_JOB, config=None, code=0, **env):
        """The result of a run and what was said; CODE: with which it ends."""
        found, out, err = ductstream(
            "backfill", "run", "--job", job, "--partition", f"{self.id}{key}", "--config", json.dumps(config or {}), "--json",
            env={**self.env, **env}, timeout_s=120,
        )  # fmt: skip
        assert found == code, out + err
        said = lines(out)
        return (said[-1]["result"] if said else None), out + err

    def kill(self, key, after_s, job=EVENTS_JOB):
        """Starts a run, and kills it and its child at that moment, if it is not over by then."""
        words = ["backfill", "run", "--job", job, "--partition", f"{self.id}{key}"]
        run = child.popen([program(), *words], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            run.wait(timeout=after_s)
        except subprocess.TimeoutExpired:
            run.kill()
            run.wait()

    def lake(self):
        return OfficialLake(self.catalog, s3=self.s3)

    def files(self):
        return self.s3.keys(self.bucket, "backfill/")
