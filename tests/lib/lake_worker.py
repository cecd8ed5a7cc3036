"""The process behind OfficialLake: one DuckDB with the official extensions, requests on stdin, answers on stdout.

A request is a pickled SQL text; an answer is ("rows", column names, rows) or ("error", class name, message).
Started as: lake_worker.py EXTENSIONS_FOLDER, then pickled statements to run at the start.
"""

import os
import pickle
import sys

import duckdb


def connect(extensions):
    connection = duckdb.connect(
        config={
            "autoinstall_known_extensions": False,
            "autoload_known_extensions": False,
            "allow_unsigned_extensions": True,  # their files were compared when they were installed; a look at signatures reads all of them
            "memory_limit": "1GB",
            "threads": 1,  # half of what most statements of tests cost is what threads have to say to each other
        }
    )
    for name in ("sqlite_scanner", "postgres_scanner", "ducklake"):
        connection.execute(f"LOAD '{extensions}/{name}.duckdb_extension'")
    return connection


def answer(connection, statement):
    try:
        result = connection.execute(statement)
        if result.description is None:
            return ("rows", [], [])
        return ("rows", [column[0] for column in result.description], result.fetchall())
    except Exception as error:  # every failure is the caller's to judge
        return ("error", type(error).__name__, str(error).split("\n\nStack Trace")[0])


def main():
    # Answers go to a copy of stdout, so that nothing a library prints can get between them.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    connection = connect(sys.argv[1])
    while True:
        try:
            statement = pickle.load(sys.stdin.buffer)
        except EOFError:
            return
        pickle.dump(answer(connection, statement), answers)
        answers.flush()


if __name__ == "__main__":
    main()
