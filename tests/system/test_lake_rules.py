"""The rules of writing a lake natively, each as far as it can be seen from outside, and the official client's upkeep of it.

After each scenario of `upkeep` the official functions run and every snapshot that is left must still say the same; then all
rows are touched at the source, which finds wrong row ids, stale positions and double marks.
"""

import sqlite3
import threading
import time

import pytest

from lib.flow import EXIT_DATA, EXIT_DONE, EXIT_FATAL
from lib.lake import LakeError
from lib.pause import run_to

KEYED = """
CREATE TABLE t (id int PRIMARY KEY, v text, n int);
CREATE TABLE u (id int PRIMARY KEY, v text, n int);
CREATE TABLE bag (id int, v text, n int);
ALTER TABLE bag REPLICA IDENTITY FULL
"""
TABLES = ("t", "u", "bag")
FILL = "INSERT INTO {} SELECT i, 'row ' || i, i FROM generate_series(1, 40) i"
KNOWN_TAGS = {
    "created_schema", "created_table", "dropped_schema", "dropped_table", "altered_table",
    "inserted_into_table", "deleted_from_table", "inlined_insert", "inlined_delete", "inline_flush", "merge_adjacent", "rewrite_delete",
}


# What the official client says when others were faster.
LOST_RACES = ("onflict", "locked", "serialize", "transaction is aborted", "maximum retry count")


def scenario(m):
    """Some runs of every kind of change over three tables: one commit each."""
    m.sql(*(FILL.format(name) for name in TABLES))
    m.sync()
    for i, statements in enumerate((
        ["UPDATE {} SET v = 'changed' WHERE id % 4 = 0"],
        ["DELETE FROM {} WHERE id % 5 = 0", "INSERT INTO {} SELECT i, 'new', NULL FROM generate_series(100, 110) i"],
        ["UPDATE {} SET id = id + 1000 WHERE id IN (1, 2)", "UPDATE {} SET n = n + 1 WHERE id < 9"],
        ["DELETE FROM {} WHERE id > 105", "UPDATE {} SET v = 'again' WHERE v = 'changed'"],
        ["INSERT INTO {} VALUES (5, 'back', 5)", "DELETE FROM {} WHERE id = 1001"],
    )):
        for name in TABLES[: 1 + i % 3 if i else 3]:
            m.sql("; ".join(statement.format(name) for statement in statements))
        m.sync()
    m.same(*TABLES)


def histories(m, count=True):
    """What every snapshot says; COUNT also compares the count of its metadata with that of its rows.

    Sorted here: a rewrite narrows the table's statistics to the rows of now, and then the official client itself sorts older
    snapshots by bounds that do not hold for them.
    """
    said = {}
    for snapshot in m.lake.snapshots()[1:]:  # the first is that of an empty lake
        at = snapshot["snapshot_id"]
        selects = [f"SELECT '{name}', * FROM {m.lake.source('public.' + name, at)}" for name in TABLES]
        rows = m.lake.sql(" UNION ALL ".join(selects)) if at else []
        for name in TABLES:
            said[name, at] = sorted((row[1:] for row in rows if row[0] == name), key=repr)
        if count:
            counts = m.lake.sql(" UNION ALL ".join(
                f"SELECT '{name}', count(*) FROM {m.lake.source('public.' + name, at)}" for name in TABLES))
            assert dict(counts) == {name: len(said[name, at]) for name in TABLES}, at
    return said


def unchanged(m, before, count):
    after = histories(m, count)
    head = m.last_snapshot()
    for (name, at), rows in before.items():
        if (name, at) in after:
            assert after[name, at] == rows, (name, at)
    for name in TABLES:
        assert after[name, head] == before[name, max(at for table, at in before if table == name)]
    m.same(*TABLES)


def touch_all(m):
    """Updates every row and deletes half of them."""
    for name in TABLES:
        m.sql(f"UPDATE {name} SET v = v || '.', n = -1", f"DELETE FROM {name} WHERE id % 2 = 0")
    m.sync()
    m.same(*TABLES)
    for name in TABLES:
        m.sql(f"UPDATE {name} SET id = -id", f"INSERT INTO {name} VALUES (2, 'two', 2)")
    m.sync()
    m.same(*TABLES)


