"""Single rows out of Parquet files of other writers: every value as pyarrow reads it, whatever pages and codecs they have (issue 4, point 1)."""

import datetime as dt
import decimal
import random
import re
import struct
import uuid
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lib.lake_driver import ROW_ID, Driver, DriverError

ROWS = 3000
CODECS = ["none", "snappy", "gzip", "lz4"]
EPOCH = dt.datetime(1970, 1, 1)


@pytest.fixture(scope="module")
def driver():
    with Driver() as driver:
        yield driver


def packed(form):
    return lambda value: struct.pack(form, value)


def wide(value, scale, size):
    return int(value.scaleb(scale, decimal.Context(prec=60))).to_bytes(size, "little", signed=True)


def micros(value):
    return (value.replace(tzinfo=None) - EPOCH) // dt.timedelta(microseconds=1)


# type of the lake, type of the file, how pyarrow's value looks in memory
TYPES = [
    ("boolean", pa.bool_(), packed("?")),
    ("int8", pa.int8(), packed("b")),
    ("int16", pa.int16(), packed("<h")),
    ("int32", pa.int32(), packed("<i")),
    ("int64", pa.int64(), packed("<q")),
    ("uint8", pa.uint8(), packed("B")),
    ("uint16", pa.uint16(), packed("<H")),
    ("uint32", pa.uint32(), packed("<I")),
    ("uint64", pa.uint64(), packed("<Q")),
    ("float32", pa.float32(), packed("<f")),
    ("float64", pa.float64(), packed("<d")),
    ("decimal(4,1)", pa.decimal128(4, 1), lambda v: wide(v, 1, 8)),
    ("decimal(9,2)", pa.decimal128(9, 2), lambda v: wide(v, 2, 8)),
    ("decimal(18,4)", pa.decimal128(18, 4), lambda v: wide(v, 4, 8)),
    ("decimal(38,10)", pa.decimal128(38, 10), lambda v: wide(v, 10, 16)),
    ("date", pa.date32(), lambda v: struct.pack("<i", (v - EPOCH.date()).days)),
    ("time", pa.time64("us"), lambda v: struct.pack("<q", micros(dt.datetime.combine(EPOCH.date(), v)))),
    ("timestamp", pa.timestamp("us"), lambda v: struct.pack("<q", micros(v))),
    ("timestamptz", pa.timestamp("us", tz="UTC"), lambda v: struct.pack("<q", micros(v))),
    ("varchar", pa.string(), str.encode),
    ("json", pa.string(), str.encode),
    ("blob", pa.binary(), bytes),
    ("uuid", pa.uuid(), lambda v: v.bytes),
]
# types that are older than the lake's, which they widen to
WIDENED = [
    ("int64", pa.int8(), packed("<q")),
    ("int32", pa.uint16(), packed("<i")),
    ("float64", pa.float32(), packed("<d")),
    ("decimal(30,6)", pa.decimal128(9, 2), lambda v: wide(v, 6, 16)),
    ("timestamp", pa.date32(), lambda v: struct.pack("<q", micros(dt.datetime.combine(v, dt.time())))),
]


def random_value(kind, rng):
    if pa.types.is_boolean(kind):
        return rng.random() < 0.5
    if pa.types.is_integer(kind):
        low = 0 if pa.types.is_unsigned_integer(kind) else -(1 << (kind.bit_width - 1))
        return rng.choice([low, low + (1 << kind.bit_width) - 1, rng.randint(low, low + (1 << kind.bit_width) - 1)])
    if pa.types.is_floating(kind):
        return rng.choice([0.0, -0.0, 1.5, float("inf"), rng.randint(-1000, 1000) / 8])
    if pa.types.is_decimal(kind):
        digits = rng.randint(0, 10**kind.precision - 1) * rng.choice([1, -1])
        return decimal.Decimal(digits).scaleb(-kind.scale, decimal.Context(prec=60))
    if pa.types.is_date(kind):
        return dt.date(1, 1, 1) + dt.timedelta(days=rng.randint(0, 3_000_000))
    if pa.types.is_time(kind):
        return (EPOCH + dt.timedelta(microseconds=rng.randint(0, 86_399_999_999))).time()
    if pa.types.is_timestamp(kind):
        value = EPOCH + dt.timedelta(microseconds=rng.randint(-(10**16), 10**16))
        return value if kind.tz is None else value.replace(tzinfo=dt.timezone.utc)
    if kind == pa.uuid():
        return uuid.UUID(int=rng.getrandbits(128)).bytes
    text = rng.choice(["", "a", "it's", "é😀" * rng.randint(0, 40), "x" * rng.randint(0, 300)])
    return text if pa.types.is_string(kind) else text.encode() + bytes([rng.randint(0, 255)])


