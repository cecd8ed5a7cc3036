"""src/net in a process of its own: tests/system/net_driver.c, an operation at a time."""

import hashlib
import json
import os
import subprocess

from . import child
from .paths import driver_program


def pattern(size):
    """What the driver writes for {"size": size}."""
    line = bytes((i * 7) % 251 for i in range(251))  # i * 7 % 251 repeats after 251
    rows = []
    for high in range((size >> 16) + 1):
        part = bytes((b + high) % 251 for b in line)
        begin = high << 16
        n = min(65536, size - begin)
        shift = begin % 251
        rows.append((part * (n // 251 + 2))[shift : shift + n])
    return b"".join(rows)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


class Refused(Exception):
    """kind is the error's class: "retry", "config", …"""

    def __init__(self, answer):
        super().__init__(answer["error"])
        self.kind, self.status, self.answer = answer["class"], answer["status"], answer


class Net(child.Child):
    what = "the net driver"

    def __init__(self, folder, env=None, **options):
        self.err_path = folder / f"net-{os.urandom(4).hex()}.err"
        with open(self.err_path, "wb") as err:
            self.process = child.popen(
                [driver_program("net_driver"), json.dumps(options)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=err,
                env={**{k: v for k, v in os.environ.items() if not k.startswith("AWS_")}, **(env or {})},
            )

    @classmethod
    def on(cls, folder, s3, endpoint=None, **more):
        """With the root user's keys of an S3Server; endpoint: of its proxy."""
        given = {"endpoint": endpoint or s3.endpoint, "access_key": s3.access_key, "secret_key": s3.secret_key}
        return cls(folder, **{**given, **more})

    def begin(self, op, **fields):
        self.process.stdin.write(json.dumps({"op": op, **fields}).encode() + b"\n")
        self.process.stdin.flush()

    def end(self):
        line = self.process.stdout.readline()
        assert line, self.describe()
        answer = json.loads(line)
        if not answer.get("ok"):
            raise Refused(answer)
        return answer

    def do(self, op, **fields):
        self.begin(op, **fields)
        return self.end()

    def close(self):
        """In order, so that the sanitizer sees leaks."""
        if self.running:
            self.process.stdin.close()
            assert self.wait(60) == 0, self.describe()
        self.process.stdout.close()