UPKEEP = {
    "flush": ["CALL ducklake_flush_inlined_data('lake')"],
    "merge": ["CALL ducklake_merge_adjacent_files('lake')"],
    "rewrite": ["CALL ducklake_rewrite_data_files('lake', delete_threshold => 0)"],
    "flush_rewrite_merge": [
        "CALL ducklake_flush_inlined_data('lake')",
        "CALL ducklake_rewrite_data_files('lake', delete_threshold => 0)",
        "CALL ducklake_merge_adjacent_files('lake')",
    ],
    "expire_and_clean": [
        "CALL ducklake_flush_inlined_data('lake')",
        "CALL ducklake_merge_adjacent_files('lake')",
        "CALL ducklake_expire_snapshots('lake', versions => [{old}])",
        "CALL ducklake_cleanup_old_files('lake', cleanup_all => true)",
        "CALL ducklake_delete_orphaned_files('lake', cleanup_all => true)",
    ],
}


@pytest.mark.parametrize("delete_file_rows", [1000, 1], ids=["marks", "delete_files"])
@pytest.mark.parametrize("kind", UPKEEP)
def test_upkeep_by_the_official_client(request, make_mirror, database, kind, delete_file_rows):
    # every kind on one catalog, in turn; the other one is the other half's
    catalogs = ("sqlite_lake", "postgres_lake")
    home = request.getfixturevalue(catalogs[(list(UPKEEP).index(kind) + (delete_file_rows == 1)) % 2])
    m = make_mirror(database, home, KEYED, destination={"delete_file_rows": delete_file_rows})
    m.sync()
    scenario(m)
    for _ in range(2 if delete_file_rows > 1 else 1):
        before = histories(m)
        old = ", ".join(str(snapshot["snapshot_id"]) for snapshot in m.lake.snapshots()[1:-3:2])
        for statement in UPKEEP[kind]:
            m.lake.sql(statement.format(old=old))
            unchanged(m, before, count=statement is UPKEEP[kind][-1])
        touch_all(m)
    names = [row["table_name"] for row in m.lake.dicts("FROM ducklake_table_info('lake')")]
    assert sorted(names) == sorted(TABLES)
    listed = m.lake.sql("SELECT data_file FROM ducklake_list_files('lake', 't', schema => 'public')")
    assert all(path.startswith(str(m.home.data_path)) for (path,) in listed)


def test_a_flush_while_the_key_index_is_built(mirror, tmp_path):
    """Rows that are moved from the catalog to a file between the look at files and that at the catalog are in neither: no drift."""
    m = mirror(KEYED, FILL.format("bag"))
    m.sync()
    m.sql("UPDATE bag SET n = n + 1 WHERE id < 8")
    m.sync()
    m.lake.sql("CALL ducklake_rewrite_data_files('lake', delete_threshold => 0)")  # the index is of other files now
    m.sql("UPDATE bag SET n = n + 1 WHERE id < 8")
    pause, run = run_to(m.flow, tmp_path, "index-files-read")
    m.lake.sql("CALL ducklake_flush_inlined_data('lake')")
    pause.release()
    assert run.wait(60) == EXIT_DONE, run.describe()
    assert "reading it again" in run.stderr
    m.same("bag")


def test_upkeep_while_the_flow_runs(mirror):
    m = mirror(KEYED, *(FILL.format(name) for name in TABLES))
    m.sync()
    run = m.flow.start()
    stop = threading.Event()
    failures = []

    def write():
        try:
            with m.database.connect() as connection:
                i = 0
                while not stop.wait(0.005):
                    i += 1
                    connection.execute(
                        f"UPDATE t SET n = n + 1 WHERE id = {i % 40 + 1}; UPDATE bag SET n = n + 1 WHERE id = {i % 7 + 1};"
                        f" INSERT INTO u VALUES ({1000 + i}, 'w', {i}); DELETE FROM u WHERE id = {1000 + i - 20}"
                    )
        except Exception as error:
            failures.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    done = 0
    try:
        for _ in range(3):
            for statement in UPKEEP["flush_rewrite_merge"]:
                try:
                    m.lake.sql(statement)
                    done += 1
                except LakeError as error:  # it loses races against commits, and says so
                    assert any(word in str(error) for word in LOST_RACES), error
    finally:
        stop.set()
        writer.join()
    assert not failures and done, failures
    assert run.running, run.describe()
    assert run.terminate() == 0, run.describe()  # also when the stop meets a lost race
    m.sync()
    m.same(*TABLES)
    touch_all(m)


