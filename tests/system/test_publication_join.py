"""`publication sync -snapshot -pause -resume`: new tables are copied and joined while a writer never stops (issue 5, point 6)."""

import threading

import pytest

from lib.admin import Admin
from lib.service import Lake, Service, flow_message
from lib.wait import wait_until

TABLES = """
CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 2000) i;
CREATE TABLE new_table (id int PRIMARY KEY, v text); INSERT INTO new_table SELECT i, 'n' || i FROM generate_series(1, 20000) i;
"""


def test_a_repeated_command_lets_the_flow_go_on(tmp_path, database, sqlite_lake):
    """The first one may have died between its pause and its resume; a flow that rests for other reasons rests on."""
    database.sql(TABLES)
    with Service(tmp_path / "service") as service:
        service.call("CreateFlow", flow=flow_message(database, sqlite_lake, "shop", source={"publication_tables": "public.t"}))
        database.sql("CREATE PUBLICATION shop FOR TABLE t")
        admin = Admin(service.server.address)
        command = ["publication", "sync", "-flow-id", "shop", "-tables", "public.new_table", "-snapshot", "-pause"]
        admin.ok(*command, "-resume")
        assert service.state_of("shop") == "created"
        service.call("StartFlow", flow_id="shop")
        service.call("PauseFlow", flow_id="shop")
        admin.ok(*command)
        assert service.state_of("shop") == "paused"
        admin.ok(*command, "-resume")
        assert service.state_of("shop") == "running"


def test_how_new_tables_are_copied_is_said_to_the_flow(tmp_path, database, sqlite_lake):
    database.sql(TABLES + "CREATE PUBLICATION shop FOR TABLE t")
    lake = Lake(database, sqlite_lake)
    with Service(tmp_path / "service") as service:
        service.call("CreateFlow", flow=flow_message(database, sqlite_lake, source={"parallel_tables": "1"}), start_immediately=True)
        worker = service.worker("shop")
        lake.wait_count(2000)
        admin = Admin(service.server.address)
        command = ["publication", "sync", "-flow-id", "shop", "-tables", "public.new_table"]
        ways = ["-snapshot-workers", "2", "-partition-column", "id", "-partition-count"]
        assert "needs --snapshot" in admin.refused(*command, *ways, "3")
        assert "partition_count" in admin.refused(*command, "-snapshot", *ways, "0")
        assert admin.json("publication", "list", "-flow-id", "shop")["tables"] == ["public.t"]
        assert service.state_of("shop") == "running"
        assert admin.json(*command, "-snapshot", *ways, "3")["added"] == ["public.new_table"]
        lake.wait_count(20000, "public.new_table")
        lake.same("public.t", "public.new_table")
        options = dict(service.call("GetFlow", flow_id="shop").source.options)
        assert "parallel_tables" not in options
        assert [options[name] for name in ("snapshot_workers", "partition_column", "partition_count")] == ["2", "id", "3"]
        assert service.state_of("shop") == "running" and worker.running
    lake.close()


@pytest.mark.parametrize("dispatch", ["none", "local"])
def test_new_tables_join_under_load(tmp_path, database, sqlite_lake, dispatch):
    database.sql(TABLES)
    lake = Lake(database, sqlite_lake)
    with Service(tmp_path / "service", DISPATCH=dispatch) as service:
        source = {"publication_tables": "public.t"}
        message = flow_message(database, sqlite_lake, "shop", source=source, destination={"flush_interval": "20ms"})
        service.call("CreateFlow", flow=message)
        service.call("StartFlow", flow_id="shop")
        worker = service.worker("shop") if dispatch == "none" else None
        lake.wait_count(2000)
        stop = threading.Event()

        def write():
            n = 0
            while not stop.is_set():
                n += 1
                database.sql(f"UPDATE new_table SET v = 'w{n}' WHERE id % 50 = {n % 50}; INSERT INTO t VALUES ({100000 + n}, 'x')")
                database.sql(f"INSERT INTO new_table VALUES ({100000 + n}, NULL); DELETE FROM new_table WHERE id = {100000 + n - 5}")

        writer = threading.Thread(target=write)
        writer.start()
        try:
            admin = Admin(service.server.address)
            done = admin.json("publication", "sync", "-flow-id", "shop", "-tables", "public.new_table", "-snapshot", "-pause", "-resume")
            assert done["added"] == ["public.new_table"]
            assert service.state_of("shop") == "running"
            wait_until(lambda: lake.count("public.new_table") > 19000, 60, "the copy")
        finally:
            stop.set()
            writer.join()
        wanted = {name: database.value(f"SELECT count(*) FROM {name}") for name in ("t", "new_table")}
        for name, count in wanted.items():
            lake.wait_count(count, f"public.{name}")
        lake.same("public.t", "public.new_table")
        assert worker is None or worker.running  # nobody had to start it again
    lake.close()
