"""kill -9 of the sender and of the receiver of a `grpc` destination, lost answers, two senders: nothing is lost, nothing comes twice
(issue 5, point 1)."""

import json
import random
import signal

import pytest

from lib.api import Server, free_port
from lib.flow import Flow
from lib.pause import overtaken
from lib.receiver import Receiver, replayed
from lib.wait import wait_until
from lib.workload import SCHEMA, TABLES, Workload, touch_all

KILLED = -signal.SIGKILL
QUICK = {"max_retries": 1, "backoff_base": "20ms", "timeout": "5s"}


class DuctStream:
    """A DuctStream that receives, at one port for all its lives."""

    def __init__(self, folder, place):
        self.folder, self.place, self.port, self.server = folder, place, free_port(), None
        folder.mkdir()

    def start(self, **kill):
        settings = {"GRPC_LISTEN": f"127.0.0.1:{self.port}", "INGEST_DSN": self.place.dsn}
        self.server = Server(self.folder, more_env=kill, **settings).ready()
        return self

    def kill(self):
        self.server.kill()

    def records(self):
        rows = self.place.query(
            "SELECT e.id, e.payload FROM ductstream.stream_events e JOIN ductstream.streams s USING (stream_id) WHERE s.name = 'orders' "
            "ORDER BY e.id"
        )
        assert [row[0] for row in rows] == list(range(1, len(rows) + 1)), "ids have no gaps"
        return [(r["Table"], r["Operation"], r) for row in rows for r in json.loads(bytes(row[1]))["Records"]]


def flow_to(tmp_path, database, port, **options):
    return Flow(
        tmp_path / "flow",
        "shop",
        {"dsn": database.dsn, "slot": database.name, "publication": "shop", "status_interval": "200ms"},
        [{"name": "orders", "type": "grpc", "options": {"endpoint": f"localhost:{port}", **QUICK, **options}}],
    )


def assert_whole(database, flow, records):
    flow.run_until_caught_up()
    touch_all(database)
    flow.run_until_caught_up()
    tables = replayed(records(), TABLES)
    for table in TABLES:
        (found,) = database.query(f"SELECT coalesce(json_object_agg(id, row_to_json(t)), '{{}}') FROM {table} t")
        assert tables[table] == {int(key): value for key, value in found[0].items()}, table


@pytest.fixture
def receiver(tmp_path, server, database):
    running = DuctStream(tmp_path / "receiver", server.database("ingest_" + database.name)).start()
    yield running
    running.kill()


@pytest.fixture
def streaming(tmp_path, database, receiver):
    database.sql(SCHEMA)
    flow = flow_to(tmp_path, database, receiver.port)
    flow.run_until_caught_up()
    yield database, receiver, flow
    flow.close()


@pytest.mark.parametrize("point", ["commit-begin", "commit-sent", "commit-done", "epoch-raised"])
def test_the_sender_is_killed(streaming, point):
    database, receiver, flow = streaming
    for n in (1,) if point == "epoch-raised" else (1, 3):
        with Workload(database, seed=n):
            run = flow.start(env={"DUCT_KILL_POINT": f"{point}:{n}"})
            assert run.wait(30) == KILLED, run.describe()
    assert_whole(database, flow, receiver.records)


@pytest.mark.parametrize("point", ["group-sent", "commit-begin", "commit-sent", "commit-done"])
def test_the_sender_is_killed_in_the_first_copy(tmp_path, database, receiver, point):
    """The second commit is the copy's: the first says that one begins."""
    database.sql(SCHEMA)
    flow = flow_to(tmp_path, database, receiver.port)
    run = flow.start(env={"DUCT_KILL_POINT": f"{point}:{1 if point == 'group-sent' else 2}"})
    assert run.wait(30) == KILLED, run.describe()
    assert_whole(database, flow, receiver.records)
    flow.close()


