"""One official client among many: attaches a lake, says so, waits for a word, and adds rows, a commit each.

Started as: official_writer.py CATALOG EXTENSIONS FIRST_ID ROWS COMMITS OPTION=VALUE...
"""

import sys
import time

import duckdb


def passes(error):
    """What an official client says of a catalog that others are writing to, when its own tries are used up or do not cover it."""
    text = str(error).lower()
    return "locked" in text or "conflict" in text or "failed to commit" in text or "retry" in text


def main():
    catalog, extensions, first, rows, commits, *settings = sys.argv[1:]
    first, rows, commits = int(first), int(rows), int(commits)
    connection = duckdb.connect(config={"autoinstall_known_extensions": False, "threads": 1})
    for name in ("sqlite_scanner", "postgres_scanner", "ducklake"):
        connection.execute(f"LOAD '{extensions}/{name}.duckdb_extension'")
    for setting in settings:
        name, value = setting.split("=")
        connection.execute(f"SET {name} = {value}")
    print("loaded", flush=True)
    sys.stdin.readline()
    cpu = time.process_time()
    connection.execute(f"ATTACH 'ducklake:{catalog}' AS lake")
    failed = 0
    for n in range(commits):
        at = first + n * rows
        while True:
            try:
                connection.execute(
                    f"INSERT INTO lake.raw.t SELECT i, 'v' || i, 100 + i % 200, i * 0.5 FROM range({at}, {at + rows}) r(i)"
                )
                break
            except duckdb.Error as error:
                if not passes(error):
                    raise
                failed += 1
                time.sleep(0.05)
    print(failed, time.process_time() - cpu, flush=True)


if __name__ == "__main__":
    main()
