"""ductstream-admin: streams, runs, schedules, changes of schema (issue 5, points 5, 6, 7, 8)."""

import json
import re
import sqlite3
import subprocess

import pytest
import yaml

from lib.admin import Admin
from lib.api import Server
from lib.paths import program
from lib.wait import wait_until


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    home = tmp_path_factory.mktemp("service")
    with Server(home, RUN_COMMANDS="true") as server:
        server.state_path = home / "state.db"
        yield server.ready()


@pytest.fixture
def admin(service):
    return Admin(service.address, DUCTSTREAM_STATE_PATH=service.state_path, HOME=service.state_path.parent)


@pytest.fixture
def orders(admin, database, tmp_path):
    """A stream "orders" with five messages, as a flow wrote them."""
    database.sql("CREATE TABLE orders (id int PRIMARY KEY, what text); INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 5) i")
    name = database.name[-40:]
    path = tmp_path / "orders.yaml"
    content = {
        "name": name,
        "source": {"type": "postgres", "options": {"dsn": database.dsn, "slot": name, "publication": name, "publication_tables": "public.orders"}},
        "destinations": [{"name": name, "type": "pgstream", "options": {"dsn": database.dsn, "format": "json"}}],
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    flow = admin.json("flow", "create", "-file", path, "-start")["id"]
    done = subprocess.run(
        [program("ductstream-worker"), "-flow-id", flow, "-max-empty-reads", "1", "-quiet"],
        env=admin.env,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    # The server may still have a session of the database that had this name before.
    wait_until(lambda: admin("stream", "show", "-stream", name)[0] == 0, 20, "the stream to answer")
    return name


def test_pull_ack_nack_replay(admin, orders):
    def stream(command, *more):
        return admin.json("stream", command, "-stream", orders, "-group", "search", *more)

    first = stream("pull", "-max", 3, "-visibility", 30)
    assert [int(message["id"]) for message in first["messages"]] == [1, 2, 3] and first["claim"]
    text = admin.ok("stream", "pull", "-stream", orders, "-group", "other", "-max", 1)
    assert re.search(r"^1 public\.orders load ", text) and '"order 1"' in text and "\nclaim " in text
    assert stream("ack", "-ids", "1,2") == {"acked": "2"}
    assert stream("ack", "-ids", "1,2") == {"acked": "0"}, "what is done is nobody's any more"
    assert stream("ack", "-ids", "4,5") == {"acked": "0"}, "nobody claimed these"
    assert stream("extend", "-claim", first["claim"], "-visibility", 60)["extended"] == "1"
    assert stream("nack", "-claim", first["claim"], "-reason", "later")["nacked"] == "1"
    assert [int(message["id"]) for message in stream("pull")["messages"]] == [3, 4, 5]
    groups = {group["consumerGroup"]: group for group in admin.json("stream", "lag", "-stream", orders)["groups"]}
    assert set(groups) == {"search", "other"} and groups["search"]["lagMessages"] == "3"
    assert int(stream("replay", "-since", "2025-01-01T00:00:00Z")["reset"]) == 2, "those that are done, not those that are held"
    assert admin.json("stream", "show", "-stream", orders)["lastId"] == "5"
    assert stream("delete-group") == {"deleted": True}
    assert "name --ids or --claim" in admin.refused("stream", "ack", "-stream", orders, "-group", "search")


def test_a_long_poll_ends_with_a_message_or_in_time(admin, orders):
    admin.ok("stream", "pull", "-stream", orders, "-group", "g", "-max", 10)
    assert admin.ok("stream", "pull", "-stream", orders, "-group", "g", "-wait", 1) == "no messages\n"


def test_dead_letters(admin, orders):
    group = ("-stream", orders, "-group", "fragile")
    assert admin.json("stream", "group", *group, "-max-attempts", 1)["maxAttempts"] == 1
    admin.ok("stream", "pull", *group, "-max", 2)
    admin.ok("stream", "nack", *group, "-ids", "1,2", "-reason", "broken")
    dead = admin.json("stream", "dead", *group)["deadLetters"]
    assert [(one["message"]["id"], one["reason"]) for one in dead] == [("1", "broken"), ("2", "broken")]
    assert "broken" in admin.ok("stream", "dead", *group)
    assert admin.json("stream", "redrive", *group, "-ids", "1") == {"redriven": "1"}
    assert "name --ids or --all" in admin.refused("stream", "drop-dead", *group)
    assert admin.json("stream", "drop-dead", *group, "-all") == {"dropped": "1"}


def test_runs(admin):
    run = admin.json("run", "submit", "-kind", "command", "-input", json.dumps({"argv": ["/bin/echo", "hello from it"]}), "-queue", "default")
    assert run["state"] in ("RUN_STATE_QUEUED", "RUN_STATE_RUNNING")
    code, out, err = admin("run", "watch", "-id", run["id"])
    assert code == 0 and out.splitlines()[-1].startswith("succeeded"), out + err
    assert "hello from it" in admin.ok("run", "logs", "-id", run["id"])
    assert run["id"] in admin.ok("run", "list", "-state", "succeeded")
    assert admin.json("run", "get", "-id", run["id"])["attempt"] == 1
    assert "FAILED_PRECONDITION" in admin.refused("run", "retry", "-id", run["id"])
    waiting = admin.json("run", "submit", "-kind", "command", "-input", '{"argv": ["/bin/true"]}', "-due-at", "2999-01-01T00:00:00Z", "-tags", "a=b,c=d")
    assert waiting["tags"] == {"a": "b", "c": "d"}
    assert admin.json("run", "cancel", "-id", waiting["id"])["state"] == "RUN_STATE_CANCELLED"
    assert admin("run", "watch", "-id", waiting["id"])[0] == 130
    long_id = "polls@" + "x" * 90  # such as those of schedules are
    admin.ok("run", "submit", "-kind", "command", "-input", '{"argv": ["/bin/true"]}', "-id", long_id, "-due-at", "2999-01-01T00:00:00Z")
    assert [line.split()[:3] for line in admin.ok("run", "list", "-state", "queued").splitlines()[1:]] == [[long_id, "command", "queued"]]
    admin.ok("run", "cancel", "-id", long_id)
    failing = admin.json("run", "submit", "-kind", "command", "-input", '{"argv": ["/bin/false"]}', "-max-attempts", 1)
    code, out, _ = admin("run", "watch", "-id", failing["id"])
    assert code == 3 and out.splitlines()[-1] == f"failed: {admin.json('run', 'get', '-id', failing['id'])['error']}"


def test_ctrl_c_ends_a_watch(admin):
    run = admin.json("run", "submit", "-kind", "command", "-input", '{"argv": ["/bin/true"]}', "-due-at", "2999-01-01T00:00:00Z")
    code, err = admin.interrupted("run", "watch", "-id", run["id"])
    assert code == 130 and err.endswith("stopped\n"), err


def test_schedules(admin):
    made = admin.json("schedule", "create", "-name", "often", "-cron", "*/10 * * * * *", "-each-running-flow", "-paused")
    assert made["cron"] == "*/10 * * * * *" and made["eachRunningFlow"] and made["paused"]
    assert "often" in admin.ok("schedule", "list")
    assert admin.json("schedule", "update", "-name", "often", "-cron", "0 3 * * *", "-kind", "flow-once", "-each-running-flow", "-paused")["cron"] == "0 3 * * *"
    assert admin.json("schedule", "get", "-name", "often")["name"] == "often"
    assert "runs" in admin.json("schedule", "tick", "-name", "often")
    assert admin.json("schedule", "delete", "-name", "often") == {"deleted": True}
    assert "cron" in admin.refused("schedule", "create", "-name", "never", "-cron", "61 * * * *", "-each-running-flow")
    for command in (["sensor", "list"], ["partition", "list"]):
        admin.ok(*command)


def test_changes_of_schema(admin, service, database, tmp_path):
    """The events themselves are written down here: who meets them is a flow (test_ddl_gate)."""
    flow = tmp_path / "f.yaml"
    flow.write_text(
        yaml.safe_dump(
            {
                "name": "ddl",
                "source": {"type": "postgres", "options": {"dsn": database.dsn, "slot": "ddl", "publication": "ddl"}},
                "destinations": [{"name": "lake", "type": "ducklake", "options": {"catalog": f"sqlite:{tmp_path}/c", "data_path": f"{tmp_path}/d"}}],
            }
        )
    )
    flow_id = admin.json("flow", "create", "-file", flow)["id"]
    with sqlite3.connect(service.state_path) as state:
        for number in (1, 2):
            state.execute(
                "INSERT INTO ddl_events (flow_id, schema_name, table_name, ddl, plan, lsn, fingerprint, status, decided_by, created_us, "
                "decided_us, applied_us) VALUES (?, 'public', 'orders', ?, '{\"changes\":[],\"irreversible\":true}', 100, ?, 'pending', '', 1, 0, 0)",
                (flow_id, f"ALTER TABLE orders ADD c{number} int", f"f{number}"),
            )
    pending = admin.json("ddl", "list", "-status", "pending", "-flow-id", flow_id)["events"]
    assert len(pending) == 2
    one, two = (event["id"] for event in pending)
    assert "ADD c1 int" in admin.ok("ddl", "show", "-id", one) and "irreversible" in admin.ok("ddl", "show", "-id", one)
    assert admin.json("ddl", "approve", "-id", one)["event"]["status"] == "approved"
    assert admin.json("ddl", "reject", "-id", two)["event"]["status"] == "rejected"
    assert {e["id"]: e["status"] for e in admin.json("ddl", "history", "-flow-id", flow_id)["events"]} == {one: "approved", two: "rejected"}
    assert admin.ok("ddl", "list", "-flow-id", flow_id) == "no such schema changes\n"
    assert "none of pending, approved" in admin.refused("ddl", "list", "-status", "open")
    assert "there is none" in admin.refused("ddl", "show", "-id", 999999)
    assert "NOT_FOUND" in admin.refused("ddl", "approve", "-id", 999999)


def test_watching_waits(admin):
    """A watched run that is enqueued for later shows its state at once."""
    run = admin.json("run", "submit", "-kind", "command", "-input", '{"argv": ["/bin/true"]}', "-due-at", "2999-01-01T00:00:00Z")
    seen = subprocess.Popen([program("ductstream-admin"), "run", "watch", "-id", run["id"]], env=admin.env, stdout=subprocess.PIPE, text=True)
    try:
        assert seen.stdout.readline().startswith("queued")
        admin.ok("run", "cancel", "-id", run["id"])
        wait_until(lambda: seen.poll() is not None, 20, "the watch to end")
        assert seen.returncode == 130
    finally:
        seen.kill()
        seen.wait()
