"""Every row of docs/from-the-pages.md: its command and its call, and what the click would have shown (issue 6, point 7)."""

import json
import re
from datetime import timedelta
from types import SimpleNamespace

import pytest
from lib.clickhouse import missing as no_clickhouse
from lib.clickhouse import put_events
from lib.lake import OfficialLake
from lib.pages import Stack, rows
from lib.paths import ROOT
from lib.s3 import missing as no_s3
from lib.wait import utc_today, wait_until

pytestmark = pytest.mark.skipif(bool(no_clickhouse() or no_s3()), reason=str(no_clickhouse() or no_s3()))

PAGES = {"C": "DuckLake copy workflow configuration", "B": "Duckling backfill system", "P": "DuckLake pipeline test results"}
EVENTS, PERSONS = "duckling_events_backfill_job", "duckling_persons_backfill_job"
YESTERDAY = DAY = FIRST = None  # as of when the rows of the backfills begin; DAY is the page's 2024-01-15

# What the app's own programs do: they leave Delta tables.
DELTA = """
import os, deltalake, pyarrow as pa
options = {"AWS_ENDPOINT_URL": os.environ["DUCKLAKE_S3_ENDPOINT"], "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
           "AWS_ACCESS_KEY_ID": "object_storage_root_user", "AWS_SECRET_ACCESS_KEY": "object_storage_root_password",
           "aws_conditional_put": "etag"}
for name in NAMES:
    rows = pa.table({"id": [1, 2], "name": ["a", "b"]})
    deltalake.write_deltalake(f"s3://ducklake-dev/delta/{name}", rows, mode="overwrite", storage_options=options)
print('{"rows": 2}')
"""
PROGRAMS = {"my-model": DELTA.replace("NAMES", "['my_saved_query']"), "my-import": DELTA.replace("NAMES", "['invoices', 'contacts']")}


# --- what each row shows: check(stack, what the command said, what the call answered)

CHECKS = {}


def shows(*names, code=0, status=200):
    def take(check):
        for name in names:
            assert name not in CHECKS
            CHECKS[name] = (check, code, status)
        return check

    return take


def runs_of(answer):
    return answer.json.get("runs", [])


def kinds(answer):
    return {run["kind"] for run in runs_of(answer)}


def made(stack, answer):
    """The run that was submitted, when it has succeeded: its result."""
    run = stack.over(answer.json["id"])
    assert run["state"] == "succeeded", run
    return run["left"]


def watched(stack, done, answer):
    """Both watches went on to the end."""
    assert done.out.splitlines()[-1].startswith("succeeded"), done.all
    last = json.loads(answer.body.splitlines()[-1])["run"]
    assert last["state"] == "RUN_STATE_SUCCEEDED", last


for number, (name, local) in enumerate(
    {
        "DUCKLAKE_RDS_HOST": "localhost", "DUCKLAKE_RDS_PORT": None, "DUCKLAKE_RDS_DATABASE": "ducklake_catalog",
        "DUCKLAKE_RDS_USERNAME": "posthog", "DUCKLAKE_RDS_PASSWORD": "posthog", "DUCKLAKE_BUCKET": "ducklake-dev",
        "DUCKLAKE_BUCKET_REGION": "us-east-1",
    }.items(), 1
):  # fmt: skip

    @shows(f"C{number}", code=2)
    def _(stack, done, answer, name=name, local=local):
        assert f"required environment variable {name} is not set" in done.out
        assert stack.exports[name] == (local or str(stack.postgres))


@shows("C8", code=2)
def _(stack, done, answer):
    assert "AWS_WEB_IDENTITY_TOKEN_FILE" in done.out and stack.exports["DUCKLAKE_S3_ACCESS_KEY"] == "object_storage_root_user"


@shows("C9", code=2)
def _(stack, done, answer):
    assert "s3:ListBucket is missing" in done.out and stack.exports["DUCKLAKE_S3_SECRET_KEY"] == "object_storage_root_password"


@shows("C10")
def _(stack, done, answer):
    assert "DUCKLAKE_RDS_PASSWORD=***, DUCKLAKE_BUCKET_REGION=us-east-1" in done.out


