"""SQL models: built into the lake, only what is new, tested before they are seen (issue 6, point 5)."""

import http.server
import json
import os
import re
import threading
from pathlib import Path

import pytest
from lib.cli import ductstream
from lib.lake import LakeHome
from lib.models import Models
from lib.paths import ROOT
from lib.pause import Pause
from lib.runs import Runs
from lib.wait import wait_until

GLUCOSE = ROOT / "examples/models/glucose"


def entries(lake, *rows):
    """raw.entries, as ingestion leaves them: (id, mg/dl, minutes since 2024-10-15)."""
    lake.sql("CREATE SCHEMA IF NOT EXISTS raw")
    lake.sql(
        "CREATE TABLE IF NOT EXISTS raw.entries (_id VARCHAR, sgv BIGINT, date BIGINT, date_string VARCHAR, direction VARCHAR, "
        "trend BIGINT, device VARCHAR, type VARCHAR, utc_offset BIGINT)"
    )
    for key, sgv, minutes in rows:
        lake.sql(f"INSERT INTO raw.entries VALUES ('{key}', {sgv}, {1728950400000 + minutes * 60000}, '', 'Flat', 4, 'cgm', 'sgv', 0)")


def numbers(lake, n=10):
    lake.sql("CREATE SCHEMA IF NOT EXISTS raw")
    lake.sql(f"CREATE OR REPLACE TABLE raw.numbers AS SELECT i, i % 3 AS part FROM range({n}) t(i)")


def test_glucose_to_gold(lake_home, tmp_path):
    """The page's flow: entries, bronze view, silver facts, gold; a second run builds nothing, a late reading changes its day only."""
    models = Models(tmp_path, lake_home, GLUCOSE)
    lake = lake_home.open()
    entries(lake, ("a", 100, 0), ("b", 190, 5), ("c", 60, 1440), ("bad", 5, 10))
    built = models.run()
    assert built == dict.fromkeys(
        ["bronze.stg_entries", "silver.fct_glucose_readings", "gold.dim_date", "gold.mrt_glucose_readings"], "built"
    )
    assert models.result["gold.dim_date"]["tables"].keys() == {"silver.fct_glucose_readings"}
    fresh = lake_home.open()  # another process
    assert fresh.count("bronze.stg_entries") == 3
    assert fresh.sql("SELECT count(*) FROM duckdb_tables() WHERE database_name = 'memory'") == [(0,)]
    assert fresh.sql("SELECT schema_name FROM duckdb_schemas() WHERE database_name = 'lake' AND schema_name LIKE '%bronze%'") == [
        ("bronze",)
    ]
    assert fresh.sql("SELECT readings, time_in_range_pct FROM gold.dim_date ORDER BY reading_date") == [(2, 50.0), (1, 0.0)]

    head = lake.last_snapshot()
    assert set(models.run().values()) == {"up_to_date"}
    assert models.end["state"] == "skipped" and lake.last_snapshot() == head

    entries(lake, ("d", 200, 3000))
    assert models.run()["gold.dim_date"] == "built"
    days = lake.sql(f"SELECT DISTINCT reading_date::VARCHAR FROM ducklake_table_changes('lake', 'gold', 'dim_date', {head + 1}, "
                    f"{lake.last_snapshot()})")
    assert days == [("2024-10-17",)]
    whole = lake.rows("gold.dim_date"), lake.rows("gold.mrt_glucose_readings")
    assert models.run("--full-refresh")["gold.dim_date"] == "built"
    assert (lake.rows("gold.dim_date"), lake.rows("gold.mrt_glucose_readings")) == whole


def test_only_what_has_changed_and_what_comes_after(models):
    """A change of one model's text builds it and its descendants; a comment elsewhere, or new rows of a table nobody reads, nothing."""
    lake = models.home.open()
    numbers(lake)
    models.write("bronze/one.sql", "-- materialized: table\nSELECT i FROM raw.numbers")
    models.write("silver/two.sql", "-- materialized: table\nSELECT i * 2 AS i FROM one")
    models.write("silver/other.sql", "-- materialized: table\nSELECT count(*) AS n FROM ducklake.raw.numbers")
    models.write("gold/three.sql", "-- materialized: table\nSELECT sum(i) AS s FROM silver.two")
    assert set(models.run().values()) == {"built"}
    models.write("silver/two.sql", "-- materialized: table\nSELECT i * 3 AS i FROM one")
    assert models.run() == {
        "bronze.one": "up_to_date",
        "silver.other": "up_to_date",
        "silver.two": "built",
        "gold.three": "built",
    }
    assert lake.value("SELECT s FROM gold.three") == 135
    lake.sql("CREATE TABLE raw.unread AS SELECT 1 AS a")
    assert set(models.run().values()) == {"up_to_date"}
    lake.sql("INSERT INTO raw.numbers VALUES (100, 1)")
    assert set(models.run().values()) == {"built"}
    assert lake.value("SELECT s FROM gold.three") == 435
    lake.sql("DELETE FROM silver.two WHERE i = 0")  # somebody else was here
    assert models.run()["silver.two"] == "built" and lake.count("silver.two") == 11


