"""The command line: help, refusals, exit codes, machine-readable output, and that no secret is ever printed."""

import errno
import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import yaml

from lib.child import popen
from lib.flow import EXIT_CANCELLED, EXIT_CONFIG, EXIT_DONE
from lib.paths import program
from lib.wait import wait_until

SECRET = "hunter2-hidden"
COMMANDS = ["run", "check", "options", "health", "lake orphans", "lake snapshots", "lake verify", "model run", "model test", "model list", "model docs"]
COMMANDS += ["model dbt-profile", "version", "help"]


def ductstream(*words, **environment):
    """(exit code, stdout, stderr); the secret must be in neither."""
    done = subprocess.run(
        [program(), *words],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "LC_ALL": "C.UTF-8", **environment},
    )
    assert SECRET not in done.stdout + done.stderr
    return done.returncode, done.stdout, done.stderr


def flow_file(folder, source=None, destination=None, **top):
    path = folder / "flow.yaml"
    content = {
        "name": "shop",
        "source": {"type": "postgres", "options": {"slot": "shop", "publication": "shop", **(source or {})}},
        "destinations": [
            {
                "name": "lake",
                "type": "ducklake",
                "options": {"catalog": f"sqlite:{folder}/c.sqlite", "data_path": f"{folder}/d", **(destination or {})},
            }
        ],
        **top,
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return str(path)


def test_help_fits_a_screen():
    code, overview, _ = ductstream("help")
    assert code == EXIT_DONE
    assert overview == ductstream("--help")[1] == ductstream("-h")[1]
    for name in COMMANDS:
        assert all(word in overview.split() for word in name.split())
        code, text, _ = ductstream("help", *name.split())
        assert code == EXIT_DONE
        assert text.startswith(f"usage: ductstream {name}")
        assert text == ductstream(*name.split(), "--help")[1]
        assert text == ductstream(*name.split(), "-h")[1]
    for text in [overview] + [ductstream("help", *name.split())[1] for name in COMMANDS]:
        assert len(text.splitlines()) <= 24
        assert max(map(len, text.splitlines())) <= 80


@pytest.mark.parametrize(
    "words, message",
    [
        (["rnu"], 'unknown command "rnu": did you mean "run"?'),
        (["lake", "verfy"], 'unknown command "lake verfy": did you mean "lake verify"?'),
        (["lak", "verify"], 'unknown command "lak verify": did you mean "lake verify"?'),
        (["lake"], '"lake" is not a whole command: "lake copy-again" or "lake orphans" or "lake snapshots" or "lake verify"'),
        (["nothing"], 'unknown command "nothing": `ductstream help` lists the commands'),
        (["help", "chekc"], 'unknown command "chekc": did you mean "check"?'),
        (["run"], "an argument is missing: a flow file expected"),
        (["run", "a", "b"], "one argument too many: a flow file expected"),
        (["version", "a"], "this command takes no arguments"),
        (["run", "a", "--until-cought-up"], 'unknown flag "--until-cought-up": did you mean "--until-caught-up"?'),
        (["run", "a", f"-passwd={SECRET}"], 'unknown flag "-passwd": add --help for the ones this command takes'),
        (["run", "a", "---quiet"], 'unknown flag "---quiet": did you mean "--quiet"?'),
        (["run", "a", "--quiet=1"], 'flag "--quiet" takes no value'),
        (["run", "a", "--log-level"], 'flag "--log-level" needs a value'),
        (["run", "a", "--log-level=loud"], 'flag "--log-level": "loud" is none of debug, info, warn, error'),
        (["run", "/nowhere/flow.yaml"], "/nowhere/flow.yaml: cannot be opened: No such file or directory"),
        (["options", "postgrs"], 'unknown connector "postgrs": did you mean "postgres"?'),
        (["lake", "snapshots"], "name a flow file, or a catalog with --catalog"),
        (["lake", "snapshots", "--catalog", "x", "--limit", "0"], 'flag "--limit": "0" is outside 1..1000000'),
        (["lake", "snapshots", "--limit=1", "--limit=2"], 'flag "--limit" is given twice'),
        (["lake", "verify", "a", "--tables", "a,,b"], 'flag "--tables": a name between commas is empty'),
        (["lake", "verify", "a", "--timeout", "5"], 'flag "--timeout": "5" is not a duration such as 30s or 5m'),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_refusals(words, message):
    assert ductstream(*words) == (EXIT_CONFIG, "", f"ductstream: error: {message}\n")
    code, out, err = ductstream(*words, "-json")
    if "needs a value" not in message:
        assert (code, out) == (EXIT_CONFIG, "")
        assert json.loads(err) == {"level": "error", "class": "config", "message": message}


def test_flags_in_any_form_and_order(tmp_path):
    missing = "/nowhere/flow.yaml: cannot be opened"
    for words in (
        ["run", "--until-caught-up", "/nowhere/flow.yaml"],
        ["run", "/nowhere/flow.yaml", "-until-caught-up", "-log-level", "debug"],
        ["run", "--log-level=debug", "--", "/nowhere/flow.yaml"],
    ):
        assert missing in ductstream(*words)[2]
    assert "-x: cannot be opened" in ductstream("run", "--", "-x")[2]


def test_version_health_and_options():
    code, text, _ = ductstream("version")
    assert code == EXIT_DONE and text.startswith("ductstream ")
    assert json.loads(ductstream("version", "--json")[1])["version"] == text.split()[1]
    assert ductstream("--version")[1] == text

    code, text, _ = ductstream("health", "--json")
    parts = {part["part"]: part for part in map(json.loads, text.splitlines())}
    assert code == EXIT_DONE
    assert parts["libduckdb"]["version"] == "v1.5.5" and parts["libduckdb"]["path"].endswith("libduckdb.so")
    assert {"ductstream", "libpq", "sqlite", "extension ducklake"} <= set(parts)
    missing = {p["part"]: p for p in map(json.loads, ductstream("health", "-json", DUCTSTREAM_EXTENSIONS="/nowhere")[1].splitlines())}
    assert missing["extension ducklake"]["version"] == "missing" and missing["extension ducklake"]["problem"]

    code, text, _ = ductstream("options", "postgres")
    assert code == EXIT_DONE and "  slot (text, required)\n" in text
    assert max(map(len, text.splitlines()[1:])) <= 80
    [only] = json.loads(ductstream("options", "destination/ducklake", "--json")[1])
    assert (only["of"], only["name"]) == ("destination", "ducklake")
    assert {"catalog", "data_path"} <= {option["name"] for option in only["options"]}


# The run path of the program is not looked at: no libduckdb.
BARE = ("/lib64/ld-linux-x86-64.so.2", "--inhibit-rpath", ":")


def test_without_libduckdb(database, sqlite_lake, make_flow, tmp_path):
    """It is opened by its first use: what does not need it goes on, and what does says what is missing and where it was looked for."""

    def bare(*words, **environment):
        environment = {key: str(value) for key, value in environment.items()}
        command = [*BARE, program(), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, **environment})
        return done.returncode, done.stdout, done.stderr

    missing = "libduckdb.so cannot be loaded: libduckdb.so: cannot open shared object file: No such file or directory; looked for in "
    assert bare("version") == ductstream("version")
    code, out, _ = bare("health", "--json", LD_LIBRARY_PATH=tmp_path)
    [duckdb] = [part for part in map(json.loads, out.splitlines()) if part["part"] == "libduckdb"]
    assert code == EXIT_CONFIG and duckdb["problem"].startswith(f'{missing}"{tmp_path}", "/'), out
    assert duckdb["problem"].endswith(": run tools/setup, or set LD_LIBRARY_PATH to the folder that has it")

    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, i::text FROM generate_series(1, 2000) i")
    flow = make_flow(database, sqlite_lake)
    code, out, _ = bare("check", flow.path)
    assert code == EXIT_CONFIG and f"✗ {missing}" in out and "it will not run" in out, out
    assert missing not in ductstream("check", str(flow.path))[1]

    flow.start("--until-caught-up", wrapper=BARE).expect(EXIT_DONE)  # plain rows do not need it
    database.sql("UPDATE t SET v = 'new' WHERE id < 100; DELETE FROM t WHERE id > 1900")
    flow.start("--until-caught-up", wrapper=BARE).expect(EXIT_DONE)
    assert sqlite_lake.open().count("public.t") == 1900
    code, out, err = bare("lake", "verify", flow.path)
    assert code == EXIT_CONFIG and missing in out + err, out + err
    assert ductstream("lake", "verify", str(flow.path))[0] == EXIT_DONE


def test_a_libduckdb_of_another_kind(tmp_path):
    library = tmp_path / "libduckdb.so"
    for content, problem in (
        (b"", f"libduckdb.so cannot be loaded: {library}: file too short; looked for in "),
        (Path("/lib/x86_64-linux-gnu/libz.so.1").read_bytes(), f'"{library}" is of another version: it has no function duckdb_'),
    ):
        library.write_bytes(content)
        command = [*BARE, program(), "health"]
        done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "LD_LIBRARY_PATH": str(tmp_path)})
        assert done.returncode == EXIT_CONFIG and f"  ! {problem}" in done.stdout, done.stdout


