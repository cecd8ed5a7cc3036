"""SQL models and columns: those that change their names, those that a snapshot has, what is said of them; what a model reads, and which changes it sees."""

import pytest
from lib.ingest import Ingest, records, rest
from lib.rest import RestServer


def numbers(lake, n=10):
    lake.sql("CREATE SCHEMA raw")
    lake.sql(f"CREATE TABLE raw.numbers AS SELECT i, i % 3 AS part FROM range({n}) t(i)")


@pytest.mark.parametrize("view", [False, True])
def test_columns_that_take_other_names(models_sqlite, view):
    """No row of the table changes, all of the model's do: what follows the changes of rows is made of all rows then."""
    lake = models_sqlite.home.open()
    numbers(lake, 9)
    source = "raw.numbers"
    if view:
        models_sqlite.write("bronze/v.sql", "SELECT * FROM raw.numbers")
        source = "v"
    header = "-- materialized: incremental\n-- {}: i\n-- changes_from: raw.numbers(i)\nSELECT i, part FROM " + source
    models_sqlite.write("silver/k.sql", header.format("unique_key"))
    models_sqlite.write("silver/p.sql", header.format("partition"))
    models_sqlite.run()
    for change in "RENAME part TO old", "ADD COLUMN part BIGINT DEFAULT 7", "DROP COLUMN old":
        lake.sql(f"ALTER TABLE raw.numbers {change}")
    lake.sql("INSERT INTO raw.numbers VALUES (9, 8)")
    models_sqlite.run()
    for table in "silver.k", "silver.p":
        assert lake.rows(table) == lake.rows("raw.numbers"), table
    head = lake.last_snapshot()
    lake.sql("INSERT INTO raw.numbers VALUES (10, 8)")
    models_sqlite.run()
    changes = f"FROM ducklake_table_changes('lake', 'silver', 'p', {head + 1}, {lake.last_snapshot()})"
    assert lake.sql(f"SELECT DISTINCT i {changes}") == [(10,)]  # the changes say it again


@pytest.mark.parametrize("kind", ["incremental", "snapshot"])
def test_intervals_that_are_equal_and_not_the_same(models_sqlite, kind):
    """A month is not 30 days, though DuckDB says so."""
    lake = models_sqlite.home.open()
    lake.sql("CREATE SCHEMA raw")
    lake.sql("CREATE TABLE raw.t AS SELECT 1 AS i, INTERVAL '30 days' AS d, {'x': [INTERVAL '1 day']} AS s UNION ALL FROM (VALUES (2, NULL, NULL))")
    models_sqlite.write("silver/k.sql", f"-- materialized: {kind}\n-- unique_key: i\nSELECT i, d, s FROM raw.t")
    models_sqlite.run()
    for change in "d = INTERVAL '1 month'", "s = {'x': [INTERVAL '24 hours']}":
        lake.sql(f"UPDATE raw.t SET {change} WHERE i = 1")
        assert models_sqlite.run() == {"silver.k": "built"}
    texts = "SELECT i, d::VARCHAR, s::VARCHAR FROM "
    rows = lake.sql(texts + "silver.k" + (" WHERE valid_to IS NULL" if kind == "snapshot" else "") + " ORDER BY i")
    assert rows == lake.sql(texts + "raw.t ORDER BY i")
    assert lake.count("silver.k") == (4 if kind == "snapshot" else 2)


@pytest.mark.parametrize("name", ["valid_from", "VALID_TO"])
def test_columns_that_a_snapshot_has_of_its_own(models, name):
    """They were made valid_from_1, and the second run did not know its table any more."""
    numbers(models.home.open(), 3)
    models.write("gold/s.sql", f"-- materialized: snapshot\n-- unique_key: i\nSELECT i, part AS {name} FROM raw.numbers")
    assert "a column valid_from or valid_to, which a snapshot has for its versions" in models.fails(2)
    models.write("gold/s.sql", f"-- materialized: snapshot\n-- unique_key: i\nSELECT i, part AS x_{name} FROM raw.numbers -- so")
    assert models.run() == {"gold.s": "built"}