def test_a_failing_test_leaves_the_old_table(models):
    """A model whose rows fail a test is not seen; what reads it is left out; others are built; the exit code is DATA."""
    lake = models.home.open()
    numbers(lake, 3)
    models.write("silver/keyed.sql", "-- materialized: table\n-- tests:\n--   - unique: i\nSELECT i FROM raw.numbers")
    models.write("gold/after.sql", "-- materialized: table\nSELECT count(*) AS n FROM silver.keyed")
    models.write("gold/apart.sql", "-- materialized: table\nSELECT max(i) AS m FROM raw.numbers")
    models.run()
    lake.sql("INSERT INTO raw.numbers VALUES (2, 1)")
    states = models.run(code=3)
    assert states == {"silver.keyed": "failed", "gold.after": "left_out", "gold.apart": "built"}
    assert models.end["error"].startswith("silver.keyed: test unique(i) fails: 1 values are there more than once")
    assert (lake.count("silver.keyed"), lake.value("SELECT n FROM gold.after")) == (3, 3)
    models.write("silver/keyed.sql", "-- materialized: table\nSELECT i, nothing FROM raw.numbers")
    assert models.run("--select", "keyed", code=2) == {"silver.keyed": "failed"}
    assert "nothing" in models.end["error"] and lake.count("silver.keyed") == 3


@pytest.mark.parametrize(
    "test, rows, fails",
    [
        ("unique: i", "(1), (1)", "unique(i)"),
        ("not_null: i", "(NULL)", "not_null(i)"),
        ("accepted_values: {column: i, values: [1, 2]}", "(1), (3)", "accepted_values(i)"),
        ("relationships: {column: i, to: raw.numbers, field: i}", "(1), (77)", "relationships(i)"),
        ("sql: SELECT * FROM {{ this }} WHERE i > 5", "(6)", "sql(line 3)"),
        ("unique: i", "(1), (NULL), (NULL)", None),
        ("accepted_values: {column: i, values: [1]}", "(1), (NULL)", None),
    ],
)
def test_each_test_can_fail(models_sqlite, test, rows, fails):
    numbers(models_sqlite.home.open())
    models_sqlite.write("gold/m.sql", f"-- materialized: table\n-- tests:\n--   - {test}\nSELECT i FROM (VALUES {rows}) t(i)")
    if fails:
        models_sqlite.run(code=3)
        assert f"test {fails} fails" in models_sqlite.end["error"]
    else:
        assert models_sqlite.run() == {"gold.m": "built"}
    code, out, err = models_sqlite.call("test")
    assert code == (2 if fails else 0), err  # nothing is there to be tested


def test_a_test_in_a_file(models_sqlite):
    """tests/*.sql belongs to the model that is built last of those it reads."""
    lake = models_sqlite.home.open()
    numbers(lake)
    models_sqlite.write("bronze/a.sql", "-- materialized: table\nSELECT i FROM raw.numbers")
    models_sqlite.write("gold/b.sql", "-- materialized: table\nSELECT i FROM a WHERE i < 5")
    models_sqlite.write("tests/same.sql", "SELECT * FROM a ANTI JOIN b USING (i)")
    assert models_sqlite.run(code=3) == {"bronze.a": "built", "gold.b": "failed"}
    assert "test tests/same.sql fails: 5 rows" in models_sqlite.end["error"]


def test_incremental_models(models):
    """By key without more: rows that differ. By changes: keys or partitions that changed. By the text: what it says is new. All equal a rebuild."""
    lake = models.home.open()
    numbers(lake, 9)
    models.write("silver/synced.sql", "-- materialized: incremental\n-- unique_key: i\nSELECT i, i * 10 AS x FROM raw.numbers")
    models.write(
        "silver/followed.sql",
        "-- materialized: incremental\n-- unique_key: i\n-- changes_from: raw.numbers(i)\nSELECT i, part FROM raw.numbers",
    )
    models.write(
        "silver/parts.sql",
        """
        -- materialized: incremental
        -- partition: part
        -- changes_from: raw.numbers(part)
        SELECT part, sum(i)::BIGINT AS s FROM raw.numbers GROUP BY part
        """,
    )
    models.write(
        "silver/added.sql",
        """
        -- materialized: incremental
        SELECT i FROM raw.numbers
        {% if is_incremental() %} WHERE i > (SELECT max(i) FROM {{ this }}) {% endif %}
        """,
    )
    models.run()
    lake.sql("UPDATE raw.numbers SET part = 7 WHERE i = 0")
    lake.sql("DELETE FROM raw.numbers WHERE i = 1")
    lake.sql("INSERT INTO raw.numbers VALUES (50, 2)")
    head = lake.last_snapshot()
    assert models.run() == {
        "silver.synced": "built",
        "silver.followed": "built",
        "silver.parts": "built",
        "silver.added": "built",
    }
    changed = f"'{{}}', {head + 1}, {lake.last_snapshot()})"

    def touched(table, column):
        return sorted(
            row[0]
            for row in lake.sql(f"SELECT DISTINCT {column} FROM ducklake_table_changes('lake', 'silver', " + changed.format(table))
        )

    assert touched("synced", "i") == [1, 50]
    assert touched("followed", "i") == [0, 1, 50]
    assert touched("parts", "part") == [0, 1, 2, 7]
    assert touched("added", "i") == [50]
    before = {name: lake.rows(name) for name in ("silver.synced", "silver.followed", "silver.parts")}
    models.run("--full-refresh")
    assert before == {name: lake.rows(name) for name in before}
    assert lake.sql("SELECT * FROM silver.parts ORDER BY part") == [(0, 9), (1, 11), (2, 65), (7, 0)]
    models.write("silver/synced.sql", "-- materialized: incremental\n-- unique_key: i\nSELECT i, i * 11 AS x, 1 AS y FROM raw.numbers")
    assert models.run("--select", "synced") == {"silver.synced": "built"} and "y" in lake.columns("silver.synced")


