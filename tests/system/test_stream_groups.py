"""Consumer groups of a stream: pull, ack, nack, extend, order, dead letters, replay, lag, retention (issue 5, point 8)."""

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from lib.stream import Stream, finish, judge, read_claims
from lib.wait import wait_until


SHORT_S = 3  # that a message stays away: what is tried before it comes back takes a tenth of a second


@pytest.fixture
def stream(database):
    return Stream(database)


def passed(seconds):
    end = time.monotonic() + seconds
    wait_until(lambda: time.monotonic() > end, seconds + 10, "the time to pass")


def test_messages_are_handed_out_in_order_and_once(stream):
    stream.fill(250)
    one, first, attempts = stream.pull()
    other, second, _ = stream.pull()
    assert (first, second) == (list(range(1, 101)), list(range(101, 201))) and set(attempts) == {1}
    assert stream.ack(one) == 100 and stream.ack(other) == 100
    claim, third, _ = stream.pull()
    assert third == list(range(201, 251))
    assert stream.ack(claim) == 50
    assert stream.pull() == (None, [], [])


def test_groups_do_not_know_each_other(stream):
    stream.fill(10)
    assert stream.pull("search")[1] == stream.pull("billing")[1] == list(range(1, 11))


def test_what_is_not_acknowledged_comes_back_after_its_time(stream):
    stream.fill(10)
    claim, ids, _ = stream.pull(visible=SHORT_S)
    assert stream.ack(ids=[2, 3]) == 2
    assert stream.pull()[1] == []
    passed(SHORT_S + 0.1)
    assert stream.ack(claim) == 0, "a claim whose time is over counts no more"
    assert stream.ack(ids=[1]) == 0
    _, again, attempts = stream.pull()
    assert again == [1, 4, 5, 6, 7, 8, 9, 10] and set(attempts) == {2}
    assert stream.ack(ids=ids) == 8, "ids count by whatever live claim of the group has them"


def test_ack_by_ids_counts_only_what_is_held(stream):
    stream.fill(10)
    stream.pull(most=5)
    assert stream.ack(ids=[5, 1, 1, 3, 6, 99]) == 3
    assert stream.ack(ids=[1, 3, 5]) == 0
    assert stream.ack(ids=[4, 2]) == 2
    assert stream.lag()["messages"] == 5


def test_a_claim_holds_for_its_own_messages_only(stream):
    stream.fill(10)
    mine, ids, _ = stream.pull(most=5)
    stream.pull(most=5)
    assert stream.ack(mine, [4, 5, 6, 7]) == 2
    assert stream.ack(mine) == 3
    assert stream.lag()["in_flight"] == 5


def test_nack_with_and_without_delay(stream):
    stream.fill(4)
    claim, *_ = stream.pull()
    assert stream.settle("nack", claim, [2]) == (1, 0)
    assert stream.settle("nack", claim, [3], seconds=SHORT_S) == (1, 0)
    assert stream.pull()[1:] == ([2], [2])
    assert stream.pull()[1] == []
    passed(SHORT_S + 0.1)
    assert stream.pull()[1:] == ([3], [2])


def test_extend_holds_for_longer(stream):
    stream.fill(4)
    claim, *_ = stream.pull(visible=SHORT_S)
    assert stream.settle("extend", claim, [1, 2], seconds=60) == (2, 0)
    passed(SHORT_S + 0.1)
    assert stream.pull()[1] == [3, 4]
    assert stream.ack(claim) == 2


def test_release_costs_no_attempt(stream):
    stream.fill(3)
    claim, *_ = stream.pull()
    assert stream.settle("release", claim) == (3, 0)
    assert stream.pull()[1:] == ([1, 2, 3], [1, 1, 1])


def test_dead_letters(stream):
    stream.fill(3)
    stream.configure(max_attempts=2)
    claim, *_ = stream.pull()
    stream.settle("nack", claim)
    claim, ids, attempts = stream.pull(visible=SHORT_S)
    assert attempts == [2, 2, 2]
    assert stream.settle("nack", claim, [2], reason="no such customer") == (1, 1)
    passed(SHORT_S + 0.1)
    assert stream.pull()[1] == []
    assert stream.dead() == [(1, 2, "not acknowledged in time"), (2, 2, "no such customer"), (3, 2, "not acknowledged in time")]
    assert stream.lag()["messages"] == 0 and stream.lag()["dead"] == 3
    assert stream.redrive([2]) == 1
    assert stream.pull()[1:] == ([2], [1])
    assert stream.redrive([1], again=False) == 1
    assert stream.redrive() == 1
    assert stream.pull()[1] == [3]
    assert stream.dead() == []


