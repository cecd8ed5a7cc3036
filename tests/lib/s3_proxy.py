"""A reverse proxy for one HTTP server that counts requests and bytes, and breaks what a test says.

    with S3Proxy(port_of_the_server) as proxy:
        proxy.fault = lambda r: Answer(503) if r.method == "PUT" and r.number < 3 else None
        ...
        proxy.count("GET", key="a/"), proxy.bytes_up, proxy.requests[-1].status
"""

import socket
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit

PIECE = 65536


@dataclass
class Answer:
    """Instead of the server's: it is not asked."""

    status: int
    body: bytes = b""
    headers: dict = field(default_factory=dict)


@dataclass
class Cut:
    """The connection ends after so many bytes of the request's body have gone up, or of the answer's have come down (0: not even its head)."""

    after_up: int | None = None
    after_down: int | None = None


@dataclass
class Wait:
    """Nothing happens until the event is set; then the server is asked, also when the client has gone. When the proxy closes, it is not asked."""

    event: threading.Event


@dataclass
class Request:
    number: int  # from 1
    method: str
    target: str  # as it was sent
    headers: dict  # names in lower case
    up: int = 0  # bytes of the bodies
    down: int = 0
    status: int = 0  # 0: no answer yet

    @property
    def query(self):
        return {name: values[0] for name, values in parse_qs(urlsplit(self.target).query, keep_blank_values=True).items()}

    @property
    def bucket(self):
        return unquote(self.target.split("?")[0]).lstrip("/").partition("/")[0]

    @property
    def key(self):
        return unquote(self.target.split("?")[0]).lstrip("/").partition("/")[2]


class _Gone(Exception):
    pass


class _Stream:
    """A socket that is read in lines and lengths."""

    def __init__(self, sock):
        self.sock, self.left = sock, b""

    def _more(self):
        piece = self.sock.recv(PIECE)
        if not piece:
            raise _Gone
        self.left += piece

    def head(self):
        """(first line, headers, the bytes) up to the empty line."""
        while b"\r\n\r\n" not in self.left:
            self._more()
        raw, _, self.left = self.left.partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return first, headers, raw + b"\r\n\r\n"

    def exactly(self, n):
        """n bytes, piece by piece."""
        while n:
            if not self.left:
                self._more()
            piece, self.left = self.left[:n], self.left[n:]
            n -= len(piece)
            yield piece

    def line(self):
        while b"\r\n" not in self.left:
            self._more()
        line, _, self.left = self.left.partition(b"\r\n")
        return line + b"\r\n"

    def chunks(self):
        """A chunked body as it is: (bytes of the stream, how many of them are the body's)."""
        while True:
            line = self.line()
            yield line, 0
            size = int(line.split(b";")[0], 16)
            for piece in self.exactly(size):
                yield piece, len(piece)
            yield self.line(), 0
            if size == 0:
                return

    def to_the_end(self):
        try:
            while True:
                if not self.left:
                    self._more()
                piece, self.left = self.left, b""
                yield piece, len(piece)
        except _Gone:
            return