# --- rule by rule ---


def test_rule_0_a_fenced_owner_cannot_commit(mirror):
    m = mirror(KEYED)
    m.sync()
    run = m.flow.start()
    m.sql(FILL.format("t"))
    m.wait_rows(run, "t", 40)
    m.change_catalog("UPDATE {}ductstream_checkpoint SET epoch = epoch + 1")
    state = m.state()  # not before: what the server itself writes moves the position of an owner
    m.sql("INSERT INTO t VALUES (1000, 'late', 0)")
    assert run.wait(60) == EXIT_FATAL, run.describe()
    assert "fenced" in run.stderr, run.stderr
    assert m.state()[:2] == state[:2]
    m.sync()  # a new owner goes on where the lake stands
    m.same(*TABLES)


def test_rule_0_rows_and_position_move_together(mirror):
    m = mirror(KEYED)
    m.sync()
    positions = [m.catalog("SELECT seq, lsn, commit_id, state, snapshot_id FROM {}ductstream_checkpoint")]
    for i in range(3):
        m.sql(f"INSERT INTO t VALUES ({i}, 'x', 0)")
        m.sync()
        positions.append(m.catalog("SELECT seq, lsn, commit_id, state, snapshot_id FROM {}ductstream_checkpoint"))
    assert all(len(rows) == 1 for rows in positions)
    sequence, lsns, ids, states, snapshots = zip(*(rows[0] for rows in positions))
    assert list(sequence) == sorted(set(sequence))
    assert len(set(lsns)) == len(set(ids)) == 4
    assert set(states) == {states[0]}
    assert snapshots[-1] == m.last_snapshot() and list(snapshots) == sorted(set(snapshots))


def test_rule_1_snapshots_stay_dense_beside_another_writer(mirror):
    m = mirror(KEYED)
    m.sync()
    m.lake.sql("CREATE SCHEMA theirs")
    m.lake.sql("CREATE TABLE theirs.x (i INTEGER)")
    m.sync()
    run = m.flow.start()
    written = 0
    for i in range(60):
        m.sql(f"INSERT INTO t VALUES ({i}, 'x', {i}); INSERT INTO u VALUES ({i}, 'x', {i})")
        try:
            m.lake.sql(f"INSERT INTO theirs.x VALUES ({i})")
            written += 1
        except LakeError as error:
            assert any(word in str(error) for word in LOST_RACES), error
    m.wait_rows(run, "t", 60)
    assert run.terminate() == 0, run.describe()
    m.same(*TABLES)
    assert written > 5
    assert m.lake.count("theirs.x") == written
    ids = [row[0] for row in m.catalog("SELECT snapshot_id FROM {}ducklake_snapshot ORDER BY 1")]
    assert ids == list(range(len(ids)))
    for at in ids[2:]:
        assert m.lake.count("public.t", at) == m.lake.count("public.u", at)


def test_rule_2_a_table_dropped_or_altered_by_others(mirror):
    m = mirror(KEYED, FILL.format("t"))
    m.sync()
    m.lake.sql("ALTER TABLE public.t DROP COLUMN v")
    m.sql("UPDATE t SET v = 'x' WHERE id = 1")
    stderr = m.refuses_any()
    assert '"v"' in stderr and '"t"' in stderr, stderr
    m.lake.sql("DROP TABLE public.u")
    m.sql("INSERT INTO u VALUES (1, 'x', 1)")
    assert "public" in m.refuses_any()


def test_rule_2_a_flush_of_marks_whose_base_has_expired_is_no_change_of_rows(mirror):
    """The nightly upkeep of a lake that was quiet for longer than it keeps snapshots."""
    m = mirror(KEYED, FILL.format("t"))
    m.sync()
    m.sql("DELETE FROM t WHERE id % 9 = 0", "INSERT INTO u VALUES (1, 'x', 1)")
    m.sync()
    m.lake.sql("CALL ducklake_flush_inlined_data('lake')")
    m.lake.sql("CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 DAY)")
    m.lake.sql("CALL ducklake_cleanup_old_files('lake', cleanup_all => true)")
    m.close_lake()
    m.sql("UPDATE t SET v = 'after'", "DELETE FROM t WHERE id % 4 = 0", "UPDATE u SET v = 'y'")
    m.sync()
    m.same("t", "u")


