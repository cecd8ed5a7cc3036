"""The destination `grpc`: to a DuctStream, and to a receiver that a user wrote (issue 5, point 1)."""

import io
import itertools
import json
import os
import socket

import grpc
import pyarrow.ipc
import pytest

from lib.api import TOKENS, Server, free_port, tokens_file
from lib.certificates import Authority
from lib.cli import ductstream as cli
from lib.flow import EXIT_CONFIG, EXIT_DATA, Flow
from lib.receiver import Receiver, replayed
from lib.service import Service


numbers = itertools.count(1)


@pytest.fixture
def receiver():
    with Receiver() as running:
        yield running


@pytest.fixture
def stream():
    """A name that no test before had."""
    return f"sent_{next(numbers)}"


@pytest.fixture
def flow_to(tmp_path, database, stream):
    flows = []

    def make(endpoint, source=None, top=None, name="shop", **options):
        flow = Flow(
            tmp_path / f"flow-{len(flows)}",
            name,
            {"dsn": database.dsn, "slot": name, "publication": name, "status_interval": "200ms", **(source or {})},
            [{"name": stream, "type": "grpc", "options": {"endpoint": endpoint, **options}}],
            **(top or {}),
        )
        flows.append(flow)
        return flow

    yield make
    for flow in flows:
        flow.close()


@pytest.fixture
def table(database):
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 5) i")
    return database


def said_by(flow, code):
    """What a run says that ends with this exit code."""
    run = flow.start("--until-caught-up")
    run.expect(code)
    return run.stderr


def source_rows(database, table="t"):
    return {row[0]: json.loads(row[1]) for row in database.query(f"SELECT id, row_to_json(x)::text FROM {table} x")}


def pulled(service, stream):
    """All messages, pulled and acknowledged as a consumer does."""
    names, found = {"stream": stream, "consumer_group": "search"}, []
    while messages := service.call("StreamService/Pull", **names).messages:
        found += messages
        service.call("StreamService/Ack", ids=[m.id for m in messages], **names)
    return found


def records(messages):
    return [(r["Table"], r["Operation"], r) for m in messages for r in json.loads(m.payload)["Records"]]


# --- a DuctStream receives ---


def test_what_arrives_at_a_ductstream_is_a_stream(ingesting, table, flow_to, stream):
    """A's flow has a destination grpc whose endpoint is B; consumers pull at B: the copy, then changes, each once."""
    flow = flow_to(ingesting.server.address)
    flow.run_until_caught_up()
    table.sql("BEGIN; INSERT INTO t VALUES (6, 'six'); UPDATE t SET v = 'zwei' WHERE id = 2; DELETE FROM t WHERE id = 1; COMMIT")
    flow.run_until_caught_up()
    table.sql("TRUNCATE t; INSERT INTO t VALUES (7, 'seven')")
    flow.run_until_caught_up()
    messages = pulled(ingesting, stream)
    assert [m.id for m in messages] == list(range(1, len(messages) + 1))
    assert [(m.namespace, m.table, m.operation, m.wire_format) for m in messages] == [
        ("public", "t", operation, "json") for operation in ("load", "batch", "ddl", "insert")
    ]
    assert messages[0].lsn == "0/0" and records(messages[1:2])[0][2]["LSN"] == messages[1].lsn
    assert replayed(records(messages), ["t"])["t"] == source_rows(table) == {7: {"id": 7, "v": "seven"}}


def test_one_record_in_a_payload(ingesting, table, flow_to, stream):
    flow = flow_to(ingesting.server.address, payload_mode="record")
    flow.run_until_caught_up()
    table.sql("UPDATE t SET v = 'x'")
    flow.run_until_caught_up()
    messages = pulled(ingesting, stream)
    assert [m.operation for m in messages] == ["load"] * 5 + ["update"] * 5
    assert all(len(json.loads(m.payload)["Records"]) == 1 for m in messages)


def test_tables_added_later_are_copied(ingesting, table, flow_to, stream):
    flow = flow_to(ingesting.server.address)
    flow.run_until_caught_up()
    table.sql("CREATE TABLE u (id int PRIMARY KEY, v text); INSERT INTO u VALUES (1, 'one'), (2, 'two')")
    table.sql("ALTER PUBLICATION shop ADD TABLE u") if not table.value("SELECT puballtables FROM pg_publication") else None
    flow.run_until_caught_up()
    table.sql("INSERT INTO u VALUES (3, 'three'); UPDATE t SET v = 'x'")
    flow.run_until_caught_up()
    found = replayed(records(pulled(ingesting, stream)), ["t", "u"])
    assert found == {"t": source_rows(table), "u": source_rows(table, "u")}


