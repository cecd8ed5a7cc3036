"""A TCP proxy in front of a Postgres, which cuts connections when a test says so.

    with Proxy(server) as proxy:
        dsn = proxy.dsn("shop")
        proxy.cut()                          # every connection that is open now
    with CommitProxy(server) as proxy:
        proxy.plan("reply", 1, 4)            # from now on: the first and the fourth commit string lose their reply
"""

import socket
import struct
import threading
from dataclasses import dataclass, field

from .pg import SUPERUSER

CLIENT, SERVER = 0, 1


@dataclass
class Link:
    """One connection: the client's socket, the server's, and what of each stream is not a whole message yet."""

    client: socket.socket
    server: socket.socket
    started: bool = False  # the start-up packet, which has no type byte, is through
    buffers: list = field(default_factory=lambda: [b"", b""])
    cut_at_commit: bool = False
    unheard: bool = False  # what the server says from now on is for nobody

    def close(self):
        for side in (self.client, self.server):
            try:
                side.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the other thread was first

    def close_client(self):
        try:
            self.client.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class Proxy:
    """Listens on 127.0.0.1 and passes everything on to the server's unix socket."""

    def __init__(self, server):
        self._target = str(server.folder / ".s.PGSQL.5432")
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._links = []
        self.refused = False  # True: new connections are closed at once
        self.cuts = 0
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._close_all()

    def dsn(self, db):
        return f"host=127.0.0.1 port={self.port} dbname={db} user={SUPERUSER} sslmode=disable gssencmode=disable"

    @property
    def links(self):
        """How many connections are open."""
        return len(self._links)

    def cut(self):
        """Cuts every open connection; returns their number."""
        closed = self._close_all()
        self.cuts += closed
        return closed

    def _close_all(self):
        with self._lock:
            links, self._links = self._links, []
        for link in links:
            link.close()
        return len(links)

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.socket(socket.AF_UNIX)
            try:
                if self.refused:
                    raise ConnectionRefusedError
                server.connect(self._target)
            except OSError:
                client.close()
                server.close()
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = Link(client, server)
            with self._lock:
                self._links.append(link)
            for origin in (CLIENT, SERVER):
                threading.Thread(target=self._pump, args=(link, origin), daemon=True).start()

    def _pump(self, link, origin):
        source, sink = (link.client, link.server) if origin == CLIENT else (link.server, link.client)
        try:
            while data := source.recv(65536):
                data = self.passed(link, origin, data)
                if data is None:
                    break
                if data:
                    sink.sendall(data)
        except OSError:
            pass
        if not self.ended(link, origin):
            link.close()
            with self._lock:
                if link in self._links:
                    self._links.remove(link)

    def passed(self, link, origin, data):
        """What of DATA goes on; None cuts the connection."""
        return data

    def ended(self, link, origin):
        """Whether a stream's end is no reason to cut the other."""
        return False


class CommitProxy(Proxy):
    """Cuts at commit strings: query messages that move the checkpoint and end with COMMIT.

    reply    the commit is done, its reply does not come through
    unsent   nothing of it comes through
    half     half of the string comes through
    blind    all of it comes through, and the connection is gone before anybody knows
    late     we lose the connection at once, the server gets the string only half a second later
    """

    MODES = ("reply", "unsent", "half", "blind", "late")

    def __init__(self, server, table=b"ductstream_checkpoint"):
        super().__init__(server)
        self._table = table
        self._mode = None
        self._wanted = ()
        self.commits = 0
        self.timers = []

    def plan(self, mode, *numbers):
        """Cuts at these commits, counted from now on."""
        self._mode, self._wanted, self.commits, self.cuts = mode, frozenset(numbers), 0, 0

    def _messages(self, link, origin, data):
        """Whole messages that DATA completes, with their type (None for the start-up packet)."""
        buffer = link.buffers[origin] + data
        found = []
        while True:
            head = 0 if origin == CLIENT and not link.started else 1
            if len(buffer) < head + 4:
                break
            size = head + struct.unpack(">I", buffer[head : head + 4])[0]
            if len(buffer) < size:
                break
            found.append((buffer[:1] if head else None, buffer[:size]))
            link.started = link.started or origin == CLIENT
            buffer = buffer[size:]
        link.buffers[origin] = buffer
        return found

    def passed(self, link, origin, data):
        if origin == SERVER and link.unheard:
            return None
        out = b""
        for kind, message in self._messages(link, origin, data):
            if origin == CLIENT and kind == b"Q" and self._table in message and message.endswith(b"COMMIT\0"):
                self.commits += 1
                if self.commits in self._wanted:
                    self.cuts += 1
                    if not self._cut(link, message):
                        return None
            if origin == SERVER and link.cut_at_commit and kind == b"C" and message.endswith(b"COMMIT\0"):
                return None
            out += message
        return out

    def _cut(self, link, message):
        """Acts as the mode says; True when the message goes on."""
        if self._mode == "reply":
            link.cut_at_commit = True
            return True
        if self._mode == "half":
            link.server.sendall(message[: len(message) // 2])
        elif self._mode == "blind":
            link.unheard = True  # or its reply could be faster than the cut
            link.server.sendall(message)
        elif self._mode == "late":
            late = threading.Timer(0.5, self._send_late, (link, message))
            self.timers.append(late)
            late.start()
            link.close_client()
        return False

    def _send_late(self, link, message):
        try:
            link.server.sendall(message)
            while link.server.recv(65536):
                pass
        except OSError:
            pass  # the server ended it first, as it may
        link.close()

    def ended(self, link, origin):
        # In mode "late" the client's end leaves the server's side to the timer; what the server says is for nobody.
        return self._mode == "late" and any(timer.args[0] is link for timer in self.timers)
