"""What every lake job leaves in its run's record, in one shape, and the OpenLineage events of it (issue 6, point 7)."""

import json
import os
import signal
import subprocess
import sys
import uuid
from datetime import datetime

import pyarrow as pa
import pytest
from lib import child
from lib.cli import ductstream, lines
from lib.clickhouse import EVENTS, ClickHouse, put_events
from lib.clickhouse import missing as no_clickhouse
from lib.copies import SCHEMA_ID, Copies, delta_write
from lib.lake import OfficialLake
from lib.models import Models
from lib.paths import program
from lib.rest import RestServer
from lib.runs import Runs
from lib.s3 import missing as no_s3
from lib.wait import wait_until

SUMS = ("rows", "bytes", "files")


class Lineage:
    """A file of events."""

    def __init__(self, folder):
        self.path = folder / "lineage.jsonl"
        self.env = {"OPENLINEAGE__TRANSPORT__TYPE": "file", "OPENLINEAGE__TRANSPORT__LOG_FILE_PATH": str(self.path)}

    def events(self):
        lines = self.path.read_text().splitlines(keepends=True) if self.path.exists() else []
        events = [json.loads(line) for line in lines if line.endswith("\n")]  # the last one may be being written
        for event in events:
            self.check(event)
        return events

    @staticmethod
    def check(event):
        """As the specification wants them."""
        uuid.UUID(event["run"]["runId"])
        datetime.fromisoformat(event["eventTime"])
        assert event["eventType"] in ("START", "COMPLETE", "FAIL", "ABORT") and event["schemaURL"] and event["producer"]
        facets = [event["run"]["facets"], event["job"]["facets"]]
        for dataset in event["inputs"] + event["outputs"]:
            assert dataset["namespace"] and dataset["name"]
            facets += [dataset["facets"], dataset.get("outputFacets", {})]
        for facet in (facet for group in facets for facet in group.values()):
            assert facet["_producer"] and facet["_schemaURL"].startswith("https://openlineage.io/spec/facets/")

    def told(self):
        """(type, job) of each, in order."""
        return [(event["eventType"], event["job"]["name"]) for event in self.events()]


@pytest.fixture
def lineage(tmp_path):
    return Lineage(tmp_path)


def names(datasets):
    return [dataset["name"] for dataset in datasets]


def holds(result, lake=None):
    """The shape itself; sums are of the outputs."""
    for key in SUMS:
        assert result[key] == sum(output[key] for output in result["outputs"]), (key, result)
    assert result["snapshot_id"] == max((output["snapshot_id"] for output in result["outputs"]), default=None)
    for output in result["outputs"]:
        assert output["columns"] and all(column["name"] and column["type"] for column in output["columns"]), output
        if lake:
            there = lake.columns(output["name"].removeprefix("ducklake."))
            assert {column["name"]: column["type"] for column in output["columns"]} == there
    for dataset in result["inputs"] + result["outputs"]:
        assert dataset["namespace"] and dataset["name"], dataset


