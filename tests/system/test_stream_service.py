"""StreamService against real streams: what pages and clients do with them (issue 5, points 1, 2 and 8)."""

import json
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from lib.admin import Admin
from lib.api import Client
from lib.http import Http, samples
from lib.service import POSTGRES, Service
from lib.stream import Stream
from lib.wait import wait_until

PGSTREAM = 8
SECRET = "hunter2-of-the-stream"


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    with Service(tmp_path_factory.mktemp("service"), HTTP_LISTEN="127.0.0.1:0") as running:
        yield running


@pytest.fixture
def stream(database, service):
    """A stream that a flow of the service writes."""
    made = Stream(database, f"orders_{database.name}_{time.monotonic_ns()}")
    service.call(
        "CreateFlow",
        flow={
            "id": made.name.replace("_", "-"),
            "source": {"type": POSTGRES, "options": {"dsn": "host=db", "slot": "s", "publication": "p"}},
            "destinations": [
                {"name": made.name, "type": PGSTREAM, "options": {"dsn": f"{database.dsn} password={SECRET}"}},
            ],
        },
    )
    return made


class Consumer:
    def __init__(self, service, stream, group="search"):
        self.service, self.names = service, {"stream": stream.name, "consumer_group": group}

    def __getattr__(self, method):
        return lambda **fields: self.service.call(f"StreamService/{method}", **self.names, **fields)

    def fails(self, method, **fields):
        return self.service.fails(f"StreamService/{method}", **{**self.names, **fields})


@pytest.fixture
def consumer(service, stream):
    return Consumer(service, stream)


def ids(answer):
    return [message.id for message in answer.messages]


def test_pull_gives_messages_as_they_were_stored(stream, consumer, database):
    stream.fill(3, payload_bytes=40)
    answer = consumer.Pull(max_messages=2, visibility_timeout_seconds=60)
    one, two = answer.messages
    assert (one.id, two.id) == (1, 2)
    assert (one.stream, one.namespace, one.table, one.lsn, one.wire_format) == (stream.name, "public", "t", "0/10", "json")
    assert (one.attempts, one.operation) == (1, "insert")
    (stored,) = database.query("SELECT payload, extract(epoch FROM created_at)::float8 FROM ductstream.stream_events WHERE id = 1")
    assert one.payload == bytes(stored[0])
    assert one.created_at.seconds + one.created_at.nanos / 1e9 == pytest.approx(stored[1], abs=1e-5)
    left = answer.visible_until.seconds - time.time()
    assert 50 < left < 61
    assert ids(consumer.Pull()) == [3]
    assert consumer.Ack(ids=[1, 2, 3, 4]).acked == 3


def test_claims(stream, consumer):
    stream.fill(6)
    answer = consumer.Pull(max_messages=4)
    assert consumer.Ack(claim=answer.claim, ids=[1, 5]).acked == 1
    held = consumer.Extend(claim=answer.claim, ids=[2], visibility_timeout_seconds=3600)
    assert held.extended == 1 and held.visible_until.seconds > answer.visible_until.seconds + 3000
    given = consumer.Nack(claim=answer.claim, ids=[3])
    assert (given.nacked, given.dead) == (1, 0)
    again = consumer.Pull(max_messages=1)
    assert ids(again) == [3] and again.messages[0].attempts == 2
    assert consumer.Ack(claim=answer.claim).acked == 2
    assert consumer.Ack(claim=answer.claim).acked == 0


def test_a_pull_waits_for_a_message(stream, consumer, database):
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(consumer.Pull, wait_seconds=20)
        wait_until(lambda: database.value("SELECT count(*) FROM ductstream.stream_groups") == 1, 10, "the pull")
        listening = "SELECT count(*) FROM pg_stat_activity WHERE query ~ 'LISTEN' AND datname = current_database()"
        wait_until(lambda: database.value(listening), 10, "somebody to listen")
        began = time.monotonic()
        stream.fill(1)
        database.query(f"SELECT pg_notify('ductstream_stream', '{stream.name}')")
        assert ids(waiting.result(timeout=20)) == [1]
        assert time.monotonic() - began < 1.5, "it was woken"


def test_a_pull_waits_no_longer_than_its_deadline(stream, consumer):
    stream.fill(1)
    consumer.Pull()
    began = time.monotonic()
    assert ids(consumer.Pull(wait_seconds=1)) == []
    assert 0.9 < time.monotonic() - began < 5


def test_a_pull_that_waits_gets_what_comes_back(stream, consumer):
    stream.fill(1)
    consumer.Pull(visibility_timeout_seconds=1)
    assert ids(consumer.Pull(wait_seconds=10)) == [1]


