"""Copies of Delta tables into the lake (issue 6, point 2; seed 000)."""

import base64
import json
import signal
import string
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyarrow as pa
import pytest
from lib.copies import SCHEMA_ID, Copies, delta_write
from lib.pause import Pause
from lib.wait import wait_until

MINE = "lake.data_modeling_team_123.my_saved_query"


def numbers(start, n, day="2024-01-01"):
    return pa.table({"id": list(range(start, start + n)), "day": [day] * n, "v": [i / 3 for i in range(start, start + n)]})


@pytest.fixture
def copies(tmp_path):
    return Copies(tmp_path)


@pytest.fixture
def delta(tmp_path):
    """A Delta table of ten rows."""
    uri = tmp_path / "delta"
    delta_write(uri, numbers(0, 10))
    return uri


def ids(copies, table=MINE):
    return [row[0] for row in copies.rows(f"SELECT id FROM {table} ORDER BY id")]


def reached(pause):
    wait_until(lambda: pause.reached, 60, "the copy to be there")


def checks(result):
    return {check["name"]: check for check in result["checks"]}


# --- what is copied


def test_a_table_with_every_type_comes_as_it_is(copies, tmp_path):
    """(issue 6, point 2) Rows are compared by content, by the official extensions on both sides."""
    from datetime import date, datetime, timezone
    from decimal import Decimal

    table = pa.table(
        {
            "Id": [1, 2, 3],
            "order": ["a", None, "ü'\"\n"],
            "d": [date(2024, 1, 1), None, date(1969, 12, 31)],
            "ts": pa.array([datetime(2024, 1, 1, 12, tzinfo=timezone.utc), None, datetime(1960, 1, 1, tzinfo=timezone.utc)]),
            "ntz": pa.array([datetime(2024, 1, 1, 12), None, datetime(1960, 1, 1)]),
            "dec": pa.array([Decimal("1.25"), None, Decimal("-3.10")], pa.decimal128(9, 2)),
            "b": pa.array([b"\x00\xff", None, b""]),
            "f": [float("nan"), None, -0.0],
            "i8": pa.array([1, None, -128], pa.int8()),
            "flag": [True, None, False],
            "list": [[1, None], None, []],
            "map": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
            "st": [{"x": 1, "y": {"z": ["q"]}}, None, {"x": None, "y": None}],
        }
    )
    uri = tmp_path / "delta"
    delta_write(uri, table)
    result = copies.table(uri, "Order of things!")
    assert (result["table"], result["mode"], result["rows"]) == ("data_modeling_team_123.order_of_things", "full", 3)
    assert all(check["passed"] for check in result["checks"])
    with copies.lake() as lake:
        for a, b in (("lake.data_modeling_team_123.order_of_things", f"delta_scan('{uri}')"),):
            assert lake.sql(f"SELECT count(*) FROM (SELECT * FROM {a} EXCEPT ALL SELECT * FROM {b})") == [(0,)]
            assert lake.sql(f"SELECT count(*) FROM (SELECT * FROM {b} EXCEPT ALL SELECT * FROM {a})") == [(0,)]


def test_names_and_targets_of_both_kinds(copies, delta):
    result = copies.run(
        "data-imports", "--team-id", 123, "--schema-id", SCHEMA_ID, "--source-type", "stripe", "--name", "invoices",
        "--table-uri", delta,
    )  # fmt: skip
    assert result["result"]["tables"][0]["table"] == "data_imports_team_123.stripe_invoices_a1b2c3d4"
    assert len(ids(copies, "lake.data_imports_team_123.stripe_invoices_a1b2c3d4")) == 10
    assert copies.table(delta, "select")["table"] == "data_modeling_team_123.select"
    assert ids(copies, 'lake.data_modeling_team_123."select"') == list(range(10))
    many = copies.run("data-modeling", "--team-id", 123, "--model", f"a={delta}", "--model", f"b__B={delta}")
    assert [t["table"] for t in many["result"]["tables"]] == ["data_modeling_team_123.a", "data_modeling_team_123.b_b"]


def test_names_that_collide_are_refused(copies, delta):
    both = copies.run("data-modeling", "--team-id", 123, "--model", f"My Query={delta}", "--model", f"my-query={delta}")
    assert both["code"] == 2 and "both become table" in both["stderr"]
    copies.table(delta, "My Query")
    later = copies.model(delta, "my-query")
    assert later["code"] == 2 and '"my-query" and "My Query" both become table' in later["error"]


