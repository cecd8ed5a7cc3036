"""Staged copies: what is taken over, when, and what gives way to what (issue 5, point 10)."""

import pytest

from lib.driven import Driven


@pytest.fixture(params=["duckdb", "ducklake"])
def driven(request, tmp_path):
    made = Driven(request.param, tmp_path, batch_mode="staging")
    yield made
    made.lake.close()


def test_staged_rows_stay_until_they_are_asked_for(driven):
    """Rows that the stream has brought meanwhile are newer: they stay."""
    driven.run("copy:1:5:old", "set:2:new", "put:9:new")
    assert driven.rows() == [(2, "new"), (9, "new")]
    assert driven.rows("public.t_staging") == [(i, "old") for i in range(1, 6)]


def test_taking_over(driven):
    driven.run("copy:1:5:old", "set:2:new", "put:9:new", "resolve", "set:3:later", "drop:1")
    assert driven.rows() == [(2, "new"), (3, "later"), (4, "old"), (5, "old"), (9, "new")]
    if driven.kind == "duckdb":
        assert "public.t_staging" not in driven.tables()
    else:
        assert driven.rows("public.t_staging") == []


def test_taking_over_twice_changes_nothing(driven):
    driven.run("copy:1:5:old", "resolve", "drop:1", "resolve")
    assert driven.rows() == [(i, "old") for i in range(2, 6)]


def test_after_the_copy_drift_counts_again(driven):
    """As long as staged rows wait, rows may be missing; afterwards they may not."""
    driven.run("copy:1:2:old", "set:7:new", "resolve", "set:8:new", fails="8" if driven.kind == "ducklake" else "differ")


def test_append_gives_the_place_of_rows_to_staged_ones(driven):
    """A table that is copied again: the copy is of later than what the table has, and what it lacks was deleted meanwhile."""
    driven.options |= {"batch_resolution": "append"}
    driven.run("copy:1:5:old", "put:9:gone", "copy:4:7:again", "set:4:x")
    assert driven.rows() == [(4, "x"), (5, "again"), (6, "again"), (7, "again")]


def test_append_into_a_table_that_was_never_copied(driven):
    """Its rows came with the stream: those that the copy does not have stay."""
    driven.run("copy:1:5:old", "put:9:kept")
    driven.options |= {"batch_resolution": "append"}
    driven.run("open", "copy:4:7:again")
    assert driven.rows() == [(4, "again"), (5, "again"), (6, "again"), (7, "again"), (9, "kept")]


def test_replace_leaves_only_staged_rows(driven):
    driven.options |= {"batch_resolution": "replace"}
    driven.run("copy:1:5:old", "put:9:gone", "copy:4:7:again", "set:4:x")
    assert driven.rows() == [(4, "x"), (5, "again"), (6, "again"), (7, "again")]


def test_taking_over_after_a_restart(driven):
    """DuckDB keeps what it needs to know; a lake knows a table again when the flow has met it."""
    if driven.kind == "ducklake":
        driven.run("copy:1:5:old", "open", "set:2:new", "resolve")
    else:
        driven.run("copy:1:5:old", "set:2:new", "open", "resolve")
    assert driven.rows() == [(1, "old"), (2, "new"), (3, "old"), (4, "old"), (5, "old")]


def test_a_lake_says_what_it_cannot_take_over(driven):
    driven.run("copy:1:5:old", "open", "resolve", fails=None if driven.kind == "duckdb" else "this run has not met the table")


def test_names(driven):
    driven.options |= {"staging_schema": "aside", "staging_suffix": "_new"}
    driven.run("copy:1:2:old")
    assert driven.rows("aside.t_new") == [(1, "old"), (2, "old")]
