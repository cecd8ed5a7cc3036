"""Files into the lake: merges, tables that change with them, S3, many at once (issue 6, point 4)."""

import gzip
import json
import random
from datetime import datetime
from decimal import Decimal

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from lib.ingest import Ingest
from lib.lake import LakeHome, OfficialLake
from lib.s3 import missing


def files(path, more="", into="raw.t"):
    return f"type: files\ninto: {into}\nfiles: ['{path}']\n{more}"


MERGE = "write: merge\nmerge_key: [id]\n"


def types(ingest, table="raw.t"):
    return dict(ingest.rows(f"SELECT column_name, column_type FROM (DESCRIBE {table})"))


def test_merge_walk(ingest):
    """Merges of CSV, JSON lines and Parquet files against a model: the last row of a key counts, others stay (issue 6, point 4)."""
    rng = random.Random("files")
    model = {}
    for step in range(9):
        ids = [rng.randrange(300) for _ in range(rng.choice([1, 40, 200]))]  # some come twice
        rows = [(i, f"{step}-{n}") for n, i in enumerate(ids)]
        table = pa.table({"id": pa.array([r[0] for r in rows], pa.int64()), "v": [r[1] for r in rows]})
        path = ingest.folder / f"{step}.{['csv', 'parquet', 'jsonl'][step % 3]}"
        if step % 3 == 0:
            pyarrow.csv.write_csv(table, path)
        elif step % 3 == 1:
            pq.write_table(table, path, row_group_size=17)
        else:
            path.write_text("".join(f'{{"id": {i}, "v": "{v}"}}\n' for i, v in rows))
        old = len(set(ids) & set(model))
        model.update(rows)
        (result,) = ingest.run(ingest.file(files(path, MERGE)))
        assert (result["rows"], result["replaced"]) == (len(set(ids)), old), step
        assert ingest.rows("SELECT id, v FROM raw.t ORDER BY id") == sorted(model.items()), step


def test_merge_again_and_bounds(ingest_sqlite):
    """The same file twice leaves the same rows; files of other keys are not read (issue 6, point 4)."""
    for n in range(5):
        pq.write_table(pa.table({"id": range(n * 100, n * 100 + 100), "v": [n] * 100}), ingest_sqlite.folder / f"{n}.parquet")
    for n in (0, 1, 2, 3, 4, 2):
        (result,) = ingest_sqlite.run(ingest_sqlite.file(files(ingest_sqlite.folder / f"{n}.parquet", MERGE)))
    assert (result["rows"], result["replaced"], result["files_scanned"], result["files_skipped"]) == (100, 100, 1, 4)
    assert ingest_sqlite.rows("SELECT count(*), count(DISTINCT id), sum(v) FROM raw.t") == [(500, 500, 1000)]


def test_merge_needs_keys(ingest_sqlite):
    """A row without a key, a key that no file has: named, and nothing is there (issue 6, bad input)."""
    csv = ingest_sqlite.file("id,v\n1,a\n,b\n", "x.csv")
    assert '"id"' in ingest_sqlite.fails(ingest_sqlite.file(files(csv, MERGE)), code=3)
    said = ingest_sqlite.fails(ingest_sqlite.file(files(csv, "write: merge\nmerge_key: [nr]\n")), code=2)
    assert '"nr"' in said
    assert ingest_sqlite.rows("SELECT count(*) FROM information_schema.tables WHERE table_name = 't'") == [(0,)]


@pytest.mark.parametrize("write", ["append", "merge"])
def test_tables_change_with_files(ingest, write):
    """New columns are added, narrow ones widen, values that fit leave the type as it is; older rows have NULL (issue 6, point 4)."""
    key = "merge_key: [id]\n" if write == "merge" else ""
    one = ingest.folder / "one.parquet"
    pq.write_table(pa.table({"id": pa.array([1], pa.int32()), "n": pa.array([1], pa.int16()), "f": pa.array([1.5], pa.float32())}), one)
    ingest.run(ingest.file(files(one, f"write: {write}\n{key}")))
    two = ingest.folder / "two.parquet"
    pq.write_table(
        pa.table({"extra": ["x"], "ID": pa.array([2], pa.int64()), "n": pa.array([100_000], pa.int64()), "f": pa.array([0.1], pa.float64())}), two
    )
    (result,) = ingest.run(ingest.file(files(two, f"write: {write}\n{key}")))
    assert result["new_columns"] == 1
    # 2 fits int32; 100000 does not fit int16; 0.1 is no float32.
    assert types(ingest) == {"id": "INTEGER", "n": "BIGINT", "f": "DOUBLE", "extra": "VARCHAR"}
    three = ingest.file("f,id\n2,3\n", "three.csv")
    ingest.run(ingest.file(files(three, f"write: {write}\n{key}")))
    assert ingest.rows("SELECT id, n, f, extra FROM raw.t ORDER BY id") == [(1, 1, 1.5, None), (2, 100_000, 0.1, "x"), (3, None, 2.0, None)]


