"""kill -9 of consumers, of their server and of the flow that writes: no message is lost, none is with two consumers at once
(issue 5, point 8)."""

import json
import random
import signal

import pytest

from lib.flow import Flow
from lib.pause import overtaken
from lib.stream import Stream, finish, judge, read_claims
from lib.wait import wait_until
from lib.workload import SCHEMA, TABLES, Workload, touch_all

KILLED = -signal.SIGKILL


def flow_to_stream(tmp_path, database, sink, **options):
    return Flow(
        tmp_path / "flow",
        "shop",
        {"dsn": database.dsn, "slot": database.name, "publication": "shop", "status_interval": "200ms"},
        [{"name": "orders", "type": "pgstream", "options": {"dsn": sink.dsn, **options}}],
    )


def events(database, stream="orders"):
    return database.query(
        "SELECT e.id, e.lsn, e.operation, e.table_name, e.payload, e.end_offset FROM ductstream.stream_events e "
        f"JOIN ductstream.streams s USING (stream_id) WHERE s.name = '{stream}' ORDER BY e.id"
    )


def replayed(rows):
    """What the tables are when the messages are applied in their order: a doubled or lost one breaks it."""
    tables = {name: {} for name in TABLES}
    for number, (i, _, operation, table, payload, _) in enumerate(rows, 1):
        assert i == number, "ids have no gaps"
        (record,) = json.loads(bytes(payload))["Records"]
        rows_of = tables[table]
        after = record["After"]
        if operation == "ddl":
            rows_of.clear()
        elif operation == "delete":
            del rows_of[record["Before"]["id"]]
        elif operation in ("insert", "load"):
            assert after["id"] not in rows_of, f"message {i} inserts {after} a second time"
            rows_of[after["id"]] = after
        else:
            old = record["Before"]["id"] if record["Before"] else after["id"]
            rows_of[after["id"]] = {**rows_of.pop(old), **after}
    return tables


def assert_whole(database, sink, flow):
    flow.run_until_caught_up()
    touch_all(database)
    flow.run_until_caught_up()
    rows = events(sink)
    tables = replayed(rows)
    for table in TABLES:
        (found,) = database.query(f"SELECT coalesce(json_object_agg(id, row_to_json(t)), '{{}}') FROM {table} t")
        assert tables[table] == {int(key): value for key, value in found[0].items()}, table
    assert rows[-1][5] == sum(len(row[4]) for row in rows)
    lsns = [row[1] for row in rows]
    as_number = [tuple(int(part, 16) for part in str(lsn).split("/")) for lsn in lsns]
    assert as_number == sorted(as_number)


@pytest.fixture
def sink(server, database):
    """The database that the stream is in."""
    return server.database("stream_" + database.name)


@pytest.fixture
def streaming(tmp_path, database, sink):
    database.sql(SCHEMA)
    flow = flow_to_stream(tmp_path, database, sink)
    flow.run_until_caught_up()
    yield database, sink, flow
    flow.close()


@pytest.mark.parametrize("point", ["commit-begin", "rows-sent", "commit-sent", "commit-done", "epoch-raised"])
def test_kill_at_commit_boundary(streaming, point):
    database, sink, flow = streaming
    for n in (1,) if point == "epoch-raised" else (1, 2, 5):
        with Workload(database, seed=n):
            run = flow.start(env={"DUCT_KILL_POINT": f"{point}:{n}"})
            assert run.wait(30) == KILLED, run.describe()
    assert_whole(database, sink, flow)


@pytest.mark.parametrize("point", ["commit-begin", "rows-sent", "commit-sent", "commit-done"])
def test_kill_in_the_first_copy(tmp_path, database, sink, point):
    database.sql(SCHEMA)
    flow = flow_to_stream(tmp_path, database, sink)
    run = flow.start(env={"DUCT_KILL_POINT": f"{point}:1"})
    assert run.wait(30) == KILLED, run.describe()
    assert_whole(database, sink, flow)
    flow.close()


def test_kill_inside_a_large_transaction(streaming):
    """Parts of it were sent; all of it comes, once."""
    database, sink, flow = streaming
    database.sql("INSERT INTO side (body, n) SELECT repeat(md5(i::text), 20), i FROM generate_series(1, 30000) i")
    for n in (1, 3):
        run = flow.start(env={"DUCT_KILL_POINT": f"group-sent:{n}"})
        assert run.wait(60) == KILLED, run.describe()
    assert_whole(database, sink, flow)


def test_kill_at_random_moments(streaming):
    database, sink, flow = streaming
    seed = random.randrange(10**6)
    pick = random.Random(seed)
    with Workload(database, seed=seed) as load:
        for _ in range(15):
            before = load.committed
            run = flow.start()
            run.let_run(pick.uniform(0.05, 0.5))
            assert run.running, f"seed {seed}: ended by itself\n{run.describe()}"
            run.kill()
            wait_until(lambda: load.committed > before, 10, "the workload to go on")
    assert_whole(database, sink, flow)


def test_a_frozen_owner_commits_nothing_more(streaming, tmp_path):
    """SIGSTOP inside its transaction: another takes over at once, and the old one ends when it wakes."""
    database, sink, flow = streaming
    frozen = overtaken(flow, database, tmp_path, "rows-sent")
    assert frozen.code == 1, frozen.describe()
    assert "taken over by another process" in frozen.stderr
    assert_whole(database, sink, flow)


def test_kill_of_consumers(database, tmp_path):
    """Consumers die all the time, some hold messages for longer than they may."""
    stream, n = Stream(database), 20000
    stream.fill(n)
    pick = random.Random(7)
    logs = []

    def start():
        logs.append(tmp_path / f"log-{len(logs)}")
        how = pick.choice([(), ("--by-ids",), ("--hold-ms", "1500"), ("--singly", "--max", "7")])
        return stream.consume("--consumers", "2", "--max", "100", "--visible", "1", "--wait-ms", "2500", *how, log=logs[-1])

    running = [start() for _ in range(3)]
    for _ in range(20):
        victim = pick.randrange(len(running))
        try:
            running[victim].wait(timeout=pick.uniform(0.05, 0.4))
        except Exception:
            pass
        running[victim].kill()
        running[victim].communicate()
        running[victim] = start()
    for consumer in running:
        finish(consumer)
    wrong, unknown = judge(read_claims(*logs), n)
    assert not wrong
    assert stream.lag()["messages"] == 0, "every message was acknowledged"
    # Unknown are only those whose consumer was killed between its ack and its note.
    assert len(unknown) <= 2 * 100 * 20


def test_kill_of_the_server(own_server, tmp_path):
    """What was handed out and what was acknowledged survive: fsync is on."""
    own_server.stop()
    with open(own_server.data / "postgresql.conf", "a") as conf:
        conf.write("fsync = on\n")
    own_server.start()
    database = own_server.database("streams")
    stream, n = Stream(database), 20000
    stream.fill(n)
    logs = []
    for _ in range(4):
        log = tmp_path / f"log-{len(logs)}"
        logs.append(log)
        consumer = stream.consume("--consumers", "4", "--max", "20", "--visible", "2", "--hold-ms", "20", log=log)
        wait_until(lambda: log.exists() and log.stat().st_size > 20000, 30, "consumers to work")
        own_server.kill()
        consumer.communicate(timeout=60)
        own_server.start()
    logs.append(tmp_path / "last")
    finish(stream.consume("--consumers", "4", "--wait-ms", "3000", log=logs[-1]))
    wrong, unknown = judge(read_claims(*logs), n)
    assert not wrong
    assert stream.lag()["messages"] == 0
