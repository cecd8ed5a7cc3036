"""Runs: jobs, attempts, cancel, resume, logs, the end of workers (issue 5, point 5), on both states."""

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lib.pause import freeze
from lib.runs import Runs
from lib.wait import wait_until


@pytest.fixture(params=["sqlite", "postgres"])
def runs(request, tmp_path):
    """Runs on a SQLite and on a Postgres state; their sql jobs know the database of `target` as "warehouse"."""
    env = {"DUCTSTREAM_STATE_PATH": str(tmp_path / "state.db"), "DUCTSTREAM_RUN_COMMANDS": "true"}
    target = request.getfixturevalue("database")
    env["DUCTSTREAM_RUN_DSN_WAREHOUSE"] = target.dsn
    if request.param == "postgres":
        env["DUCTSTREAM_POSTGRES_DSN"] = target.dsn
    else:
        env.pop("DUCTSTREAM_POSTGRES_DSN", None)
    made = Runs(tmp_path, env)
    made.target = target
    yield made
    made.close()


def shell(text, **more):
    return {"argv": ["/bin/sh", "-c", text], **more}


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_statements_take_effect(runs):
    """An sql job: its statements, what they see of the run, its result, log and progress."""
    runs.worker()
    runs.target.sql("CREATE TABLE hits (run text, fence bigint, attempt int)")
    insert = (
        "INSERT INTO hits SELECT current_setting('ductstream.run_id'), current_setting('ductstream.fence')::bigint, "
        "current_setting('ductstream.attempt')::int"
    )
    run_id = runs.submit("sql", {"dsn": "warehouse", "statements": [insert, "UPDATE hits SET attempt = attempt"]})
    run = runs.wait(run_id)
    assert (run["state"], json.loads(run["result"])) == ("succeeded", {"statements": 2})
    assert runs.target.query("SELECT * FROM hits") == [(run_id, run["fence"], 1)]
    assert (run["done"], run["total"]) == (2, 2)
    assert runs.logs(run_id) == ["statement 1 of 2: INSERT 0 1", "statement 2 of 2: UPDATE 1"]


def test_a_failed_statement_is_undone_and_not_tried_for_ever(runs):
    """DATA and CONFIG end a run at once; nothing of its transaction stays."""
    runs.worker()
    runs.target.sql("CREATE TABLE hits (n int PRIMARY KEY)")
    statements = ["INSERT INTO hits VALUES (1)", "INSERT INTO hits VALUES (1)"]
    run = runs.wait(runs.submit("sql", {"dsn": "warehouse", "statements": statements}))
    assert (run["state"], run["attempt"]) == ("failed", 1)
    assert "input_json.statements[1]" in run["error"] and "23505" in run["error"]
    assert runs.target.value("SELECT count(*) FROM hits") == 0
    run = runs.wait(runs.submit("sql", {"dsn": "warehouse", "statements": ["INSERT INTO hits VALUES (2); COMMIT"]}))
    assert run["state"] == "failed" and "ended the transaction" in run["error"]
    run = runs.wait(runs.submit("sql", {"dsn": "nowhere", "statements": ["SELECT 1"]}))
    assert run["state"] == "failed" and "DUCTSTREAM_RUN_DSN_NOWHERE" in run["error"]


def test_an_id_that_another_state_had(runs, tmp_path):
    """Its run is another one: it is done, whatever numbers there were."""
    runs.target.sql("CREATE TABLE hits (v int)")
    (tmp_path / "other").mkdir()
    other = Runs(tmp_path / "other", runs.env | {"DUCTSTREAM_STATE_PATH": str(tmp_path / "other.db"), "DUCTSTREAM_POSTGRES_DSN": ""})
    try:
        for number, made in enumerate((runs, other)):
            made.worker()
            for name in ("first", "second")[number:]:
                made.wait(made.submit("sql", {"dsn": "warehouse", "statements": [f"INSERT INTO hits VALUES ({number})"]}, id=name))
            assert made.get("second")["state"] == "succeeded", made.get("second")
        assert runs.target.query("SELECT v, count(*) FROM hits GROUP BY v ORDER BY v") == [(0, 2), (1, 1)]
    finally:
        other.close()