@shows("C11", code=2)
def _(stack, done, answer):
    assert "DUCKLAKE_RDS_HOST is not set (DUCTSTREAM_ENV is production" in done.err and "snapshot" not in done.all


@shows("C12")
def _(stack, done, answer):
    assert "data_modeling_team_123.my_saved_query: full" in done.out and list((stack.folder / "own").rglob("*.parquet"))


@shows("C13", "C14")
def _(stack, done, answer):
    flag = f"ducklake-{'data-modeling' if 'gate-1' in str(answer.body) else 'data-imports'}-copy-workflow"
    assert f'the feature flag "{flag}" is closed for team 999' in done.out
    run = stack.over(answer.json["id"])
    assert run["state"] == "skipped" and flag in run["left"]["skipped"]


@shows("C15", "C16", "C17")
def _(stack, done, answer):
    (table,) = made(stack, answer)["tables"]
    assert f"{table['table']}: " in done.out and table["mode"] == "unchanged", (done.out, table)
    with stack.lake() as lake:
        assert lake.count(table["table"]) == 2
    assert table["table"] in ("data_modeling_team_123.my_saved_query", "data_imports_team_123.stripe_invoices_a1b2c3d4")


@shows("C18")
def _(stack, done, answer):
    for call in ("ListBucket", "GetObject", "PutObject", "DeleteObject"):
        assert f"✓ s3:{call} under s3://ducklake-dev/" in done.out


@shows("C19", "C28")
def _(stack, done, answer):
    assert done.out.count("export ") >= 9 and "ready: Postgres" in done.out


@shows("C20", "C29")
def _(stack, done, answer):
    assert answer.json["kind"] in done.out
    assert made(stack, answer)["command"] == {"rows": 2}


@shows("C21", "C30")
def _(stack, done, answer):
    first = "sync" if "data-modeling-run" in done.out else "import"
    assert {run["id"] for run in runs_of(answer)} == {f"{first}-1", f"{first}-2"} and f"{first}-1" in done.out and f"{first}-2" in done.out


shows("C22", "C24", "C31", "C33")(watched)


@shows("C23", "C32")
def _(stack, done, answer):
    (run,) = runs_of(answer)
    assert run["kind"].startswith("ducklake-copy.") and run["id"] == f"copy-{run['parentId']}"
    assert run["kind"] in done.out and "copy-" in done.out


@shows("C25")
def _(stack, done, answer):
    left = json.loads(answer.json["resultJson"])
    assert left["inputs"][0]["name"] == "delta/my_saved_query" and left["outputs"][0]["rows"] == left["rows"]
    assert all(check["passed"] for check in left["tables"][0]["checks"])
    assert "succeeded" in done.out and "my_saved_query" in done.out


@shows("C26")
def _(stack, done, answer):
    assert answer.json["lines"] and all(line["text"] in done.out for line in answer.json["lines"])


@shows("C27", "C34")
def _(stack, done, answer):
    assert "(1, 'a')" in done.out and "(2, 'b')" in done.out
    assert "('data_modeling_team_123', 'my_saved_query')" in done.out


# --- backfills


def days_of(stack, database="ducklake_12345"):
    """{day: rows} of the events in a lake."""
    with stack.lake(database) as lake:
        return {str(day): n for day, n in lake.sql("SELECT CAST(timestamp AS DATE), count(*) FROM lake.posthog.events GROUP BY ALL")}


def partitions(stack, job, state="done"):
    found = stack.call(f"GET /v1/partitions?job={job}&state={state}").json.get("partitions", [])
    return {partition["key"]: partition["runId"] for partition in found}


def idle(stack):
    """What was enqueued is done."""
    wait_until(lambda: not any(runs_of(stack.call(f"GET /v1/runs?state={state}")) for state in ("queued", "running")), 120, "an empty queue")


def job_of(done):
    return EVENTS if EVENTS in done.out else PERSONS


@shows("B1", "B5")
def _(stack, done, answer):
    found = answer.json["partitions"]
    assert f"12345_{FIRST}" in done.out and f"12345_{FIRST}" in {partition["key"] for partition in found}
    assert {partition["job"] for partition in found} == {job_of(done)}


@shows("B2", "B6")
def _(stack, done, answer):
    assert kinds(answer) == {job_of(done)} and "succeeded" in done.out


