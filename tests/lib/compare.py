"""Comparison by content: the rows of a Postgres table against the rows of its lake table, value by value.

    difference = compare_table(database, lake, "public.orders")
    assert difference.identical, difference.report()

or, for several tables, assert_same(database, lake, "public.orders", "public.customers").

Values are brought to one spelling by type (values.py) and compared as a multiset, so the order of rows means nothing and
a row that stands twice must stand twice on both sides.
"""

import re
from collections import Counter
from dataclasses import dataclass, field, replace

import psycopg
from psycopg.types.string import TextLoader

from .lake import identifier, quoted
from .source_types import SourceType, lake_type, load_type, source_expression, spell


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
        by_key = {row[0]: row for row in self.unexpected}
        for row in self.missing[:limit]:
            lines.append(self._pair(row, by_key[row[0]]) if row[0] in by_key else f"  {'missing':<15} {_shown(row)}")
        known = {row[0] for row in self.missing[:limit]}
        lines += [f"  {'unexpected':<15} {_shown(row)}" for row in self.unexpected if row[0] not in known][:limit]
        return "\n".join(lines)

    def _pair(self, source, lake):
        """Two rows that begin alike: the columns in which they differ."""
        differing = [
            f"{column} {_short(a)} is {_short(b)}" for column, a, b in zip(self.columns, source, lake) if a != b
        ]
        return f"  {self.columns[0]} {_short(source[0]):<10} " + "; ".join(differing)


def _short(value):
    text = "NULL" if value is None else str(value)
    return text if len(text) <= 60 else f"{text[:50]}… ({len(text)} characters)"


def _shown(row):
    return "(" + ", ".join(map(_short, row)) + ")"


@dataclass
class SourceColumn:
    name: str
    type: SourceType


def source_columns(database, table, generated=False):
    """The live columns of a Postgres table, in order; generated columns are replicated only from 18 on and when asked for."""
    rows = database.query(
        f"SELECT attname, atttypid FROM pg_attribute WHERE attrelid = {quoted(table)}::regclass AND attnum > 0"
        f" AND NOT attisdropped AND (attgenerated = '' OR {generated}) ORDER BY attnum"
    )
    if not rows:
        raise ValueError(f"{table} has no columns")
    return [SourceColumn(name, load_type(database, oid)) for name, oid in rows]


def lake_columns(columns, lake_types):
    """The columns as the lake holds them: what it stores as plain text is compared as the text Postgres prints."""
    plain = ("VARCHAR", "JSON")
    return [
        replace(column, type=SourceType("scalar", column.type.name))
        if lake_types.get(column.name) in plain and column.type.kind != "scalar"
        else column
        for column in columns
    ]


def _content(columns, rows, side):
    types = [column.type for column in columns]
    return Content(
        [column.name for column in columns],
        [tuple(spell(type_, value, side) for type_, value in zip(types, row)) for row in rows],
    )


def fetch_source(database, table, columns=None, where="true"):
    """The content of a Postgres table."""
    columns = columns or source_columns(database, table)
    expressions = [source_expression(column.type, identifier(column.name)) for column in columns]
    with database.connect(autocommit=False) as connection:
        for known in psycopg.adapters.types:
            connection.adapters.register_loader(known.oid, TextLoader)
        for setting in ("TimeZone = 'UTC'", "DateStyle = 'ISO'", "IntervalStyle = 'postgres'", "extra_float_digits = 3"):
            connection.execute(f"SET {setting}")
        rows = connection.execute(f"SELECT {', '.join(expressions)} FROM {table} WHERE {where}").fetchall()
    return _content(columns, rows, side=0)


def fetch_lake(lake, table, columns, where="true", at=None):
    """The content of a lake table: the columns of the source table, with text leaves."""
    types = lake.columns(table, at)

    def expression(column):
        depth = re.search(r"(\[\])*$", types[column.name])[0].count("[]")
        return f"CAST({identifier(column.name)} AS {lake_type(column.type, depth)})"

    rows = lake.sql(f"SELECT {', '.join(map(expression, columns))} FROM {lake.source(table, at)} WHERE {where}")
    return _content(columns, rows, side=1)


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


def compare_table(database, lake, table, lake_table=None, ignore=(), where="true", at=None, generated=False):
    """Compares one table.

    table       "schema.table" in Postgres; lake_table its name in the lake when it has another one
    generated   whether generated columns are published
    ignore      columns to leave out on both sides (types without a common text, columns the lake adds)
    where       a condition both sides understand
    at          a snapshot of the lake instead of the newest
    """
    lake_table = lake_table or table
    columns = [column for column in source_columns(database, table, generated) if column.name not in ignore]
    expected = [column.name for column in columns]
    lake_types = lake.columns(lake_table, at)
    found = [name for name in lake_types if name not in ignore]
    if sorted(expected) != sorted(found):
        structure = f"the source has columns {expected}, the lake has {found}"
        return Difference(table, expected, 0, 0, structure=structure)
    columns = lake_columns(columns, lake_types)
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