@pytest.mark.parametrize("inline_rows", [100, 0], ids=["inlined", "files"])
def test_rule_2_a_column_set_not_null_by_others(mirror, inline_rows):
    """What they demand is kept as long as the source has it so; a NULL of the source stops the flow before anything is written."""
    m = mirror(KEYED, FILL.format("t"), destination={"inline_rows": inline_rows})
    m.sync()
    m.lake.sql("ALTER TABLE public.t ALTER v SET NOT NULL")
    m.sql("UPDATE t SET v = 'x' WHERE id = 1")
    m.sync()
    m.sql("UPDATE t SET v = NULL WHERE id = 2")
    run = m.flow.start("--until-caught-up")
    run.expect(EXIT_DATA)
    assert 'no value in column "v"' in run.stderr and 'ALTER TABLE "public"."t" ALTER "v" DROP NOT NULL' in run.stderr, run.stderr
    m.close_lake()
    m.lake.sql('ALTER TABLE "public"."t" ALTER "v" DROP NOT NULL')
    m.sync()
    m.lake.sql("CALL ducklake_flush_inlined_data('lake')")
    m.same("t")


def test_rule_2_foreign_rows_stop_the_flow(mirror):
    m = mirror(KEYED, FILL.format("t"))
    m.sync()
    m.lake.sql("BEGIN")
    m.lake.sql("CALL lake.set_commit_message('somebody', 'by hand')")
    m.lake.sql("INSERT INTO public.t VALUES (500, 'foreign', 0)")
    m.lake.sql("COMMIT")
    foreign = m.last_snapshot()
    m.sql("UPDATE t SET v = 'x' WHERE id = 1")
    stderr = m.refuses_any()
    assert "somebody" in stderr and f"snapshot {foreign}" in stderr and "foreign_changes" in stderr, stderr


def test_rule_2_foreign_rows_are_shared_when_told_so(mirror):
    m = mirror(KEYED, FILL.format("t"), destination={"foreign_changes": "share"})
    m.sync()
    theirs = m.home.open("DATA_INLINING_ROW_LIMIT 0")
    theirs.sql("INSERT INTO public.t VALUES (500, 'foreign', 0)")
    theirs.sql("DELETE FROM public.t WHERE id = 500")
    theirs.sql("INSERT INTO public.t SELECT i, 'foreign', 0 FROM range(600, 640) r(i)")
    theirs.sql("UPDATE public.t SET v = 'foreign' WHERE id IN (1, 2, 3, 40)")
    m.sql("UPDATE t SET v = 'ours' WHERE id IN (1, 2, 3, 4)", "DELETE FROM t WHERE id IN (5, 40)", "INSERT INTO t VALUES (41, 'x', 1)")
    m.sync()
    m.same("t", where="id < 500")
    assert m.lake.value("SELECT count(*) FROM public.t WHERE id >= 500") == 40
    m.sql("UPDATE t SET n = 0", "DELETE FROM t WHERE id % 2 = 0")
    m.sync()
    m.same("t", where="id < 500")


@pytest.mark.parametrize("delete_file_rows", [1000, 1], ids=["marks", "delete_files"])
def test_rule_3_every_mark_hits_one_live_row(mirror, delete_file_rows):
    m = mirror(KEYED, destination={"delete_file_rows": delete_file_rows})
    m.sync()
    scenario(m)
    twice = "SELECT data_file_id FROM {}ducklake_delete_file WHERE end_snapshot IS NULL GROUP BY 1 HAVING count(*) > 1"
    assert m.catalog(twice) == []
    for name in TABLES:
        table_id = m.catalog("SELECT table_id FROM {}ducklake_table WHERE table_name = '" + name + "' AND end_snapshot IS NULL")[0][0]
        files = m.catalog(f"SELECT data_file_id, record_count FROM {{}}ducklake_data_file WHERE table_id = {table_id} AND end_snapshot IS NULL")
        deleted = dict(m.catalog("SELECT data_file_id, delete_count FROM {}ducklake_delete_file WHERE end_snapshot IS NULL"))
        marks = {}
        for file_id, position in marks_of(m, table_id):
            assert position not in marks.setdefault(file_id, set()), "marked twice"
            marks[file_id].add(position)
        live = 0
        for file_id, count in files:
            gone = deleted.get(file_id, 0) + len(marks.get(file_id, ()))
            assert gone < count or count == 0, f"file {file_id} has no live row and is not ended"
            assert all(0 <= position < count for position in marks.get(file_id, ()))
            live += count - gone
        for (inlined,) in m.catalog(f"SELECT table_name FROM {{}}ducklake_inlined_data_tables WHERE table_id = {table_id}"):
            live += m.catalog(f"SELECT count(*) FROM {{}}{inlined} WHERE end_snapshot IS NULL")[0][0]
        assert live == len(m.rows(name))