@shows("B3", "B7")
def _(stack, done, answer):
    assert f"12345_{YESTERDAY}" in done.out and runs_of(answer) == []  # once
    idle(stack)
    assert {f"12345_{DAY}", f"12345_{YESTERDAY}"} <= set(partitions(stack, job_of(done)))


@shows("B4")
def _(stack, done, answer):
    assert f"12345_{FIRST}" in done.out and "full" in done.out and len(done.out.splitlines()) == 1 + 3
    assert [run["id"].partition("_")[2][:10] for run in runs_of(answer)] == [YESTERDAY]
    idle(stack)
    assert days_of(stack) == {FIRST: 10, DAY: 100}


@shows("B8")
def _(stack, done, answer):
    assert done.out.splitlines()[1].startswith("12345_") and "full" in done.out
    idle(stack)
    assert "12345" in partitions(stack, PERSONS)


@shows("B9", code=2, status=400)
def _(stack, done, answer):
    rule = "TEAM_YYYY-MM-DD or TEAM_YYYY-MM is expected"
    assert rule in done.err and rule in answer.json["message"]


@shows("B10")
def _(stack, done, answer):
    (calendar,) = answer.json["calendars"]
    states = {day["day"]: day["state"] for day in calendar["days"]}
    assert states[FIRST] == states[DAY] == "done" and states[YESTERDAY] == "empty"
    assert "D" in done.out and "team 12345" in done.out


@shows("B11")
def _(stack, done, answer):
    """A day that fails is tried again by the next look."""
    assert "no partitions" in done.out and answer.json == {}
    stack.clickhouse.fail(62)
    failed = stack.sh(f"ductstream backfill run --job {EVENTS} --partition 12345_{DAY}")
    assert failed.code == 2 and f"12345_{DAY}" in partitions(stack, EVENTS, "failed")
    again = stack.sh("ductstream backfill tick --sensor duckling_events_daily_backfill_sensor")
    assert f"12345_{DAY}_retry1" in again.out, again.all
    idle(stack)
    assert f"12345_{DAY}" in partitions(stack, EVENTS)


SENSORS = [f"duckling_{what}_{when}_backfill_sensor" for what in ("events", "persons") for when in ("daily", "full")]


@shows("B12")
def _(stack, done, answer):
    assert [found["name"] for found in answer.json["sensors"]] == SENSORS and all(name in done.out for name in SENSORS)


@shows("B13", "B15", "B29")
def _(stack, done, answer):
    assert answer.json["name"] in done.out and answer.json.get("cursor", "") == ""


@shows("B14")
def _(stack, done, answer):
    def looked():
        return next(found for found in stack.call("GET /v1/sensors").json["sensors"] if found["name"] == SENSORS[1]).get("cursor")

    wait_until(looked, 60, "the server to look again")
    idle(stack)
    assert f"12345_{FIRST}" in done.out or "_full_" in partitions(stack, EVENTS)[f"12345_{FIRST}"]


@shows("B16", "B22", "B23", "B24", "B32")
def _(stack, done, answer):
    result = made(stack, answer)
    assert "100 rows, 1 files exported, 1 registered" in done.out and result["rows"] == 100 and result["snapshot_id"]
    assert days_of(stack)[DAY] == 100


@shows("B17")
def _(stack, done, answer):
    assert "dry run: nothing was written" in done.out and "INSERT INTO FUNCTION s3(" in done.out
    assert made(stack, answer)["outputs"] == []


@shows("B18")
def _(stack, done, answer):
    left = made(stack, answer)
    assert "1 files exported, 0 registered" in done.out and left["snapshot_id"] is None
    assert in_lake(stack, left["days"][0]["path"]) == 0


def in_lake(stack, path):
    """How many files of the lake the object is; it is in the bucket."""
    key = path.removeprefix("s3://duckling-12345/")
    assert key in stack.s3.keys("duckling-12345"), path
    with stack.lake("ducklake_12345") as lake:
        return lake.value(f"SELECT count(*) FROM __ducklake_metadata_lake.ducklake_data_file WHERE path LIKE '%{key.rpartition('/')[2]}'")


@shows("B19")
def _(stack, done, answer):
    assert made(stack, answer)["rows"] == 100 and days_of(stack) == {DAY: 100}


