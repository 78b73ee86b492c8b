"""An S3 server on loopback that fails as it is told to: with status codes, or by closing the connection."""

import socket
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

EMPTY_LIST = (
    b'<?xml version="1.0"?><ListBucketResult><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>'
)


class FaultyStore(ThreadingHTTPServer):
    """Serves one content under every key."""

    daemon_threads = True

    def __init__(self, content: bytes):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = content
        self.faults: deque[int | str] = deque()
        """What becomes of the next requests for objects: a status code, `drop` at once, or `cut` half-way."""
        self.denies_lists = False
        self.num_requests = 0

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(200, b"", length=len(self.server.content))

    def do_GET(self) -> None:
        if "list-type=2" in self.path:
            self._answer(403, b"") if self.server.denies_lists else self._answer(200, EMPTY_LIST)
            return
        self.server.num_requests += 1
        fault = self.server.faults.popleft() if self.server.faults else None
        if isinstance(fault, int):
            self._answer(fault, b"<Error><Code>SlowDown</Code></Error>")
        elif fault == "drop":
            self._hang_up()
        else:
            self._serve(cut=fault == "cut")

    def _serve(self, *, cut: bool) -> None:
        content, wanted = self.server.content, self.headers.get("Range")
        start, end = 0, len(content)
        if wanted:
            first, last = wanted.removeprefix("bytes=").split("-")
            start, end = int(first), min(end, int(last) + 1)
        headers = {"Content-Range": f"bytes {start}-{end - 1}/{len(content)}"} if wanted else {}
        part = content[start:end]
        self._answer(206 if wanted else 200, part[: len(part) // 2] if cut else part, length=len(part), **headers)
        if cut:
            self._hang_up()

    def _answer(self, status: int, body: bytes, *, length: int | None = None, **headers: str) -> None:
        self.send_response(status)
        headers |= {"ETag": '"one"', "Last-Modified": "Wed, 21 Oct 2015 07:28:00 GMT"}
        for name, value in (headers | {"Content-Length": str(len(body) if length is None else length)}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def _hang_up(self) -> None:
        self.wfile.flush()
        self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True


@contextmanager
def faulty_store(content: bytes) -> Iterator[FaultyStore]:
    """Start one, and stop it at the end."""
    with FaultyStore(content) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
