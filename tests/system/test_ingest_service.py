"""IngestService as a sender of any make meets it: what is taken, repeated and refused (issue 5, point 1)."""

import itertools

import pytest

from lib.service import Service

JSON, ARROW = 5, 1
TAKEN, AGAIN = (True, ""), (True, "it was here already")


class Sender:
    numbers = itertools.count(1)

    def __init__(self, service):
        self.service, self.flow, self.stream = service, "shop", f"in_{next(self.numbers)}"

    def position(self, **fields):
        return self.service.call("IngestService/GetIngestPosition", flow_id=self.flow, destination=self.stream, **fields)

    def position_fails(self, **fields):
        return self.service.fails("IngestService/GetIngestPosition", flow_id=self.flow, destination=self.stream, **fields)

    def request(self, lsn, payload=b"", wire_format=JSON, **metadata):
        checkpoint = {"lsn": lsn, "timestamp_unix_millis": 1700000000000, "metadata": {k: str(v) for k, v in metadata.items()}}
        names = {"flow_id": self.flow, "destination": self.stream}
        return {**names, "wire_format": wire_format, "payload": payload, "checkpoint": checkpoint}

    def send(self, *args, **metadata):
        answer = self.service.call("IngestService/IngestBatch", **self.request(*args, **metadata))
        return answer.accepted, answer.message

    def answer(self, *args, **metadata):
        return self.service.call("IngestService/IngestBatch", **self.request(*args, **metadata))

    def fails(self, *args, **metadata):
        return self.service.fails("IngestService/IngestBatch", **self.request(*args, **metadata))

    def pulled(self):
        names = {"stream": self.stream, "consumer_group": "g"}
        messages = self.service.call("StreamService/Pull", **names).messages
        return [(m.id, m.lsn, m.payload) for m in messages]


@pytest.fixture
def sender(ingesting):
    return Sender(ingesting)


def test_a_plain_sender(sender):
    """Nothing but the fields of the message: the position tells a repeated batch."""
    assert not sender.position().HasField("checkpoint")
    assert sender.send("0/100", b"one") == TAKEN
    assert sender.send("0/100", b"one") == AGAIN
    assert sender.send("0/90", b"older") == AGAIN
    assert sender.send("1/0", b"two") == TAKEN
    assert sender.send("0/FFFFFFFF", b"lower as a number") == AGAIN
    assert sender.send("1/8") == TAKEN  # only the position
    assert sender.position().checkpoint.lsn == "1/8"
    assert sender.pulled() == [(1, "0/100", b"one"), (2, "1/0", b"two")]


def test_what_is_known_of_the_records_is_kept(sender):
    about = {"namespace": "public", "table": "orders", "operation": "insert", "position": "0/80"}
    assert sender.send("0/100", b"\x00\xff", ARROW, **about) == TAKEN
    (message,) = sender.service.call("StreamService/Pull", stream=sender.stream, consumer_group="g").messages
    assert (message.namespace, message.table, message.operation) == ("public", "orders", "insert")
    assert (message.lsn, message.wire_format, message.payload) == ("0/80", "arrow", b"\x00\xff")
    assert sender.send("0/100", b"x", operation="load", batch=2) == TAKEN
    copied = sender.service.call("StreamService/Pull", stream=sender.stream, consumer_group="g").messages[0]
    assert (copied.lsn, copied.operation) == ("0/0", "load")


def test_the_checkpoint_comes_back_as_it_was(sender):
    metadata = {"state": "streaming", "source": '{"system": "7"}', "mine": "ä'\"\\"}
    assert sender.send("0/100", b"x", batch=1, **metadata) == TAKEN
    checkpoint = sender.position().checkpoint
    assert (checkpoint.lsn, checkpoint.timestamp_unix_millis) == ("0/100", 1700000000000)
    assert dict(checkpoint.metadata) == {"batch": "1", **metadata}


def test_numbered_batches(sender):
    assert sender.send("0/100", b"one", batch=1) == TAKEN
    assert sender.send("0/100", b"one", batch=1) == AGAIN
    refused = sender.answer("0/300", b"three", batch=3)
    assert not refused.accepted and refused.again
    assert refused.message == "there is a gap: batch 3 part 1 came, and next is batch 2 part 1; the flow is at 0/100"
    assert sender.send("0/100", b"two", batch=2) == TAKEN  # a copy leaves the position where it is
    other = sender.answer("0/500", b"another two", batch=2)
    assert not other.accepted and not other.again and "does not fit" in other.message
    lower = sender.answer("0/50", b"three", batch=3)
    assert not lower.accepted and "batch 3 ends at 0/50, which does not fit: batch 2 ended at 0/100" in lower.message
    assert [payload for _, _, payload in sender.pulled()] == [b"one", b"two"]


