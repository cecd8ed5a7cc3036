"""kill -9 while rows become dead letters: each is told exactly once, whatever is lost with the process."""

import threading

import psycopg
import pytest

from lib.compare import assert_same
from test_kill_commit import KILLED, POINTS, ROADS

SCHEMA = "CREATE TABLE t (id int PRIMARY KEY, price numeric(12,2), v text)"
OPTIONS = {"source": {"dead_letter": True, "status_interval": "200ms"}, "destination": {"flush_interval": "20ms"}}


class Writer(threading.Thread):
    """Transactions of a good row, a dead one, and a dead one that was good before."""

    def __init__(self, database, first):
        super().__init__(daemon=True)
        self.database, self.next = database, first
        self.end, self.error = threading.Event(), None

    def run(self):
        try:
            with psycopg.connect(self.database.dsn, autocommit=True) as connection:
                while not self.end.is_set():
                    n = self.next
                    connection.execute(
                        f"BEGIN; INSERT INTO t VALUES ({n}, 1, 'good'), ({n + 1}, 'NaN', 'dead'), ({n + 2}, 1, 'dies');"
                        f" UPDATE t SET price = 'NaN' WHERE id = {n - 1}; COMMIT"
                    )
                    self.next = n + 3
        except Exception as error:
            self.error = error

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.end.set()
        self.join(30)
        if self.error:
            raise self.error


def assert_once(database, lake_home, flow):
    flow.run_until_caught_up()
    with lake_home.open() as lake:
        assert_same(database, lake, "public.t", where="price::text <> 'NaN'")
        told = lake.sql("SELECT (\"key\"->>'id')::int AS id, count(*) FROM lake.ductstream.dead_letter GROUP BY ALL ORDER BY 1")
    assert told == [(id, 1) for (id,) in database.query("SELECT id FROM t WHERE price = 'NaN' ORDER BY 1")]
    assert told


@pytest.mark.parametrize(
    ("lake_home", "point"), [(home, point) for home in POINTS for point in POINTS[home]], indirect=["lake_home"]
)
def test_kill_while_streaming(database, lake_home, make_flow, point):
    database.sql(SCHEMA)
    flow = make_flow(database, lake_home, **OPTIONS)
    flow.run_until_caught_up()
    flow.set_destination(**ROADS["files" if point.startswith("file") else "flushed" if point == "flush-written" else "inlined"])
    with Writer(database, first=1):
        run = flow.start(env={"DUCT_KILL_POINT": f"{point}:{1 if point == 'epoch-raised' else 2}"})
        assert run.wait(60) == KILLED, run.describe()
    assert_once(database, lake_home, flow)


@pytest.mark.parametrize("point", ["file-written", "file-synced", "commit-begin", "commit-done"])
def test_kill_in_a_copy(database, lake_home, make_flow, point):
    database.sql(SCHEMA)
    database.sql("INSERT INTO t SELECT i, CASE WHEN i % 3 = 0 THEN 'NaN'::numeric ELSE 1 END, 'v' FROM generate_series(1, 3000) i")
    flow = make_flow(database, lake_home, **OPTIONS)
    for n in (1, 2):
        run = flow.start("--until-caught-up", env={"DUCT_KILL_POINT": f"{point}:{n}"})
        assert run.wait(60) in (KILLED, 0), run.describe()
    assert_once(database, lake_home, flow)
