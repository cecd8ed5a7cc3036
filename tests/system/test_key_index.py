"""The key index: ready after the copy, equal by bytes however it came about, fresh or rebuilt, right when hashes collide (issue 4, point 1)."""

import re
import shutil
import sqlite3
import struct
from pathlib import Path

import pytest
from lib.lake import LakeHome
from lib.pause import run_to

HEADER = 4096

KEYS = {
    "small": ("k int2", "i - 32768 + i"),
    "integer": ("k int4", "i * 7 - 100"),
    "large": ("k int8", "i::int8 * 4000000000 - 5"),
    "number": ("k numeric(20,4)", "i / 8.0"),
    "free": ("k numeric", "i * 1.5"),
    "single": ("k float4", "i / 4.0"),
    "double": ("k float8", "i / 3.0 - 5"),
    "words": ("k text", "'word ' || i"),
    "varying": ("k varchar(20)", "'w' || i"),
    "padded": ("k char(12)", "'c' || i"),
    "id": ("k uuid", "md5(i::text)::uuid"),
    "bytes": ("k bytea", "decode(md5(i::text), 'hex')"),
    "day": ("k date", "date '1999-12-01' + i"),
    "moment": ("k timestamp", "timestamp '1999-12-01' + i * interval '1.5 s'"),
    "zoned": ("k timestamptz", "timestamptz '1999-12-01 00:00+02' + i * interval '1.5 s'"),
    "clock": ("k time", "time '00:00' + i * interval '1 s'"),
    "span": ("k interval", "i * interval '1 s'"),
    "list": ("k int[]", "ARRAY[i, -i]"),
    "address": ("k inet", "'10.0.0.0'::inet + i"),
}
COMPOSITE = "CREATE TABLE composite (a int, k text, b timestamptz, v int, PRIMARY KEY (b, a, k))"
ROWS = 900


def tables_of_all_types():
    statements = [f"CREATE TABLE {name} ({column} PRIMARY KEY, v int)" for name, (column, _) in KEYS.items()]
    statements += [f"INSERT INTO {name} SELECT {value}, i FROM generate_series(1, {ROWS}) i" for name, (_, value) in KEYS.items()]
    fill = f"INSERT INTO composite SELECT i % 7, 'k' || i, now() + i * interval '1 s', i FROM generate_series(1, {ROWS}) i"
    return [*statements, COMPOSITE, fill]


def folder(m):
    options = m.flow.content["destinations"][0]["options"]
    return Path(options.get("index_dir") or m.home.catalog.removeprefix("sqlite:") + ".ductstream") / "shop"


def entries(m):
    """Table id -> the index without its header."""
    return {path.stem: path.read_bytes()[HEADER:] for path in folder(m).glob("*.idx")}


def touch_all(m, names):
    """Changes without effect: they need the index of each table."""
    m.sql("; ".join(f"INSERT INTO {name} SELECT * FROM spare.{name}_spare; DELETE FROM {name} WHERE v = -1" for name in names))
    m.sync()


def with_spares(names):
    """A row for each table that is not in it."""
    return [f"CREATE TABLE spare.{name}_spare AS SELECT * FROM {name} WHERE v = {ROWS}; DELETE FROM {name} WHERE v = {ROWS}; "
            f"UPDATE spare.{name}_spare SET v = -1" for name in names]


def test_equal_by_bytes_however_it_came_about(mirror_sqlite):
    """From the copy, from the lake, and step by step; for every type of key."""
    names = [*KEYS, "composite"]
    publication = f"CREATE PUBLICATION shop FOR TABLE {', '.join(names)}"
    m = mirror_sqlite(*tables_of_all_types(), "CREATE SCHEMA spare", *with_spares(names), publication,
                      source={"snapshot_workers": 3})
    m.sync()
    copied = entries(m)
    assert len(copied) == len(names)
    assert all(any(content) for content in copied.values())

    rebuild(m)
    touch_all(m, names)
    assert entries(m) == copied

    m.sql("; ".join(f"UPDATE {name} SET v = v + 1000 WHERE v % 5 = 0; DELETE FROM {name} WHERE v % 7 = 0" for name in names))
    m.sync()
    m.sql("; ".join(f"INSERT INTO {name} SELECT k, 5 FROM spare.{name}_spare; UPDATE {name} SET v = 6 WHERE v % 9 = 1" for name in KEYS))
    m.sync()
    assert entries(m) != copied
    m.sql("; ".join(f"DELETE FROM {name} WHERE v = 5 OR v % 3 > 0" for name in names))
    m.sync()
    stepped = entries(m)
    assert all(len(stepped[table]) < len(copied[table]) for table in copied)
    rebuild(m)
    touch_all(m, names)
    assert entries(m) == stepped
    m.same(*names)


