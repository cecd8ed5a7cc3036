"""Every type of Postgres arrives exactly, by whichever road its rows take: copy, binary stream, text stream."""

import pytest

from lib.flow import EXIT_DATA
from lib.lake import LakeHome
from lib.pg import Database

# Type -> literals without quotes; every type also gets a NULL and an array of its literals.
SCALARS = {
    "boolean": ["true", "false"],
    "smallint": ["-32768", "0", "32767"],
    "integer": ["-2147483648", "2147483647"],
    "bigint": ["-9223372036854775808", "9223372036854775807"],
    "oid": ["0", "4294967295"],
    "numeric(4,1)": ["-999.9", "0", "0.1"],
    "numeric(18,4)": ["-99999999999999.9999", "1.5000"],
    "numeric(38,0)": ["9" * 38, "-" + "9" * 38],
    "numeric(38,38)": ["0." + "9" * 38, "-0." + "0" * 37 + "1"],
    "numeric(60,20)": ["-" + "9" * 40 + "." + "1" * 20, "1.50"],
    "numeric(5,-2)": ["1234500", "-99900"],
    "numeric(2,5)": ["0.00099", "-0.00001"],
    "numeric": ["NaN", "Infinity", "-Infinity", "0", "-0.000", "1e400", "1.500", "12345678901234567890.123456789"],
    "money": ["-92233720368547758.08", "0.01"],
    "real": ["NaN", "Infinity", "-Infinity", "-0", "1e-45", "3.4028235e38", "0.1"],
    "double precision": ["NaN", "Infinity", "-Infinity", "-0", "5e-324", "1.7976931348623157e308", "0.1"],
    "date": ["4713-01-01 BC", "0044-03-15 BC", "0001-01-01", "1969-12-31", "2024-02-29", "5874897-12-31", "infinity", "-infinity"],
    "time": ["00:00", "23:59:59.999999", "24:00:00"],
    "time(2)": ["12:30:00.55"],
    "timetz": ["12:30:00.5+05:30", "24:00:00-15:59", "00:00+15:59"],
    "timestamp": [
        "4713-01-01 00:00:00 BC", "0044-03-15 12:00 BC", "1969-12-31 23:59:59.999999", "2024-02-29 12:30",
        "294247-01-10 04:00:54.775806", "infinity", "-infinity",
    ],
    "timestamptz": [
        "4713-01-01 00:00:00+00 BC", "1969-12-31 23:59:59.999999+00", "2024-02-29 12:30-08", "9999-12-31 23:59:59.999999+00",
        "infinity", "-infinity",
    ],
    "interval": [
        "1 year 2 mons -3 days 04:05:06.789", "-00:00:00.5", "178000000 years", "-178000000 years", "0", "-1 mon +1 day -00:00:01",
        "2562047788:00:54.775807", "1 day -25 hours", "infinity", "-infinity",
    ],
    "text": ["", " ", "O'Brien \"€\" \\ 😀", "NULL", "line\nbreak\ttab", "{SNAPSHOT_ID}", "\u0001\u007f\u0080"],
    "varchar(10)": ["", "ten chars "],
    "char(5)": ["ab", "", "abcde"],
    '"char"': ["x", ""],
    "name": ["a_name"],
    "bytea": ["\\x", "\\x00", "\\x00ff5c6127", "\\xdeadbeef"],
    "uuid": ["550e8400-e29b-41d4-a716-446655440000", "ffffffff-ffff-ffff-ffff-ffffffffffff", "00000000-0000-0000-0000-000000000000"],
    "json": ['{"b": 1.50,  "a": [1, null]}', '"\\u0041\\u20ac"', "null", '{"a": 1, "a": 2}', "1e400"],
    "jsonb": ['{"b": 1.50, "a": [1, null, {}]}', '""', "null", "12345678901234567890.123456789012345678901234567890", "[]"],
    "xml": ["<a b=\"1\">€</a>", "text"],
    "inet": ["10.0.0.1", "10.0.0.0/8", "::1", "2001:db8::/32", "::ffff:1.2.3.4"],
    "cidr": ["10.0.0.0/8", "10.0.0.1/32", "2001:db8::/32", "::/0"],
    "macaddr": ["08:00:2b:01:02:03"],
    "macaddr8": ["08:00:2b:01:02:03:04:05"],
    "bit(3)": ["101", "000"],
    "varbit": ["", "1", "101010101010101"],
    "point": ["(1,-2.5)", "(NaN,Infinity)", "(1e300,5e-324)"],
    "line": ["{1,-2,3.5}"],
    "lseg": ["[(0,0),(1,1.5)]"],
    "box": ["(1,1),(0,-0.5)"],
    "path": ["((0,0),(1,1),(2,0))", "[(0,0),(1,1)]"],
    "polygon": ["((0,0),(1,1),(2,0))"],
    "circle": ["<(1,2),3.5>"],
    "tsvector": ["'fat':2A,4 'cat':3B 'rat'", "", "'it''s' 'b\\\\s'"],
    "tsquery": ["'fat' & ( 'rat' | !'cat' ) <-> 'dog':*AB", ""],
    "pg_lsn": ["0/0", "16/B374D848", "FFFFFFFF/FFFFFFFF"],
    "pg_snapshot": ["10:20:10,14,15", "1:1:"],
    "txid_snapshot": ["10:20:10,14,15"],
    "xid": ["0", "4294967295"],
    "xid8": ["18446744073709551615"],
    "cid": ["7"],
    "tid": ["(4294967295,65535)"],
    "regclass": ["pg_class"],
    "regtype": ["integer", "text[]"],
    "regproc": ["now"],
    "regprocedure": ["abs(integer)"],
    "regoperator": ["+(integer,integer)"],
    "regrole": ["postgres"],
    "regnamespace": ["pg_catalog"],
    "regconfig": ["english"],
    "regdictionary": ["simple"],
    "regcollation": ['"C"'],
    "jsonpath": ['$."a"[*]?(@ > 1)', "strict $"],
    "refcursor": ["cursor"],
    "int2vector": ["1 -2 3", ""],
    "oidvector": ["1 2 4294967295"],
    "aclitem": ["postgres=arwdDxt/postgres"],
}
SINCE = {"numeric(5,-2)": 15, "numeric(2,5)": 15, "multirange": 14}  # of types with this in their name
VALUES_SINCE = {
    ("numeric", "Infinity"): 14, ("numeric", "-Infinity"): 14, ("numrange", "'[-Infinity,Infinity]'"): 14,
    ("interval", "2562047788:00:54.775807"): 15, ("interval", "infinity"): 17, ("interval", "-infinity"): 17,
}
BEHIND_QUOTES = {"json", "jsonb"}

