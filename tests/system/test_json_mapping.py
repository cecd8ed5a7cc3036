"""Messages as JSON are what the official mapping makes of them, both ways (issue 5, point 1: the same surface as HTTP/JSON).

src/api/json.h through json_driver.c, against Python's protobuf: random messages with a field of every kind, and texts by hand.
"""

import json
import math
import os
import random
import subprocess
import sys

import pytest
from google.protobuf import json_format, message_factory
from lib import child, sanitizer
from lib.paths import ROOT, driver_program

PROTO_NAMES, DEFAULTS = 1, 2


class Driver:
    def __init__(self):
        self.process = child.popen(
            [driver_program("json_driver")], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **sanitizer.options(detect_leaks=1)}
        )

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        assert answer, f"the driver died at: {line[:2000]}"
        return answer[:-1]

    def write(self, message, flags=0):
        return self.ask(f"write {message.DESCRIPTOR.full_name} {flags} {message.SerializeToString().hex()}")

    def read(self, kind, text):
        answer = self.ask(f"read {kind.DESCRIPTOR.full_name} {text}")
        if answer.startswith("error "):
            raise ValueError(answer[6:])
        return kind.FromString(bytes.fromhex(answer))

    def close(self):
        self.process.stdin.close()
        assert self.process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def driver():
    d = Driver()
    yield d
    d.close()


@pytest.fixture(scope="module")
def pool(tmp_path_factory):
    """All messages, compiled anew by protoc."""
    from google.protobuf import descriptor_pb2, descriptor_pool

    out = tmp_path_factory.mktemp("protos") / "set"
    files = sorted((ROOT / "proto" / "ductstream" / "v1").glob("*.proto"))
    includes = [f"-I{ROOT / 'proto'}", f"-I{ROOT / 'tests' / 'data'}"]
    subprocess.run(
        [
            sys.executable, "-m", "grpc_tools.protoc", *includes, "--include_imports", f"--descriptor_set_out={out}",
            *(str(f) for f in files), str(ROOT / "tests" / "data" / "json_every.proto"),
        ],
        check=True,
    )  # fmt: skip
    made = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
        made.Add(file)
    return made


def kind_of(pool, name):
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


@pytest.fixture(scope="module")
def Every(pool):
    return kind_of(pool, "every.Every")


# ---- random messages

TEXTS = ["", "a", "Grüße", "日本語", "\U0001f600 x", 'quote " and \\', "tab\tand\nnewline", "\x01\x7f", "</script>", "\u2028", "é" * 50]


def random_scalar(rng, field):
    kind = field.type
    if kind == field.TYPE_STRING:
        return rng.choice(TEXTS)
    if kind == field.TYPE_BYTES:
        return rng.randbytes(rng.randrange(8))
    if kind == field.TYPE_BOOL:
        return rng.random() < 0.5
    if kind == field.TYPE_ENUM:
        return rng.choice([v.number for v in field.enum_type.values] + [77])
    if kind in (field.TYPE_FLOAT, field.TYPE_DOUBLE):
        value = rng.choice([0.1, -1.5, 1e10, 3.0, 1 / 3, 123456.789, 5e-7, math.inf, -math.inf, math.nan, rng.gauss(0, 1e20), 2.0**53 + 2])
        return value
    bits = 32 if kind in (field.TYPE_INT32, field.TYPE_UINT32, field.TYPE_SINT32, field.TYPE_FIXED32, field.TYPE_SFIXED32) else 64
    unsigned = kind in (field.TYPE_UINT32, field.TYPE_UINT64, field.TYPE_FIXED32, field.TYPE_FIXED64)
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return rng.choice([0, 1, low, high, rng.randint(low, high)])


def fill_timestamp(rng, to):
    to.seconds = rng.choice([0, 1735689600, -62135596800, 253402300799, -1, rng.randint(-62135596800, 253402300799)])
    to.nanos = rng.choice([0, 500000000, 123456000, 1, 999999999])


def fill(rng, to, depth=0):
    for field in to.DESCRIPTOR.fields:
        if rng.random() < (0.5 if depth == 0 else 0.85):
            continue
        if field.message_type and field.message_type.GetOptions().map_entry:
            fill_map(rng, to, field, depth)
        elif field.is_repeated:
            for _ in range(rng.randrange(3)):
                if field.message_type:
                    fill_message(rng, getattr(to, field.name).add(), depth)
                else:
                    getattr(to, field.name).append(random_scalar(rng, field))
        elif field.message_type:
            if depth < 4:
                getattr(to, field.name).SetInParent()
                fill_message(rng, getattr(to, field.name), depth)
        else:
            setattr(to, field.name, random_scalar(rng, field))