def test_snapshots_keep_versions(models):
    """A snapshot model: a changed row ends a version and begins one, a row that is gone ends one."""
    lake = models.home.open()
    numbers(lake, 3)
    models.write("silver/history.sql", "-- materialized: snapshot\n-- unique_key: i\nSELECT i, part FROM raw.numbers")
    models.run()
    assert lake.sql("SELECT count(*) FROM silver.history WHERE valid_to IS NULL") == [(3,)]
    lake.sql("UPDATE raw.numbers SET part = 9 WHERE i = 1")
    lake.sql("DELETE FROM raw.numbers WHERE i = 2")
    assert models.run() == {"silver.history": "built"}
    assert lake.sql("SELECT i, part, valid_to IS NULL FROM silver.history ORDER BY ALL") == [
        (0, 0, True),
        (1, 1, False),
        (1, 9, True),
        (2, 2, False),
    ]
    assert lake.value("SELECT count(*) FROM silver.history a JOIN silver.history b ON a.i = b.i AND a.valid_to = b.valid_from") == 1
    assert models.run() == {"silver.history": "up_to_date"}


def test_a_table_becomes_no_snapshot(models_sqlite):
    """Its rows have no versions: refused in words, and it stays."""
    lake = models_sqlite.home.open()
    numbers(lake, 3)
    models_sqlite.write("gold/a.sql", "-- materialized: incremental\n-- unique_key: i\nSELECT i, part FROM raw.numbers")
    models_sqlite.run()
    models_sqlite.write("gold/a.sql", "-- materialized: snapshot\n-- unique_key: i\nSELECT i, part FROM raw.numbers")
    said = models_sqlite.fails(2)
    assert "no versions of rows (columns valid_from and valid_to)" in said and "Binder" not in said
    assert list(lake.columns("gold.a")) == ["i", "part"] and lake.count("gold.a") == 3


def test_views_are_not_rebuilt_by_new_rows(models_sqlite):
    """A view has the new rows anyway; what is built on it follows the tables behind it, also through views that are no models."""
    lake = models_sqlite.home.open()
    numbers(lake)
    lake.sql("CREATE VIEW raw.some AS SELECT * FROM raw.numbers WHERE part = 1")
    models_sqlite.write("bronze/v.sql", "SELECT i FROM raw.some")
    models_sqlite.write("gold/t.sql", "-- materialized: table\nSELECT count(*) AS n FROM v")
    models_sqlite.run()
    assert models_sqlite.result["gold.t"]["tables"].keys() == {"raw.numbers"}
    lake.sql("INSERT INTO raw.numbers VALUES (11, 1)")
    assert models_sqlite.run() == {"bronze.v": "up_to_date", "gold.t": "built"}
    models_sqlite.write("bronze/v.sql", "SELECT i + 1 AS i FROM raw.some")
    assert models_sqlite.run() == {"bronze.v": "built", "gold.t": "built"}
    models_sqlite.write("bronze/v.sql", "-- materialized: table\nSELECT i + 1 AS i FROM raw.some")
    assert models_sqlite.run()["bronze.v"] == "built" and "bronze.v" in lake.tables()
    models_sqlite.write("bronze/v.sql", "SELECT i + 1 AS i FROM raw.some")
    assert models_sqlite.run()["bronze.v"] == "built" and "bronze.v" not in lake.tables()


def test_views_that_others_change(models_sqlite):
    """What reads a view of somebody else is built when the view has become another one, by all its rows."""
    lake = models_sqlite.home.open()
    numbers(lake)
    lake.sql("CREATE SCHEMA other")
    lake.sql("CREATE VIEW other.v AS SELECT i FROM raw.numbers WHERE i < 5")
    models_sqlite.write("silver/one.sql", "-- materialized: table\nSELECT count(*) AS n FROM other.v")
    models_sqlite.write(
        "silver/two.sql", "-- materialized: incremental\n-- unique_key: i\n-- changes_from: raw.numbers(i)\nSELECT i FROM other.v"
    )
    models_sqlite.run()
    lake.sql("CREATE OR REPLACE VIEW other.v AS SELECT i FROM raw.numbers WHERE i < 7")
    assert models_sqlite.run() == {"silver.one": "built", "silver.two": "built"}
    assert (lake.value("SELECT n FROM silver.one"), lake.count("silver.two")) == (7, 7)
    lake.sql("CREATE OR REPLACE VIEW other.v AS SELECT i FROM raw.numbers WHERE i < 7")
    assert set(models_sqlite.run().values()) == {"up_to_date"}


def test_a_view_that_was_left_out(models_sqlite):
    """Built alone, a model has the rows of the view as the lake has it; when the view follows, so does the model."""
    lake = models_sqlite.home.open()
    numbers(lake)
    models_sqlite.write("bronze/v.sql", "SELECT i FROM raw.numbers WHERE i < 5")
    models_sqlite.write("bronze/w.sql", "SELECT i FROM v")
    models_sqlite.write("silver/one.sql", "-- materialized: table\nSELECT count(*) AS n FROM w")
    models_sqlite.run()
    models_sqlite.write("bronze/v.sql", "SELECT i FROM raw.numbers WHERE i < 7")
    assert models_sqlite.run("--select", "one") == {"silver.one": "built"}
    assert lake.value("SELECT n FROM silver.one") == 5
    assert models_sqlite.run()["silver.one"] == "built"
    assert lake.value("SELECT n FROM silver.one") == 7
    assert set(models_sqlite.run().values()) == {"up_to_date"}


