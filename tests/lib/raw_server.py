"""An HTTP server that answers with the bytes that a test gives it, right or wrong."""

import socket
import threading
import time


class Server:
    """Answers the n-th request with the n-th of ANSWERS, the last one for ever: bytes, or a function of the socket; keeps the heads and their times."""

    def __init__(self, *answers, tls=None):
        self.answers, self.heads, self.times, self.tls = list(answers), [], [], tls
        self.ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        try:
            with self.tls.wrap_socket(client, server_side=True) if self.tls else client as sock:
                head = b""
                while b"\r\n\r\n" not in head:
                    piece = sock.recv(65536)
                    if not piece:
                        return
                    head += piece
                self.times.append(time.monotonic())
                self.heads.append(head.decode())
                answer = self.answers[min(len(self.heads), len(self.answers)) - 1]
                if callable(answer):
                    answer(sock)
                else:
                    sock.sendall(answer)
        except OSError:
            pass

    def silent(self, sock):
        """An answer: nothing, until the test ends."""
        self.ended.wait()


def ok(text="fine", *headers):
    lines = [f"HTTP/1.1 200 OK\r\nContent-Length: {len(text)}", "Connection: close", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n" + text).encode()


def status(code, *headers, text=""):
    return ok(text, *headers).replace(b"200 OK", str(code).encode() + b" Told")
