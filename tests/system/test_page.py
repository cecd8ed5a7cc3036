"""The commands of docs/usage.md, in their order, with nothing filled in but DSN, flow id and LSN (issue 5, "Shows it").

Sections about destinations that come later have no commands, only options: what is there instead is that such a flow is refused by name."""

import json
import os
import re
import subprocess
import sys

import pytest

from lib.api import grpcurl
from lib.child import popen
from lib.compare import assert_same
from lib.lake import OfficialLake
from lib.paths import CACHE, ROOT, program
from lib.wait import wait_until

PAGE = ROOT / "docs" / "usage.md"
DSN = "postgres://user:pass@localhost:5432/ductstream?sslmode=disable"
LSN = "0/16B6C50"

pytestmark = pytest.mark.skipif(grpcurl() is None, reason="no grpcurl: tools/setup --servers fetches it")


def blocks():
    return re.findall(r"^```bash\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)


# The page that ours has to follow, command by command; what is in it is a fact of another program's interface.
COMMANDS = """\
export DUCTSTREAM_POSTGRES_DSN="postgres://user:pass@localhost:5432/ductstream?sslmode=disable"
export DUCTSTREAM_GRPC_LISTEN=":8080"
export DUCTSTREAM_WIRE_FORMAT="arrow"
export DUCTSTREAM_WIRE_ENFORCE="true"
./bin/ductstream
examples/grpc/create_flow.sh
./bin/ductstream-worker -flow-id "<flow-id>"
export DUCTSTREAM_DBOS_ENABLED="true"
export DUCTSTREAM_DBOS_APP="ductstream"
export DUCTSTREAM_DBOS_QUEUE="ductstream"
export DUCTSTREAM_DBOS_SCHEDULE="*/10 * * * * *" # every 10 seconds
export DUCTSTREAM_CHECKPOINT_BACKEND="sqlite"
export DUCTSTREAM_CHECKPOINT_PATH="$HOME/.ductstream/checkpoints.db"
export DUCTSTREAM_WIRE_FORMAT="arrow"   # arrow | parquet | avro | proto | json
export DUCTSTREAM_WIRE_ENFORCE="true"
./bin/ductstream-admin publication list -flow-id "<flow-id>"
./bin/ductstream-admin publication sync -flow-id "<flow-id>" -schemas public -mode add -pause -resume
./bin/ductstream-admin publication sync -flow-id "<flow-id>" -tables public.new_table -snapshot -pause -resume
./bin/ductstream-admin stream pull -stream orders -group search -max 10 -visibility 30
./bin/ductstream-admin stream ack -stream orders -group search -ids 1,2,3
export DUCTSTREAM_DDL_GATE="true"
export DUCTSTREAM_DDL_AUTO_APPROVE="false"
export DUCTSTREAM_DDL_AUTO_APPLY="false"
./bin/ductstream-admin ddl list -status pending
./bin/ductstream-admin ddl approve -id 1
./bin/ductstream-admin ddl apply -id 1
./bin/ductstream-worker -flow-id \\"<flow-id>\\" -mode backfill -tables public.users,public.orders
./bin/ductstream-worker -flow-id \\"<flow-id>\\" -mode backfill -tables public.users -snapshot-workers 4 -partition-column id -partition-count 8
./bin/ductstream-worker -flow-id \\"<flow-id>\\" -start-lsn \\"0/16B6C50\\"
./bin/ductstream-admin stream replay -stream orders -group search -since 2025-01-01T00:00:00Z
""".splitlines()


def test_our_page_has_every_command_in_order():
    assert [line for block in blocks() for line in block.splitlines()] == COMMANDS


@pytest.fixture
def network():
    """The words in front of a command that has the ports of the page to itself: a network of its own, where that may be made."""
    up = (
        "import fcntl, socket, struct, sys; s = socket.socket(); "
        "fcntl.ioctl(s, 0x8914, struct.pack('16sh', b'lo', 0x41)); print('up', flush=True); sys.stdin.read()"
    )
    holder = popen(
        ["unshare", "-n", sys.executable, "-c", up], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    if holder.stdout.readline() != "up\n":
        holder.wait()
        pytest.skip("the page's own ports are needed, and no network of one's own can be made here")
    yield ["nsenter", f"--net=/proc/{holder.pid}/ns/net", "--"]
    holder.stdin.close()
    holder.wait(timeout=10)


@pytest.mark.parametrize("name", ["kafka", "s3", "http", "snowflake", "snowpipe", "clickhouse", "bufstream"])
def test_a_later_destination_is_refused_by_its_name(tmp_path, name):
    path = tmp_path / "f.yaml"
    path.write_text(
        "name: x\nsource: {type: postgres, options: {dsn: dbname=x, slot: x, publication: x}}\n"
        f"destinations: [{{name: d, type: {name}, options: {{}}}}]\n"
    )
    done = subprocess.run([program("ductstream-admin"), "flow", "validate", "-file", path], capture_output=True, text=True)
    assert done.returncode == 2 and f'"{name}"' in done.stderr, done.stderr


class Reader:
    """Somebody who follows the page in one shell: what is exported stays."""

    def __init__(self, network, home, dsn, environment):
        self.network, self.home, self.dsn = network, home, dsn
        kept = {k: v for k, v in os.environ.items() if not k.startswith("DUCTSTREAM_")}
        self.env = kept | {"HOME": str(home), "DUCTSTREAM_CACHE": str(CACHE)} | environment
        self.flow, self.lsn = None, None
        self.background = []

    def filled(self, text):
        return text.replace(DSN, self.dsn).replace("<flow-id>", self.flow or "<flow-id>").replace(LSN, self.lsn or LSN)

    def export(self, lines):
        after = self.home / "environment"
        subprocess.run(["bash", "-ec", f"{self.filled(lines)}\nenv -0 >'{after}'"], env=self.env, check=True, cwd=ROOT)
        self.env = dict(one.split("=", 1) for one in after.read_text().split("\0") if one)

    def run(self, text, timeout_s=60):
        done = subprocess.run(
            [*self.network, "bash", "-ec", self.filled(text)], env=self.env, capture_output=True, text=True, timeout=timeout_s, cwd=ROOT
        )
        return done.returncode, done.stdout, done.stderr

    def ok(self, text, **more):
        code, out, err = self.run(text, **more)
        assert code == 0, f"{text}\n{code}\n{out}{err}"
        return out

    def start(self, text):
        log = open(self.home / f"log-{len(self.background)}", "w+")
        process = popen([*self.network, "bash", "-c", f"exec {self.filled(text)}"], env=self.env, cwd=ROOT, stdout=log, stderr=log)
        self.background.append((process, log))
        return process

    def said(self):
        return "\n".join(f"--- {log.name}\n{open(log.name).read()[-3000:]}" for _, log in self.background)

    def stop(self, process, timeout_s=60):
        if process.poll() is None:
            process.terminate()
        return process.wait(timeout=timeout_s)

    def close(self):
        for process, log in self.background:
            if process.poll() is None:
                process.kill()
            process.wait()
            log.close()

    def admin(self, words):
        """A command of ours between those of the page."""
        return json.loads(self.ok(f"{program('ductstream-admin')} {words} --json"))


@pytest.fixture
def reader(network, server, request, tmp_path):
    """The reader, with a source database of users and orders, and a control database."""
    source, control = server.database("page_source"), server.database("page_control")
    source.sql(
        """CREATE TABLE users (id int PRIMARY KEY, name text); CREATE TABLE orders (id int PRIMARY KEY, what text);
        INSERT INTO users SELECT i, 'user ' || i FROM generate_series(1, 50) i;
        INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 50) i;
        CREATE PUBLICATION ductstream_shop FOR TABLE users, orders"""
    )
    home = tmp_path / "home"
    home.mkdir()
    found = Reader(network, home, control.dsn, {"DUCTSTREAM_SOURCE_DSN": source.dsn, "DUCTSTREAM_LAKE": str(home / "lake")})
    found.source, found.lake_folder = source, home / "lake"
    yield found
    found.close()
    source.drop()
    control.drop()


def serve(reader):
    """Starts the server as the page does, waits until it answers."""
    process = reader.start("./bin/ductstream")

    def answers():
        assert process.poll() is None, reader.said()
        return reader.run("./bin/ductstream-admin flow list")[0] == 0

    wait_until(answers, 30, "the server to answer")
    return process


def wait_same(reader, table):
    """Until the lake has what the source has."""

    def rows():
        try:
            with OfficialLake(f"sqlite:{reader.lake_folder}/catalog.sqlite", f"{reader.lake_folder}/data") as lake:
                return sorted(lake.sql(f"SELECT * FROM lake.public.{table}"))
        except Exception:  # there is no lake, or no such table in it, yet
            return None

    try:
        wait_until(lambda: rows() == sorted(reader.source.query(f"SELECT * FROM {table}")), 60, f"{table} in the lake", interval_s=0.2)
    except AssertionError:
        raise AssertionError(reader.said()) from None


ORDERS_TO_STREAM = {
    "flow": {
        "id": "orders",
        "name": "orders",
        "source": {
            "name": "source",
            "type": "ENDPOINT_TYPE_POSTGRES",
            "options": {"slot": "orders", "publication": "orders", "publication_tables": "public.orders"},
        },
        "destinations": [{"name": "orders", "type": "ENDPOINT_TYPE_PGSTREAM", "options": {}}],
        "wire_format": "WIRE_FORMAT_JSON",
    },
    "start_immediately": True,
}


def fill_stream(reader):
    """A stream "orders" with what is in the table: the destination of that section of the page, filled by a run of its flow."""
    request = json.loads(json.dumps(ORDERS_TO_STREAM))
    for end in (request["flow"]["source"], *request["flow"]["destinations"]):
        end["options"]["dsn"] = reader.source.dsn
    path = reader.home / "orders.json"
    path.write_text(json.dumps(request))
    reader.ok(f"examples/grpc/create_flow.sh {path}")
    reader.ok("./bin/ductstream-worker -flow-id orders -max-empty-reads 1 -quiet")


@pytest.mark.timeout(300)
def test_the_page_line_by_line(reader):
    todo = blocks()

    # The server.
    *exports, command = todo.pop(0).splitlines()
    assert command == "./bin/ductstream"
    reader.export("\n".join(exports))
    serving = serve(reader)

    # A flow, as the script makes it.
    flow = json.loads(reader.ok(todo.pop(0)))
    reader.flow = flow["id"]
    assert flow["name"] == "shop"

    # Its worker.
    working = reader.start(todo.pop(0).strip())
    # Nobody else opens the lake before it is made.
    copied = f"{program('ductstream-admin')} checkpoint get -flow-id {reader.flow}"
    wait_until(lambda: reader.run(copied)[0] == 0, 60, "the first copy")
    for table in ("users", "orders"):
        wait_same(reader, table)
    assert reader.admin(f"flow get -flow-id {reader.flow}")["state"] == "FLOW_STATE_RUNNING"

    # Settings for DBOS, checkpoints, formats: the server starts with each of them.
    for _ in range(3):
        reader.export(todo.pop(0))
        reader.stop(serving)
        serving = serve(reader)
    assert reader.env["DUCTSTREAM_DBOS_SCHEDULE"] == "*/10 * * * * *"
    assert (reader.home / ".ductstream" / "checkpoints.db").exists()

    # Tables of the publication.
    assert "public.users" in reader.ok(todo[0].splitlines()[0])
    reader.source.sql("CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later VALUES (1), (2)")
    assert "public.later" in reader.ok(todo.pop(0).splitlines()[1])
    reader.source.sql("CREATE TABLE new_table (id int PRIMARY KEY, v text); INSERT INTO new_table VALUES (1, 'before')")
    assert "public.new_table" in reader.ok(todo.pop(0))
    if working.poll() is not None:  # the pause ended it, and under dispatch none its owner starts it again
        working = reader.start(f'./bin/ductstream-worker -flow-id "{reader.flow}"')
    reader.source.sql("INSERT INTO new_table VALUES (2, 'after')")
    wait_same(reader, "new_table")

    # Streams, changes of schema, backfill, replay.
    for block in todo:
        if block.startswith("export "):
            reader.export(block)
            for process in (working, serving):
                reader.stop(process)
            serving = serve(reader)
            working = reader.start(f'./bin/ductstream-worker -flow-id "{reader.flow}"')
            continue
        if "stream pull" in block:
            fill_stream(reader)
        if "ddl list" in block:
            reader.source.sql("ALTER TABLE users ADD COLUMN email text; INSERT INTO users VALUES (51, 'user 51', 'x@y.z')")
            wait_until(lambda: reader.admin("ddl list -status pending")["events"], 60, "a change of schema that waits")
            assert reader.admin(f"flow get -flow-id {reader.flow}")["state"] == "FLOW_STATE_PAUSED"
        if "ductstream-worker" in block and working:
            assert reader.stop(working) == 0, reader.said()
            working = None
        if "-start-lsn" in block:
            slot = "FROM pg_replication_slots WHERE slot_name = 'ductstream_shop'"
            reader.lsn = reader.source.value(f"SELECT confirmed_flush_lsn::text {slot}")
            reader.source.sql("UPDATE users SET name = 'replayed' WHERE id = 7")
            replaying = reader.start(block.strip())
            wait_same(reader, "users")
            assert reader.stop(replaying) == 0, reader.said()
            continue
        said = reader.ok(block)
        if "stream pull" in block:
            assert "1 public.orders load" in said and '"order 1"' in said, said
        if "stream ack" in block:
            assert re.search(r"^acked +3$", said, re.MULTILINE), said
        if "stream replay" in block:
            assert re.search(r"^reset +3$", said, re.MULTILINE), said
        if "ddl list" in block:
            assert "ADD COLUMN" in said.upper() and re.search(r"^status +applied$", said, re.MULTILINE), said
            wait_same(reader, "users")
        if "-mode backfill" in block:
            wait_same(reader, "users")
    with OfficialLake(f"sqlite:{reader.lake_folder}/catalog.sqlite", f"{reader.lake_folder}/data") as lake:
        for table in ("users", "orders", "new_table"):
            assert_same(reader.source, lake, f"public.{table}")
    assert reader.stop(serving) == 0, reader.said()
