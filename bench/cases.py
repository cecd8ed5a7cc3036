"""What is measured: tables, workloads on them, and the list of cases."""

from dataclasses import dataclass

STRIDE = 7919  # a prime: keys are changed in scattered order, each once


@dataclass(frozen=True)
class Table:
    name: str
    rows: int  # at scale 1
    columns: str  # of CREATE TABLE
    row: str  # SELECT list of row number g
    changes: str  # SET list of an update
    sums: str  # aggregates that Postgres and DuckDB compute alike: they prove that the work was done
    changed: int = 0  # rows that the workload changes, at scale 1; 0: as the operation says
    setup: str = ""  # after CREATE TABLE


NARROW = Table(
    "narrow",
    1_000_000,
    """id int8 PRIMARY KEY, quantity int4, kind int2, amount numeric(12,2), at timestamptz, note text,
       code varchar(10), paid bool, ratio float8, ref uuid, extra jsonb""",
    """g, (g * 7919 % 1000003)::int4, (g % 30000)::int2, (g % 1000000) / 100.0, timestamptz '2024-01-01' + g * interval '1 s',
       md5(g::text), lpad((g % 10000000)::text, 10, 'c'), g % 3 = 0, g / 7.0, md5((g + 1)::text)::uuid,
       ('{"k": ' || g || ', "v": "' || g % 100 || '"}')::jsonb""",
    "quantity = t.quantity + 1, amount = t.amount + 0.01, note = md5(t.note), paid = NOT t.paid",
    "count(*), sum(id), sum(quantity), sum(kind), sum(amount), sum(length(note)), sum(length(code)), count(ref)",
)


def _wide():
    groups = [
        ("n", 12, "int4", "(g * {i} % 1000003)::int4"),
        ("b", 8, "int8", "g * {i}"),
        ("d", 6, "numeric(12,2)", "(g * {i} % 1000000) / 100.0"),
        ("ts", 6, "timestamptz", "timestamptz '2024-01-01' + g * interval '{i} s'"),
        ("day", 4, "date", "date '2020-01-01' + (g * {i} % 2000)::int"),
        ("t", 12, "text", "'value ' || g % 9973 || '/' || g * {i}"),
        ("f", 4, "bool", "g % ({i} + 1) = 0"),
        ("r", 4, "float8", "g / ({i} + 0.5)"),
        ("u", 3, "uuid", "md5((g + {i})::text)::uuid"),
    ]
    columns, row = ["id int8 PRIMARY KEY"], ["g"]
    for prefix, count, kind, value in groups:
        for i in range(1, count + 1):
            columns.append(f"{prefix}{i} {kind}")
            row.append(value.format(i=i))
    return Table(
        "wide",
        200_000,
        ", ".join(columns),
        ", ".join(row),
        "n1 = t.n1 + 1, d1 = t.d1 + 0.01, t1 = t.t1 || '!', f1 = NOT t.f1",
        "count(*), sum(id), sum(n1), sum(b8), sum(d1), sum(length(t1)), sum(length(t12)), count(u3)",
    )


def _document():
    """About 1 kB: a third hashes, which no codec shrinks, the rest words, numbers, dates and lists."""
    parts = ["'{\"id\": ' || g"]
    parts += [f"', \"hash{i}\": \"' || md5((g * {i})::text) || '\"'" for i in range(1, 9)]
    parts += [f"', \"street{i}\": \"' || g * {i} % 997 || ' Main Street, District ' || g % 89 || '\"'" for i in range(1, 8)]
    parts += [f"', \"amount{i}\": ' || (g * {i} % 1000003) / 100.0" for i in range(1, 8)]
    parts += [f"', \"active{i}\": ' || (g % {i + 1} = 0)::text" for i in range(1, 5)]
    parts += ["', \"at\": \"' || (date '2024-01-01' + (g % 700)::int)::text || 'T12:00:00Z\"'"]
    parts += ["', \"tags\": [\"tag ' || g % 31 || '\", \"tag ' || g % 53 || '\", \"tag ' || g % 71 || '\"], \"none\": null}'"]
    return "g, (" + " || ".join(parts) + ")::jsonb"


JSONB = Table(
    "jsonb",
    200_000,
    "id int8 PRIMARY KEY, doc jsonb",
    _document(),
    "doc = jsonb_set(t.doc, '{id}', to_jsonb(-t.id))",
    "count(*), sum(id), sum(length(CAST(doc AS text)))",
)



def _keys(name, rows):
    """The same changes on tables of any size: the cost of one must not grow with the table (issue 4, point 1)."""
    return Table(f"keys-{name}", rows, "id int8 PRIMARY KEY, v int8", "g, g", "v = t.v + 1", "count(*), sum(id), sum(v)", 100_000)


