#!/usr/bin/env python3
"""The descriptors of .proto files (a google.protobuf.FileDescriptorSet, imports first) as a C array."""

import argparse
import subprocess
import tempfile
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("files", nargs="+")
parser.add_argument("--root", required=True)
parser.add_argument("--protoc", required=True)
parser.add_argument("--output", required=True)
args = parser.parse_args()

with tempfile.TemporaryDirectory() as folder:
    out = Path(folder) / "set"
    subprocess.run(
        [
            args.protoc,
            f"-I{args.root}",
            "--include_imports",
            "--include_source_info",
            f"--descriptor_set_out={out}",
            *(Path(file).resolve() for file in args.files),
        ],
        check=True,
    )
    data = out.read_bytes()
rows = (", ".join(map(str, data[at : at + 24])) for at in range(0, len(data), 24))
Path(args.output).write_text(
    "/* Made by proto/embed.py. */\n#include <stdint.h>\n\nstatic const uint8_t descriptors[] = {\n" + ",\n".join(rows) + "};\n"
)
