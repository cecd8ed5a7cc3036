"""The rows of a catalog, for comparing what two programs have written."""

import re
import sqlite3

import psycopg

TABLES = [
    "snapshot", "snapshot_changes", "schema", "table", "view", "tag", "column_tag", "column", "data_file",
    "file_column_stats", "file_variant_stats", "delete_file", "table_stats", "table_column_stats", "partition_info",
    "partition_column", "file_partition_value", "files_scheduled_for_deletion", "inlined_data_tables",
    "column_mapping", "name_mapping", "schema_versions", "macro", "sort_info", "sort_expression", "metadata",
]  # fmt: skip
MASKED = {
    "snapshot_time", "author", "commit_message", "commit_extra_info", "file_size_bytes", "footer_size",
    "column_size_bytes", "schedule_start",
}  # fmt: skip
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


class Catalog:
    """A catalog's rows, on either database."""

    def __init__(self, catalog):
        self.kind, _, self.place = catalog.partition(":")

    def query(self, sql):
        connect = sqlite3.connect if self.kind == "sqlite" else psycopg.connect
        connection = connect(self.place)
        try:
            cursor = connection.execute(sql)
            return [d[0] for d in cursor.description], cursor.fetchall()
        finally:
            connection.close()

    def execute(self, sql):
        connect = sqlite3.connect if self.kind == "sqlite" else psycopg.connect
        connection = connect(self.place)
        connection.execute(sql)
        connection.commit()
        connection.close()

    def dump(self, name):
        columns, rows = self.query(f"SELECT * FROM ducklake_{name}")
        masked = [
            tuple("*" if column in MASKED else UUID.sub("U", str(value)) for column, value in zip(columns, row))
            for row in rows
        ]
        return columns, sorted(masked)

    def layout(self):
        """Columns and types of all official tables, in order."""
        if self.kind == "sqlite":
            return sorted(
                self.query(
                    "SELECT name, replace(replace(sql, '\"', ''), char(10), ' ') FROM sqlite_master "
                    "WHERE type = 'table' AND name LIKE 'ducklake%'"
                )[1],
                key=lambda row: row[0],
            )
        return self.query(
            "SELECT table_name, column_name, data_type, is_nullable FROM information_schema.columns "
            "WHERE table_name LIKE 'ducklake%' ORDER BY table_name, ordinal_position"
        )[1]


def assert_same(official, native, skip=()):
    """Both as the fixture `two` gives them: catalog string, folder."""
    for name in TABLES:
        if name in skip:
            continue
        expected, found = Catalog(official[0]).dump(name), Catalog(native[0]).dump(name)
        if name == "metadata":
            expected, found = (
                sorted(row[0] for row in side[1] if row[0] != "created_by") for side in (expected, found)
            )
        assert found == expected, name
