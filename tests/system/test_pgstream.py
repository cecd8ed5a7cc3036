"""A flow into a stream: what its messages are, and in which order (issue 5, point 8)."""

import base64
import io
import json

import pyarrow.ipc
import pytest

from lib.flow import EXIT_CONFIG, Flow
from lib.wait import wait_until


@pytest.fixture
def sink(databases):
    """The database that the stream is in."""
    taken = databases.take()
    yield taken
    databases.give_back(taken)


@pytest.fixture
def flow_to(tmp_path, database):
    flows = []

    def make(sink, name="shop", source=None, top=None, **options):
        flow = Flow(
            tmp_path / f"flow-{len(flows)}",
            name,
            {"dsn": database.dsn, "slot": name, "publication": name, "status_interval": "200ms", **(source or {})},
            [{"name": "orders", "type": "pgstream", "options": {"dsn": sink.dsn, **options}}],
            **(top or {}),
        )
        flows.append(flow)
        return flow

    yield make
    for flow in flows:
        flow.close()


def events(sink, columns="id, operation, namespace, table_name, payload, lsn::text, wire_format", stream="orders"):
    return sink.query(
        f"SELECT {columns} FROM ductstream.stream_events e JOIN ductstream.streams s USING (stream_id) WHERE s.name = '{stream}' ORDER BY id"
    )


def record(payload):
    (found,) = json.loads(bytes(payload))["Records"]
    return found


def number(lsn):
    high, low = lsn.split("/")
    return int(high, 16) << 32 | int(low, 16)


def test_copied_rows_then_changes_in_commit_order(database, sink, flow_to):
    database.sql(
        """CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE b (id int PRIMARY KEY, n numeric);
        INSERT INTO a VALUES (1, 'one'), (2, 'two'); INSERT INTO b VALUES (1, 1.50)"""
    )
    flow = flow_to(sink)
    flow.run_until_caught_up()
    copied = events(sink)
    assert [row[0] for row in copied] == [1, 2, 3]
    assert {(row[1], row[2], row[5]) for row in copied} == {("load", "public", "0/0")}
    assert sorted(str(record(row[4])["After"]) for row in copied) == [
        "{'id': 1, 'n': 1.5}",
        "{'id': 1, 'v': 'one'}",
        "{'id': 2, 'v': 'two'}",
    ]
    database.sql(
        """BEGIN; INSERT INTO a VALUES (3, 'three'); INSERT INTO b VALUES (3, 3); UPDATE a SET v = 'zwei' WHERE id = 2;
        DELETE FROM b WHERE id = 1; UPDATE a SET id = 4 WHERE id = 3; COMMIT"""
    )
    database.sql("TRUNCATE b")
    flow.run_until_caught_up()
    changes = events(sink)[3:]
    assert [(row[1], row[3]) for row in changes] == [
        ("insert", "a"),
        ("insert", "b"),
        ("update", "a"),
        ("delete", "b"),
        ("update", "a"),
        ("ddl", "b"),
    ]
    after = [record(row[4])["After"] for row in changes]
    assert after[0] == {"id": 3, "v": "three"} and after[2] == {"id": 2, "v": "zwei"} and after[4] == {"id": 4, "v": "three"}
    assert record(changes[3][4])["Before"] == {"id": 1}
    assert json.loads(base64.b64decode(record(changes[4][4])["Key"])) == {"id": 3}
    assert [record(row[4])["LSN"] for row in changes] == [row[5] for row in changes]
    assert len({row[5] for row in changes[:5]}) == 1 and number(changes[5][5]) > number(changes[0][5])


def test_position_and_offsets_are_stored_with_the_events(database, sink, flow_to):
    database.sql("CREATE TABLE a (id int PRIMARY KEY)")
    flow = flow_to(sink)
    flow.run_until_caught_up()
    database.sql("INSERT INTO a SELECT generate_series(1, 500)")
    flow.run_until_caught_up()
    ((last, end, state, lsn),) = sink.query(
        "SELECT h.last_id, h.end_offset, c.state, c.lsn::text FROM ductstream.stream_heads h JOIN ductstream.stream_checkpoints c USING (stream_id)"
    )
    rows = events(sink, "id, end_offset, octet_length(payload), lsn::text")
    assert (last, state) == (500, "streaming") and end == sum(row[2] for row in rows) == rows[-1][1]
    assert number(lsn) >= number(rows[-1][3])
    assert sink.value("SELECT count(DISTINCT key_hash) FROM ductstream.stream_events") == 500
    database.sql("UPDATE a SET id = id + 1000 WHERE id = 7; DELETE FROM a WHERE id = 8")
    flow.run_until_caught_up()
    keys = dict(sink.query("SELECT id, key_hash FROM ductstream.stream_events"))
    ((hash_of_7,),) = sink.query("SELECT old_key_hash FROM ductstream.stream_events WHERE id = 501")
    assert hash_of_7 == keys[7] and keys[502] == keys[8] and keys[501] != keys[7]


