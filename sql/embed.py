#!/usr/bin/env python3
"""SQL files as one C header: an array of {file name, text}, in the order given."""

import argparse
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("files", nargs="+", type=Path)
parser.add_argument("--name", required=True, help="of the array")
parser.add_argument("--output", required=True)
args = parser.parse_args()


def literal(line):
    escaped = line.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t")
    return f'\t "{escaped}\\n"\n'


with open(args.output, "w") as out:
    out.write(f"/* Made by sql/embed.py. */\nstatic const struct {{\n\tconst char *file, *text;\n}} {args.name}[] = {{\n")
    for file in args.files:
        out.write(f'\t{{"{file.name}",\n{"".join(map(literal, file.read_text().splitlines()))}\t}},\n')
    out.write("};\n")
