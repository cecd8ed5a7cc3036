"""The log's form and level in all programs, and what docs/observability.md says of them (issue 5, point 11)."""

import json
import os
import re
import subprocess

import grpc
import pytest

from lib.api import Client, Server, free_port
from lib.paths import ROOT, program

COMMANDS = [
    ("ductstream", "run", "/nowhere/flow.yaml"),
    ("ductstream-worker", "-flow-id", "none"),
    ("ductstream-admin", "flow", "get", "-flow-id", "none", "--endpoint", "127.0.0.1:1", "--insecure", "--timeout", "1s"),
]


def run(command, home, **env):
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("DUCTSTREAM_", "OTEL_"))}
    settings = {f"DUCTSTREAM_{name}": value for name, value in env.items()}
    clean |= {"HOME": str(home), "DUCTSTREAM_STATE_PATH": str(home / "state.db"), **settings}
    done = subprocess.run([program(command[0]), *command[1:]], env=clean, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_json_lines(tmp_path, command):
    code, text = run(command, tmp_path, LOG_FORMAT="json")
    lines = [json.loads(line) for line in text.splitlines()]
    assert code > 0 and lines[-1]["level"] == "error" and lines[-1]["message"]
    assert "error: " in run(command, tmp_path)[1]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_values_that_are_none(tmp_path, command):
    assert run(command, tmp_path, LOG_LEVEL="loud")[0] == 2
    code, text = run(command, tmp_path, LOG_FORMAT="xml")
    assert code == 2 and 'environment, "DUCTSTREAM_LOG_FORMAT": "xml" is neither text nor json' in text


def test_level(tmp_path):
    with Server(tmp_path, LOG_LEVEL="debug", HTTP_LISTEN="off") as server:
        server.ready().process.terminate()
        code, text = server.ended()
        assert code == 0 and server.events("stopping"), text
    address = f"127.0.0.1:{free_port()}"
    with Server(tmp_path, LOG_LEVEL="warn", HTTP_LISTEN="off", GRPC_LISTEN=address) as server, Client(address) as client:
        grpc.channel_ready_future(client.channel).result(timeout=20)
        server.process.terminate()
        code, text = server.ended()
        assert code == 0 and "stopping" not in text


def test_the_page_names_every_variable():
    """And no other."""
    page = (ROOT / "docs" / "observability.md").read_text()
    source = "".join((ROOT / "src" / "otel" / name).read_text() for name in ("settings.c", "otel.c"))
    rows = "\n".join(line for line in page.splitlines() if line.startswith("| `"))
    whole = set(re.findall(r'env\("([A-Z_]+)"\)', source)) - {"OTEL_METRIC_EXPORT_INTERVAL"}
    parts = {f"OTEL_EXPORTER_OTLP_{part}" for part in re.findall(r'exporter_env\(signal, "([A-Z]+)"', source)}
    known = whole | parts | {"OTEL_TRACES_EXPORTER", "OTEL_METRICS_EXPORTER", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"}
    named = set(re.findall(r"`((?:OTEL|DUCTSTREAM|TRACE)[A-Z_]*)`", rows))
    assert named - {"OTEL_METRIC_EXPORT_INTERVAL"} == known


def test_the_page_names_every_attribute():
    page = (ROOT / "docs" / "observability.md").read_text()
    found = set()
    for path in (ROOT / "src").rglob("*.c"):
        found |= set(re.findall(r'duct_span_(?:text|number|lsn)\(span, "(?:ductstream\.)?([a-z_.]+)"', path.read_text()))
    assert len(found) > 15
    assert not {name for name in found if f"`{name}`" not in page}