OWN_TYPES = """
CREATE EXTENSION hstore; CREATE EXTENSION citext; CREATE EXTENSION ltree;
CREATE TYPE mood AS ENUM ('sad', 'happy', 'it''s "odd", {really}');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE DOMAIN small_positive AS positive CHECK (VALUE < 100);
CREATE DOMAIN amounts AS numeric(12,2)[];
CREATE TYPE floats AS RANGE (subtype = float8, subtype_diff = float8mi);
CREATE TYPE words AS RANGE (subtype = text);
CREATE TYPE address AS (street text, number int, codes int[]);
CREATE TYPE person AS (name text, home address, feelings mood[], born date, "Odd ""name" positive, busy tstzrange);
CREATE TYPE nothing AS ();
"""
OWN = {
    "mood": ["'happy'", "'it''s \"odd\", {really}'"],
    "mood[]": ["'{happy,NULL,sad}'", "'{}'"],
    "positive": ["7"],
    "small_positive": ["99"],
    "positive[]": ["'{1,NULL}'"],
    "amounts": ["'{1.50,NULL,-9999999999.99}'"],
    "int4range": ["'[1,5)'", "'empty'", "'(,)'", "'[,7]'"],
    "int8range": ["'[-9223372036854775808,9223372036854775806]'"],
    "numrange": ["'(1.50,99999999999999999999.9]'", "'[-Infinity,Infinity]'", "'empty'"],
    "daterange": ["'[2024-01-01,2024-02-01)'", "'[-infinity,infinity]'"],
    "tsrange": ["'[2024-01-01 12:00,infinity]'"],
    "tstzrange": ["'(,2024-01-15 12:00+02]'", "'empty'"],
    "floats": ["'[0.1,NaN)'"],
    "words": ["'[\"a \"\"b\"\"\",\"c,d\"]'"],
    "int4range[]": ["ARRAY['[1,2)'::int4range, NULL, 'empty']"],
    "int4multirange": ["'{[1,2),[5,7)}'", "'{}'"],
    "nummultirange": ["'{[1.5,2),[5,)}'"],
    "datemultirange": ["'{[2024-01-01,2024-02-01)}'"],
    "tstzmultirange": ["'{[2024-01-01,2024-02-01)}'"],
    "address": ["ROW('a \"b\", (c) \\', 7, '{1,NULL}')", "ROW(NULL, NULL, NULL)", "ROW('', 0, '{}')"],
    "address[]": ["ARRAY[ROW(NULL, 7, '{}')::address, NULL]"],
    "person": [
        "ROW('Ann', ROW('x', 1, '{1}'), '{happy,NULL}', '0044-03-15 BC', 7, '[2024-01-01,)')",
        "ROW(NULL, NULL, NULL, NULL, NULL, NULL)",
    ],
    "person[]": ["ARRAY[ROW('Bo', ROW(NULL, NULL, NULL), '{}', 'infinity', 1, 'empty')::person]"],
    "hstore": ["'a=>1, b=>NULL, \"c d\"=>\"\\\"q\\\"\"'", "''"],
    "hstore[]": ["ARRAY['a=>1'::hstore, NULL]"],
    "citext": ["'MiXed'"],
    "ltree": ["'Top.Science'"],
    "text[]": ["'{}'", "'{NULL,\"NULL\",\"\",\"a,b\",\"\\\\\",\"{\"}'", "'[5:6]={x,y}'"],
    "text[][]": ["'{{a,b},{c,NULL}}'", "'{}'"],
    "int[][][]": ["'{{{1,2},{3,4}},{{5,6},{7,NULL}}}'"],
    "box[]": ["'{(1,1),(0,0);(2,2),(1,1)}'"],
}