def test_flow_file_errors_name_the_place_and_hide_secrets(tmp_path):
    dsn = f"host=/nowhere password={SECRET}"
    cases = [
        ({"source": {"dsn": dsn, "slto": "x"}}, 'unknown option "slto": did you mean "slot"?'),
        ({"source": {"dsn": [dsn]}}, "the value (hidden) must be one value"),
        ({"source": {"dsn": {"password": SECRET}}}, "the value (hidden) must be one value"),
        ({"source": {"dsn": dsn, "batch_size": 0}}, '"0" is outside 1..10000000'),
        ({"source": {"dsn": dsn, "snapshot": f"postgres://u:{SECRET}@h/d"}}, "the value (hidden) is not one of"),
        ({"source": {"dsn": dsn}, "destination": {"catalog": f"postgres:password={SECRET} port=x", "no_key": "?"}}, "no_key"),
    ]
    for arguments, message in cases:
        path = flow_file(tmp_path, **arguments)
        for command in ("run", "check"):
            code, out, err = ductstream(command, path)
            assert (code, out) == (EXIT_CONFIG, "") and message in err and path in err
    path = flow_file(tmp_path, {"dsn": "${DUCT_TEST_MISSING}"})
    assert 'environment variable "DUCT_TEST_MISSING" is not set' in ductstream("run", path)[2]