def test_what_does_not_go_together(ingest_sqlite):
    """A type that does not widen, a value that is none, evolve: false: which column, which types, what to do (issue 6, bad input)."""
    first = ingest_sqlite.folder / "first.parquet"
    pq.write_table(pa.table({"id": pa.array([1], pa.int64()), "v": ["x"], "at": pa.array([0], pa.timestamp("us"))}), first)
    ingest_sqlite.run(ingest_sqlite.file(files(first)))
    cases = [
        (pa.table({"id": ["one"]}), "", 3, ['"id"', "varchar", "int64", "columns"]),
        (pa.table({"id": pa.array([1.5], pa.float64())}), "", 3, ['"id"', "float64"]),
        (pa.table({"at": pa.array([0], pa.date32()), "id": [{"a": 1}]}), "", 3, ['"id"', "struct"]),
        (pa.table({"id": pa.array([2], pa.int64()), "more": [1]}), "evolve: false\n", 3, ['"more"', "evolve"]),
        (pa.table({"id": ["12x"]}), "columns: {id: int64}\n", 3, ["12x"]),
    ]
    for table, more, code, parts in cases:
        path = ingest_sqlite.folder / "case.parquet"
        pq.write_table(table, path)
        said = ingest_sqlite.fails(ingest_sqlite.file(files(path, more)), code=code)
        for part in parts:
            assert part in said, said
    csv = ingest_sqlite.file("id,v\n5,y\nsix,z\n", "bad.csv")
    said = ingest_sqlite.fails(ingest_sqlite.file(files(csv)), code=3)
    assert "six" in said and "id" in said
    pq.write_table(pa.table({"id": ["12"]}), path)
    ingest_sqlite.run(ingest_sqlite.file(files(path, "columns: {id: int64}\n")))
    assert ingest_sqlite.rows("SELECT id, v FROM raw.t ORDER BY id") == [(1, "x"), (12, None)]


def test_text_is_read_as_the_table_has_it(ingest_sqlite):
    """What looks like a number in a CSV file is no number where the table has text; an empty column is NULL, whatever its type (issue 6, point 4)."""
    ingest_sqlite.run(ingest_sqlite.file("zip,n,at\nA1,1,2024-10-15 08:00:00\n", "a.csv"), "--into", "raw.t")
    ingest_sqlite.run(ingest_sqlite.file("zip,n,at\n00501,2,2024-10-16\n", "b.csv"), "--into", "raw.t")
    ingest_sqlite.run(ingest_sqlite.file("zip,n,at\n007,,\n", "c.csv"), "--into", "raw.t")
    assert types(ingest_sqlite) == {"zip": "VARCHAR", "n": "BIGINT", "at": "TIMESTAMP"}
    assert ingest_sqlite.rows('SELECT zip, n, "at"::VARCHAR FROM raw.t ORDER BY n NULLS LAST') == [
        ("A1", 1, "2024-10-15 08:00:00"), ("00501", 2, "2024-10-16 00:00:00"), ("007", None, None),
    ]  # fmt: skip
    declared = ingest_sqlite.file(files(ingest_sqlite.file("zip\n01\n", "d.csv"), "columns: {zip: varchar}\n", "raw.u"))
    ingest_sqlite.run(declared)
    assert ingest_sqlite.rows("SELECT zip FROM raw.u") == [("01",)]


def test_names_and_nested(ingest_sqlite):
    """names: snake_case holds for files; what is nested keeps its type, or becomes JSON when it is declared (issue 6, point 4)."""
    path = ingest_sqlite.file('{"userId": 1, "tags": ["a"], "geo": {"lat": 1.5}}\n', "n.jsonl")
    ingest_sqlite.run(ingest_sqlite.file(files(path, "names: snake_case\ncolumns: {geo: json}\n")))
    assert types(ingest_sqlite) == {"user_id": "BIGINT", "tags": "VARCHAR[]", "geo": "JSON"}
    assert ingest_sqlite.rows("SELECT user_id, tags, geo->>'lat' FROM raw.t") == [(1, ["a"], "1.5")]
    assert "nested" in ingest_sqlite.fails(ingest_sqlite.file(files(path, "nested: columns\n")), code=2)


