"""ClickHouse's HTTP interface in front of its engine (the package chdb has it in a library): what a client sees of a server.

    python clickhouse_front.py PORT FOLDER        # s3() without keys goes by AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY

POST /fail?code=241&times=2&part=INSERT makes the next statements with that text in them fail with that code.
"""

import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, urlsplit

import chdb

engine = chdb.connect(sys.argv[2])
lock = threading.Lock()
failures = []
statements = []


def planned_failure(sql):
    with lock:
        for failure in failures:
            if failure["part"] in sql and failure["times"] > 0:
                failure["times"] -= 1
                return f"Code: {failure['code']}. DB::Exception: as a test says. (TEST)"
    return None


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def reply(self, status, body, code=None):
        self.send_response(status)
        if code:
            self.send_header("X-ClickHouse-Exception-Code", code)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def refuse(self, text):
        code = re.match(r"Code: (\d+)", text[text.find("Code: ") :] if "Code: " in text else "Code: 1002")[1]
        self.reply(500 if code != "62" else 400, text.encode(), code)

    def do_GET(self):
        if self.path == "/statements":
            with lock:
                return self.reply(200, "\0".join(statements).encode())
        self.reply(200, b"Ok.\n")

    def do_POST(self):
        url = urlsplit(self.path)
        given = dict(parse_qsl(url.query))
        sql = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        if url.path == "/fail":
            with lock:
                failures.append({"code": given["code"], "times": int(given["times"]), "part": given["part"]})
            return self.reply(200, b"")
        with lock:
            statements.append(sql)
        failure = planned_failure(sql)
        if failure:
            return self.refuse(failure)
        connection = chdb.connect(sys.argv[2])
        try:
            answer = connection.query(sql, "TabSeparated").bytes() or b""
        except Exception as error:  # whatever the engine raises is an answer
            self.refuse(str(error))
        else:
            self.reply(200, answer)
        finally:
            connection.close()


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
