"""Connections of real clients, recorded and sent again with mistakes in them (issue 5, "Bad input gets": malformed frames). The server is
tests/system/api_driver.c under the sanitizers."""

import random
import socket
import threading

import grpc

from lib.api import Client, Server, api_driver

FLOWS = "ductstream.v1.FlowService"


class Recorder:
    """Passes one connection on and keeps what the client sent."""

    def __init__(self, port):
        self.sent = bytearray()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._target = port
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        client, _ = self._listener.accept()
        server = socket.create_connection(("127.0.0.1", self._target))
        threading.Thread(target=self._pass, args=(server, client, None), daemon=True).start()
        self._pass(client, server, self.sent)

    @staticmethod
    def _pass(source, target, keep):
        try:
            while data := source.recv(65536):
                if keep is not None:
                    keep += data
                target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            end.close()


def recorded(port):
    """The bytes of one connection with a quick call, one on a worker and a short stream."""
    recorder = Recorder(port)
    with Client(f"127.0.0.1:{recorder.port}") as client:
        assert client.call(f"{FLOWS}/GetFlow", flow_id="recorded").id == "recorded"
        client.call(f"{FLOWS}/CreateFlow", flow={"name": "x" * 300, "source": {"options": {"a": "b"}}})
        assert len(list(client.call("ductstream.v1.RunService/WatchRun", id="r", after_seq=2))) == 2
    return bytes(recorder.sent)


def frames(data):
    """Where the frames behind the preface begin."""
    at, found = 24, []
    while at + 9 <= len(data):
        found.append(at)
        at += 9 + int.from_bytes(data[at : at + 3], "big")
    return found


def mutated(data, random):
    """A few mistakes: in the heads of frames as often as anywhere else."""
    data = bytearray(data)
    heads = frames(data)
    for _ in range(random.randint(1, 4)):
        kind, at = random.randrange(6), random.randrange(len(data))
        if random.random() < 0.5:
            at = random.choice(heads) + random.randrange(9)
        if at >= len(data):
            continue
        if kind == 0:
            data[at] ^= 1 << random.randrange(8)
        elif kind == 1:
            data[at] = random.choice((0, 1, 127, 128, 255))
        elif kind == 2:
            del data[at : at + random.randint(1, 20)]
        elif kind == 3:
            data[at:at] = random.randbytes(random.randint(1, 20))
        elif kind == 4:  # a frame twice
            one = random.choice(heads)
            data[one:one] = data[one : one + 9 + int.from_bytes(data[one : one + 3], "big")]
        else:
            del data[at:]
        if len(data) < 64:
            break
    return bytes(data)


def send(port, data):
    """Until the server has closed the connection or has answered all there is to answer."""
    with socket.create_connection(("127.0.0.1", port), timeout=5) as raw:
        raw.settimeout(0.05)
        try:
            raw.sendall(data)
            raw.shutdown(socket.SHUT_WR)
            while raw.recv(65536):
                pass
        except OSError:
            pass


def test_recorded_connections_with_mistakes(tmp_path):
    with Server(tmp_path, api_driver()) as server:
        server.ready()
        data = recorded(server.port)
        assert len(frames(data)) > 6
        numbers = random.Random(20261121)
        with Client(server.address) as client:
            for i in range(400):
                send(server.port, mutated(data, numbers))
                assert server.process.poll() is None, server.text
                if i % 20 == 0:
                    assert client.code(f"{FLOWS}/GetFlow", flow_id="x")[0] == grpc.StatusCode.OK
        assert server.stop() == 0, server.text