def test_many_wait_and_others_go_on(stream, consumer, service):
    """Those that wait hold no session."""
    stream.fill(1)
    consumer.Pull()
    stop = threading.Event()
    with ThreadPoolExecutor(24) as pool:
        waiting = [pool.submit(consumer.Pull, wait_seconds=6) for _ in range(24)]
        began = time.monotonic()
        assert consumer.Ack(ids=[1]).acked == 1
        assert time.monotonic() - began < 4
        stop.set()
        for one in waiting:
            assert ids(one.result(timeout=30)) == []


def test_a_caller_that_goes_away_takes_nothing_with_it(stream, consumer, service):
    """Cancelled while it waits: what comes afterwards is for others."""

    def ended():
        with Http(service.server.addresses("http")[0]) as http:
            counted, _ = samples(http.get("/metrics").body.decode())
        return sum(n for name, n in counted.items() if "api_requests_total{" in name and '"Pull"' in name and '"CANCELLED"' in name)

    before = ended()
    stream.fill(1)
    consumer.Pull()
    client = Client(service.server.address)
    callable_, request = client.method("ductstream.v1.StreamService/Pull")
    call = callable_.future(request(**consumer.names, wait_seconds=30))
    with pytest.raises(Exception):
        call.result(timeout=0.5)
    call.cancel()
    client.channel.close()
    wait_until(lambda: ended() > before, 10, "the server to notice")
    stream.fill(3)
    assert sorted(ids(consumer.Pull(wait_seconds=5))) == [2, 3, 4]


def test_bytes_bound_an_answer(stream, consumer):
    stream.fill(100, payload_bytes=100_000)
    answer = consumer.Pull()
    assert ids(answer) == list(range(1, 32)), "3 MiB, which every client takes"
    assert ids(consumer.Pull(max_bytes=250_000)) == [32, 33]


def test_replay_by_lsn_and_time(stream, consumer):
    stream.fill(10)
    consumer.Ack(claim=consumer.Pull().claim)
    assert consumer.Replay(from_lsn="0/90").reset == 2
    assert consumer.Replay(since={"seconds": int(time.time()) + 3600}).reset == 0
    assert consumer.Replay(since={"seconds": int(time.time()) - 3600}).reset == 8
    assert consumer.fails("Replay", from_lsn="nonsense")[0] == "INVALID_ARGUMENT"


def test_groups_and_dead_letters(stream, consumer, service):
    stream.fill(5)
    group = consumer.ConfigureGroup(max_attempts=1, ordered=False)
    assert (group.max_attempts, group.lag_messages, group.lag_bytes, group.next_id) == (1, 5, 500, 1)
    claim = consumer.Pull().claim
    assert consumer.Nack(claim=claim, ids=[1, 2, 3], reason="too big").dead == 3
    first = consumer.ListDeadLetters(page_size=2)
    assert [(letter.message.id, letter.reason, letter.message.attempts) for letter in first.dead_letters] == [
        (1, "too big", 1),
        (2, "too big", 1),
    ]
    (last,) = consumer.ListDeadLetters(page_size=2, page_token=first.next_page_token).dead_letters
    assert last.message.id == 3 and last.message.payload
    (listed,) = service.call("StreamService/ListGroups", stream=stream.name).groups
    assert (listed.consumer_group, listed.dead_letters, listed.in_flight, listed.lag_messages) == ("search", 3, 2, 2)
    assert consumer.RedriveDeadLetters(ids=[2]).redriven == 1
    assert ids(consumer.Pull()) == [2]
    assert consumer.fails("DropDeadLetters")[0] == "INVALID_ARGUMENT"
    assert consumer.DropDeadLetters(all=True).dropped == 2
    assert consumer.DeleteGroup().deleted and not consumer.DeleteGroup().deleted
    info = service.call("StreamService/GetStream", stream=stream.name)
    assert (info.first_id, info.last_id, info.bytes) == (1, 5, 500)
    with closing(sqlite3.connect(service.state)) as connection:
        actions = "SELECT action FROM audit_log WHERE object = ? ORDER BY id"
        done = [row[0] for row in connection.execute(actions, (f"{stream.name}/search",))]
    assert done == ["stream.configure_group", "stream.redrive", "stream.drop_dead_letters", "stream.delete_group"]


def test_dead_letters_that_are_large(stream, consumer, database):
    """What is too large for an answer is listed without its payload; what is too much for one comes page by page."""
    stream.fill(6)
    large = "UPDATE ductstream.stream_events SET payload = convert_to(repeat('x', %s), 'UTF8') WHERE id = ANY (%s) AND stream_id = "
    which = f"(SELECT stream_id FROM ductstream.streams WHERE name = '{stream.name}')"
    database.query(large % (20_000_000, "'{2}'") + which + " RETURNING 1")
    database.query(large % (1_500_000, "'{3,4,5}'") + which + " RETURNING 1")
    consumer.ConfigureGroup(max_attempts=1)
    consumer.fails("Pull", max_bytes=60_000_000, visibility_timeout_seconds=1)
    wait_until(lambda: not consumer.Pull().messages and consumer.ListGroups().groups[0].dead_letters == 6, 30, "dead letters")
    found, token = [], ""
    while True:
        page = consumer.ListDeadLetters(page_token=token)
        found.append([(letter.message.id, len(letter.message.payload)) for letter in page.dead_letters])
        token = page.next_page_token
        if not token:
            break
    assert [[id for id, _ in page] for page in found] == [[1, 2, 3, 4], [5, 6]]
    assert [size for page in found for _, size in page] == [100, 0, 1_500_000, 1_500_000, 1_500_000, 100]
    assert consumer.DropDeadLetters(ids=[2]).dropped == 1


