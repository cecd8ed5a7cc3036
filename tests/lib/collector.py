"""A stand-in for an OpenTelemetry collector: takes OTLP over HTTP and keeps it, by the official messages (opentelemetry-proto)."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

KINDS = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}
IDS = ("traceId", "spanId", "parentSpanId")


def _ids_as_bytes(value):
    """OTLP's JSON has ids in hex where protobuf's own mapping has base64."""
    if isinstance(value, list):
        return [_ids_as_bytes(item) for item in value]
    if not isinstance(value, dict):
        return value
    hexed = {key: base64.b64encode(bytes.fromhex(text)).decode() for key, text in value.items() if key in IDS}
    return {key: _ids_as_bytes(item) for key, item in value.items()} | hexed


def _plain(attributes):
    return {a.key: getattr(a.value, a.value.WhichOneof("value")) for a in attributes}


class Span:
    def __init__(self, resource, span):
        self.resource, self.name, self.kind = resource, span.name, span.kind
        self.trace, self.id, self.parent = span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()
        self.begin, self.end = span.start_time_unix_nano, span.end_time_unix_nano
        self.attributes, self.events = _plain(span.attributes), [event.name for event in span.events]
        self.failed, self.error = span.status.code == 2, span.status.message
        self.executable = resource["process.executable.name"]

    def __getitem__(self, key):
        return self.attributes["ductstream." + key]

    def __repr__(self):
        return f"{self.name} {self.trace[:6]}/{self.id[:6]}<{self.parent[:6]} {self.attributes}"


class Collector:
    """`status`: what it answers; `delay`: seconds before it does. Bodies that are not of the messages fail the test at its end."""

    def __init__(self, status=200, delay=0):
        self.status, self.delay = status, delay
        self.requests, self.wrong, self.raw = [], [], b""
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                ended = collector._ended.wait(collector.delay) if collector.delay else False
                status = collector.status  # a test may change it meanwhile: what is kept and what is answered are the same
                collector._take(self.path, dict(self.headers), body, status)
                if ended:
                    return
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        self._ended = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        assert not self.wrong, self.wrong[0]

    def _take(self, path, headers, body, status):
        self.raw += body
        try:
            kind = KINDS[path]
            if headers["Content-Type"] == "application/json":
                message = json_format.ParseDict(_ids_as_bytes(json.loads(body)), kind())
            else:
                assert headers["Content-Type"] == "application/x-protobuf"
                message = kind.FromString(body)
                assert not any(True for _ in _unknown(message)), "fields that the messages do not have"
        except Exception as error:  # noqa: BLE001: whatever it is, the test says so
            self.wrong.append(f"{path}: {error!r}: {body[:500]!r}")
            return
        self.requests.append((time.monotonic(), path, headers, message, status))

    def messages(self, path):
        return [message for _, at, _, message, status in list(self.requests) if at == path and status == 200]

    def spans(self, name=None, **attributes):
        found = []
        for message in self.messages("/v1/traces"):
            for resource in message.resource_spans:
                for scope in resource.scope_spans:
                    assert scope.scope.name == "ductstream"
                    found += [Span(_plain(resource.resource.attributes), span) for span in scope.spans]
        wanted = {"ductstream." + key: value for key, value in attributes.items()}
        return [s for s in found if name in (None, s.name) and wanted.items() <= s.attributes.items()]

    def metrics(self, executable=None):
        """The newest value of each: {name: metric}."""
        found = {}
        for message in self.messages("/v1/metrics"):
            for resource in message.resource_metrics:
                own = _plain(resource.resource.attributes)["process.executable.name"]
                for scope in resource.scope_metrics:
                    if executable in (None, own):
                        found |= {metric.name: metric for metric in scope.metrics}
        return found


def _unknown(message):
    """Re-encoded by who knows the messages, nothing is missing."""
    from google.protobuf.unknown_fields import UnknownFieldSet

    yield from UnknownFieldSet(message)
    for field, value in message.ListFields():
        if field.message_type:
            for item in value if field.is_repeated else [value]:
                yield from _unknown(item)