def test_replace_brings_its_columns(ingest):
    """--replace: other columns make another table; evolve: false refuses that; the same columns keep the table (issue 6, point 4)."""
    ingest.run(ingest.file("a,b\n1,x\n", "a.csv"), "--into", "raw.t")
    (result,) = ingest.run(ingest.file("b,c\ny,2\nz,3\n", "b.csv"), "--into", "raw.t", "--replace")
    assert (result["rows"], result["replaced"]) == (2, 1)
    assert ingest.rows("SELECT b, c FROM raw.t ORDER BY b") == [("y", 2), ("z", 3)]
    strict = ingest.file(files(ingest.folder / "a.csv", "write: replace\nevolve: false\n"))
    assert "evolve" in ingest.fails(strict, code=3)
    (result,) = ingest.run(ingest.file("b,c\nw,4\n", "b.csv"), "--into", "raw.t", "--replace")
    assert (result["rows"], result["replaced"]) == (1, 2)
    assert ingest.rows("SELECT b, c FROM raw.t") == [("w", 4)]
    other = "write: replace\ninline_rows: 0\n"
    for text, more, replaced in (("b,c\nu,5\nv,6\n", other, 1), ("b,c\nu,7\n", "write: merge\nmerge_key: [b]\n", 1), ("b\nx\n", other, 2)):
        (result,) = ingest.run(ingest.file(files(ingest.file(text, "c.csv"), more)))
        assert result["replaced"] == replaced, text


def test_bad_files(ingest_sqlite):
    """A file that is not there, is torn, or is no such file: its name, exit code of its kind (issue 6, bad input)."""
    for name, text, code in (("x.parquet", "PAR1 nonsense", 3), ("x.jsonl", '{"a": 1}\n{"a": \n', 3), ("x.xlsx", "no zip", 3)):
        said = ingest_sqlite.fails(ingest_sqlite.file(text, name), "--into", "raw.t", code=code)
        assert name in said, said
    assert "none.csv" in ingest_sqlite.fails(ingest_sqlite.folder / "none.csv", "--into", "raw.t", code=2)
    assert "--into" in ingest_sqlite.fails(ingest_sqlite.file("a\n1\n", "x.csv"), code=2)
    assert "none" in ingest_sqlite.fails(ingest_sqlite.folder / "none*.csv", "--into", "raw.t", code=2)
    (result,) = ingest_sqlite.run(ingest_sqlite.file("a,b\n", "empty.csv"), "--into", "raw.e")
    assert result["rows"] == 0


def test_decimals_that_no_reader_takes(ingest_sqlite):
    """DuckDB makes doubles of their first bytes (issue 6, bad input)."""
    path = ingest_sqlite.folder / "wide.parquet"
    for inside in (False, True):
        wide = pa.array([Decimal("1.5")], pa.decimal256(50, 10))
        pq.write_table(pa.table({"d": pa.StructArray.from_arrays([wide], ["x"]) if inside else wide}), path)
        said = ingest_sqlite.fails(path, "--into", "raw.t", code=3)
        assert "decimal(50,10)" in said and "wide.parquet" in said and f'"{"x" if inside else "d"}"' in said
    pq.write_table(pa.table({"d": pa.array([Decimal("1.5")], pa.decimal256(38, 10))}), path)
    ingest_sqlite.run(path, "--into", "raw.t")
    assert ingest_sqlite.rows("SELECT d FROM raw.t") == [(Decimal("1.5"),)]


def test_lines_that_a_reader_would_leave_out(ingest_sqlite):
    """DuckDB takes lines above those of another width for a title: they are no rows only where that is said, or they are blank (issue 6, bad input)."""
    fifty = "id,v\n" + "1,a\n" * 50
    for text, skipped in ((fifty + "2,b,c\n", 51), ("id,v\n1,a,x\n2,b,c\n", 1), ("Report\n\nid,v\n1,a\n2,b\n", 2)):
        csv = ingest_sqlite.file(text, "x.csv")
        said = ingest_sqlite.fails(csv, "--into", "raw.t", code=3)
        assert f"first {skipped} lines" in said and "x.csv" in said
    assert "different numbers" in ingest_sqlite.fails(ingest_sqlite.file("id,v\n1,a\n2\n", "y.csv"), "--into", "raw.t", code=3)
    ingest_sqlite.run(ingest_sqlite.file(files(csv, "read_options: {skip: 2}\n")))
    ingest_sqlite.run(ingest_sqlite.file("\n\n# more\nid,v\n3,c\n4,d\n", "z.csv"), "--into", "raw.t")
    assert ingest_sqlite.rows("SELECT id, v FROM raw.t ORDER BY id") == [(1, "a"), (2, "b"), (3, "c"), (4, "d")]


