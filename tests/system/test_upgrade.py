"""Tables of ours that an older program made: brought to this one's shape at open; those of a newer program are refused."""

import pytest

from lib.cli import ductstream
from lib.flow import EXIT_CONFIG

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
