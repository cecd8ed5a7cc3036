"""Full disks: no crash, no half commit, a message that names the folder; it goes on by itself once there is room (issue 4, bad input)."""

import subprocess

import pytest

from lib.cli import ductstream, lines
from lib.compare import assert_same
from lib.lake import LakeHome

NO_SPACE = ("No space left on device", "disk is full", "no room")


def fill(database, rows):
    """Bytes that do not compress."""
    database.sql(
        "INSERT INTO t SELECT n, (SELECT string_agg(md5(random()::text || n || k), '') FROM generate_series(1, 10) k) "
        f"FROM generate_series((SELECT coalesce(max(id), 0) + 1 FROM t), (SELECT coalesce(max(id), 0) FROM t) + {rows}) n"
    )


def says_no_space(run):
    return any(text in run.stderr for text in NO_SPACE)


def check_survives(database, home, flow, disk, run, readable=True):
    """RUN has no room: it says so, keeps nothing half done, and goes on when there is some."""
    run.wait_for(lambda: says_no_space(run), 60, "a message about the full disk")
    assert str(disk.path) in run.stderr, run.describe()
    if readable:
        with home.open() as lake:  # whatever it says
            lake.count("public.t")
    assert run.running, run.describe()
    disk.grow()
    run.expect(0)
    with home.open() as lake:
        assert_same(database, lake, "public.t")
    database.sql("UPDATE t SET v = v || 'x' WHERE id % 2 = 0; DELETE FROM t WHERE id % 3 = 0")
    flow.run_until_caught_up()
    with home.open() as lake:
        assert_same(database, lake, "public.t")


@pytest.fixture
def prepared(database):
    database.sql("CREATE TABLE t (id int PRIMARY KEY, v text)")
    fill(database, 100)
    return database


def test_data_folder_is_full(prepared, server, make_flow, small_disk, tmp_path):
    disk = small_disk("2m")
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", disk.path)
    flow = make_flow(prepared, home, destination={"index_dir": str(tmp_path / "index")})
    flow.run_until_caught_up()
    for _ in range(4):
        fill(prepared, 5000)
    check_survives(prepared, home, flow, disk, flow.start("--until-caught-up"))
    home.close()


def test_data_folder_is_full_during_the_copy(prepared, server, make_flow, small_disk, tmp_path):
    disk = small_disk("2m")
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", disk.path)
    flow = make_flow(prepared, home, destination={"index_dir": str(tmp_path / "index")})
    fill(prepared, 30000)
    run = flow.start("--until-caught-up")
    run.wait_for(lambda: says_no_space(run), 60, "a message about the full disk")
    assert str(disk.path) in run.stderr, run.describe()
    disk.grow()
    run.expect(0)
    with home.open() as lake:
        assert_same(prepared, lake, "public.t")
    query = f"SELECT slot_name FROM pg_replication_slots WHERE database = '{prepared.name}'"
    assert prepared.query(query) == [("shop",)]
    home.close()


def test_catalog_folder_is_full(prepared, server, make_flow, small_disk, tmp_path):
    disk = small_disk()
    home = LakeHome(f"sqlite:{disk.path}/lake.sqlite", tmp_path / "data")
    flow = make_flow(prepared, home, destination={"index_dir": str(tmp_path / "index"), "flush_interval": "1ms"})
    flow.run_until_caught_up()
    junk = disk.path / "junk"
    with open(junk, "wb", buffering=0) as file:  # whatever is left
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass
    fill(prepared, 200)
    check_survives(prepared, home, flow, disk, flow.start("--until-caught-up"), readable=False)
    home.close()


def test_index_folder_is_full(prepared, server, make_flow, small_disk, tmp_path):
    """The index is mapped: a hole without room behind it would be SIGBUS."""
    disk = small_disk("1m")
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", tmp_path / "data")
    flow = make_flow(prepared, home, destination={"index_dir": str(disk.path)})
    flow.run_until_caught_up()
    prepared.sql("INSERT INTO t SELECT i, 'short' FROM generate_series(1000, 120000) i")
    prepared.sql("UPDATE t SET v = 'other' WHERE id % 50 = 0")
    check_survives(prepared, home, flow, disk, flow.start("--until-caught-up"))
    home.close()