@pytest.mark.parametrize("name", ["a[1].csv", "a?b.csv", "st*r.csv", "100%.csv", "größe 'x'.csv"])
def test_names_that_could_be_patterns(ingest_sqlite, name):
    """A file of just that name is meant, not those that the name would fit as a pattern, also where a pattern finds it (issue 6, bad input)."""
    for n, other in enumerate(("a1.csv", "a#b.csv", "stuff r.csv", name)):
        path = ingest_sqlite.file(f"a\n{n}\n", other)
    (result,) = ingest_sqlite.run(path, "--into", "raw.t")
    assert result["rows"] == 1 and ingest_sqlite.rows("SELECT a FROM raw.t") == [(3,)]
    ingest_sqlite.run(ingest_sqlite.folder / "*.csv", "--into", "raw.u")
    assert ingest_sqlite.rows("SELECT a FROM raw.u ORDER BY a") == [(n,) for n in range(4)]


@pytest.mark.parametrize("kind, text", [("csv", ""), ("jsonl", ""), ("json", "[]"), ("csv.gz", gzip.compress(b""))], ids=["csv", "jsonl", "list", "gz"])
@pytest.mark.parametrize("write", ["append", "merge", "replace"])
def test_files_with_nothing(ingest_sqlite, kind, text, write):
    """An empty file has no rows and no columns: no table is made for it, and one that is there gets none; beside others it adds nothing."""
    empty = ingest_sqlite.folder / f"x.{kind}"
    empty.write_bytes(text if isinstance(text, bytes) else text.encode())
    path = ingest_sqlite.file(files(empty, f"write: {write}\n" + ("merge_key: [id]\n" if write == "merge" else "")))
    (result,) = ingest_sqlite.run(path)
    assert result["rows"] == 0
    assert ingest_sqlite.rows("SELECT count(*) FROM information_schema.tables WHERE table_name = 't'") == [(0,)]
    ingest_sqlite.run(ingest_sqlite.file("id,v\n1,a\n", "one.csv"), "--into", "raw.t")
    (result,) = ingest_sqlite.run(path)
    assert (result["rows"], result["replaced"]) == (0, write == "replace")
    assert types(ingest_sqlite) == {"id": "BIGINT", "v": "VARCHAR"}
    assert ingest_sqlite.rows("SELECT id, v FROM raw.t") == ([] if write == "replace" else [(1, "a")])
    if kind == "csv":
        ingest_sqlite.run(ingest_sqlite.folder / "*.csv", "--into", "raw.u")
        assert types(ingest_sqlite, "raw.u") == {"id": "BIGINT", "v": "VARCHAR"}


def test_numbers_that_are_none_of_double(ingest_sqlite):
    """Long numbers of CSV, as those of parcels, are an error and not the same double several times; declared they are what is said."""
    path = ingest_sqlite.folder / "parcels.csv"
    for table, one, other in (("t", "12345678901234567890", "12345678901234567891"), ("v", "9007199254740993", "1.5")):
        merge = f"type: files\ninto: raw.{table}\nfiles: ['{path}']\nwrite: merge\nmerge_key: [id]\n"
        path.write_text(f"id,n\n{one},1\n{other},2\n")
        said = ingest_sqlite.fails(ingest_sqlite.file(merge), code=3)
        assert f'"id": {one}' in said and "columns: {id: varchar}" in said
        ingest_sqlite.run(ingest_sqlite.file(f"{merge}columns: {{id: varchar}}\n"))
        assert ingest_sqlite.rows(f"SELECT id, n FROM raw.{table} ORDER BY n") == [(one, 1), (other, 2)]
    values = ["1.5", "1e20", "nan", "inf", "9007199254740991", "1234567890123456789.5", "7", "1e-300", "-0.25"]
    path.write_text("v\n" + "\n".join(values))
    ingest_sqlite.run(path, "--into", "raw.u")
    got = [value for (value,) in ingest_sqlite.rows("SELECT v FROM raw.u ORDER BY v")]
    assert [repr(value) for value in got] == [repr(value) for value in sorted(map(float, values), key=lambda v: (v != v, v))]


