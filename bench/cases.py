"""What is measured: tables, workloads on them, and the list of cases."""

from dataclasses import dataclass, replace

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
    every: int = 1  # each so-manyth row is changed
    count: int = 1  # tables of this kind: t, t2, t3, …
    spread: int = 1  # so many of them take part in a transaction

    def names(self):
        return ["t", *(f"t{i}" for i in range(2, self.count + 1))]


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
        600_000,
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
    600_000,
    "id int8 PRIMARY KEY, doc jsonb",
    _document(),
    "doc = jsonb_set(t.doc, '{id}', to_jsonb(-t.id))",
    "count(*), sum(id), sum(length(CAST(doc AS text)))",
)


def _keys(name, rows):
    """The same changes on tables of any size: the cost of one must not grow with the table (issue 4, points 1 and 3)."""
    return replace(NARROW, name=f"keys-{name}", rows=rows, changed=1_000_000)


def _unsent(name, rows, every):
    """Each EVERYth row has 10 kB that updates of it do not send and the lake reads back; the others have none."""
    body = " || ".join(["encode(gen_random_bytes(1024), 'hex')"] * 5)
    row = f"g, g, CASE WHEN (g - 1) % {every} = 0 THEN {body} END"
    sums = "count(*), sum(id), sum(v), sum(length(body)), sum(ascii(substr(body, CAST(1 + id % 9973 AS int), 1)) * (id % 89))"
    setup = "CREATE EXTENSION pgcrypto; ALTER TABLE t ALTER body SET STORAGE EXTERNAL"
    columns = "id int8 PRIMARY KEY, v int8, body text"
    return Table(f"unsent-{name}", rows, columns, row, "v = t.v + 1", sums, changed=20_000, setup=setup, every=every)


KEYS = {name: _keys(name, rows) for name, rows in (("100k", 100_000), ("1m", 1_000_000), ("10m", 10_000_000))}
UNSENT = [_unsent("100k", 100_000, 1), _unsent("1m", 1_000_000, 10), _unsent("10m", 10_000_000, 100)]
TABLES = {table.name: table for table in (NARROW, _wide(), JSONB)}
MANY = replace(NARROW, name="500tables", count=500, spread=100, changed=300_000)
SPLIT = replace(NARROW, name="slots-2", count=2)

COPIED_TIMES = 3  # as many rows are copied: a run takes seconds, of which its begin and end are little
LIKE_DLT = (("compression", "snappy"),)  # DuckLake's own default, which dlt's files have
ONCE = (("snapshot", "only"),)  # nothing follows it, as after a run of dlt

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
    rival: str = "floor"  # or dlt
    catalog: str | None = None  # None: as the run
    options: tuple = ()  # of the destination
    source_options: tuple = ()
    suffix: str = ""  # of the name
    extra: bool = False  # measured only when asked for
    slots: int = 1  # as many flows, each with its share of the tables

    @property
    def group(self):
        """Cases of one group share their database, and workloads follow each other in it."""
        if self.table.name == "keys-10m":
            return self.table.name
        rival = f"-{self.rival}" if self.rival != "floor" else ""
        return f"{self.op}-{self.table.name}{self.shape}{self.suffix}{rival}"

    @property
    def work(self):
        return self.op + self.shape

    @property
    def name(self):
        many = f"-{self.connections}" if self.op == "snapshot" else ""
        rival = f"-{self.rival}" if self.rival != "floor" else ""
        tcp = "-tcp" if self.tcp and not rival else ""
        return f"{self.op}-{self.table.name}{self.shape}{self.suffix}{many}{rival}{tcp}"

    @property
    def large(self):
        return self.table.rows >= 10_000_000

    def _scaled(self, rows, scale):
        return max(1000, int(rows * scale) // 1000 * 1000)

    def rows(self, scale):
        """Rows the workload changes: deletes leave half of the table, or more."""
        if self.table.changed:
            return self._scaled(self.table.changed, scale)
        rows = self._scaled(self.table.rows, scale)
        return rows // 2 if self.op == "delete" else rows

    def table_rows(self, scale):
        """Rows of the table before the workload."""
        if self.op == "insert" and not self.table.name.startswith("keys-"):
            return 0
        return self._scaled(self.table.rows, scale)

    def transactions(self, scale):
        per = SHAPES[self.shape] or self.rows(scale)
        return -(-self.rows(scale) // per)


def _all():
    narrow = TABLES["narrow"]
    for op in ("insert", "update", "delete"):
        for tcp in (False, True):
            yield Case(op, narrow, tcp=tcp, extra=tcp and op != "insert")
    for shape in ("-one", "-small"):
        for op in ("insert", "update"):
            yield Case(op, narrow, shape, extra=op + shape == "update-small")
    for name in ("wide", "jsonb"):
        for op in ("insert", "update", "delete"):
            yield Case(op, TABLES[name])
    for table in TABLES.values():
        copied = replace(table, rows=table.rows * COPIED_TIMES if table is narrow else table.rows)
        for connections in (1, 2):
            yield Case("snapshot", copied, connections=connections)
        if table is narrow:
            yield Case("snapshot", copied, connections=2, tcp=True)
            yield Case("snapshot", narrow, tcp=True, rival="dlt", catalog="sqlite", options=LIKE_DLT, source_options=ONCE)
    yield Case("delete", narrow, suffix="-marks", catalog="postgres", options=(("delete_file_rows", 1_000_000_000),))
    yield Case("insert", MANY)
    yield Case("insert", SPLIT, slots=SPLIT.count)
    for table in (KEYS["100k"], KEYS["1m"], *UNSENT):
        yield Case("update", table)
    for op in ("update", "insert", "delete"):
        yield Case(op, KEYS["10m"])


ALL = list(_all())