def _unsent(name, rows):
    """10 kB a row that updates do not send and the lake reads back. 10 M of them are 100 GB: as many as a disk has room for."""
    body = "(SELECT string_agg(md5(g::text || i), '') FROM generate_series(1, 313) i)"
    sums = "count(*), sum(id), sum(v), sum(length(body))"
    external = "ALTER TABLE t ALTER body SET STORAGE EXTERNAL"
    return Table(
        f"unsent-{name}", rows, "id int8 PRIMARY KEY, v int8, body text", f"g, g, {body}", "v = t.v + 1", sums, 20_000, external
    )


KEYS = [_keys("100k", 100_000), _keys("1m", 1_000_000), _keys("10m", 10_000_000)]
UNSENT = [_unsent("100k", 100_000), _unsent("400k", 400_000)]
TABLES = {table.name: table for table in (NARROW, _wide(), JSONB)}

SHAPES = {  # how many rows a transaction has; None: all
    "": 1000,
    "-one": None,
    "-small": 10,
}


@dataclass(frozen=True)
class Case:
    """One measurement: OP is insert, update, delete or snapshot."""

    op: str
    table: Table
    shape: str = ""
    connections: int = 1  # of a snapshot
    tcp: bool = False

    @property
    def group(self):
        """Cases of one group share their database and workload."""
        return f"{self.op}-{self.table.name}{self.shape}"

    @property
    def name(self):
        many = f"-{self.connections}" if self.op == "snapshot" else ""
        return self.group + many + ("-tcp" if self.tcp else "")

    def rows(self, scale):
        """Rows the workload changes: deletes leave half of the table."""
        if self.table.changed:
            return max(1000, int(self.table.changed * scale) // 1000 * 1000)
        rows = max(1000, int(self.table.rows * scale) // 1000 * 1000)
        return rows // 2 if self.op == "delete" else rows

    def table_rows(self, scale):
        """Rows of the table before the workload."""
        return 0 if self.op == "insert" else max(1000, int(self.table.rows * scale) // 1000 * 1000)

    def transactions(self, scale):
        per = SHAPES[self.shape] or self.rows(scale)
        return -(-self.rows(scale) // per)

    def goal(self):
        if self.table.name.startswith("unsent"):
            return 0.0  # its goal is in rows/s
        return {"insert": 0.6, "update": 0.4, "delete": 0.4, "snapshot": 0.5}[self.op]


def _all():
    narrow = TABLES["narrow"]
    for op in ("insert", "update", "delete"):
        for tcp in (False, True):
            yield Case(op, narrow, tcp=tcp)
    for shape in ("-one", "-small"):
        for op in ("insert", "update"):
            yield Case(op, narrow, shape)
    for name in ("wide", "jsonb"):
        for op in ("insert", "update", "delete"):
            yield Case(op, TABLES[name])
    for table in TABLES.values():
        for connections in (1, 2):
            yield Case("snapshot", table, connections=connections)
    yield Case("snapshot", narrow, connections=2, tcp=True)
    for table in (*KEYS, *UNSENT):
        yield Case("update", table)


ALL = list(_all())

MEMORY_GOAL_MIB = 400


def create(database, case, scale):
    """Makes and fills the table, and the publication."""
    table = case.table
    database.sql(f"CREATE TABLE t ({table.columns})")
    if table.setup:
        database.sql(table.setup)
    if case.table_rows(scale):
        database.sql(f"INSERT INTO t SELECT {table.row} FROM generate_series(1::int8, {case.table_rows(scale)}) g")
    database.sql("CREATE PUBLICATION bench FOR TABLE t")
    database.sql("VACUUM (FREEZE, ANALYZE) t")  # no hint bits left to write for whoever reads first
    database.sql("CHECKPOINT")


def _statement(case, modulus):
    table = case.table
    if case.op == "insert":
        return f"INSERT INTO t SELECT {table.row} FROM generate_series(low, high) g"
    key = f"t.id = g * {STRIDE} % {modulus} + 1"
    if case.op == "update":
        return f"UPDATE t SET {table.changes} FROM generate_series(low, high) g WHERE {key}"
    return f"DELETE FROM t USING generate_series(low, high) g WHERE {key}"


def workload(database, case, scale):
    """Makes the changes. Returns the position after them."""
    rows, per = case.rows(scale), SHAPES[case.shape] or case.rows(scale)
    modulus = case.table_rows(scale)
    assert modulus == 0 or modulus % STRIDE
    settings = {"synchronous_commit": "off", "enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off"}
    with database.connect() as connection:
        for name, value in settings.items():
            connection.execute(f"SET {name} = {value}")
        connection.execute(
            f"""DO $$
            DECLARE low int8 := 1; high int8;
            BEGIN
                WHILE low <= {rows} LOOP
                    high := least(low + {per} - 1, {rows});
                    {_statement(case, modulus)};
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
