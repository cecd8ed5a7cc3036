"""Copies as runs of the service: enqueued, and as children of what leaves a Delta table (issue 6, point 2)."""

import json
import sys

import pytest
from lib.cli import ductstream
from lib.copies import SCHEMA_ID, Copies
from lib.runs import Runs


@pytest.fixture
def copies(tmp_path):
    return Copies(tmp_path, DUCTSTREAM_RUN_COMMANDS="true")


@pytest.fixture
def runs(tmp_path, copies):
    made = Runs(tmp_path, copies.env)
    made.worker()
    yield made
    made.close()


def job(uri, kind="models"):
    """A program that leaves a Delta table, and what is to be copied."""
    program = (
        f"import deltalake, pyarrow as pa; deltalake.write_deltalake({str(uri)!r}, pa.table({{'id': [1, 2]}}), mode='overwrite'); "
        "print('{\"rows\": 2}')"
    )
    tables = {
        "models": [{"model_label": "made", "table_uri": str(uri)}],
        "schemas": [{"schema_id": SCHEMA_ID, "source_type": "stripe", "name": "made", "table_uri": str(uri)}],
    }
    return {"argv": [sys.executable, "-c", program], "team_id": 123, kind: tables[kind]}


def test_a_copy_follows_what_it_copies(runs, copies, tmp_path):
    """`runs submit data-modeling-run|external-data-job` starts the copy as its child when it ends well."""
    first = runs.wait(runs.submit("data-modeling-run", job(tmp_path / "a")))
    assert first["state"] == "succeeded", first
    result = json.loads(first["result"])
    assert result["command"] == {"rows": 2}
    child = runs.wait(result["copy_run_id"])
    assert (child["state"], child["kind"]) == ("succeeded", "ducklake-copy.data-modeling"), child
    assert copies.rows("SELECT * FROM lake.data_modeling_team_123.made ORDER BY id") == [(1,), (2,)]
    second = runs.wait(runs.submit("external-data-job", job(tmp_path / "b", "schemas")))
    child = runs.wait(json.loads(second["result"])["copy_run_id"])
    assert child["state"] == "succeeded"
    assert len(copies.rows("SELECT * FROM lake.data_imports_team_123.stripe_made_a1b2c3d4")) == 2


def test_a_failing_copy_fails_nobody_else(runs, copies, tmp_path):
    """Its parent has done well; a parent that fails starts none."""
    odd = {**job(tmp_path / "a"), "models": [{"model_label": "gone", "table_uri": str(tmp_path / "nothing")}]}
    parent = runs.wait(runs.submit("data-modeling-run", odd))
    assert parent["state"] == "succeeded"
    child = runs.wait(json.loads(parent["result"])["copy_run_id"])
    assert child["state"] == "failed" and "there is no Delta table" in child["error"]
    assert runs.get(parent["id"])["state"] == "succeeded"
    failing = {**job(tmp_path / "a"), "argv": ["/bin/false"]}
    parent = runs.wait(runs.submit("data-modeling-run", failing, max_attempts=1))
    assert parent["state"] == "failed" and runs.counts().get("queued", 0) == 0


def test_bad_inputs_are_named(runs):
    for kind, given, said in (
        ("ducklake-copy.data-modeling", {"models": []}, "team_id"),
        ("ducklake-copy.data-modeling", {"team_id": 1, "models": [{"model_label": "a"}]}, "models[0].table_uri"),
        ("ducklake-copy.data-imports", {"team_id": 1, "schemas": [{"schema_id": "x", "source_type": "a", "name": "b", "table_uri": "c"}]},
         "is no uuid"),
        ("ducklake-copy.data-imports", {"team_id": 1, "schemas": [], "more": 1}, "more"),
        ("data-modeling-run", {"team_id": 1, "models": []}, "argv"),
    ):  # fmt: skip
        code, _, err = ductstream("runs", "submit", kind, "--input", json.dumps(given), env=runs.env)
        assert code == 2 and said in err
    empty = runs.wait(runs.submit("ducklake-copy.data-modeling", {"team_id": 1, "models": []}))
    assert empty["state"] == "skipped"