def test_what_an_older_program_counted(runs):
    """It has the run's id alone, and holds for the run that it is of."""
    runs.target.sql("""CREATE TABLE hits (v int); CREATE SCHEMA IF NOT EXISTS ductstream;
        CREATE TABLE ductstream.run_steps (run_id text PRIMARY KEY, fence bigint NOT NULL, steps bigint NOT NULL DEFAULT 0,
            changed_at timestamptz NOT NULL DEFAULT pg_catalog.now());
        INSERT INTO ductstream.run_steps VALUES ('begun', 0, 1, now()), ('another', 0, 1, now() - interval '1 week')""")
    statements = ["INSERT INTO hits VALUES (1)", "INSERT INTO hits VALUES (2)"]
    runs.worker()
    for name in ("begun", "another"):
        runs.wait(runs.submit("sql", {"dsn": "warehouse", "statements": statements, "transaction": "each"}, id=name))
    assert runs.target.query("SELECT v, count(*) FROM hits GROUP BY v ORDER BY v") == [(1, 1), (2, 2)]


def test_a_retried_run_goes_on_after_what_was_done(runs):
    """transaction each: statements that are done are not done again (resume)."""
    runs.worker()
    runs.target.sql("CREATE TABLE hits (n int); CREATE TABLE doors (open bool)")
    statements = ["INSERT INTO hits VALUES (1)", "INSERT INTO hits SELECT 1 / count(*) FROM doors"]
    run_id = runs.submit("sql", {"dsn": "warehouse", "statements": statements, "transaction": "each"})
    assert runs.wait(run_id)["state"] == "failed"
    runs.target.sql("INSERT INTO doors VALUES (true)")
    assert runs.driver.call("retry", id=run_id)["rc"] == 1
    assert runs.wait(run_id)["state"] == "succeeded"
    assert runs.target.query("SELECT n FROM hits") == [(1,), (1,)]
    assert "1 of 2 statements were done by an earlier attempt" in runs.logs(run_id)


def test_a_command_has_attempts_and_a_log(runs, tmp_path):
    """A program that fails is run again until it succeeds; what it prints is the log; secrets are not in its environment."""
    runs.worker()
    script = (
        "echo attempt $DUCTSTREAM_RUN_ATTEMPT; echo oops >&2; env > env; "
        'test $DUCTSTREAM_RUN_ATTEMPT = 3 && echo "{\\"rows\\": 7}"'
    )
    run_id = runs.submit("command", shell(f"cd {tmp_path}; {script}"), max_attempts=5)
    run = runs.wait(run_id)
    assert (run["state"], run["attempt"], json.loads(run["result"])) == ("succeeded", 3, {"rows": 7})
    logs = runs.logs(run_id)
    assert [line for line in logs if line.startswith("attempt")] == ["attempt 1", "attempt 2", "attempt 3"]
    assert logs.count("oops") == 3
    seen = (tmp_path / "env").read_text()
    assert f"DUCTSTREAM_RUN_ID={run_id}" in seen and f"DUCTSTREAM_RUN_FENCE={run['fence']}" in seen
    assert "DSN" not in seen and "SECRET" not in seen
    run = runs.wait(runs.submit("command", shell("exit 7"), max_attempts=2))
    assert (run["state"], run["attempt"]) == ("failed", 2) and "exited with 7" in run["error"]
    run = runs.wait(runs.submit("command", {"argv": ["/no/such/program"]}))
    assert (run["state"], run["attempt"]) == ("failed", 1) and "/no/such/program" in run["error"]
    run = runs.wait(runs.submit("command", shell("sleep 60", timeout_seconds=1), max_attempts=1))
    assert run["state"] == "failed" and "longer than 1 s" in run["error"]


def test_commands_are_off_unless_switched_on(runs):
    """Without DUCTSTREAM_RUN_COMMANDS a worker runs no program, whoever enqueued it."""
    runs.worker(DUCTSTREAM_RUN_COMMANDS="")
    run = runs.wait(runs.submit("command", shell("true")))
    assert run["state"] == "failed" and "DUCTSTREAM_RUN_COMMANDS" in run["error"]


def test_what_is_no_run_is_refused(runs):
    """Nothing is enqueued that no worker could do; the field is named."""
    for kind, given, field in [
        ("nothing", {}, "kind"),
        ("sql", {"dsn": "warehouse"}, "input_json.statements"),
        ("sql", {"dsn": "host=x password=y", "statements": ["x"]}, "input_json.dsn"),
        ("sql", {"dsn": "w", "statements": ["x", 3]}, "input_json.statements[1]"),
        ("sql", {"dsn": "w", "statements": ["x"], "transactions": "each"}, "input_json.transactions"),
        ("command", {"argv": ["ls"]}, "input_json.argv[0]"),
        ("flow-once", {"max_empty_reads": 0}, "flow_id"),
    ]:
        answer = runs.driver.answer("submit", kind=kind, input=json.dumps(given))
        assert answer["error"].startswith(f"{field}:"), answer
    assert sum(runs.counts().values()) == 0


