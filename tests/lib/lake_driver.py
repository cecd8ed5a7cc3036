"""src/lake without a flow around it: lake_driver, a C program that takes one command a line, and files to give it."""

import os
import subprocess
import uuid
from pathlib import Path

import duckdb

from . import child, sanitizer
from .paths import driver_program

ROW_ID = 2147483540


class DriverError(Exception):
    """What src/lake said; `kind` is the class of the error."""

    def __init__(self, text):
        self.kind, _, message = text.partition(" ")
        super().__init__(f"{self.kind}: {message}")


class Again(Exception):
    """lake_txn_commit returned 1: others changed a table of the txn."""


def _program():
    return os.environ.get("DUCT_LAKE_DRIVER") or driver_program("lake_driver")


def _escape(field):
    if field is None:
        return "\\N"
    return str(field).replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n")


class Driver:
    """One process with one open lake (none without a catalog) and one txn at a time."""

    def __init__(self, catalog=None, data_path=None, flow="test", schema=None, flags="ci", env=None):
        environment = {**os.environ, **sanitizer.options(detect_leaks=1), **(env or {})}
        self.process = child.popen(
            [_program()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.opened = catalog and self.ask("open", catalog, data_path, schema, flow, flags)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        self.close(check=kind is None)

    def close(self, check=True):
        if not self.process.stdin.closed:
            self.process.stdin.close()
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        if check:
            assert code == 0, f"lake_driver ended with {code}"

    def send(self, *fields):
        self.process.stdin.write("\t".join(map(_escape, fields)) + "\n")
        self.process.stdin.flush()

    def receive(self):
        line = self.process.stdout.readline().rstrip("\n")
        if line == "again":
            raise Again()
        if line.startswith("err "):
            raise DriverError(line[4:])
        if not line.startswith("ok"):
            raise DriverError(f"ended {line}")
        return line[3:]

    def ask(self, *fields):
        self.send(*fields)
        return self.receive()

    # --- a txn ---

    def begin(self, *table_ids):
        """Starts a txn; handles of existing tables in order."""
        self.ask("begin")
        return [int(self.ask("table", table_id)) for table_id in table_ids]

    def create(self, schema, name, *columns):
        """columns: (name, type) or (name, type, default). Returns handle and folder."""
        flat = [field for column in columns for field in (*column, None)[:3]]
        handle, _, path = self.ask("create", schema, name, *flat).partition(" ")
        return int(handle), path

    def columns(self, handle):
        """[(id, name, type text, default, [ids of nested nodes])]"""
        fields = self.ask("columns", handle).split("\t")
        return [
            (int(i), name, kind, None if default == "\\N" else default, [int(n) for n in nodes.split(",") if n])
            for i, name, kind, default, nodes in zip(*[iter(fields)] * 5)
        ]

    def put(self, handle, path, count, size, footer, stats=(), explicit=False):
        self.ask("file", path, count, size, footer, int(explicit))
        for stat in stats:
            self.ask("stat", *stat)
        return int(self.ask("put", handle))

    def commit(self, lsn=0, identity=None):
        """(snapshot id, [(file id, row id start)])"""
        first, *files = self.ask("commit", f"{lsn:x}", identity).split()
        return int(first), [tuple(int(n) for n in file.split(":")) for file in files]

    def sync(self):
        """(head, {table id: changes})"""
        head, *notes = self.ask("sync").split()
        return int(head), {int(note.split(":")[0]): int(note.split(":")[1]) for note in notes}

    def find(self, schema, name):
        """None or (id, record count, next row id, bytes, greatest column id, path, {column: (null, nan, min, max)})"""
        first, *stats = self.ask("find", schema, name).split("\t")
        fields = first.split(" ", 5)
        if fields[0] == "-1":
            return None
        rows = [stat.split(",", 4) for stat in stats]
        return (*map(int, fields[:5]), fields[5], {int(row[0]): tuple(row[1:]) for row in rows})

    def files(self, table_id):
        """Dicts of the live files."""
        result = []
        for text in filter(None, self.ask("files", table_id).split("\t")):
            numbers = text.split(" ")
            names = ("id", "records", "row_id_start", "deleted", "marked", "partial_max")
            file = {**dict(zip(names, map(int, numbers))), "path": numbers[6]}
            file["marks"] = [int(n) for n in numbers[7].split(",")] if len(numbers) > 7 else []
            result.append(file)
        return result

    # --- rows of files ---

    def rows(self, path, positions, *columns, row_id_start=0):
        """columns: (field id, type[, default]). Which reader took them, bytes read, reads, and a list of
        (position, row id, [value as text of its bytes])."""
        flat = [field for column in columns for field in (*column, None)[:3]]
        first, *rows = self.ask("rows", path, row_id_start, ",".join(map(str, positions)), *flat).split("\t")
        road, size, reads = first.split(" ")
        found = [row.split(" ") for row in rows]
        return road, int(size), int(reads), [(int(row[0]), int(row[1]), row[2:]) for row in found]


# --- files ---


def _field_ids(kind, ids):
    """The FIELD_IDS entry of a column: `kind` is a DuckDB type, ids the column's own and its nested nodes', in order."""
    own = ids.pop(0)
    if kind.id == "list":
        return f"{{__duckdb_field_id: {own}, element: {_field_ids(kind.children[0][1], ids)}}}"
    if kind.id == "map":
        key, value = (_field_ids(child, ids) for _, child in kind.children)
        return f"{{__duckdb_field_id: {own}, key: {key}, value: {value}}}"
    if kind.id == "struct":
        parts = ", ".join(f"'{name}': {_field_ids(child, ids)}" for name, child in kind.children)
        return f"{{__duckdb_field_id: {own}, {parts}}}"
    return str(own)


def _leaf_names(kind, prefix):
    """Path as RETURN_STATS spells it, for each node in depth-first order (None for a node that is no leaf)."""
    quoted = prefix
    if kind.id in ("list", "map", "struct"):
        yield None
        names = ["element"] if kind.id == "list" else [name for name, _ in kind.children]
        for name, (_, child) in zip(names, kind.children):
            yield from _leaf_names(child, quoted + [name])
    else:
        yield quoted


def write_parquet(folder, query, columns, row_ids=False):
    """Writes the query's rows, whose columns are those of Driver.columns() in order; arguments for Driver.put()."""
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    names = ['"' + column[1].replace('"', '""') + '"' for column in columns]
    query = f"SELECT * FROM ({query}) AS q({', '.join(names + ['_ducklake_internal_row_id'] * row_ids)})"
    relation = connection.sql(query)
    path = Path(folder) / f"ducklake-{uuid.uuid4()}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    ids, leaves = [], {}
    for (own, name, _, _, nodes), kind in zip(columns, relation.types):
        numbers = [own, *nodes]
        for number, leaf in zip(numbers, _leaf_names(kind, [name])):
            if leaf:
                leaves[".".join('"' + part.replace('"', '""') + '"' for part in leaf)] = number
        ids.append("'" + name.replace("'", "''") + f"': {_field_ids(kind, list(numbers))}")
    if row_ids:
        ids.append(f"_ducklake_internal_row_id: {ROW_ID}")
    row = connection.execute(
        f"COPY ({query}) TO '{path}' (FORMAT parquet, FIELD_IDS {{{', '.join(ids)}}}, RETURN_STATS)"
    ).fetchone()
    _, count, size, footer, stats, _ = row
    listed = []
    for name, values in stats.items():
        if name not in leaves:
            continue
        nan = {"true": 1, "false": 0}.get(values.get("has_nan"), -1)
        nulls = int(values.get("null_count", 0))
        amount = int(values.get("num_values", count)) - nulls
        listed.append(
            (leaves[name], values.get("column_size_bytes", -1), amount, nulls, nan, values.get("min"), values.get("max"))
        )
    connection.close()
    return {"path": path, "count": count, "size": size, "footer": footer, "stats": listed, "explicit": row_ids}


def write_deletes(folder, data_path, positions):
    """Writes a delete file; (path, count, bytes, footer bytes)."""
    path = Path(folder) / f"ducklake-{uuid.uuid4()}-delete.parquet"
    values = ", ".join(f"('{data_path}', {position}::BIGINT)" for position in positions)
    connection = duckdb.connect()
    row = connection.execute(
        f"COPY (SELECT * FROM (VALUES {values}) t(file_path, pos)) TO '{path}' "
        "(FORMAT parquet, FIELD_IDS {file_path: 2147483646, pos: 2147483645}, RETURN_STATS)"
    ).fetchone()
    connection.close()
    return path, row[1], row[2], row[3]
