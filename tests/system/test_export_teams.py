"""Teams of the backfills by the API, beside the file of teams, and the calendar of their days (issue 6, point 3)."""

import json
import os
import pty
import sqlite3
import time
from contextlib import closing
from datetime import timedelta

import pytest
from lib import child
from lib.admin import SECRET, Admin
from lib.cli import ductstream, lines
from lib.clickhouse import missing, put_events
from lib.exports import EVENTS_JOB, PERSONS_JOB, Team, exports_server
from lib.http import Http
from lib.paths import program
from lib.runs import Runs
from lib.s3 import missing as no_s3
from lib.service import Service
from lib.wait import utc_today, wait_until

pytestmark = pytest.mark.skipif(bool(missing() or no_s3()), reason=str(missing() or no_s3()))

DAILY = "duckling_events_daily_backfill_sensor"


@pytest.fixture(scope="module")
def clickhouse(tmp_path_factory, s3):
    with exports_server(tmp_path_factory.mktemp("clickhouse"), s3) as server:
        yield server


@pytest.fixture
def team(tmp_path, s3, bucket, clickhouse):
    return Team(tmp_path, f"sqlite:{tmp_path}/lake.sqlite", s3, bucket, clickhouse)


@pytest.fixture
def service(tmp_path):
    """A server that takes no runs; its teams file has team 7."""
    file = tmp_path / "ducklings.yaml"
    file.write_text("- {team_id: 7, bucket: file-bucket, catalog: 'sqlite:/f.sqlite'}\n")
    with Service(tmp_path / "home", RUN_WORKERS=0, HTTP_LISTEN="127.0.0.1:0", DUCKLINGS=file) as running:
        yield running


def backfill(method):
    return f"BackfillService/{method}"


FULL = {
    "team_id": 12345,
    "bucket": "acme-duckling",
    "bucket_region": "eu-central-1",
    "db_host": "acme.example.com",
    "db_name": "ducklake",
    "db_user": "ductstream",
    "db_password": SECRET,
    "cross_account_role_arn": "arn:aws:iam::111122223333:role/duckling",
    "cross_account_external_id": "acme",
}


def test_put_get_list_delete(service):
    """The password is kept sealed and never shown; what was shown may be put again; every change is in the audit."""
    put = service.call(backfill("PutTeam"), team=FULL)
    assert put.db_password == "***" and put.origin == "api" and put.db_port == 0 and put.updated_at.seconds > 0
    got = service.call(backfill("GetTeam"), team_id=12345)
    assert got == put and got.cross_account_external_id == "acme"
    assert [(t.team_id, t.origin.rpartition("/")[2]) for t in service.call(backfill("ListTeams")).teams] == [
        (7, "ducklings.yaml:1"),
        (12345, "api"),
    ]
    with closing(sqlite3.connect(service.state)) as state:
        [(fields,)] = state.execute("SELECT fields FROM teams").fetchall()
        assert SECRET not in fields and json.loads(fields)["db_password"].startswith("enc:v1:")
        sealed = json.loads(fields)["db_password"]
        service.call(backfill("PutTeam"), team={**FULL, "db_password": "***", "db_user": "other"})
        [(fields,)] = state.execute("SELECT fields FROM teams").fetchall()
        assert json.loads(fields)["db_password"] == sealed and json.loads(fields)["db_user"] == "other"
        service.call(backfill("DeleteTeam"), team_id=12345)
        assert service.fails(backfill("DeleteTeam"), team_id=12345)[0] == "NOT_FOUND"
        actions = [row[0] for row in state.execute("SELECT action FROM audit_log WHERE object = 'team/12345' ORDER BY id")]
    assert actions == ["team.create", "team.update", "team.delete"]
    assert SECRET not in service.server.text


def test_connection_strings_and_references(service):
    """Of a catalog only the password is hidden; a reference is no secret."""
    catalog = f"postgres:postgresql://u:{SECRET}@h/d"
    put = service.call(backfill("PutTeam"), team={"team_id": 5, "bucket": "b", "catalog": catalog})
    assert SECRET not in put.catalog and "***" in put.catalog and "@h/d" in put.catalog
    again = service.call(backfill("PutTeam"), team={"team_id": 5, "bucket": "c", "catalog": put.catalog})
    assert again.catalog == put.catalog and again.bucket == "c"
    code, said = service.fails(backfill("PutTeam"), team={"team_id": 5, "bucket": "c", "catalog": "postgres:host=x password=***"})
    assert code == "INVALID_ARGUMENT" and said.startswith("team.catalog:")
    put = service.call(backfill("PutTeam"), team={**FULL, "db_password": "${ACME_PASSWORD}", "bucket": "${B:-x}"})
    assert (put.db_password, put.bucket) == ("${ACME_PASSWORD}", "${B:-x}")