def test_models(lake_home, tmp_path, lineage):
    models = Models(tmp_path, lake_home)
    models.env.update(lineage.env)
    lake = lake_home.open()
    lake.sql("CREATE SCHEMA raw")
    lake.sql("CREATE TABLE raw.numbers AS SELECT i, i % 3 AS part FROM range(1000) t(i)")
    models.write("bronze/a.sql", "SELECT i, part FROM raw.numbers")
    models.write("gold/b.sql", "-- materialized: table\nSELECT part, count(*) AS n FROM a GROUP BY part")
    models.write("gold/c.sql", "-- materialized: table\nSELECT i FROM raw.numbers")
    models.run("--parallel", "1")
    result = models.end["result"]
    assert set(names(result["outputs"])) == {"ducklake.bronze.a", "ducklake.gold.b", "ducklake.gold.c"}
    tables = {output["name"]: output for output in result["outputs"]}
    view = tables.pop("ducklake.bronze.a")
    assert view["columns"] == [{"name": "i", "type": "BIGINT"}, {"name": "part", "type": "BIGINT"}] and "rows" not in view
    size = lake.value("SELECT sum(file_size_bytes) FROM __ducklake_metadata_lake.ducklake_data_file WHERE record_count = 1000 AND "
                      "begin_snapshot > 2")
    c = tables["ducklake.gold.c"]
    assert (c["rows"], c["files"], c["bytes"], c["snapshot_id"]) == (1000, 1, size, models.result["gold.c"]["snapshot"])
    assert result["rows"] == 1003 and result["snapshot_id"] == lake.last_snapshot()
    assert set(names(result["inputs"])) == {"ducklake.raw.numbers", "ducklake.bronze.a"}
    assert all(dataset["columns"] for dataset in result["inputs"])

    told = lineage.told()
    assert told[0] == ("START", "model") and told[-1] == ("COMPLETE", "model")
    assert [job for kind, job in told if kind == "COMPLETE"] == ["model.bronze.a", "model.gold.c", "model.gold.b", "model"]
    whole, parts = lineage.events()[0], lineage.events()[1:-1]
    assert whole["run"]["runId"] == models.end["run_id"]
    assert {part["run"]["facets"]["parent"]["run"]["runId"] for part in parts} == {models.end["run_id"]}
    done = next(e for e in parts if e["eventType"] == "COMPLETE" and e["job"]["name"] == "model.gold.c")
    assert done["outputs"][0]["facets"]["schema"]["fields"] == [{"name": "i", "type": "BIGINT"}]
    statistics = done["outputs"][0]["outputFacets"]["outputStatistics"]
    assert (statistics["rowCount"], statistics["size"], statistics["fileCount"]) == (1000, size, 1)
    assert done["outputs"][0]["facets"]["version"]["datasetVersion"] == str(c["snapshot_id"])
    assert done["inputs"][0]["facets"]["schema"]["fields"][1] == {"name": "part", "type": "BIGINT"}

    models.run()  # nothing is new
    result = models.end["result"]
    assert (result["inputs"], result["outputs"], result["rows"], result["snapshot_id"]) == ([], [], 0, None)
    assert lineage.told()[len(told):] == [("START", "model"), ("COMPLETE", "model")]