def test_row_ids_that_the_index_cannot_hold_are_refused(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    m.sync()
    with sqlite3.connect(m.home.catalog.removeprefix("sqlite:")) as catalog:
        catalog.execute("UPDATE ducklake_table_stats SET next_row_id = 1 << 47")
    rebuild(m)
    m.sql("UPDATE t SET v = 'c'")
    assert 'table "public"."t": its next row id in the lake is 140737488355328' in m.fails(1)


def rebuild(m):
    """The next change of each table builds its index anew, with the same hashes."""
    for path in folder(m).glob("*.idx"):
        path.unlink()


# --- equal hashes ---


@pytest.mark.parametrize("bits", [4, 12])
def test_keys_with_equal_hashes_do_not_mix(mirror_sqlite, monkeypatch, bits):
    """Hashes have so few bits until the index has been given another seed. Equal ones are met in the copy, in the lake, in one transaction, and between a new key and an old one."""
    m = mirror_sqlite("CREATE TABLE t (a int, b text, v text, PRIMARY KEY (a, b))", "CREATE TABLE u (LIKE t INCLUDING ALL)",
                      "INSERT INTO t SELECT i, 'k' || i, 'x' FROM generate_series(1, 300) i")
    monkeypatch.setenv("DUCT_TEST_HASH_BITS", str(bits))
    m.sync()
    m.sql("INSERT INTO u SELECT i, 'k' || i, 'x' FROM generate_series(1, 8) i")
    m.sync()
    m.sql(*[f"INSERT INTO u VALUES ({i}, 'new', 'y')" for i in range(30)])
    m.sync()
    m.sql("UPDATE u SET v = v || a; UPDATE t SET v = v || a WHERE a % 2 = 0; DELETE FROM t WHERE a % 5 = 0",
          "UPDATE t SET a = a + 1000 WHERE a % 3 = 0; INSERT INTO t SELECT a, b, 'again' FROM u ON CONFLICT DO NOTHING")
    m.sync()
    m.same("t", "u")
    m.sql("UPDATE t SET v = 'z'; UPDATE u SET v = 'z'", "DELETE FROM t WHERE a % 2 = 0; DELETE FROM u WHERE a % 2 = 0")
    m.sync()
    m.same("t", "u")
    assert state(m)["doubts"] > 0


def test_a_key_that_is_there_twice_is_drift_and_no_collision(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, v text)", "INSERT INTO t VALUES (1, 'a'), (2, 'b')")
    m.sync()
    with m.home.open() as lake:
        lake.sql("CALL lake.set_option('data_inlining_row_limit', 0)")
        lake.sql("INSERT INTO lake.public.t VALUES (3, 'foreign')")
    m.flow.content["destinations"][0]["options"]["foreign_changes"] = "share"
    m.flow.write()
    m.sql("INSERT INTO t VALUES (3, 'ours')")
    assert "already" in m.fails(1)


# --- fresh, or built anew ---

STATE = struct.Struct("<16sQQQQQQQQ40s64s64s64s")  # index_set.c
FIELDS = "magic set_id seed dirty doubts synced sum device inode boot_id lake_uuid commit_id doubted_at".split()


def state(m):
    return dict(zip(FIELDS, STATE.unpack_from((folder(m) / "state").read_bytes())))


def change_state(m, **changes):
    path = folder(m) / "state"
    raw = bytearray(path.read_bytes())
    STATE.pack_into(raw, 0, *{**state(m), **changes}.values())
    with open(path, "r+b") as file:  # the same file
        file.write(raw)


def zero_a_page(m):
    """Of the first table's entries. Returns the file."""
    path = sorted(folder(m).glob("*.idx"))[0]
    with open(path, "r+b") as file:
        file.seek(2 * HEADER)
        assert any(file.read(HEADER))
        file.seek(2 * HEADER)
        file.write(bytes(HEADER))
    return path


@pytest.fixture
def indexed(mirror_sqlite, tmp_path):
    """A mirror whose index is there."""
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, v int)", "INSERT INTO t SELECT i, i FROM generate_series(1, 2000) i",
                      destination={"index_dir": str(tmp_path / "index"), "inline_rows": 0})
    m.sync()
    m.sql("UPDATE t SET v = v + 1 WHERE id % 3 = 0")
    m.sync()
    assert len(entries(m)) == 1
    return m