def test_the_api_goes_before_the_file(service):
    put = service.call(backfill("PutTeam"), team={"team_id": 7, "bucket": "api-bucket", "catalog": "sqlite:/a.sqlite"})
    assert put.shadows_file and put.bucket == "api-bucket"
    service.call(backfill("DeleteTeam"), team_id=7)
    got = service.call(backfill("GetTeam"), team_id=7)
    assert got.bucket == "file-bucket" and not got.shadows_file
    assert service.fails(backfill("DeleteTeam"), team_id=7) == ("NOT_FOUND", "team 7: the API has none")


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"team_id": 0}, "team.team_id: a whole number above 0"),
        ({"team_id": -5}, "team.team_id: a whole number above 0"),
        ({"bucket": ""}, "team.bucket: the name of a bucket"),
        ({"bucket": "a/b"}, "team.bucket: the name of a bucket"),
        ({"bucket": "a?b=c"}, "team.bucket: the name of a bucket"),
        ({"bucket_region": "x.evil.com/#"}, "team.bucket_region: the name of a region"),
        ({"db_host": ""}, "team.db_host: is missing"),
        ({"db_name": ""}, "team.db_name: is missing"),
        ({"db_port": 70000}, "team.db_port: a number from 1 to 65535"),
        ({"db_port": -1}, "team.db_port: a number from 1 to 65535"),
        ({"catalog": "sqlite:/x"}, "team.catalog: not together with db_host and db_name"),
        ({"catalog": "mysql:x", "db_host": "", "db_name": ""}, "team.catalog: sqlite:PATH or postgres:DSN"),
        ({"cross_account_role_arn": ""}, "team.cross_account_external_id: there is no cross_account_role_arn"),
        ({"db_user": "${1X}"}, 'team.db_user: "${" begins no environment reference'),
        ({"endpoint": "http://a b"}, "team.endpoint: the address of an S3"),
    ],
)
def test_what_is_refused_names_its_field(service, fields, said):
    code, message = service.fails(backfill("PutTeam"), team={**FULL, **fields})
    assert code == "INVALID_ARGUMENT" and message.startswith(said) and SECRET not in message
    assert [t.team_id for t in service.call(backfill("ListTeams")).teams] == [7]


def test_by_http(service):
    with Http(service.server.addresses("http")[0]) as http:
        body = {"team": {"bucket": "b", "catalog": "sqlite:/a.sqlite"}}
        answer = http.ask("PUT", "/v1/teams/9", body)
        assert answer.status == 200 and answer.json["teamId"] == "9" and answer.json["origin"] == "api", answer
        assert http.get("/v1/teams/9").json["bucket"] == "b"
        assert [team["teamId"] for team in http.get("/v1/teams").json["teams"]] == ["7", "9"]
        days = http.get("/v1/calendar?team_id=9&from_date=2024-02&to_date=2024-02").json["calendars"]
        assert [(c["job"], len(c["days"])) for c in days] == [(EVENTS_JOB, 29), (PERSONS_JOB, 29)]
        assert {day["state"] for day in days[0]["days"]} == {"missing"}
        assert http.get("/v1/calendar?from_date=2024-02-30").json["message"].startswith("from_date:")
        assert http.get("/v1/calendar?job=other").json["message"].startswith("job:")
        assert http.get("/v1/calendar?from_date=1970-01").json["message"].startswith("from_date: at most")
        assert http.ask("DELETE", "/v1/teams/9").json == {"deleted": True}