def test_create_flow_takes_it(ingesting, table, tmp_path, stream):
    """As a flow of the service, run by a worker; the token is a secret (issue 5, points 1 and 2)."""
    with Service(tmp_path) as sender:
        options = {"endpoint": ingesting.server.address, "token": "secret-of-the-receiver", "destination": stream}
        sender.call(
            "CreateFlow",
            flow={
                "id": "shop",
                "source": {"type": 1, "options": {"dsn": table.dsn, "slot": "shop", "publication": "shop"}},
                "destinations": [{"name": "far", "type": 6, "options": options}],
            },
            start_immediately=False,
        )
        shown = sender.call("GetFlow", flow_id="shop").destinations[0]
        assert shown.type == 6 and "secret-of-the-receiver" not in str(shown)
        sender.call("StartFlow", flow_id="shop")
        worker = sender.worker("shop", "-max-empty-reads", "1")
        worker.expect(0)
        assert replayed(records(pulled(ingesting, stream)), ["t"])["t"] == source_rows(table)
        assert sender.call("CheckpointService/GetCheckpoint", flow_id="shop").checkpoint.lsn != "0/0"


def test_beside_another_destination(ingesting, table, flow_to, tmp_path):
    """As a secondary of a fan-out with ack_policy primary: away at first, then whole (issue 5, point 9)."""
    port = free_port()
    flow = flow_to(f"localhost:{port}", top={"config": {"ack_policy": "primary", "primary_destination": "file"}}, max_retries=0)
    flow.content["destinations"].insert(0, {"name": "file", "type": "duckdb", "options": {"dsn": str(tmp_path / "w.duckdb")}})
    flow.write()
    with Receiver(port=port) as receiver:
        flow.run_until_caught_up()
    run = flow.start()
    table.sql("INSERT INTO t SELECT i, 'w' || i FROM generate_series(100, 200) i")
    slot = "SELECT confirmed_flush_lsn >= '{}' FROM pg_replication_slots".format(table.value("SELECT pg_current_wal_lsn()"))
    run.wait_for(lambda: table.value(slot), 60, "the slot to go on without the receiver")
    with Receiver(port=port, after=receiver) as back:
        run.wait_for(lambda: back.rows("t") == source_rows(table), 60, "the receiver to have all")
        run.kill()


# --- a receiver that somebody wrote ---


def test_a_receiver_of_ones_own(receiver, table, flow_to):
    """What docs/grpc.md tells the author of a receiver is what comes."""
    table.sql("CREATE TABLE u (id int PRIMARY KEY)")
    flow = flow_to(receiver.address, headers="X-Team: blue, x-more:a:b", destination="mine", flow_id="f")
    flow.run_until_caught_up()
    table.sql("BEGIN; INSERT INTO t VALUES (6, 'six'); INSERT INTO u VALUES (1); INSERT INTO t VALUES (7, 'seven'); COMMIT")
    flow.run_until_caught_up()
    assert receiver.rows("t") == source_rows(table) and receiver.rows("u") == source_rows(table, "u")
    assert receiver.metadata["x-team"] == "blue" and receiver.metadata["x-more"] == "a:b"
    assert receiver.metadata["user-agent"].startswith("ductstream/")
    (changes,) = [batch for batch in receiver.batches if len(batch) == 3]
    assert {(part.flow_id, part.destination, part.wire_format) for part in changes} == {("f", "mine", 5)}
    about = [dict(part.checkpoint.metadata) for part in changes]
    assert [(a["table"], a["part"], a.get("parts"), a["records"], a["operation"]) for a in about] == [
        ("t", "1", None, "1", "insert"),
        ("u", "2", None, "1", "insert"),
        ("t", "3", "3", "1", "insert"),
    ]
    assert [part.checkpoint.lsn for part in changes[:2]] == ["", ""]
    assert about[2]["position"] == about[0]["position"] and about[2]["state"] == "streaming"
    numbers = [int(batch[-1].checkpoint.metadata["batch"]) for batch in receiver.batches]
    assert numbers == list(range(1, len(numbers) + 1))
    assert receiver.checkpoint.timestamp_unix_millis > 1600000000000


def test_arrow(receiver, table, flow_to):
    flow_to(receiver.address, format="arrow").run_until_caught_up()
    (part,) = receiver.payloads()
    assert part.wire_format == 1
    rows = pyarrow.ipc.open_stream(io.BytesIO(part.payload)).read_all()
    assert rows.column("id").to_pylist() == [1, 2, 3, 4, 5] and set(rows.column("__op").to_pylist()) == {"load"}