def known(types, version):
    """What a server of VERSION has of a dict of types and literals."""
    return {
        type_: [literal for literal in literals if VALUES_SINCE.get((type_, literal), 0) <= version]
        for type_, literals in types.items()
        if all(version >= since for part, since in SINCE.items() if part in type_)
    }


def own_columns(version):
    return [(f"c{i}", type_, values) for i, (type_, values) in enumerate(known(OWN, version).items())]


def scalar_columns(version):
    """(column name, type, SQL expressions) of every scalar type and of an array of it."""
    for i, (type_, literals) in enumerate(known(SCALARS, version).items()):
        quoted = ["'" + literal.replace("'", "''") + "'" for literal in literals]
        yield f"s{i}", type_, quoted
        if type_.endswith("vector"):
            continue  # an array of arrays to the lake, text to Postgres
        yield f"a{i}", f"{type_}[]", ["ARRAY[" + ", ".join([*quoted, "NULL"]) + f"]::{type_}[]", "'{}'", "ARRAY[NULL]" + f"::{type_}[]"]


def create(table, columns):
    return f"CREATE TABLE {table} (id int PRIMARY KEY, " + ", ".join(f"{name} {type_}" for name, type_, _ in columns) + ")"


def inserts(table, columns):
    """INSERTs for all values, and a row of NULLs."""
    count = max(len(values) for _, _, values in columns)
    for i in range(count):
        values = [values[i % len(values)] for _, _, values in columns]
        yield f"INSERT INTO {table} VALUES ({i}, {', '.join(values)})"
    yield f"INSERT INTO {table} (id) VALUES ({count})"