def test_a_copy_again_moves_what_is_needed(copies, delta):
    assert copies.table(delta)["mode"] == "full"
    assert copies.table(delta)["mode"] == "unchanged"
    delta_write(delta, numbers(10, 5), "append")
    delta_write(delta, numbers(15, 5), "append")
    added = copies.table(delta)
    assert (added["mode"], added["rows"], added["delta_version"]) == ("append", 10, 2)
    assert ids(copies) == list(range(20))
    delta_write(delta, numbers(100, 3))
    assert copies.table(delta)["mode"] == "full"
    assert ids(copies) == [100, 101, 102]
    import deltalake

    deltalake.DeltaTable(str(delta)).delete("id = 101")
    assert copies.table(delta)["mode"] == "full"
    assert ids(copies) == [100, 102]


def test_added_partitions_and_names_of_folders(copies, tmp_path):
    uri = tmp_path / "odd földer"
    delta_write(uri, numbers(0, 3, "2024-01-0 1/x"), partition_by=["day"])
    first = copies.table(uri)
    assert checks(first)["model.partition_counts"]["passed"]
    delta_write(uri, numbers(3, 2, "ü=1&2"), "append")
    delta_write(uri, pa.table({"id": [9], "day": pa.array([None], pa.string()), "v": [1.5]}), "append")
    again = copies.table(uri)
    assert (again["mode"], again["rows"]) == ("append", 3)
    found = copies.rows(f"SELECT id, day FROM {MINE} ORDER BY id")
    assert found == [(i, "2024-01-0 1/x") for i in range(3)] + [(3, "ü=1&2"), (4, "ü=1&2"), (9, None)]


def same_rows(copies, uri):
    """The table of the lake and the Delta table, by content."""
    with copies.lake() as lake:
        names = ", ".join(f'"{row[0]}"' for row in lake.sql(f"DESCRIBE SELECT * FROM delta_scan('{uri}')"))
        a, b = f"SELECT {names} FROM {MINE}", f"SELECT {names} FROM delta_scan('{uri}')"
        assert lake.sql(f"SELECT count(*) FROM (({a} EXCEPT ALL {b}) UNION ALL ({b} EXCEPT ALL {a}))") == [(0,)]


def test_added_partitions_of_every_type(copies, tmp_path):
    """Their values are texts of the log, which are read as the delta extension reads them."""
    from datetime import date, datetime, timezone

    columns = {
        "ts": pa.array([datetime(2024, 1, 1, 12, 30, tzinfo=timezone.utc), datetime(1960, 1, 1, 0, 0, 0, 123456, tzinfo=timezone.utc), None]),
        "ntz": pa.array([datetime(2024, 1, 1, 12, 30), datetime(1960, 1, 1, 0, 0, 0, 123456), None]),
        "day": pa.array([date(2024, 1, 1), date(1900, 1, 1), None]),
        "truth": [True, False, None],
        "number": [1.5, -0.1, None],
        "a b": pa.array([1, -5, None], pa.int32()),
        "select": ["a b", "", None],
    }
    uri = tmp_path / "delta"
    for n, mode in enumerate(("full", "append")):
        delta_write(uri, pa.table({"id": [3 * n, 3 * n + 1, 3 * n + 2], **columns}), "append", partition_by=list(columns))
        assert copies.table(uri)["mode"] == mode
        same_rows(copies, uri)


def test_what_becomes_of_a_log(copies, tmp_path):
    """Checkpoints, a log that was cleaned up, files that were merged and removed, columns that come, another table in the place."""
    import shutil

    from deltalake import DeltaTable

    uri = tmp_path / "delta"

    def copied(mode, *tables, **more):
        for table in tables:
            delta_write(uri, table, "append", **more)
        done = copies.table(uri)
        assert done["mode"] == mode, done
        same_rows(copies, uri)

    copied("full", *(pa.table({"id": [n]}) for n in range(4)))
    DeltaTable(str(uri)).create_checkpoint()
    copied("append", pa.table({"id": [10]}))
    for version in range(4):
        (uri / "_delta_log" / f"{version:020}.json").unlink()
    copied("append", pa.table({"id": [11]}))
    copied("full", pa.table({"id": [12], "more": ["x"]}), schema_mode="merge")
    copied("append", pa.table({"id": [13]}), schema_mode="merge")
    table = DeltaTable(str(uri))
    table.optimize.compact()
    table.vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    copied("full")
    shutil.rmtree(uri)
    copied("full", *(pa.table({"id": [n], "more": ["y"]}) for n in range(20)))