def test_fractions_do_not_become_whole(ingest_sqlite):
    """A fraction in a later file is an error where the table has whole numbers or fewer digits, not rounded; 5.0 is five."""
    path = ingest_sqlite.folder / "x.csv"
    ingest_sqlite.file("id,v,m\n1,2,1.50\n", "x.csv")
    ingest_sqlite.run(ingest_sqlite.file(f"type: files\ninto: raw.t\nfiles: ['{path}']\ncolumns: {{m: 'decimal(9,2)'}}\n"))
    for wrong, said in (("2,1.5,1", '"v": 1.5 is no int64'), ("2,1,1.239", '"m": 1.239 is no decimal(9,2)')):
        path.write_text(f"id,v,m\n{wrong}\n")
        assert said in ingest_sqlite.fails(path, "--into", "raw.t", code=3)
    path.write_text("id,v,m\n2,5.0,1.20\n3,,.5\n4,-6.00,7.100\n5,9007199254740993,\n6,1,-2\n")
    ingest_sqlite.run(path, "--into", "raw.t")
    got = ingest_sqlite.rows("SELECT id, v, m::VARCHAR FROM raw.t ORDER BY id")
    assert got == [(1, 2, "1.50"), (2, 5, "1.20"), (3, None, "0.50"), (4, -6, "7.10"), (5, 9007199254740993, None), (6, 1, "-2.00")]


@pytest.mark.parametrize(
    "first, last, said",
    [
        ("7", "1.5", '"v": 1.5 is no int64'),
        ("7", "15e-1", '"v": 15e-1 is no int64'),
        ("7", "seven", "CSV Error on Line: 30002"),
        ("2024-01-01", "2024-01-02 12:30:00", '"v": 2024-01-02 12:30:00 is no date'),
        ("2024-01-01 10:00:00", "2024-01-01 10:00:00+02", '"v": 2024-01-01 10:00:00+02 is no timestamp'),
        ("10:00:00", "10:00:00+02", '"v": 10:00:00+02 is no time'),
        ("13/02/2024", "2024-02-14", "CSV Error on Line: 30002"),
        ("7", "-5.00", (7, -5)),
        ("7", "1e3", (7, 1000)),
        ("2024-01-01", "2024-01-02 00:00:00", ("2024-01-01", "2024-01-02")),
        ("2024-01-01T10:00:00", "2024-01-01T10:00:00.5Z", ("2024-01-01 10:00:00", "2024-01-01 10:00:00.500000")),
        ("13/02/2024", "14/02/2024", ("2024-02-13", "2024-02-14")),
    ],
)
def test_what_comes_behind_the_sample(ingest_sqlite, first, last, said):
    """A value that does not fit the type of the first 20,000 rows is an error, also where DuckDB rounds it, or leaves its time or zone out."""
    path = ingest_sqlite.file("id,v\n" + "".join(f"{i},{first}\n" for i in range(30000)) + f"30000,{last}\n", "x.csv")
    if isinstance(said, str):
        assert said in ingest_sqlite.fails(path, "--into", "raw.t", code=3)
        return
    ingest_sqlite.run(path, "--into", "raw.t")
    ((least, most, rows),) = ingest_sqlite.rows("SELECT min(v) FILTER (id = 0), min(v) FILTER (id = 30000), count(v) FROM raw.t")
    assert (type(said[0])(least), type(said[1])(most), rows) == (*said, 30001)


@pytest.mark.parametrize("part, column", [("3,4\n5,6\n", "column0"), ("x,y\nz,w\n", "x")])
def test_a_part_without_names(ingest_sqlite, part, column):
    """What split(1) leaves has no names: its rows are no new columns of the table, unless that is said."""
    ingest_sqlite.run(ingest_sqlite.file("id,v\n1,2\n", "x.csv"), "--into", "raw.t")
    path = ingest_sqlite.file(part, "y.csv")
    assert f'(the first is "{column}") is one of the table\'s' in ingest_sqlite.fails(path, "--into", "raw.t", code=3)
    ingest_sqlite.run(ingest_sqlite.file(files(path, f"columns: {{{column}: varchar}}\n")))
    assert len(types(ingest_sqlite)) == 4
    ingest_sqlite.run(ingest_sqlite.file(files(path, "write: replace\n")))
    assert len(types(ingest_sqlite)) == 2