def test_a_cancel_ends_the_program_and_its_children(runs, tmp_path):
    """A running run is asked to end: SIGTERM to the group, SIGKILL to who does not hear; a queued one ends at once."""
    runs.worker(DUCTSTREAM_RUN_WORKERS="1")
    pids = tmp_path / "pids"
    deaf = f"trap '' TERM; sleep 100 & echo $! > {pids}.new; mv {pids}.new {pids}; wait; wait; sleep 100"
    running = runs.submit("command", shell(deaf))
    queued = runs.submit("command", shell("true"))
    wait_until(pids.exists, 20, "the program to begin")
    assert runs.driver.call("cancel", id=queued)["rc"] == 1
    assert runs.get(queued)["state"] == "cancelled"
    began = time.monotonic()
    assert runs.driver.call("cancel", id=running)["rc"] == 1
    assert runs.wait(running)["state"] == "cancelled"
    assert time.monotonic() - began < 15
    wait_until(lambda: not alive(int(pids.read_text())), 5, "what the program started to end")
    run = runs.wait(runs.submit("command", shell("true")))  # the worker goes on
    assert run["state"] == "succeeded"


def test_a_cancel_ends_a_statement(runs):
    runs.worker()
    run_id = runs.submit("sql", {"dsn": "warehouse", "statements": ["SELECT pg_sleep(100)"]})
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(100)' AND state = 'active'"
    wait_until(lambda: runs.target.value(sleeping) == 1, 20, "the statement to run")
    runs.driver.call("cancel", id=run_id)
    assert runs.wait(run_id)["state"] == "cancelled"
    wait_until(lambda: runs.target.value(sleeping) == 0, 10, "the statement to end on the server")


def test_a_cancel_sees_a_claim_that_is_committed_meanwhile(runs):
    """On Postgres: the claim has the run's row when the cancel comes, and commits while that one waits."""
    if "DUCTSTREAM_POSTGRES_DSN" not in runs.env:
        pytest.skip("one writer at a time on SQLite")
    run_id = runs.submit("sql", {"dsn": "warehouse", "statements": ["SELECT 1"]})
    waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with runs.target.connect() as claim, ThreadPoolExecutor() as pool:
        claim.execute("BEGIN")
        claim.execute("UPDATE ductstream.runs SET state = 2, fence = 1, worker = 'w' WHERE id = %s", (run_id,))
        cancel = pool.submit(runs.driver.call, "cancel", id=run_id)
        wait_until(lambda: runs.target.value(waits) == 1, 10, "the cancel to wait for the row")
        claim.execute("UPDATE ductstream.runs SET lease_us = 9e15 WHERE id = %s", (run_id,))
        claim.execute("COMMIT")
        assert cancel.result()["rc"] == 1
    assert (runs.get(run_id)["state"], runs.get(run_id)["cancel_requested"]) == ("running", True)


def test_a_killed_workers_run_is_taken_over_in_seconds(runs, tmp_path):
    """kill -9 of the worker: its child ends with it, another worker begins the run anew after the lease (here 1 s)."""
    pid, done = tmp_path / "pid", tmp_path / "done"
    script = f"test $DUCTSTREAM_RUN_ATTEMPT = 2 && touch {done} && exit 0; echo $$ > {pid}; sleep 100"
    first = runs.worker(DUCTSTREAM_RUN_LEASE="1s")
    run_id = runs.submit("command", shell(script))
    wait_until(lambda: pid.exists() and pid.read_text().strip(), 20, "the program to begin")
    fence = runs.get(run_id)["fence"]
    second = runs.worker(DUCTSTREAM_RUN_LEASE="1s")
    wait_until(lambda: f":{second.pid}:" in runs.said(), 20, "the other worker to take runs")
    began = time.monotonic()
    first.kill()
    run = runs.wait(run_id)
    assert time.monotonic() - began < 6
    assert (run["state"], run["attempt"]) == ("succeeded", 2) and run["fence"] > fence
    assert run["worker"].split(":")[1] == str(second.pid)
    assert done.exists()
    wait_until(lambda: not alive(int(pid.read_text())), 5, "the dead worker's program to end")