def test_admin_commands(service, tmp_path):
    admin = Admin(service.server.address)
    assert "no secret" not in admin.refused("team", "put", "--team-id", 3, "--bucket", "b", "--db-password", "x1")
    assert "others can read a command line" in admin.refused("team", "put", "--team-id", 3, "--bucket", "b", "--db-password", "x1")
    said = admin.ok("team", "put", "--team-id", 3, "--bucket", "b", "--db-host", "h", "--db-name", "d", "--db-password", "${X}")
    assert "${X}" in said
    file = tmp_path / "more.yaml"
    file.write_text(f"- {{team_id: 4, bucket: c, db_host: h, db_name: d, db_password: {SECRET}}}\n- {{team_id: 5, bucket: d, catalog: 'sqlite:/x'}}\n")
    assert admin.ok("team", "put", "--file", file).splitlines() == ["team 4: kept", "team 5: kept"]
    file.write_text("- {team_id: 6, bucket: c}\n")
    assert f"{file}:1: team.db_host: is missing" in admin.refused("team", "put", "--file", file)
    assert [line.split()[0] for line in admin.ok("team", "list").splitlines()] == ["TEAM", "3", "4", "5", "7"]
    assert admin.json("team", "get", "--team-id", 4)["dbPassword"] == "***"
    assert admin.ok("team", "delete", "--team-id", 4).split() == ["deleted", "yes"]
    assert "missing" in admin.ok("partition", "calendar", "--team", 5, "--from", "2024-01", "--to", "2024-01")


def test_a_team_of_the_api_is_worked_for_at_once(team, clickhouse, tmp_path):
    """Without any file: a tick sees the team as soon as it is there, and its run opens what was sealed."""
    yesterday = utc_today() - timedelta(days=1)
    put_events(clickhouse, team.id, str(yesterday), 3)
    env = {**team.env, "DUCTSTREAM_DUCKLINGS": ""}
    runs = Runs(tmp_path, env)

    def command(*words):
        code, out, err = ductstream("backfill", *words, "--json", env=runs.env)
        assert code == 0, err
        return lines(out)[0]

    settings = {name.removeprefix("DUCTSTREAM_"): value for name, value in env.items() if name.startswith("DUCTSTREAM_STATE")}
    try:
        assert command("tick", "--sensor", DAILY)["runs"] == []
        (tmp_path / "home").mkdir()
        with Service(tmp_path / "home", RUN_WORKERS=0, SECRET_KEY="00" * 32, **settings) as service:
            fields = {"team_id": team.id, "bucket": team.bucket, "bucket_region": "us-east-1", "endpoint": team.s3.endpoint}
            service.call(backfill("PutTeam"), team={**fields, "catalog": team.catalog})
        assert [t["teamId"] for t in command("teams")["teams"]] == [str(team.id)]
        assert [run["id"] for run in command("tick", "--sensor", DAILY)["runs"]] == [f"{team.id}_{yesterday}_new"]
        runs.worker()
        assert runs.wait(f"{team.id}_{yesterday}_new", timeout_s=60)["state"] == "succeeded"
        with team.lake() as lake:
            assert lake.count("posthog.events") == 3
    finally:
        runs.close()


def test_a_reset_sensor_ticks_within_a_minute(team, clickhouse, tmp_path):
    """By the server itself: a full sensor that is through for today goes through everything once more."""
    sensor, before = "duckling_events_full_backfill_sensor", utc_today(left_s=120) - timedelta(days=2)
    put_events(clickhouse, team.id, str(before), 3)
    with Service(tmp_path / "home", RUN_WORKERS=0, DUCKLINGS=team.registry, more_env={"CLICKHOUSE_URL": clickhouse.url}) as service:

        def ticks():
            [found] = [s for s in service.call("ScheduleService/ListSensors").sensors if s.name == sensor]
            return found.last_at.ToNanoseconds(), found.cursor, found.last_enqueued

        wait_until(lambda: "completed" in ticks()[1], 60, "the sensor to be through")
        first = ticks()
        assert first[2] in (1, 2)  # the daily one may have been first
        began = time.monotonic()
        code, _, err = ductstream("backfill", "reset-cursor", "--sensor", sensor, env={**team.env, "DUCTSTREAM_STATE_PATH": str(service.state)})
        assert code == 0, err
        wait_until(lambda: ticks()[0] > first[0] and "completed" in ticks()[1], 60, "the next tick")
        assert time.monotonic() - began < 60