def ends_right(m, kept):
    """All rows are touched, and the lake is the source; the index was kept or made anew."""
    before = state(m)["set_id"]
    m.sql("UPDATE t SET v = v + 1", "DELETE FROM t WHERE id % 2 = 0", "UPDATE t SET id = -id")
    m.sync()
    assert (state(m)["set_id"] == before) is kept
    m.same("t")


def test_kept_over_a_rest(indexed):
    m = indexed
    m.sql("INSERT INTO t VALUES (5000, 1)", "UPDATE t SET v = 7 WHERE id < 100")
    ends_right(m, kept=True)


def test_built_anew_after_a_kill_between_commit_and_index(indexed):
    m = indexed
    m.sql("UPDATE t SET v = 7 WHERE id < 100")
    m.flow.start("--until-caught-up", env={"DUCT_KILL_POINT": "commit-done:1"}).wait(60)
    assert state(m)["dirty"] == 1
    ends_right(m, kept=False)


def built(run):
    """The tables whose index a run with --log-level debug has built."""
    return sorted(re.findall(r"key index built .*?table=(\w+)", run.stderr))


def merged(lake, *tables):
    """Has something to merge in these tables."""
    before = lake.last_snapshot()
    for table in tables:
        lake.sql(f"CALL ducklake_merge_adjacent_files('lake', '{table}', schema => 'public')")
    assert lake.last_snapshot() == before + len(tables)


@pytest.fixture
def three(indexed):
    """Three tables of some files each, and their indexes."""
    m = indexed
    m.sql("CREATE TABLE a (id int PRIMARY KEY, v int); CREATE TABLE b (id int PRIMARY KEY, v int)")
    for n in range(1, 4):
        m.sql(*(f"INSERT INTO {table} SELECT i, i FROM generate_series({n * 10000}, {n * 10000 + 50}) i" for table in "abt"))
        m.sync()
    m.sql(*(f"UPDATE {table} SET v = 0 WHERE id = 10001" for table in "abt"))
    m.sync()
    assert len(entries(m)) == 3
    return m


CHANGES = [statement.format(table) for table in "abt" for statement in ("UPDATE {} SET v = v + 1", "DELETE FROM {} WHERE id % 2 = 0")]


@pytest.mark.parametrize("moved", ["a", "at"])
def test_built_anew_after_a_foreign_merge(three, moved):
    """Of the merged tables only."""
    m = three
    with m.home.open() as lake:
        merged(lake, *moved)
    m.sql(*CHANGES)
    run = m.flow.start("--until-caught-up", "--log-level", "debug")
    run.expect(0)
    assert built(run) == list(moved), run.stderr
    m.same("a", "b", "t")
    ends_right(m, kept=True)


@pytest.mark.parametrize("killed", [False, True])
def test_a_race_lost_to_a_merge_leaves_the_other_indexes(three, tmp_path, killed):
    m = three
    m.sql("; ".join(CHANGES))
    pause, run = run_to(m.flow, tmp_path / "pause", "commit-planned", "--log-level", "debug")
    assert built(run) == []
    with m.home.open() as lake:
        merged(lake, "b")
    if killed:
        run.kill()
        run = m.flow.start("--until-caught-up", "--log-level", "debug")
    else:
        pause.release()
    run.expect(0)
    assert built(run) == (["a", "b", "t"] if killed else ["b"]), run.stderr
    m.same("a", "b", "t")
    ends_right(m, kept=True)


def test_a_kill_behind_a_lost_race(three, tmp_path):
    """The attempt after it dies: what it left is not believed where it was being changed."""
    m = three
    m.sql("; ".join(CHANGES))
    pause, run = run_to(m.flow, tmp_path / "pause", "commit-planned", DUCT_KILL_POINT="commit-done:1")
    with m.home.open() as lake:
        merged(lake, "b")
    pause.release()
    run.expect(-9)
    m.sync()
    m.same("a", "b", "t")
    ends_right(m, kept=True)