@pytest.mark.parametrize(
    "dsn",
    [
        f"host=/nowhere port=1 user=me dbname=d password={SECRET}",
        f"postgresql://me:{SECRET}@127.0.0.1:1/d?connect_timeout=1",
        f"postgresql://me:{SECRET}@127.0.0.1:1/d?nonsense=1",
        f"host=/nowhere password='{SECRET}",
        f"host=/nowhere passwrod={SECRET}",
    ],
    ids=["pairs", "uri", "uri-unknown", "open-quote", "mistyped"],
)
def test_secrets_stay_hidden_when_servers_refuse(tmp_path, dsn):
    for arguments in (
        {"source": {"dsn": dsn}},
        {"source": {"dsn": "host=/nowhere"}, "destination": {"catalog": f"postgres:{dsn}"}},
    ):
        path = flow_file(tmp_path, config={"give_up_after": "1s"}, **arguments)
        for words in (["check"], ["lake", "snapshots"], ["lake", "verify"], ["run", "--until-caught-up"]):
            for more in ([], ["--json"]):
                code, out, err = ductstream(*words, path, *more, *(["--log-level=debug"] if words == ["run"] else []))
                assert code != EXIT_DONE or words == ["lake", "snapshots"], out + err
    code, out, err = ductstream("lake", "snapshots", "--catalog", f"postgres:{dsn}")
    assert code != EXIT_DONE and err.count("\n") == 1


def test_check_reports_findings(tmp_path, database, sqlite_lake):
    database.sql("CREATE TABLE t (id int PRIMARY KEY)")
    path = flow_file(tmp_path, {"dsn": database.dsn})
    code, out, err = ductstream("check", path)
    assert code == EXIT_DONE and err == "", out + err
    assert out.startswith("source postgres (postgres)\n  ✓ ") and "\ndestination lake (ducklake)\n" in out
    assert out.splitlines()[-1].startswith('flow "shop": ')
    code, ascii_out, _ = ductstream("check", path, LC_ALL="C")
    assert "\n  + " in ascii_out and "✓" not in ascii_out and "→" not in ascii_out

    lines = [json.loads(line) for line in ductstream("check", path, "--json")[1].splitlines()]
    assert {line["of"] for line in lines[:-1]} == {"source", "destination"}
    assert lines[-1]["summary"] is True and lines[-1]["errors"] == 0
    assert lines[-1]["ok"] == sum(line["finding"] == "ok" for line in lines[:-1])
    assert database.query("SELECT count(*) FROM pg_publication") == [(0,)], "check changes nothing"

    path = flow_file(tmp_path, {"dsn": database.dsn + "_missing"})
    code, out, err = ductstream("check", path)
    assert code == EXIT_CONFIG and "  ✗ " in out and "it will not run" in out and err == ""


def findings(path):
    """(exit code, [level: what, ...]) of `ductstream check`."""
    code, out, _ = ductstream("check", path, "--json")
    return code, [f"{line['finding']}: {line['what']}" for line in map(json.loads, out.splitlines()) if "finding" in line]