@pytest.mark.parametrize("streaming", ["auto", "off"])
def test_a_large_transaction(database, sink, flow_to, streaming):
    """Larger than what is kept in memory; another one in between; every event has the LSN of its transaction."""
    database.sql("CREATE TABLE a (id int PRIMARY KEY, v text)")
    flow = flow_to(sink, source={} if streaming == "auto" else {"streaming": "off"}, top={"config": {"max_memory": "16MiB"}})
    flow.run_until_caught_up()
    with database.connect(autocommit=False) as connection:
        connection.execute("INSERT INTO a SELECT i, repeat(md5(i::text), 30) FROM generate_series(1, 20000) i")
        database.sql("INSERT INTO a VALUES (-1, 'between')")
        connection.execute("UPDATE a SET v = 'last' WHERE id = 20000")
    database.sql("INSERT INTO a VALUES (-2, 'after')")
    flow.run_until_caught_up()
    rows = events(sink, "id, lsn::text, convert_from(payload, 'utf8')::json #>> '{Records,0,After,id}'")
    assert [row[2] for row in rows] == ["-1", *map(str, range(1, 20001)), "20000", "-2"]
    lsns = [number(row[1]) for row in rows]
    assert len(set(lsns)) == 3 and lsns == sorted(lsns) and 0 not in lsns


def test_arrow(database, sink, flow_to):
    database.sql("CREATE TABLE a (id int PRIMARY KEY, v text); INSERT INTO a VALUES (1, 'one')")
    flow = flow_to(sink, format="arrow")
    flow.run_until_caught_up()
    ((wire_format, payload),) = events(sink, "wire_format, payload")
    table = pyarrow.ipc.open_stream(io.BytesIO(payload)).read_all()
    assert wire_format == "arrow" and table.column("v").to_pylist() == ["one"]


def test_the_format_is_the_flows_unless_it_has_its_own(database, sink, flow_to):
    database.sql("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
    flow_to(sink, top={"wire_format": "arrow"}).run_until_caught_up()
    assert events(sink, "wire_format") == [("arrow",)]
    run = flow_to(sink, name="other", top={"wire_format": "arrow"}, format="json").start("--until-caught-up")
    run.expect(EXIT_CONFIG)
    assert "json" in run.stderr and "arrow" in run.stderr
    run = flow_to(sink, name="third", format="avro").start()
    run.expect(EXIT_CONFIG)
    assert "avro" in run.stderr and "use arrow or json" in run.stderr


def test_a_table_that_joins_later_is_copied(database, sink, flow_to):
    database.sql("CREATE TABLE a (id int PRIMARY KEY); INSERT INTO a VALUES (1)")
    flow = flow_to(sink)
    flow.run_until_caught_up()
    database.sql("CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later SELECT generate_series(1, 10)")
    database.sql("INSERT INTO later VALUES (11)")
    flow.run_until_caught_up()
    database.sql("INSERT INTO later VALUES (12)")
    flow.run_until_caught_up()
    rows = [record(row[4])["After"]["id"] for row in events(sink) if row[3] == "later"]
    assert sorted(rows) == list(range(1, 13))


def test_two_flows_append_to_one_stream(database, sink, flow_to):
    database.sql("CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int PRIMARY KEY)")
    flows = [flow_to(sink, name=f"flow_{t}", source={"publication_tables": f"public.{t}"}, flush_interval="0") for t in "ab"]
    for flow in flows:
        flow.run_until_caught_up()
    runs = [flow.start() for flow in flows]
    for i in range(200):
        database.sql(f"INSERT INTO {'ab'[i % 2]} VALUES ({i})")
    wait_until(lambda: sink.value("SELECT last_id FROM ductstream.stream_heads") == 200, 60, "200 messages")
    for run in runs:
        run.terminate()
    rows = events(sink, "id, table_name, convert_from(payload, 'utf8')::json #>> '{Records,0,After,id}', end_offset, octet_length(payload)")
    assert [row[0] for row in rows] == list(range(1, 201))
    for table, rest in (("a", 0), ("b", 1)):
        assert [int(row[2]) for row in rows if row[1] == table] == list(range(rest, 200, 2))
    assert [row[3] for row in rows] == [sum(row[4] for row in rows[: i + 1]) for i in range(200)]


def test_the_flow_drops_what_retention_lets_go(database, sink, flow_to):
    database.sql("CREATE TABLE a (id int PRIMARY KEY, v text)")
    flow = flow_to(sink, retention_bytes="20KB")
    flow.run_until_caught_up()
    database.sql("INSERT INTO a SELECT i, repeat('x', 500) FROM generate_series(1, 6000) i")
    flow.run_until_caught_up()
    run = flow.start()
    run.wait_for(lambda: sink.value("SELECT count(*) FROM ductstream.stream_events") < 40, 30, "old messages to go")
    assert sink.value("SELECT max(id) FROM ductstream.stream_events") == 6000
    run.kill()


def test_a_stream_does_not_carry_itself(database, flow_to):
    database.sql("CREATE TABLE a (id int PRIMARY KEY)")
    run = flow_to(database).start("--until-caught-up")
    run.expect(EXIT_CONFIG, 60)
    assert "a table of the stream itself" in run.stderr
    listed = flow_to(database, name="listed", source={"publication_tables": "public.a"})
    listed.run_until_caught_up()
    database.sql("INSERT INTO a VALUES (1)")
    listed.run_until_caught_up()
    assert [row[1] for row in events(database)] == ["insert"]


def test_tables_of_a_newer_program(database, sink, flow_to):
    database.sql("CREATE TABLE a (id int PRIMARY KEY)")
    flow = flow_to(sink)
    flow.run_until_caught_up()
    sink.sql("INSERT INTO ductstream.stream_version VALUES (99)")
    run = flow.start()
    run.expect(EXIT_CONFIG)
    assert "version 99" in run.stderr and "use a newer one" in run.stderr
