"""Merges against a model of their own: which rows are there after each run, and which files were read for it (issue 6, point 4)."""

import random
from datetime import date, datetime, timedelta, timezone
from uuid import UUID

import pytest
from lib.deaths import kinds_of_deaths
from lib.ingest import Ingest, rest
from lib.lake import LakeHome
from lib.pg import Postgres
from lib.rest import RestServer


DAY = datetime(2024, 10, 15, tzinfo=timezone.utc)

# What a number becomes as a key: the value of a record, and what the official client says of it.
KEYS = {
    "int64": (lambda n: n * 7 - 2000, lambda n: n * 7 - 2000),
    "varchar": (lambda n: f"{'é' * (n % 200)}-{n}", lambda n: f"{'é' * (n % 200)}-{n}"),
    "long": (lambda n: "x" * 300 + f"{n}", lambda n: "x" * 300 + f"{n}"),
    "uuid": (lambda n: str(UUID(int=n * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2**128)),) * 2,
    "decimal(12,3)": (lambda n: f"{n - 300}.{n % 1000:03d}", lambda n: f"{n - 300}.{n % 1000:03d}"),
    "date": (lambda n: str(date(1999, 12, 20) + timedelta(days=n)),) * 2,
    "timestamptz": (
        lambda n: (DAY + timedelta(minutes=n)).isoformat(),
        lambda n: (DAY + timedelta(minutes=n)).strftime("%Y-%m-%d %H:%M:%S+00"),
    ),
    "time": (lambda n: f"{n // 60 % 24:02d}:{n % 60:02d}:00.{n % 10}", lambda n: f"{n // 60 % 24:02d}:{n % 60:02d}:00.{n % 10}"),
}


def plain(kind, text):
    """The official client's text of a key as ours: without zeros at the end of a fraction."""
    return text.rstrip("0").rstrip(".") if kind == "time" and "." in text else text


@pytest.mark.parametrize("kind", KEYS)
def test_random_walk(ingest, kind):
    """Merges of random ranges, official merges and flushes between them: after each the rows are those of the model, for every type of key."""
    rng = random.Random(f"walk {kind}")
    give, see = KEYS[kind]
    declared = "" if kind in ("int64", "varchar", "long") else f'columns: {{k: "{kind}"}}\n'
    items, model = [], {}
    with RestServer(lambda request: (200, {}, items)) as server:
        more = f"write: merge\nmerge_key: [k]\n{declared}"
        paths = [ingest.file(rest(server.url, f"{more}inline_rows: {n}\n"), f"{n}.yaml") for n in (0, 500)]
        for step in range(10):
            start, spread = rng.randrange(600), rng.choice([1, 1, 5])
            wanted = [start + i * spread for i in range(rng.choice([1, 7, 60]))]
            items[:] = [{"k": give(n), "step": step, "n": n} for n in wanted]
            replaced = sum(see(n) in model for n in wanted)
            model.update({see(n): (step, n) for n in wanted})
            (result,) = ingest.run(rng.choice(paths))
            assert result["replaced"] == replaced, (step, result)
            if step in (3, 7):
                with ingest.home.open() as lake:
                    lake.sql("CALL ducklake_flush_inlined_data('lake')")
                    lake.sql("CALL ducklake_merge_adjacent_files('lake')")
            if step % 3 == 2 or step == 9:
                got = {plain(kind, k): (s, n) for k, s, n in ingest.rows("SELECT k::VARCHAR, step, n FROM raw.t")}
                want = {plain(kind, str(k)): v for k, v in model.items()}
                assert got == want, step
                assert ingest.rows("SELECT count(*) FROM raw.t") == [(len(model),)]