def test_data_folder_is_full_in_a_large_transaction(prepared, server, make_flow, small_disk, tmp_path):
    """What its windows wrote aside does not stay: the room is there for others, and for the next attempt."""
    disk = small_disk("6m")
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", disk.path)
    flow = make_flow(prepared, home, source={"max_memory": "1MiB", "work_mem": "64kB"},
                     destination={"index_dir": str(tmp_path / "index"), "flush_bytes": "1MiB"})
    flow.run_until_caught_up()
    before = sorted(disk.path.rglob("*.parquet"))
    fill(prepared, 40000)
    run = flow.start("--until-caught-up")
    run.wait_for(lambda: "attempt=2" in run.stderr, 60, "a second attempt")
    assert run.terminate() == 130
    assert says_no_space(run) and str(disk.path) in run.stderr, run.describe()
    assert sorted(disk.path.rglob("*.parquet")) == before
    check_survives(prepared, home, flow, disk, flow.start("--until-caught-up"))
    home.close()


def test_index_folder_is_full_in_a_large_transaction(prepared, server, make_flow, small_disk, tmp_path):
    """What its windows did to each key is beside the index: it needs as much room again."""
    disk = small_disk("12m")
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", tmp_path / "data")
    prepared.sql("INSERT INTO t SELECT i, 'short' FROM generate_series(1000, 90000) i")
    flow = make_flow(prepared, home, source={"max_memory": "1MiB", "work_mem": "64kB"},
                     destination={"index_dir": str(disk.path), "flush_bytes": "1MiB"})
    flow.run_until_caught_up()
    disk.grow("5m")  # it has 3
    before = sorted(home.data_path.rglob("*.parquet"))
    prepared.sql("UPDATE t SET v = 'other'")
    run = flow.start("--until-caught-up")
    run.wait_for(lambda: "attempt=2" in run.stderr, 60, "a second attempt")
    assert run.terminate() == 130
    assert says_no_space(run) and "scratch.idx" in run.stderr, run.describe()
    assert sorted(home.data_path.rglob("*.parquet")) == before
    assert not list(disk.path.rglob("scratch*"))
    check_survives(prepared, home, flow, disk, flow.start("--until-caught-up"))
    home.close()


def test_index_folder_is_read_only(prepared, server, make_flow, small_disk, tmp_path):
    disk = small_disk()
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", tmp_path / "data")
    flow = make_flow(prepared, home, destination={"index_dir": str(disk.path)})
    flow.run_until_caught_up()
    prepared.sql("UPDATE t SET v = 'other' WHERE id % 2 = 0")
    subprocess.run(["mount", "-o", "remount,ro", disk.path], check=True)
    run = flow.start("--until-caught-up")
    run.expect(2)
    assert str(disk.path) in run.stderr and "Read-only" in run.stderr, run.describe()
    subprocess.run(["mount", "-o", "remount,rw", disk.path], check=True)
    flow.run_until_caught_up()
    with home.open() as lake:
        assert_same(prepared, lake, "public.t")
    home.close()


def test_the_spool_is_named_before_it_is_needed(prepared, make_flow, small_disk, sqlite_lake, tmp_path):
    """Folder, limit and free room; a limit beyond the disk, and a folder that cannot be written."""
    disk = small_disk()

    def told(**options):
        flow = make_flow(prepared, sqlite_lake, source=options)
        found = lines(ductstream("check", flow.path, "--json")[1])
        [line] = [line for line in found if "be spooled in" in line.get("what", "") or "are spooled in" in line.get("what", "")]
        return line["finding"], line["what"]

    assert told(spool_dir=str(disk.path), spool_limit="2MiB") == (
        "ok", f'large transactions are spooled in "{disk.path}": at most 2 MiB (option spool_limit), 4 MiB are free')
    assert told(spool_dir=str(disk.path))[1].split(": ")[1] == "no limit (option spool_limit), 4 MiB are free"
    assert told(spool_dir=str(disk.path), spool_limit="1GiB")[0] == "warn"
    finding, message = told(spool_dir=str(tmp_path / "missing"))
    assert finding == "error" and f'"{tmp_path}/missing"' in message and "No such file" in message


def test_spool_folder_is_full(prepared, server, make_flow, small_disk, tmp_path):
    """A large transaction that is still open when its changes come."""
    disk = small_disk()
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", tmp_path / "data")
    flow = make_flow(prepared, home, source={"max_memory": "1MiB", "work_mem": "64kB", "spool_dir": str(disk.path)})
    flow.run_until_caught_up()
    fill(prepared, 40000)
    check_survives(prepared, home, flow, disk, flow.start("--until-caught-up"))
    assert not list(disk.path.iterdir()), "the spool was left behind"
    home.close()