def test_files_have_no_version(models_sqlite, tmp_path):
    """What reads files is built each time: nobody can say whether they are new."""
    (tmp_path / "a.csv").write_text("x\n1\n")
    models_sqlite.write("bronze/csv.sql", f"-- materialized: table\nSELECT * FROM read_csv('{tmp_path}/a.csv')")
    assert models_sqlite.run() == {"bronze.csv": "built"}
    assert models_sqlite.run() == {"bronze.csv": "built"}


@pytest.mark.parametrize(
    "words, names",
    [
        ([], "abcd"),
        (["--select", "b"], "b"),
        (["--select", "+b"], "ab"),
        (["--select", "b+"], "bd"),
        (["--select", "tag:hot"], "cd"),
        (["--select", "silver/"], "bc"),
        (["--select", "layer:gold,a"], "ad"),
        (["--select", "+gold.d", "--exclude", "tag:hot"], "ab"),
        (["--select", "silver/b.sql+"], "bd"),
    ],
)
def test_selection(tmp_path, words, names):
    """`model list` with every way to name models; it needs no lake."""
    for path, text in {
        "bronze/a.sql": "SELECT 1 AS x",
        "silver/b.sql": "SELECT * FROM a",
        "silver/c.sql": "-- tags: hot\nSELECT * FROM {{ ref('a') }}",
        "gold/d.sql": "-- tags: [hot, daily]\nWITH b AS (SELECT * FROM silver.b) SELECT * FROM b, ducklake.silver.c",
    }.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(text)
    env = {name: value for name, value in os.environ.items() if not name.startswith("DUCKLAKE")}
    code, out, err = ductstream("model", "list", tmp_path, *words, "--json", env=env)
    assert code == 0, err
    listed = [json.loads(line) for line in out.splitlines()]
    assert "".join(model["name"][-1] for model in listed) == names
    if names == "abcd":
        assert listed[3]["reads"] == ["silver.b", "silver.c"]
        assert listed[3]["sql"].endswith('(SELECT * FROM ducklake."silver"."b") SELECT * FROM b, ducklake."silver"."c"')


@pytest.mark.parametrize(
    "files, said",
    [
        ({"gold/a.sql": "SELECT * FROM b", "gold/b.sql": "SELECT * FROM a"}, "in a circle: gold.a reads gold.b reads gold.a"),
        ({"gold/a.sql": "SELECT * FROM nowhere"}, 'gold/a.sql:1: "nowhere" is no model'),
        ({"gold/a.sql": "SELECT * FROM b", "gold/b.sql": "SELECT 1", "raw/b.sql": "SELECT 1"}, '"b" is the name of several models: write schema.table'),
        ({"gold/a.sql": "\ufeff-- materialized: tabel\nSELECT 1"}, "gold/a.sql:1: materialized: view, table, incremental or snapshot"),
        ({"gold/a.sql": "SELECT *\nFROM a"}, "gold/a.sql:2: the model reads itself"),
        ({"gold/a.sql": "SELECT 1\nFORM b"}, "gold/a.sql:2: "),
        ({"gold/a.sql": "SELECT 1; SELECT 2"}, "a model is one SELECT statement, not 2"),
        ({"gold/a.sql": "DROP TABLE x"}, "a model is one SELECT statement"),
        ({"gold/a.sql": "-- materialised: table\nSELECT 1"}, 'did you mean "materialized"?'),
        ({"gold/a.sql": "-- materialized: tabel\nSELECT 1"}, "gold/a.sql:1: materialized: view, table, incremental or snapshot"),
        ({"gold/a.sql": "-- This one counts.\nSELECT 1"}, "the comment at the top is the header"),
        ({"a.sql": "SELECT 1"}, "a.sql: layer: is missing"),
        ({"gold/a.sql": "SELECT {{ refs('x') }}"}, "this expression is not known"),
        ({"gold/a.sql": "SELECT 1 {% if is_incremental() %}"}, "an if is not closed"),
        ({"gold/a.sql": "SELECT {{ var('day') }}"}, "add --var day=VALUE"),
        ({"gold/a.sql": "-- unique_key: x\n-- partition: y\nSELECT 1"}, "not both"),
        ({"gold/a.sql": "-- materialized: snapshot\nSELECT 1"}, "a snapshot needs a unique_key"),
        ({"gold/a.sql": "-- tests:\n--   - uniqe: x\nSELECT 1"}, "gold/a.sql:2: "),
        ({"gold/a.sql": "SELECT 1", "gold/x/a.sql": "SELECT 2"}, "gold.a is already made by gold/a.sql"),
        ({"gold/a b.sql": "SELECT 1"}, '"a b" is no name of a table'),
        ({"gold/a.txt": "SELECT 1"}, "there is no model"),
        ({"gold/a.sql": "SELECT 1", "gold/a.yml": "layer: tin"}, "gold/a.yml:1: layer: raw, bronze, silver or gold"),
    ],
)
def test_refused(tmp_path, files, said):
    """What is wrong is said with file and line, before anything is built."""
    for path, text in files.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    code, out, err = ductstream("model", "list", tmp_path)
    assert (code, out) == (2, "") and said in err


