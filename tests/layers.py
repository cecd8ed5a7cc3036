#!/usr/bin/env python3
"""Rules of the source tree that a compiler does not check; prints every breach and exits 1 when there is one.

    includes   point downward only, by the layer table below, and name their folder: "base/error.h"
    size       no source file reaches 800 lines
    readme     every folder of src/ has a README.md
    sleep      nothing in src/ sleeps: wait on a descriptor, a condition or a deadline
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SRC = ROOT / "src"

LAYERS = [
    ["base"],
    ["record", "options"],
    ["wire", "pg", "sqlite", "net", "otel", "parquet"],
    ["duck"],
    ["lake", "state", "stream"],
    ["source", "destination", "land"],
    ["flow"],
    ["copy", "export", "ingest", "model"],
    ["run", "govern", "platform"],
    ["worker"],
    ["cli"],
    ["api"],
    ["admin"],
    ["cmd"],
]
LAYER_OF = {folder: number for number, folders in enumerate(LAYERS) for folder in folders}

MAX_LINES = 800
SIZED = [("src", "*.[ch]"), ("tests", "*.[ch]"), ("tests", "*.py"), ("tools", "*"), ("bench", "*.py"), ("bench", "*.c")]

INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.MULTILINE)
SLEEP = re.compile(r"\b(sleep|usleep|nanosleep|clock_nanosleep)\s*\(")


def c_files():
    return sorted(path for path in SRC.rglob("*.[ch]") if path.is_file())


def line_of(text, position):
    return text.count("\n", 0, position) + 1


def include_breach(folder, target):
    """Why a file of src/FOLDER may not include TARGET, or None."""
    first = target.split("/")[0]
    if "/" not in target:
        return f'write the folder too: "{folder}/…/{target}"'
    if first not in LAYER_OF:
        return f"folder {first} has no place in the layer table (tests/layers.py)"
    if first != folder and LAYER_OF[first] >= LAYER_OF[folder]:
        return f"{folder} (layer {LAYER_OF[folder]}) must not know {first} (layer {LAYER_OF[first]})"
    return None


def check_includes():
    for path in c_files():
        folder = path.relative_to(SRC).parts[0]
        text = path.read_text()
        if folder not in LAYER_OF:
            yield f"{path.relative_to(ROOT)}: folder {folder} has no place in the layer table (tests/layers.py)"
            continue
        for match in INCLUDE.finditer(text):
            breach = include_breach(folder, match.group(1))
            if breach:
                yield f'{path.relative_to(ROOT)}:{line_of(text, match.start())}: "{match.group(1)}": {breach}'


def check_size():
    for folder, pattern in SIZED:
        for path in sorted((ROOT / folder).rglob(pattern)):
            if not path.is_file() or "__pycache__" in path.parts:
                continue
            lines = path.read_bytes().count(b"\n")
            if lines >= MAX_LINES:
                yield f"{path.relative_to(ROOT)}: {lines} lines, fewer than {MAX_LINES} are allowed"


def check_readme():
    for folder in sorted({path.relative_to(SRC).parts[0] for path in c_files()}):
        if not (SRC / folder / "README.md").is_file():
            yield f"src/{folder}/README.md is missing"


def check_sleep():
    for path in c_files():
        text = path.read_text()
        for match in SLEEP.finditer(text):
            yield f"{path.relative_to(ROOT)}:{line_of(text, match.start())}: {match.group(1)}()"


RULES = {"includes": check_includes, "size": check_size, "readme": check_readme, "sleep": check_sleep}


def breaches():
    """Rule name -> list of breaches, all rules present."""
    return {name: list(rule()) for name, rule in RULES.items()}


def main():
    found = [f"{name}: {line}" for name, lines in breaches().items() for line in lines]
    print("\n".join(found), end="\n" if found else "")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