@pytest.mark.parametrize("call", ["ducklake_merge_adjacent_files", "ducklake_rewrite_data_files"])
def test_files_that_a_client_has_merged(copies, delta, call):
    """What is added to files that the official client has merged is checked as ever: the columns that it puts into them are not the table's."""
    from lib.lake import OfficialLake

    copies.table(delta)
    for start in range(10, 40, 5):
        delta_write(delta, numbers(start, 5), "append")
        assert copies.table(delta)["mode"] == "append"
        with OfficialLake(copies.catalog) as lake:
            lake.sql(f"CALL {call}('lake')")
    delta_write(delta, numbers(40, 0), "append")
    assert copies.table(delta)["mode"] in ("append", "unchanged")
    assert ids(copies) == list(range(40))


@pytest.mark.parametrize("commits", [2, 3])
def test_a_table_out_of_a_backup(copies, delta, tmp_path, commits):
    """Commits of the same numbers that did something else: nothing of what was copied before stays."""
    import shutil

    shutil.copytree(delta, tmp_path / "backup")
    for start in (10, 15):
        delta_write(delta, numbers(start, 5), "append")
        copies.table(delta)
    shutil.rmtree(delta)
    (tmp_path / "backup").rename(delta)
    for n in range(commits):
        delta_write(delta, numbers(100 + n * 5, 5), "append")
    assert copies.table(delta)["mode"] == "full"
    assert ids(copies) == [*range(10), *range(100, 100 + commits * 5)]
    assert copies.table(delta)["mode"] == "unchanged"


def inline_vector(*rows):
    """A deletion vector as it stands in a log: one bitmap of one container, in the letters of Z85."""
    roaring = struct.pack("<IIHHI", 12346, 1, 0, len(rows) - 1, 16) + struct.pack(f"<{len(rows)}H", *rows)
    data = struct.pack("<IQI", 1681511377, 1, 0) + roaring
    b85, z85 = (string.digits + letters for letters in (
        string.ascii_uppercase + string.ascii_lowercase + "!#$%&()*+-;<=>?@^_`{|}~",
        string.ascii_lowercase + string.ascii_uppercase + ".-:+=^!/*?&<>()[]{}@%$#",
    ))  # fmt: skip
    return base64.b85encode(data + bytes(-len(data) % 4)).decode().translate(str.maketrans(b85, z85))


def test_deleted_rows_and_mapped_columns(copies, delta):
    """Features that the package does not write: deletion vectors, and columns whose names in the files are others."""
    log = delta / "_delta_log"
    first = [json.loads(line) for line in (log / f"{0:020}.json").read_text().splitlines()]
    (add,) = (action["add"] for action in first if "add" in action)

    def commit(version, *actions):
        (log / f"{version:020}.json").write_text("\n".join(json.dumps(action) for action in actions))

    def protocol(*features):
        return {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}}

    copies.table(delta)
    vector = {"storageType": "i", "pathOrInlineDv": inline_vector(3, 4, 7), "sizeInBytes": 40, "cardinality": 3}
    remove = {"path": add["path"], "dataChange": True, "deletionTimestamp": 1}
    commit(1, protocol("deletionVectors"), {"remove": remove}, {"add": {**add, "stats": None, "deletionVector": vector}})
    assert copies.table(delta)["mode"] == "full"
    assert ids(copies) == [0, 1, 2, 5, 6, 8, 9]
    metadata = next(action["metaData"] for action in first if "metaData" in action)
    schema = json.loads(metadata["schemaString"])
    for n, field in enumerate(schema["fields"]):
        field["metadata"] = {"delta.columnMapping.id": n + 1, "delta.columnMapping.physicalName": field["name"]}
        field["name"] = {"v": "renamed"}.get(field["name"], field["name"])
    mapped = {**metadata, "schemaString": json.dumps(schema), "configuration": {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "3"}}
    commit(2, protocol("deletionVectors", "columnMapping"), {"metaData": mapped})
    assert copies.table(delta)["mode"] == "full"
    assert copies.rows(f"SELECT id, renamed FROM {MINE} WHERE id < 2 ORDER BY id") == [(0, 0.0), (1, 1 / 3)]


