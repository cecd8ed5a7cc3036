#!/usr/bin/env python3
"""Documents that a program of ours writes. ./check fails when a committed one differs; `make docs` writes them again."""

import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from lib.paths import ROOT, program  # noqa: E402

# Path in the project -> the command whose output it is. A word "ductstream" at the front is the program under test.
INGESTION = [f"ingest{section}" for section in ("", "-auth", "-paging", "-partition", "-incremental", "-retry", "-s3")]
GENERATED = {
    f"docs/reference/options/{name}.md": ["ductstream", "options", name, "--markdown"]
    for name in ("postgres", "ducklake", "duckdb", "pgstream", "grpc", "config", *INGESTION)
}
GENERATED["docs/reference/service.md"] = ["ductstream", "options", "service", "--markdown"]
GENERATED["docs/reference/roles.md"] = ["ductstream", "roles", "--markdown"]
GENERATED["docs/reference/openapi.json"] = ["ductstream", "openapi"]


def output(command):
    first = program() if command[0] == "ductstream" else command[0]
    return subprocess.run([first, *command[1:]], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def stale():
    """The documents that differ from what their command prints now."""
    found = []
    for path, command in GENERATED.items():
        file = ROOT / path
        if not file.exists() or file.read_text() != output(command):
            found.append(path)
    return found


def write():
    for path, command in GENERATED.items():
        file = ROOT / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(output(command))


if __name__ == "__main__":
    if "--write" in sys.argv[1:]:
        write()
    else:
        print("\n".join(f"{path} is out of date (make docs)" for path in stale()))
