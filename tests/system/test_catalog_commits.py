"""Commits of src/lake under trouble: other owners, other writers, kills, lost replies. SQLite and Postgres."""

import shutil
import socket
import sqlite3
import tempfile
import threading
from pathlib import Path

import pytest

from lib.lake_driver import Again, Driver, DriverError, write_parquet
from lib.wait import wait_until


class Home:
    def __init__(self, kind, catalog, data):
        self.kind, self.catalog, self.data = kind, catalog, data

    def driver(self, flow="test", catalog=None, **env):
        return Driver(catalog or self.catalog, self.data, flow, env=env)


@pytest.fixture
def home(lake_home):
    lake_home.data_path.mkdir(parents=True, exist_ok=True)
    yield Home(lake_home.catalog.partition(":")[0], lake_home.catalog, lake_home.data_path)


def make_table(driver, name, lsn=1):
    driver.begin()
    handle, path = driver.create("main", name, ("k", "int64"))
    columns = driver.columns(handle)
    driver.commit(lsn)
    return driver.find("main", name)[0], path, columns


def add_rows(driver, table, numbers, lsn=0):
    table_id, path, columns = table
    (handle,) = driver.begin(table_id)
    values = ", ".join(f"({n}::BIGINT)" for n in numbers)
    driver.put(handle, **write_parquet(path, f"SELECT * FROM (VALUES {values}) v(k)", columns))
    return driver.commit(lsn)


def numbers(lake, name="t"):
    return [row[0] for row in lake.rows(name)]


def test_older_owner_is_fenced(home, lake_home):
    with home.driver() as first:
        table = make_table(first, "t")
        with home.driver() as second:
            with pytest.raises(DriverError, match=r'fatal: flow "test" was taken over .*epoch 2, ours 1'):
                add_rows(first, table, [1], 2)
            add_rows(second, table, [2], 2)
            with pytest.raises(DriverError, match="fenced"):
                first.sync()
            with pytest.raises(DriverError, match="fenced"):
                first.ask("copying", "{}")
    assert numbers(lake_home.open()) == [2]


def test_position_never_goes_back(home):
    with home.driver() as driver:
        table = make_table(driver, "t", 0x20)
        with pytest.raises(DriverError, match="fatal: .*stored position 0/20 is beyond 0/1F"):
            add_rows(driver, table, [1], 0x1F)
        assert add_rows(driver, table, [1], 0x20)[0] == 2
        driver.begin()
        assert driver.commit(0x21)[0] == -1
    with home.driver() as driver:
        assert driver.opened.split()[:3] == ["2", "2", "21"]


def test_others_elsewhere_cost_a_second_try(home, lake_home):
    with home.driver() as driver:
        table = make_table(driver, "t")
        with lake_home.open() as lake:
            lake.sql("CREATE TABLE other (a INTEGER)")
            lake.sql("INSERT INTO other SELECT * FROM range(100)")
        snapshot, ((file_id, start),) = add_rows(driver, table, [1, 2])
        assert (snapshot, start) == (4, 0)
        with lake_home.open() as lake:
            assert numbers(lake) == [1, 2]
            assert lake.count("other") == 100
        notes = driver.sync()[1]
        assert table[0] not in notes and len(notes) == 1


def test_others_on_our_table_stop_the_commit(home, lake_home):
    with home.driver() as driver:
        table = make_table(driver, "t")
        add_rows(driver, table, [1])
        with lake_home.open() as lake:
            lake.sql("INSERT INTO t VALUES (5)")
        with pytest.raises(Again):
            add_rows(driver, table, [2])
        with pytest.raises(Again):  # until somebody has taken note
            add_rows(driver, table, [2])
        assert driver.sync()[1] == {table[0]: 4}
        add_rows(driver, table, [2])
        with lake_home.open() as lake:
            lake.sql("ALTER TABLE t RENAME TO u")
        with pytest.raises(Again):
            add_rows(driver, table, [3])
        assert driver.sync()[1] == {table[0]: 1}
        with lake_home.open() as lake:
            assert numbers(lake, "u") == [1, 2, 5]
            lake.sql("DROP TABLE u")
        with pytest.raises(Again):
            add_rows(driver, table, [3])
    # What happened while nobody was there is news as well.
    with home.driver() as driver:
        assert driver.sync()[1][table[0]] & 1