def columns_of(types, rng, rows=ROWS, few=False, nulls=0.2):
    """Arrays of random values; few: out of a handful, which makes a dictionary pay."""
    for _, kind, _ in types:
        pool = [random_value(kind, rng) for _ in range(7 if few else rows)]
        # stretches of NULLs, of values, and of both in turn
        odds = [rng.choice([0, nulls, 1]) if nulls else 0 for _ in range(rows // 100 + 1)]
        values = [None if rng.random() < odds[i // 100] else rng.choice(pool) for i in range(rows)]
        yield pa.array(values, pa.binary(16) if kind == pa.uuid() else kind).cast(kind)


def write(path, arrays, nullable=True, row_ids=None, **options):
    fields = [pa.field(f"c{i}", a.type, nullable, {"PARQUET:field_id": str(i + 1)}) for i, a in enumerate(arrays)]
    if row_ids is not None:
        arrays = [*arrays, pa.array(row_ids, pa.int64())]
        fields.append(pa.field("_ducklake_internal_row_id", pa.int64(), True, {"PARQUET:field_id": str(ROW_ID)}))
    options = {"compression": "zstd", "row_group_size": 1100, "data_page_size": 2000, "write_batch_size": 50, **options}
    pq.write_table(pa.Table.from_arrays(arrays, schema=pa.schema(fields)), path, store_schema=False, **options)
    return path


def text(value, form):
    if value is None:
        return "N"
    data = form(value)
    return f"=#{len(data)}:{zlib.crc32(data):08x}" if len(data) > 64 else "=" + data.hex()


def wanted(types):
    return [(i + 1, name) for i, (name, _, _) in enumerate(types)]


def expected(path, types, positions, row_ids=None, row_id_start=0):
    table = pq.read_table(path)
    columns = [table.column(i).to_pylist() for i in range(len(types))]
    uuids = [kind == pa.uuid() for _, kind, _ in types]

    def one(c, position):
        value = columns[c][position]
        if value is not None and uuids[c] and isinstance(value, bytes):
            value = uuid.UUID(bytes=value)
        return text(value, types[c][2])

    return [
        (p, row_ids[p] if row_ids else row_id_start + p, [one(c, p) for c in range(len(types))]) for p in positions
    ]


def position_sets(rng, rows=ROWS):
    yield list(range(rows))
    yield sorted(rng.sample(range(rows), 200))
    yield sorted(rng.sample(range(rows), 7))
    yield [0]
    yield [rows - 1]
    yield [1099, 1100, 1101]
    yield []


def check(driver, path, types, rng, road="point", rows=ROWS, **more):
    for positions in position_sets(rng, rows):
        took, _, _, found = driver.rows(path, positions, *wanted(types), row_id_start=more.get("row_id_start", 0))
        assert took == road or not positions
        assert found == expected(path, types, positions, **more)


PAGES = [("zstd", version, index, few) for version in ("1.0", "2.0") for index in (False, True) for few in (False, True)]
PAGES += [(codec, version, True, few) for codec in CODECS for version, few in (("1.0", False), ("2.0", True))]


@pytest.mark.parametrize("codec, version, index, dictionary", PAGES)
def test_values_of_every_type(driver, tmp_path, codec, version, index, dictionary):
    rng = random.Random(f"{codec}{version}{index}{dictionary}")
    path = write(
        tmp_path / "a.parquet",
        list(columns_of(TYPES, rng, few=dictionary)),
        compression=codec,
        data_page_version=version,
        write_page_index=index,
        use_dictionary=dictionary,
        write_page_checksum=rng.random() < 0.5,
        column_encoding=None if dictionary else {f"c{i}": "PLAIN" for i in range(1, len(TYPES))},
    )
    check(driver, path, TYPES, rng, row_id_start=1000)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("encoding, types", [("DELTA_BINARY_PACKED", TYPES[3:5]), ("DELTA_LENGTH_BYTE_ARRAY", TYPES[19:20])])
def test_differences(driver, tmp_path, version, encoding, types):
    rng = random.Random(version)
    options = {"use_dictionary": False, "column_encoding": encoding, "data_page_version": version}
    check(driver, write(tmp_path / "a.parquet", list(columns_of(types, rng, nulls=0.3)), **options), types, rng)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_columns_that_are_never_null(driver, tmp_path, version):
    rng = random.Random(version)
    arrays = list(columns_of(TYPES, rng, nulls=0))
    check(driver, write(tmp_path / "a.parquet", arrays, nullable=False, data_page_version=version), TYPES, rng)


def test_dictionary_that_overflows(driver, tmp_path):
    rng = random.Random(3)
    path = write(tmp_path / "a.parquet", list(columns_of(TYPES, rng)), dictionary_pagesize_limit=1500, row_group_size=ROWS)
    meta = pq.ParquetFile(path).metadata.row_group(0).column(4)
    assert {"PLAIN", "RLE_DICTIONARY"} <= set(meta.encodings)
    check(driver, path, TYPES, rng)


def test_row_ids_of_the_file(driver, tmp_path):
    rng = random.Random(4)
    types = TYPES[:5]
    row_ids = rng.sample(range(1 << 40), ROWS)
    path = write(tmp_path / "a.parquet", list(columns_of(types, rng)), row_ids=row_ids)
    check(driver, path, types, rng, row_ids=row_ids)


def test_older_types_are_widened(driver, tmp_path):
    rng = random.Random(5)
    check(driver, write(tmp_path / "a.parquet", list(columns_of(WIDENED, rng))), WIDENED, rng)


def test_columns_that_the_file_lacks(driver, tmp_path):
    rng = random.Random(6)
    path = write(tmp_path / "a.parquet", list(columns_of(TYPES[:1], rng)))
    lacking = [(90, "int64"), (91, "int32", "42"), (92, "varchar", ""), (93, "list(int32)"), (94, "decimal(9,2)", "1.50")]
    road, _, _, rows = driver.rows(path, [3, 2000], *lacking)
    assert road == "point"
    values = ["N", "=2a000000", "=", "N", "=" + (150).to_bytes(8, "little").hex()]
    assert rows == [(3, 3, values), (2000, 2000, values)]


# What is not served is read through DuckDB, with the same result.
@pytest.mark.parametrize(
    "types, options",
    [
        (TYPES[9:11], {"use_dictionary": False, "column_encoding": "BYTE_STREAM_SPLIT"}),
        (TYPES[19:20], {"use_dictionary": False, "column_encoding": "DELTA_BYTE_ARRAY"}),
        (TYPES[:5], {"compression": "brotli"}),
        ([("timestamp", pa.timestamp("ms"), lambda v: struct.pack("<q", micros(v)))], {}),
    ],
)
def test_what_is_left_to_duckdb(driver, tmp_path, types, options):
    rng = random.Random(7)
    if "ms" in str(types[0][1]):
        arrays = [pa.array([EPOCH + dt.timedelta(milliseconds=i) for i in range(ROWS)], pa.timestamp("ms"))]
    else:
        arrays = list(columns_of(types, rng, nulls=0.3))
    path = write(tmp_path / "a.parquet", arrays, row_group_size=2048, **options)
    positions = sorted(rng.sample(range(ROWS), 200))
    road, _, _, found = driver.rows(path, positions, *wanted(types))
    assert road == "duckdb"
    assert found == expected(path, types, positions)


# Nested values in memory: see record/type.h.
def sized(data):
    return struct.pack("<I", len(data)) + data


def optional(value, form):
    return b"\0" if value is None else b"\1" + form(value)


def of_list(form):
    return lambda values: struct.pack("<I", len(values)) + b"".join(optional(v, form) for v in values)


def of_struct(**forms):
    return lambda value: b"".join(optional(value[name], form) for name, form in forms.items())


def of_map(key, form):
    return lambda pairs: struct.pack("<I", len(pairs)) + b"".join(key(k) + optional(v, form) for k, v in pairs)


def inside(form):
    """Of variable width inside another value."""
    return lambda value: sized(form(value))


INT, TEXT = packed("<i"), inside(str.encode)
PAIR = pa.struct([("a", pa.int32()), ("b", pa.string())])
NESTED = [
    ("list(int32)", pa.list_(pa.int32()), of_list(INT)),
    ("list(varchar)", pa.list_(pa.string()), of_list(TEXT)),
    ("struct(a int32, b varchar)", PAIR, of_struct(a=INT, b=TEXT)),
    ("list(list(int32))", pa.list_(pa.list_(pa.int32())), of_list(inside(of_list(INT)))),
    ("list(struct(a int32, b varchar))", pa.list_(PAIR), of_list(inside(of_struct(a=INT, b=TEXT)))),
    (
        "map(varchar, list(int32))",
        pa.map_(pa.string(), pa.list_(pa.int32())),
        of_map(TEXT, inside(of_list(INT))),
    ),
    (
        "struct(x list(int32), y struct(a int32, b varchar), z decimal(9,2))",
        pa.struct([("x", pa.list_(pa.int32())), ("y", PAIR), ("z", pa.decimal128(9, 2))]),
        of_struct(x=inside(of_list(INT)), y=inside(of_struct(a=INT, b=TEXT)), z=lambda v: wide(v, 2, 8)),
    ),
]


def random_nested(kind, rng, depth=0):
    if depth and rng.random() < 0.2:
        return None
    if pa.types.is_map(kind):
        return [(f"k{i}", random_nested(kind.item_type, rng, 1)) for i in range(rng.randint(0, 3))]
    if pa.types.is_list(kind):
        size = rng.choice([0, 1, 3, rng.randint(0, 40)])
        return [random_nested(kind.value_type, rng, 1) for _ in range(size)]
    if pa.types.is_struct(kind):
        return {field.name: random_nested(field.type, rng, 1) for field in kind}
    return random_value(kind, rng)


def write_nested(path, rng, **options):
    """Stretches of NULLs, so that whole pages are empty."""
    arrays = []
    for _, kind, _ in NESTED:
        odds = [rng.choice([0, 0.3, 1]) for _ in range(ROWS // 100 + 1)]
        values = [None if rng.random() < odds[i // 100] else random_nested(kind, rng) for i in range(ROWS)]
        arrays.append(pa.array(values, kind))
    return write(path, arrays, **options)


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("dictionary", [False, True])
def test_nested_values(driver, tmp_path, version, dictionary):
    rng = random.Random(f"{version}{dictionary}")
    path = write_nested(
        tmp_path / "a.parquet", rng, write_page_index=True, data_page_version=version, use_dictionary=dictionary
    )
    check(driver, path, NESTED, rng)


def test_nested_values_without_page_index(driver, tmp_path):
    """Only the page index says which rows begin in a page of lists."""
    rng = random.Random(12)
    path = write_nested(tmp_path / "a.parquet", rng)
    lists, flat = NESTED[:1], NESTED[2:3]
    for types, at, road in ((lists, 1, "duckdb"), (flat, 3, "point")):
        took, _, _, found = driver.rows(path, range(0, ROWS, 7), (at, types[0][0]))
        table = pq.read_table(path).column(at - 1).to_pylist()
        assert took == road
        assert found == [(p, p, [text(table[p], types[0][2])]) for p in range(0, ROWS, 7)]


def test_structs_of_other_fields_are_left_to_duckdb(driver, tmp_path):
    path = write(tmp_path / "a.parquet", [pa.array([{"a": 1, "b": "x"}] * ROWS, PAIR)], write_page_index=True)
    assert driver.rows(path, [7], (1, "struct(a int32, b varchar)"))[0] == "point"
    assert driver.rows(path, [7], (1, "struct(a int64, b varchar)"))[0] == "duckdb"


def test_a_file_that_was_replaced(driver, tmp_path):
    """Footers are kept by path; another file under the same one is seen."""
    types, path = TYPES[4:5], tmp_path / "a.parquet"
    for rows in (100, 200):
        write(path, list(columns_of(types, random.Random(rows), rows)))
        assert driver.rows(path, range(100), *wanted(types))[3] == expected(path, types, range(100))


def test_large_values_among_small_ones(driver, tmp_path):
    values = ["a", None, "x" * 40_000_000, "", "b" * 40_000_000, "c"]
    types = [("varchar", pa.string(), str.encode)]
    for codec in ("zstd", "none"):
        path = write(tmp_path / f"{codec}.parquet", [pa.array(values)], compression=codec, use_dictionary=False, write_page_index=True)
        road, _, _, found = driver.rows(path, range(6), *wanted(types))
        assert road == "point"
        assert found == expected(path, types, range(6))


def test_only_the_pages_of_wanted_rows_are_read(driver, tmp_path):
    rng = random.Random(9)
    values = [rng.randbytes(5000).hex() for _ in range(4000)]  # 40 MB, half of it compressed
    path = write(
        tmp_path / "a.parquet",
        [pa.array(range(4000)), pa.array(values)],
        row_group_size=1000,
        data_page_size=64 << 10,
        use_dictionary=False,
        write_page_index=True,
    )
    types = [("int64", pa.int64(), packed("<q")), ("varchar", pa.string(), str.encode)]
    with Driver() as fresh:
        road, size, reads, found = fresh.rows(path, [17], *wanted(types))
        assert (road, found) == ("point", expected(path, types, [17]))
        assert size < 400 << 10
        road, again, reads, found = fresh.rows(path, [17, 18, 3999], *wanted(types))
        assert found == expected(path, types, [17, 18, 3999])
        assert again < 1200 << 10 and reads <= 10
        # pages that touch come with one read of up to a MiB
        _, size, reads, found = fresh.rows(path, range(1000), *wanted(types)[1:])
        assert size < 7 << 20 and reads < 10
        assert found == [(p, i, v[1:]) for p, i, v in expected(path, types, range(1000))]


def damaged(path, at, data):
    content = bytearray(path.read_bytes())
    content[at : at + len(data)] = data
    path.write_bytes(content)


def test_damage_is_named(driver, tmp_path):
    rng = random.Random(10)
    types = TYPES[:6] + TYPES[19:20]

    def fresh():
        path = tmp_path / f"{rng.getrandbits(32)}.parquet"
        return write(path, list(columns_of(types, rng)), write_page_index=True, write_page_checksum=True)

    def refused(path, match):
        with pytest.raises(DriverError, match=match) as caught:
            driver.rows(path, range(ROWS), *wanted(types))
        assert caught.value.kind == "fatal" and str(path) in str(caught.value)

    path = fresh()
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[: size - 100])
    refused(path, "does not end like a Parquet file")
    path.write_bytes(b"PAR1")
    refused(path, "too short")
    path = fresh()
    damaged(path, path.stat().st_size - 8, b"\xff\xff\xff\x0f")
    refused(path, "longer than the file")
    path = fresh()
    damaged(path, path.stat().st_size - 600, b"\xff" * 500)
    refused(path, "damaged")
    path = fresh()
    chunk = pq.ParquetFile(path).metadata.row_group(1).column(4)
    damaged(path, chunk.data_page_offset + 40, rng.randbytes(200))
    refused(path, "page at .* checksum|page .*damaged")
    with pytest.raises(DriverError, match="no row at position 3000"):
        driver.rows(fresh(), [3000], *wanted(types))
    with pytest.raises(DriverError, match="retry.*No such file"):
        driver.rows(tmp_path / "none.parquet", [1], *wanted(types))


def test_random_damage_never_crashes(driver, tmp_path):
    rng = random.Random(11)
    types = TYPES + NESTED
    for codec in CODECS:
        arrays = list(columns_of(TYPES, rng, rows=300, few=True))
        arrays += [pa.array([random_nested(kind, rng) for _ in range(300)], kind) for _, kind, _ in NESTED]
        path = write(tmp_path / f"{codec}.parquet", arrays, compression=codec, row_group_size=100, write_page_index=True)
        good = path.read_bytes()
        for _ in range(60):
            content = bytearray(good)
            for _ in range(rng.randint(1, 4)):
                content[rng.randrange(4, len(content))] = rng.randrange(256)
            path.write_bytes(content)
            try:
                driver.rows(path, range(300), *wanted(types))
            except DriverError as error:
                assert error.kind in ("fatal", "data", "retry", "config"), error


def read_back(run):
    """What a run with --log-level debug says about the unsent values it read: sums of its figures."""
    lines = [line for line in run.stderr.splitlines() if "unsent values read back" in line]
    names = ("rows", "bytes", "reads", "pages", "rows_through_duckdb")
    return {name: sum(int(re.search(rf"\b{name}=(\d+)", line)[1]) for line in lines) for name in names}


def test_a_flow_reads_single_pages(mirror_sqlite):
    m = mirror_sqlite(
        "CREATE TABLE wide (id int PRIMARY KEY, v int, body text, tags text[])",
        "ALTER TABLE wide ALTER body SET STORAGE EXTERNAL, ALTER tags SET STORAGE EXTERNAL",
        "INSERT INTO wide SELECT i, 0, body, string_to_array(body, 'a') FROM (SELECT i, "
        "(SELECT string_agg(md5(i::text || k), '') FROM generate_series(1, 313) k) AS body FROM generate_series(1, 2000) i) s",
    )
    m.sync()  # 20 MB and as much again in lists
    m.sql("UPDATE wide SET v = 1 WHERE id % 200 = 7")
    run = m.flow.run_until_caught_up("--log-level", "debug")
    found = read_back(run)
    assert (found["rows"], found["rows_through_duckdb"]) == (10, 0)
    assert found["pages"] <= 2 * 2 * 10 and found["bytes"] < 10 * 300_000
    m.same("wide")
    m.sql("UPDATE wide SET v = 2")
    found = read_back(m.flow.run_until_caught_up("--log-level", "debug"))
    assert (found["rows"], found["rows_through_duckdb"]) == (1990, 0)  # ten are in the catalog by now
    assert found["reads"] < 500  # pages that touch come together
    m.same("wide")
