"""Copies as runs of the service: enqueued, and as children of what leaves a Delta table (issue 6, point 2)."""

import json
import sys

import deltalake
import pyarrow as pa
import pytest
from lib.cli import ductstream
from lib.copies import SCHEMA_ID, Copies
from lib.pause import Pause
from lib.runs import Runs
from lib.wait import wait_until


@pytest.fixture
def copies(tmp_path):
    return Copies(tmp_path, DUCTSTREAM_RUN_COMMANDS="true", DUCTSTREAM_RUN_LEASE="10s")


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


def test_models_are_parents_too(runs, copies, tmp_path):
    """A build of SQL models in place of the program, or before it; nothing new for the models is no end of the copy."""
    uri, folder = tmp_path / "a", tmp_path / "models"
    (folder / "gold").mkdir(parents=True)
    (folder / "gold/n.sql").write_text("-- materialized: table\nSELECT 1 AS i")
    given = job(uri)
    both = {**given, "model": {"models": str(folder)}}
    first = runs.wait(runs.submit("data-modeling-run", both))
    assert first["state"] == "succeeded", first
    result = json.loads(first["result"])
    assert (result["built"], result["outputs"][0]["name"], result["command"]) == (1, "ducklake.gold.n", {"rows": 2})
    assert runs.wait(result["copy_run_id"])["state"] == "succeeded"
    assert len(copies.rows("SELECT * FROM lake.data_modeling_team_123.made")) == 2
    deltalake.write_deltalake(str(uri), pa.table({"id": [3]}), mode="append")
    del both["argv"]
    second = runs.wait(runs.submit("data-modeling-run", both))
    assert second["state"] == "succeeded"
    assert runs.wait(json.loads(second["result"])["copy_run_id"])["state"] == "succeeded"
    assert len(copies.rows("SELECT * FROM lake.data_modeling_team_123.made")) == 3
    (folder / "gold/n.sql").write_text("SELECT nothing AS i")
    third = runs.wait(runs.submit("data-modeling-run", both, max_attempts=1))
    assert third["state"] == "failed" and runs.counts().get("queued", 0) == 0
    for model in ([], {"models": "x"}, {"models": str(folder), "more": 1}):
        code, _, err = ductstream("runs", "submit", "data-modeling-run", "--input", json.dumps({**both, "model": model}), env=runs.env)
        assert code == 2 and "input_json.model: " in err, err


def test_a_copy_under_way_is_followed_by_another(runs, copies, tmp_path):
    """It has pinned the table before its parent changed it: what came then is copied when it is over, once however many parents wait for it."""
    uri = tmp_path / "a"
    pause = Pause(tmp_path, "copy-written")
    runs.workers.pop().kill()  # its copies do not stand still
    runs.worker(**pause.env, DUCTSTREAM_RUN_WORKERS="3")
    copy = json.loads(runs.wait(runs.submit("data-modeling-run", job(uri)))["result"])["copy_run_id"]
    wait_until(lambda: pause.reached, 60, "the copy to have written")
    deltalake.write_deltalake(str(uri), pa.table({"id": [3]}), mode="append")
    nothing = {**job(uri), "argv": ["/bin/true"]}
    parents = [runs.wait(runs.submit("data-modeling-run", nothing)) for _ in range(2)]
    children = {json.loads(parent["result"])["copy_run_id"] for parent in parents}
    assert children == {f"copy-{parents[0]['id']}"} and runs.get(copy)["state"] == "running"
    assert runs.get(*children)["state"] == "queued"
    pause.release()
    assert runs.wait(*children)["state"] == "succeeded" == runs.get(copy)["state"]
    assert len(copies.rows("SELECT * FROM lake.data_modeling_team_123.made")) == 3


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
        ("data-modeling-run", {"argv": ["true"], "team_id": 1, "models": []}, "from the root"),
    ):  # fmt: skip
        code, _, err = ductstream("runs", "submit", kind, "--input", json.dumps(given), env=runs.env)
        assert code == 2 and said in err
    empty = runs.wait(runs.submit("ducklake-copy.data-modeling", {"team_id": 1, "models": []}))
    assert empty["state"] == "skipped"