def test_expired_snapshots_between_count_as_moved_files(home, lake_home):
    with home.driver() as driver:
        table = make_table(driver, "t")
        file_id = add_rows(driver, table, range(10))[1][0][0]
        with lake_home.open() as lake:
            lake.sql("CREATE TABLE other (a INTEGER)")
            lake.sql("INSERT INTO other VALUES (1)")
            lake.sql("CALL ducklake_expire_snapshots('lake', older_than => now() + INTERVAL 1 DAY)")
        (handle,) = driver.begin(table[0])
        driver.ask("mark", handle, file_id, 3)
        with pytest.raises(Again):
            driver.commit()
        assert driver.sync()[1][table[0]] == 2
        (handle,) = driver.begin(table[0])
        driver.ask("mark", handle, file_id, 3)
        driver.commit()
        assert numbers(lake_home.open()) == [0, 1, 2, 4, 5, 6, 7, 8, 9]


def test_marks_hit_live_rows_once(home, lake_home):
    with home.driver() as driver:
        table = make_table(driver, "t")
        file_id = add_rows(driver, table, range(40))[1][0][0]

        def mark(file, *positions):
            (handle,) = driver.begin(table[0])
            driver.ask("mark", handle, file, *positions)
            return driver.commit()

        mark(file_id, *range(20))
        for file, position in ((file_id, 5), (file_id, 40), (file_id + 7, 0)):
            with pytest.raises(DriverError, match="fatal: commit: "):
                mark(file, position)
        mark(file_id, 39)
        assert driver.files(table[0])[0]["marks"] == [*range(20), 39]
        (handle,) = driver.begin(table[0])
        (Path(table[1]) / "x.parquet").touch()
        driver.ask("deletes", handle, file_id, -1, Path(table[1]) / "x.parquet", 1, 1, 1)
        with pytest.raises(DriverError, match="fatal: .*has marks in the catalog"):
            driver.commit()
        with pytest.raises(DriverError, match="fatal: commit: row 30 .*marked deleted already"):
            mark(file_id, 30, 30)
    with home.driver() as driver:  # which knows them from the catalog only
        with pytest.raises(DriverError, match="fatal: commit: row 19 .*marked deleted already"):
            mark(file_id, 38, 19)
        (handle,) = driver.begin(table[0])
        (Path(table[1]) / "x.parquet").touch()
        driver.ask("deletes", handle, file_id, -1, Path(table[1]) / "x.parquet", 1, 1, 1)
        with pytest.raises(DriverError, match="fatal: .*has marks in the catalog"):
            driver.commit()
        mark(file_id, 38)
    lake = lake_home.open()
    assert numbers(lake) == list(range(20, 38))
    assert lake.count("t") == 18


def test_marks_of_others_are_known(home, lake_home):
    with home.driver() as driver:
        table = make_table(driver, "t")
        first, second = (add_rows(driver, table, range(at, at + 40))[1][0][0] for at in (0, 40))

        def mark(file, *positions):
            (handle,) = driver.begin(table[0])
            driver.ask("mark", handle, file, *positions)
            return driver.commit()

        mark(first, 0)
        for file, key in (first, 5), (second, 45):
            with lake_home.open() as lake:
                lake.sql(f"DELETE FROM t WHERE k = {key}")
            if file == second:
                with pytest.raises(Again):  # whoever has not taken note
                    mark(first, 7)
            driver.sync()
            with pytest.raises(DriverError, match="fatal: commit: row 5 .*marked deleted already"):
                mark(file, 5)
        mark(first, 7)
        mark(second, 7)
        assert [file["marks"] for file in driver.files(table[0])] == [[0, 5, 7], [5, 7]]
    assert numbers(lake_home.open()) == sorted(set(range(80)) - {0, 5, 7, 45, 47})


