"""A destination tells what it is about to change of a table, and does it only when it may (issue 5, point 7)."""

import json

import pytest

from lib.driven import Driven


@pytest.fixture(params=["duckdb", "ducklake"])
def driven(request, tmp_path):
    made = Driven(request.param, tmp_path)
    yield made
    made.lake.close()


def test_a_change_is_told_once_and_done(driven):
    out = driven.run("copy:1:2:a", "hook:yes", "column:extra", "put:3:b", "put:4:b", "open", "put:5:b")
    (plan,) = map(json.loads, out.splitlines())
    assert [(c["type"], c["table"], c["column"]) for c in plan["changes"]] == [("add_column", "t", "extra")]
    assert driven.rows() == [(1, "a"), (2, "a"), (3, "b"), (4, "b"), (5, "b")]
    assert "extra" in driven.columns()


def test_a_change_that_is_held_back_is_not_done(driven):
    out = driven.run("copy:1:2:a", "hook:no", "column:extra", "put:3:b", fails="held back")
    assert len(out.splitlines()) == 1
    assert driven.rows() == [(1, "a"), (2, "a")]
    assert "extra" not in driven.columns()


def test_columns_of_ours_are_not_asked_about(driven):
    driven.run("copy:1:2:a")
    driven.options = {"meta_enabled": "true"}
    assert driven.run("hook:no", "put:3:b") == ""