def test_check_looks_at_the_tables_that_the_first_start_publishes(tmp_path, database):
    """Those of publication_tables and publication_schemas, or all of them; partitioned ones by their leaves, or by their root."""
    database.sql(
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE keyless (v int); CREATE SCHEMA app; CREATE TABLE app.deferred"
        " (id int PRIMARY KEY DEFERRABLE, \"ID\" int); CREATE TABLE app.parts (id int PRIMARY KEY) PARTITION BY LIST (id);"
        " CREATE TABLE app.part PARTITION OF app.parts DEFAULT; CREATE UNLOGGED TABLE app.passing (v int)"
    )
    dsn = {"dsn": database.dsn}
    code, found = findings(flow_file(tmp_path, dsn))
    assert code == EXIT_CONFIG and 'ok: publication "shop" will have 4 tables, 4 of them can be read' in found, found
    keyless = "error: public.keyless: has no replica identity: UPDATE and DELETE of the application fail while it is published"
    assert keyless in found

    code, found = findings(flow_file(tmp_path, {**dsn, "publication_tables": "t"}))
    assert code == EXIT_DONE and 'ok: publication "shop" will have 1 tables, 1 of them can be read' in found, found

    schema = {**dsn, "publication_tables": "t", "publication_schemas": "app"}
    code, found = findings(flow_file(tmp_path, schema))
    assert code == EXIT_CONFIG and 'ok: publication "shop" will have 3 tables, 3 of them can be read' in found, found
    assert any(line.startswith("warn: app.deferred: its primary key is deferrable") for line in found)
    assert any(line.startswith("warn: app.deferred.ID: another column's name differs only in case") for line in found)
    assert keyless not in found and not any("by its root" in line for line in found)
    code, found = findings(flow_file(tmp_path, {**schema, "publish_via_partition_root": True}))
    assert any(line.startswith("warn: app.parts: is published by its root") for line in found)

    code, found = findings(flow_file(tmp_path, {**dsn, "publication_tables": "t,nothing"}))
    assert code == EXIT_CONFIG and 'error: publication_tables: there is no table "nothing" (write schema.table)' in found
    code, found = findings(flow_file(tmp_path, {**dsn, "publication_schemas": "nothing"}))
    assert code == EXIT_CONFIG and 'error: publication "shop" will have 0 tables, 0 of them can be read' in found
    assert database.query("SELECT count(*) FROM pg_publication") == [(0,)]


def test_check_names_what_nothing_uses(tmp_path, database):
    database.sql("CREATE TABLE t (id int PRIMARY KEY)")
    path = flow_file(tmp_path, {"dsn": database.dsn})
    assert "parallelism" not in ductstream("check", path)[1]
    with open(path, "a") as file:
        file.write("wire_format: arrow\nparallelism: 4\n")
    code, out, _ = ductstream("check", path)
    assert code == EXIT_DONE and out.startswith(f"flow shop ({path})\n  ! wire_format "), out
    assert "destinations are written at the same time, and this flow has one" in out and "snapshot_workers" in out