def test_two_flows_at_once(home, lake_home):
    failures = []

    def work(flow):
        try:
            with home.driver(flow) as driver:
                table = make_table(driver, flow)
                for n in range(15):
                    add_rows(driver, table, [n], n + 2)
        except Exception as error:
            failures.append(error)

    with home.driver("zero"):
        pass
    threads = [threading.Thread(target=work, args=(flow,)) for flow in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    lake = lake_home.open()
    assert numbers(lake, "a") == numbers(lake, "b") == list(range(15))
    assert [s["snapshot_id"] for s in lake.snapshots()] == list(range(33))
    assert {s["author"] for s in lake.snapshots()[1:]} == {"ductstream"}


@pytest.mark.parametrize("point", ["commit-begin", "commit-sent", "commit-statement", "commit-done"])
def test_killed_anywhere(home, lake_home, point):
    """Rows and position are there together or not at all, and the next owner goes on from what it finds."""
    if point == ("commit-sent" if home.kind == "sqlite" else "commit-statement"):
        pytest.skip("a point of the other catalog")
    with home.driver() as driver:
        table = make_table(driver, "t", 1)
    for nth in (1, 2, 3, 5, 7) if point == "commit-statement" else (1,):
        with home.driver() as driver:
            done = int(driver.opened.split()[2], 16)
        victim = home.driver(DUCT_KILL_POINT=f"{point}:{nth}")
        with pytest.raises((DriverError, BrokenPipeError)):
            add_rows(victim, table, [done], done + 1)
        assert victim.process.wait(timeout=10) == -9
        victim.close(check=False)
        with home.driver() as driver:
            found = int(driver.opened.split()[2], 16)
            assert found in (done, done + 1)
            if point == "commit-done":
                assert found == done + 1
            if point in ("commit-begin", "commit-statement"):
                assert found == done
            if found == done:
                add_rows(driver, table, [done], done + 1)
        with lake_home.open() as lake:
            assert numbers(lake) == list(range(1, done + 1))
            assert lake.count("t") == done


class Cutter:
    """A socket in front of a Postgres server that cuts a connection around the nth COMMIT."""

    def __init__(self, folder, target, reply):
        self.target, self.reply, self.armed = str(target), reply, False
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(f"{folder}/.s.PGSQL.5432")
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            server.connect(self.target)
            cut = threading.Event()
            threading.Thread(target=self._up, args=(client, server, cut), daemon=True).start()
            threading.Thread(target=self._down, args=(client, server, cut), daemon=True).start()

    def _up(self, client, server, cut):
        try:
            while data := client.recv(65536):
                if self.armed and b"INSERT INTO" in data:
                    self.armed = False
                    cut.set()
                    if not self.reply:  # nothing of the commit reaches the server
                        break
                server.sendall(data)
        except OSError:
            pass
        self._close(client, server)

    def _down(self, client, server, cut):
        try:
            while data := server.recv(65536):
                if cut.is_set():  # it was committed, nobody hears of it
                    while b"COMMIT\0" not in data:
                        data += server.recv(65536)
                    break
                client.sendall(data)
        except OSError:
            pass
        self._close(client, server)

    @staticmethod
    def _close(*sockets):
        for each in sockets:
            try:
                each.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.listener.close()


@pytest.mark.parametrize("reply", [True, False])
def test_connection_cut_around_commit(postgres_lake, server, reply):
    """A commit whose reply is lost is found, one that never arrived is sent again; neither is doubled."""
    postgres_lake.data_path.mkdir(parents=True, exist_ok=True)
    target = next(server.folder.glob(".s.PGSQL.*[0-9]"))
    folder = tempfile.mkdtemp(prefix="duct-cut-")  # a short path: a socket's name has room for no more
    cutter = Cutter(folder, target, reply)
    catalog = postgres_lake.catalog.replace(str(server.folder), folder)
    assert folder in catalog
    try:
        with Driver(catalog, postgres_lake.data_path) as driver:
            table = make_table(driver, "t")
            expected = []
            for n in range(5):
                cutter.armed = n in (1, 3)
                snapshot, ((_, start),) = add_rows(driver, table, [n], n + 2)
                assert (snapshot, start) == (n + 2, n)
                assert not cutter.armed
                expected.append(n)
            cutter.armed = True
            driver.begin()
            driver.ask("create", "main", "u", "k", "int64", None)
            assert driver.commit(0x99)[0] == 7
            assert driver.find("main", "u")[0] == 2
            assert driver.sync()[1] == {}
    finally:
        cutter.close()
        shutil.rmtree(folder)
    lake = postgres_lake.open()
    assert numbers(lake) == expected
    assert lake.last_snapshot() == 7


def test_locked_sqlite_catalog(sqlite_lake):
    """A file that another process keeps locked is a CONFIG error at open, and RETRY in a commit."""
    sqlite_lake.data_path.mkdir(parents=True, exist_ok=True)
    path = sqlite_lake.catalog.partition(":")[2]
    with Driver(sqlite_lake.catalog, sqlite_lake.data_path) as driver:
        table = make_table(driver, "t")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(DriverError, match="retry: .*locked by another process for longer than 2000 ms"):
            add_rows(driver, table, [1])
        with pytest.raises(DriverError, match="config: .*locked by another process"):
            Driver(sqlite_lake.catalog, sqlite_lake.data_path, flow="b")
        other.execute("ROLLBACK")
        other.close()
        add_rows(driver, table, [1])
    assert numbers(sqlite_lake.open()) == [1]


def test_catalog_restarted_while_idle(postgres_lake, server):
    """A connection that was ended while nothing was under way costs nothing."""
    postgres_lake.data_path.mkdir(parents=True, exist_ok=True)

    def end():
        ours = server.query("SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'ductstream'")
        pids = ", ".join(str(pid) for pid, _ in ours)
        wait_until(lambda: not server.query(f"SELECT 1 FROM pg_stat_activity WHERE pid IN ({pids})"), 30, "the connection to end")

    with Driver(postgres_lake.catalog, postgres_lake.data_path) as driver:
        table = make_table(driver, "t")
        end()
        assert driver.sync()[1] == {}
        end()
        add_rows(driver, table, [1])
        end()
        assert len(driver.files(table[0])) == 1
    assert numbers(postgres_lake.open()) == [1]


def test_relations_and_copy_state(home):
    """The copy's state and the relation rows are there after a new open; a removed one is not."""
    with home.driver() as driver:
        driver.ask("copying", '{"system":"1"}')
    with home.driver() as driver:
        assert driver.opened.split()[1:3] == ["1", "0"]
        driver.begin()
        driver.create("main", "t", ("k", "int64"))
        driver.ask("relation", 77, 0, "it's")
        driver.commit(5, '{"system":"2"}')
        driver.begin()
        driver.ask("relation", 77, None, "it's")
        assert driver.commit(6)[0] == -1
    with home.driver() as driver:
        assert driver.opened.split()[:3] == ["1", "2", "6"]


def test_many_open_a_new_catalog_at_once(home, lake_home):
    """One that an official client has just made: on SQLite each of them switches it to the write-ahead log, which is refused without a wait."""
    with lake_home.open() as lake:
        lake.sql("CREATE TABLE t (i INTEGER)")
    drivers = [Driver() for _ in range(24)]
    for n, driver in enumerate(drivers):
        driver.send("open", home.catalog, home.data, None, f"flow{n}", "cip")  # each waits for all others, however long these take
    try:
        assert [driver.receive() is not None for driver in drivers] == [True] * 24
    finally:
        for driver in drivers:
            driver.close()
