"""A web server that misbehaves as it is told.

A behaviour answers one request for `body` from the byte `start` on.
"""

import contextlib
import hashlib
import re
import threading
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from crackclf.data.fetch import RemoteFile


def serve(handler, body, start, length=None, end=None):
    """Serves as it should, but for the length it announces and the byte where it ends."""
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    handler.send_header("Content-Length", str(len(body) - start if length is None else length))
    handler.end_headers()
    handler.wfile.write(body[start:end])


def cut(end):
    return lambda handler, body, start: serve(handler, body, start, end=max(start, end))


def announce(length, resume=False):
    return lambda handler, body, start: serve(handler, body, start * resume, length=length)


def answer(status, reason=None, **headers):
    def behave(handler, body, start):
        handler.send_response(status, reason)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.end_headers()

    return behave


def ignore_range(handler, body, start):
    serve(handler, body, 0)


def another_range(handler, body, start):
    if not start:
        return serve(handler, body, 0)
    handler.send_response(206)
    handler.send_header("Content-Range", f"bytes {start + 1}-{len(body) - 1}/{len(body)}")
    handler.end_headers()
    return handler.wfile.write(body[start + 1 :])


def refuse_range(handler, body, start):
    (answer(416) if start else serve)(handler, body, start)


def no_length(handler, body, start):
    handler.send_response(200)
    handler.end_headers()
    handler.wfile.write(body)


def endless(handler, body, start):
    no_length(handler, body, start)
    while True:  # Until the client hangs up.
        handler.wfile.write(bytes(1 << 16))


def chunked(handler, body, start):
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    for i in range(0, len(body), 5000):
        piece = body[i : i + 5000]
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")


def chunked_and_cut(handler, body, start):
    handler.protocol_version = "HTTP/1.1"
    handler.send_response(200)
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    handler.wfile.write(b"ffff\r\n" + body[:5000])


def hang_up(handler, body, start):
    """Closes the connection without a status line."""


def dribble(handler, body, start):
    handler.send_response(206 if start else 200)
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/*")
    handler.end_headers()
    for i in range(start, len(body), 3001):
        handler.wfile.write(body[i : i + 3001])


def wrong_bytes(handler, body, start):
    serve(handler, body[:-1] + bytes([body[-1] ^ 1]), start)


class Server:
    """A server on this machine; each request takes the next behaviour, the last one stays."""

    def __init__(self, body: bytes):
        self.body, self.requests = body, []
        self.behaviours = deque([serve])
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                asked = self.headers.get("Range")
                server.requests.append((self.path, asked, self.headers["User-Agent"]))
                behave = server.behaviours[0]
                if len(server.behaviours) > 1:
                    server.behaviours.popleft()
                start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
                with contextlib.suppress(OSError):  # The client has hung up.
                    behave(self, server.body, start)
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/metu.rar"
        self.file = RemoteFile(self.url, len(body), hashlib.sha256(body).hexdigest())
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()

    def does(self, *behaviours) -> None:
        self.behaviours = deque(behaviours)

    def asked(self) -> list[str | None]:
        return [asked for _, asked, _ in self.requests]
