"""kill -9 between every two steps of the set-up, under a writer that never stops: the next start loses and doubles nothing.

The places are collected from the sources, so that a new one is tested by itself; one that is never reached is a failure.
"""

import re
import signal

import pytest

from lib.compare import assert_same
from lib.paths import ROOT
from lib.workload import SCHEMA, TABLES, Workload, check_every_snapshot, touch_all

KILLED = -signal.SIGKILL
LAKE_POINTS = {"copy-begun", "epoch-raised"}
# Places that only a second start comes to, and where the first one has to be killed for that.
SECOND_START = {"setup-slot-dropped": "setup-slot-state"}
# Places on the way of a table that appears while the flow streams.
ADDED_POINTS = ("setup-keeper", "setup-lock", "setup-parts")


def points_of(folder):
    names = set()
    for path in (ROOT / "src" / folder).rglob("*.c"):
        names.update(re.findall(r'duct_kill_point\("([^"]+)"\)', path.read_text()))
    return names


SOURCE_POINTS = sorted(p for p in points_of("source/postgres") if not p.startswith("backfill-"))  # those: system/test_backfill_state.py


def test_places_are_found():
    assert len(SOURCE_POINTS) >= 8 and set(SECOND_START) <= set(SOURCE_POINTS) and set(ADDED_POINTS) <= set(SOURCE_POINTS)
    assert LAKE_POINTS <= points_of("lake")


def killed_at(flow, point):
    run = flow.start(env={"DUCT_KILL_POINT": f"{point}:1"})
    assert run.wait(60) == KILLED, f"{point} was not reached\n{run.describe()}"


def slots(database):
    query = f"SELECT slot_name FROM pg_replication_slots WHERE database = '{database.name}'"
    return [name for (name,) in database.query(query)]


def check(database, lake_home, flow, tables=TABLES):
    flow.run_until_caught_up()
    touch_all(database)
    flow.run_until_caught_up()
    with lake_home.open() as lake:
        assert_same(database, lake, *(f"public.{table}" for table in tables))
        check_every_snapshot(lake)
    assert slots(database) == ["shop"]


@pytest.mark.parametrize(
    ("lake_home", "point"),
    [("sqlite", point) for point in SOURCE_POINTS] + [(kind, p) for kind in ("sqlite", "postgres") for p in sorted(LAKE_POINTS)],
    indirect=["lake_home"],
)
def test_kill_in_setup(point, database, lake_home, make_flow):
    database.sql(SCHEMA)
    flow = make_flow(database, lake_home, destination={"flush_interval": "20ms"})
    with Workload(database, seed=11):
        if point in SECOND_START:
            killed_at(flow, SECOND_START[point])
        killed_at(flow, point)
        flow.run_until_caught_up()
    check(database, lake_home, flow)


@pytest.mark.parametrize("point", ADDED_POINTS)
def test_kill_while_a_table_is_added(point, database, sqlite_lake, make_flow):
    """Its copy begins under load; the kill leaves the other tables' stream where it was."""
    database.sql(SCHEMA)
    flow = make_flow(database, sqlite_lake, destination={"flush_interval": "20ms"})
    flow.run_until_caught_up()
    with Workload(database, seed=12):
        database.sql("CREATE TABLE added (id int PRIMARY KEY, v text)")
        database.sql("INSERT INTO added SELECT i, 'before ' || i FROM generate_series(1, 200) i")
        killed_at(flow, point)
        database.sql("UPDATE added SET v = 'after' WHERE id % 3 = 0; DELETE FROM added WHERE id % 5 = 0")
        flow.run_until_caught_up()
        database.sql("UPDATE added SET v = v || '!' WHERE id % 2 = 0")
    check(database, sqlite_lake, flow, (*TABLES, "added"))