def test_marks_have_no_index(mirror):
    """It would cost the catalog more than the marks do; the writer itself knows what is marked."""
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t SELECT n, 'x' FROM generate_series(1, 5000) n")
    m.sync()
    for low in (10, 20):  # the second run finds out what the first one marked
        m.sql(f"DELETE FROM t WHERE id BETWEEN {low} AND {low + 5}")
        m.sync()
    m.same("t")
    table_id = m.catalog("SELECT table_id FROM {}ducklake_table WHERE table_name = 't'")[0][0]
    assert len(marks_of(m, table_id)) == 12
    if m.home.catalog.startswith("sqlite:"):
        indexed = m.catalog("SELECT tbl_name FROM sqlite_master WHERE type = 'index'")
    else:
        indexed = m.catalog("SELECT tablename FROM pg_indexes")
    assert not [name for (name,) in indexed if name.startswith("ducklake_inlined_delete_")]


def marks_of(m, table_id):
    if f"ducklake_inlined_delete_{table_id}" not in catalog_tables(m):
        return []
    return m.catalog(f"SELECT file_id, row_id FROM {{}}ducklake_inlined_delete_{table_id}")


def catalog_tables(m):
    if m.home.catalog.startswith("sqlite:"):
        return {row[0] for row in m.catalog("SELECT name FROM sqlite_master")}
    return {row[0] for row in m.catalog("SELECT tablename FROM pg_tables")}


def test_rule_4_versions_and_tags(mirror):
    m = mirror(KEYED)
    m.sync()
    scenario(m)
    m.sql("ALTER TABLE t ADD c int", "INSERT INTO t VALUES (7777, 'x', 1, 1)")
    m.sync()
    snapshots = m.catalog(
        "SELECT s.snapshot_id, s.schema_version, s.next_catalog_id, s.next_file_id, c.changes_made FROM {}ducklake_snapshot s"
        " JOIN {}ducklake_snapshot_changes c ON c.snapshot_id = s.snapshot_id ORDER BY 1"
    )
    assert [row[0] for row in snapshots] == list(range(len(snapshots)))
    for before, after in zip(snapshots, snapshots[1:]):
        tags = {change.split(":")[0] for change in after[4].split(",") if ":" in change}
        assert tags <= KNOWN_TAGS, tags
        ddl = bool(tags & {"created_schema", "created_table", "altered_table", "dropped_table"})
        assert (after[1] > before[1]) == ddl, after
        if "inserted_into_table" in tags:
            assert after[3] > before[3], "statistics changed, and clients keep the old ones"
    for table, column in m.catalog(
        "SELECT t.table_name, c.column_name FROM {}ducklake_table_column_stats s JOIN {}ducklake_table t ON t.table_id = s.table_id"
        " JOIN {}ducklake_column c ON c.table_id = s.table_id AND c.column_id = s.column_id"
        " WHERE s.min_value IS NULL AND t.end_snapshot IS NULL AND c.end_snapshot IS NULL"
    ):
        assert m.lake.value(f"SELECT count({column}) FROM public.{table}") == 0, "no least value, but values"
    assert {snapshot["author"] for snapshot in m.lake.snapshots()[1:]} == {"ductstream"}


def test_rule_5_idle_at_once_busy_in_intervals(mirror):
    m = mirror(KEYED, destination={"flush_interval": "2s"})
    m.sync()
    run = m.flow.start()
    streams = "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'shop' AND active"
    m.wait_until(lambda: m.database.query(streams), 30, "the stream")
    time.sleep(2)  # the copy was a commit, too
    began = m.database.value("SELECT clock_timestamp()")
    m.sql("INSERT INTO t VALUES (1, 'x', 1)")
    m.wait_rows(run, "t", 1)
    first = m.last_snapshot()
    for i in range(2, 400):
        m.sql(f"INSERT INTO t VALUES ({i}, 'x', {i})")
    m.wait_rows(run, "t", 399)
    assert run.terminate() == 0
    times = [s["snapshot_time"] for s in m.lake.snapshots() if s["snapshot_id"] >= first]
    assert (times[0] - began).total_seconds() < 1.5, "a change after a quiet spell"
    gaps = [(b - a).total_seconds() for a, b in zip(times, times[1:])]
    assert gaps and min(gaps[:-1] or gaps) >= 1.5, gaps  # the last one may be that of the end


