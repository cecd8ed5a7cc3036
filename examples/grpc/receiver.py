#!/usr/bin/env python3
"""A receiver of the destination `grpc` in Python: it keeps what comes in a SQLite file, exactly once.

    pip install grpcio grpcio-tools
    python -m grpc_tools.protoc -I proto --python_out=gen --grpc_python_out=gen proto/ductstream/v1/types.proto proto/ductstream/v1/ingest.proto
    PYTHONPATH=gen examples/grpc/receiver.py shop.db localhost:9090

docs/grpc.md says what a receiver has to do.
"""

import sqlite3
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from ductstream.v1 import ingest_pb2, ingest_pb2_grpc, types_pb2

TABLES = """
CREATE TABLE IF NOT EXISTS positions (flow TEXT, destination TEXT, epoch INT, batch INT, parts INT, checkpoint BLOB,
    PRIMARY KEY (flow, destination));
CREATE TABLE IF NOT EXISTS payloads (flow TEXT, destination TEXT, batch INT, part INT, wire_format INT, payload BLOB,
    PRIMARY KEY (flow, destination, batch, part));
"""


class Receiver(ingest_pb2_grpc.IngestServiceServicer):
    def __init__(self, path):
        self.lock = threading.Lock()
        self.db = sqlite3.connect(path, check_same_thread=False)
        self.db.executescript(TABLES)

    def where(self, request):
        """(epoch, last batch that is whole, parts of the next one, checkpoint)"""
        key = (request.flow_id, request.destination)
        self.db.execute("INSERT OR IGNORE INTO positions VALUES (?, ?, 0, 0, 0, NULL)", key)
        return self.db.execute("SELECT epoch, batch, parts, checkpoint FROM positions WHERE flow = ? AND destination = ?", key).fetchone()

    def move(self, request, **columns):
        names = ", ".join(f"{name} = ?" for name in columns)
        key = (request.flow_id, request.destination)
        self.db.execute(f"UPDATE positions SET {names} WHERE flow = ? AND destination = ?", (*columns.values(), *key))

    def GetIngestPosition(self, request, context):
        with self.lock, self.db:
            epoch, _, _, checkpoint = self.where(request)
            if request.take_over:
                if request.epoch not in (0, epoch):
                    context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"another sender has taken over (epoch {epoch})")
                epoch += request.epoch == 0
                self.move(request, epoch=epoch, parts=0)
            return ingest_pb2.GetIngestPositionResponse(epoch=epoch, checkpoint=checkpoint and types_pb2.Checkpoint.FromString(checkpoint))

    def is_late(self, request, batch, part, last, done, parts, checkpoint):
        """What is here under its number is something else: this call or that one was given up by the sender."""
        if batch == done:
            return last and types_pb2.Checkpoint.FromString(checkpoint).lsn != request.checkpoint.lsn
        row = (request.flow_id, request.destination, batch, part)
        found = self.db.execute("SELECT payload FROM payloads WHERE flow = ? AND destination = ? AND batch = ? AND part = ?", row).fetchone()
        return batch == done + 1 and 1 < part <= parts and (last or (found[0] if found else b"") != request.payload)

    def IngestBatch(self, request, context):
        about = request.checkpoint.metadata
        batch, part = int(about["batch"]), int(about.get("part", 1))
        last = "part" not in about or "parts" in about
        with self.lock, self.db:  # one transaction: rows and position
            epoch, done, parts, checkpoint = self.where(request)
            if int(about.get("epoch", 0)) != epoch:
                return ingest_pb2.IngestBatchResponse(message=f"another sender has taken over (epoch {epoch})")
            if self.is_late(request, batch, part, last, done, parts, checkpoint):
                self.move(request, parts=0)
                return ingest_pb2.IngestBatchResponse(again=True, message="a call that was given up came late")
            if batch <= done or (batch == done + 1 and 1 < part <= parts):
                return ingest_pb2.IngestBatchResponse(accepted=True, message="it was here already")
            if batch != done + 1 or part not in (1, parts + 1):
                return ingest_pb2.IngestBatchResponse(again=True, message=f"batch {done + 1} part {parts + 1} is next")
            if part == 1:  # what is there of a batch that was given up
                self.db.execute(
                    "DELETE FROM payloads WHERE flow = ? AND destination = ? AND batch = ?", (request.flow_id, request.destination, batch)
                )
            if request.payload:
                row = (request.flow_id, request.destination, batch, part, request.wire_format, request.payload)
                self.db.execute("INSERT INTO payloads VALUES (?, ?, ?, ?, ?, ?)", row)
            if last:
                self.move(request, batch=batch, parts=0, checkpoint=request.checkpoint.SerializeToString())
            else:
                self.move(request, parts=part)
        return ingest_pb2.IngestBatchResponse(accepted=True)


def main():
    path, address = sys.argv[1:]
    server = grpc.server(ThreadPoolExecutor(4))
    ingest_pb2_grpc.add_IngestServiceServicer_to_server(Receiver(path), server)
    print(f"receives on port {server.add_insecure_port(address)}", flush=True)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