def test_built_anew_with_a_restored_catalog(indexed, tmp_path):
    m = indexed
    catalog = m.home.catalog.removeprefix("sqlite:")
    with sqlite3.connect(catalog) as connection, sqlite3.connect(tmp_path / "backup") as backup:
        connection.backup(backup)
    m.sql("UPDATE t SET v = v + 10")
    m.sync()
    for path in (catalog, f"{catalog}-wal", f"{catalog}-shm"):
        Path(path).unlink(missing_ok=True)
    shutil.copy(tmp_path / "backup", catalog)
    before = state(m)["set_id"]
    m.sql("UPDATE t SET v = v + 1")
    m.sync("--accept-gap")
    assert state(m)["set_id"] != before
    m.same("t")


def test_a_copied_folder_is_kept_when_it_is_whole(indexed):
    m = indexed
    shutil.copytree(folder(m), f"{folder(m)}-copy")
    shutil.rmtree(folder(m))
    shutil.move(f"{folder(m)}-copy", folder(m))
    ends_right(m, kept=True)


def test_a_folder_copied_in_pieces_is_built_anew(indexed):
    """Its files are of different moments: each is whole, together they are not what the state says."""
    m = indexed
    index = next(folder(m).glob("*.idx"))
    shutil.copy(index, f"{folder(m)}-old")
    m.sql("UPDATE t SET v = v + 1 WHERE id % 2 = 0")
    m.sync()
    shutil.copytree(folder(m), f"{folder(m)}-copy")
    shutil.rmtree(folder(m))
    shutil.move(f"{folder(m)}-copy", folder(m))
    shutil.copy(f"{folder(m)}-old", index)
    ends_right(m, kept=False)


def test_the_folder_of_another_lake_is_built_anew(indexed, make_mirror, tmp_path):
    m = indexed
    other = make_mirror(m.database, LakeHome(f"sqlite:{tmp_path}/other.sqlite", tmp_path / "other"), name="other")
    other.sync()
    shutil.rmtree(folder(m))
    shutil.copytree(tmp_path / "other.sqlite.ductstream" / "other", folder(m))
    ends_right(m, kept=False)


def test_built_anew_after_a_power_cut(indexed):
    """Another boot, and nothing says that the last bytes reached the disk: any page may be missing."""
    m = indexed
    change_state(m, boot_id=b"another boot", synced=0)
    zero_a_page(m)
    ends_right(m, kept=False)


def test_kept_over_an_orderly_reboot(indexed):
    m = indexed
    change_state(m, boot_id=b"another boot")
    ends_right(m, kept=True)


def test_a_page_that_did_not_reach_the_disk_is_noticed(indexed):
    """The disk said that it had everything. Only the damaged file is built anew."""
    m = indexed
    change_state(m, boot_id=b"another boot")
    path = zero_a_page(m)
    damaged = path.read_bytes()[HEADER:]
    ends_right(m, kept=True)
    assert path.read_bytes()[HEADER:] != damaged


DAMAGES = {
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-5000]),
    "empty": lambda path: path.write_bytes(b""),
    "other bytes": lambda path: path.write_bytes(b"\x5a" * path.stat().st_size),
    "a byte of the header": lambda path: flip(path, 40),
    "a byte of the entries": lambda path: flip(path, next(i for i, byte in enumerate(path.read_bytes()) if byte and i >= HEADER)),
    "a byte of a free entry": lambda path: flip(path, next(i for i, byte in enumerate(path.read_bytes()) if not byte and i >= HEADER)),
}


def flip(path, at):
    with open(path, "r+b") as file:
        file.seek(at)
        [byte] = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 0x10]))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_index_is_built_anew(indexed, damage):
    """Whoever damaged it, and without a word of it in the state."""
    m = indexed
    [path] = folder(m).glob("*.idx")
    DAMAGES[damage](path)
    ends_right(m, kept=True)


@pytest.mark.parametrize("at", [0, 20, 25, 60, 70, 90, 140, 190, 270])
def test_a_byte_of_the_state_is_changed(indexed, at):
    m = indexed
    flip(folder(m) / "state", at)
    m.sql("UPDATE t SET v = v + 1", "DELETE FROM t WHERE id % 2 = 0", "UPDATE t SET id = -id")
    m.sync()
    m.same("t")


def test_a_damaged_state_is_built_anew(indexed):
    m = indexed
    (folder(m) / "state").write_bytes(b"x" * 100)
    m.sql("UPDATE t SET v = v + 1", "DELETE FROM t WHERE id % 2 = 0")
    m.sync()
    m.same("t")