def fill_message(rng, to, depth):
    if to.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        fill_timestamp(rng, to)
    else:
        fill(rng, to, depth + 1)


def fill_map(rng, to, field, depth):
    key_field, value_field = field.message_type.fields_by_number[1], field.message_type.fields_by_number[2]
    for _ in range(rng.randrange(3)):
        key = random_scalar(rng, key_field)
        if value_field.message_type:
            fill_message(rng, getattr(to, field.name)[key], depth)
        else:
            getattr(to, field.name)[key] = random_scalar(rng, value_field)


def same(a, b):
    """Equal JSON; NaN is spelled as text in it."""
    return json.loads(a) == json.loads(b)


@pytest.mark.parametrize("seed", range(8))
def test_random_messages_both_ways(driver, Every, seed):
    rng = random.Random(seed)
    for _ in range(150):
        message = Every()
        fill(rng, message)
        expected = json_format.MessageToJson(message, indent=None)
        ours = driver.write(message)
        assert same(ours, expected), message
        again = driver.read(Every, expected)
        assert same(json_format.MessageToJson(again), expected)
        # What we write is what the official reader reads.
        assert same(json_format.MessageToJson(json_format.Parse(ours, Every())), expected)


@pytest.mark.parametrize("seed", range(3))
def test_random_messages_with_proto_names_and_defaults(driver, Every, seed):
    rng = random.Random(1000 + seed)
    for _ in range(60):
        message = Every()
        fill(rng, message)
        names = json_format.MessageToJson(message, indent=None, preserving_proto_field_name=True)
        assert same(driver.write(message, PROTO_NAMES), names)
        assert same(json_format.MessageToJson(driver.read(Every, names), preserving_proto_field_name=True), names)
        defaults = json_format.MessageToJson(message, indent=None, always_print_fields_with_no_presence=True)
        assert same(driver.write(message, DEFAULTS), defaults)


# ---- texts by hand: what the official reader takes, we take with the same result; what it refuses, we refuse

TAKEN = [
    "{}",
    '{"anInt32": 1, "an_int64": "2", "aUint64": "18446744073709551615"}',
    '{"anInt64": 9007199254740993, "aSint64": -5}',
    '{"anInt32": 1e3, "aUint32": 4.0, "someInt32": [-0, 2.0]}',
    '{"anInt32": "-12", "aFixed64": "0"}',
    '{"aFloat": "NaN", "aDouble": "-Infinity", "someDouble": [1, 2.5, "Infinity", "1e3"]}',
    '{"someBytes": "AP8="}',
    '{"someBytes": "-_-_", "manyBytes": ["", "YQ", "YWI="]}',
    '{"aColour": "COLOUR_DARK_BLUE", "aPlain": 1, "someColour": [1, 99, "COLOUR_BELOW", -5]}',
    '{"at": "2025-01-02T03:04:05Z"}',
    '{"at": "2025-01-02T03:04:05.123456789+02:00", "someAt": ["1969-12-31T23:59:59.5Z", "0001-01-01T00:00:00Z"]}',
    '{"inner": null, "anInt32": null, "texts": null, "someInt32": null, "chosenBool": null}',
    '{"texts": {"a": "b", "": "x"}, "byNumber": {"-3": {"aBool": true}}, "byTruth": {"true": "1", "false": 2}}',
    '{"byLargeNumber": {"18446744073709551615": "COLOUR_RED"}, "timesByName": {"x": "2020-02-29T00:00:00Z"}}',
    '{"chosenInt64": "0"}',
    '{"chosenString": ""}',
    '{"chosenInner": {}}',
    '{"chosenBool": false}',
    '{"pairs": [{"key": "a", "value": "b"}]}',
    '{"fieldName1": 1, "field2Name": 2, "Leading": 3, "UpperCase": 4}',
    '{"field__name1": 1, "field_2_name": 2, "_leading": 3, "Upper_case": 4}',
    r'{"aString": "é 😀 \n\t\"\\"}',
]

REFUSED = [
    "",
    "1",
    "{",
    '{"anInt32": 1} x',
    '{"nosuch": 1}',
    '{"anInt32": 2147483648}',
    '{"anInt32": 1.5}',
    '{"anInt32": "x"}',
    '{"anInt32": " 1"}',
    '{"anInt32": true}',
    '{"aUint32": -1}',
    '{"aUint64": "18446744073709551616"}',
    '{"aFloat": 1e39}',
    '{"aBool": "true"}',
    '{"aBool": 1}',
    '{"aString": 1}',
    '{"aString": null, "aString": "x"}',
    '{"someBytes": "a"}',
    '{"someBytes": "a$=="}',
    '{"aColour": "NO_SUCH"}',
    '{"at": "2025-02-30T00:00:00Z"}',
    '{"at": "2025-01-01"}',
    '{"at": "2025-01-01T00:00:00"}',
    '{"at": "10000-01-01T00:00:00Z"}',
    '{"at": "2025-01-01T00:00:00.1234567890Z"}',
    '{"someInt32": 1}',
    '{"someInt32": [null]}',
    '{"texts": []}',
    '{"texts": {"a": null}}',
    '{"texts": {"a": 1}}',
    '{"byNumber": {"x": {}}}',
    '{"byTruth": {"1": 1}}',
    '{"chosenInt64": 1, "chosenString": "x"}',
    '{"anInt32": 1, "anInt32": 2}',
]

