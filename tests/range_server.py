"""A small HTTP server that stands where a cloud's would, as far as reading a range goes."""

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

DATA = bytes(range(256)) * 8


class Get(NamedTuple):
    """A request for a range: its path, and its headers by their names in lower case."""

    path: str
    headers: dict[str, str]


class RangeServer(ThreadingHTTPServer):
    """A server of ranges of `DATA` at every path but those of its documents.

    Attributes:
        endpoint: its address.
        documents: what it answers as JSON, by path.
        gets: every request for a range so far.
    """

    def __init__(self, context: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        if context:
            self.socket = context.wrap_socket(self.socket, server_side=True)
        self.endpoint = f"{'https' if context else 'http'}://127.0.0.1:{self.server_port}"
        self.documents: dict[str, Any] = {}
        self.gets: list[Get] = []


@contextmanager
def range_server(context: ssl.SSLContext | None = None) -> Iterator[RangeServer]:
    """Run a server for as long as the context lasts, over TLS if given its `context`."""
    with RangeServer(context) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server
        server.shutdown()


class _Handler(BaseHTTPRequestHandler):
    server: RangeServer
    protocol_version = "HTTP/1.1"
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path in self.server.documents:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self._send(json.dumps(self.server.documents[self.path]).encode())
            return
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.gets.append(Get(self.path, headers))
        asked = headers["range"]
        first, last = map(int, asked.removeprefix("bytes=").split("-"))
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(DATA)}")
        self.send_header("ETag", '"data"')
        self.send_header("Last-Modified", "Mon, 30 Nov 2026 00:00:00 GMT")
        self._send(DATA[first : last + 1])

    do_GET = do_POST = _answer  # noqa: N815

    def _send(self, body: bytes) -> None:
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
