"""Runs on the command line, without a server, and what a run's process says while it works (issue 6, point 7)."""

import json

import pytest
from lib.cli import ductstream
from lib.runs import Runs


@pytest.fixture
def runs(tmp_path):
    """A SQLite state, and what takes its runs."""
    env = {"DUCTSTREAM_STATE_PATH": str(tmp_path / "state.db"), "DUCTSTREAM_RUN_COMMANDS": "true"}
    made = Runs(tmp_path, env)
    yield made
    made.close()


def shell(text):
    return json.dumps({"argv": ["/bin/sh", "-c", text]})


def run(runs, *words):
    code, out, err = ductstream("runs", *words, env=runs.env)
    assert code == 0, err
    return out


def test_a_run_from_the_command_line(runs):
    """`runs submit|show|list|logs|watch|cancel|retry` on the state that the worker shares."""
    submitted = json.loads(run(runs, "submit", "command", "--input", shell("echo hello"), "--json"))
    assert submitted["state"] == "RUN_STATE_QUEUED"
    assert submitted["id"] in run(runs, "list", "--state", "queued")
    assert "cancelled" in run(runs, "cancel", submitted["id"])
    assert "queued" in run(runs, "retry", "--id", submitted["id"])
    runs.worker()
    watched = run(runs, "watch", submitted["id"])
    assert watched.splitlines()[-1] == "succeeded"
    assert run(runs, "logs", submitted["id"]).endswith("info hello\n")
    assert "state          succeeded" in run(runs, "show", submitted["id"])


@pytest.mark.parametrize(
    "words, said",
    [
        (["show", "nobody"], 'run "nobody": there is none'),
        (["submit", "nonsense"], 'kind: "nonsense" is none'),
        (["submit", "command", "--kind", "sql"], 'flag "--kind" says it already'),
        (["list", "more"], "this command takes flags only"),
        (["show"], 'flag "--id" is missing'),
    ],
)
def test_refused(runs, words, said):
    code, out, err = ductstream("runs", *words, env=runs.env)
    assert (code, out) == (2, "") and said in err


def test_progress_and_levels_of_a_child(runs):
    """Lines of JSON are the run's progress, its checkpoint for the next attempt, and log lines with a level."""
    first = [
        '{"progress": {"done": 3, "total": 10, "unit": "files", "step": "copy"}, "checkpoint": {"next": 4}}',
        '{"log": {"level": "warn", "text": "slow"}}',
        '{"result": 1}',
    ]
    script = f'if [ -z "$DUCTSTREAM_RUN_CHECKPOINT" ]; then printf "%s\\n" {" ".join(repr(line) for line in first)}; exit 7; fi; '
    script += 'echo "{\\"from\\": $DUCTSTREAM_RUN_CHECKPOINT}"'
    run_id = runs.submit("command", json.loads(shell(script)), max_attempts=2)
    runs.worker()
    done = runs.wait(run_id)
    assert json.loads(done["result"]) == {"from": {"next": 4}}
    lines = json.loads(run(runs, "logs", run_id, "--json"))["lines"]
    assert ("warn", "slow") in [(line["level"], line["text"]) for line in lines]
    assert not any("progress" in line["text"] for line in lines)


def test_progress_is_kept(runs):
    """The last progress of a child stays with the run."""
    run_id = runs.submit("command", json.loads(shell('echo \'{"progress": {"done": 5, "total": 5, "unit": "rows"}}\'')))
    runs.worker()
    done = runs.wait(run_id)
    assert (done["done"], done["total"]) == (5, 5)


def test_a_long_result_is_whole(runs):
    """A result is longer than a line of the log may be."""
    script = "printf '{\"names\": \"'; head -c 200000 /dev/zero | tr '\\0' x; echo '\"}'"
    run_id = runs.submit("command", json.loads(shell(script)))
    runs.worker()
    assert len(json.loads(runs.wait(run_id)["result"])["names"]) == 200000


@pytest.mark.parametrize("state", ["sqlite", "postgres"])
def test_texts_are_cut_between_characters(state, runs, tmp_path, database):
    """Whatever a program says, its lines are kept: a cut inside of a character would lose all lines beside it, where the state is a Postgres."""
    long = "x" + "é" * 200000
    said = [
        json.dumps({"log": {"level": "warn", "text": long}}, ensure_ascii=False),
        json.dumps({"progress": {"done": 1, "total": 2, "unit": long, "step": long}}, ensure_ascii=False),
        "before \x80 after",
        long,
        '{"log": {"text": 7}}',
        "last",
    ]
    (tmp_path / "said").write_bytes(b"\n".join(line.encode("latin-1" if "\x80" in line else "utf-8") for line in said))
    env = dict(runs.env)
    if state == "postgres":
        env["DUCTSTREAM_POSTGRES_DSN"] = database.dsn
    made = Runs(tmp_path, env)
    try:
        run_id = made.submit("command", {"argv": ["/bin/cat", str(tmp_path / "said")]})
        made.worker()
        assert made.wait(run_id)["state"] == "succeeded"
        lines = made.logs(run_id)
        assert made.get(run_id)["step"] == "x" + "é" * 99
    finally:
        made.close()
    assert lines[0] == "x" + "é" * 1999 and lines[1] == "before ? after" and lines[-2:] == ['{"log": {"text": 7}}', "last"]
    assert "".join(lines[2:-2]) == long


def test_no_job_by_hand_without_input(runs):
    """`ductstream job` is for who does runs: other kinds, and no input, are refused."""
    code, _, err = ductstream("job", "command", env=runs.env)
    assert code == 2 and "there is none that has a process of its own" in err
