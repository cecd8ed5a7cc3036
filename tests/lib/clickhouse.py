"""A ClickHouse on loopback: its real engine behind HTTP (clickhouse_front.py), which writes to an S3Server without keys in any statement."""

import importlib.util
import socket
import sys
import urllib.error
import urllib.request
from pathlib import Path

from . import child
from .ports import free_port
from .wait import wait_until


def missing():
    """Why there is none here, or None; for skipif."""
    return None if importlib.util.find_spec("chdb") else "no ClickHouse engine: tools/setup --servers installs chdb"


class ClickHouse:
    def __init__(self, folder, s3=None):
        self.port = free_port()
        folder.mkdir(parents=True, exist_ok=True)
        self.log = folder / "log"
        keys = {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key} if s3 else {}
        with open(self.log, "ab") as log:
            self.process = child.popen(
                [sys.executable, "-P", Path(__file__).with_name("clickhouse_front.py"), self.port, folder / "data"],
                env={"PATH": "/usr/bin:/bin", **keys},
                stdout=log,
                stderr=log,
            )
        wait_until(self._listens, 60, "ClickHouse to listen")

    def _listens(self):
        assert self.process.poll() is None, self.log.read_text(errors="replace")[-2000:]
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", self.port)) == 0

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def _post(self, path, body=""):
        try:
            with urllib.request.urlopen(urllib.request.Request(self.url + path, data=body.encode(), method="POST"), timeout=120) as answer:
                return answer.read().decode()
        except urllib.error.HTTPError as error:
            raise AssertionError(error.read().decode()) from None

    def sql(self, statement):
        """Its rows, as lists of texts."""
        return [line.split("\t") for line in self._post("/", statement).splitlines()]

    def fail(self, code, times=1, part="INSERT INTO FUNCTION"):
        """The next statements with that text in them fail."""
        self._post(f"/fail?code={code}&times={times}&part={urllib.request.quote(part)}")

    def statements(self):
        with urllib.request.urlopen(self.url + "/statements", timeout=60) as answer:
            return answer.read().decode().split("\0")

    def close(self):
        self.process.kill()
        self.process.wait(timeout=30)


EVENTS = """CREATE TABLE IF NOT EXISTS events (uuid UUID, event String, properties String, timestamp DateTime64(6, 'UTC'), team_id Int64,
distinct_id String, elements_chain String, created_at DateTime64(6, 'UTC'), person_id UUID, person_created_at DateTime64(3), person_properties
String, group0_properties String, group1_properties String, group2_properties String, group3_properties String, group4_properties String,
group0_created_at DateTime64(3), group1_created_at DateTime64(3), group2_created_at DateTime64(3), group3_created_at DateTime64(3),
group4_created_at DateTime64(3), person_mode Enum8('full' = 0, 'propertyless' = 1, 'force_upgrade' = 2), historical_migration Bool)
ENGINE = MergeTree PARTITION BY toYYYYMM(timestamp) ORDER BY (team_id, toDate(timestamp), event)"""
PERSONS = """CREATE TABLE IF NOT EXISTS person (id UUID, created_at DateTime64(3), team_id Int64, properties String, is_identified Int8,
is_deleted Int8, version UInt64, _timestamp DateTime) ENGINE = ReplacingMergeTree(version) ORDER BY (team_id, id)"""
DISTINCT_IDS = """CREATE TABLE IF NOT EXISTS person_distinct_id2 (team_id Int64, distinct_id String, person_id UUID, is_deleted Int8,
version Int64, _timestamp DateTime) ENGINE = ReplacingMergeTree(version) ORDER BY (team_id, distinct_id)"""


def put_events(clickhouse, team, day, rows):
    """ROWS events over the whole of a day, the last in its last microsecond."""
    clickhouse.sql(
        f"INSERT INTO events SELECT generateUUIDv4(), if(number % 2, 'click', 'view'), '{{}}', "
        f"if(number = {rows} - 1, toDateTime64('{day} 23:59:59.999999', 6, 'UTC'), toDateTime64('{day} 00:00:00', 6, 'UTC') + "
        f"toIntervalSecond(intDiv(number * 86400, {rows}))), {team}, 'd' || toString(number % 7), '', now64(6), generateUUIDv4(), now64(3), "
        f"'', '', '', '', '', '', 0, 0, 0, 0, 0, 'full', false FROM numbers({rows})"
    )