def test_an_input_that_is_not_there(models_sqlite):
    models_sqlite.home.open()
    models_sqlite.write("gold/a.sql", "-- materialized: table\nSELECT * FROM raw.nothing")
    models_sqlite.run(code=2)
    assert 'gold/a.sql: it reads "raw.nothing", which is neither a model nor a table of the lake' in models_sqlite.end["error"]


def test_a_run_in_the_history(models_sqlite):
    """What a command builds is a run: state, progress, log, what each model read and at which snapshot it was committed."""
    lake = models_sqlite.home.open()
    numbers(lake)
    models_sqlite.write("gold/a.sql", "-- materialized: table\nSELECT i FROM raw.numbers")
    models_sqlite.run()
    run_id = models_sqlite.end["run_id"]
    code, out, _ = ductstream("runs", "show", run_id, "--json", env=models_sqlite.env)
    run = json.loads(out)
    assert (code, run["kind"], run["state"]) == (0, "model", "RUN_STATE_SUCCEEDED")
    assert run["progress"]["done"] == run["progress"]["total"] == "1"
    model = json.loads(run["resultJson"])["models"][0]
    assert (model["rows"], model["snapshot"], model["reads"]) == (10, lake.last_snapshot(), ["raw.numbers"])
    assert "gold.a: built (it is not there), 10 rows" in ductstream("runs", "logs", run_id, env=models_sqlite.env)[1]
    extra = json.loads(lake.snapshots()[-1]["commit_extra_info"])
    assert (extra["model"], extra["run"]) == ("gold.a", run_id)


def test_docs():
    """`model docs`: the graph, and what each model says of itself."""
    code, out, err = ductstream("model", "docs", GLUCOSE, "--exclude", "stg_entries")
    assert code == 0, err
    assert "  silver.fct_glucose_readings --> gold.dim_date\n" in out and "## bronze.stg_entries" not in out
    assert "| glucose_category | by the usual limits | accepted_values |" in out
    assert "Tests: unique(reading_date), not_null(reading_date, readings), tests/days_add_up.sql.\n" in out


def test_the_page_is_true(sqlite_lake, tmp_path):
    """docs/models.md: its commands and what they say."""
    models = Models(tmp_path, sqlite_lake, GLUCOSE)
    entries(models.home.open(), ("a", 100, 0))
    page = (ROOT / "docs/models.md").read_text()
    for block in (block for block in page.split("```console")[1:] if "examples/models" in block):
        for command, said in re.findall(r"\$ ductstream (model .+)\n((?:[^$`].*\n)+)", block.split("```")[0]):
            code, out, err = ductstream(*command.replace("examples", str(ROOT / "examples")).split(), env=models.env)
            assert code == 0, err

            def plain(text):
                return re.sub(r"\d+(\.\d+)?", "N", text)

            missing = [line for line in said.splitlines() if plain(line) not in plain(out + err).splitlines()]
            assert not missing, (command, out, err)


def test_from_the_service(models_sqlite, tmp_path):
    """A run of kind model, submitted by the API's own method and done by a worker; the lake is that of the worker's environment."""
    numbers(models_sqlite.home.open())
    models_sqlite.write("gold/a.sql", "-- materialized: table\nSELECT i FROM raw.numbers")
    runs = Runs(tmp_path, models_sqlite.env)
    try:
        runs.worker()
        code, out, err = ductstream(
            "runs", "submit", "model", "--input", json.dumps({"models": str(models_sqlite.folder), "select": ["a"]}), "--json", env=models_sqlite.env
        )
        assert code == 0, err
        done = runs.wait(json.loads(out)["id"], timeout_s=60)
        assert done["state"] == "succeeded" and json.loads(done["result"])["built"] == 1
        for field, value in {"models": "relative", "command": "drop", "parallel": 0, "vars": {"a": 1}, "select": "a"}.items():
            text = json.dumps({"models": "/m", field: value})
            code, _, err = ductstream("runs", "submit", "model", "--input", text, env=models_sqlite.env)
            assert code == 2 and f"input_json.{field}" in err
    finally:
        runs.close()