def test_bytes_bound_a_pull(stream):
    stream.fill(10, payload_bytes=100)
    assert stream.pull(most_bytes=350)[1] == [1, 2, 3]
    assert stream.pull(most_bytes=1)[1] == [4], "one message goes out in any case"
    claim, *_ = stream.pull()
    stream.settle("nack", claim)
    assert stream.pull(most_bytes=250)[1] == [5, 6]
    assert stream.pull(most_bytes=10000)[1] == [7, 8, 9, 10]


def test_replay(stream, database):
    stream.fill(10)
    claim, *_ = stream.pull()
    stream.ack(claim, [1, 2, 3, 4, 5, 6])
    assert stream.replay(from_lsn="0/40") == 3, "4, 5 and 6; what is held stays with its consumer"
    claim, ids, attempts = stream.pull()
    assert (ids, attempts) == ([4, 5, 6], [1, 1, 1])
    at = database.value("SELECT clock_timestamp()")
    stream.fill(5)
    claim, *_ = stream.pull()
    assert stream.ack(claim) == 5
    assert stream.replay(since=at) == 5
    assert stream.replay(since=at) == 0, "they are available already"
    assert stream.pull()[1] == [11, 12, 13, 14, 15]
    # An LSN is a number: 0/9 is before 0/10.
    assert stream.replay(from_lsn="0/9") == 3
    assert stream.replay(from_lsn="1/0") == 0


def test_replay_of_everything(stream):
    stream.fill(1000)
    for _ in range(10):
        stream.ack(stream.pull()[0])
    assert stream.replay() == 1000
    assert stream.pull(most=10000)[1] == list(range(1, 1001))


def test_order_per_key(stream):
    stream.fill(12, keys=3)  # keys 1 2 0 1 2 0 ...
    stream.configure(ordered=True)
    one, ids, _ = stream.pull()
    assert ids == [1, 2, 3]
    assert stream.pull()[1] == []
    assert stream.ack(one, [2]) == 1
    other, ids, _ = stream.pull()
    assert ids == [5]
    stream.settle("nack", one, [1])
    assert stream.pull()[1:] == ([1], [2])
    order = []
    for _ in range(100):
        stream.ack(ids=range(1, 13))
        _, ids, _ = stream.pull()
        order += ids
    assert sorted(order) == [4, 6, 7, 8, 9, 10, 11, 12] and len(order) == 8
    for key in range(3):
        mine = [i for i in order if i % 3 == key]
        assert mine == sorted(mine)


def test_order_of_a_changed_key(stream, database):
    stream.fill(4, keys=10)  # keys 1 2 3 4
    database.sql("UPDATE ductstream.stream_events SET old_key_hash = 1, key_hash = 2 WHERE id = 3")
    database.sql("UPDATE ductstream.stream_events SET key_hash = 2 WHERE id = 4")
    stream.configure(ordered=True)
    claim, ids, _ = stream.pull()
    assert ids == [1, 2]
    stream.ack(claim, [2])
    assert stream.pull()[1] == [], "3 waits for 1, 4 for 3"
    stream.ack(claim, [1])
    assert stream.pull()[1] == [3]
    stream.ack(ids=[3])
    assert stream.pull()[1] == [4]


def test_lag(stream, database):
    stream.fill(10)
    database.sql("UPDATE ductstream.stream_events SET created_at = now() - interval '1 hour' WHERE id = 2")
    claim, *_ = stream.pull(most=4)
    stream.ack(claim, [1, 3])
    lag = stream.lag()
    assert (lag["messages"], lag["bytes"], lag["in_flight"], lag["waiting"], lag["next_id"]) == (8, 800, 2, 0, 5)
    assert 3600 <= lag["seconds"] < 3700
    stream.settle("nack", claim)
    assert (stream.lag()["in_flight"], stream.lag()["waiting"]) == (0, 2)
    stream.ack(stream.pull()[0])
    lag = stream.lag()
    assert (lag["messages"], lag["bytes"], lag["seconds"]) == (0, 0, 0)


