"""A REST server of a test's own: answers are a function of the request, and what came is kept."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit


class RestServer:
    """answer(request) -> (status, headers, body); a body that is no text goes as JSON. request: method, path, params, headers, body."""

    def __init__(self, answer):
        self.answer, self.requests = answer, []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_any(self):
                parts = urlsplit(self.path)
                self.params = dict(parse_qsl(parts.query, keep_blank_values=True))
                self.path_only = parts.path
                self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
                outer.requests.append(self)
                status, headers, body = outer.answer(self)
                data = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = handle_any

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self.thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def nightscout(entries):
    """Answers entries.json as Nightscout does: by find[dateString], newest first, at most `count`."""

    def answer(request):
        low, high = request.params["find[dateString][$gte]"], request.params["find[dateString][$lt]"]
        found = [entry for entry in entries if low <= entry["dateString"] < high]
        found.sort(key=lambda entry: -entry["date"])
        return 200, {"Content-Type": "application/json"}, found[: int(request.params["count"])]

    return answer
