"""Fixtures for all tests: servers, databases, lakes, flows. Everything a test starts ends with it."""

import os
import re
import uuid

import pytest

from lib import sanitizer
from lib.flow import Flow
from lib.lake import LakeHome
from lib.pg import Postgres
from lib.s3 import S3Server, missing

LONG = os.environ.get("DUCT_LONG") == "1"
os.environ["DUCKDB_ALLOW_UNSIGNED_EXTENSIONS"] = "true"  # tools/setup has compared their files; a quarter of our CPU would go into that
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"  # our children are forked between calls, and only exec


def pytest_configure(config):
    config.addinivalue_line("markers", "long: takes long; runs only with DUCT_LONG=1 (make check-long), beside no other test")
    config.addinivalue_line("markers", "alone: measures time, so that ./check runs it beside no other test")


def pytest_collection_modifyitems(items):
    if LONG:
        return
    skip = pytest.mark.skip(reason="long, runs in make check-long")
    for item in items:
        if "long" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def _reports(tmp_path_factory):
    """Where programs under a sanitizer write what they find."""
    folder = tmp_path_factory.mktemp("sanitizer")
    sanitizer.listen(folder)
    yield folder
    left = sanitizer.take(folder)
    assert not left, f"reported after the last test:\n{left}"


@pytest.fixture(autouse=True)
def _no_report(_reports):
    """A test fails when a sanitizer reports something during it."""
    yield
    said = sanitizer.take(_reports)
    if said:
        pytest.fail(f"a sanitizer reported:\n{said}", pytrace=False)


def _name_of(request):
    """The test's name as a lower-case identifier that Postgres takes."""
    return re.sub(r"\W+", "_", request.node.name.lower())[:40].strip("_")


@pytest.fixture(scope="session")
def server():
    """One Postgres for the whole session; tests that stop or kill a server take own_server."""
    with Postgres() as pg:
        yield pg


@pytest.fixture
def own_server():
    """A Postgres of the test's own."""
    with Postgres() as pg:
        yield pg


@pytest.fixture(scope="session")
def s3(tmp_path_factory):
    """One S3 server for the whole session; tests that kill a server start their own S3Server."""
    if missing():
        pytest.skip(missing())
    with S3Server(tmp_path_factory.mktemp("s3")) as started:
        yield started


@pytest.fixture
def bucket(s3, request):
    """The name of an empty bucket of the test's own."""
    return s3.bucket(re.sub(r"[^a-z0-9]+", "-", request.node.name.lower())[:50].strip("-") + "-" + uuid.uuid4().hex[:8])


@pytest.fixture
def database(server, request):
    """An empty database in the session's server, dropped with its slots afterwards."""
    created = server.database(_name_of(request))
    yield created
    created.drop()


@pytest.fixture
def sqlite_lake(tmp_path):
    """A lake that does not exist yet, on a SQLite catalog."""
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", tmp_path / "data")
    yield home
    home.close()


@pytest.fixture
def postgres_lake(server, request, tmp_path):
    """A lake that does not exist yet, on a Postgres catalog in a database of its own."""
    created = server.database("lake_" + _name_of(request))
    home = LakeHome(f"postgres:{created.dsn}", tmp_path / "data")
    yield home
    home.close()
    created.drop()


@pytest.fixture(params=["sqlite", "postgres"])
def lake_home(request):
    """The test runs once per catalog."""
    return request.getfixturevalue(f"{request.param}_lake")


@pytest.fixture
def make_flow(tmp_path):
    """make_flow(database, lake_home, name="shop", **more) -> Flow into that lake; its runs end with the test."""
    flows = []

    def make(database, home, name="shop", **more):
        folder = tmp_path / f"flow-{len(flows) + 1}"
        flow = Flow.to_ducklake(folder, name, database.dsn, home.catalog, home.data_path, **more)
        flows.append(flow)
        return flow

    yield make
    for flow in flows:
        flow.close()
