"""Tables of ours that an older program made, in lakes, states and streams: brought to this one's shape at open; a newer program's are refused."""

import importlib.util
import sqlite3

import pytest

from lib.cli import ductstream
from lib.flow import EXIT_CONFIG
from lib.paths import ROOT
from lib.service import DUCKLAKE, POSTGRES, Service
from lib.stream import FILES, Stream
from lib.wait import wait_until

# As the first shape was made.
OLD = (
    "ALTER TABLE {}ductstream_checkpoint RENAME TO newer_checkpoint",
    "CREATE TABLE {}ductstream_checkpoint(flow VARCHAR PRIMARY KEY, epoch BIGINT NOT NULL, seq BIGINT NOT NULL, "
    "state VARCHAR NOT NULL, lsn BIGINT NOT NULL, commit_us BIGINT NOT NULL, commit_id VARCHAR, source_identity VARCHAR, "
    "snapshot_id BIGINT)",
    "INSERT INTO {}ductstream_checkpoint SELECT flow, epoch, seq, state, lsn, commit_us, commit_id, source_identity, "
    "snapshot_id FROM {}newer_checkpoint",
    "DROP TABLE {}newer_checkpoint",
    "ALTER TABLE {}ductstream_lake RENAME TO newer_lake",
    "CREATE TABLE {}ductstream_lake(uuid VARCHAR NOT NULL)",
    "INSERT INTO {}ductstream_lake SELECT uuid FROM {}newer_lake",
    "DROP TABLE {}newer_lake",
)


def make_old(m):
    for statement in OLD:
        if statement.startswith("ALTER") and not m.home.catalog.startswith("sqlite"):
            statement += "; ALTER INDEX IF EXISTS public.ductstream_checkpoint_pkey RENAME TO newer_pkey"
        m.change_catalog(statement)


def owner_and_version(m):
    return (
        m.catalog("SELECT owner IS NOT NULL FROM {}ductstream_checkpoint"),
        m.catalog("SELECT version FROM {}ductstream_lake"),
    )


@pytest.fixture
def older(mirror):
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')")
    m.sync()
    m.close_lake()
    make_old(m)
    m.sql("UPDATE t SET v = 'two'")
    return m


def test_older_lake_goes_on_with_its_position(older):
    snapshots = older.last_snapshot()
    older.sync()
    assert older.last_snapshot() == snapshots + 1, "it was copied again, or not at all"
    older.same("t")
    assert owner_and_version(older) in (([(1,)], [(1,)]), ([(True,)], [(1,)]))
    older.sql("DELETE FROM t")
    older.sync()
    older.same("t")


def test_older_lake_is_read_as_it_is(older):
    code, text, _ = ductstream("lake", "snapshots", str(older.flow.path))
    assert code == 0 and "ductstream" in text
    with pytest.raises(Exception, match="owner"):
        older.catalog("SELECT owner FROM {}ductstream_checkpoint")


def test_kill_in_the_upgrade(older):
    point = "commit-statement:2" if older.home.catalog.startswith("sqlite") else "commit-sent:1"
    older.flow.start("--until-caught-up", env={"DUCT_KILL_POINT": point}).expect(-9)
    older.sync()
    older.same("t")
    assert older.catalog("SELECT version FROM {}ductstream_lake") == [(1,)]


def test_newer_lake_is_refused(mirror):
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')")
    m.sync()
    m.change_catalog("UPDATE {}ductstream_lake SET version = 99")
    m.sql("UPDATE t SET v = 'two'")
    stderr = m.refuses(EXIT_CONFIG)
    assert "have version 99, this program knows them up to version" in stderr
    assert ductstream("lake", "snapshots", str(m.flow.path))[0] == EXIT_CONFIG


def test_older_state_table_at_the_source(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')")
    m.sync()
    m.sql("ALTER TABLE ductstream.source_state DROP COLUMN members", "INSERT INTO t VALUES (2, 'two')")
    m.sync()
    m.same("t")
    oid = m.database.value("SELECT 't'::regclass::oid")
    assert f"{oid}:" in m.database.value("SELECT members FROM ductstream.source_state")


def test_foreign_table_in_place_of_the_state_table_is_left_alone(mirror_sqlite):
    m = mirror_sqlite(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'one')",
        "CREATE SCHEMA ductstream; CREATE TABLE ductstream.source_state (what text)",
    )
    m.sync()
    m.same("t")
    columns = m.database.query("SELECT attname FROM pg_attribute WHERE attrelid = 'ductstream.source_state'::regclass AND attnum > 0")
    assert columns == [("what",)]


# --- the state of the service, and streams: from each older version on -----------------------------------------------------------------

