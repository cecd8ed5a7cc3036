"""proto/ against a transcription of the original API, which was written without looking at it (issue 5, point 1)."""

import subprocess

import pytest
from google.protobuf import descriptor_pb2

from lib.paths import ROOT

PACKAGE = ".ductstream.v1."
F = descriptor_pb2.FieldDescriptorProto
SCALARS = {
    F.TYPE_STRING: "string",
    F.TYPE_BYTES: "bytes",
    F.TYPE_BOOL: "bool",
    F.TYPE_INT32: "int32",
    F.TYPE_INT64: "int64",
    F.TYPE_DOUBLE: "double",
}


class Api:
    """The compiled .proto files, by full name."""

    def __init__(self, folder):
        out = folder / "set"
        files = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto" / "ductstream").rglob("*.proto"))
        subprocess.run(["protoc", f"-I{ROOT / 'proto'}", "--include_imports", f"--descriptor_set_out={out}", *files], check=True)
        self.messages, self.enums, self.services = {}, {}, {}
        for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
            scope = f".{file.package}."
            self.enums.update({scope + e.name: e for e in file.enum_type})
            self.services.update({scope + s.name: s for s in file.service})
            for message in file.message_type:
                self._add(scope, message)

    def _add(self, scope, message):
        name = scope + message.name
        self.messages[name] = message
        for nested in message.nested_type:
            self._add(name + ".", nested)

    def method(self, service, name):
        return next(m for m in self.services[PACKAGE + service].method if m.name == name)

    def type_of(self, field):
        plain = SCALARS.get(field.type) or field.type_name.removeprefix(PACKAGE).removeprefix(".")
        entry = self.messages.get(field.type_name)
        if entry is not None and entry.options.map_entry:
            key, value = (self.type_of(part) for part in entry.field)
            return f"map<{key}, {value}>"
        if field.label == F.LABEL_REPEATED:
            return "repeated " + plain
        return ("optional " if field.proto3_optional else "") + plain

    def fields(self, message):
        return {f.number: (f.name, self.type_of(f)) for f in self.messages[message].field}


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    return Api(tmp_path_factory.mktemp("proto"))


def transcription():
    lines = (ROOT / "tests" / "data" / "era-a.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if not line.startswith("#")]
    return [dict(zip(rows[0], row)) for row in rows[1:]]


def _prefixed(enum, value):
    """FlowState CREATED -> FLOW_STATE_CREATED"""
    return "".join("_" + c if c.isupper() else c for c in enum).lstrip("_").upper() + "_" + value


def _found(api, row):
    """What the row's place in proto/ says, as (name, type)."""
    kind, where, number = row["kind"], row["where"], row["number"]
    if kind == "rpc":
        method = api.method(where, row["name"])
        output = method.output_type.removeprefix(PACKAGE)
        assert not method.client_streaming and not method.server_streaming
        return row["name"], output if row["type"] != "-" else "-"
    if kind == "enum":
        values = {v.number: v.name for v in api.enums[PACKAGE + where].value}
        return values[int(number)].removeprefix(_prefixed(where, "")), "-"
    if kind == "message":
        return api.fields(PACKAGE + where)[int(number)]
    method = api.method(*where.split("."))
    fields = api.fields(method.input_type if kind == "request" else method.output_type)
    return ("-", "-") if number == "-" and not fields else fields[int(number)]


def test_every_name_number_and_type_is_the_original_one(api):
    rows = transcription()
    assert len(rows) > 250
    wrong = []
    for row in rows:
        try:
            found = _found(api, row)
        except (KeyError, StopIteration):
            found = None
        if found != (row["name"], row["type"]):
            wrong.append(f"{row['kind']} {row['where']} {row['number']} {row['name']} {row['type']}: proto/ has {found}")
    assert not wrong, "\n".join(wrong)


# Numbers that later eras of the original gave to fields that we do not have.
TAKEN_LATER = {
    "FlowConfig": {9, 10},
    "ListReplicationSlotsRequest": {5},
    "GetReplicationSlotRequest": {5},
    "DropReplicationSlotRequest": {6},
    "ListPublicationTablesRequest": {5},
    "AddPublicationTablesRequest": {6},
    "DropPublicationTablesRequest": {6},
    "SyncPublicationTablesRequest": {7},
    "ScrapePublicationTablesRequest": {7},
}


def test_fields_that_we_added_have_numbers_of_their_own(api):
    """Above those of the original, and not those that it took later."""
    described = {}
    for row in transcription():
        if row["kind"] == "message":
            name = PACKAGE + row["where"]
        elif row["kind"] in ("request", "response"):
            method = api.method(*row["where"].split("."))
            name = method.input_type if row["kind"] == "request" else method.output_type
        else:
            continue
        described.setdefault(name, set()).update([int(row["number"])] if row["number"] != "-" else [])
    wrong = []
    for name, numbers in described.items():
        short = name.removeprefix(PACKAGE)
        for number, (field, _) in api.fields(name).items():
            taken = TAKEN_LATER.get(short, set())
            if number not in numbers and (number in taken or number <= max(numbers | {0})):
                wrong.append(f"{short}.{field} = {number}")
    assert not wrong
