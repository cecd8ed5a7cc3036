"""Streams inside a Postgres: made without a flow, consumed by SQL or by bench/consume, and judged by what consumers wrote down."""

import json
import os
import subprocess
from collections import defaultdict
from dataclasses import dataclass, field

from . import child
from .paths import ROOT, SANITIZED, checked

FILES = sorted((ROOT / "sql" / "stream").glob("*.sql"))
FILL = """
WITH stream AS (SELECT stream_id FROM ductstream.streams WHERE name = %(stream)s),
head AS (SELECT h.* FROM ductstream.stream_heads h JOIN stream USING (stream_id)),
event AS (
    SELECT h.stream_id, h.last_id + i AS id, ('0/0'::pg_lsn + ((h.last_id + i) * 16)::numeric) AS lsn,
        decode(rpad(to_hex(h.last_id + i), %(bytes)s::int * 2, '0'), 'hex') AS payload,
        CASE WHEN %(keys)s::int8 > 0 THEN (h.last_id + i) %% %(keys)s::int8 END AS key, h.end_offset + i * %(bytes)s::int8 AS end_offset
    FROM head h, generate_series(1, %(n)s::int8) i),
added AS (
    INSERT INTO ductstream.stream_events (id, lsn, created_at, end_offset, key_hash, stream_id, operation, namespace, table_name,
        wire_format, payload)
    SELECT id, lsn, clock_timestamp(), end_offset, key, stream_id, 'insert', 'public', 't', 'json', payload FROM event RETURNING 1)
UPDATE ductstream.stream_heads h SET last_id = h.last_id + %(n)s::int8, end_offset = h.end_offset + %(n)s::int8 * %(bytes)s::int8
FROM stream WHERE h.stream_id = stream.stream_id
"""


def make_schema(database):
    database.sql("CREATE SCHEMA ductstream; CREATE TABLE ductstream.stream_version (version int PRIMARY KEY, applied_at timestamptz)")
    for number, file in enumerate(FILES, 1):
        database.sql(file.read_text())
        database.sql(f"INSERT INTO ductstream.stream_version VALUES ({number}, now())")


class Stream:
    """A stream without a flow. fill() appends events; the other methods are one consumer after another."""

    def __init__(self, database, name="orders", **options):
        self.database, self.name = database, name
        if database.value("SELECT to_regclass('ductstream.stream_version') IS NULL"):
            make_schema(database)
        columns = ["name", *options]
        with database.connect() as connection:
            connection.execute(
                f"INSERT INTO ductstream.streams ({', '.join(columns)}) VALUES ({', '.join(['%s'] * len(columns))})",
                [name, *options.values()],
            )
        database.sql(f"INSERT INTO ductstream.stream_heads SELECT stream_id FROM ductstream.streams WHERE name = '{name}'")
        self.id = database.value(f"SELECT stream_id FROM ductstream.streams WHERE name = '{name}'")

    def fill(self, n, payload_bytes=100, keys=0):
        with self.database.connect() as connection:
            connection.execute(FILL, {"stream": self.name, "n": n, "bytes": payload_bytes, "keys": keys})

    def _call(self, function, *values):
        with self.database.connect() as connection:
            places = ", ".join(["%s"] * len(values))
            return connection.execute(f"SELECT * FROM ductstream.{function}({places})", values).fetchall()

    def pull(self, group="g", most=100, visible=30, most_bytes=1 << 30):
        """(claim, ids, attempts of each)"""
        rows = self._call("stream_pull", self.name, group, most, most_bytes, visible, "test")
        ids = {i: attempts for _, _, _, first, last, attempts in rows for i in range(first, last + 1)}
        assert len({row[0] for row in rows}) <= 1
        return (rows[0][0] if rows else None), sorted(ids), [ids[i] for i in sorted(ids)]

    def ack(self, claim=None, ids=None, group="g"):
        """As stream_ack() of src/stream does it."""
        named = ranges(ids)
        acked = self._call("stream_ack", self.name, group, claim, named)[0][0]
        if ids is not None and acked < len(set(ids)):
            acked += self._call("stream_settle", self.name, group, claim, named, "ack", 0, None)[0][0]
        return acked

    def settle(self, action, claim=None, ids=None, seconds=0, reason=None, group="g"):
        """(settled, dead)"""
        return self._call("stream_settle", self.name, group, claim, ranges(ids), action, seconds, reason)[0][:2]

    def replay(self, from_lsn=None, since=None, group="g"):
        return self._call("stream_replay", self.name, group, from_lsn, since)[0][0]

    def redrive(self, ids=None, again=True, group="g"):
        return self._call("stream_redrive", self.name, group, ranges(ids), again)[0][0]

    def configure(self, ordered=None, max_attempts=None, start="beginning", group="g"):
        self._call("stream_configure_group", self.name, group, ordered, max_attempts, start)

    def lag(self, group="g"):
        names = ("name", "next_id", "ordered", "max_attempts", "created_at", "used_at", "messages", "bytes", "seconds", "in_flight")
        return dict(zip((*names, "waiting", "dead"), self._call("stream_list_groups", self.name, group)[0]))

    def dead(self, group="g"):
        return self.database.query(
            "SELECT l.id, l.attempts, l.reason FROM ductstream.stream_dead_letters l JOIN ductstream.stream_groups g USING (group_id) "
            f"WHERE g.stream_id = {self.id} AND g.name = '{group}' ORDER BY 1"
        )

    def retain(self):
        self._call("stream_retain", self.id)
        while self._call("stream_trim", self.id, 100)[0][0] == 100:
            pass

    def ids(self):
        return [row[0] for row in self.database.query(f"SELECT id FROM ductstream.stream_events WHERE stream_id = {self.id} ORDER BY 1")]

    def consume(self, *args, group="g", log=None, **options):
        """Starts bench/consume."""
        command = [consume_program(), "--dsn", self.database.dsn, "--stream", self.name, "--group", group, *args]
        if log:
            command += ["--log", log]
        return child.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


