"""`ductstream ingest`: a lake, files that say what to do, and what the command said."""

import os
import subprocess
from datetime import datetime, timedelta, timezone

from .cli import ductstream, lines
from .paths import ROOT, program

EXAMPLE = ROOT / "examples" / "ingest" / "nightscout.yaml"


def entry(number, when, sgv=100):
    return {
        "_id": f"{number:024x}",
        "sgv": sgv,
        "date": int(when.timestamp() * 1000),
        "dateString": when.strftime("%Y-%m-%dT%H:%M:%S.") + f"{when.microsecond // 1000:03d}Z",
        "trend": 4,
        "direction": "Flat",
        "device": "share2",
        "type": "sgv",
        "utcOffset": 0,
    }


def day(date, n=100, first=0):
    start = datetime.fromisoformat(date).replace(tzinfo=timezone.utc)
    return [entry(first + i, start + timedelta(seconds=i * 86400 // n), 60 + i % 200) for i in range(n)]


class Ingest:
    def __init__(self, home, folder):
        self.home, self.folder = home, folder
        self.env = {
            **os.environ,
            "DUCKLAKE_CATALOG": home.catalog,
            "DUCKLAKE_DATA_PATH": str(home.data_path),
            "DUCTSTREAM_STATE_PATH": str(folder / "state.sqlite"),
        }
        if home.s3:
            self.env.update(
                DUCKLAKE_S3_ENDPOINT=home.s3.endpoint,
                DUCKLAKE_S3_ACCESS_KEY=home.s3.access_key,
                DUCKLAKE_S3_SECRET_KEY=home.s3.secret_key,
            )

    def file(self, text, name="source.yaml"):
        path = self.folder / name
        path.write_text(text)
        return path

    def run(self, *words, **env):
        """The results, one per partition; the command must succeed."""
        code, out, err = ductstream("ingest", *words, "--json", env={**self.env, **env})
        assert code == 0, out + err
        return [line["result"] for line in lines(out) if line["event"] == "end"]

    def fails(self, *words, code, **env):
        """What the command says when it fails with this exit code."""
        got, out, err = ductstream("ingest", *words, env={**self.env, **env})
        assert got == code, (got, out, err)
        return err

    def start(self, *words, new_session=False, **env):
        return subprocess.Popen(
            [str(word) for word in (program(), "ingest", *words)],
            env={**self.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=new_session,
            text=True,
        )

    def rows(self, sql):
        with self.home.open() as lake:
            return lake.sql(sql)


def records(items):
    """A server's answer: always these."""
    return lambda request: (200, {}, items)


def rest(url, more="", into="raw.t"):
    """A source's file."""
    return f"into: {into}\nurl: {url}/items\n{more}"
