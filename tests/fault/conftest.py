"""Fixtures of the fault tests."""

import itertools
import os
import re

import pytest

from lib.lake import LakeHome
from lib.small_disk import SmallDisk
from lib.workload import SCHEMA

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
def mirrored(database, lake_home, make_flow):
    """A copied flow of the constant-sum workload, ready to stream."""
    database.sql(SCHEMA)
    flow = make_flow(database, lake_home, source={"status_interval": "200ms"}, destination={"flush_interval": "20ms"})
    flow.run_until_caught_up()
    return database, lake_home, flow


@pytest.fixture
def small_disk(tmp_path):
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disks = []

    def make(size="4m"):
        disks.append(SmallDisk(tmp_path / f"disk-{len(disks) + 1}", size))
        return disks[-1]

    yield make
    for disk in disks:
        disk.close()
