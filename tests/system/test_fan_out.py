"""One slot, several destinations: the same in all of them (issue 5, point 9). Under load and kills: fault/test_fan_out_faults.py."""

import copy

import pytest

from lib.compare import assert_same
from lib.lake import LakeHome

TABLES = "CREATE TABLE item (id int PRIMARY KEY, name text, amount int)"


@pytest.fixture
def second_lake(tmp_path):
    home = LakeHome(f"sqlite:{tmp_path}/second.sqlite", tmp_path / "second-data")
    yield home
    home.close()


def same(mirror, homes, *tables):
    for home in homes:
        assert_same(mirror.database, home.open(), *tables)


def test_the_same_in_both(mirror_postgres, second_lake):
    """Copy, changes, a column, a table that comes later."""
    mirror = mirror_postgres(TABLES, "INSERT INTO item SELECT g, 'n' || g, g FROM generate_series(1, 5000) g")
    options = {"catalog": second_lake.catalog, "data_path": str(second_lake.data_path)}
    mirror.flow.content["destinations"].append({"name": "second", "type": "ducklake", "options": options})
    mirror.flow.write()
    homes = (mirror.home, second_lake)
    mirror.sync()
    same(mirror, homes, "public.item")
    mirror.sql(
        "UPDATE item SET amount = amount + 1 WHERE id % 3 = 0",
        "DELETE FROM item WHERE id % 7 = 0",
        "ALTER TABLE item ADD COLUMN more text DEFAULT 'x'",
        "INSERT INTO item SELECT g, 'n', g, 'y' FROM generate_series(6000, 6100) g",
        "CREATE TABLE later (id int PRIMARY KEY); INSERT INTO later SELECT generate_series(1, 100)",
    )
    mirror.sync()
    mirror.sql("INSERT INTO later VALUES (101)", "UPDATE item SET more = NULL WHERE id % 2 = 0")
    mirror.sync()
    same(mirror, homes, "public.item", "public.later")


def test_two_in_one_place(mirror_sqlite):
    """A catalog keeps one position per flow."""
    mirror = mirror_sqlite(TABLES)
    flow = mirror.flow
    flow.content["destinations"].append({**copy.deepcopy(flow.content["destinations"][0]), "name": "again"})
    flow.write()
    assert 'destination "again": it is where destination "lake" is' in mirror.fails(2)
