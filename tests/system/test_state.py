"""The state on Postgres: the unit programs of src/state, which run their list on SQLite by themselves, on a server (issue 5, point 3)."""

import os
import re
import subprocess

import pytest
from lib.paths import ROOT, checked
from lib.proxy import CommitProxy

PROGRAMS = sorted(path.stem for path in (ROOT / "tests" / "unit").glob("test_state_*.c"))


def run(program, dsn, variant="asan"):
    """Runs a program on both engines; returns the names of its tests that passed."""
    done = subprocess.run(
        [checked(f"tests/unit/{program}", variant)],
        cwd=ROOT,
        env={**os.environ, "DUCTSTREAM_TEST_POSTGRES_DSN": dsn},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    return re.findall(r"^\[ +OK +\] (\w+)$", done.stdout, re.MULTILINE)


@pytest.fixture
def odd_database(server):
    """A database whose order of words is not that of their bytes, with defaults that must not count."""
    if server.version >= 15:
        server.sql("CREATE DATABASE state_en TEMPLATE template0 LOCALE_PROVIDER icu ICU_LOCALE 'en-US'")
    created = server.database("state_en")
    for setting in ("synchronous_commit = off", "bytea_output = escape", "default_transaction_isolation = serializable"):
        server.sql(f"ALTER DATABASE state_en SET {setting}")
    yield created
    created.drop()


@pytest.mark.parametrize("program", PROGRAMS)
def test_both_engines_pass_the_same_list(program, odd_database):
    passed = run(program, odd_database.dsn)
    on_sqlite = [name.removeprefix("sqlite_") for name in passed if name.startswith("sqlite_")]
    on_postgres = [name.removeprefix("postgres_") for name in passed if name.startswith("postgres_")]
    assert on_sqlite and on_sqlite == on_postgres


@pytest.mark.long
def test_threads_share_connections_without_a_race(database):
    run("test_state_open", database.dsn, "tsan")


@pytest.mark.parametrize("mode", CommitProxy.MODES)
def test_a_commit_whose_answer_is_lost_counts_once(mode, server, database):
    """Many commits lose their connection before, in or after it: the tests see what they see without that."""
    with CommitProxy(server, table=b"COMMIT") as proxy:
        proxy.plan(mode, *range(3, 1000, 9 if mode == "late" else 3))
        assert run("test_state_flows", proxy.dsn(database.name))
        assert proxy.cuts > 5


def test_it_leaves_the_tables_of_users_alone(database):
    """Tables of users with the names of ours are not touched: ours are in a schema of their own."""
    database.sql("CREATE TABLE flows (mine int); CREATE TABLE checkpoints (mine int)")
    run("test_state_checkpoints", database.dsn)
    assert database.query("SELECT count(*) FROM public.flows") == [(0,)]
    tables = {name for (name,) in database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'ductstream'")}
    assert {"flows", "checkpoints", "leases", "ddl_events", "ductstream_migrations"} <= tables
    assert {name for (name,) in database.query("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")} == {"flows", "checkpoints"}


def test_the_page_names_every_variable_and_its_queries_run(database):
    """docs/state.md (issue 5, point 3)."""
    page = (ROOT / "docs" / "state.md").read_text()
    read = set()
    for path in (ROOT / "src" / "state").glob("*.c"):
        read |= set(re.findall(r'state_env\("(\w+)"\)', path.read_text())) - {"HOME"}
    assert len(read) == 7
    assert read == set(re.findall(r"^\| `(DUCTSTREAM_\w+)`", page, re.MULTILINE))
    run("test_state_checkpoints", database.dsn)
    queries = [query for block in re.findall(r"```sql\n(.*?)```", page, re.DOTALL) for query in block.split(";\n") if query.strip()]
    assert len(queries) == 4
    for query in queries:
        database.query(query)
