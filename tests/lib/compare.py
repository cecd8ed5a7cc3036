"""Comparison by content: the rows of a Postgres table against the rows of its lake table, value by value.

    difference = compare_table(database, lake, "public.orders")
    assert difference.identical, difference.report()

or, for several tables, assert_same(database, lake, "public.orders", "public.customers").

Values are brought to one spelling by type (values.py) and compared as a multiset, so the order of rows means nothing and
a row that stands twice must stand twice on both sides.
"""

from collections import Counter
from dataclasses import dataclass, field

import psycopg
from psycopg.types.string import TextLoader

from . import values
from .lake import identifier, quoted


@dataclass
class Content:
    """The rows of one side: tuples of canonical texts (None = NULL; arrays are tuples), in the order of `columns`."""

    columns: list
    rows: list


@dataclass
class Difference:
    table: str
    columns: list
    source_rows: int
    lake_rows: int
    missing: list = field(default_factory=list)  # rows that only the source has
    unexpected: list = field(default_factory=list)  # rows that only the lake has
    structure: str = ""  # set when the columns themselves differ

    @property
    def identical(self):
        return not (self.structure or self.missing or self.unexpected)

    def report(self, limit=5):
        """What differs, with the first LIMIT rows of each side."""
        if self.identical:
            return f"{self.table}: identical, {self.source_rows} rows"
        if self.structure:
            return f"{self.table}: {self.structure}"
        lines = [
            f"{self.table}: {self.source_rows} rows in the source, {self.lake_rows} in the lake; "
            f"{len(self.missing)} missing from the lake, {len(self.unexpected)} unexpected",
            f"  columns         {', '.join(self.columns)}",
        ]
        for title, rows in (("missing", self.missing), ("unexpected", self.unexpected)):
            lines += [f"  {title:<15} {_shown(row)}" for row in rows[:limit]]
        return "\n".join(lines)


def _shown(row):
    def short(value):
        text = "NULL" if value is None else str(value)
        return text if len(text) <= 60 else f"{text[:50]}… ({len(text)} characters)"

    return "(" + ", ".join(short(value) for value in row) + ")"


@dataclass
class SourceColumn:
    name: str
    type_name: str  # of the element when it is an array, of the base type when it is a domain
    is_array: bool


def source_columns(database, table):
    """The live columns of a Postgres table, in order; generated columns are not replicated and left out."""
    rows = database.query(
        f"""
        WITH RECURSIVE base AS (
            SELECT a.attnum, a.attname, a.atttypid AS type FROM pg_attribute a
            WHERE a.attrelid = {quoted(table)}::regclass AND a.attnum > 0
              AND NOT a.attisdropped AND a.attgenerated = ''
            UNION ALL
            SELECT b.attnum, b.attname, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.type WHERE t.typtype = 'd'
        )
        SELECT b.attname, coalesce(e.typname, t.typname), e.oid IS NOT NULL
        FROM base b JOIN pg_type t ON t.oid = b.type
        LEFT JOIN pg_type e ON e.oid = t.typelem AND t.typcategory = 'A'
        WHERE t.typtype <> 'd' ORDER BY b.attnum
        """
    )
    if not rows:
        raise ValueError(f"{table} has no columns")
    return [SourceColumn(*row) for row in rows]


def _spell(function, value):
    if value is None:
        return None
    if isinstance(value, (list, tuple)):
        return tuple(_spell(function, element) for element in value)
    return function(value)


def _content(columns, spellings, rows):
    return Content(
        [column.name for column in columns],
        [tuple(map(_spell, spellings, row)) for row in rows],
    )


def fetch_source(database, table, columns=None, where="true"):
    """The content of a Postgres table."""
    columns = columns or source_columns(database, table)
    spellings = [values.spelling(column.type_name)[0] for column in columns]

    # Scalars as the text of the type's output function (a cast to text would trim char(n) and add to inet);
    # arrays as lists of texts.
    def expression(column):
        name = identifier(column.name)
        return f"{name}::text[]" if column.is_array else name

    with database.connect(autocommit=False) as connection:
        for known in psycopg.adapters.types:
            connection.adapters.register_loader(known.oid, TextLoader)
        for setting in ("TimeZone = 'UTC'", "DateStyle = 'ISO'", "IntervalStyle = 'postgres'", "extra_float_digits = 3"):
            connection.execute(f"SET {setting}")
        rows = connection.execute(
            f"SELECT {', '.join(map(expression, columns))} FROM {table} WHERE {where}"
        ).fetchall()
    return _content(columns, spellings, rows)


def fetch_lake(lake, table, columns, where="true", at=None):
    """The content of a lake table: the columns of the source table, each as text or as lists of text."""
    types = lake.columns(table, at)
    spellings = [values.spelling(column.type_name)[1] for column in columns]

    def expression(column):
        depth = types[column.name].count("[]") if types[column.name].endswith("[]") else 0
        return f"CAST({identifier(column.name)} AS VARCHAR{'[]' * depth})"

    rows = lake.sql(f"SELECT {', '.join(map(expression, columns))} FROM {lake.source(table, at)} WHERE {where}")
    return _content(columns, spellings, rows)


def compare_content(table, source, lake):
    """The Difference of two Contents that have the same columns."""
    in_source, in_lake = Counter(source.rows), Counter(lake.rows)
    return Difference(
        table,
        source.columns,
        len(source.rows),
        len(lake.rows),
        missing=sorted((in_source - in_lake).elements(), key=repr),
        unexpected=sorted((in_lake - in_source).elements(), key=repr),
    )


def compare_table(database, lake, table, lake_table=None, ignore=(), where="true", at=None):
    """Compares one table.

    table       "schema.table" in Postgres; lake_table its name in the lake when it has another one
    ignore      columns to leave out on both sides (types without a common text, columns the lake adds)
    where       a condition both sides understand
    at          a snapshot of the lake instead of the newest
    """
    lake_table = lake_table or table
    columns = [column for column in source_columns(database, table) if column.name not in ignore]
    expected = [column.name for column in columns]
    found = [name for name in lake.columns(lake_table, at) if name not in ignore]
    if sorted(expected) != sorted(found):
        structure = f"the source has columns {expected}, the lake has {found}"
        return Difference(table, expected, 0, 0, structure=structure)
    return compare_content(
        table,
        fetch_source(database, table, columns, where),
        fetch_lake(lake, lake_table, columns, where, at),
    )


def assert_same(database, lake, *tables, **options):
    """Fails with the rows that differ; compares all tables before it does. Returns the number of rows compared."""
    differences = [compare_table(database, lake, table, **options) for table in tables]
    reports = [difference.report() for difference in differences if not difference.identical]
    assert not reports, "\n".join(reports)
    return sum(difference.source_rows for difference in differences)
