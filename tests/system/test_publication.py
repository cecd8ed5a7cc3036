"""Tables that leave the publication: what they miss is copied when they come back."""

import pytest

from lib.flow import EXIT_CONFIG

TABLES = (
    "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY);"
    " INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 20) i; CREATE PUBLICATION shop FOR TABLE t, other"
)
LEAVE, RETURN = "ALTER PUBLICATION shop DROP TABLE t", "ALTER PUBLICATION shop ADD TABLE t"
MISSED = ("DELETE FROM t WHERE id < 5", "UPDATE t SET v = 'missed' WHERE id = 7", "INSERT INTO t VALUES (30, 'missed')")
CHANGES = ("UPDATE t SET v = v || '!' WHERE id IN (7, 8, 30)", "DELETE FROM t WHERE id = 9", "INSERT INTO t VALUES (3, 'new')")
QUICK = {"source": {"status_interval": "200ms"}}  # how often the publication is looked at


def _same(m, *tables):
    try:
        m.same(*tables)
    except AssertionError:
        return False
    return True


def members(m):
    return m.database.value("SELECT members FROM ductstream.source_state")


def test_while_the_flow_runs(mirror):
    m = mirror(TABLES, **QUICK)
    m.sync()
    before = m.rows("t")
    run = m.flow.start()
    m.wait_until(lambda: len((members(m) or "").split()) == 2, 30, "the memberships to be noted")
    m.sql("UPDATE t SET v = 'before' WHERE id = 1; " + LEAVE)
    m.wait_until(lambda: any(entry.endswith(":1") for entry in members(m).split()), 30, "the flow to see it")
    m.sql(*MISSED, "INSERT INTO other VALUES (1)")
    m.wait_rows(run, "other", 1)
    assert m.rows("t") == [(1, "before")] + before[1:]
    m.sql(RETURN, *CHANGES)
    m.wait_until(lambda: _same(m, "t"), 60, "the lake to equal the source")
    m.sql("UPDATE t SET v = 'after' WHERE id = 30", "INSERT INTO other VALUES (2)")
    m.wait_rows(run, "other", 2)
    m.wait_until(lambda: _same(m, "t"), 60, "the lake to equal the source")
    assert run.terminate() == 0
    copies = len([s for s in m.snapshots() if s["commit_message"].endswith("copy")])
    m.sync()
    m.sql("DELETE FROM t WHERE id > 10")
    m.sync()
    m.same("t", "other")
    assert copies == 2 == len([s for s in m.snapshots() if s["commit_message"].endswith("copy")])


def test_while_it_is_down_and_unseen(mirror):
    m = mirror(TABLES)
    m.sync()
    m.sql(LEAVE, *MISSED, RETURN, *CHANGES)
    m.sync()
    m.same("t")
    m.sql(*(statement.replace("9", "10").replace("(3,", "(4,") for statement in CHANGES))
    m.sync()
    m.same("t")


def test_away_at_one_start_and_back_at_the_next(mirror):
    m = mirror(TABLES)
    m.sync()
    m.sql("UPDATE t SET v = 'before' WHERE id = 1", LEAVE, *MISSED)
    m.sync()
    assert (1, "before") in m.rows("t") and (7, "v7") in m.rows("t")
    m.sql("UPDATE t SET v = 'missed too' WHERE id = 11")
    m.sync()
    m.sql(RETURN, *CHANGES)
    m.sync()
    m.same("t")


PARTLY, WHOLLY = (f"ALTER PUBLICATION shop SET (publish = '{kinds}')" for kinds in ("insert", "insert, update, delete, truncate"))


@pytest.mark.parametrize("running", [True, False])
def test_kinds_of_changes_are_left_out(mirror, running):
    """What was not sent is copied; until then the flow does not go on."""
    m = mirror(TABLES, **QUICK)
    m.sync()
    run = m.flow.start()
    m.sql("INSERT INTO other VALUES (1)")
    m.wait_rows(run, "other", 1)
    m.wait_until(lambda: len((members(m) or "").split()) == 2, 30, "the memberships to be noted")
    if not running:
        assert run.terminate() == 0
    m.sql(PARTLY, *MISSED)
    if running:
        run.expect(EXIT_CONFIG)
        assert "leaves out some kinds of changes" in run.stderr, run.stderr
    assert "leaves out some kinds of changes" in m.fails(EXIT_CONFIG)
    m.sql(WHOLLY, *CHANGES, "DELETE FROM other")
    m.sync()
    m.same("t", "other")


@pytest.mark.parametrize("statement", ["ALTER PUBLICATION shop SET TABLE t, other", "ALTER PUBLICATION shop SET (publish_via_partition_root = false)"])
def test_nothing_is_copied_again_without_need(mirror_sqlite, statement):
    m = mirror_sqlite(TABLES)
    m.sync()
    m.sql("DELETE FROM t WHERE id = 3", statement, *CHANGES)
    m.sync()
    m.same("t")
    assert len([s for s in m.snapshots() if s["commit_message"].endswith("copy")]) == 1


def test_without_a_state_table(mirror_sqlite):
    """What is seen to be away is remembered while the flow runs."""
    m = mirror_sqlite(TABLES, source={"status_interval": "200ms", "ensure_state": False})
    m.sync()
    run = m.flow.start("--log-level", "debug")
    m.sql("INSERT INTO other VALUES (1)")
    m.wait_rows(run, "other", 1)
    m.sql(LEAVE)
    run.wait_for(lambda: "left the publication" in run.stderr, 30, "the flow to see it")
    m.sql(*MISSED, RETURN, *CHANGES)
    m.wait_until(lambda: _same(m, "t"), 60, "the lake to equal the source")
    assert run.terminate() == 0
    m.same("t")
