"""Fixtures of the system tests: a mirror of one database on either catalog."""

import pytest

from lib.api import Server, api_driver
from lib.ingest import Ingest
from lib.lake import LakeHome
from lib.mirror import Mirror
from lib.models import Models
from lib.pg import Databases
from lib.service import Lake, Service


@pytest.fixture(scope="session")
def databases(server):
    return Databases(server)


@pytest.fixture(scope="session")
def ingesting(tmp_path_factory, server):
    """A DuctStream that others send to (IngestService): its state is in a Postgres, `place`. Each test has streams of its own."""
    place = server.database("ingesting")
    with Service(tmp_path_factory.mktemp("ingesting"), POSTGRES_DSN=place.dsn) as running:
        running.place = place
        yield running


@pytest.fixture
def database(databases):
    """An empty database in the session's server."""
    taken = databases.take()
    yield taken
    databases.give_back(taken)


@pytest.fixture
def postgres_lake(databases, tmp_path):
    """A lake that does not exist yet, on a Postgres catalog in a database of its own."""
    taken = databases.take()
    home = LakeHome(f"postgres:{taken.dsn}", tmp_path / "data")
    yield home
    home.close()
    databases.give_back(taken)


@pytest.fixture
def make_mirror(make_flow):
    """make_mirror(database, home, *statements, **flow) -> Mirror; the statements prepare the source."""
    mirrors = []

    def make(database, home, *statements, **flow):
        mirror = Mirror(database, home, make_flow(database, home, **flow))
        mirror.sql(*statements)
        mirrors.append(mirror)
        return mirror

    return make


@pytest.fixture
def mirror(make_mirror, database, lake_home):
    """mirror(*statements, **flow) -> Mirror; the test runs on both catalogs."""
    return lambda *statements, **flow: make_mirror(database, lake_home, *statements, **flow)


@pytest.fixture
def mirror_sqlite(make_mirror, database, sqlite_lake):
    return lambda *statements, **flow: make_mirror(database, sqlite_lake, *statements, **flow)


@pytest.fixture
def mirror_postgres(make_mirror, database, postgres_lake):
    return lambda *statements, **flow: make_mirror(database, postgres_lake, *statements, **flow)


@pytest.fixture
def ingest(lake_home, tmp_path):
    """Runs of `ductstream ingest` into an empty lake; the test runs on both catalogs."""
    return Ingest(lake_home, tmp_path)


@pytest.fixture
def ingest_sqlite(sqlite_lake, tmp_path):
    return Ingest(sqlite_lake, tmp_path)


@pytest.fixture
def models(lake_home, tmp_path):
    """SQL models over an empty lake; the test runs on both catalogs."""
    return Models(tmp_path, lake_home)


@pytest.fixture
def models_sqlite(sqlite_lake, tmp_path):
    """For what is the same on any catalog."""
    return Models(tmp_path, sqlite_lake)


@pytest.fixture
def proxy(s3):
    """Stands between a client and the S3 server of the tests (lib/s3_proxy.py)."""
    with s3.proxy() as made:
        yield made


@pytest.fixture
def lake(database, sqlite_lake):
    """A table public.t of 100 rows, and the lake that a flow brings them to."""
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i")
    opened = Lake(database, sqlite_lake)
    yield opened
    opened.close()


@pytest.fixture
def start(tmp_path):
    """start(**settings) -> Server: the listeners with the methods of tests/system/api_driver.c, under the sanitizers.

    What a test has not ended itself stops in order with it, and then the sanitizers have found nothing.
    """
    servers = []

    def begin(**settings):
        servers.append(Server(tmp_path, api_driver(), **settings).ready())
        return servers[-1]

    yield begin
    try:
        for server in servers:
            assert not server.running or server.stop() == 0, server.text
    finally:
        for server in servers:
            server.kill()


@pytest.fixture(params=["sqlite", "postgres"])
def two(request, tmp_path, server):
    """Catalog strings and folders of two lakes that do not exist: official, native."""
    made = []
    for name in ("official", "native"):
        folder = tmp_path / name / "data"
        folder.mkdir(parents=True)
        if request.param == "sqlite":
            made.append((f"sqlite:{tmp_path}/{name}.sqlite", folder))
        else:
            database = server.database(f"oracle_{name}")
            request.addfinalizer(database.drop)
            made.append((f"postgres:{database.dsn}", folder))
    return made