@shows("B20")
def _(stack, done, answer):
    wait_until(lambda: days_of(stack) == {FIRST: 10, DAY: 100}, 90, "the history to be there again")


@shows("B21")
def _(stack, done, answer):
    (statement,) = made(stack, answer)["statements"]
    assert "max_execution_time = 7200" in statement and "max_execution_time = 7200" in done.out


@shows("B25", code=2)
def _(stack, done, answer):
    run = stack.over(answer.json["id"])
    assert run["state"] == "failed" and "lake of team 777" in run["error"] and "there is no such file" in done.err
    assert not (stack.folder / "777.sqlite").exists()


@shows("B26")
def _(stack, done, answer):
    assert "12346" in done.out and answer.json["bucket"] == "duckling-12347" and answer.json["dbPassword"] == "***"


@shows("B27")
def _(stack, done, answer):
    teams = {team["teamId"]: team for team in answer.json["teams"]}
    assert set(teams) == {"12345", "12346", "12347"} and teams["12347"]["dbPassword"] == "***" == teams["12345"]["dbPassword"]
    assert teams["12345"]["origin"].startswith("ducklings.yaml") and teams["12346"]["origin"] == "api" and "12347" in done.out


@shows("B28")
def _(stack, done, answer):
    assert f"12346_{YESTERDAY}" in done.out and f"12347_{YESTERDAY}" in done.out
    idle(stack)
    assert {f"12346_{YESTERDAY}", f"12347_{YESTERDAY}"} <= set(partitions(stack, EVENTS))


@shows("B30")
def _(stack, done, answer):
    assert answer.json["deleted"] and {team["teamId"] for team in stack.call("GET /v1/teams").json["teams"]} == {"12345"}


@shows("B31")
def _(stack, done, answer):
    assert "stuck-1" in done.out and "stuck-1" in {run["id"] for run in runs_of(answer)}
    assert stack.sh("ductstream runs cancel stuck-1").code == 0 and stack.over("stuck-1")["state"] == "cancelled"


@shows("B33", code=2)
def _(stack, done, answer):
    assert re.search("(Get|Head)Object", done.err) and "duckling-12345" in done.err, done.err


@shows("B34", code=4)
def _(stack, done, answer):
    run = stack.over(answer.json["id"])
    assert run["state"] == "failed" and "127.0.0.1" in run["error"] and "127.0.0.1" in done.err
    assert "hidden" not in run["error"] + done.all


@shows("B35")
def _(stack, done, answer):
    assert [line["text"] in done.out for line in answer.json["lines"]]


@shows("B36")
def _(stack, done, answer):
    assert "launch-3" in done.out and in_lake(stack, json.loads(answer.json["resultJson"])["days"][0]["path"]) == 0


@shows("B37")
def _(stack, done, answer):
    assert done.out.count("5 rows, 1 files exported, 1 registered") == 3 and made(stack, answer)["rows"] == 5
    with OfficialLake(f"sqlite:{stack.folder}/779.sqlite", s3=stack.s3) as lake:
        assert lake.count("posthog.events") == 20


def dated(stack, kind, day):
    y, m, d = day.split("-")
    return stack.s3.keys("duckling-12345", f"backfill/{kind}/team_id=12345/year={y}/month={m}/day={d}/")


@shows("B38")
def _(stack, done, answer):
    (day,) = json.loads(answer.json["resultJson"])["days"]
    key = day["path"].removeprefix("s3://duckling-12345/")
    assert "launch-1" in done.out and key in dated(stack, "events", DAY) and re.search(r"/launch-1-\d+\.parquet$", key)


@shows("B39")
def _(stack, done, answer):
    """Days whose content is the same are not written again."""
    assert made(stack, answer)["files"] == 0 and "0 files exported" in done.out
    assert dated(stack, "persons", DAY) and dated(stack, "persons", YESTERDAY)


# --- the pipeline


@shows("P1", "P6", "P18")
def _(stack, done, answer):
    for name in ("ducklake", "postgres_scanner", "httpfs"):
        assert re.search(rf"extension {name} +found", done.out)
    assert "no lock is waited for" in done.out
    assert stack.page != "P6" or "schemas: raw, bronze, silver, gold" in done.out
    assert stack.page != "P18" or "ductstream_runs" in answer.body.decode()


