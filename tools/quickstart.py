"""./quickstart: a shop in Postgres, changed all the time, mirrored into a DuckLake, and compared in the end."""

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "tests"), str(ROOT / "tools")]

import shop  # noqa: E402
from lib import child  # noqa: E402
from lib.compare import compare_content, fetch_lake, fetch_source, source_columns  # noqa: E402
from lib.flow import EXIT_CANCELLED, EXIT_DONE, Flow  # noqa: E402
from lib.lake import OfficialLake  # noqa: E402
from lib.paths import program  # noqa: E402
from lib.pg import Postgres  # noqa: E402

MARK = ".quickstart"  # in a folder that this program made and may empty
MINIMUM_TRANSACTIONS = 1000
STOP_S = 60
CATCH_UP_S = 300

QUESTION = """
SELECT p.category, count(DISTINCT o.id) AS orders, sum(i.quantity)::BIGINT AS pieces,
       sum(i.quantity * i.price)::DECIMAL(18,2) AS revenue
FROM shop.orders o JOIN shop.order_items i ON i.order_id = o.id JOIN shop.products p ON p.id = i.product_id
GROUP BY ALL ORDER BY revenue DESC
"""


class Failure(Exception):
    """Ends the quickstart with one sentence."""


def say(text):
    print(f"quickstart: {text}", flush=True)


def prepare_folder(folder):
    """An empty folder; what an earlier quickstart left in it is removed, anybody else's files are not."""
    if folder.exists() and any(folder.iterdir()) and not (folder / MARK).exists():
        raise Failure(f"{folder} is not empty and not from a quickstart: name another folder with --keep")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / MARK).touch()
    return folder


def start(flow, *arguments):
    """`ductstream run`, with its progress on our terminal."""
    command = [program(), "run", flow.path, *arguments]
    say("$ " + shlex.join(str(word) for word in command))
    return child.popen(command, cwd=flow.folder)


def finish(run, timeout_s):
    """The exit code of a run that is about to end."""
    try:
        return run.wait(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        run.kill()
        raise Failure(f"ductstream did not end within {timeout_s} s") from None


def stream(flow, workload, seconds):
    """Runs the flow while the workload works."""
    run = start(flow)
    workload.start()
    end = time.monotonic() + seconds
    try:
        while workload.is_alive():
            workload.join(timeout=0.1)
            if run.poll() is not None:
                raise Failure(f"ductstream ended early with exit code {run.returncode}")
            if time.monotonic() >= end:
                workload.stop()
    finally:
        workload.stop()
        if run.poll() is None:
            run.send_signal(signal.SIGTERM)
    if workload.error:
        raise Failure(f"the workload failed: {workload.error}")
    code = finish(run, STOP_S)
    if code not in (EXIT_DONE, EXIT_CANCELLED):
        raise Failure(f"ductstream ended with exit code {code} when asked to stop")


def catch_up(flow):
    run = start(flow, "--until-caught-up")
    code = finish(run, CATCH_UP_S)
    if code != EXIT_DONE:
        raise Failure(f"ductstream ended with exit code {code}")


def damage(content):
    """Changes one value, so that a test can see the comparison fail."""
    first = content.rows[0]
    content.rows[0] = (*first[:-1], "damaged")


def compare(database, lake, damaged):
    """Prints a line per table; True when all are identical."""
    all_identical = True
    for table in shop.TABLES:
        columns = source_columns(database, table)
        source = fetch_source(database, table, columns)
        if damaged and table == shop.TABLES[0]:
            damage(source)
        difference = compare_content(table, source, fetch_lake(lake, table, columns))
        verdict = "identical" if difference.identical else "different"
        print(f"  {table:<18} {len(source.rows):>7,} rows   {verdict}")
        if not difference.identical:
            print(difference.report())
            all_identical = False
    return all_identical


def print_table(lake, question):
    """The answer to QUESTION as a small table; numbers to the right."""
    answer = lake.dicts(question)
    titles = list(answer[0])
    cells = [[f"{value:,}" if not isinstance(value, str) else value for value in row.values()] for row in answer]
    widths = [max(map(len, column)) for column in zip(titles, *cells)]
    numeric = [not isinstance(value, str) for value in answer[0].values()]

    def line(texts):
        pairs = zip(texts, widths, numeric)
        return "  " + "  ".join(text.rjust(width) if right else text.ljust(width) for text, width, right in pairs)

    print(line(titles))
    print(line("─" * width for width in widths))
    for row in cells:
        print(line(row))


def main():
    parser = argparse.ArgumentParser(prog="./quickstart", description=__doc__)
    parser.add_argument("--seconds", type=float, default=20, help="how long the shop is changed (default 20)")
    parser.add_argument("--keep", metavar="DIR", default="quickstart-out", help="where the lake stays (quickstart-out)")
    parser.add_argument("--damage", action="store_true", help="change one value before comparing, to see it noticed")
    arguments = parser.parse_args()

    if not program().exists():
        raise Failure(f"{program()} is not there: run tools/setup")
    folder = prepare_folder(Path(arguments.keep).resolve())
    catalog = f"sqlite:{folder}/lake.sqlite"
    began = time.monotonic()

    with Postgres() as pg:
        database = pg.database("shop")
        database.sql(shop.SCHEMA)
        database.sql(shop.FIRST_ROWS)
        rows = sum(database.value(f"SELECT count(*) FROM {table}") for table in shop.TABLES)
        say(f"a private Postgres 15 with {rows:,} rows in {len(shop.TABLES)} tables")

        flow = Flow.to_ducklake(folder, "shop", database.dsn, catalog, folder / "data")
        workload = shop.Workload(database, MINIMUM_TRANSACTIONS)
        say(f"changing the shop for {arguments.seconds:g} s while DuctStream copies and follows it")
        stream(flow, workload, arguments.seconds)
        say(f"{workload.transactions:,} transactions committed; catching up")
        catch_up(flow)

        say("comparing every value in Postgres with the lake, read by the official DuckLake extension")
        with OfficialLake(catalog) as lake:
            identical = compare(database, lake, arguments.damage)
            say(f"revenue by category, from the lake ({len(lake.snapshots()):,} snapshots)")
            print_table(lake, QUESTION)

    say(f"done in {time.monotonic() - began:.0f} s; the lake and its flow.yaml are in {folder}. Open it in any DuckDB shell:")
    print(f"  INSTALL ducklake; INSTALL sqlite; ATTACH 'ducklake:{catalog}' AS lake; USE lake;")
    if not identical:
        raise Failure("source and lake are different")


if __name__ == "__main__":
    # An ended quickstart takes its Postgres and its child with it, also on SIGTERM.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        main()
    except Failure as failure:
        sys.exit(f"quickstart: {failure}")
    except KeyboardInterrupt:
        sys.exit(130)