def test_a_large_transaction_comes_in_parts(receiver, database, flow_to):
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    flow = flow_to(receiver.address, max_message_size="64KiB", top={"config": {"max_memory": "16MiB"}})
    flow.run_until_caught_up()
    database.sql("INSERT INTO t SELECT i, repeat(md5(i::text), 10) FROM generate_series(1, 30000) i")
    flow.run_until_caught_up()
    assert receiver.rows("t") == source_rows(database)
    large = max(receiver.batches, key=len)
    assert len(large) > 50 and max(len(part.payload) for part in large) <= 64 << 10
    assert [part.checkpoint.metadata.get("parts") for part in large] == [None] * (len(large) - 1) + [str(len(large))]


def test_many_parts_in_one_call(receiver, table, flow_to):
    """Rows of two tables in turns are parts of one row each; a receiver that says so gets many of them in a call."""
    table.sql("CREATE TABLE u (id int PRIMARY KEY, v text)")
    turns = "DO $$ BEGIN FOR i IN {} LOOP INSERT INTO t VALUES (i, 'x'); INSERT INTO u VALUES (i, 'y'); END LOOP; END $$"
    flow = flow_to(receiver.address, max_message_size="64KiB")
    flow.run_until_caught_up()
    for first, most in ((1000, 0), (2000, 40), (3000, 1000)):
        receiver.max_parts = most
        receiver.requests.clear()
        table.sql(turns.format(f"{first} .. {first + 99}"))
        flow.run_until_caught_up()
        assert receiver.rows("t") == source_rows(table) and receiver.rows("u") == source_rows(table, "u")
        calls = [request for request in receiver.requests if request.payload]
        assert max(request.ByteSize() for request in calls) <= 64 << 10
        assert len(calls) == 200 if most == 0 else len(calls) <= 8, len(calls)


def test_a_row_that_is_too_large(receiver, table, flow_to):
    table.sql("INSERT INTO t VALUES (6, repeat('x', 3000))")
    flow = flow_to(receiver.address, max_message_size="2KiB")
    said = said_by(flow, EXIT_DATA)
    assert 'a row of "public"."t" has' in said and "more than max_message_size (2048)" in said


def test_a_message_that_the_receiver_does_not_take(table, flow_to):
    table.sql("INSERT INTO t SELECT i, repeat('x', 1000) FROM generate_series(100, 200) i")
    with Receiver(options=[("grpc.max_receive_message_length", 20000)]) as small:
        said = said_by(flow_to(small.address), EXIT_CONFIG)
    assert "is larger than the receiver at" in said and "set max_message_size lower" in said


def test_a_receiver_that_refuses(receiver, table, flow_to):
    """The flow stops with the receiver's reason."""
    receiver.refuse = "orders are closed today"
    said = said_by(flow_to(receiver.address), EXIT_CONFIG)
    assert "does not accept batch 1: orders are closed today" in said
    assert not receiver.batches


def test_a_receiver_that_is_not_there(table, flow_to):
    """It is tried again, the log says so, and all comes once it is there."""
    port = free_port()
    run = flow_to(f"localhost:{port}", max_retries=1, backoff_base="50ms").start("--until-caught-up")
    run.wait_for(lambda: "no server at" in run.stderr and "start the receiver" in run.stderr, 30, "what it says")
    with Receiver(port=port) as receiver:
        run.expect(0)
        assert receiver.rows("t") == source_rows(table)


def test_a_lost_answer_is_no_second_batch(receiver, table, flow_to):
    flow = flow_to(receiver.address, backoff_base="10ms")
    flow.run_until_caught_up()
    for lost in (1, 2, 10):  # 10: more than it tries by itself; the flow asks how far the receiver is
        receiver.cut = lost
        table.sql(f"INSERT INTO t VALUES ({100 + lost}, 'new')")
        flow.run_until_caught_up()
        assert receiver.rows("t") == source_rows(table)


@pytest.mark.parametrize("code", ["CANCELLED", "UNKNOWN", "INTERNAL", "ABORTED", "UNAVAILABLE"])
def test_errors_that_pass(receiver, table, flow_to, code):
    """Whatever a receiver stumbles over is tried again, also when its library calls it CANCELLED."""
    flow = flow_to(receiver.address, max_retries=0)
    flow.run_until_caught_up()
    receiver.ends = [(grpc.StatusCode[code], "the disk is full")] * 2
    table.sql("INSERT INTO t VALUES (6, 'six')")
    run = flow.run_until_caught_up()
    assert "the disk is full" in run.stderr and not receiver.ends
    receiver.ends = [(grpc.StatusCode[code], "the disk is full")]
    table.sql("INSERT INTO t VALUES (7, 'seven')")
    flow.run_until_caught_up()
    assert receiver.rows("t") == source_rows(table)


