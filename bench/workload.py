"""What happens at the source: tables are made and filled, and changed."""

from decimal import Decimal

from cases import SHAPES, STRIDE


def create(database, case, scale):
    """Makes and fills the tables, the publication of all, and one for each flow where there are several."""
    table = case.table
    for name in table.names():
        database.sql(f"CREATE TABLE {name} ({table.columns})")
    if table.setup:
        database.sql(table.setup)
    if case.table_rows(scale):
        database.sql(f"INSERT INTO t SELECT {table.row} FROM generate_series(1::int8, {case.table_rows(scale)}) g")
    database.sql(f"CREATE PUBLICATION bench FOR TABLE {', '.join(table.names())}")
    for number in range(1, case.slots + 1) if case.slots > 1 else ():
        database.sql(f"CREATE PUBLICATION bench{number} FOR TABLE {', '.join(table.names()[number - 1 :: case.slots])}")
    database.sql("VACUUM (FREEZE, ANALYZE) t")  # no hint bits left to write for whoever reads first
    database.sql("CHECKPOINT")


def sums(case, query):
    """Counts and sums over all tables, alike in Postgres and DuckDB when the rows are. QUERY runs a statement."""
    names, found = case.table.names(), []
    for first in range(0, len(names), 50):  # a union of hundreds takes the official client minutes
        rows = " UNION ALL ".join(f"SELECT * FROM {name}" for name in names[first : first + 50])
        found.append(query(f"SELECT {case.table.sums} FROM ({rows}) t")[0])
    return [sum(Decimal(str(value or 0)) for value in column) for column in zip(*found)]


def _statement(case, scale):
    """Changes the rows of the numbers low to high."""
    table, size = case.table, case.table_rows(scale)
    if case.op == "insert":
        return f"INSERT INTO t SELECT {table.row} FROM generate_series(low + {size}, high + {size}) g"
    keys = size // table.every
    assert keys % STRIDE
    shift = case.rows(scale) if case.op == "delete" and table.changed else 0  # others than an update before it changed
    key = f"t.id = (g + {shift}) * {STRIDE} % {keys} * {table.every} + 1"
    if case.op == "update":
        return f"UPDATE t SET {table.changes} FROM generate_series(low, high) g WHERE {key}"
    return f"DELETE FROM t USING generate_series(low, high) g WHERE {key}"


def _transaction(case, scale, per):
    """The statements of one transaction: with many tables, each of those that take part gets its share of the rows."""
    table = case.table
    if table.count == 1:
        return _statement(case, scale) + ";"
    share = per // table.spread
    row = table.row.replace("'", "''")
    return f"""
        FOR part IN 0 .. {table.spread - 1} LOOP
            number := (low / {share} + part) % {table.count};
            EXECUTE 'INSERT INTO t' || CASE number WHEN 0 THEN '' ELSE (number + 1)::text END
                || ' SELECT {row} FROM generate_series($1, $2) g'
                USING low + part * {share}, low + (part + 1) * {share} - 1;
        END LOOP;"""


def workload(database, case, scale):
    """Makes the changes. Returns the position after them."""
    rows, per = case.rows(scale), SHAPES[case.shape] or case.rows(scale)
    if case.op != "insert":  # no key twice in a transaction of a tiny table
        per = min(per, case.table_rows(scale) // case.table.every)
    settings = {"synchronous_commit": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off"}
    with database.connect() as connection:
        for name, value in settings.items():
            connection.execute(f"SET {name} = {value}")
        connection.execute(
            f"""DO $$
            DECLARE low int8 := 1; high int8; number int8;
            BEGIN
                WHILE low <= {rows} LOOP
                    high := least(low + {per} - 1, {rows});
                    {_transaction(case, scale, per)}
                    COMMIT;
                    low := high + 1;
                END LOOP;
            END $$"""
        )
    database.sql("CHECKPOINT")
    return database.value("SELECT pg_current_wal_lsn()::text")


def ranges(database, connections):
    """The COPY commands of a floor with that many connections: as many ranges of pages."""
    if connections == 1:
        return ["COPY t TO STDOUT (FORMAT binary)"]
    pages = database.value("SELECT pg_relation_size('t') / current_setting('block_size')::int")
    cuts = [pages * i // connections for i in range(connections + 1)]
    return [
        f"COPY (SELECT * FROM t WHERE ctid >= '({low},0)' AND ctid < '({high},0)') TO STDOUT (FORMAT binary)"
        for low, high in zip(cuts, [*cuts[1:-1], 4294967295])
    ]