def test_a_frozen_worker_changes_nothing_when_it_wakes(runs):
    """SIGSTOP, takeover, SIGCONT: the late worker's transaction is refused by the fencing number, and so is its end of the run."""
    runs.target.sql("CREATE TABLE hits (attempt text)")
    insert = "INSERT INTO hits VALUES (current_setting('ductstream.attempt'))"
    first = runs.worker(DUCTSTREAM_RUN_WORKERS="1", DUCTSTREAM_RUN_LEASE="1s")
    # The first attempt waits for the lock, frozen; the second one finds it free.
    with runs.target.connect() as gate:
        gate.execute("SELECT pg_advisory_lock(7)")
        statements = ["SELECT pg_advisory_lock(7), pg_advisory_unlock(7)", insert]
        run_id = runs.submit("sql", {"dsn": "warehouse", "statements": statements})
        waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'advisory'"
        wait_until(lambda: runs.target.value(waiting) == 1, 20, "the first attempt to wait")
        freeze(first, None if "DUCTSTREAM_POSTGRES_DSN" in runs.env else runs.env["DUCTSTREAM_STATE_PATH"])
        gate.execute("SELECT pg_advisory_unlock(7)")
        wait_until(lambda: runs.target.value(waiting) == 0, 10, "the lock to be given")
    # Its transaction is open and holds the run's row until the worker is let go on: the second attempt waits for that row.
    runs.worker(DUCTSTREAM_RUN_WORKERS="1")
    wait_until(lambda: runs.get(run_id)["attempt"] == 2, 20, "the second attempt")
    os.kill(first.pid, signal.SIGCONT)
    run = runs.wait(run_id)
    assert run["state"] == "succeeded"
    assert runs.target.value("SELECT count(*) FROM hits") == 1
    wait_until(lambda: "run lost" in runs.said(), 10, "the late worker to say that it lost the run")


def test_a_number_that_is_too_old_commits_nothing(runs, tmp_path):
    """The target database itself refuses an attempt once a later one has begun there."""
    point = tmp_path / "point"
    runs.worker(DUCT_PAUSE_POINT=f"run-taken-over:1:{point}")
    runs.target.sql("CREATE TABLE hits (n int)")
    statements = {"dsn": "warehouse", "statements": ["INSERT INTO hits VALUES (1)"]}
    run_id = runs.submit("sql", statements, max_attempts=1)
    wait_until(Path(f"{point}.reached").exists, 20, "the attempt to have begun there")
    runs.target.sql("UPDATE ductstream.run_steps SET fence = fence + 1")
    point.touch()
    run = runs.wait(run_id)
    assert run["state"] == "failed" and f"fencing number {run['fence']} is too old" in run["error"]
    assert runs.target.value("SELECT count(*) FROM hits") == 0


def test_a_stopped_worker_gives_its_runs_back(runs, tmp_path):
    """SIGTERM: what is under way ends and is queued again, without waiting for the lease; no attempt is used up."""
    began = tmp_path / "began"
    run_id = runs.submit("command", shell(f"touch {began}; test -e {tmp_path}/free || exec sleep 100"), max_attempts=2)
    for _ in range(3):
        worker = runs.worker()
        wait_until(began.exists, 20, "the program to begin")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(timeout=10) == 0
        began.unlink()
        run = runs.get(run_id)
        assert (run["state"], run["attempt"]) == ("queued", 0) and "stopped" in run["error"]
    (tmp_path / "free").touch()
    runs.worker()
    run = runs.wait(run_id)
    assert (run["state"], run["attempt"], run["fence"]) == ("succeeded", 1, 4)


def test_only_the_queue_that_it_was_told(runs):
    """-runs -queue NAME takes that queue; without it, `default`."""
    runs.worker("-queue", "heavy")
    light = runs.submit("command", shell("true"))
    heavy = runs.submit("command", shell("true"), queue="heavy")
    assert runs.wait(heavy)["state"] == "succeeded"
    assert runs.get(light)["state"] == "queued"
    runs.worker()
    assert runs.wait(light)["state"] == "succeeded"


def test_a_flow_that_is_not_running_is_skipped(runs):
    """flow-once has nothing to do for a paused flow, and says so."""
    runs.worker()
    runs.driver.call("flow", id="idle")
    run = runs.wait(runs.submit("flow-once", flow_id="idle"))
    assert (run["state"], json.loads(run["result"])) == ("skipped", {"skipped": "the flow is created"})
    run = runs.wait(runs.submit("flow-once", flow_id="none"))
    assert run["state"] == "failed" and 'no flow "none"' in run["error"]


def test_limits_hold_over_workers(runs, tmp_path):
    """Runs with one concurrency key and limit 2, eight slots in two processes: never three at once, in the end all of them."""
    tally = tmp_path / "tally"
    tally.touch()
    script = f"echo + >> {tally}; sleep 0.05; echo - >> {tally}"
    ids = [runs.submit("command", shell(script), concurrency_key="lake", concurrency_limit=2) for _ in range(30)]
    for _ in range(2):
        runs.worker(DUCTSTREAM_RUN_WORKERS="4")
    for run_id in ids:
        assert runs.wait(run_id)["state"] == "succeeded"
    now, most = 0, 0
    for sign in tally.read_text().split():
        now += 1 if sign == "+" else -1
        most = max(most, now)
    assert (now, most) == (0, 2)