def test_rule_6_the_sqlite_catalog_is_kept_safely(mirror_sqlite):
    m = mirror_sqlite(KEYED)
    m.sync()
    scenario(m)
    path = m.home.catalog.removeprefix("sqlite:")
    m.close_lake()
    connection = sqlite3.connect(path)
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()
    m.same(*TABLES)


def test_rule_7_catalog_indexes(mirror):
    m = mirror(KEYED)
    m.sync()
    if m.home.catalog.startswith("sqlite:"):
        found = {row[0] for row in m.catalog("SELECT tbl_name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL")}
    else:
        found = {row[0] for row in m.catalog("SELECT tablename FROM pg_indexes WHERE indexname NOT LIKE '%_pkey'")}
    assert {"ducklake_file_column_stats", "ducklake_data_file", "ducklake_delete_file"} <= found, found


def test_rule_7_no_catalog_indexes_when_told_so(mirror_sqlite):
    m = mirror_sqlite(KEYED, destination={"create_indexes": False})
    m.sync()
    assert m.catalog("SELECT name FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name LIKE 'ducklake%'") == []


def test_rule_8_one_net_effect_per_key(mirror):
    m = mirror(KEYED, FILL.format("t"))
    m.sync()
    m.sql("; ".join([
        "UPDATE t SET v = 'a' WHERE id = 1", "UPDATE t SET v = 'b' WHERE id = 1", "UPDATE t SET v = 'c' WHERE id = 1",
        "INSERT INTO t VALUES (100, 'x', 0)", "UPDATE t SET v = 'y' WHERE id = 100",
        "INSERT INTO t VALUES (101, 'x', 0)", "DELETE FROM t WHERE id = 101",
        "UPDATE t SET v = 'd' WHERE id = 2", "DELETE FROM t WHERE id = 2",
    ]))
    m.sync()
    head = m.last_snapshot()
    fed = m.lake.sql(f"SELECT change_type, id, v FROM ducklake_table_changes('lake', 'public', 't', {head}, {head})")
    assert sorted(fed) == [
        ("delete", 2, "row 2"),
        ("insert", 100, "y"),
        ("update_postimage", 1, "c"),
        ("update_preimage", 1, "row 1"),
    ]
    m.same("t")


DEATHS = ["DELETE FROM t WHERE id BETWEEN 11 AND 40", "UPDATE t SET v = 'new' WHERE id <= 3", "DELETE FROM t WHERE id = 50"]


def assert_feed_tells(m, steps, sync):
    """Each step is a commit, and the feed over any range of them tells each change once, in its own snapshot."""
    state = lambda: set(m.database.query("SELECT id, v, n FROM t"))  # noqa: E731
    m.sync()
    heads, states = [m.last_snapshot()], [state()]
    for step in steps:
        m.sql(step)
        sync(step)
        heads.append(m.last_snapshot())
        states.append(state())
    for first in range(len(heads)):
        for end in range(first + 1, len(heads)):
            feed = m.lake.sql(
                "SELECT snapshot_id, change_type, id, v, n FROM "
                f"ducklake_table_changes('lake', 'public', 't', {heads[first] + 1}, {heads[end]})"
            )
            expected = []
            for at in range(first + 1, end + 1):
                expected += [(heads[at], False, *row) for row in states[at - 1] - states[at]]
                expected += [(heads[at], True, *row) for row in states[at] - states[at - 1]]
            found = [(row[0], row[1] in ("insert", "update_postimage"), *row[2:]) for row in feed]
            assert sorted(found) == sorted(expected), (first, end)
    m.same("t")
    for head, rows in zip(heads, states):
        assert set(m.lake.sql(f"SELECT id, v, n FROM public.t AT (VERSION => {head})")) == rows


FILL_500 = "INSERT INTO t SELECT i, 'row ' || i, i FROM generate_series(1, 500) i"


