"""Copies of Delta tables into the lake (issue 6, point 2; seed 000)."""

import json
import signal
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
    uri = tmp_path / "odd folder"
    delta_write(uri, numbers(0, 3, "2024-01-0 1/x"), partition_by=["day"])
    first = copies.table(uri)
    assert checks(first)["model.partition_counts"]["passed"]
    delta_write(uri, numbers(3, 2, "ü=1&2"), "append")
    delta_write(uri, pa.table({"id": [9], "day": pa.array([None], pa.string()), "v": [1.5]}), "append")
    again = copies.table(uri)
    assert (again["mode"], again["rows"]) == ("append", 3)
    found = copies.rows(f"SELECT id, day FROM {MINE} ORDER BY id")
    assert found == [(i, "2024-01-0 1/x") for i in range(3)] + [(3, "ü=1&2"), (4, "ü=1&2"), (9, None)]


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
        self.asked, self.answer, self.go_on = [], b"{}", None
        super().__init__(("127.0.0.1", 0), FlagRequest)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class FlagRequest(BaseHTTPRequestHandler):
    def do_POST(self):
        self.server.asked.append((json.loads(self.rfile.read(int(self.headers["Content-Length"]))), self.headers["Authorization"]))
        if self.server.go_on:
            self.server.go_on.wait(20)
        self.send_response(200)
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
    opened = copies.model(delta, DUCKLAKE_FEATURE_FLAGS="", DUCKLAKE_FEATURE_FLAGS_FILE=f"{tmp_path}/flags")
    assert opened["state"] == "succeeded"
    assert copies.model(delta, DUCKLAKE_FEATURE_FLAGS="ducklake-data-modeling-copy-workflow=*")["state"] == "succeeded"


def test_a_flag_service_has_one_second(copies, delta):
    """(issue 6, point 2) Anything but a clear yes within a second is a no, with a warning where it is a failure."""
    with FlagService() as service:
        service.block_on_close = False
        url = f"http://127.0.0.1:{service.server_port}/flags"
        env = {"DUCKLAKE_FEATURE_FLAGS": "", "DUCKLAKE_FEATURE_FLAGS_URL": url, "DUCKLAKE_FEATURE_FLAGS_TOKEN": "planted-token"}
        assert copies.model(delta, **env)["state"] == "skipped"
        assert service.asked[0][0]["flag"] == "ducklake-data-modeling-copy-workflow" and service.asked[0][0]["team_id"] == 123
        assert service.asked[0][1] == "Bearer planted-token"
        service.answer = b'{"featureFlags": {"ducklake-data-modeling-copy-workflow": true}}'
        assert copies.model(delta, **env)["state"] == "succeeded"
        service.go_on = threading.Event()
        late = copies.model(delta, **env)
        service.go_on.set()
        assert late["state"] == "skipped" and any("no answer within a second" in line for line in late["log"])
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