def test_json_is_read_as_the_table_has_it(ingest_sqlite):
    """Texts that look like times or UUIDs stay what they are where the table has texts, and whole numbers of any length where that is declared."""
    ingest_sqlite.run(ingest_sqlite.file('{"t": "n/a", "u": "none", "n": 1, "l": [1]}\n', "a.jsonl"), "--into", "raw.t")
    line = {"t": "2024-01-01T00:00:00+02:00", "u": "550E8400-E29B-41D4-A716-446655440000", "n": 2, "l": [2, 3]}
    ingest_sqlite.run(ingest_sqlite.file(json.dumps(line) + "\n", "b.jsonl"), "--into", "raw.t")
    assert ingest_sqlite.rows("SELECT t, u, n, l FROM raw.t ORDER BY n") == [("n/a", "none", 1, [1]), tuple(line.values())]
    big = ingest_sqlite.file('[{"n": 12345678901234567890, "s": {"a": [1]}},\n{"n": 123456789012345678901234567890}]', "c.json")
    ingest_sqlite.run(ingest_sqlite.file(files(big, 'columns: {n: "decimal(38,0)"}\n', "raw.u")))
    assert ingest_sqlite.rows("SELECT n::VARCHAR, s FROM raw.u ORDER BY n") == [
        ("12345678901234567890", {"a": [1]}), ("123456789012345678901234567890", None),
    ]  # fmt: skip
    line = {"t": "2024-01-01", "at": "2024-01-01T00:00:00+02:00", "day": "2024-01-02", "id": "550e8400-e29b-41d4-a716-446655440000"}
    for table, declared in (("raw.w", ""), ("raw.x", "columns: {t: varchar}\n")):  # what is told of one column changes no other
        ingest_sqlite.run(ingest_sqlite.file(files(ingest_sqlite.file(json.dumps(line) + "\n", "w.jsonl"), declared, table)))
        assert ingest_sqlite.rows(f'SELECT t::VARCHAR, "at"::VARCHAR, "day"::VARCHAR, id::VARCHAR FROM {table}') == [
            ("2024-01-01", "2023-12-31 22:00:00", "2024-01-02", line["id"]),
        ]  # fmt: skip
    assert types(ingest_sqlite, "raw.x") == {**types(ingest_sqlite, "raw.w"), "t": "VARCHAR"}
    folder = ingest_sqlite.folder / "day=7"
    folder.mkdir()
    (folder / "d.jsonl").write_text('{"t": "2024-01-01 00:00:00"}\n')
    ingest_sqlite.run(folder / "d.jsonl", "--into", "raw.t")
    assert ingest_sqlite.rows('SELECT t, "day" FROM raw.t WHERE "day" IS NOT NULL') == [("2024-01-01 00:00:00", 7)]


def test_folders_are_columns(ingest_sqlite):
    """Numbers, days and texts in folders' names, of CSV and JSON; a number with a zero before it is what the table has."""
    for name, text in (("a.csv", "id,n\n1,1.5\n"), ("a.jsonl", '{"id": 1, "n": 1.5}\n')):
        into = f"raw.{name[2:]}"
        for folder in ("month=10/day=2024-10-01/by=x", "month=07/day=2024-07-02/by=7"):
            path = ingest_sqlite.folder / folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            ingest_sqlite.run(path, "--into", into)
        assert types(ingest_sqlite, into) == {"id": "BIGINT", "n": "DOUBLE", "month": "BIGINT", "day": "DATE", "by": "VARCHAR"}
        assert ingest_sqlite.rows(f'SELECT id, n, "month", "day"::VARCHAR, "by" FROM {into} ORDER BY "month"') == [
            (1, 1.5, 7, "2024-07-02", "7"), (1, 1.5, 10, "2024-10-01", "x"),
        ]  # fmt: skip


def test_columns_without_a_value(ingest_sqlite):
    """null, [] and {} in all rows of a JSON file say no type: the table's counts, before and after; so do names alone where a CSV file replaces."""
    lines = ('{"id": 1, "v": null, "l": [1], "s": {"a": 2}}\n', '{"id": 2, "v": "x", "l": [], "s": {}}\n', '{"id": 3, "l": null, "s": null}\n')
    for n, line in enumerate(lines):
        ingest_sqlite.run(ingest_sqlite.file(line, f"{n}.jsonl"), "--into", "raw.t")
    assert types(ingest_sqlite) == {"id": "BIGINT", "l": "BIGINT[]", "s": "STRUCT(a BIGINT)", "v": "VARCHAR"}
    assert ingest_sqlite.rows("SELECT id, v, l, s.a FROM raw.t ORDER BY id") == [(1, None, [1], 2), (2, "x", [], None), (3, None, None, None)]
    said = ingest_sqlite.fails(ingest_sqlite.file('{"id": 4, "l": [[], "x"]}\n', "m.jsonl"), "--into", "raw.t", code=3)
    assert '"l"' in said, said
    for text in ("id,v\n1,x\n", "id,v\n", "id,v\n,y\n"):
        ingest_sqlite.run(ingest_sqlite.file(text, "r.csv"), "--into", "raw.r", "--replace")
        assert types(ingest_sqlite, "raw.r") == {"id": "BIGINT", "v": "VARCHAR"}, text
    assert ingest_sqlite.rows("SELECT id, v FROM raw.r") == [(None, "y")]


