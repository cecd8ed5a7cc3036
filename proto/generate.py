#!/usr/bin/env python3
"""C of one .proto file by protoc-c, with has_NAME beside each `optional NAME`.

Debian's protoc-c (1.4.1) refuses `optional` in proto3, while its run-time library knows such fields: protoc-c is given the file without
the word, and what it writes is changed to what 1.5 writes for it. Only scalars may be optional.
"""

import argparse
import re
import subprocess
import tempfile
from pathlib import Path

SCALARS = "bool|int32|int64|uint32|uint64|double"

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("file", help="below ROOT: ductstream/v1/flow.proto")
parser.add_argument("--root", type=Path, required=True)
parser.add_argument("--protoc-c", required=True)
parser.add_argument("--output", type=Path, required=True, help="folder; the C files have the path of the .proto file in it")
args = parser.parse_args()


def replaced(text, old, new):
    """TEXT with the one place of the pattern OLD replaced."""
    text, count = re.subn(old, new, text)
    if count != 1:
        raise SystemExit(f"{args.file}: protoc-c writes something else than expected: {count} times {old}")
    return text


def optional_fields(source):
    """[(message, [all its fields], {the optional ones})] of messages that have any."""
    found = []
    for message, body in re.findall(r"^message (\w+) \{$(.*?)^\}$", source, re.MULTILINE | re.DOTALL):
        fields = re.findall(r"^\s*(?:(?:optional|repeated) )?(?:map<\w+, \w+>|[\w.]+) (\w+) = \d+;", body, re.MULTILINE)
        optional = set(re.findall(rf"^\s*optional (?:{SCALARS}) (\w+) = \d+;", body, re.MULTILINE))
        if optional:
            found.append((message, fields, optional))
    return found


def add_to_header(header, package, message, fields, optional):
    c_name = package + "__" + message
    start = header.index(f"struct  {c_name}\n")
    end = header.index("#define ", start)
    struct = header[start:end]
    for name in optional:
        struct = replaced(struct, rf"(  \w+ {name};\n)", rf"  protobuf_c_boolean has_{name};\n\1")
    header = header[:start] + struct + header[end:]
    match = re.compile(r"__INIT \\\n .*\\\n +, (.*) \}\n").search(header, start)
    values = match.group(1).split(", ")
    if len(values) != len(fields):
        raise SystemExit(f"{args.file}: {message} has {len(fields)} fields and {len(values)} initial values")
    both = ("0, " + value if name in optional else value for name, value in zip(fields, values))
    return header[: match.start(1)] + ", ".join(both) + header[match.end(1) :]


def add_to_source(source, package, message, optional):
    c_name = package + "__" + message
    for name in optional:
        old = rf'("{name}",\n    \d+,\n    )PROTOBUF_C_LABEL_NONE(,\n    \w+,\n    )0(,   /\* quantifier_offset \*/\n    offsetof\({c_name}, {name}\))'
        source = replaced(source, old, rf"\1PROTOBUF_C_LABEL_OPTIONAL\2offsetof({c_name}, has_{name})\3")
    return source


text = (args.root / args.file).read_text()
with tempfile.TemporaryDirectory() as folder:
    plain = Path(folder) / args.file
    for path in args.root.rglob("*.proto"):
        copy = Path(folder) / path.relative_to(args.root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(re.sub(rf"^(\s*)optional ({SCALARS}) ", r"\1\2 ", path.read_text(), flags=re.MULTILINE))
    subprocess.run([args.protoc_c, f"--c_out={args.output}", f"-I{folder}", plain], check=True)

package = "__".join(word.capitalize() for word in re.search(r"^package ([\w.]+);", text, re.MULTILINE).group(1).split("."))
stem = args.output / args.file.removesuffix(".proto")
c_file, h_file = stem.with_suffix(".pb-c.c"), stem.with_suffix(".pb-c.h")
source, header = c_file.read_text(), h_file.read_text()
for message, fields, optional in optional_fields(text):
    header = add_to_header(header, package, message, fields, optional)
    source = add_to_source(source, package, message, optional)
c_file.write_text(source)
h_file.write_text(header)
