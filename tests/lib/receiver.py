"""A receiver of the destination `grpc` as a user writes it: a Python server that implements IngestService (docs/grpc.md), with faults."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from google.protobuf import message_factory

from .api import local_pool

SERVICE = "ductstream.v1.IngestService"


class Receiver:
    """Keeps batches of one flow in memory, exactly once.

    says_position  False: GetIngestPosition is not implemented
    refuse         a sentence: nothing is accepted
    max_parts      how many parts of a batch it takes in one call
    ends           (status code, text) of the next calls, which change nothing
    says_token     its "no such token" repeats what came
    cut            how many of the next answers to the end of a batch are lost
    after          the receiver whose memory it has
    """

    def __init__(self, says_position=True, token=None, credentials=None, port=0, options=(), after=None):
        self.says_position, self.token, self.refuse, self.cut = says_position, token, None, 0
        self.ends, self.says_token, self.max_parts = [], False, 0
        self.lock = threading.Lock()
        self.requests, self.batches, self.parts = [], [], []
        self.checkpoint, self.epoch = None, 0
        if after:  # before anybody can ask
            self.checkpoint, self.epoch, self.batches = after.checkpoint, after.epoch, after.batches
        self.metadata = {}
        service = local_pool().FindServiceByName(SERVICE)
        self.types = {m.name: [message_factory.GetMessageClass(t) for t in (m.input_type, m.output_type)] for m in service.methods}
        methods = {"IngestBatch": self.ingest} | ({"GetIngestPosition": self.position} if says_position else {})
        handlers = {
            name: grpc.unary_unary_rpc_method_handler(
                run, request_deserializer=self.types[name][0].FromString, response_serializer=lambda m: m.SerializeToString()
            )
            for name, run in methods.items()
        }
        self.server = grpc.server(ThreadPoolExecutor(4), options=[("grpc.so_reuseport", 0), *options])
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        address = f"127.0.0.1:{port}"
        self.port = self.server.add_secure_port(address, credentials) if credentials else self.server.add_insecure_port(address)
        self.server.start()

    @property
    def address(self):
        return f"localhost:{self.port}"

    def stop(self):
        self.server.stop(None).wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _look(self, context):
        self.metadata = dict(context.invocation_metadata())
        if self.token and self.metadata.get("authorization") != f"Bearer {self.token}":
            came = self.metadata.get("authorization") if self.says_token else ""
            context.abort(grpc.StatusCode.UNAUTHENTICATED, f"no such token {came}")
        if self.ends:
            context.abort(*self.ends.pop(0))

    def forget(self):
        """Nothing ever came."""
        with self.lock:
            self.requests, self.batches, self.parts, self.checkpoint, self.epoch = [], [], [], None, 0

    def position(self, request, context):
        self._look(context)
        answer = self.types["GetIngestPosition"][1]
        with self.lock:
            if request.take_over:
                if request.epoch not in (0, self.epoch):
                    context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"fenced: epoch {self.epoch}")
                self.epoch += request.epoch == 0
                self.parts = []
            return answer(epoch=self.epoch, checkpoint=self.checkpoint, max_parts=self.max_parts)

    def ingest(self, request, context):
        self._look(context)
        answer = self.types["IngestBatch"][1]
        with self.lock:
            self.requests.append(request)
            if self.refuse:
                return answer(accepted=False, message=self.refuse)
            for part in self._parts(request):
                ends = self._take(part, answer)
                if isinstance(ends, answer):
                    return ends
            if ends and self.cut:
                self.cut -= 1
                context.abort(grpc.StatusCode.UNAVAILABLE, "the answer is lost")
        return answer(accepted=True)

    def _parts(self, request):
        """The request's own, and those in `more` as if each had come alone."""
        assert len(request.more) < max(self.max_parts, 1), "more parts than it said that it takes"
        yield request
        for part in request.more:
            names = {"flow_id": request.flow_id, "destination": request.destination, "wire_format": request.wire_format}
            yield type(request)(**names, payload=part.payload, checkpoint=part.checkpoint)

    def _take(self, request, answer):
        """As docs/grpc.md says it; True: the batch is whole."""
        about = request.checkpoint.metadata
        batch, part, last = int(about["batch"]), int(about.get("part", "1")), "part" not in about or "parts" in about
        done = int(self.checkpoint.metadata["batch"]) if self.checkpoint else 0
        if self.says_position and int(about["epoch"]) != self.epoch:
            return answer(accepted=False, message="another sender has taken over")
        if batch <= done or (batch == done + 1 and 1 < part <= len(self.parts)):
            return last
        if part == 1:
            self.parts = []  # the batch begins anew
        if batch > done + 1 or part != len(self.parts) + 1:
            return answer(accepted=False, again=True, message=f"batch {done + 1} part {len(self.parts) + 1} is next")
        self.parts.append(request)
        if last:
            self.batches.append(self.parts)
            self.checkpoint, self.parts = request.checkpoint, []
        return last

    # --- what arrived ---

    def payloads(self):
        return [part for batch in self.batches for part in batch if part.payload]

    def records(self):
        """(table, operation, record) of all JSON payloads, in their order."""
        return [(r["Table"], r["Operation"], r) for part in self.payloads() for r in json.loads(part.payload)["Records"]]

    def rows(self, table):
        """What the table is when everything is applied: key -> row."""
        return replayed(self.records(), [table])[table]


def replayed(records, tables, key="id"):
    """What the tables are when the records are applied in their order: a doubled or lost one breaks it."""
    rows_of = {name: {} for name in tables}
    for number, (table, operation, record) in enumerate(records, 1):
        if table not in rows_of:
            continue
        rows, after, before = rows_of[table], record["After"], record["Before"]
        if operation == "ddl":
            rows.clear()
        elif operation == "delete":
            del rows[before[key]]
        elif operation in ("insert", "load"):
            assert after[key] not in rows, f"record {number} inserts {after} a second time"
            rows[after[key]] = after
        else:
            old = before[key] if before else after[key]
            rows[after[key]] = {**rows.pop(old), **after}
    return rows_of