PGSTREAM = 8
SOURCE = {"type": POSTGRES, "options": {"dsn": "host=db", "slot": "s", "publication": "p"}}
LAKE = {"name": "lake", "type": DUCKLAKE, "options": {"catalog": "sqlite:none/catalog.sqlite", "data_path": "none"}}
STATE_FILES = sorted((ROOT / "sql" / "state").glob("*.sql"))
JOB = """'sql', 'default', '{"dsn": "warehouse", "statements": ["SELECT 1"]}'"""
# What was in the tables when they were new: by the version that made them.
ROWS = {
    2: "INSERT INTO flows VALUES ('old', 'old', 'paused', 'why', '{definition}', 3, 5, 6); INSERT INTO leases VALUES ('flow/old', 'h', 7, 0)",
    4: "INSERT INTO ddl_events (flow_id, schema_name, table_name, ddl, plan, lsn, fingerprint, status, decided_by, created_us, decided_us, "
    "applied_us) VALUES ('old', 'public', 't', 'ALTER', '{{}}', 5, 'f', 'pending', '', 1, 0, 0)",
    10: "INSERT INTO runs (id, kind, queue, input, tags, concurrency_limit, state, attempt, max_attempts, fence, cancel_requested, progress_done, "
    "progress_total, log_seq, log_bytes, revision, created_us, due_us, started_us, heartbeat_us, lease_us, finished_us, worker, partition_key) "
    "VALUES ('r', {job}, '{{}}', 0, 2, 1, 3, 5, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 0, 'gone', 'p'); UPDATE run_fence SET value = 5",
    11: "INSERT INTO schedules (name, kind, queue, input, cron, timezone, paused, each_running_flow, max_attempts, concurrency_limit, next_us, "
    "last_us, last_enqueued) VALUES ('each', {job}, '* * * * * *', '', 0, 0, 3, 0, 1, 1, 1); "
    "INSERT INTO partitions VALUES ('sql', 'p', 'running', 1, 'r', 1)",
}


def older_state(engine, level, definition):
    spec = importlib.util.spec_from_file_location("embed", ROOT / "sql" / "embed.py")
    embed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(embed)
    script = "CREATE TABLE ductstream_migrations (version BIGINT NOT NULL PRIMARY KEY, name TEXT NOT NULL, applied_us BIGINT NOT NULL);"
    for path in STATE_FILES:
        version, text = int(path.name[:3]), embed.text_for(engine, path)
        if text and version <= level:
            rows = ROWS.get(version, "").format(definition=definition, job=JOB)
            script += f"{text};INSERT INTO ductstream_migrations VALUES ({version}, '', 1);{rows};"
    return script


@pytest.mark.parametrize("level", [2, 4, 10, 11, 12])
@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
def test_older_state_of_the_service(tmp_path, database, engine, level):
    """Two servers open it at once: what was in it is there, and its runs and schedules go on."""
    settings = {"RUN_DSN_WAREHOUSE": database.dsn, "RUN_LEASE": "5s", "SECRET_KEY": "ab" * 32}
    home = tmp_path / "home"
    home.mkdir()
    with Service(tmp_path / "made", **settings) as made:
        made.call("CreateFlow", flow={"id": "old", "source": SOURCE, "destinations": [LAKE]})
        with sqlite3.connect(made.state) as state:
            ((definition,),) = state.execute("SELECT definition FROM flows")
        state.close()
    script = older_state(engine, level, definition)
    if engine == "sqlite":
        state = sqlite3.connect(home / "state.db")
        state.executescript(script)
        state.close()
    else:
        database.sql("CREATE SCHEMA ductstream; SET search_path = ductstream; " + script)
        settings["POSTGRES_DSN"] = database.dsn
    with Service(home, **settings) as one, Service(home, **settings) as other:
        assert one.state_of("old") == "paused"
        assert len(other.call("DDLService/ListDDL", flow_id="old").events) == (level >= 4)
        one.call("CreateFlow", flow={"id": "new", "source": SOURCE, "destinations": [LAKE]})
        if level >= 10:
            wait_until(lambda: other.call("RunService/GetRun", id="r").state == 3, 20, "the run to be done again")
        if level >= 11:
            wait_until(lambda: len(one.call("RunService/ListRuns", schedule="each").runs) > 1, 20, "ticks of the schedule")
            assert [each.state for each in one.call("ScheduleService/ListPartitions").partitions] == ["done"]


@pytest.mark.parametrize("level", range(2, len(FILES)))
def test_older_streams(tmp_path, database, level):
    """A server opens them: what was claimed stays so, what was not is handed out."""
    database.sql("CREATE SCHEMA ductstream; CREATE TABLE ductstream.stream_version (version int PRIMARY KEY, applied_at timestamptz)")
    for version, file in enumerate(FILES[:level], 1):
        database.sql(file.read_text() + f"; INSERT INTO ductstream.stream_version VALUES ({version}, now())")
    stream = Stream(database, ordered=True)
    stream.fill(20, keys=5)
    claim, ids, _ = stream.pull(most=3)
    assert stream.ack(claim, ids[:2]) == 2
    with Service(tmp_path / "home") as service:
        destination = {"name": "orders", "type": PGSTREAM, "options": {"dsn": database.dsn}}
        service.call("CreateFlow", flow={"id": "orders", "source": SOURCE, "destinations": [destination]})
        pulled = service.call("StreamService/Pull", stream="orders", consumer_group="g", max_messages=100)
    assert [message.id for message in pulled.messages] == [4, 5, 6, 7]
    assert database.value("SELECT max(version) FROM ductstream.stream_version") == len(FILES)