class Listener(http.server.BaseHTTPRequestHandler):
    """Keeps the events that are posted to it."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.events.append((self.path, self.headers["Authorization"], json.loads(body)))
        self.send_response(201)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_open_lineage(models_sqlite, tmp_path):
    """Events of each model that is built: to an endpoint, to a file, to nobody; who is away fails nothing."""
    numbers(models_sqlite.home.open())
    models_sqlite.write("bronze/a.sql", "-- materialized: table\nSELECT i FROM raw.numbers")
    models_sqlite.write("gold/b.sql", "-- materialized: table\n-- tests:\n--   - not_null: i\nSELECT i FROM a")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Listener) as server:
        server.events = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        models_sqlite.run("--parallel", "1", OPENLINEAGE_URL=url, OPENLINEAGE_API_KEY="key-hidden", OPENLINEAGE_NAMESPACE="shop")
        server.shutdown()
    assert {(path, who) for path, who, _ in server.events} == {("/api/v1/lineage", "Bearer key-hidden")}
    events = [event for _, _, event in server.events]
    assert [(e["eventType"], e["job"]["name"]) for e in events] == [
        ("START", "model"),
        ("START", "model.bronze.a"),
        ("COMPLETE", "model.bronze.a"),
        ("START", "model.gold.b"),
        ("COMPLETE", "model.gold.b"),
        ("COMPLETE", "model"),
    ]
    whole, last = events[0], events[-2]
    assert whole["run"]["runId"] == models_sqlite.end["run_id"]
    assert last["job"]["namespace"] == "shop" and last["run"]["facets"]["parent"]["run"]["runId"] == models_sqlite.end["run_id"]
    assert [d["name"] for d in last["inputs"]] == ["ducklake.bronze.a"]
    assert last["outputs"][0]["name"] == "ducklake.gold.b"
    assert last["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 10
    assert events[3]["run"]["runId"] == last["run"]["runId"] != events[1]["run"]["runId"]

    models_sqlite.write("gold/b.sql", "-- materialized: table\n-- tests:\n--   - not_null: i\nSELECT NULL AS i FROM a")
    log = tmp_path / "events.jsonl"
    models_sqlite.run(code=3, OPENLINEAGE__TRANSPORT__TYPE="file", OPENLINEAGE__TRANSPORT__LOG_FILE_PATH=str(log))
    failed = json.loads(log.read_text().splitlines()[-2])
    assert failed["eventType"] == "FAIL" and "not_null(i) fails" in failed["run"]["facets"]["errorMessage"]["message"]
    models_sqlite.write("gold/b.sql", "-- materialized: table\nSELECT i FROM a")
    assert models_sqlite.run(OPENLINEAGE_URL="http://127.0.0.1:9")["gold.b"] == "built"
    models_sqlite.run("--full-refresh", OPENLINEAGE_URL=url, OPENLINEAGE_DISABLED="true")
    assert len(server.events) == 6
    models_sqlite.run(code=2, OPENLINEAGE_URL="ftp://x")


def test_on_object_storage(s3, bucket, tmp_path):
    """The lake's files in S3: models are read and written there."""
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", f"s3://{bucket}/lake", s3=s3)
    try:
        models = Models(tmp_path, home)
        lake = home.open()
        numbers(lake, 1000)
        models.env.update(
            DUCKLAKE_S3_ENDPOINT=s3.endpoint, DUCKLAKE_S3_ACCESS_KEY=s3.access_key, DUCKLAKE_S3_SECRET_KEY=s3.secret_key
        )
        models.write("gold/a.sql", "-- materialized: table\nSELECT i, part FROM raw.numbers")
        assert models.run() == {"gold.a": "built"} and lake.count("gold.a") == 1000
        del models.env["DUCKLAKE_DATA_PATH"]  # the catalog knows it
        assert models.run("--full-refresh") == {"gold.a": "built"}
        models.env["DUCKLAKE_BUCKET"] = "somebody-elses"  # where new lakes are made; this one is there
        assert models.run("--full-refresh") == {"gold.a": "built"}
    finally:
        home.close()


def test_a_new_lake_in_the_bucket(s3, bucket, tmp_path):
    """DUCKLAKE_BUCKET says where it is made when no data path does."""
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", f"s3://{bucket}/", s3=s3)
    try:
        models = Models(tmp_path, home)
        del models.env["DUCKLAKE_DATA_PATH"]
        models.env.update(
            DUCKLAKE_S3_ENDPOINT=s3.endpoint, DUCKLAKE_S3_ACCESS_KEY=s3.access_key, DUCKLAKE_S3_SECRET_KEY=s3.secret_key, DUCKLAKE_BUCKET=bucket
        )
        models.write("gold/a.sql", "-- materialized: table\nSELECT i FROM range(1000) r(i)")
        assert models.run() == {"gold.a": "built"}
        assert [key for key in s3.keys(bucket) if key.startswith("gold/a/ducklake-")]
        assert home.open().count("gold.a") == 1000
        assert models.run("--full-refresh") == {"gold.a": "built"}
    finally:
        home.close()


def test_people_see_lines(models_sqlite):
    numbers(models_sqlite.home.open())
    models_sqlite.write("gold/a.sql", "-- materialized: table\nSELECT i FROM raw.numbers")
    code, out, err = ductstream("model", "run", models_sqlite.folder, env=models_sqlite.env)
    assert (code, out) == (0, "1 built\n")
    assert "gold.a: built (it is not there), 10 rows, snapshot " in err
    assert ductstream("model", "run", models_sqlite.folder, env=models_sqlite.env)[1] == "1 up to date\n"


def test_no_secret_anywhere(postgres_lake, tmp_path):
    """A password in the catalog's connection string is in no record, log or message."""
    models = Models(tmp_path, postgres_lake)
    numbers(models.home.open())
    models.write("gold/a.sql", "-- materialized: table\nSELECT i, (SELECT string_agg(path, ',') FROM duckdb_databases()) AS p FROM raw.numbers")
    secret = models.env["DUCKLAKE_CATALOG"] + " password=hunter2-hidden"
    got, out, err = models.call("run", "--catalog", secret)
    assert got == 0, err
    assert b"hunter2" not in b"".join(p.read_bytes() for p in Path(tmp_path).glob("state.db*")) + (json.dumps(out) + err).encode()
    assert "hunter2" not in str(models.home.open().rows("gold.a"))
    away = "postgres:host=/nowhere user=u password=hunter2-hidden dbname=d"
    got, out, err = models.call("run", "--catalog", away, DUCKLAKE_RETRY_WAIT_MS="1", DUCKLAKE_RETRY_BACKOFF="1")
    assert got == 4 and "hunter2" not in json.dumps(out) + err
    for wrong in (away.replace("password", "sslpassword"), away.replace("postgres:", "postgre:")):
        got, out, err = models.call("run", "--catalog", wrong)
        assert got == 2 and "hunter2" not in json.dumps(out) + err
    assert b"hunter2" not in b"".join(p.read_bytes() for p in Path(tmp_path).glob("state.db*"))