@pytest.mark.parametrize("option", [{"retention_bytes": 400}, {"retention_age": "1 hour"}], ids=["size", "age"])
def test_retention_keeps_what_a_group_has_not_acknowledged(database, option):
    stream = Stream(database, **option)
    stream.fill(10)
    database.sql("UPDATE ductstream.stream_events SET created_at = now() - interval '2 hours' WHERE id <= 6")
    claim, *_ = stream.pull(most=8)
    stream.retain()
    assert stream.ids() == list(range(1, 11))
    stream.ack(claim, [1, 2, 4, 5, 6, 7, 8])
    stream.retain()
    assert stream.ids() == list(range(3, 11))
    stream.ack(claim)
    stream.retain()
    assert stream.ids() == list(range(7, 11))
    assert stream.replay() == 2, "what is gone is not replayed"
    assert stream.pull("late")[1] == [7, 8, 9, 10], "a new group begins with what is there"


def test_two_flows_retain_at_once(database):
    """Each with its own settings: who waits for a group while the other one goes further does not go back behind it."""
    stream = Stream(database, retention_bytes=700)
    stream.fill(10)
    stream.ack(stream.pull()[0])
    with database.connect() as other, ThreadPoolExecutor(1) as pool:
        other.execute("BEGIN")
        other.execute("SELECT 1 FROM ductstream.stream_groups FOR UPDATE")
        late = pool.submit(stream.retain)
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%stream_retain%' AND wait_event_type = 'Lock'"
        wait_until(lambda: database.value(waiting) == 1, 10, "the later one to wait")
        other.execute("UPDATE ductstream.streams SET retention_bytes = 300; SELECT ductstream.stream_retain(stream_id) FROM ductstream.streams")
        other.execute("COMMIT")
        late.result()
    assert database.value("SELECT first_id FROM ductstream.streams") == 8


def test_retention_that_was_told_to(database):
    stream = Stream(database, retention_bytes=300, drop_unacked=True, max_attempts=1)
    stream.fill(10)
    claim, *_ = stream.pull(most=5)
    stream.settle("nack", claim, [1])
    stream.retain()
    assert stream.ids() == [8, 9, 10] and stream.dead() == []
    assert stream.ack(claim) == 0
    assert stream.pull()[1] == [8, 9, 10]


def test_an_abandoned_group_holds_nothing_back(database):
    stream = Stream(database, retention_bytes=300, group_expiry="1 hour")
    stream.fill(10)
    stream.pull("old")
    stream.ack(stream.pull()[0])
    stream.retain()
    assert len(stream.ids()) == 10
    database.sql("UPDATE ductstream.stream_groups SET used_at = now() - interval '2 hours' WHERE name = 'old'")
    stream.retain()
    assert stream.ids() == [8, 9, 10]


@pytest.mark.parametrize("ordered", [False, True])
def test_a_group_that_asks_in_vain_is_not_abandoned(database, ordered):
    """What comes in a burst stays until it has had it."""
    stream = Stream(database, retention_bytes=300, group_expiry="1 hour", ordered=ordered)
    stream.fill(1, keys=5)
    stream.ack(stream.pull()[0])
    database.sql("UPDATE ductstream.stream_groups SET used_at = now() - interval '2 hours'")
    assert stream.pull()[1] == []
    stream.fill(10, keys=5)
    stream.retain()
    assert stream.ids() == list(range(2, 12))


def test_what_is_not_there_is_said(stream):
    stream.fill(1)
    with pytest.raises(psycopg.Error, match='stream "nope": there is none') as error:
        Stream.pull(type("x", (), {"_call": stream._call, "name": "nope"})())
    assert error.value.sqlstate == "DS001"
    with pytest.raises(psycopg.Error, match='has no group "g"') as error:
        stream.ack(ids=[1])
    assert error.value.sqlstate == "DS002"


def test_acks_of_one_claim_at_once(stream):
    """Each cuts the same range; none may be lost."""
    stream.fill(200)
    claim, ids, _ = stream.pull(most=200)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(lambda i: stream.ack(ids=[i]), ids)) == 200
    assert stream.lag()["messages"] == 0


@pytest.mark.parametrize("how", [(), ("--by-ids",), ("--singly",), ("--nack-percent", "20"), ("--hold-ms", "1300", "--visible", "1")])
def test_consumers_side_by_side(stream, tmp_path, how):
    n = 2000 if how else 20000
    stream.fill(n)
    logs = [tmp_path / f"log-{i}" for i in range(2)]
    consumers = [stream.consume("--consumers", "2", "--max", "50", "--wait-ms", "1500", *how, log=log) for log in logs]
    for consumer in consumers:
        finish(consumer)
    wrong, unknown = judge(read_claims(*logs), n)
    assert not wrong and not unknown
    assert stream.lag()["messages"] == 0