def content(m, table):
    """All rows as text, exactly as the lake holds them."""
    return m.lake.columns(f"public.{table}"), m.lake.sql(f"SELECT COLUMNS(*)::VARCHAR FROM public.{table} ORDER BY id::INT")


def three_roads(make_mirror, database, homes, columns, prepare=""):
    """The same rows copied, streamed in binary and streamed as text; all three must be the source's and equal."""
    tables = ("copied", "streamed")
    mirrors = [
        make_mirror(database, home, name=f"road_{binary}", source={"binary": binary}) for home, binary in zip(homes, ("auto", "off"))
    ]
    mirrors[0].sql(*([prepare] if prepare else []), *(create(table, columns) for table in tables), *inserts("copied", columns))
    for m in mirrors:
        m.sync()
    mirrors[0].sql(*inserts("streamed", columns))
    # An update of every row sends old rows and new ones through the same decoders.
    mirrors[0].sql("UPDATE streamed SET id = id + 1000", "UPDATE streamed SET id = id - 1000")
    for m in mirrors:
        m.sync()
        m.same(*tables)
    copied = content(mirrors[0], "copied")
    for m in mirrors:
        for table in tables:
            assert content(m, table) == copied, (m.flow.name, table)


@pytest.fixture
def homes(sqlite_lake, tmp_path):
    """Two lakes: the fixture's, and another file beside it."""
    second = LakeHome(f"sqlite:{tmp_path}/second.sqlite", tmp_path / "second")
    yield [sqlite_lake, second]
    second.close()


def test_scalars_and_their_arrays_by_three_roads(make_mirror, database, homes):
    three_roads(make_mirror, database, homes, list(scalar_columns(database.version)))


def test_own_types_by_three_roads(make_mirror, database, homes):
    three_roads(make_mirror, database, homes, own_columns(database.version), OWN_TYPES)


def test_types_on_a_postgres_catalog(mirror_postgres, database):
    scalars = [column for column in scalar_columns(database.version) if column[0].startswith("s")]
    columns = scalars + own_columns(database.version)
    m = mirror_postgres(OWN_TYPES, create("t", columns), *inserts("t", columns))
    m.sync()
    m.same("t")
    m.sql("UPDATE t SET id = id + 100 WHERE id % 2 = 0", "DELETE FROM t WHERE id = 1")
    m.sync()
    m.same("t")