def test_a_table_that_others_changed_is_copied_whole(copies, delta):
    copies.table(delta)
    delta_write(delta, numbers(10, 5), "append")
    from lib.lake import OfficialLake

    with OfficialLake(copies.catalog) as lake:
        lake.sql(f"DELETE FROM {MINE} WHERE id = 3")
    result = copies.model(delta)
    assert result["result"]["tables"][0]["mode"] == "full"
    assert any("others have changed the table" in line for line in result["log"])
    assert ids(copies) == list(range(15))


def test_changed_columns_and_no_rows(copies, delta):
    copies.table(delta)
    delta_write(delta, pa.table({"id": [1], "other": ["x"]}), schema_mode="overwrite")
    assert copies.table(delta)["mode"] == "full"
    assert copies.rows(f"SELECT * FROM {MINE}") == [(1, "x")]
    delta_write(delta, pa.table({"id": pa.array([], pa.int64()), "other": pa.array([], pa.string())}))
    assert copies.table(delta)["rows"] == 0
    assert copies.rows(f"SELECT count(*) FROM {MINE}") == [(0,)]


# --- gates


class FlagService(ThreadingHTTPServer):
    def __init__(self):
        self.asked, self.answer, self.go_on, self.status = [], b"{}", None, 200
        super().__init__(("127.0.0.1", 0), FlagRequest)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class FlagRequest(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.asked.append((json.loads(self.rfile.read(int(self.headers["Content-Length"]))), self.headers["Authorization"]))
        if self.server.go_on:
            self.server.go_on.wait(20)
        self.send_response(self.server.status)
        self.send_header("Location", "/elsewhere")
        self.end_headers()
        self.wfile.write(self.server.answer)

    def log_message(self, *_):
        pass


def test_gates_are_closed_by_default(copies, delta, tmp_path):
    """(issue 6, point 2) A closed gate: skipped, exit 0, the flag named, nothing touched."""
    (tmp_path / "flags").write_text("# teams\nducklake-data-modeling-copy-workflow=7,\n  123 # me\n")
    closed = [
        {"DUCKLAKE_FEATURE_FLAGS": ""},
        {"DUCKLAKE_FEATURE_FLAGS": "ducklake-data-imports-copy-workflow=123"},
        {"DUCKLAKE_FEATURE_FLAGS": "ducklake-data-modeling-copy-workflow=12,1234"},
        {"DUCKLAKE_FEATURE_FLAGS": "ducklake-data-modeling-copy-workflow=yes"},
        {"DUCKLAKE_FEATURE_FLAGS": "", "DUCKLAKE_FEATURE_FLAGS_FILE": f"{tmp_path}/none"},
    ]
    for env in closed:
        done = copies.model(delta, **env)
        assert (done["code"], done["state"]) == (0, "skipped"), done
        assert "ducklake-data-modeling-copy-workflow" in done["result"]["skipped"]
        assert not (tmp_path / "lake.sqlite").exists()
    assert any("cannot be read" in line for line in done["log"])
    flag = "\nducklake-data-modeling-copy-workflow=123"
    (tmp_path / "large").write_text("#" * ((1 << 20) - len(flag)) + flag + "4")  # of which the first MiB says yes
    done = copies.model(delta, DUCKLAKE_FEATURE_FLAGS="", DUCKLAKE_FEATURE_FLAGS_FILE=f"{tmp_path}/large")
    assert done["state"] == "skipped" and any("is larger than 1 MiB" in line for line in done["log"])
    opened = copies.model(delta, DUCKLAKE_FEATURE_FLAGS="", DUCKLAKE_FEATURE_FLAGS_FILE=f"{tmp_path}/flags")
    assert opened["state"] == "succeeded"
    assert copies.model(delta, DUCKLAKE_FEATURE_FLAGS="ducklake-data-modeling-copy-workflow=*")["state"] == "succeeded"


def test_a_flag_service_has_one_second(copies, delta):
    """(issue 6, point 2) Anything but a clear yes within a second is a no, with a warning where it is a failure."""
    with FlagService() as service:
        service.block_on_close = False
        url = f"http://127.0.0.1:{service.server_port}/flags"
        env = {"DUCKLAKE_FEATURE_FLAGS": "", "DUCKLAKE_FEATURE_FLAGS_URL": url, "DUCKLAKE_FEATURE_FLAGS_TOKEN": "planted-token"}

        def is_late(done):
            return any("timed out" in line or "nothing came or went" in line for line in done["log"])

        def told():
            """What becomes of an answer that comes at once; a machine that stood still for a second is asked again."""
            return wait_until(lambda: (done := copies.model(delta, **env)) and not is_late(done) and done, 60, "an answer in time")

        assert told()["state"] == "skipped"
        assert service.asked[0][0]["flag"] == "ducklake-data-modeling-copy-workflow" and service.asked[0][0]["team_id"] == 123
        assert service.asked[0][1] == "Bearer planted-token"
        service.answer = b'{"featureFlags": {"ducklake-data-modeling-copy-workflow": true}}'
        assert told()["state"] == "succeeded"
        for status, answer, warned in (302, service.answer, True), (500, service.answer, True), (200, b"<html>true", True), (200, b"true", True), (
            200, b'{"enabled": "true"}', False,
        ), (200, b'{"enabled": false, "featureFlags": {"ducklake-data-modeling-copy-workflow": true}}', False), (
            200, b'{"enabled": true, "featureFlags": {"ducklake-data-modeling-copy-workflow": null}}', False,
        ), (200, b'{"enabled": false, "enabled": true}', True):  # fmt: skip
            was, (service.status, service.answer) = service.answer, (status, answer)
            closed = told()
            assert closed["state"] == "skipped" and any("the flag service" in line for line in closed["log"]) == warned, (status, answer)
            assert any("an error for an answer" in line for line in closed["log"]) == (status != 200)
            service.status, service.answer = 200, was
        service.go_on = threading.Event()
        late = copies.model(delta, **env)
        service.go_on.set()
        assert late["state"] == "skipped" and is_late(late) and any("no answer within a second" in line for line in late["log"])
        assert "planted-token" not in str(late)
        service.shutdown()


# --- the environment


def test_strict_environments_name_what_is_missing(copies, delta):
    for name in ("DUCKLAKE_BUCKET", "DUCKLAKE_RDS_HOST", "DUCKLAKE_RDS_PASSWORD"):
        env = {
            "DUCTSTREAM_ENV": "production", "DUCKLAKE_CATALOG": "", "DUCKLAKE_DATA_PATH": "", "DUCKLAKE_RDS_HOST": "h",
            "DUCKLAKE_RDS_PORT": "1", "DUCKLAKE_RDS_DATABASE": "d", "DUCKLAKE_RDS_USERNAME": "u", "DUCKLAKE_RDS_PASSWORD": "p",
            "DUCKLAKE_BUCKET": "buck", "DUCKLAKE_BUCKET_REGION": "us-east-1",
        }  # fmt: skip
        done = copies.model(delta, **{**env, name: ""})
        assert done["code"] == 2 and f"{name} is not set" in done["error"], done
    local = copies.model(delta, DUCKLAKE_S3_ENDPOINT="")
    assert any("DUCKLAKE_S3_ENDPOINT=http://localhost:19000" in line for line in local["log"])
    assert not any("object_storage_root_password" in line for line in local["log"])
    refused = copies.model(delta, DUCTSTREAM_ENV="staging")
    assert refused["code"] == 2 and "folders are read with DUCTSTREAM_ENV=dev only" in refused["error"]


# --- checks


def test_checks_in_sql(copies, delta, tmp_path):
    """(issue 6, point 2) YAML checks, defaults, overrides that replace; a failed one leaves the old table."""
    copies.table(delta)
    delta_write(delta, numbers(10, 1), "append")
    path = tmp_path / "checks.yaml"
    env = {"DUCKLAKE_COPY_CHECKS": str(path)}
    path.write_text(
        "defaults:\n  queries:\n"
        "    - name: row_count_delta_vs_ducklake\n"
        "      sql: SELECT ABS((SELECT COUNT(*) FROM delta_scan(?)) - (SELECT COUNT(*) FROM {ducklake_table}))\n"
        "      parameters: [source_table_uri]\n"
        "models:\n"
        "  my_saved_query:\n    queries:\n"
        "      - {name: ten, sql: 'SELECT count(*) FROM {ducklake_schema}.{table_name}', expected: 10, tolerance: 0}\n"
        "      - {name: text, sql: \"SELECT 'x'\"}\n"
        "      - {name: none, sql: 'SELECT 1 WHERE false'}\n"
        "      - {name: wrong, sql: 'SELECT nothing'}\n"
        "  other:\n    inherit_defaults: false\n    queries:\n"
        "      - {name: ten, sql: 'SELECT count(*), 5 FROM {ducklake_table}', expected: 10, tolerance: 1}\n"
    )
    done = copies.model(delta, **env)
    assert done["code"] == 3 and done["state"] == "failed"
    found = checks(done["result"]["tables"][0])
    assert found["row_count_delta_vs_ducklake"]["passed"]
    assert (found["ten"]["observed_value"], found["ten"]["passed"]) == ("11", False)
    assert found["text"]["error"] == "query did not return a numeric value"
    assert found["none"]["error"] == "query returned no rows" and "nothing" in found["wrong"]["error"]
    assert ids(copies) == list(range(10))
    other = copies.table(delta, "other", **env)
    assert [c["name"] for c in other["checks"]] == ["ten", "model.schema_hash", "model.column_fingerprints"]
    path.write_text("defaults:\n  queries:\n    - {name: x}\n")
    assert "must include both name and sql" in copies.model(delta, **env)["error"]


@pytest.mark.parametrize("damage", ["cut", "other", "gone"])
def test_files_that_are_damaged_never_become_visible(copies, delta, tmp_path, damage):
    """(issue 6, point 2) Between write and verify."""
    copies.table(delta)
    delta_write(delta, numbers(50, 7))
    before = set((tmp_path / "lake-data").rglob("*.parquet"))
    pause = Pause(tmp_path, "copy-written")
    process = copies.start("data-modeling", "--team-id", 123, "--model", f"my_saved_query={delta}", **pause.env)
    reached(pause)
    (new,) = set((tmp_path / "lake-data").rglob("*.parquet")) - before
    if damage == "cut":
        new.write_bytes(new.read_bytes()[:-20])
    elif damage == "gone":
        new.unlink()
    else:
        import pyarrow.parquet as pq

        table = numbers(50, 7)
        pq.write_table(table.set_column(2, "v", pa.array([0.5] * 7)), new)
    pause.release()
    out, _ = process.communicate(timeout=60)
    end = json.loads(out.splitlines()[-1])
    assert process.returncode == 3 and end["state"] == "failed" and "failed, so it stays as it was" in end["error"]
    if damage == "other":
        assert not checks(end["result"]["tables"][0])["model.column_fingerprints"]["passed"]
    assert ids(copies) == list(range(10))
    assert copies.table(delta)["mode"] == "full"
    assert ids(copies) == list(range(50, 57))


# --- bad input, kills


def test_bad_tables_are_named(copies, delta, tmp_path):
    none = copies.model(tmp_path / "nothing")
    assert none["code"] == 2 and "there is no Delta table at" in none["error"]
    log = delta / "_delta_log" / "00000000000000000000.json"
    text = log.read_text()
    log.write_text(
        "\n".join(
            json.dumps({"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": ["fancyFeature"],
                                     "writerFeatures": ["fancyFeature"]}}) if '"protocol"' in line[:12] else line
            for line in text.splitlines()
        )  # fmt: skip
    )
    odd = copies.model(delta)
    assert odd["code"] != 0 and "fancyFeature" in odd["error"]
    log.write_text(text)
    for file in delta.glob("*.parquet"):
        file.unlink()
    gone = copies.model(delta)
    assert gone["code"] == 4 and "No such file" in gone["error"]
    assert not (tmp_path / "lake.sqlite").exists() or copies.rows("SELECT count(*) FROM information_schema.tables WHERE "
                                                                  "table_name = 'my_saved_query'") == [(0,)]  # fmt: skip