def test_nulls_of_parquet(ingest_sqlite):
    """A column of nulls alone, which pandas calls nothing and DuckDB INTEGER, is what the table has; so is one of empty lists."""
    values = {"at": datetime(2024, 1, 1), "s": {"a": 1}, "t": "x", "l": ["y"]}
    for n, row in enumerate((values, {**dict.fromkeys(values), "l": []}, dict.fromkeys(values), {**dict.fromkeys(values), "at": 7})):
        path = ingest_sqlite.folder / f"{n}.parquet"
        pq.write_table(pa.table({name: [value] for name, value in row.items()}), path)
        if n < 3:
            ingest_sqlite.run(path, "--into", "raw.t")
    assert '"at"' in ingest_sqlite.fails(path, "--into", "raw.t", code=3)
    assert ingest_sqlite.rows('SELECT "at"::VARCHAR, s.a, t, l FROM raw.t ORDER BY l NULLS FIRST') == [
        (None, None, None, None), (None, None, None, []), ("2024-01-01 00:00:00", 1, "x", ["y"]),
    ]  # fmt: skip


def test_many_files_at_once(ingest):
    """12 commands at once, each with a file of its own, into one table that is not there yet: all land (issue 6, point 4)."""
    runs = []
    for n in range(12):
        path = ingest.file("id,n\n" + "".join(f"{n * 100 + i},{n}\n" for i in range(20)), f"{n}.csv")
        runs.append(ingest.start(path, "--into", "raw.t", DUCKDB_THREADS="1"))
    said = [run.communicate(timeout=240)[0] for run in runs]
    assert [run.returncode for run in runs] == [0] * 12, "\n".join(said)
    assert ingest.rows("SELECT count(*), count(DISTINCT id), sum(n) FROM raw.t") == [(240, 240, 20 * 66)]


@pytest.mark.parametrize("place", ["ingest-planned", "commit-begin", "commit-done"])
def test_killed(ingest, place):
    """A merge of a file that is killed is whole or nothing, and done again leaves the same rows (issue 6, point 4)."""
    csv = ingest.file("id,v\n" + "".join(f"{i},a\n" for i in range(50)), "x.csv")
    path = ingest.file(files(csv, MERGE))
    ingest.run(path)
    csv.write_text("id,v\n" + "".join(f"{i},b\n" for i in range(25, 75)))
    old = [(i, "a") for i in range(50)]
    new = [(i, "a") for i in range(25)] + [(i, "b") for i in range(25, 75)]
    ingest.fails(path, code=4, DUCT_KILL_POINT=f"{place}:1")
    rows = "SELECT id, v FROM raw.t ORDER BY id"
    assert ingest.rows(rows) == (new if place == "commit-done" else old)
    ingest.run(path)
    assert ingest.rows(rows) == new


# --- from S3

needs_s3 = pytest.mark.skipif(missing() is not None, reason=str(missing()))


def write_all(folder):
    """One row in each format; {name: id}."""
    (folder / "a.csv").write_text("id,v\n1,csv\n")
    (folder / "b.jsonl").write_text('{"id": 2, "v": "json"}\n')
    pq.write_table(pa.table({"id": [3], "v": ["parquet"]}), folder / "c.parquet")
    with OfficialLake(f"sqlite:{folder}/other.sqlite", folder / "other", extensions=["excel"]) as duck:
        duck.sql(f"COPY (SELECT 4.0::DOUBLE AS id, 'excel' AS v) TO '{folder}/d.xlsx' (FORMAT xlsx, HEADER true)")
    return {"a.csv": "csv", "b.jsonl": "json", "c.parquet": "parquet", "d.xlsx": "excel"}