@pytest.mark.parametrize("unit", ["timestamptz", "timestamp", "date", "varchar", "epoch", "epoch_ms"])
def test_partitions_walk(ingest_sqlite, unit):
    """Days done in any order, twice, and shorter: only their own rows go, whatever the column says the day with, in a zone that is not UTC."""
    rng = random.Random(f"days {unit}")
    zone = "UTC" if unit == "timestamp" else "America/New_York"
    hours = 0 if unit == "timestamp" else 4  # summer time
    shown = {
        "timestamptz": lambda t: t.isoformat(),
        "timestamp": lambda t: t.strftime("%Y-%m-%dT%H:%M:%S"),
        "date": lambda t: (t - timedelta(hours=hours)).strftime("%Y-%m-%d"),
        "varchar": lambda t: t.astimezone(timezone(timedelta(hours=rng.choice([-11, 0, 13])))).isoformat(),
        "epoch": lambda t: int(t.timestamp()),
        "epoch_ms": lambda t: int(t.timestamp() * 1000),
    }[unit]
    declared = {"varchar": "", "epoch": "", "epoch_ms": ""}.get(unit, f"columns: {{at: {unit}}}\n")
    said = f", unit: {unit}" if unit in ("epoch", "epoch_ms") else ""
    items, model = [], {}
    with RestServer(lambda request: (200, {}, items)) as server:
        more = (
            f"write: merge\nmerge_key: [day, id]\n{declared}"
            f"partition: {{every: day, zone: {zone}, column: at{said}}}\nparams: {{since: '{{partition.start}}'}}\n"
        )
        paths = [ingest_sqlite.file(rest(server.url, f"{more}inline_rows: {n}\n"), f"{n}.yaml") for n in (0, 500)]
        for step in range(10):
            number = rng.randrange(8)
            day = DAY.replace(day=10 + number, hour=hours)
            seconds = sorted({0, 86399, *(rng.randrange(86400) for _ in range(rng.choice([0, 3, 40])))})
            seconds = [] if step % 5 == 4 else seconds
            items[:] = [{"day": number, "id": s, "at": shown(day + timedelta(seconds=s)), "step": step} for s in seconds]
            (result,) = ingest_sqlite.run(rng.choice(paths), "--partition", f"2024-10-{10 + number}")
            assert result["replaced"] == len(model.get(number, [])), (step, result)
            model[number] = [(number, s, step) for s in seconds]
            got = ingest_sqlite.rows('SELECT "day", id, step FROM raw.t ORDER BY ALL')
            assert got == sorted(row for rows in model.values() for row in rows), step
    assert any(model.values())