@pytest.mark.parametrize(
    "point", ["copy-written:1", "copy-verified:1", "commit-statement:3", "copy-committed:1"]
)
def test_killed_at_every_step(copies, delta, point):
    """(issue 6, point 2) Old or new, and the next copy finds its way."""
    copies.table(delta)
    delta_write(delta, numbers(100, 4))
    done = copies.model(delta, DUCT_KILL_POINT=point)
    assert done["state"] == "failed", done
    assert ids(copies) in (list(range(10)), list(range(100, 104)))
    assert (ids(copies)[0] == 100) == (point == "copy-committed:1")
    assert copies.table(delta)["mode"] == ("unchanged" if point == "copy-committed:1" else "full")
    assert ids(copies) == list(range(100, 104))


def test_one_copy_per_target_at_a_time(copies, delta, tmp_path):
    pause = Pause(tmp_path, "copy-written")
    first = copies.start("data-modeling", "--team-id", 123, "--model", f"my_saved_query={delta}", **pause.env)
    reached(pause)
    second = copies.model(delta)
    assert second["code"] == 4 and "does the same" in second["stderr"]
    assert copies.table(delta, "another")["mode"] == "full"
    pause.release()
    first.communicate(timeout=60)
    assert first.returncode == 0


def test_a_signal_ends_a_copy(copies, delta, tmp_path):
    pause = Pause(tmp_path, "copy-written")
    first = copies.start("data-modeling", "--team-id", 123, "--model", f"my_saved_query={delta}", **pause.env)
    reached(pause)
    first.send_signal(signal.SIGTERM)
    first.communicate(timeout=60)
    assert first.returncode == 130
    assert copies.table(delta)["mode"] == "full"


