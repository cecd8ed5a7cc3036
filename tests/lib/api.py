"""The API server under test, and gRPC clients that know its services by reflection."""

import json
import os
import queue
import signal
import subprocess
import threading
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from . import child
from .paths import CACHE, ROOT, driver_program, program
from .ports import free_port  # noqa: F401
from .wait import wait_until

ROLES = ("nobody", "viewer", "operator", "admin")
TOKENS = {role: f"token-of-the-{role}-0123456789" for role in ROLES[1:]}


def api_driver():
    """The server with methods made up for tests: tests/system/api_driver.c."""
    return driver_program("api_driver")


class Server:
    """One server process; settings are environment variables without their DUCTSTREAM_, MORE_ENV has whole names."""

    def __init__(self, home, binary=None, more_env=None, **settings):
        own = {"GRPC_LISTEN": "127.0.0.1:0", "HTTP_LISTEN": "off", "LOG_FORMAT": "json", "GRPC_REFLECTION": "true"}
        env = {k: v for k, v in os.environ.items() if not k.startswith("DUCTSTREAM_") or k == "DUCTSTREAM_CACHE"}
        env |= {"HOME": str(home), "DUCTSTREAM_STATE_PATH": str(home / "state.db")}
        env |= {f"DUCTSTREAM_{name}": str(value) for name, value in (own | settings).items()} | (more_env or {})
        self.process = child.popen([binary or program()], env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self):
        for line in self.process.stderr:
            try:
                self.lines.append(json.loads(line))
            except ValueError:
                self.lines.append({"event": "", "text": line.rstrip()})

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def running(self):
        return self.process.poll() is None

    def kill(self):
        if self.running:
            self.process.kill()
        self.process.wait(timeout=30)
        self._reader.join(timeout=10)
        self.process.stderr.close()

    def events(self, name):
        return [line for line in list(self.lines) if line.get("event") == name]

    @property
    def text(self):
        return "\n".join(map(json.dumps, list(self.lines)))

    def ready(self, timeout_s=30):
        wait_until(lambda: self.events("ready") or self.process.poll() is not None, timeout_s, "the server to be ready")
        assert self.process.poll() is None, self.text
        return self

    def addresses(self, protocol="grpc"):
        lines = [line for line in list(self.lines) if line.get("protocol") == protocol]
        assert lines, self.text
        return lines[0]["address"].split()

    @property
    def address(self):
        return self.addresses()[0]

    @property
    def port(self):
        return int(self.address.rpartition(":")[2])

    def stop(self, number=signal.SIGTERM, timeout_s=20):
        """Asks it to stop and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(timeout=timeout_s)

    def ended(self, timeout_s=30):
        """Waits for its own end: (exit code, everything it said)."""
        code = self.process.wait(timeout=timeout_s)
        self._reader.join(timeout=10)
        return code, self.text


def tokens_file(folder, hashed=False):
    """A token per role."""
    path = Path(folder) / "tokens"
    path.write_text("".join(f"{role} {role} {token}\n" for role, token in TOKENS.items()))
    path.chmod(0o600)
    return path


class Client:
    """Calls methods by name, with messages as dictionaries; the descriptors come from the server."""

    def __init__(self, address, token=None, credentials=None, options=(), compression=None):
        if credentials is None:
            self.channel = grpc.insecure_channel(address, options=options, compression=compression)
        else:
            self.channel = grpc.secure_channel(address, credentials, options=options)
        self.metadata = [("authorization", f"Bearer {token}")] if token else []
        self._pool = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    @property
    def pool(self):
        if self._pool is None:
            self._pool = local_pool()
        return self._pool

    def method(self, full):
        """"ductstream.v1.FlowService/GetFlow" -> (kind of call, request class)"""
        service, _, name = full.partition("/")
        method = self.pool.FindServiceByName(service).methods_by_name[name]
        request = message_factory.GetMessageClass(method.input_type)
        response = message_factory.GetMessageClass(method.output_type)
        kind = ("stream" if method.client_streaming else "unary") + "_" + ("stream" if method.server_streaming else "unary")
        make = getattr(self.channel, kind)
        return make(f"/{full}", request_serializer=request.SerializeToString, response_deserializer=response.FromString), request

    def call(self, full, timeout=20, **fields):
        callable_, request = self.method(full)
        return callable_(request(**fields), timeout=timeout, metadata=self.metadata)

    def raw(self, full, data, timeout=20):
        """A call with these bytes as its message; gives bytes."""
        same = lambda b: b  # noqa: E731
        return self.channel.unary_unary(f"/{full}", request_serializer=same, response_deserializer=same)(
            data, timeout=timeout, metadata=self.metadata
        )

    def code(self, full, **fields):
        """The status code of a call, and its message."""
        try:
            answer = self.call(full, **fields)
            if hasattr(answer, "code"):
                list(answer)
        except grpc.RpcError as error:
            return error.code(), error.details()
        return grpc.StatusCode.OK, ""


_local = None


def local_pool():
    """The descriptors of proto/."""
    global _local
    if _local is None:
        files = sorted(str(path.relative_to(ROOT / "proto")) for path in (ROOT / "proto").rglob("*.proto"))
        done = subprocess.run(
            ["protoc", f"-I{ROOT / 'proto'}", "--include_imports", "--descriptor_set_out=/dev/stdout", *files],
            check=True,
            capture_output=True,
        )
        _local = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(done.stdout).file:
            _local.Add(file)
    return _local


def reflected_methods(client):
    """Every method of every service that the server lists: {"package.Service/Method": (client streams, server streams)}."""
    database = ProtoReflectionDescriptorDatabase(_WithToken(client.channel, client.metadata))
    pool = descriptor_pool.DescriptorPool(database)
    found = {}
    for service in database.get_services():
        if service.startswith("grpc.reflection."):
            continue
        for method in pool.FindServiceByName(service).methods:
            found[f"{service}/{method.name}"] = (method.client_streaming, method.server_streaming)
    return found


class _WithToken:
    """A channel whose streams carry metadata: the reflection client takes none."""

    def __init__(self, channel, metadata):
        self._channel, self._metadata = channel, metadata

    def stream_stream(self, *args, **options):
        call = self._channel.stream_stream(*args, **options)
        return lambda requests, **more: call(requests, metadata=self._metadata)

    def __getattr__(self, name):
        return getattr(self._channel, name)


def grpcurl():
    """The program, or None where tools/setup --servers could not get it."""
    path = CACHE / "bin" / "grpcurl"
    return path if path.exists() else None


class Watch:
    """What a server stream has given so far, read by a thread."""

    def __init__(self, call):
        self.call, self.items, self.error, self._done = call, [], None, queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        try:
            for item in self.call:
                self.items.append(item)
        except grpc.RpcError as error:
            self.error = error
        self._done.put(None)

    def ended(self, timeout_s=20):
        self._done.get(timeout=timeout_s)
        return self.error
