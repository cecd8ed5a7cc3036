"""HTTP clients for the API server: one that is polite, and raw bytes."""

import http.client
import json
import socket
import ssl


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """(HTTP status, status of the error)"""
        return self.status, self.json["status"]

    def __repr__(self):
        return f"{self.status} {self.body[:500]!r}"


class Http:
    """One connection that is kept; `address` is HOST:PORT."""

    def __init__(self, address, token=None, tls=None, timeout=20):
        host, _, port = address.rpartition(":")
        self.address, self.token = address, token
        kind, more = (http.client.HTTPSConnection, {"context": tls}) if tls else (http.client.HTTPConnection, {})
        self.connection = kind(host.strip("[]"), int(port), timeout=timeout, **more)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def ask(self, verb, path, body=None, headers=None, token=None):
        own = {"Content-Type": "application/json"} if body is not None else {}
        if token or self.token:
            own["Authorization"] = f"Bearer {token or self.token}"
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        self.connection.request(verb, path, body=body, headers=own | (headers or {}))
        answer = self.connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())

    def get(self, path, **more):
        return self.ask("GET", path, **more)

    def post(self, path, body=None, **more):
        return self.ask("POST", path, body, **more)


def raw(address, data, timeout=20, tls=None):
    """Sends the bytes and gives everything that comes until the server closes."""
    with connect(address, timeout, tls) as s:
        try:
            s.sendall(data)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it closed before it had read everything
        return read_all(s)


def connect(address, timeout=20, tls: ssl.SSLContext | None = None):
    host, _, port = address.rpartition(":")
    s = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)
    return tls.wrap_socket(s, server_hostname="localhost") if tls else s


def read_all(s):
    got = b""
    while True:
        try:
            piece = s.recv(65536)
        except ConnectionResetError:
            return got
        if not piece:
            return got
        got += piece


def samples(text):
    """Lines of Prometheus' text format: {(name, labels as text): value}, and the names of HELP lines."""
    found, names = {}, set()
    for line in text.splitlines():
        if line.startswith("# HELP "):
            names.add(line.split(" ")[2])
        elif line and not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name] = float(value)
    return found, names