def count(stack, table):
    with stack.lake() as lake:
        return lake.count(table)


@shows("P2")
def _(stack, done, answer):
    assert "100 rows" in done.out and made(stack, answer)["rows"] == 100 and count(stack, "raw.entries") == 100


@shows("P3")
def _(stack, done, answer):
    assert "1 built" in done.out and stack.over(answer.json["id"])["state"] == "skipped"  # nothing is new
    assert count(stack, "bronze.stg_entries") == 100


@shows("P4")
def _(stack, done, answer):
    assert done.out.count("100 rows") == 3 and made(stack, answer)["rows"] == 100 and count(stack, "raw.entries") == 500


@shows("P5")
def _(stack, done, answer):
    assert re.search(r"[34] built", done.out) and stack.over(answer.json["id"])["state"] == "skipped"
    assert count(stack, "gold.dim_date") == 5 and count(stack, "gold.mrt_glucose_readings") == 500


@shows("P7", "P8", "P9")
def _(stack, done, answer):
    name, default = {"P7": ("count", "200"), "P8": ("wait_ms", "150"), "P9": ("backoff", "2.5")}[stack.page]
    assert re.search(rf"ducklake_retry_{name} \(\w+, default {default}[,)]", done.out)


@shows("P10")
def _(stack, done, answer):
    assert done.out.startswith("bronze.stg_entries ") and "main_bronze" not in done.out


@shows("P11")
def _(stack, done, answer):
    profile = (stack.folder / "dbt_project/profiles.yml").read_text()
    assert "\ncascade:" in profile and "attach:" in profile and "posthog" not in re.findall("password.*", profile)


@shows("P12", "P14")
def _(stack, done, answer):
    assert "bronze.stg_entries" in done.out and "gold.dim_date" in done.out


@shows("P13")
def _(stack, done, answer):
    assert kinds(answer) == {"model"} and "model-2" in done.out


@shows("P15")
def _(stack, done, answer):
    assert "('bronze', 'stg_entries')" in done.out and answer.json["state"] == "RUN_STATE_SKIPPED"


@shows("P16")
def _(stack, done, answer):
    assert done.out.count("2024-10-15") == 10


@shows("P17")
def _(stack, done, answer):
    days = {f"2024-10-{day}" for day in range(15, 20)}
    assert {found["key"] for found in answer.json["partitions"] if found["state"] == "done"} == days
    assert done.out.count("100 rows") == 5 and count(stack, "raw.entries") == 500


@shows("P19")
def _(stack, done, answer):
    assert "4 tested" in done.out and made(stack, answer)["tested"] == 4


# --- all of them


def prepare_copies(stack):
    (stack.folder / "models/gold").mkdir(parents=True)
    (stack.folder / "models/gold/one.sql").write_text("SELECT 1 AS i")
    for name in PROGRAMS:
        left = stack.sh(name)
        assert left.code == 0, left.err


def prepare_backfills(stack):
    """A team with events and persons, a day of each is done; others that have a file of their own."""
    global YESTERDAY, DAY, FIRST
    today = utc_today(left_s=180)
    YESTERDAY, DAY, FIRST = (str(today - timedelta(days=n)) for n in (1, 3, 4))
    clickhouse, place = stack.clickhouse, f"bucket_region: us-east-1, db_host: 127.0.0.1, db_user: posthog, db_port: {stack.postgres}"
    for day, n in ((FIRST, 10), (DAY, 100)):
        put_events(clickhouse, 12345, day, n)
    for day in (15, 16, 17, 18):
        put_events(clickhouse, 779, f"2024-01-{day}", 5)
    for day in (DAY, YESTERDAY):
        clickhouse.sql(
            "INSERT INTO person SELECT generateUUIDv4(), now64(3), 12345, '{}', 1, 0, 1, "
            f"toDateTime('{day} 12:00:00', 'UTC') FROM numbers(20)"
        )
        clickhouse.sql(
            f"INSERT INTO person_distinct_id2 SELECT 12345, toString(id), id, 0, 1, _timestamp FROM person WHERE toDate(_timestamp) = '{day}'"
        )
    for team in (12345, 12346, 12347):
        stack.database(f"ducklake_{team}")
        stack.s3.bucket(f"duckling-{team}")
    for team in (777, 778, 779):
        stack.s3.bucket(f"duckling-{team}")
    (stack.folder / "others.yaml").write_text(
        "- {team_id: 777, bucket: duckling-777, bucket_region: us-east-1, catalog: 'sqlite:777.sqlite'}\n"
        "- {team_id: 778, bucket: duckling-778, bucket_region: us-east-1, db_host: 127.0.0.1, db_port: 9, db_name: x, db_user: x, "
        "db_password: pass-hidden}\n"
        f"- {{team_id: 779, bucket: duckling-779, bucket_region: us-east-1, catalog: 'sqlite:{stack.folder}/779.sqlite'}}\n"
    )
    (stack.folder / "ducklings.yaml").write_text(
        f"- {{team_id: 12345, bucket: duckling-12345, {place}, db_name: ducklake_12345, db_password: posthog}}\n"
    )
    for job in (EVENTS, PERSONS):
        first = stack.sh(f"ductstream backfill run --job {job} --partition 12345_{FIRST}")
        assert first.code == 0, first.all