def test_snapshots_of_a_lake(database, sqlite_lake, make_flow):
    database.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    flow = make_flow(database, sqlite_lake)
    flow.run_until_caught_up()
    code, out, _ = ductstream("lake", "snapshots", str(flow.path), "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == EXIT_DONE
    ids = [row["snapshot_id"] for row in rows]
    assert ids == sorted(ids, reverse=True) and ids[-1] == 0
    assert rows[0]["author"] == "ductstream" and "inserted_into_table" in rows[0]["changes"]
    assert json.loads(rows[0]["extra"])["flow"] == "shop"
    one = ductstream("lake", "snapshots", "--catalog", sqlite_lake.catalog, "--limit", "1", "--json")[1]
    assert [json.loads(line)["snapshot_id"] for line in one.splitlines()] == ids[:1]
    assert ductstream("lake", "snapshots", str(flow.path))[1].split()[0] == str(ids[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda s: s.name)
def test_first_signal_stops_in_order(database, sqlite_lake, make_flow, number):
    database.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    flow = make_flow(database, sqlite_lake)
    run = flow.start("--json")
    confirmed = "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'shop' AND active"
    run.wait_for(lambda: database.query(confirmed), what="streaming")
    database.sql("INSERT INTO t VALUES (2)")
    run.wait_for(lambda: '"streaming"' in run.stdout or '"commit' in run.stdout or len(run.json_lines()) > 1, what="progress")
    run.signal(number)
    assert run.wait(60) == EXIT_DONE, run.describe()
    assert all("{" == line[0] for line in run.stderr.splitlines())
    assert '"event":"stopping"' in run.stderr


def test_a_stop_while_the_program_starts(database, sqlite_lake, make_flow):
    """The flow file is a pipe: the signal comes when nothing but main() has begun. Nothing is made then."""
    flow = make_flow(database, sqlite_lake)
    pipe = flow.path.with_suffix(".pipe")
    os.mkfifo(pipe)
    process = popen([program(), "run", pipe], stderr=subprocess.PIPE, text=True)

    def reader():
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            assert error.errno == errno.ENXIO, error

    descriptor = wait_until(reader, 30, "the program to read its flow file")
    process.send_signal(signal.SIGTERM)
    os.write(descriptor, flow.path.read_bytes())
    os.close(descriptor)
    _, err = process.communicate(timeout=30)
    assert process.returncode == EXIT_DONE, (process.returncode, err)
    assert "stopping" in err
    assert not database.query("SELECT 1 FROM pg_replication_slots WHERE slot_name = 'shop'")
    assert not Path(sqlite_lake.catalog.removeprefix("sqlite:")).exists()


def test_a_hangup_that_nohup_ignores(database, sqlite_lake, make_flow):
    database.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    flow = make_flow(database, sqlite_lake)
    run = flow.start(wrapper=("nohup",))
    active = "SELECT 1 FROM pg_replication_slots WHERE slot_name = 'shop' AND active"
    run.wait_for(lambda: database.query(active), what="streaming")
    run.signal(signal.SIGHUP)
    database.sql("INSERT INTO t VALUES (2)")
    lake = sqlite_lake.open()
    run.wait_for(lambda: "public.t" in lake.tables() and lake.count("public.t") == 2, what="the row after the hangup")
    assert run.terminate() == EXIT_DONE, run.describe()
    assert "HUP" not in run.stderr


def test_second_and_third_signal(tmp_path):
    """A run that cannot get at its source waits and tries again: every signal ends it."""
    path = flow_file(tmp_path, {"dsn": "host=/nowhere"})
    for count in (1, 2):
        process = popen([program(), "run", path, "--until-caught-up"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        first = process.stderr.readline()
        assert first
        for _ in range(count):
            process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
        assert process.returncode == EXIT_CANCELLED, first + err


def test_output_that_cannot_be_written():
    with open("/dev/full", "w") as full:
        done = subprocess.run([program(), "options", "postgres"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 4
    assert done.stderr == "ductstream: error: standard output cannot be written: No space left on device\n"


def test_what_servers_say_at_the_start_goes_to_the_log(database, postgres_lake, make_flow):
    """libpq would write it to stderr: WARNING:  database ... has no actual collation version."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1)")
    flow = make_flow(database, postgres_lake)
    flow.run_until_caught_up()
    names = database.value("SELECT current_database()"), postgres_lake.catalog.split("dbname=")[-1].split()[0]
    mismatch = "UPDATE pg_database SET datcollversion = '0' WHERE datname IN ('{}', '{}')".format(*names)
    database.sql(mismatch)
    try:
        run = flow.start("--until-caught-up", "--json")
        run.expect(0)
    finally:
        database.sql("UPDATE pg_database SET datcollversion = NULL")
    events = [json.loads(line) for line in run.stderr.splitlines()]
    said = [(e["of"], e["level"]) for e in events if e.get("event") == "the server says" and "collation version" in e["message"]]
    assert sorted(set(said)) == [("catalog", "warn"), ("source", "warn")] and len(said) <= 4, run.stderr


def test_check_looks_at_what_stands_in_the_way_of_a_folder(tmp_path):
    (tmp_path / "file").write_text("")
    code, out, _ = ductstream("check", flow_file(tmp_path, {"dsn": "host=/nowhere"}, {"data_path": f"{tmp_path}/file/data"}))
    assert code == EXIT_CONFIG and f'data path "{tmp_path}/file/data" is not writable: Not a directory' in out


@pytest.mark.parametrize("name", ["ductstream", "ductstream-worker", "ductstream-admin"])
def test_a_start_brings_few_libraries(name):
    """libgrpc and libduckdb, with all that they bring, are opened by who uses them: a command that does not starts in half the time."""
    linked = subprocess.run(["ldd", program(name)], capture_output=True, text=True, check=True).stdout
    assert "libpq" in linked
    assert not [line for line in linked.splitlines() if "grpc" in line or "absl" in line or "duckdb" in line]
