"""A run as docs/benchmarks.md with its plots (issue 4, point 5)."""

from pathlib import Path

import goals
import peer
import plot
import report

PROFILE = Path(__file__).with_name("profile.md")

EXPLANATION = """# Benchmarks

Written by `bench/run --write-docs`: all figures and verdicts below come from one run, but for "Where our time goes" at the end. How long
a commit takes until the lake's readers see it: [freshness.md](freshness.md).

The **floor** (`bench/drain.c`) is a C program that drains the same changes from a copy of the same slot, with the best options of
the protocol (version 2, binary values, streamed transactions), or reads the same `COPY ... (FORMAT binary)` on as many connections,
and throws everything away. No mover can be faster on this server; **ratio** is our rows/s divided by the floor's. Both sides are
measured from the start of the program to its end, in turns, on the same Postgres, machine and run. After each of our runs the
official DuckLake client compares counts and sums of the lake with the source.

- `insert`, `update`, `delete`: changes of a table that was copied before; 1,000 rows in a transaction, `-small` 10, `-one` all rows
  in one. Updates and deletes hit keys in scattered order; deletes leave half of the table. The table's key index exists
  already, as it does after a copy.
- `narrow` has 11 columns (217 bytes a message), `wide` 60, `jsonb` a document of about 1 kB. `-tcp` is over loopback, the others
  over a unix socket. `snapshot-TABLE-N` is a first copy with N connections.
- `keys-N` are a million changes of the narrow table with N rows; `unsent-N` 20,000 updates of an integer beside 10 kB that the server
  does not send again and we read back from the lake (of 10 M rows each hundredth has them: 1 GB).
- `-marks`: all deletes become marks in a Postgres catalog (`delete_file_rows` is raised). `500tables`: each transaction inserts 10 rows
  in each of 100 of 500 tables. `slots-N`: tables shared out to N flows with a slot each, into one lake, beside the floor with one slot for all.
- CPU columns are CPU-seconds: of the server's sessions while the floor ran and while we ran, of the catalog's server, of the
  floor's and of our process (a SQLite catalog's work is in it); `our µs/row` is the last one by row, the start of the program
  included. `anon MiB` is the highest anonymous memory of our process in any repetition.
- `spread` is the lowest and the highest ratio of a single pair of runs. `others` is how many cores something else kept busy during
  the worst of the runs: above some 0.2 the figures of that line are blurred.
- `verdict` is of the goals that name the case (that of memory names each). Goals of ratios are for `narrow`, `wide` and `jsonb`; tables
  of 10 M rows are judged by CPU without the start ("Against the size of the table").
- A copy with as many connections as the machine has cores is a matter of CPU alone: the floor keeps all cores busy, so no more than
  (server CPU floor + floor CPU) / (server CPU + our CPU) of its rows/s can be reached by whoever encodes, compresses and indexes the rows.
- `insert-narrow-one` is one transaction, which the server sends while it runs: rows are spooled, and applied ahead of its commit.
"""

SIZES = """`start s` is a run for a single change: the program opens the lake and proves the table's key index, which a flow does once. `changes/s`
and `our µs a change` (CPU of our process) are what is left without it; the goals speak of them. `index bytes a row` is the size of the key
index on disk; `bytes read a change` is what our process read from files, cached or not, the SQLite catalog included.
"""

DLT = """The same table over TCP on one connection into a DuckLake on a SQLite catalog, both from the start of the program to its end, its imports
included. Both write snappy, DuckLake's own default (ours would be zstd), and neither follows the changes afterwards (`snapshot: only`).
CPU seconds are of the client and all its children, not of the server. {versions}, backend `connectorx`, else dlt's defaults.
"""


def _plots(run, folder):
    """Writes rows/s against the size of the table, one plot for each kind. Returns the lines that show them."""
    for kind, title in (("keys", "Random updates"), ("unsent", "Updates beside an unsent 10 kB value")):
        mine = [r for r in run["results"] if r["op"] == "update" and r["table"].startswith(kind) and r["ours"] and not r["failure"]]
        if len(mine) < 2:
            continue
        mine.sort(key=lambda r: r["table_rows"])
        points = [(r["table_rows"], goals.figures(r)) for r in mine]
        names = {"DuctStream": "change_rate", "with its start": "rate", "floor": "floor_rate"}
        series = {name: [(n, f[key]) for n, f in points if f[key]] for name, key in names.items()}
        plot.sizes(folder / "images" / f"{kind}.svg", title, series)
        yield f"![{title}: rows/s against rows of the table](images/{kind}.svg)"


def _table(head, rows):
    yield "| " + " | ".join(head) + " |"
    yield "|---|" + "--:|" * (len(head) - 1)
    yield from ("| " + " | ".join(cells) + " |" for cells in rows)


def write(run, folder):
    """Writes FOLDER/benchmarks.md and FOLDER/images."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    plots = list(_plots(run, folder))
    extra = {"Against the size of the table": [SIZES, *plots, ""], "Beside dlt": [DLT.format(versions=peer.versions())]}
    lines = [EXPLANATION, "## The run", "", *(f"- {line}" for line in report.fact_lines(run["facts"]))]
    lines += ["", "## The goals", "", *(f"- {line}" for line in goals.lines(run) + report.failures(run))]
    for title, head, rows in report.tables(run):
        if rows:
            lines += ["", f"## {title}", "", *extra.get(title, []), *_table(head, rows)]
    lines += ["", PROFILE.read_text().rstrip()]
    (folder / "benchmarks.md").write_text("\n".join(lines) + "\n")