# The specification refuses these as well; Python's reader is laxer.
REFUSED_BY_US = ["[]", '{"aDouble": "1e400"}', '{"inner": []}', '{"anInt32": 1, "an_int32": 2}']


@pytest.mark.parametrize("text", TAKEN)
def test_texts_that_are_taken(driver, Every, text):
    assert driver.read(Every, text) == json_format.Parse(text, Every())


@pytest.mark.parametrize("text", REFUSED + REFUSED_BY_US)
def test_texts_that_are_refused(driver, Every, text):
    if text not in REFUSED_BY_US:
        with pytest.raises(json_format.ParseError):
            json_format.Parse(text, Every())
    with pytest.raises(ValueError):
        driver.read(Every, text)


def test_short_names_of_enums_as_flow_files_write_them(driver, pool):
    Flow = kind_of(pool, "ductstream.v1.Flow")
    text = (
        '{"id": "shop", "source": {"type": "postgres", "options": {"dsn": "host=x"}}, "destinations": [{"type": "ducklake"}], '
        '"wire_format": "arrow", "config": {"ack_policy": "all", "failure_mode": "hold_slot", "ddl": {"gate": false}}}'
    )
    flow = driver.read(Flow, text)
    assert flow.source.type == 1 and flow.destinations[0].type == 14 and flow.wire_format == 1
    assert flow.config.ack_policy == 1 and flow.config.failure_mode == 1
    assert flow.config.ddl.HasField("gate") and not flow.config.ddl.HasField("auto_apply")
    assert dict(flow.source.options) == {"dsn": "host=x"}
    assert same(driver.write(flow), json_format.MessageToJson(flow))


@pytest.mark.parametrize("text", ['{"flowId":"a"}', '{"flowId":"a","dropSlot":false}', '{"dropSlot":true,"dropPublication":false}'])
def test_fields_that_know_whether_they_were_set(driver, pool, text):
    Cleanup = kind_of(pool, "ductstream.v1.CleanupFlowRequest")
    message = driver.read(Cleanup, text)
    assert message == json_format.Parse(text, Cleanup())
    assert driver.write(message) == text


def test_every_finding_is_named_with_its_path_and_no_value(driver, pool):
    Create = kind_of(pool, "ductstream.v1.CreateFlowRequest")
    text = (
        '{"flow": {"source": {"type": "hunter2", "options": {"dsn": 7}}, "destinations": [{}, {"optoins": {"password": "hunter2"}}], '
        '"parallelism": "hunter2"}, "start_imediately": true}'
    )
    with pytest.raises(ValueError) as caught:
        driver.read(Create, text)
    message = str(caught.value)
    for finding in (
        "flow.source.type: there is no such EndpointType; there are ",
        'flow.source.options["dsn"]: a string is wanted here, not a number',
        'flow.destinations[1].optoins: there is no such field, did you mean "options"?',
        "flow.parallelism: a whole number of 32 bits is wanted here",
        'start_imediately: there is no such field, did you mean "start_immediately"?',
    ):
        assert finding in message
    assert "hunter2" not in message


def test_maps_are_found_as_the_compiler_marks_them(driver, pool):
    """The rule of json.h gives exactly the fields that protoc marks with map_entry."""
    for name in ("every.Every", "ductstream.v1.Endpoint", "ductstream.v1.Run", "ductstream.v1.Checkpoint", "ductstream.v1.ListReplicationSlotsRequest"):
        d = pool.FindMessageTypeByName(name)
        marked = {f.name for f in d.fields if f.message_type and f.message_type.GetOptions().map_entry}
        assert set(driver.ask(f"maps {name}").split()) == marked


@pytest.mark.parametrize(
    "text, finding",
    [
        ('{"inner":' * 101 + "{}" + "}" * 101, "more than 100 objects and lists inside each other"),
        ('{"someInner":[' + "{}," * 250000 + "{}]}", "more than 250000 values"),
        ('{"aString": "a\\u0000b"}', "aString: a string must not hold a NUL"),
    ],
)
def test_limits(driver, Every, text, finding):
    with pytest.raises(ValueError, match=finding):
        driver.read(Every, text)