class S3Proxy:
    """`fault(request)`: asked at each request's head; gives None, an Answer, a Cut or a Wait."""

    def __init__(self, port):
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.address = f"127.0.0.1:{self.port}"
        self.endpoint = f"http://{self.address}"
        self.requests, self.fault = [], lambda request: None
        self.most_at_once = 0  # requests under way side by side
        self._at_once = 0
        self._closed = False
        self._lock = threading.Lock()
        self._sockets, self._waits = set(), []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._closed = True  # what waits is not passed on any more
        for event in self._waits:
            event.set()
        self.cut()

    def cut(self):
        """Ends every open connection."""
        with self._lock:
            open_now, self._sockets = self._sockets, set()
        for sock in open_now:
            _end(sock)

    def admit(self, request, raw):
        """The head as the server gets it, or an Answer; for proxies that change it."""
        return raw

    # --- counts ---

    def reset(self):
        self.requests = []

    def of(self, method=None, key="", query=None):
        """Requests with that method, whose key has KEY in it, with that parameter."""
        return [r for r in list(self.requests)
                if method in (None, r.method) and key in r.key and (query is None or query in r.query)]  # fmt: skip

    def count(self, method=None, key="", query=None):
        return len(self.of(method, key, query))

    @property
    def bytes_up(self):
        return sum(r.up for r in list(self.requests))

    @property
    def bytes_down(self):
        return sum(r.down for r in list(self.requests))

    # --- one connection ---

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        server = None
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._keep(client)
            above, below = _Stream(client), None
            while True:
                request, raw = self._request(above)
                found = self.fault(request)
                if isinstance(found, Wait):
                    self._waits.append(found.event)
                    found.event.wait()
                    found = None
                    if self._closed:
                        return
                if not isinstance(found, Answer):
                    raw = self.admit(request, raw)
                    found = raw if isinstance(raw, Answer) else found
                if isinstance(found, Answer):
                    self._answer(client, above, request, found)
                    continue
                if server is None:
                    server = socket.create_connection(("127.0.0.1", self._target))
                    server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    self._keep(server)
                    below = _Stream(server)
                with self._lock:
                    self._at_once += 1
                    self.most_at_once = max(self.most_at_once, self._at_once)
                try:
                    if not self._pass(above, below, request, raw, found or Cut()):
                        return
                finally:
                    with self._lock:
                        self._at_once -= 1
        except (OSError, _Gone):
            pass
        finally:
            for sock in (client, server):
                if sock is not None:
                    _end(sock)
                    with self._lock:
                        self._sockets.discard(sock)

    def _keep(self, sock):
        with self._lock:
            self._sockets.add(sock)

    def _request(self, above):
        first, headers, raw = above.head()
        method, target, _ = first.split(" ", 2)
        with self._lock:
            request = Request(len(self.requests) + 1, method, target, headers)
            self.requests.append(request)
        return request, raw

    @staticmethod
    def _answer(client, above, request, answer):
        if "100-continue" not in request.headers.get("expect", ""):
            for piece in above.exactly(int(request.headers.get("content-length", 0))):
                request.up += len(piece)
        request.status = answer.status
        lines = {"Content-Length": len(answer.body), **answer.headers}
        head = f"HTTP/1.1 {answer.status} Told\r\n" + "".join(f"{k}: {v}\r\n" for k, v in lines.items()) + "\r\n"
        request.down = len(answer.body)
        client.sendall(head.encode() + (b"" if request.method == "HEAD" else answer.body))

    def _pass(self, above, below, request, raw, cut):
        """Whether the connection can serve another request."""
        below.sock.sendall(raw)
        if "100-continue" in request.headers.get("expect", ""):
            _, _, interim = below.head()
            above.sock.sendall(interim)
        chunked = "chunked" in request.headers.get("transfer-encoding", "")
        body = above.chunks() if chunked else ((p, len(p)) for p in above.exactly(int(request.headers.get("content-length", 0))))
        for piece, counted in body:
            if cut.after_up is not None and request.up + counted >= cut.after_up:
                below.sock.sendall(piece[: max(0, cut.after_up - request.up)])
                return False
            request.up += counted
            below.sock.sendall(piece)
        while True:
            first, headers, raw = below.head()
            status = int(first.split(" ")[1])
            if cut.after_down == 0:
                return False
            if status >= 200:
                request.status = status  # before the client can have it, and the test can look
            above.sock.sendall(raw)
            if status >= 200:
                break
        return self._pass_answer(above, below, request, headers, cut)

    @staticmethod
    def _pass_answer(above, below, request, headers, cut):
        if request.method == "HEAD" or request.status in (204, 304):
            body, lasts = iter(()), True
        elif "chunked" in headers.get("transfer-encoding", ""):
            body, lasts = below.chunks(), True
        elif "content-length" in headers:
            body, lasts = ((p, len(p)) for p in below.exactly(int(headers["content-length"]))), True
        else:
            body, lasts = below.to_the_end(), False
        for piece, counted in body:
            if cut.after_down is not None and request.down + counted >= cut.after_down:
                above.sock.sendall(piece[: max(0, cut.after_down - request.down)])
                return False
            request.down += counted
            above.sock.sendall(piece)
        return lasts and headers.get("connection", "").lower() != "close"


def _end(sock):
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass  # the other side was first
    sock.close()