def test_parts_count_together(sender):
    assert sender.send("", b"a", batch=1, part=1) == TAKEN
    assert sender.send("", b"b", batch=1, part=2, position="0/80") == TAKEN
    assert sender.send("", b"b", batch=1, part=2) == AGAIN
    lost = sender.answer("0/100", b"d", batch=1, part=4, parts=4)
    assert not lost.accepted and lost.again and "batch 1 part 4 came, and next is batch 1 part 3" in lost.message
    assert not sender.position().HasField("checkpoint")
    assert sender.service.place.value("SELECT count(*) FROM ductstream.stream_events e JOIN ductstream.streams s USING (stream_id) "
                                      f"WHERE s.name = '{sender.stream}'") == 0
    assert sender.send("0/100", b"c", batch=1, part=3, parts=3) == TAKEN
    assert sender.send("0/100", b"c", batch=1, part=3, parts=3) == AGAIN
    assert sender.send("", b"a", batch=1, part=1) == AGAIN
    assert sender.pulled() == [(1, "0/100", b"a"), (2, "0/80", b"b"), (3, "0/100", b"c")]


def test_parts_in_one_call(sender):
    """What `more` has counts as if each part had come alone."""

    def part(number, payload, lsn="", **about):
        return {"payload": payload, "checkpoint": {"lsn": lsn, "metadata": {k: str(v) for k, v in {"batch": 1, "part": number, **about}.items()}}}

    def send(first, more):
        rq = sender.request(first["checkpoint"]["lsn"], first["payload"], **first["checkpoint"]["metadata"])
        return sender.service.call("IngestService/IngestBatch", **rq, more=more)

    assert sender.position().max_parts == 256
    assert send(part(1, b"a"), [part(2, b"b")]).accepted
    assert send(part(1, b"a"), [part(2, b"b"), part(3, b"c")]).accepted  # two of them are here
    gap = send(part(4, b"d"), [part(6, b"f")])
    assert gap.again and not gap.accepted and "batch 1 part 6 came, and next is batch 1 part 5" in gap.message
    assert send(part(4, b"d"), [part(5, b"e", "0/100", parts=5)]).accepted
    assert [payload for _, _, payload in sender.pulled()] == [b"a", b"b", b"c", b"d", b"e"]
    for more, said in [
        ([part(2, b"x", batch=3)], "more[0]: is not of the same batch"),
        ([part(2, b"x", "0/200", batch=2, parts=2), part(3, b"x", batch=2)], "more[1]: what is before it is not of the same batch"),
        ([part(2, b"x", batch="two")], 'checkpoint.metadata["batch"]'),
        ([part(i, b"x", batch=2) for i in range(2, 258)], "more: has 256 parts: at most 255"),
    ]:
        rq = sender.request("", b"x", batch=2, part=1)
        code, message = sender.service.fails("IngestService/IngestBatch", **rq, more=more)
        assert code == "INVALID_ARGUMENT" and said in message, message
    assert sender.position().checkpoint.lsn == "0/100"


def test_one_sender_at_a_time(sender):
    assert sender.position(take_over=True).epoch == 1
    assert sender.send("0/100", b"one", epoch=1, batch=1) == TAKEN
    assert sender.send("", b"half", epoch=1, batch=2, part=1) == TAKEN
    taken = sender.position(take_over=True)
    assert (taken.epoch, taken.checkpoint.lsn) == (2, "0/100")
    for metadata in ({"epoch": 1, "batch": 2}, {"epoch": 1, "batch": 1}, {"batch": 2}, {}):
        late = sender.answer("0/200", b"late", **metadata)
        assert not late.accepted and not late.again and "was taken over by another sender (fenced: epoch 2" in late.message
    elsewhere = sender.answer("0/200", b"late", epoch=3, batch=2)
    assert not elsewhere.accepted and "is not known here by that sender (fenced: epoch 2, this one 3)" in elsewhere.message
    assert sender.send("0/200", b"two", epoch=2, batch=2) == TAKEN  # the half of the other one is forgotten
    assert sender.position(take_over=True, epoch=2).epoch == 2
    code, message = sender.position_fails(take_over=True, epoch=1)
    assert code == "FAILED_PRECONDITION" and "fenced: epoch 2, this one 1" in message
    assert [payload for _, _, payload in sender.pulled()] == [b"one", b"two"]


def test_a_call_that_was_given_up_comes_late(sender):
    """Its part takes the place of another one: the sender is told, begins anew, and what counts is what it sent last."""
    about = {"epoch": sender.position(take_over=True).epoch, "batch": 1}
    assert sender.send("", b"a", part=1, **about) == TAKEN
    assert sender.send("", b"late", part=2, **about) == TAKEN
    other = sender.answer("", b"b", part=2, **about)
    assert not other.accepted and other.again
    assert sender.send("", b"a", part=1, **about) == TAKEN
    assert sender.send("", b"late", part=2, **about) == TAKEN
    other = sender.answer("0/100", b"late", part=2, parts=2, **about)  # an end is no repetition of what is no end
    assert not other.accepted and other.again
    assert sender.send("", b"a", part=1, **about) == TAKEN
    assert sender.send("", b"b", part=2, **about) == TAKEN
    assert sender.send("0/80", b"all of it", **about) == TAKEN  # part 1 begins anew
    assert sender.pulled() == [(1, "0/80", b"all of it")]
    shorter = sender.answer("0/60", b"less of it", **about)
    assert not shorter.accepted and shorter.again and "batch 1 ends at 0/60, which does not fit: batch 1 ended at 0/80" in shorter.message
    assert sender.send("0/80", b"all of it", **about) == AGAIN


