"""Others commit to the same lake in the very moment in which we do: no commit of ours fails, and none means another thing.

The loop is for what nobody thought of; the pauses (src/base/killpoint.h) lose the race on purpose at every kind of commit.
"""

import threading

import pytest

from lib.compare import assert_same
from lib.flow import EXIT_DONE, EXIT_FATAL
from lib.lake import LakeError, LakeHome
from lib.pause import run_to
from lib.workload import SCHEMA, TABLES, Workload, assert_whole, touch_all

WHOLE = tuple(f"public.{table}" for table in TABLES)


def make_foreign_table(lake):
    lake.sql("CREATE SCHEMA theirs")
    lake.sql("CREATE TABLE theirs.t (id INTEGER, v VARCHAR)")


class Foreigner:
    """An official client that inserts into a table of its own without pause. It may lose races; we may not."""

    def __init__(self, home):
        self.lake = home.open()
        make_foreign_table(self.lake)
        self.committed = 0
        self.refused = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)

    def _run(self):
        while not self._stop.is_set():
            try:
                self.lake.sql(f"INSERT INTO theirs.t VALUES ({self.committed}, 'x')")
                self.committed += 1
            except LakeError:
                self.refused += 1


def test_official_client_commits_all_the_time(mirrored):
    database, lake_home, flow = mirrored
    with Foreigner(lake_home) as other, Workload(database, seed=21) as load:
        run = flow.start()
        run.wait_for(lambda: other.committed >= 5 and load.committed > 100, 60, "both to commit")
        database.sql("ALTER TABLE side ADD COLUMN extra text DEFAULT 'new'")
        database.sql("UPDATE side SET extra = body WHERE id % 3 = 0")
        database.sql("TRUNCATE side")
        before, theirs = load.committed, other.committed
        run.wait_for(lambda: other.committed >= theirs + 5 and load.committed > before + 100, 60, "both to go on")
        assert run.terminate() == EXIT_DONE, run.describe()
    assert "attempt failed" not in run.stderr, run.describe()
    with lake_home.open() as lake:
        assert lake.count("theirs.t") == other.committed
    assert_whole(database, lake_home, flow)


KINDS = {
    "insert": "INSERT INTO side (body, n) SELECT 'i' || i, i FROM generate_series(1, 50) i",
    "update": "UPDATE left_account SET amount = amount + 1 WHERE id < 30",
    "unsent": "UPDATE left_account SET amount = amount - 1 WHERE id BETWEEN 10 AND 40",
    "key": "UPDATE right_account SET id = id + 5000 WHERE id < 6",
    "delete": "DELETE FROM side WHERE id % 9 = 0",
    "delete-many": "DELETE FROM side WHERE id % 2 = 0",
    "mixed": "INSERT INTO side (body, n) VALUES ('m', 1); UPDATE side SET n = 7 WHERE id % 5 = 1; DELETE FROM side WHERE id % 7 = 1",
    "ddl": "ALTER TABLE side ADD COLUMN more int DEFAULT 3; UPDATE side SET more = 4 WHERE id % 3 = 0",
    "rename": "ALTER TABLE side RENAME COLUMN more TO most; INSERT INTO side (body, most) VALUES ('r', 9)",
    "table": "CREATE TABLE added (id int PRIMARY KEY, v text); INSERT INTO added VALUES (1, 'a'), (2, 'b')",
    "truncate": "TRUNCATE side; INSERT INTO side (body, n) VALUES ('after', 1)",
    "nothing": "CREATE TABLE unseen_one (id int); DROP TABLE unseen_one",
}


def changes(lake, table):
    """What happened to the table, with snapshots numbered from 1 on: the ids differ where others committed in between."""
    rows = lake.dicts(f"FROM ducklake_table_changes('lake', 'public', '{table}', 0, {lake.last_snapshot()})")
    numbers = {snapshot: n for n, snapshot in enumerate(sorted({row["snapshot_id"] for row in rows}), 1)}
    return sorted(repr({**row, "snapshot_id": numbers[row["snapshot_id"]]}) for row in rows)


def points(kind):
    """Places of the pause. A SQLite catalog is locked once the commit has begun: nobody can be first then."""
    return ("commit-planned",) if kind == "sqlite" else ("commit-planned", "commit-begin")


@pytest.mark.parametrize(
    ("lake_home", "point"), [(kind, point) for kind in ("sqlite", "postgres") for point in points(kind)], indirect=["lake_home"]
)
def test_race_is_lost_at_every_kind_of_commit(point, database, server, lake_home, make_flow, tmp_path):
    """Two equal databases: one flow always loses, the other is alone. Their lakes say the same, row ids included."""
    quiet = server.database(database.name + "_quiet")
    options = {"delete_file_rows": 20}
    quiet_home = LakeHome(f"sqlite:{tmp_path}/quiet.sqlite", tmp_path / "quiet")
    raced = make_flow(database, lake_home, name="raced", destination=options)
    alone = make_flow(quiet, quiet_home, name="alone", destination=options)
    for place, flow in ((database, raced), (quiet, alone)):
        place.sql(SCHEMA)
        flow.run_until_caught_up()
    with lake_home.open() as other:
        make_foreign_table(other)
        for n, (kind, statements) in enumerate(KINDS.items()):
            database.sql(statements)
            quiet.sql(statements)
            pause, run = run_to(raced, tmp_path / f"pause-{n}", point)
            other.sql(f"INSERT INTO theirs.t VALUES ({n}, '{kind}')")
            pause.release()
            run.expect(EXIT_DONE)
            assert "attempt failed" not in run.stderr, f"{kind}\n{run.describe()}"
            alone.run_until_caught_up()
    with lake_home.open() as lake, quiet_home.open() as quiet_lake:
        assert_same(database, lake, *WHOLE, "public.added")
        assert lake.count("theirs.t") == len(KINDS)
        for table in (*TABLES, "added"):
            assert changes(lake, table) == changes(quiet_lake, table), table
    quiet_home.close()
    quiet.drop_slots()