def test_one_bad_entry_stops_its_own_team_only(team, clickhouse):
    """References are followed for the team at hand: what another one lacks is not its business."""
    put_events(clickhouse, team.id, "2024-01-15", 2)
    with open(team.registry, "a") as file:
        file.write(f"- {{team_id: {team.id + 100000}, bucket: b, db_host: h, db_name: d, db_password: '${{NOT_THERE}}'}}\n")
    assert team.run("_2024-01-15")[0]["rows"] == 2
    code, _, err = ductstream("backfill", "run", "--job", EVENTS_JOB, "--partition", f"{team.id + 100000}_2024-01-15", env=team.env)
    assert code == 2 and "ducklings.yaml:6: team" in err and 'db_password: environment variable "NOT_THERE" is not set' in err


# --- calendar


def calendar(team, *words):
    code, out, err = ductstream("backfill", "partitions", "--calendar", "--team", team.id, *words, env=team.env)
    assert code == 0, err
    return out


def test_the_calendar(team, clickhouse):
    """Days with and without rows, by day and by month, failures, and what nobody has done."""
    for day, rows in (("2024-01-03", 2), ("2024-02-01", 1)):
        put_events(clickhouse, team.id, day, rows)
    for day in ("03", "04"):
        team.run(f"_2024-01-{day}")
    team.run("_2024-01-06", code=4, CLICKHOUSE_URL="http://127.0.0.1:1")
    team.run("_2024-01-08", config={"dry_run": True})
    team.run("_2024-01-09", config={"skip_ducklake_registration": True})
    team.run("_2024-02")
    window = ("--job", EVENTS_JOB, "--from", "2024-01", "--to", "2024-02-10")
    shown = calendar(team, *window)
    assert shown.splitlines()[:5] == [
        f"team {team.id}, {EVENTS_JOB}",
        "         1   5    10   15   20   25   30",
        "2024-01  ..De.F.........................",
        "2024-02  Deeeeeeeee",
        "         2 done, 10 empty, 1 failed, 28 missing",
    ]
    assert "\033" not in shown
    [found] = json.loads(calendar(team, *window, "--json"))["calendars"]
    days = {day["day"]: day for day in found["days"]}
    assert len(days) == 41 and days["2024-01-03"]["rows"] == "2" and days["2024-01-03"]["key"] == f"{team.id}_2024-01-03"
    assert (days["2024-01-04"]["state"], days["2024-01-04"]["rows"]) == ("empty", "0")
    assert (days["2024-02-05"]["key"], days["2024-02-05"]["state"]) == (f"{team.id}_2024-02", "empty")
    assert "rows" not in days["2024-01-05"] and days["2024-01-06"]["runId"]
    team.run("_2024-01-06")  # the failure is made good
    assert "2024-01  ..De.e" in calendar(team, *window)


def test_the_calendar_of_persons(team, clickhouse):
    team.run("_2024-03-05", job=PERSONS_JOB)
    assert "2024-03  ....e.." in calendar(team, "--job", PERSONS_JOB, "--from", "2024-03", "--to", "2024-03-07")
    team.run("", job=PERSONS_JOB)
    assert "2024-03  DDDDeDD" in calendar(team, "--job", PERSONS_JOB, "--from", "2024-03", "--to", "2024-03-07")


def test_colours_are_for_terminals(team):
    """On a terminal, unless NO_COLOR says otherwise."""

    def on_terminal(**env):
        ours, theirs = pty.openpty()
        with os.fdopen(ours, "rb", buffering=0) as screen:
            words = ["backfill", "partitions", "--calendar", "--team", str(team.id), "--from", "2024-01", "--to", "2024-01"]
            process = child.popen([program(), *words], env={**team.env, "TERM": "xterm", **env}, stdout=theirs, stderr=theirs)
            os.close(theirs)
            said = b""
            try:
                while more := screen.read(4096):
                    said += more
            except OSError:  # the other side was closed
                pass
            assert process.wait(timeout=30) == 0
        return said

    assert b"\033[2m.\033[0m" in on_terminal() and b"\033" not in on_terminal(NO_COLOR="1")


