"""Tables of a DuckDB connection, asked like those of a lake (lib/compare.py)."""

import duckdb

from .lake import identifier


class DuckTables:
    """Gives columns(), source() and sql() of a connection of the official client.

    database   a file, opened read-only and closed with close(); or an open connection
    """

    def __init__(self, database):
        self.connection = database
        if not isinstance(database, duckdb.DuckDBPyConnection):
            self.connection = duckdb.connect(str(database), read_only=True)
        self.connection.execute("SET TimeZone = 'UTC'")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.connection.close()

    def sql(self, statement):
        return self.connection.execute(statement).fetchall()

    def value(self, statement):
        return self.sql(statement)[0][0]

    def source(self, table, at=None):
        assert at is None, "there are no snapshots"
        return ".".join(identifier(part) for part in table.split("."))

    def columns(self, table, at=None):
        return {row[0]: row[1] for row in self.sql(f"DESCRIBE SELECT * FROM {self.source(table, at)}")}

    def rows(self, table):
        """All rows as tuples, sorted by all columns."""
        return self.sql(f"SELECT * FROM {self.source(table)} ORDER BY ALL")

    def count(self, table):
        return self.value(f"SELECT count(*) FROM {self.source(table)}")

    def tables(self):
        return [f"{schema}.{name}" for schema, name in self.sql("SELECT schema_name, table_name FROM duckdb_tables() ORDER BY ALL")]