@pytest.mark.parametrize(
    "code, text",
    [
        ("RESOURCE_EXHAUSTED", "gRPC message exceeds maximum size 4194304: 5000000"),
        ("RESOURCE_EXHAUSTED", "Received message exceeds the maximum configured message size."),
        ("OUT_OF_RANGE", "Error, decoded message length too large: found 5000000 bytes, the limit is: 4194304 bytes"),
    ],
)
def test_how_others_say_that_a_message_is_too_large(receiver, table, flow_to, code, text):
    flow = flow_to(receiver.address)
    receiver.ends = [(grpc.StatusCode[code], text)] * 10
    assert "set max_message_size lower" in said_by(flow, EXIT_CONFIG)


def test_what_a_receiver_repeats_of_secrets(table, flow_to):
    """A token or a header that a receiver puts into its words is not in ours (issue 5, point 2)."""
    with Receiver(token="the-right-token-0123") as receiver:
        receiver.says_token = True
        said = said_by(flow_to(receiver.address, token="a-wrong-token-0123"), EXIT_CONFIG)
        assert "no such token Bearer ******************" in said and "a-wrong-token-0123" not in said
        receiver.refuse = "key-of-the-team is not one of ours, nor the-right-token-0123"
        said = said_by(flow_to(receiver.address, name="b", token="the-right-token-0123", headers="X-Key:key-of-the-team"), EXIT_CONFIG)
        assert "is not one of ours" in said and "key-of-the-team" not in said and "the-right-token" not in said


def test_a_tls_receiver_that_goes_away_comes_back(table, flow_to):
    """A connection that is cut in the handshake is no reason to stop."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        run = flow_to(f"localhost:{listener.getsockname()[1]}", insecure="false", max_retries=0).start()
        for _ in range(3):
            listener.accept()[0].close()
        run.wait_for(lambda: "attempt failed" in run.stderr, 30, "the flow to try again")
        listener.accept()[0].close()
        assert run.running
        run.kill()


def test_a_wrong_token(table, flow_to):
    with Receiver(token="the-right-token-0123") as receiver:
        said = said_by(flow_to(receiver.address, token="a-wrong-token-0123"), EXIT_CONFIG)
        assert "the token is not one of the server's" in said and "wrong-token" not in said
        said = said_by(flow_to(receiver.address, name="none"), EXIT_CONFIG)
        assert 'set the option "token"' in said
        flow_to(receiver.address, name="right", token="the-right-token-0123").run_until_caught_up()
        assert receiver.rows("t") == source_rows(table)


def test_a_token_needs_tls_to_another_machine(table, flow_to):
    said = said_by(flow_to("example.com:443", token="the-right-token-0123"), EXIT_CONFIG)
    assert 'option "token": it would go to "example.com:443" in the clear: set insecure to false' in said


# --- TLS, roles ---


def test_tls_and_roles(tmp_path, table, flow_to, ingesting, stream):
    """mTLS and tokens to a DuctStream: who may not send is told so, others' rows arrive (issue 5, points 1 and 2)."""
    authority = Authority(tmp_path)
    (cert, key), (own_cert, own_key) = authority.sign("receiver"), authority.sign("sender")
    settings = {"TLS_CERT_FILE": cert, "TLS_KEY_FILE": key, "TLS_CLIENT_CA_FILE": authority.cert, "MTLS_ROLES": "sender=viewer"}
    place = ingesting.place
    with Server(tmp_path, POSTGRES_DSN=place.dsn, TOKENS_FILE=tokens_file(tmp_path), **settings).ready() as server:
        endpoint = f"127.0.0.1:{server.port}"
        tls = {"insecure": "false", "tls_ca_file": str(authority.cert)}
        mine = {"tls_cert_file": str(own_cert), "tls_key_file": str(own_key), "max_retries": 0}

        def fails(name, **options):
            return said_by(flow_to(endpoint, name=name, **options), EXIT_CONFIG)

        assert "expired, of another name, or signed by nobody known" in fails("unknown", insecure="false", max_retries=0)
        assert "operator" in fails("viewer", **tls, **mine)
        assert "operator" in fails("viewer_token", **tls, **mine, token=TOKENS["viewer"])
        assert "tls_key_file" in fails("half", **tls, tls_cert_file=str(own_cert))
        assert "set it to false" in fails("both", tls_ca_file=str(authority.cert))
        flow = flow_to(endpoint, name="right", **tls, **mine, token=TOKENS["operator"])
        flow.run_until_caught_up()
    assert replayed(records(pulled(ingesting, stream)), ["t"])["t"] == source_rows(table)