def prepare_pipeline(stack):
    (stack.folder / "dbt_project").mkdir()
    (stack.folder / "dbt_project/dbt_project.yml").write_text("name: cascade\nprofile: cascade\n")


def begin_stuck_run(stack):
    stack.call('POST /v1/runs {"id": "stuck-1", "kind": "command", "input": {"argv": ["/bin/sleep", "60"]}}')
    wait_until(lambda: stack.get("stuck-1")["state"] == "RUN_STATE_RUNNING", 30, "a run to be under way")


PREPARE = {"C": prepare_copies, "B": prepare_backfills, "P": prepare_pipeline}
BEFORE = {"B31": begin_stuck_run}
SHELL = {"TEAM_ID": "123", "MODEL_LABEL": "my_saved_query", "SOURCE_TYPE": "stripe", "TABLE_NAME": "invoices", "SCHEMA_ID_HEX": "a1b2c3d4"}


def here(stack, text):
    """What the page says, with the ports and folders of this stack, and days that are not long ago."""
    for was, now in (
        ("localhost:19000", f"localhost:{stack.s3_port}"),
        ("--db-port 5432", f"--db-port {stack.postgres}"),
        ('"db_port": 5432', f'"db_port": {stack.postgres}'),
        ("/usr/local/bin", f"{stack.folder}/bin"),
        ("/srv/models/glucose", f"{ROOT}/examples/models/glucose"),
        ("/srv/models", f"{stack.folder}/models"),
        ("12345_2024-01-15", f"12345_{DAY}"),
    ):
        text = text.replace(was, now)
    return text


def run_row(stack, row):
    check, code, status = CHECKS[row["id"]]
    stack.page = row["id"]
    BEFORE.get(row["id"], lambda stack: None)(stack)
    done, answer = SimpleNamespace(code=code, out="".join(stack.lines), err="", all=""), None
    if row["command"] and row["command"] != "bin/start":  # that is the stack itself
        done = stack.sh(here(stack, row["command"]), **SHELL)
    assert done.code == code, (row["command"], done.code, done.all)
    if row["call"]:
        answer = stack.call(here(stack, row["call"]))
        assert answer.status == status, (row["call"], answer)
    check(stack, done, answer)


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    started = Stack(tmp_path_factory.mktemp("stack"), [f"2024-10-{day}" for day in range(15, 20)], PROGRAMS)
    yield started
    started.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("letter", PAGES)
def test_page(stack, letter):
    """Its rows in order, for each goes on from the one before it; all that fail are told."""
    failed = []
    PREPARE[letter](stack)
    for row in rows():
        if row["id"].startswith(letter):
            try:
                run_row(stack, row)
                idle(stack)
            except Exception as error:  # noqa: BLE001
                failed.append(f"{row['id']} {row['page']}: {type(error).__name__}: {error}")
    assert not failed, "\n\n".join(failed)


def test_every_row_is_run():
    names = [row["id"] for row in rows()]
    assert sorted(names) == sorted(CHECKS) and len(names) == len(set(names)) > 80
    assert {row["section"] for row in rows()} == set(PAGES.values())
    assert all(row["command"] for row in rows()) and all(row["says"] for row in rows())