def test_the_sender_is_killed_inside_a_large_transaction(streaming):
    """Parts of it are at the receiver; all of it comes, once, and nobody sees a part."""
    database, receiver, flow = streaming
    before = len(receiver.records())
    database.sql("INSERT INTO side (body, n) SELECT repeat(md5(i::text), 20), i FROM generate_series(1, 30000) i")
    for n in (1, 4):
        run = flow.start(env={"DUCT_KILL_POINT": f"group-sent:{n}"})
        assert run.wait(60) == KILLED, run.describe()
        assert len(receiver.records()) == before
    assert_whole(database, flow, receiver.records)


@pytest.mark.parametrize("point", ["ingest-begin", "ingest-part", "ingest-done"])
def test_the_receiver_is_killed(streaming, point):
    """Before it has sent a batch to its Postgres, between parts, and after the commit that nobody was told of."""
    database, receiver, flow = streaming
    receiver.kill()
    receiver.start(DUCT_KILL_POINT=f"{point}:3")
    with Workload(database, seed=5) as load:
        run = flow.start()
        killed = receiver.server
        wait_until(lambda: killed.process.poll() is not None, 60, "the receiver to be killed")
        receiver.kill()
        receiver.start()
        before = load.committed
        wait_until(lambda: load.committed > before, 10, "the workload to go on")
    assert run.running, run.describe()
    run.kill()
    assert_whole(database, flow, receiver.records)


def test_both_are_killed_at_random_moments(streaming):
    database, receiver, flow = streaming
    seed = random.randrange(10**6)
    pick = random.Random(seed)
    with Workload(database, seed=seed) as load:
        for turn in range(8):
            before = load.committed
            run = flow.start()
            run.let_run(pick.uniform(0.05, 0.5))
            assert run.running, f"seed {seed}: ended by itself\n{run.describe()}"
            if turn % 3 == 2:
                receiver.kill()
                receiver.start()
            run.kill()
            wait_until(lambda: load.committed > before, 10, "the workload to go on")
    assert_whole(database, flow, receiver.records)


def test_a_frozen_sender_sends_nothing_more(streaming, tmp_path):
    """SIGSTOP before the end of its batch: another takes over at once, and the old one is refused when it wakes."""
    database, receiver, flow = streaming
    frozen = overtaken(flow, database, tmp_path, "commit-begin")
    assert frozen.code != 0, frozen.describe()
    assert "was taken over by another sender (fenced" in frozen.stderr
    assert_whole(database, flow, receiver.records)


# --- a receiver that somebody wrote ---


@pytest.fixture(params=[True, False], ids=["with positions", "with a file"])
def plain(request, tmp_path, database):
    database.sql(SCHEMA)
    with Receiver(says_position=request.param) as receiver:
        options = {} if request.param else {"position_file": str(tmp_path / "shop.position")}
        flow = flow_to(tmp_path, database, receiver.port, **options)
        yield database, receiver, flow
        flow.close()


@pytest.mark.parametrize("point", ["commit-begin", "commit-sent", "commit-done"])
def test_between_a_receiver_and_the_senders_own_note(plain, point):
    """The batch that the note does not know comes again, under the number that it had."""
    database, receiver, flow = plain
    run = flow.start(env={"DUCT_KILL_POINT": f"{point}:2"})
    assert run.wait(30) == KILLED, run.describe()
    flow.run_until_caught_up()
    with Workload(database, seed=3):
        run = flow.start(env={"DUCT_KILL_POINT": f"{point}:2"})
        assert run.wait(30) == KILLED, run.describe()
    assert_whole(database, flow, receiver.records)


def test_answers_are_lost(plain):
    database, receiver, flow = plain
    flow.run_until_caught_up()
    with Workload(database, seed=4) as load:
        run = flow.start()
        for lost in (1, 2, 5):
            receiver.cut = lost
            wait_until(lambda: receiver.cut == 0, 30, "the answers to be lost")
            before = load.committed
            wait_until(lambda: load.committed > before, 10, "the workload to go on")
        run.kill()
    assert_whole(database, flow, receiver.records)