# --- a receiver that does not say how far it is ---


def test_a_receiver_without_positions_needs_a_file(table, flow_to, tmp_path):
    note = tmp_path / "shop.position"
    with Receiver(says_position=False) as plain:
        said = said_by(flow_to(plain.address), EXIT_CONFIG)
        assert "does not say how far it is (GetIngestPosition)" in said and "position_file" in said
        flow = flow_to(plain.address, name="noted", position_file=str(note))
        flow.run_until_caught_up()
        table.sql("INSERT INTO t VALUES (6, 'six')")
        flow.run_until_caught_up()
        assert plain.rows("t") == source_rows(table)
        assert os.stat(note).st_mode & 0o777 == 0o600 and json.loads(note.read_text())["at"]["lsn"] == plain.checkpoint.lsn
        other = flow_to(plain.address, name="other", position_file=str(note))
        assert 'is of flow "noted"' in said_by(other, EXIT_CONFIG)
        note.write_text("{")
        assert "it is damaged" in said_by(flow, EXIT_CONFIG)


@pytest.fixture
def noted(table, flow_to, tmp_path):
    """(receiver without positions, flow with a position_file, that file), after a first run."""
    note = tmp_path / "shop.position"
    with Receiver(says_position=False) as plain:
        flow = flow_to(plain.address, position_file=str(note), max_retries=0)
        flow.run_until_caught_up()
        assert plain.rows("t") == source_rows(table)
        yield plain, flow, note


def test_a_note_that_is_gone(noted, table):
    """The numbers would begin anew, and the receiver take everything for repeated: it is asked first."""
    plain, flow, note = noted
    note.unlink()
    assert f"has batches of flow \"shop\" already, and position_file \"{note}\" is not there" in said_by(flow, EXIT_CONFIG)
    table.sql("SELECT pg_drop_replication_slot('shop')")
    plain.forget()
    flow.run_until_caught_up()
    assert plain.rows("t") == source_rows(table)


def test_a_receiver_that_lost_what_the_note_has(noted, table):
    plain, flow, note = noted
    plain.forget()
    table.sql("INSERT INTO t VALUES (6, 'six')")
    assert "that it had accepted, by position_file" in said_by(flow, EXIT_CONFIG)


def test_a_refusal_does_not_say_that_a_batch_is_not_there(noted, table):
    """The end of a batch whose answer never came is refused, later not: nothing of the next batch is taken for it."""
    plain, flow, note = noted
    table.sql("INSERT INTO t VALUES (6, 'six')")
    assert flow.start("--until-caught-up", env={"DUCT_KILL_POINT": "commit-sent:1"}).wait(30) == -9
    plain.refuse = "closed for today"
    assert "closed for today" in said_by(flow, EXIT_CONFIG)
    plain.refuse = None
    table.sql("INSERT INTO t VALUES (7, 'seven')")
    flow.run_until_caught_up()
    assert plain.rows("t") == source_rows(table)


def test_a_note_has_one_writer(noted, table, flow_to):
    plain, flow, note = noted
    run = flow.start()
    table.sql("INSERT INTO t VALUES (6, 'six')")
    run.wait_for(lambda: 6 in plain.rows("t"), 30, "the row")
    other = flow_to(plain.address, position_file=str(note)).start()
    other.wait_for(lambda: "is used by another process" in other.stderr, 30, "what it says")
    assert run.running and other.running
    other.kill()
    run.kill()
    flow.run_until_caught_up()


def test_a_note_in_a_folder_that_is_not_there(receiver, table, flow_to, tmp_path):
    missing = str(tmp_path / "missing" / "shop.position")
    with Receiver(says_position=False) as plain:
        flow = flow_to(plain.address, position_file=missing)
        said = f'position_file "{missing}": its folder cannot be written to: No such file or directory'
        assert said in said_by(flow, EXIT_CONFIG) and not plain.requests
        code, out, _ = cli("check", flow.path)
        assert code and said in out


# --- check ---


def test_check_asks_the_receiver(receiver, table, flow_to):
    flow = flow_to(receiver.address)
    assert "the receiver answers, and has nothing of the flow yet" in cli("check", flow.path)[1] and not receiver.epoch
    flow.run_until_caught_up()
    assert f"the receiver has the flow up to {receiver.checkpoint.lsn}" in cli("check", flow.path)[1]
    code, out, _ = cli("check", flow_to(f"localhost:{free_port()}", name="gone").path)
    assert code and "no server at" in out
