"""Fixtures of the system tests: a mirror of one database on either catalog."""

import pytest

from lib.lake import LakeHome
from lib.mirror import Mirror


class Databases:
    """Databases of one server, emptied and handed out again: making and dropping one costs more than most tests do."""

    EMPTY = """
        DO $$ DECLARE name text; BEGIN
        FOR name IN SELECT pubname FROM pg_publication LOOP EXECUTE format('DROP PUBLICATION %I', name); END LOOP;
        FOR name IN SELECT extname FROM pg_extension WHERE extname <> 'plpgsql' LOOP
            EXECUTE format('DROP EXTENSION IF EXISTS %I CASCADE', name); END LOOP;
        FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname <> 'information_schema' LOOP
            EXECUTE format('DROP SCHEMA %I CASCADE', name); END LOOP;
        END $$;
        CREATE SCHEMA public; GRANT USAGE, CREATE ON SCHEMA public TO PUBLIC
    """

    def __init__(self, server):
        self._server = server
        self._free = []
        self._made = 0

    def take(self):
        if self._free:
            return self._free.pop()
        self._made += 1
        return self._server.database(f"test_{self._made}")

    def give_back(self, database):
        database.drop_slots()
        self._server.query(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{database.name}'"
        )
        database.sql(self.EMPTY)
        self._free.append(database)


@pytest.fixture(scope="session")
def databases(server):
    return Databases(server)


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