def ranges(ids):
    return None if ids is None else "{" + ",".join(f"[{i},{i}]" for i in ids) + "}"


def consume_program():
    built = ROOT / "build" / "bench" / "consume"
    return checked("bench/consume") if SANITIZED or not built.exists() else built


def finish(process, timeout_s=120):
    """What a consumer printed."""
    out, err = process.communicate(timeout=timeout_s)
    assert process.returncode == 0, err
    return json.loads(out)


# --- what consumers wrote down ---


@dataclass
class Claim:
    begin_us: int
    until_us: int
    ids: dict  # id -> attempts
    ended: dict = field(default_factory=dict)  # id (0: all) -> last letter of the log


def read_claims(*logs):
    claims = {}
    for log in logs:
        for line in log.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue  # its writer was killed
            words = line.split()
            if words[0] == "P":
                ids = dict(map(int, word.split(":")) for word in words[4:])
                claims[words[1]] = Claim(int(words[2]) - int(words[3]) * 1000000, int(words[2]), ids)
            else:
                claim = claims[words[1]]
                count, which = int(words[3]), int(words[2])
                claim.ended[which] = (words[0], count)
    return claims


def judge(claims, n):
    """What is wrong: two that hold a message at once, one handed out again after its acknowledgement, one that was never acknowledged.
    All times are the server's. A pull that nobody wrote down (its consumer was killed) is not among the claims."""
    wrong, holders = [], defaultdict(list)
    for name, claim in claims.items():
        for i in claim.ids:
            letter, count = claim.ended.get(i) or claim.ended.get(0) or ("", 0)
            whole = len(claim.ids) if 0 in claim.ended else 1
            state = {"A": "acked" if count == whole else "perhaps", "a": "perhaps", "N": "given", "n": "given"}.get(letter, "")
            holders[i].append((claim.begin_us, claim.until_us, state, name))
    for i in range(1, n + 1):
        turns = sorted(holders[i])
        for one, other in zip(turns, turns[1:]):
            if one[2] == "acked":
                wrong.append(f"{i} was handed out again after it was acknowledged: {one} {other}")
            elif one[2] != "given" and other[0] < one[1]:
                wrong.append(f"{i} was with two at once: {one} {other}")
        if sum(turn[2] == "acked" for turn in turns) > 1:
            wrong.append(f"{i} was acknowledged twice: {turns}")
    unknown = [i for i in range(1, n + 1) if not any(turn[2] == "acked" for turn in holders[i])]
    return wrong, unknown
