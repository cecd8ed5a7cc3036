"""`ductstream copy`: Delta tables, a lake, and what the command said."""

import json
import os
import subprocess

from . import child
from .lake import OfficialLake
from .paths import program

FLAGS = "ducklake-data-modeling-copy-workflow=123;ducklake-data-imports-copy-workflow=123"
SCHEMA_ID = "a1b2c3d4-0000-4000-8000-00000000000f"


def delta_write(uri, table, mode="overwrite", **more):
    """A commit to a Delta table by the official package."""
    import deltalake

    deltalake.write_deltalake(str(uri), table, mode=mode, **more)


class Copies:
    """Copies into one lake. env: more variables."""

    def __init__(self, folder, catalog=None, data_path=None, s3=None, **env):
        self.folder, self.s3 = folder, s3
        self.catalog = catalog or f"sqlite:{folder}/lake.sqlite"
        self.data_path = data_path or f"{folder}/lake-data"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("DUCKLAKE_", "AWS_", "DUCTSTREAM_"))}
        self.env.update(
            DUCTSTREAM_STATE_PATH=f"{folder}/state.db",
            DUCTSTREAM_SECRET_KEY="00" * 32,
            DUCKLAKE_CATALOG=self.catalog,
            DUCKLAKE_DATA_PATH=str(self.data_path),
            DUCKLAKE_FEATURE_FLAGS=FLAGS,
        )
        if s3:
            self.env.update(
                DUCKLAKE_S3_ENDPOINT=s3.endpoint,
                DUCKLAKE_S3_ACCESS_KEY=s3.access_key,
                DUCKLAKE_S3_SECRET_KEY=s3.secret_key,
                DUCKLAKE_BUCKET_REGION=s3.region,
            )
        self.env.update(env)

    def words(self, *words):
        return [str(word) for word in (program(), "copy", *words, "--json")]

    def start(self, *words, **env):
        """The command, under way."""
        return child.popen(self.words(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**self.env, **env})

    def run(self, *words, timeout_s=120, **env):
        """The command's end: {"code", "state", "result", "error", "log"}; log: its lines."""
        process = self.start(*words, **env)
        out, err = process.communicate(timeout=timeout_s)
        said = [json.loads(line) for line in out.splitlines()]
        end = next((line for line in said if line["event"] == "end"), {"state": None, "result": None, "error": None})
        log = [line["text"] for line in said if line["event"] == "log"]
        return {**end, "code": process.returncode, "log": log, "stderr": err}

    def model(self, uri, name="my_saved_query", team=123, **env):
        return self.run("data-modeling", "--team-id", team, "--model", f"{name}={uri}", **env)

    def table(self, uri, name="my_saved_query", **env):
        """A copy that does well: its result for the table."""
        done = self.model(uri, name, **env)
        assert done["state"] == "succeeded", done
        return done["result"]["tables"][0]

    def lake(self):
        """An official client of the lake."""
        return OfficialLake(self.catalog, options="READ_ONLY", s3=self.s3, extensions=("delta",))

    def rows(self, sql):
        with self.lake() as lake:
            return lake.sql(sql)
