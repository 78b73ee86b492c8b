"""A tiny object store on loopback that can be given faults: throttling, refusals, dropped connections."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SLOW_DOWN = (503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>")
BY_A_PROXY = (403, b"<html>Forbidden</html>")
DENIED = (403, b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>")
DROPPED = "the connection ends without an answer"
CUT = "the connection ends in the middle of the answer"


class FaultyStore:
    """Objects by path, and what goes wrong.

    Attributes:
        objects: `/bucket/key` to bytes.
        faults: of the next requests, one each; without any, they are answered well.
        always: a fault of all further requests to these paths.
        methods: of the requests so far.
    """

    def __init__(self):
        self.objects: dict[str, bytes] = {}
        self.faults: list = []
        self.always: dict[str, object] = {}
        self.methods: list[str] = []


@contextmanager
def faulty_store() -> Iterator[FaultyStore]:
    """Start the store and tell the environment."""
    store = FaultyStore()

    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"store": store}))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    names = {"AWS_ACCESS_KEY_ID": "a-key", "AWS_SECRET_ACCESS_KEY": "a-secret", "AWS_REGION": "us-east-1"}
    names |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.server_port}"}
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield store
    finally:
        server.shutdown()
        server.server_close()
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


class _Handler(BaseHTTPRequestHandler):
    store: FaultyStore
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        """Nothing."""

    def answer(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.store.methods.append(self.command)
        fault = self.store.always.get(self.path) or (self.store.faults.pop(0) if self.store.faults else None)
        if fault == DROPPED:
            self._drop()
        elif isinstance(fault, tuple):
            self._send(*fault)
        elif self.command == "PUT":
            self.store.objects[self.path] = data
            self._send(200, b"", etag='"1"')
        elif self.path not in self.store.objects:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._send_object(self.store.objects[self.path], cut=fault == CUT)

    def _send_object(self, data: bytes, *, cut: bool) -> None:
        extra = {"etag": '"1"', "last-modified": "Mon, 01 Jan 2024 00:00:00 GMT"}
        status, part = 200, data
        if "range" in self.headers:
            first, _, last = self.headers["range"].removeprefix("bytes=").partition("-")
            status, part = 206, data[int(first) : int(last) + 1 if last else None]
            extra["content-range"] = f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}"
        self._send(status, part, cut=cut, **extra)

    def _send(self, status: int, body: bytes, *, cut: bool = False, **extra: str) -> None:
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **extra}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if cut else body)
        if cut:
            self._drop()

    def _drop(self) -> None:
        self.wfile.flush()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    do_GET = do_HEAD = do_PUT = do_DELETE = answer
