"""Connections that are cut at the worst moments: nothing is lost, nothing doubled, the process goes on by itself."""

import random

import pytest

from lib.proxy import CommitProxy, Proxy
from lib.workload import SCHEMA, Workload, assert_whole

FAST = {"flush_interval": "20ms"}
MODES = [
    mode if mode in ("reply", "unsent", "late") else pytest.param(mode, marks=pytest.mark.long) for mode in CommitProxy.MODES
]


@pytest.fixture
def through(server, database, postgres_lake, make_flow):
    """through(proxy) -> a flow whose catalog is behind the proxy; nothing is copied yet."""
    catalog_db = postgres_lake.catalog.split("dbname=")[1].split()[0]

    def make(proxy):
        database.sql(SCHEMA)
        return make_flow(database, postgres_lake, destination={**FAST, "catalog": f"postgres:{proxy.dsn(catalog_db)}"})

    return make


@pytest.mark.parametrize("mode", MODES)
def test_commit_is_cut_while_streaming(mode, server, through, database, postgres_lake):
    with CommitProxy(server) as proxy:
        flow = through(proxy)
        flow.run_until_caught_up()
        proxy.plan(mode, 1, 2, 5, 9, 14)
        with Workload(database, seed=4):
            run = flow.start()
            run.wait_for(lambda: proxy.cuts >= 5 and proxy.commits >= 16, 60, "five cuts")
        assert run.terminate() == 0, run.describe()
        assert_whole(database, postgres_lake, flow)


@pytest.mark.parametrize("mode", MODES)
def test_first_commit_is_cut(mode, server, through, database, postgres_lake):
    """The commit that publishes the copy."""
    with CommitProxy(server, table=b"ducklake_data_file") as proxy:
        flow = through(proxy)
        proxy.plan(mode, 1)
        with Workload(database, seed=5):
            flow.run_until_caught_up()
        assert proxy.cuts == 1
        assert_whole(database, postgres_lake, flow)


@pytest.mark.parametrize("mode", ("reply", "unsent"))
def test_every_kind_of_catalog_transaction_is_cut(mode, server, through, database, postgres_lake):
    """The n-th transaction on our checkpoint, from the first start on: tables of ours, epoch, begin of the copy."""
    with CommitProxy(server) as proxy:
        flow = through(proxy)
        proxy.plan(mode, 1, 3, 4, 6, 7)
        with Workload(database, seed=6):
            flow.run_until_caught_up()
            flow.run_until_caught_up()
        assert proxy.cuts >= 3
        assert_whole(database, postgres_lake, flow)


def test_every_commit_is_cut(server, through, database, postgres_lake):
    """It is not sent again for ever at once, and the reason that is said is the connection, not others who are faster."""
    with CommitProxy(server) as proxy:
        flow = through(proxy)
        flow.run_until_caught_up()
        run = flow.start()
        run.wait_for(lambda: "streaming" in run.stderr, 30, "the stream")
        proxy.plan("unsent", *range(1, 1000))
        database.sql("INSERT INTO side (body, n) VALUES ('a', 1)")
        run.wait_for(lambda: "attempt failed" in run.stderr, 30, "the end of the first attempt")
        [first] = [line for line in run.stderr.splitlines() if "attempt failed" in line and "attempt=1" in line]
        assert "commit: tried 6 times: " in first and "the connection was lost" in first, first
        proxy.plan(None)
        assert run.terminate() == 0, run.describe()
        assert_whole(database, postgres_lake, flow)


def test_replication_connection_is_cut_at_random(server, database, lake_home, make_flow):
    seed = random.randrange(10**6)
    pick = random.Random(seed)
    with Proxy(server) as proxy:
        database.sql(SCHEMA)
        flow = make_flow(database, lake_home, source={"dsn": proxy.dsn(database.name), "status_interval": "200ms"}, destination=FAST)
        flow.run_until_caught_up()
        with Workload(database, seed=seed) as load:
            run = flow.start()
            while proxy.cuts < 5:
                wanted = load.committed + pick.randint(1, 40)
                run.wait_for(lambda: load.committed >= wanted and proxy.links, 30, "the workload and the flow to go on")
                proxy.cut()
            confirmed = server.lsn()
            run.wait_for(lambda: _confirmed(server, confirmed), 60, f"the flow to go on after the cuts (seed {seed})")
        assert run.terminate() == 0, run.describe()
        assert_whole(database, lake_home, flow)


def _confirmed(server, lsn):
    return server.query(f"SELECT 1 FROM pg_replication_slots WHERE slot_name = 'shop' AND confirmed_flush_lsn >= '{lsn}'")