def test_a_group_may_begin_at_the_end(stream, consumer):
    stream.fill(5)
    assert consumer.ConfigureGroup(at_end=True).next_id == 6
    stream.fill(1)
    assert ids(consumer.Pull()) == [6]


@pytest.mark.parametrize(
    ("method", "fields", "says"),
    [
        ("Pull", {"max_messages": 10001}, "max_messages: 10001 is outside 0..10000"),
        ("Pull", {"visibility_timeout_seconds": 43201}, "visibility_timeout_seconds"),
        ("Pull", {"wait_seconds": -1}, "wait_seconds"),
        ("Pull", {"max_bytes": 1 << 40}, "max_bytes"),
        ("Pull", {"consumer_group": ""}, "consumer_group: it is empty"),
        ("Pull", {"consumer_group": "x" * 201}, "consumer_group"),
        ("Pull", {"stream": ""}, "stream: it is empty"),
        ("Ack", {}, "ids: which messages"),
        ("Ack", {"claim": "'; DROP TABLE x; --"}, "claim"),
        ("Nack", {"ids": [1], "delay_seconds": 50000}, "delay_seconds"),
        ("ConfigureGroup", {"max_attempts": -1}, "max_attempts"),
        ("ListDeadLetters", {"page_token": "x"}, "page_token"),
    ],
)
def test_bad_input_names_its_field(consumer, method, fields, says):
    code, message = consumer.fails(method, **fields)
    assert code == "INVALID_ARGUMENT" and says in message


def test_what_is_not_there(service, consumer, stream):
    assert service.fails("StreamService/Pull", stream="nope", consumer_group="g") == (
        "NOT_FOUND",
        'stream "nope": no flow has a destination pgstream that writes it',
    )
    code, message = consumer.fails("Ack", ids=[1])
    assert code == "NOT_FOUND" and 'has no group "search"' in message


def test_a_postgres_that_does_not_answer(service):
    service.call(
        "CreateFlow",
        flow={
            "id": "away",
            "source": {"type": POSTGRES, "options": {"dsn": "host=db", "slot": "s", "publication": "p"}},
            "destinations": [{"name": "away", "type": PGSTREAM, "options": {"dsn": f"host=/nowhere password={SECRET}"}}],
        },
    )
    code, message = service.fails("StreamService/Pull", stream="away", consumer_group="g")
    assert code == "UNAVAILABLE" and SECRET not in message
    assert SECRET not in service.server.text


def test_the_server_restarts_and_consumers_go_on(own_server, service):
    """Sessions that the hub kept are found dead and replaced."""
    stream = Stream(own_server.database("streams"), "restarted")
    service.call(
        "CreateFlow",
        flow={
            "id": "restarted",
            "source": {"type": POSTGRES, "options": {"dsn": "host=db", "slot": "s", "publication": "p"}},
            "destinations": [{"name": "restarted", "type": PGSTREAM, "options": {"dsn": stream.database.dsn}}],
        },
    )
    stream.fill(2)
    consumer = Consumer(service, stream)
    assert ids(consumer.Pull(max_messages=1)) == [1]
    own_server.restart()
    assert ids(consumer.Pull(max_messages=1)) == [2]


def test_the_postgres_of_the_service_is_asked_last(database, tmp_path):
    """Streams that no flow of the service writes: DUCTSTREAM_POSTGRES_DSN."""
    stream = Stream(database, "foreign")
    stream.fill(3)
    with Service(tmp_path, POSTGRES_DSN=database.dsn) as running:
        assert ids(running.call("StreamService/Pull", stream="foreign", consumer_group="g")) == [1, 2, 3]


def test_the_lines_of_the_page(stream, service):
    """`ductstream-admin stream pull`, `ack` and `replay` as the user's page has them."""
    stream.fill(12)
    admin = Admin(service.server.address)
    words = ("-stream", stream.name, "-group", "search")
    pulled = admin.json("stream", "pull", *words, "-max", "10", "-visibility", "30")
    assert [int(message["id"]) for message in pulled["messages"]] == list(range(1, 11))
    assert admin.json("stream", "ack", *words, "-ids", "1,2,3") == {"acked": "3"}
    assert json.loads(admin.ok("stream", "replay", *words, "-since", "2025-01-01T00:00:00Z", "--json")) == {"reset": "3"}