@pytest.mark.parametrize("delete_file_rows", [1, 20, 1000])  # delete files; a delete file, then marks; marks
@pytest.mark.parametrize("last", ["DELETE FROM t", "TRUNCATE t", "UPDATE t SET v = 'last'"])
def test_changes_of_a_file_that_ends(mirror, delete_file_rows, last):
    """Whatever says that rows of a file were dead before it ended."""
    m = mirror(KEYED, FILL_500, destination={"delete_file_rows": delete_file_rows, "inline_rows": 10})
    assert_feed_tells(m, [*DEATHS, last], lambda step: m.sync())


@pytest.mark.parametrize("point", ["commit-begin:1", "commit-statement:4", "commit-statement:6", "commit-sent:1", "commit-done:1"])
def test_killed_where_a_file_ends(mirror, point):
    m = mirror(KEYED, FILL_500, destination={"delete_file_rows": 20})
    if point.startswith("commit-sent" if m.home.catalog.startswith("sqlite") else "commit-statement"):
        pytest.skip("a point of the other catalog")
    last = "DELETE FROM t"

    def sync(step):
        if step == last:
            run = m.flow.start("--until-caught-up", env={"DUCT_KILL_POINT": point})
            assert run.wait(30) == -9, run.describe()
        m.sync()

    assert_feed_tells(m, [*DEATHS, last], sync)


# --- statistics ---

WIDE = """
CREATE TABLE wide (id int PRIMARY KEY, i8 bigint, n numeric(12,3), f4 real, f8 double precision, s text, long_s text, b boolean,
  d date, ts timestamptz, tm time, u uuid, by bytea, c char(5), j jsonb, e text)
"""


def wide_row(i):
    """A row of extremes, one kind at a time."""
    long_text = f"repeat('é', 200) || {i}" if i % 3 else f"repeat('z', {250 + i})"
    return (
        f"INSERT INTO wide VALUES ({i}, {(-1) ** i} * {i}::bigint * 1000000000, {i} - 7.125, "
        f"{'NULL' if i % 5 == 0 else repr(i * 0.1)}, "
        + ("'NaN'" if i % 4 == 0 else "'-Infinity'" if i % 7 == 0 else repr(i / 3))
        + f", chr(64 + {i}) || 'text', {long_text}, {i} % 2 = 0, "
        + ("'infinity'" if i == 11 else "'0044-03-15 BC'" if i == 12 else f"date '2024-01-01' + {i}")
        + f", timestamptz '2024-01-01 00:00+00' + interval '1 hour' * {i}, time '00:00' + interval '1 minute' * {i},"
        f" md5('{i}')::uuid, decode(md5('{i}'), 'hex'), 'c{i}', '{{\"a\": {i}}}', NULL)"
    )


def test_statistics_are_true(mirror):
    m = mirror(WIDE, *(wide_row(i) for i in range(1, 7)))
    m.sync()
    for i in range(7, 19):
        m.sql(wide_row(i))
        if i % 4 == 0:
            m.sync()
    m.sql("UPDATE wide SET s = 'Zebra', n = 99999.999, f8 = 1e300 WHERE id IN (3, 9)", "DELETE FROM wide WHERE id IN (4, 18)")
    m.sync()
    m.same("wide")
    m.lake.sql("CREATE OR REPLACE TABLE memory.main.wide AS FROM lake.public.wide")
    compared = 0
    for column, type_ in m.lake.columns("public.wide").items():
        if type_ in ("JSON",):
            continue
        values = [row[0] for row in m.lake.sql(f'SELECT DISTINCT "{column}"::VARCHAR FROM memory.main.wide WHERE "{column}" IS NOT NULL')]
        conditions = [f'"{column}" IS NULL', f'"{column}" IS NOT NULL']
        for value in values[:3] + values[-1:]:
            literal = "'" + value.replace("'", "''") + f"'::{type_}"
            conditions += [f'"{column}" {operator} {literal}' for operator in ("=", "<", ">", "<>")]
        for condition in conditions:
            question = "SELECT count(id), coalesce(sum(id), 0) FROM {} WHERE " + condition
            assert m.lake.sql(question.format("lake.public.wide")) == m.lake.sql(question.format("memory.main.wide")), condition
            compared += 1
        if type_ not in ("BOOLEAN",):
            question = f'SELECT min("{column}")::VARCHAR, max("{column}")::VARCHAR FROM {{}}'
            assert m.lake.sql(question.format("lake.public.wide")) == m.lake.sql(question.format("memory.main.wide")), column
    assert compared > 150
