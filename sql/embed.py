#!/usr/bin/env python3
"""The migrations of sql/state as C, one text per engine.

NNN-name.sql is for both, NNN-name.sqlite.sql and NNN-name.postgres.sql for one of them. Where a word differs it is a token:

    @KEY@       text that identifies: compared by its bytes
    @BLOB@      bytes
    @IDENTITY@  a number that grows with each row, the primary key
"""

import argparse
import re
from pathlib import Path

TOKENS = {
    "sqlite": {"KEY": "TEXT", "BLOB": "BLOB", "IDENTITY": "INTEGER PRIMARY KEY AUTOINCREMENT"},
    "postgres": {"KEY": 'TEXT COLLATE "C"', "BLOB": "BYTEA", "IDENTITY": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY"},
}
NAME = re.compile(r"(\d{3})-([a-z_]+)(?:\.(sqlite|postgres))?\.sql")


def c_string(text):
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return "\n".join(f'\t"{line}\\n"' for line in escaped.splitlines())


def text_for(engine, path):
    """The text of a migration, None where the engine has none."""
    only = NAME.fullmatch(path.name).group(3)
    if only and only != engine:
        return None
    return re.sub(r"@([A-Z]+)@", lambda match: TOKENS[engine][match.group(1)], path.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--output", required=True, type=Path)
    args = parser.parse_args()
    rows, versions = [], set()
    for path in sorted(args.files, key=lambda file: file.name):
        match = NAME.fullmatch(path.name)
        if not match:
            parser.error(f"{path.name}: a migration is NNN-name.sql, NNN-name.sqlite.sql or NNN-name.postgres.sql")
        if match.group(1) in versions:
            parser.error(f"{path.name}: there is another migration {match.group(1)}")
        versions.add(match.group(1))
        texts = (text_for(engine, path) for engine in ("sqlite", "postgres"))
        sqlite, postgres = ("NULL" if text is None else "\n" + c_string(text) for text in texts)
        rows.append(f'{{{int(match.group(1))}, "{match.group(2)}", {sqlite}, {postgres}}},\n')
    args.output.write_text(
        "/* Made by sql/embed.py. */\n"
        "static const struct migration {\n\tint version;\n\tconst char *name, *sqlite, *postgres;\n} migrations[] = {\n"
        + "".join(rows)
        + "};\n"
    )


if __name__ == "__main__":
    main()