def test_files_are_partitioned(models_sqlite):
    """partitioned_by: the files of the table, by which official clients prune."""
    lake = models_sqlite.home.open()
    numbers(lake, 3000)
    models_sqlite.write("gold/p.sql", "-- materialized: table\n-- partitioned_by: part\nSELECT i, part FROM raw.numbers")
    models_sqlite.run()
    assert lake.count("gold.p") == 3000
    assert lake.value("SELECT count(*) FROM ducklake_list_files('lake', 'p', schema => 'gold')") == 3


# --- what is remembered


def test_the_same_rows_are_computed_once(models):
    """A build that gives the same rows makes no snapshot, and is remembered all the same."""
    lake = models.home.open()
    numbers(lake)
    models.write("gold/small.sql", "-- materialized: incremental\n-- unique_key: i\nSELECT i FROM raw.numbers WHERE i < 5")
    models.write("gold/after.sql", "-- materialized: table\nSELECT count(*) AS n FROM small")
    models.run()
    lake.sql("INSERT INTO raw.numbers VALUES (100, 1)")
    head = lake.last_snapshot()
    assert models.run() == {"gold.small": "unchanged", "gold.after": "up_to_date"}
    assert models.run() == {"gold.small": "up_to_date", "gold.after": "up_to_date"}
    assert lake.last_snapshot() == head
    lake.sql("DELETE FROM gold.small WHERE i = 1")  # what is remembered does not hide what others do
    assert models.run()["gold.small"] == "built" and lake.count("gold.small") == 5


def test_expired_snapshots_build_nothing(models):
    """Records outlive the snapshots that they were committed with; changes that nobody can know of any more count as changes."""
    lake = models.home.open()
    numbers(lake)
    models.write("bronze/v.sql", "SELECT i, part FROM raw.numbers")
    models.write("silver/t.sql", "-- materialized: table\nSELECT * FROM v")
    models.write("silver/k.sql", "-- materialized: incremental\n-- unique_key: i\n-- changes_from: raw.numbers(i)\nSELECT i, part FROM v")
    models.write("gold/s.sql", "-- materialized: snapshot\n-- unique_key: i\nSELECT i, part FROM k")
    assert set(models.run().values()) == {"built"}

    def expire():
        head = lake.last_snapshot()
        lake.sql(f"CALL ducklake_expire_snapshots('lake', versions => {list(range(head))})")
        assert lake.sql("SELECT count(*) FROM lake.snapshots()") == [(1,)]

    expire()
    assert set(models.run().values()) == {"up_to_date"}
    lake.sql("INSERT INTO raw.numbers VALUES (100, 1)")
    assert models.run()["silver.k"] == "built" and lake.count("gold.s") == 11
    expire()
    assert set(models.run().values()) == {"up_to_date"}
    lake.sql("INSERT INTO raw.numbers VALUES (101, 1)")
    lake.sql("CREATE TABLE raw.other AS SELECT 1 AS a")
    expire()  # with the change that no run has seen
    assert models.run() == {"bronze.v": "up_to_date", "silver.t": "built", "silver.k": "built", "gold.s": "built"}
    assert lake.count("gold.s") == 12


def test_two_builds_at_once_leave_each_row_once(models, tmp_path):
    """The same models in two folders are built side by side; the extension commits the new rows of both: the next run sees that, and mends it."""
    lake = models.home.open()
    numbers(lake, 2000)
    text = "-- materialized: incremental\n-- unique_key: i\nSELECT i, part FROM raw.numbers"
    models.write("gold/k.sql", text)
    models.run()
    other = Models(tmp_path / "other", models.home)
    other.write("gold/k.sql", text)
    other.env["DUCKDB_TEMP_DIRECTORY"] = str(tmp_path)
    lake.sql("INSERT INTO raw.numbers SELECT i, 1 FROM range(2000, 4000) t(i)")
    pause = Pause(tmp_path, "model-checked")
    first = threading.Thread(target=models.call, args=("run",), kwargs=pause.env)
    first.start()
    try:
        wait_until(lambda: pause.reached, 60, "the first build")
        other.call("run", DUCKLAKE_RETRY_COUNT="3")
    finally:
        pause.release()
        first.join()
    other.run()
    models.run()
    assert lake.sql("SELECT count(*), count(DISTINCT i) FROM gold.k") == [(4000, 4000)]
    assert set(models.run().values()) == {"up_to_date"}


def test_one_build_of_a_folder_at_a_time(models_sqlite):
    """Also when it is the service that is asked twice: runs of kind model have the key of their folder and lake."""
    numbers(models_sqlite.home.open())
    models_sqlite.write("gold/a.sql", "-- materialized: table\nSELECT i FROM raw.numbers")
    ids = set()
    for folder in models_sqlite.folder, models_sqlite.folder / "gold/..":
        text = json.dumps({"models": str(folder)})
        code, out, err = ductstream("runs", "submit", "model", "--input", text, "--json", env=models_sqlite.env)
        assert code == 0, err
        ids.add(json.loads(out)["id"])
    assert len(ids) == 1


# --- names