@needs_s3
@pytest.mark.parametrize("keys", ["lake", "environment", "shared file", "section"])
def test_files_in_s3(ingest_sqlite, s3, bucket, tmp_path, keys):
    """All formats from S3, and patterns, with the keys of the lake, the chain, or the file's section s3 (issue 6, point 4)."""
    for name in write_all(tmp_path):
        s3.put(bucket, f"in/my {name}", (tmp_path / name).read_bytes())
    env, more = {}, ""
    if keys == "lake":
        env = {"DUCKLAKE_S3_ENDPOINT": s3.endpoint, "DUCKLAKE_S3_ACCESS_KEY": s3.access_key, "DUCKLAKE_S3_SECRET_KEY": s3.secret_key}
    elif keys == "environment":
        env = {"AWS_ENDPOINT_URL": s3.endpoint, "AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key}
    elif keys == "shared file":
        shared = ingest_sqlite.file(f"[other]\naws_access_key_id = {s3.access_key}\naws_secret_access_key = {s3.secret_key}\n", "creds")
        env = {"AWS_ENDPOINT_URL_S3": s3.endpoint, "AWS_SHARED_CREDENTIALS_FILE": str(shared), "AWS_PROFILE": "other"}
    else:
        more = f"s3: {{endpoint: '{s3.endpoint}', access_key: '{s3.access_key}', secret_key: '${{KEY_OF_FILES}}'}}\n"
        env = {"KEY_OF_FILES": s3.secret_key, "AWS_EC2_METADATA_DISABLED": "true"}
    for n, (name, said) in enumerate(write_all(tmp_path).items()):
        table = f"raw.t{n}"
        ingest_sqlite.run(ingest_sqlite.file(files(f"s3://{bucket}/in/my {name}", more, table)), **env)
        assert ingest_sqlite.rows(f"SELECT id, v FROM {table}") == [(n + 1, said)]
    s3.put(bucket, "in/other.csv", b"id,v\n9,more\n")
    ingest_sqlite.run(ingest_sqlite.file(files(f"s3://{bucket}/in/*.csv", more, "raw.all")), **env)
    assert ingest_sqlite.rows("SELECT id, v FROM raw.all ORDER BY id") == [(1, "csv"), (9, "more")]


@needs_s3
def test_what_s3_refuses(ingest_sqlite, s3, bucket):
    """A missing object, wrong keys, a secret that is written out: named, and no secret is shown (issue 6, bad input)."""
    s3.put(bucket, "a.csv", b"id\n1\n")
    env = {"DUCKLAKE_S3_ENDPOINT": s3.endpoint, "DUCKLAKE_S3_ACCESS_KEY": s3.access_key, "DUCKLAKE_S3_SECRET_KEY": s3.secret_key}
    said = ingest_sqlite.fails(f"s3://{bucket}/none.csv", "--into", "raw.t", code=2, **env)
    assert "none.csv" in said and s3.secret_key not in said
    env["DUCKLAKE_S3_SECRET_KEY"] = "planted secret"
    said = ingest_sqlite.fails(f"s3://{bucket}/a.csv", "--into", "raw.t", code=2, **env)
    assert "a.csv" in said and "planted secret" not in said
    path = ingest_sqlite.file(files(f"s3://{bucket}/a.csv", "s3: {access_key: a, secret_key: planted}\n"))
    said = ingest_sqlite.fails(path, code=2)
    assert "${NAME}" in said and "planted" not in said and "secret_key_file" not in said


@needs_s3
def test_from_s3_into_s3(s3, bucket, tmp_path):
    """Files and lake in one bucket: a merge, twice, by an official client's count (issue 6, points 1 and 4)."""
    home = LakeHome(f"sqlite:{tmp_path}/lake.sqlite", f"s3://{bucket}/lake", s3=s3)
    ingest = Ingest(home, tmp_path)
    for n, ids in enumerate((range(0, 3000), range(2000, 5000))):
        pq.write_table(pa.table({"id": ids, "v": [n] * len(ids)}), tmp_path / "x.parquet")
        s3.put(bucket, f"in/{n}.parquet", (tmp_path / "x.parquet").read_bytes())
    for n, replaced in ((0, 0), (1, 1000), (1, 3000)):
        (result,) = ingest.run(ingest.file(files(f"s3://{bucket}/in/{n}.parquet", MERGE)))
        assert (result["rows"], result["replaced"]) == (3000, replaced)
    assert ingest.rows("SELECT count(*), count(DISTINCT id), sum(v) FROM raw.t") == [(5000, 5000, 3000)]
    home.close()