def test_comments(models):
    """They are put where they are not yet: each was a change of the table's columns. One of a column that is none is told (the process was ended by it)."""
    lake = models.home.open()
    numbers(lake)
    header = "-- description: {}\n-- materialized: incremental\n-- unique_key: i\n-- changes_from: raw.numbers(i)\n-- columns:\n--   {}: it's\n"
    models.write("gold/k.sql", header.format("all of them", "PART") + "SELECT i, part FROM raw.numbers")
    models.write("gold/v.sql", "-- description: a view\n-- columns:\n--   none: of a view\nSELECT i FROM k")
    models.run()
    lake.sql("CREATE TABLE raw.gone AS SELECT 1 AS i")
    lake.sql("CREATE VIEW raw.broken AS SELECT * FROM raw.gone")
    lake.sql("DROP TABLE raw.gone")
    comments = [("all of them",), ("it's",), ("a view",)]
    asked = "SELECT comment FROM duckdb_{} WHERE database_name = 'lake' AND comment IS NOT NULL"
    assert sum((lake.sql(asked.format(of)) for of in ("tables()", "columns()", "views()")), []) == comments
    lake.sql("INSERT INTO raw.numbers VALUES (100, 1)")
    models.run()
    assert "altered" not in lake.value("SELECT changes::VARCHAR FROM lake.snapshots() ORDER BY snapshot_id DESC LIMIT 1")
    models.write("gold/k.sql", header.format("more", "no such") + "SELECT i, part FROM raw.numbers")
    assert 'such\\" is no column of its query' in models.fails(2)
    models.write("gold/k.sql", header.format("more", "part") + "SELECT i, part FROM raw.numbers")
    models.run()
    assert lake.sql(asked.format("tables()")) == [("more",)]


def test_what_the_incremental_part_alone_reads(models_sqlite):
    """It is an input like others: built before, and what is new there makes a run."""
    lake = models_sqlite.home.open()
    numbers(lake, 3)
    lake.sql("CREATE TABLE raw.wanted AS SELECT 100 AS i")
    models_sqlite.write(
        "bronze/a.sql",
        """
        -- materialized: incremental
        -- unique_key: i
        SELECT i, part FROM raw.numbers
        {% if is_incremental() %} WHERE i IN (SELECT i FROM recent) AND i NOT IN (SELECT i FROM {{ this }}) {% endif %}
        """,
    )
    models_sqlite.write("gold/recent.sql", "-- materialized: table\nSELECT i FROM raw.wanted")
    models_sqlite.run()
    assert models_sqlite.result["bronze.a"]["reads"] == ["raw.numbers", "gold.recent"]
    lake.sql("INSERT INTO raw.numbers VALUES (7, 1), (8, 1)")
    lake.sql("INSERT INTO raw.wanted VALUES (7)")
    models_sqlite.run()
    assert lake.sql("SELECT i FROM bronze.a ORDER BY i") == [(0,), (1,), (2,), (7,)]
    lake.sql("INSERT INTO raw.wanted VALUES (8)")
    models_sqlite.run()
    assert lake.sql("SELECT i FROM bronze.a ORDER BY i") == [(0,), (1,), (2,), (7,), (8,)]


def test_a_file_that_ends_with_marks(models, tmp_path):
    """A merge marks rows of a file, a replacement ends it: official clients tell the marks alone, as if its other rows were still there."""
    header = "-- materialized: incremental\n-- {}: id\n-- changes_from: raw.t(id)\nSELECT id, v FROM raw.t"
    models.write("silver/k.sql", header.format("unique_key"))
    models.write("silver/p.sql", header.format("partition"))
    ingest = Ingest(models.home, tmp_path)

    def put(n, write):
        with RestServer(records([{"id": i, "v": n} for i in range(n)])) as server:
            ingest.run(ingest.file(rest(server.url, write)))

    merge = "write: merge\nmerge_key: [id]\ninline_rows: {}\n"
    put(1000, merge.format(0))
    models.run()
    put(5, merge.format(100))
    put(30, "write: replace\ninline_rows: 100\n")
    models.run()
    lake = models.home.open()
    for table in "silver.k", "silver.p":
        assert lake.rows(table) == lake.rows("raw.t"), table
    put(31, merge.format(100))
    models.run()
    assert lake.rows("silver.k") == lake.rows("raw.t") == lake.rows("silver.p")