NAMES = [
    ("WITH one AS (SELECT i + 1 AS i FROM one) SELECT * FROM one", [(2,)]),  # a table, and behind it the query of its name
    ("WITH x AS (SELECT * FROM one), one AS (SELECT 99 AS i) SELECT * FROM x", [(1,)]),
    ("WITH RECURSIVE one AS (SELECT 5 AS i UNION ALL SELECT i + 1 FROM one WHERE i < 7) SELECT * FROM one", [(5,), (6,), (7,)]),
    ("WITH RECURSIVE x AS (SELECT i FROM one UNION ALL SELECT i + 1 FROM x WHERE i < 3) SELECT * FROM x", [(1,), (2,), (3,)]),
    ("SELECT q.i FROM (WITH one AS (SELECT 8 AS i) SELECT * FROM one) q, one", [(8,)]),
    ("SELECT i FROM \"one\" WHERE 'FROM nothing' <> '{{' -- FROM nothing", [(1,)]),
    ("SELECT i /* {{ FROM nothing */ FROM OnE;\n-- done\n", [(1,)]),
    ("FROM one", [(1,)]),
    ("SELECT i FROM one UNION ALL BY NAME SELECT max(i) AS i FROM bronze.one", [(1,), (1,)]),
    ("SELECT (SELECT max(i) FROM one) AS i, ';' AS \"a b\" WHERE EXISTS (FROM one)", [(1, ";")]),
]


def test_names_mean_what_they_mean_to_duckdb(models_sqlite):
    """Names of WITH queries, in literals and in comments are none of the lake's tables."""
    lake = models_sqlite.home.open()
    models_sqlite.write("bronze/one.sql", "SELECT 1 AS i")
    for n, (sql, _) in enumerate(NAMES):
        for kind in "view", "table":
            models_sqlite.write(f"gold/{kind}_{n}.sql", f"-- materialized: {kind}\n\n{sql}")
    models_sqlite.run()
    for n, (sql, rows) in enumerate(NAMES):
        for kind in "view", "table":
            assert sorted(lake.sql(f"SELECT * FROM gold.{kind}_{n}")) == rows, sql
    assert set(models_sqlite.run().values()) == {"up_to_date"}


def test_names_in_other_letters(models_sqlite):
    """Capital or not, it is the same table, for its readers too; what a removed model has left stays, and goes on when the model is back."""
    lake = models_sqlite.home.open()
    numbers(lake, 3)
    kinds = {"v": "view", "t": "table", "i": "incremental\n-- unique_key: i", "s": "snapshot\n-- unique_key: i"}
    texts = {name: f"-- materialized: {kind}\nSELECT i, part FROM raw.numbers" for name, kind in kinds.items()}
    for name, text in texts.items():
        models_sqlite.write(f"gold/{name}.sql", text)
        models_sqlite.write(f"gold/sum_{name}.sql", f"-- materialized: table\nSELECT sum(i) AS s FROM {name.upper()}")
    models_sqlite.run()
    for name in kinds:
        (models_sqlite.folder / f"gold/{name}.sql").rename(models_sqlite.folder / f"gold/{name.upper()}.sql")
    models_sqlite.run()
    assert set(models_sqlite.run().values()) == {"up_to_date"}
    lake.sql("INSERT INTO raw.numbers VALUES (10, 1)")
    models_sqlite.run()
    for name in kinds:
        assert lake.sql(f"SELECT (SELECT count(*) FROM gold.{name}), s FROM gold.sum_{name}") == [(4, 13)], name
        (models_sqlite.folder / f"gold/{name.upper()}.sql").unlink()
        (models_sqlite.folder / f"gold/sum_{name}.sql").unlink()
    models_sqlite.write("gold/other.sql", "SELECT 1 AS s")
    models_sqlite.run()
    lake.sql("INSERT INTO raw.numbers VALUES (11, 1)")
    assert {lake.count(f"gold.{name}") for name in kinds if name != "v"} == {4}
    for name, text in texts.items():
        models_sqlite.write(f"gold/{name}.sql", text)
    models_sqlite.run()
    for name in kinds:
        assert lake.sql(f"SELECT count(*), max(i) FROM gold.{name}") == [(5, 11)], name
    models_sqlite.write("silver/x.sql", "-- schema: GOLD\n-- name: T\nSELECT 1 AS i")
    assert "GOLD.T is already made by gold/t.sql" in models_sqlite.fails(2)


def test_a_file_that_changes_during_the_build(models_sqlite, tmp_path):
    """What is built is what was read; the next run builds what it has become."""
    lake = models_sqlite.home.open()
    numbers(lake, 3)
    models_sqlite.write("gold/a.sql", "-- materialized: table\nSELECT 1 AS v, i FROM raw.numbers")
    models_sqlite.write("gold/b.sql", "-- materialized: table\nSELECT min(v) AS v FROM a")
    pause = Pause(tmp_path, "model-checked")
    first = threading.Thread(target=models_sqlite.call, args=("run",), kwargs=pause.env)
    first.start()
    try:
        wait_until(lambda: pause.reached, 60, "the first build")
        models_sqlite.write("gold/a.sql", "-- materialized: table\nSELECT 2 AS v, i FROM raw.numbers")
        models_sqlite.write("gold/b.sql", "no query any more")
    finally:
        pause.release()
        first.join()
    assert lake.sql("SELECT v FROM gold.b") == [(1,)]
    models_sqlite.write("gold/b.sql", "-- materialized: table\nSELECT max(v) AS v FROM a")
    assert models_sqlite.run() == {"gold.a": "built", "gold.b": "built"}
    assert lake.sql("SELECT v FROM gold.b") == [(2,)]