def test_copies(tmp_path, lineage):
    copies = Copies(tmp_path, **lineage.env)
    uri = tmp_path / "delta"
    delta_write(uri, pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]}))
    done = copies.model(uri)
    result = done["result"]
    with copies.lake() as lake:
        holds(result, lake)
    assert (result["rows"], result["files"]) == (3, 1) and result["bytes"] == result["tables"][0]["bytes"] > 0
    assert names(result["outputs"]) == ["ducklake.data_modeling_team_123.my_saved_query"]
    assert result["outputs"][0]["namespace"] == copies.catalog
    source = result["inputs"][0]
    assert (source["namespace"], source["name"], source["version"]) == ("file", str(uri), 0)
    job = "ducklake-copy.data-modeling"
    part = f"{job}.data_modeling_team_123.my_saved_query"
    assert lineage.told() == [("START", job), ("START", part), ("COMPLETE", part), ("COMPLETE", job)]
    complete = lineage.events()[2]
    assert complete["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 3
    assert complete["inputs"][0]["facets"]["version"]["datasetVersion"] == "0"
    assert complete["run"]["facets"]["parent"]["run"]["runId"] == done["run_id"]

    again = copies.model(uri)["result"]  # there already
    assert (again["rows"], again["files"], again["snapshot_id"]) == (0, 0, None) and names(again["inputs"]) == [str(uri)]

    before = len(lineage.events())
    failed = copies.model(tmp_path / "nothing")
    assert failed["code"] == 2 and failed["result"]["outputs"] == [] == failed["result"]["inputs"]
    assert lineage.told()[before:] == [("START", job), ("START", part), ("FAIL", part), ("FAIL", job)]
    error = lineage.events()[-2]["run"]["facets"]["errorMessage"]["message"]
    assert "there is no Delta table" in error


def test_a_child_names_its_parent(tmp_path, lineage):
    """The copy that follows a program: its run's parent is that run, though its own id is no UUID."""
    copies = Copies(tmp_path, DUCTSTREAM_RUN_COMMANDS="true", **lineage.env)
    uri = tmp_path / "made"
    delta_write(uri, pa.table({"id": [1]}))
    runs = Runs(tmp_path, copies.env)
    try:
        runs.worker()
        parent = runs.wait(
            runs.submit(
                "external-data-job",
                {"argv": [sys.executable, "-c", "0"], "team_id": 123,
                 "schemas": [{"schema_id": SCHEMA_ID, "source_type": "stripe", "name": "made", "table_uri": str(uri)}]},
            )
        )  # fmt: skip
        copy = runs.wait(json.loads(parent["result"])["copy_run_id"])
        holds(json.loads(copy["result"]))
    finally:
        runs.close()
    events = lineage.events()
    # The copy may have begun before the end of the other one is told.
    own = [event for event in events if event["run"]["runId"] == parent["id"]]
    assert [(event["eventType"], event["job"]["name"]) for event in own] == [(kind, "external-data-job") for kind in ("START", "COMPLETE")]
    first, *parts, last = [event for event in events if event not in own]
    facet = first["run"]["facets"]["parent"]
    assert (facet["run"]["runId"], facet["job"]["name"]) == (parent["id"], "external-data-job")
    assert last["run"]["runId"] == first["run"]["runId"]
    assert {e["run"]["facets"]["parent"]["run"]["runId"] for e in parts} == {first["run"]["runId"]}


@pytest.mark.skipif(bool(no_clickhouse() or no_s3()), reason=str(no_clickhouse() or no_s3()))
def test_exports(tmp_path, lineage, s3, bucket):
    clickhouse = ClickHouse(tmp_path / "clickhouse", s3)
    try:
        clickhouse.sql(EVENTS)
        put_events(clickhouse, 7, "2024-01-15", 50)
        put_events(clickhouse, 7, "2024-01-17", 20)
        catalog = f"sqlite:{tmp_path}/lake.sqlite"
        registry = tmp_path / "ducklings.yaml"
        registry.write_text(
            f"- {{team_id: 7, bucket: {bucket}, bucket_region: us-east-1, endpoint: '{s3.endpoint}', catalog: '{catalog}'}}\n"
        )
        env = {
            **os.environ, **lineage.env, "DUCTSTREAM_STATE_PATH": str(tmp_path / "state.db"), "DUCTSTREAM_DUCKLINGS": str(registry),
            "CLICKHOUSE_URL": clickhouse.url.replace("://", "://reader:pass-hidden@") + "/?database=default",
            "AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key, "DUCTSTREAM_EXPORT_RETRY_WAIT_MS": "20",
        }  # fmt: skip

        def run(partition, code=0, **config):
            found, out, err = ductstream(
                "backfill", "run", "--job", "duckling_events_backfill_job", "--partition", partition,
                "--config", json.dumps(config), "--json", env=env, timeout_s=120,
            )  # fmt: skip
            assert found == code, out + err
            return lines(out)[-1]["result"]

        result = run("7_2024-01")
        with OfficialLake(catalog, s3=s3) as lake:
            holds(result, lake)
            size = lake.value("SELECT sum(file_size_bytes) FROM __ducklake_metadata_lake.ducklake_data_file")
        assert (result["rows"], result["files"], result["bytes"]) == (70, 2, size)
        assert result["inputs"] == [{"namespace": f"clickhouse://127.0.0.1:{clickhouse.port}", "name": "default.events"}]
        assert names(result["outputs"]) == ["ducklake.posthog.events"] and result["outputs"][0]["namespace"] == catalog
        part = "duckling_events_backfill_job.team_7"
        assert lineage.told()[1:3] == [("START", part), ("COMPLETE", part)]
        only = run("7_2024-01-15", skip_ducklake_registration=True)
        assert (only["rows"], only["snapshot_id"]) == (50, None)
        assert [(o["namespace"], o["name"]) for o in only["outputs"]] == [(f"s3://{bucket}", "backfill/events")]
        told = len(lineage.events())
        dry = run("7_2024-01-15", dry_run=True)
        assert (dry["rows"], dry["inputs"], dry["outputs"]) == (0, [], []) and len(lineage.events()) == told + 2
        clickhouse.fail(62)
        run("7_2024-01-15", code=2)
        assert lineage.told()[-2:] == [("FAIL", part), ("FAIL", "duckling_events_backfill_job")]
        assert "hidden" not in lineage.path.read_text() and "hidden" not in json.dumps(result)
    finally:
        clickhouse.close()


def test_ingestion(sqlite_lake, tmp_path, lineage):
    def answer(request):
        if "broken" in request.path_only:
            return 200, {}, "{"
        return 200, {}, [{"id": 1, "lines": [{"sku": "a"}, {"sku": "b"}]}, {"id": 2, "lines": []}]

    env = {
        **os.environ, **lineage.env, "DUCKLAKE_CATALOG": sqlite_lake.catalog, "DUCKLAKE_DATA_PATH": str(sqlite_lake.data_path),
        "DUCTSTREAM_STATE_PATH": str(tmp_path / "state.db"), "TOKEN": "token-hidden",
    }  # fmt: skip
    with RestServer(answer) as server:
        address = server.url.replace("://", "://me:pass-hidden@")
        (tmp_path / "orders.yaml").write_text(
            f"into: raw.orders\nurl: {address}/v1/${{TOKEN}}/orders?key=${{TOKEN}}\nwrite: merge\nmerge_key: [id]\nnested: tables\n"
            "inline_rows: 0\n"
        )
        code, out, err = ductstream("ingest", tmp_path / "orders.yaml", "--json", env=env)
        assert code == 0, out + err
        result = lines(out)[-1]["result"]
        with sqlite_lake.open() as lake:
            holds(result, lake)
        assert names(result["outputs"]) == ["ducklake.raw.orders", "ducklake.raw.orders__lines"]
        assert [output["rows"] for output in result["outputs"]] == [2, 2] and result["files"] == 2 and result["bytes"] > 0
        assert result["inputs"] == [{"namespace": server.url, "name": "/v1/***/orders"}]
        part = "ingest.raw.orders"
        assert lineage.told() == [("START", "ingest"), ("START", part), ("COMPLETE", part), ("COMPLETE", "ingest")]
        (tmp_path / "broken.yaml").write_text(f"into: raw.orders\nurl: {server.url}/broken\n")
        code, out, err = ductstream("ingest", tmp_path / "broken.yaml", "--json", env=env)
        assert code == 3 and lineage.told()[-2:] == [("FAIL", part), ("FAIL", "ingest")]
        assert lines(out)[-1]["result"]["outputs"] == []
    assert "hidden" not in lineage.path.read_text() + json.dumps(result)
    (tmp_path / "more.csv").write_text("id,name\n1,x\n")
    code, out, err = ductstream("ingest", tmp_path / "more.csv", "--into", "raw.more", "--json", env=env)
    assert code == 0, out + err
    result = lines(out)[-1]["result"]
    with sqlite_lake.open() as lake:
        holds(result, lake)
    assert (result["rows"], result["files"], names(result["inputs"])) == (1, 1, [str(tmp_path / "more.csv")])


def test_a_crash_and_a_stop_are_told(sqlite_lake, tmp_path, lineage):
    """The process of a job that is killed, and one that is asked to end: the run's own event says so."""
    models = Models(tmp_path, sqlite_lake)
    env = {**models.env, **lineage.env}
    models.write("gold/slow.sql", "-- materialized: table\nSELECT sum(hash(a.i + b.i + q.i)) AS n FROM range(10000000) a(i), range(1000000) b(i), quick q")
    for what, ends in ((signal.SIGKILL, "FAIL"), (signal.SIGINT, "ABORT")):
        before = len(lineage.events())
        models.write("bronze/quick.sql", f"-- materialized: table\nSELECT {what:d} AS i")
        process = child.popen(
            [program(), "model", "run", models.folder, "--json"], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_until(lambda: ("START", "model.gold.slow") in lineage.told()[before:], 30, "the model to begin")  # noqa: B023
        if what == signal.SIGKILL:
            inner = subprocess.run(["pgrep", "-P", str(process.pid)], capture_output=True, text=True).stdout.split()
            os.kill(int(inner[0]), what)
        else:
            process.send_signal(what)
        out, _ = process.communicate(timeout=60)
        assert lineage.told()[-1] == (ends, "model"), (what, lineage.told())
    end = lines(out)[-1]
    assert end["state"] == "cancelled" and names(end["result"]["outputs"]) == ["ducklake.bronze.quick"]  # what it had done is told
    assert ("ABORT", "model.gold.slow") in lineage.told()
