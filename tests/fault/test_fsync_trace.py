"""What the kernel saw: files are durable before the catalog names them, the slot hears of nothing before the catalog has it,
and nobody but libsqlite3 opens a SQLite catalog."""

import os
import re
import struct
from pathlib import Path

import pytest

from lib.strace import Trace, available
from lib.workload import SCHEMA, Workload

pytestmark = pytest.mark.skipif(not available(), reason="strace is not installed")

CALLS = "fsync,fdatasync,mkdir,mkdirat,sendto,recvfrom,pwrite64,write,unlink,rename"
FILE = re.compile(rb"ducklake-[0-9a-f-]{36}(?:-delete)?\.parquet")
COMMIT_DONE = b"C\0\0\0\x0bCOMMIT\0"


@pytest.fixture
def traced(database, lake_home, make_flow, tmp_path):
    """The calls of one run that copies and one that streams under load."""
    database.sql(SCHEMA)
    # Most commits make files, small ones are inlined and soon flushed.
    options = {"flush_interval": "50ms", "inline_rows": 2, "inline_flush_rows": 4}
    flow = make_flow(database, lake_home, source={"status_interval": "100ms"}, destination=options)
    traces = []
    for number in (1, 2):
        trace = Trace(tmp_path / f"trace-{number}", CALLS)
        run = flow.start(*(["--until-caught-up"] if number == 1 else []), wrapper=trace.wrapper)
        if number == 2:
            with Workload(database, seed=3):
                run.wait_for(lambda: len(list(lake_home.data_path.rglob("*.parquet"))) > 60, 60, "60 files")
            database.server.wait_confirmed("shop", database.server.lsn())
            os.kill(child_of(run.pid), 15)
        run.expect(0)
        traces.append(trace.calls())
    return traces


def child_of(pid):
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def synced(calls):
    """Path -> when the last fsync of it had ended, for each event: a list of (path, ended)."""
    return [(call.fd, call.ended) for call in calls if call.name in ("fsync", "fdatasync") and call.result == 0]


def was_synced(syncs, path, after, before):
    return any(synced_path == path and after <= ended < before for synced_path, ended in syncs)


def check_files(calls, names, data_path, moment):
    """Every file of NAMES, its folder, and the parents of folders made by us are durable at MOMENT."""
    syncs = synced(calls)
    for name in names:
        writes = [c for c in calls if c.name in ("write", "pwrite64") and c.fd and c.fd.endswith(name) and c.began < moment]
        assert writes, f"{name} is named before it is written"
        path, last = writes[-1].fd, writes[-1].ended
        assert was_synced(syncs, path, last, moment), f"{path} was named without fsync"
        folder = os.path.dirname(path)
        assert was_synced(syncs, folder, writes[0].began, moment), f"{folder} was not synced after {name} was made in it"
        while folder != str(data_path) and len(folder) > len(str(data_path)):
            made = [c for c in calls if c.name.startswith("mkdir") and c.result == 0 and c.path.rstrip("/") == folder]
            folder = os.path.dirname(folder)
            if made and made[0].began < moment:
                assert was_synced(syncs, folder, made[0].ended, moment), f"{folder} was not synced after mkdir in it"


def feedbacks(calls):
    """(flushed position, when it was sent) of every status message."""
    for call in calls:
        if call.name == "sendto" and re.match(rb"d\0\0\0&r", call.data):
            yield struct.unpack(">Q", call.data[14:22])[0], call.began


def postgres_commits(calls):
    """(names, position, when its end was sent, when its success came) of every commit string."""
    parts = {}
    waiting = {}
    found = []
    for call in calls:
        if call.name == "sendto" and call.result and call.result > 0:
            text = parts.get(call.fd, b"") + call.data[: call.result]
            parts[call.fd] = text
            if b"ductstream_checkpoint" in text and b"COMMIT\0" in text:
                position = re.search(rb"lsn = (\d+)", text)
                names = {name.decode() for name in FILE.findall(text)}
                waiting[call.fd] = (names, int(position[1]) if position else 0, call.began)
                parts[call.fd] = b""
        elif call.name == "recvfrom" and call.result and call.result > 0:
            if call.fd in waiting and COMMIT_DONE in call.data:
                found.append((*waiting.pop(call.fd), call.ended))
            if call.fd not in waiting:
                parts[call.fd] = b""
    return found


def sqlite_writes(calls):
    """(data written to the WAL, when, when the next fsync of the WAL had ended)."""
    wal = [call for call in calls if call.fd and call.fd.endswith("lake.sqlite-wal")]
    syncs = [call.ended for call in wal if call.name in ("fsync", "fdatasync") and call.result == 0]
    for call in wal:
        if call.name in ("pwrite64", "write"):
            yield call.data, call.began, next((ended for ended in syncs if ended > call.began), None)


@pytest.mark.parametrize("lake_home", ["postgres"], indirect=True)
def test_order_on_postgres(traced, lake_home):
    named = 0
    confirmed = 0
    done = {}
    for calls in traced:
        commits = postgres_commits(calls)
        assert commits
        for names, _, sent, _ in commits:
            check_files(calls, names, lake_home.data_path, sent)
            named += len(names)
        done = {**dict.fromkeys(done, 0), **{position: ended for _, position, _, ended in commits}}
        for flushed, sent in feedbacks(calls):
            if flushed:
                assert flushed in done, f"{flushed:X} was confirmed and is nobody's commit"
                assert done[flushed] < sent, f"{flushed:X} was confirmed before its commit had succeeded"
                confirmed += 1
    assert named > 20 and confirmed > 3


def integer(value):
    """As SQLite stores it."""
    for size in (1, 2, 3, 4, 6, 8):
        if value < 1 << (8 * size - 1):
            return value.to_bytes(size, "big")
    raise ValueError(value)


@pytest.mark.parametrize("lake_home", ["sqlite"], indirect=True)
def test_order_on_sqlite(traced, lake_home):
    named = set()
    confirmed = 0
    before = []
    for calls in traced:
        writes = list(sqlite_writes(calls))
        for data, began, _ in writes:
            names = {name.decode() for name in FILE.findall(data)} - named
            check_files(calls, names, lake_home.data_path, began)
            named |= names
        for flushed, sent in feedbacks(calls):
            if flushed:
                durable = [data for data, _, ended in writes if ended and ended < sent]
                stored = any(integer(flushed) in data for data in before + durable)
                assert stored, f"{flushed:X} was confirmed before it was durable in the catalog"
                confirmed += 1
        before += [data for data, _, _ in writes]
    assert len(named) > 20 and confirmed > 3


def test_only_sqlite_opens_the_catalog(database, sqlite_lake, make_flow, tmp_path):
    """Any other open and close of the file in our process would drop libsqlite3's locks."""
    database.sql(SCHEMA)
    flow = make_flow(database, sqlite_lake)
    trace = Trace(tmp_path / "trace", "open,openat,creat", stacks=True)
    catalog = sqlite_lake.catalog.removeprefix("sqlite:")
    for _ in range(2):
        database.sql("INSERT INTO side (body, n) VALUES ('x', 1)")
        flow.start("--until-caught-up", wrapper=trace.wrapper).expect(0)
        opens = [call for call in trace.calls() if call.data.startswith(catalog.encode()) and b".ductstream" not in call.data]
        assert {call.path for call in opens} >= {catalog, catalog + "-wal", catalog + "-shm"}
        for call in opens:
            ours = [frame for frame in call.frames if "/libc" not in frame and "/libpthread" not in frame]
            assert ours and "libsqlite3" in ours[0], f"{call.path} was opened by {call.frames[:4]}"