def test_a_month_that_was_not_over_covers_no_later_day(team, tmp_path):
    """A month that was exported in its middle leaves the days behind to the daily sensor."""
    today = utc_today()
    first = (today.replace(day=1) - timedelta(days=1)).replace(day=1)  # of last month
    code, _, err = ductstream("backfill", "tick", "--sensor", DAILY, "--json", env=team.env)
    assert code == 0, err
    result = json.dumps({"days": [{"day": str(first + timedelta(days=n)), "rows": 1} for n in range(10)]})
    with closing(sqlite3.connect(tmp_path / "state.db")) as state:
        state.execute(
            "INSERT INTO partitions (job, key, state, attempts, run_id, updated_us, result) VALUES (?, ?, 'done', 1, 'r', 0, ?)",
            (EVENTS_JOB, f"{team.id}_{first:%Y-%m}", result),
        )
        state.commit()
    code, out, err = ductstream("backfill", "tick", "--sensor", DAILY, "--json", env=team.env)
    wanted = [first + timedelta(days=n) for n in range(10, (today - first).days - 1)]
    assert [run["id"] for run in lines(out)[0]["runs"]] == [f"{team.id}_{day}_new" for day in wanted]


def test_a_cancelled_partition_is_found_again(team, tmp_path):
    """Its day is a gap as before: the next tick has a run of its own for it."""
    runs = Runs(tmp_path, team.env)

    def tick():
        code, out, err = ductstream("backfill", "tick", "--sensor", DAILY, "--json", env=runs.env)
        assert code == 0, err
        return [run["id"] for run in lines(out)[0]["runs"]]

    try:
        [first] = tick()
        assert tick() == [] and runs.driver.call("cancel", id=first)
        [second] = tick()
        assert second.startswith(f"{first}_") and runs.get(second)["state"] == "queued"
        assert tick() == []
    finally:
        runs.close()


@pytest.mark.parametrize("change", ["dropped", "another lake"])
def test_days_that_the_lake_has_no_more_are_done_again(team, clickhouse, tmp_path, change):
    """A month that failed in its midst is put back after the table was dropped, or the team has got another lake: it is whole there."""
    for day in range(1, 9):
        put_events(clickhouse, team.id, f"2024-02-{day:02}", day)
    runs = Runs(tmp_path, team.env)
    try:
        killed = runs.worker(DUCT_KILL_POINT="export-written:3")
        run = runs.submit(EVENTS_JOB, {"partition": f"{team.id}_2024-02"}, max_attempts=2)
        assert runs.wait(run, timeout_s=60)["state"] == "failed"
        killed.terminate()
        with team.lake() as lake:
            assert lake.count("posthog.events") == 1 + 2 + 3 + 4
            if change == "dropped":
                lake.sql("DROP TABLE posthog.events")
        if change == "another lake":
            catalog = f"sqlite:{tmp_path}/other.sqlite"
            team.registry.write_text(team.registry.read_text().replace(team.catalog, catalog))
            team.catalog = catalog
        runs.worker()
        runs.driver.call("retry", id=run)
        assert runs.wait(run, "succeeded", 60)
        with team.lake() as lake:
            days = lake.sql("SELECT day(timestamp), count(*) FROM posthog.events GROUP BY ALL ORDER BY ALL")
        assert days == [(day, day) for day in range(1, 9)]
    finally:
        runs.close()


def test_a_run_by_the_api_is_about_its_partition(team, clickhouse, tmp_path):
    """Whoever submits it: the partition follows, and the same one is not done twice at a time; a dry run says nothing of it."""
    runs = Runs(tmp_path, team.env)
    try:
        submit = ("runs", "submit", EVENTS_JOB, "--json", "--input")
        one = json.dumps({"partition": f"{team.id}_2024-01-15"})
        dry = json.dumps({"partition": f"{team.id}_2024-01-16", "config": {"dry_run": True}})
        ids = [lines(ductstream(*submit, text, env=runs.env)[1])[0]["id"] for text in (one, one, dry, dry)]
        assert ids[0] == ids[1] and ids[2] != ids[3]
        found = lines(ductstream("backfill", "partitions", "--json", env=runs.env)[1])[0]["partitions"]
        assert [(p["key"], p["state"], p["runId"]) for p in found] == [(f"{team.id}_2024-01-15", "queued", ids[0])]
        runs.worker()
        wait_until(lambda: all(runs.get(id)["state"] == "succeeded" for id in ids), 60, "the runs to be over")
        found = lines(ductstream("backfill", "partitions", "--json", env=runs.env)[1])[0]["partitions"]
        assert [(p["key"], p["state"]) for p in found] == [(f"{team.id}_2024-01-15", "done")]
    finally:
        runs.close()
