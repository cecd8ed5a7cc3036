"""publication sync -snapshot -pause -resume while a writer never stops: the new table is copied and joined without loss or double, the
flow goes on (issue 5, point 6)."""

import random
import threading

import pytest
import yaml

from lib.admin import Admin
from lib.api import Server
from lib.compare import assert_same
from lib.lake import OfficialLake
from lib.wait import wait_until


class Writer:
    """Inserts, updates and deletes rows of two tables, both in each transaction, until it is stopped."""

    def __init__(self, database, seed):
        self.database, self.random = database, random.Random(seed)
        self.transactions, self.error = 0, None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def _write(self):
        try:
            with self.database.connect() as connection:
                while not self._stop.is_set():
                    number = self.transactions
                    with connection.transaction():
                        for table in ("orders", "new_table"):
                            connection.execute(f"INSERT INTO {table} VALUES (%s, %s)", (1000 + number, f"made {number}"))
                            some = self.random.randrange(1000 + number + 1)
                            connection.execute(f"UPDATE {table} SET what = %s WHERE id = %s", (f"changed {number}", some))
                            if number % 3 == 0:
                                connection.execute(f"DELETE FROM {table} WHERE id = %s", (self.random.randrange(1000 + number + 1),))
                    self.transactions += 1
        except Exception as error:
            self.error = error

    def stop(self):
        self._stop.set()
        self._thread.join(timeout=30)
        assert self.error is None, self.error
        return self.transactions


@pytest.mark.timeout(240)
@pytest.mark.parametrize("seed", [1, 2])
def test_a_table_joins_while_a_writer_never_stops(database, tmp_path, seed):
    database.sql(
        """CREATE TABLE orders (id int PRIMARY KEY, what text); CREATE TABLE new_table (id int PRIMARY KEY, what text);
        INSERT INTO orders SELECT i, 'order ' || i FROM generate_series(1, 900) i;
        INSERT INTO new_table SELECT i, 'new ' || i FROM generate_series(1, 900) i;
        CREATE PUBLICATION joins FOR TABLE orders"""
    )
    options = {"dsn": database.dsn, "slot": database.name, "publication": "joins"}
    lake = {"catalog": f"sqlite:{tmp_path}/catalog.sqlite", "data_path": f"{tmp_path}/data"}
    path = tmp_path / "joins.yaml"
    path.write_text(
        yaml.safe_dump(
            {
                "name": "joins",
                "source": {"type": "postgres", "options": options},
                "destinations": [{"name": "lake", "type": "ducklake", "options": lake}],
            }
        )
    )
    with Server(tmp_path, DISPATCH="local") as server:
        admin = Admin(server.ready().address)
        flow = admin.json("flow", "create", "-file", path, "-start")["id"]

        def reached(table, wanted):
            try:
                with OfficialLake(lake["catalog"], lake["data_path"]) as reader:
                    return reader.sql(f"SELECT count(*) FROM lake.public.{table}")[0][0] >= wanted
            except Exception:  # not there yet
                return False

        # Nobody else opens the lake before it is made.
        wait_until(lambda: admin("checkpoint", "get", "-flow-id", flow)[0] == 0, 60, "the first copy", interval_s=0.2)
        wait_until(lambda: reached("orders", 900), 60, "its rows", interval_s=0.2)
        writer = Writer(database, seed)
        wait_until(lambda: writer.transactions > 50, 30, "the writer to be under way")
        synced = admin.json("publication", "sync", "-flow-id", flow, "-tables", "public.new_table", "-snapshot", "-pause", "-resume", timeout_s=120)
        assert synced["added"] == ["public.new_table"]
        assert admin.json("flow", "get", "-flow-id", flow)["state"] == "FLOW_STATE_RUNNING"
        during = writer.transactions
        wait_until(lambda: reached("new_table", 500), 90, "the new table in the lake: " + server.text, interval_s=0.2)
        assert writer.stop() > during > 50
        database.sql("INSERT INTO orders VALUES (-1, 'last'); INSERT INTO new_table VALUES (-1, 'last')")

        def last():
            with OfficialLake(lake["catalog"], lake["data_path"]) as reader:
                return all(reader.sql(f"SELECT count(*) FROM lake.public.{table} WHERE id = -1")[0][0] == 1 for table in ("orders", "new_table"))

        wait_until(last, 60, "everything in the lake", interval_s=0.2)
        with OfficialLake(lake["catalog"], lake["data_path"]) as reader:
            for table in ("public.orders", "public.new_table"):
                assert_same(database, reader, table)
        assert admin.json("flow", "get", "-flow-id", flow)["state"] == "FLOW_STATE_RUNNING"
        admin.ok("flow", "stop", "-flow-id", flow)
        admin.ok("flow", "wait", "-flow-id", flow, "-state", "stopped", "-timeout", "30s", "-interval", "50ms")