MAINTENANCE = {
    "merge": ["CALL ducklake_merge_adjacent_files('lake')"],
    "rewrite": ["CALL ducklake_rewrite_data_files('lake', delete_threshold => 0.0)"],
    "flush": ["CALL ducklake_flush_inlined_data('lake')"],
    "all": [
        "CALL ducklake_flush_inlined_data('lake')",
        "CALL ducklake_rewrite_data_files('lake', delete_threshold => 0.0)",
        "CALL ducklake_merge_adjacent_files('lake')",
    ],
}


@pytest.mark.parametrize("what", [*(pytest.param(what, marks=pytest.mark.long) for what in ("rewrite", "flush")), "merge", "all"])
def test_our_table_is_maintained_in_the_window(what, mirrored, tmp_path):
    """Positions move between our plan and our commit: we must see it, plan again, and hit the right rows."""
    database, lake_home, flow = mirrored
    # Inserts make files and changes are inlined; files with deleted rows are not merged.
    flow.set_destination(inline_rows=0 if what == "merge" else 30)
    transfer = "UPDATE left_account SET amount = amount + 1 WHERE {0}; UPDATE right_account SET amount = amount - 1 WHERE {0}"
    for n in range(4):  # small files to merge, and marks in the catalog
        database.sql(f"INSERT INTO side (body, n) SELECT 'f', i FROM generate_series(1, 40) i; DELETE FROM side WHERE id % 13 = {n}")
        database.sql(transfer.format(f"id % 4 = {n}"))
        flow.run_until_caught_up()
    database.sql("UPDATE side SET n = n + 1 WHERE id % 2 = 0; DELETE FROM side WHERE id % 5 = 0")
    database.sql(transfer.format("id < 20"))
    pause, run = run_to(flow, tmp_path / "pause", "commit-planned")
    with lake_home.open() as other:
        before = other.last_snapshot()
        for statement in MAINTENANCE[what]:
            other.sql(statement)
        assert other.last_snapshot() > before, "nothing was done in the window"
    pause.release()
    run.expect(EXIT_DONE)
    assert_whole(database, lake_home, flow)
    touch_all(database)
    assert_whole(database, lake_home, flow)


def test_our_rows_are_changed_in_the_window(mirrored, tmp_path):
    database, lake_home, flow = mirrored
    database.sql("UPDATE side SET n = n + 1")
    pause, run = run_to(flow, tmp_path / "pause", "commit-planned")
    with lake_home.open() as other:
        other.sql("DELETE FROM public.side WHERE id = 10")
        snapshot = other.last_snapshot()
        pause.release()
        run.expect(EXIT_FATAL)
        assert f"in snapshot {snapshot}" in run.stderr, run.describe()
        assert other.last_snapshot() == snapshot, "we committed all the same"


def test_another_table_of_ours_is_changed_in_the_window(mirrored, tmp_path):
    """Our commit leaves that table alone; after it nobody would look at what came before."""
    database, lake_home, flow = mirrored
    database.sql("UPDATE left_account SET amount = amount")
    pause, run = run_to(flow, tmp_path / "pause", "commit-planned")
    with lake_home.open() as other:
        other.sql("DELETE FROM public.side WHERE id = 10")
        snapshot = other.last_snapshot()
    pause.release()
    run.expect(EXIT_FATAL)
    assert f"in snapshot {snapshot}" in run.stderr, run.describe()
    flow.start("--until-caught-up").expect(EXIT_FATAL)


@pytest.mark.parametrize("kill", [False, True])
def test_another_table_of_ours_is_merged_in_the_window(kill, mirrored, tmp_path):
    database, lake_home, flow = mirrored
    flow.set_destination(inline_rows=30)
    for n in range(3):
        database.sql("INSERT INTO side (body, n) SELECT 'f', i FROM generate_series(1, 40) i")
        flow.run_until_caught_up()
    database.sql("UPDATE right_account SET note = 'x' WHERE id = 1")
    env = {"DUCT_KILL_POINT": "commit-done:1"} if kill else {}
    pause, run = run_to(flow, tmp_path / "pause", "commit-planned", **env)
    with lake_home.open() as other:
        before = other.last_snapshot()
        other.sql("CALL ducklake_merge_adjacent_files('lake')")
        assert other.last_snapshot() > before
    pause.release()
    run.expect(-9 if kill else EXIT_DONE)
    assert_whole(database, lake_home, flow)