@pytest.mark.parametrize(
    "args, metadata, said",
    [
        (("nonsense", b"x"), {}, "checkpoint.lsn"),
        (("", b"x"), {}, "checkpoint.lsn"),
        (("0/1", b"x"), {"batch": "-1"}, 'checkpoint.metadata["batch"]: "-1" is no number'),
        (("0/1", b"x"), {"batch": "99999999999999999999"}, 'checkpoint.metadata["batch"]'),
        (("0/1", b"x"), {"part": "0", "batch": 1}, 'checkpoint.metadata["part"]'),
        (("0/1", b"x"), {"part": "2147483648", "batch": 1}, 'checkpoint.metadata["part"]'),
        (("0/1", b"x"), {"epoch": "one"}, 'checkpoint.metadata["epoch"]'),
        (("0/1", b"x"), {"part": "1"}, 'checkpoint.metadata["batch"]: is missing'),
        (("0/1", b"x"), {"part": "1", "parts": "2", "batch": "1"}, "only the last part says how many"),
        (("0/1", b"x"), {"position": "zero"}, 'checkpoint.metadata["position"]'),
        (("0/1", b"x"), {"much": "x" * (1 << 20)}, "at most 1048576 are kept"),
    ],
)
def test_what_makes_no_sense_is_invalid(sender, args, metadata, said):
    code, message = sender.fails(*args, **metadata)
    assert code == "INVALID_ARGUMENT" and said in message
    assert sender.service.place.value(f"SELECT count(*) FROM ductstream.streams WHERE name = '{sender.stream}'") == 0


def test_names_are_looked_at(ingesting):
    for names, said in [
        ({"flow_id": "", "destination": "d"}, "flow_id: is missing"),
        ({"flow_id": "f", "destination": ""}, "destination: it is empty"),
        ({"flow_id": "f", "destination": "d" * 201}, "destination: a name has at most 200 bytes"),
        ({"flow_id": "f" * 201, "destination": "d"}, "flow_id: an id has at most 200 bytes"),
    ]:
        for method in ("IngestBatch", "GetIngestPosition"):
            code, message = ingesting.fails(f"IngestService/{method}", **names)
            assert code == "INVALID_ARGUMENT" and said in message
    code, message = ingesting.fails("IngestService/IngestBatch", flow_id="f", destination="d")
    assert code == "INVALID_ARGUMENT" and "checkpoint: is missing" in message


def test_a_format_is_needed_and_may_be_enforced(sender, tmp_path):
    assert sender.send("0/1", b"x", 0) == (False, "wire_format: is missing, or none that there is")
    assert sender.send("0/1", b"x", 77)[0] is False
    assert sender.send("0/1", b"", 0) == TAKEN
    with Service(tmp_path, POSTGRES_DSN=sender.service.place.dsn, WIRE_FORMAT="arrow") as strict:
        other = Sender(strict)
        accepted, message = other.send("0/1", b"x", JSON)
        assert not accepted and "is json, and this server takes arrow only" in message
        assert other.send("0/1", b"x", ARROW) == TAKEN


def test_without_a_postgres_there_is_no_place(tmp_path, sender):
    """A state in SQLite has no streams; DUCTSTREAM_INGEST_DSN names a place, and consumers find it there."""
    with Service(tmp_path / "without") as lonely:
        code, message = Sender(lonely).fails("0/1", b"x")
        assert code == "FAILED_PRECONDITION" and "DUCTSTREAM_INGEST_DSN" in message
    with Service(tmp_path / "with", INGEST_DSN=sender.service.place.dsn) as given:
        other = Sender(given)
        assert other.send("0/1", b"x") == TAKEN
        assert other.pulled() == [(1, "0/1", b"x")]


def test_old_messages_go_when_the_server_says_so(tmp_path, sender):
    with Service(tmp_path, INGEST_DSN=sender.service.place.dsn, INGEST_RETENTION_BYTES="1KiB") as given:
        other = Sender(given)
        for batch in range(1, 33):
            assert other.send(f"0/{batch:X}", b"x" * 200, batch=batch) == TAKEN
        assert sender.service.place.value(
            f"SELECT min(id) FROM ductstream.stream_events JOIN ductstream.streams USING (stream_id) WHERE name = '{other.stream}'") > 20


def test_two_flows_share_a_stream(sender):
    assert sender.send("0/100", b"one") == TAKEN
    sender.flow = "other"
    assert sender.send("0/50", b"two") == TAKEN
    assert [(i, payload) for i, _, payload in sender.pulled()] == [(1, b"one"), (2, b"two")]