# --- logs that are odd, cut, or lie


def log_of(uri, version):
    return uri / "_delta_log" / f"{version:020}.json"


def actions_of(uri, version):
    return [json.loads(line) for line in log_of(uri, version).read_text().splitlines()]


def put_commit(uri, version, *actions):
    log_of(uri, version).write_text("".join(json.dumps(action) + "\n" for action in actions))


def test_a_commit_that_is_still_empty(copies, delta):
    """(issue 6, point 2) Not taken for one that did nothing: a later one would hide what it becomes."""
    copies.table(delta)
    for n in (1, 2):
        delta_write(delta, numbers(10 * n, 1), "append")
    text = log_of(delta, 1).read_text()
    log_of(delta, 1).write_text("")
    done = copies.model(delta)
    assert done["code"] == 4 and "version 1 of" in done["error"] and "is an empty file" in done["error"], done
    assert ids(copies) == list(range(10))
    log_of(delta, 1).write_text(text)
    assert copies.table(delta)["mode"] == "append"
    assert ids(copies) == [*range(11), 20]


def test_logs_that_are_cut(copies, delta):
    """A line that ends too early, and a version that is missing: refused, in words without the library's own calls; the table stays."""
    copies.table(delta)
    delta_write(delta, numbers(10, 1), "append")
    text = log_of(delta, 1).read_text()
    log_of(delta, 1).write_text(text[: len(text) * 2 // 3])
    cut = copies.model(delta)
    assert cut["code"] == 4 and "read version 1 of" in cut["error"] and "0: <" not in cut["error"], cut
    log_of(delta, 1).write_text(text)
    delta_write(delta, numbers(20, 1), "append")
    log_of(delta, 1).rename(delta / "kept")
    gap = copies.model(delta)
    assert gap["code"] == 4 and "found gap" in gap["error"], gap
    assert ids(copies) == list(range(10))
    (delta / "kept").rename(log_of(delta, 1))
    assert copies.table(delta)["mode"] == "append" and ids(copies) == [*range(11), 20]


def test_a_file_that_is_added_again(copies, delta, tmp_path):
    """One file in Delta, however often a log names it: what was added does not make up the table then, so everything is copied."""
    delta_write(delta, numbers(10, 5), "append")
    copies.table(delta)
    put_commit(delta, 2, *(action for action in actions_of(delta, 1) if "add" in action))
    none = tmp_path / "checks.yaml"
    none.write_text("models:\n  my_saved_query: {inherit_defaults: false, queries: []}\n")
    result = copies.model(delta, DUCKLAKE_COPY_CHECKS=str(none))
    assert result["state"] == "succeeded" and result["result"]["tables"][0]["mode"] == "full", result
    assert any("do not make up the table" in line for line in result["log"])
    assert ids(copies) == list(range(15))
    delta_write(delta, numbers(20, 1), "append")
    assert copies.table(delta)["mode"] == "append" and ids(copies) == [*range(15), 20]


TEXTS = pa.map_(pa.string(), pa.string())
CHECKPOINT = pa.schema([
    ("protocol", pa.struct([("minReaderVersion", pa.int32()), ("minWriterVersion", pa.int32()), ("readerFeatures", pa.list_(pa.string())),
                            ("writerFeatures", pa.list_(pa.string()))])),
    ("metaData", pa.struct([("id", pa.string()), ("format", pa.struct([("provider", pa.string()), ("options", TEXTS)])), ("schemaString", pa.string()),
                            ("partitionColumns", pa.list_(pa.string())), ("createdTime", pa.int64()), ("configuration", TEXTS)])),
    ("add", pa.struct([("path", pa.string()), ("partitionValues", TEXTS), ("size", pa.int64()), ("modificationTime", pa.int64()),
                       ("dataChange", pa.bool_()), ("stats", pa.string())])),
    ("remove", pa.struct([("path", pa.string()), ("deletionTimestamp", pa.int64()), ("dataChange", pa.bool_())])),
    ("checkpointMetadata", pa.struct([("version", pa.int64())])),
    ("sidecar", pa.struct([("path", pa.string()), ("sizeInBytes", pa.int64()), ("modificationTime", pa.int64())])),
])  # fmt: skip


def write_checkpoint(path, actions, schema=CHECKPOINT):
    """Actions as JSON lines, or as Parquet: by the file's name."""
    import pyarrow.parquet as pq

    if path.suffix == ".json":
        path.write_text("".join(json.dumps(action) + "\n" for action in actions))
        return

    def pairs(value):
        if not isinstance(value, dict):
            return value
        return {k: list(v.items()) if k in ("partitionValues", "options", "configuration") else pairs(v) for k, v in value.items()}

    pq.write_table(pa.Table.from_pylist([pairs(action) for action in actions], schema=schema), path)


@pytest.mark.parametrize("kind, sidecars", [("json", True), ("parquet", True), ("parquet", False)])
def test_checkpoints_of_version_2(copies, delta, kind, sidecars):
    """As others write them: under a UUID, with the files in sidecars or in it, older commits gone, with and without a hint. A sidecar that is lost is named."""
    uuid = "80a083e8-7026-4e79-81be-64bd76c43a11"
    delta_write(delta, numbers(10, 5), "append")
    copies.table(delta)
    features = ["v2Checkpoint"]
    protocol = {"protocol": {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}}
    (metadata,) = (action for action in actions_of(delta, 0) if "metaData" in action)
    adds = [action for version in (0, 1) for action in actions_of(delta, version) if "add" in action]
    log = delta / "_delta_log"
    listed = [{"add": {k: add["add"].get(k) for k in ("path", "partitionValues", "size", "modificationTime", "dataChange", "stats")}} for add in adds]
    sidecar = log / "_sidecars" / f"{uuid}.parquet"
    if sidecars:
        sidecar.parent.mkdir()
        write_checkpoint(sidecar, listed, pa.schema([CHECKPOINT.field("add"), CHECKPOINT.field("remove")]))
        listed = [{"sidecar": {"path": sidecar.name, "sizeInBytes": sidecar.stat().st_size, "modificationTime": 1700000000000}}]
    write_checkpoint(log / f"{2:020}.checkpoint.{uuid}.{kind}", [{"checkpointMetadata": {"version": 2}}, protocol, metadata, *listed])
    for version in (0, 1):
        log_of(delta, version).unlink()
    put_commit(delta, 3, {"commitInfo": {"timestamp": 1}})
    if sidecars:
        (log / "_last_checkpoint").write_text(json.dumps({"version": 2, "size": 4}))
    result = copies.table(delta)
    assert result["delta_version"] == 3 and ids(copies) == list(range(15))
    if sidecars:
        sidecar.unlink()
        lost = copies.model(delta, "other")
        assert lost["code"] == 4 and sidecar.name in lost["error"], lost


@pytest.mark.parametrize("hint", ["{not json", '{"version": 50, "size": 3}', '{"version": -5, "size": 3}'])
def test_a_hint_that_lies_is_no_harm(copies, delta, hint):
    (delta / "_delta_log" / "_last_checkpoint").write_text(hint)
    copies.table(delta)
    assert ids(copies) == list(range(10))