def test_values_of_every_type_as_keys(mirror_sqlite, database):
    """A row is found again by its key, whatever the key's type, after a copy and in the stream."""
    keys = {
        "numeric": ["1.50", "-7", "NaN", "Infinity"],
        "numeric(12,2)": ["1.50", "-7"],
        "text": ["", "é", "a\"b"],
        "char(5)": ["ab", "abc"],
        "bytea": ["\\x00", "\\x"],
        "uuid": ["550e8400-e29b-41d4-a716-446655440000"],
        "timestamptz": ["2024-02-29 12:30-08", "infinity"],
        "date": ["0044-03-15 BC", "2024-01-01"],
        "double precision": ["0.1", "Infinity", "NaN", "-0"],
        "interval": ["1 mon", "5 days"],
        "timetz": ["12:30+05", "12:30+06"],
        "inet": ["10.0.0.1", "::1"],
        "boolean": ["t", "f"],
        "int4range": ["[1,5)", "empty"],
        "jsonb": ['{"a": 1}', "[]"],
        "text[]": ["{a,NULL}", "{}"],
    }
    statements = []
    for i, (type_, values) in enumerate(known(keys, database.version).items()):
        rows = ", ".join("('{}', 0)".format(value.replace("'", "''")) for value in values)
        statements += [f"CREATE TABLE k{i} (k {type_} PRIMARY KEY, v int)", f"INSERT INTO k{i} VALUES {rows}"]
    m = mirror_sqlite(*statements)
    names = [f"k{i}" for i in range(len(statements) // 2)]
    m.sync()
    m.same(*names)
    m.sql(*(f"UPDATE {name} SET v = v + 1" for name in names))
    m.sync()
    m.same(*names)
    m.sql(*(f"DELETE FROM {name} WHERE ctid IN (SELECT ctid FROM {name} LIMIT 1)" for name in names))
    m.sync()
    m.same(*names)


def test_zeros_of_both_signs_in_many_rows(mirror_sqlite):
    """What repeats is put into dictionaries, which know one zero only."""
    m = mirror_sqlite(
        "CREATE TABLE t (i int, a float4, b float8, c float8[])", "ALTER TABLE t REPLICA IDENTITY FULL",
        "INSERT INTO t SELECT i, z::float4, z::float8, array[z::float8] FROM (SELECT i, CASE WHEN i % 3 = 0 THEN '-0' ELSE '0' END z"
        " FROM generate_series(1, 1000) i) q",
    )
    m.sync()
    m.same("t")
    m.sql("UPDATE t SET i = i + 10000 WHERE i < 900", "DELETE FROM t WHERE i % 5 = 0")
    m.sync()
    m.same("t")


def test_the_last_moments(mirror_sqlite):
    """DuckDB prints the last times with a zone a millisecond off: compared as microseconds."""
    last = "294247-01-10 04:00:54.775806"
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY, a timestamp, b timestamptz)", f"INSERT INTO t VALUES (1, '{last}', '{last}+00')")
    m.sync()
    m.sql(f"INSERT INTO t VALUES (2, '{last}', '{last}+00')")
    m.sync()
    assert m.lake.sql("SELECT id, epoch_us(a), epoch_us(b) FROM public.t ORDER BY id") == [
        (1, 2**63 - 2, 2**63 - 2), (2, 2**63 - 2, 2**63 - 2)
    ]


def test_numbers_of_the_greatest_length(mirror):
    m = mirror("CREATE TABLE t (id int PRIMARY KEY, n numeric)")
    huge = "repeat('9', 131072)::numeric", "('0.' || repeat('0', 16382) || '1')::numeric"
    m.sql(f"INSERT INTO t VALUES (1, {huge[0]}), (2, -{huge[1]})")
    m.sync()
    m.sql(f"INSERT INTO t VALUES (3, {huge[0]} + {huge[1]})")
    m.sync()
    m.same("t")


def test_long_values(mirror_sqlite):
    m = mirror_sqlite(
        "CREATE TABLE t (id int PRIMARY KEY, v text, b bytea, j jsonb, a int[])",
        "INSERT INTO t SELECT 1, repeat('é', 400000), decode(repeat('00ff', 400000), 'hex'),"
        " jsonb_build_object('x', repeat('y', 400000)), array_agg(i) FROM generate_series(1, 50000) i",
    )
    m.sync()
    m.sql("INSERT INTO t SELECT 2, v || 'z', b, j, a FROM t", "UPDATE t SET id = id + 10")
    m.sync()
    m.same("t")


@pytest.mark.parametrize("encoding, text", [("LATIN1", "é ÿ"), ("EUC_JP", "日本")])
def test_databases_in_other_encodings(make_mirror, server, sqlite_lake, encoding, text):
    name = f"encoding_{encoding.lower()}"
    server.sql(f"CREATE DATABASE {name} ENCODING '{encoding}' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    database = Database(server, name)
    try:
        m = make_mirror(database, sqlite_lake, "CREATE TABLE t (id int PRIMARY KEY, v text)", f"INSERT INTO t VALUES (1, '{text}')")
        m.sync()
        m.sql(f"INSERT INTO t VALUES (2, '{text} 2')")
        m.sync()
        assert m.rows("t") == [(1, text), (2, f"{text} 2")]
    finally:
        database.drop()


def test_types_made_while_streaming(mirror_sqlite):
    m = mirror_sqlite("CREATE TABLE t (id int PRIMARY KEY)")
    m.sync()
    run = m.flow.start()
    m.sql(
        "CREATE TYPE fresh AS ENUM ('a', 'b')",
        "ALTER TABLE t ADD f fresh, ADD fs fresh[]",
        "INSERT INTO t VALUES (1, 'a', '{b,NULL}')",
        "ALTER TYPE fresh ADD VALUE 'c'",
        "INSERT INTO t VALUES (2, 'c', '{c}')",
        "ALTER TYPE fresh RENAME VALUE 'b' TO 'bee'",
        "INSERT INTO t VALUES (3, 'bee', '{}')",
        "ALTER TABLE t ADD acl aclitem[]",
        "INSERT INTO t (id, acl) VALUES (4, '{postgres=r/postgres}')",
    )
    m.wait_rows(run, "t", 4)
    assert run.terminate() == 0
    rows = {row[0]: row[1:3] for row in m.rows("t")}
    assert rows[2] == ("c", ["c"]) and rows[3] == ("bee", [])
    m.same("t", where="id > 1")  # row 1 was written under the label's old name


# --- what cannot be stored ---

REFUSED = [
    ("timestamp", "294276-12-31 23:59:59.999999"),
    ("timestamptz", "294276-12-31 23:59:59+00"),
    ("numeric(10,2)", "NaN"),
    ("int[]", "{{1,2},{3,4}}"),
    ("timestamp[]", "{294276-12-31 23:59:59}"),
]


@pytest.mark.parametrize("binary", ["auto", "off"])
@pytest.mark.parametrize("type_, literal", REFUSED, ids=[row[0] for row in REFUSED])
def test_a_streamed_value_that_has_no_place_stops(mirror_sqlite, type_, literal, binary):
    m = mirror_sqlite(
        f"CREATE TABLE t (id int PRIMARY KEY, bad_column {type_}); CREATE TABLE other (id int PRIMARY KEY)",
        source={"binary": binary},
    )
    m.sync()
    m.sql(f"INSERT INTO other VALUES (1); INSERT INTO t VALUES (4711, '{literal}')")
    stderr = m.refuses(EXIT_DATA)
    for word in ("bad_column", "4711", "public", "t"):
        assert word in stderr, stderr
    assert m.rows("t") == [] and m.rows("other") == []
    m.refuses(EXIT_DATA)  # and stays so


@pytest.mark.parametrize("type_, literal", REFUSED[:4], ids=[row[0] for row in REFUSED[:4]])
def test_a_copied_value_that_has_no_place_stops(mirror_sqlite, type_, literal):
    m = mirror_sqlite(f"CREATE TABLE t (id int PRIMARY KEY, bad_column {type_})", f"INSERT INTO t VALUES (4711, '{literal}')")
    stderr = m.fails(EXIT_DATA)
    for word in ("bad_column", "4711", "public", "t"):
        assert word in stderr, stderr
    assert m.lake.tables() == []
    m.sql("DELETE FROM t")  # once it is gone the copy goes through
    m.sync()
    m.same("t")


def test_bytes_that_are_no_text_stop(make_mirror, server, sqlite_lake):
    server.sql("CREATE DATABASE ascii ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0")
    database = Database(server, "ascii")
    try:
        m = make_mirror(database, sqlite_lake, "CREATE TABLE t (id int PRIMARY KEY, bad_column text)")
        m.sql("INSERT INTO t VALUES (1, convert_from('\\xc3a9', 'SQL_ASCII'))")
        m.sync()
        assert m.rows("t") == [(1, "é")]
        m.sql("INSERT INTO t VALUES (4711, convert_from('\\xff', 'SQL_ASCII'))")
        stderr = m.refuses(EXIT_DATA)
        assert "bad_column" in stderr and "4711" in stderr, stderr
    finally:
        database.drop()
