"""Fixtures of the system tests: a mirror of one database on either catalog."""

import itertools
import re

import pytest

from lib.lake import LakeHome
from lib.mirror import Mirror


_numbers = itertools.count(1)


def _new_database(server, request, prefix=""):
    """Databases stay until the server goes (dropping one means a checkpoint), so their names must not come again."""
    name = re.sub(r"\W+", "_", request.node.name.lower())[:40].strip("_")
    return server.database(f"{prefix}{name}_{next(_numbers)}")


@pytest.fixture
def database(server, request):
    """An empty database in the session's server; its slots go afterwards."""
    created = _new_database(server, request)
    yield created
    created.drop_slots()


@pytest.fixture
def postgres_lake(server, request, tmp_path):
    """A lake that does not exist yet, on a Postgres catalog in a database of its own."""
    created = _new_database(server, request, "lake_")
    home = LakeHome(f"postgres:{created.dsn}", tmp_path / "data")
    yield home
    home.close()
    server.forget(created.name)


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