def test_composite_and_missing_keys(ingest):
    """A key of two columns; rows of others without one of them, or NULL in it, are nobody's and stay (issue 6, point 4)."""
    items = [{"a": i // 10, "b": f"k{i % 10}", "v": 0} for i in range(100)]
    with RestServer(lambda request: (200, {}, items)) as server:
        path = ingest.file(rest(server.url, "write: merge\nmerge_key: [a, b]\ninline_rows: 0\n"))
        ingest.run(path)
        with ingest.home.open() as lake:
            lake.sql("INSERT INTO raw.t VALUES (NULL, 'k1', -1), (3, NULL, -2), (NULL, NULL, -3)")
        items[:] = [{"a": 3, "b": f"k{n}", "v": 1} for n in (1, 2, 12)]
        (result,) = ingest.run(path)
        assert result["replaced"] == 2
        items[:] = [{"a": None, "b": "k1", "v": 2}]
        assert '"a"' in ingest.fails(path, code=3)
    assert ingest.rows("SELECT a, b, v FROM raw.t WHERE v <> 0 ORDER BY v, b") == [
        (None, None, -3), (3, None, -2), (None, "k1", -1), (3, "k1", 1), (3, "k12", 1), (3, "k2", 1),
    ]  # fmt: skip
    assert ingest.rows("SELECT count(*) FROM raw.t") == [(104,)]


def test_keys_that_widen(ingest_sqlite):
    """A key column that widens is the same key: older rows are read as what they are now (issue 6, point 4)."""
    items = []
    with RestServer(lambda request: (200, {}, items)) as server:
        for first, then, key in (("decimal(6,2)", "decimal(9,4)", "1.5"), ("int32", "int64", 7), ("date", "timestamp", "2024-05-01")):
            for inlined in (0, 500):
                table = f"raw.t{inlined}_{first[:3]}"
                for n, kind in enumerate((first, then)):
                    items[:] = [{"k": key, "n": n}]
                    more = f'write: merge\nmerge_key: [k]\ninline_rows: {inlined}\ncolumns: {{k: "{kind}"}}\n'
                    (result,) = ingest_sqlite.run(ingest_sqlite.file(rest(server.url, more, table)))
                assert result["replaced"] == 1, table
                assert ingest_sqlite.rows(f"SELECT n FROM {table}") == [(1,)]


def test_files_that_cannot_hold_a_key_are_passed_over(ingest):
    """Of 30 files of 100 keys each a merge reads those that may have its keys, and rows come out right (docs/plan.md)."""
    items = []
    with RestServer(lambda request: (200, {}, items)) as server:
        path = ingest.file(rest(server.url, "write: merge\nmerge_key: [id]\ninline_rows: 0\n"))
        for start in range(0, 3000, 100):
            items[:] = [{"id": start + i, "v": 0} for i in range(100)]
            (result,) = ingest.run(path)
        assert (result["files_scanned"], result["files_skipped"]) == (0, 29)
        # Keys of the first and the last file: what lies between is passed over as well.
        items[:] = [{"id": 5, "v": 1}, {"id": 2999, "v": 1}, {"id": 5000, "v": 1}]
        (result,) = ingest.run(path)
        assert (result["files_scanned"], result["files_skipped"], result["replaced"]) == (2, 28, 2)
    assert ingest.rows("SELECT count(*), sum(v), count(DISTINCT id) FROM raw.t") == [(3001, 3, 3001)]


def test_a_partition_column_that_comes_later(ingest_sqlite):
    """An empty day before there is a table is none; records without the partition's column are refused; it is taken when it comes (issue 6)."""
    items = []
    with RestServer(lambda request: (200, {}, items)) as server:
        more = "write: merge\nmerge_key: [id]\npartition: {column: at}\nparams: {since: '{partition.start}'}\n"
        path = ingest_sqlite.file(rest(server.url, more))
        ingest_sqlite.run(path, "--partition", "2024-10-01")
        items[:] = [{"id": 1, "at": None}]
        assert '"at"' in ingest_sqlite.fails(path, "--partition", "2024-10-01", code=3)
        plain = ingest_sqlite.file(rest(server.url, "write: merge\nmerge_key: [id]\n"), "plain.yaml")
        ingest_sqlite.run(plain)
        assert '"at"' in ingest_sqlite.fails(path, "--partition", "2024-10-02", code=3)
        items[:] = []
        ingest_sqlite.run(path, "--partition", "2024-10-03")
        items[:] = [{"id": 2, "at": "2024-10-03T01:00:00Z"}]
        for _ in range(2):
            ingest_sqlite.run(path, "--partition", "2024-10-03")
    assert ingest_sqlite.rows('SELECT id, "at" FROM raw.t ORDER BY id') == [(1, None), (2, "2024-10-03T01:00:00Z")]


def test_files_of_others(ingest, tmp_path):
    """Old rows in files that were registered as they are: their columns are found by the catalog's names, and they end row by row, many of a file by a delete file."""
    items = [{"k": n, "v": 0, "part": 7} for n in range(5)]
    folder = tmp_path / "others" / "part=7"
    folder.mkdir(parents=True)
    with RestServer(lambda request: (200, {}, items)) as server:
        path = ingest.file(rest(server.url, "write: merge\nmerge_key: [k, part]\ninline_rows: 0\n"))
        ingest.run(path)
        with ingest.home.open() as lake:
            lake.sql(f"COPY (SELECT 0 AS v, i AS k FROM range(100, 4000) r(i)) TO '{folder}/a.parquet'")
            lake.sql(f"CALL ducklake_add_data_files('lake', 't', '{folder}/a.parquet', schema => 'raw', hive_partitioning => true)")
        for first, n, deaths in ((100, 1500, (1500, 0)), (1595, 10, (1500, 10))):
            items[:] = [{"k": first + i, "v": 1, "part": 7} for i in range(n)]
            (result,) = ingest.run(path)
            assert result["replaced"] == n
            with ingest.home.open() as lake:
                assert kinds_of_deaths(lake, "t") == deaths
    assert ingest.rows("SELECT count(*), count(DISTINCT k), sum(v), sum(part) FROM raw.t") == [(3905, 3905, 1505, 3905 * 7)]


def test_more_child_tables_than_the_catalogs_server_has_locks_for(tmp_path):
    """What would lock one table of marks too many ends by a delete file."""
    lists = [f"l{n}" for n in range(25)]
    items = [{"id": n, **{name: [{"v": 0}, {"v": 1}] for name in lists}} for n in range(20)]
    with Postgres(settings={"max_locks_per_transaction": "10", "max_connections": "20"}) as small, RestServer(lambda request: (200, {}, items)) as server:
        home = LakeHome(f"postgres:{small.database('lake').dsn}", tmp_path / "data")
        ingest = Ingest(home, tmp_path)
        path = ingest.file(rest(server.url, "write: merge\nmerge_key: [id]\ninline_rows: 0\nnested: tables\n"))
        ingest.run(path)
        items[:] = [{"id": n, **{name: [{"v": 2}] for name in lists}} for n in range(10, 30)]
        (result,) = ingest.run(path)
        assert result["replaced"] == 10
        with home.open() as lake:
            assert {lake.sql(f"SELECT count(*), sum(v) FROM raw.t__{name}")[0] for name in lists} == {(40, 10 + 40)}
            deaths = [kinds_of_deaths(lake, f"t__{name}") for name in lists]
            assert set(deaths) == {(20, 0), (0, 20)}, deaths
        home.close()
