"""A proxy between an S3 client and its server that makes faults of its choice."""

import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import NamedTuple
from urllib.parse import urlsplit

STATUSES = {
    "slow down": (503, "SlowDown"),
    "error": (500, "InternalError"),
    "forbidden": (403, "AccessDenied"),
    "expired": (400, "ExpiredToken"),
    "moved": (301, "PermanentRedirect"),
}
LASTING = ("forbidden", "expired", "moved")
BROKEN = ("reset", "stall", "truncated", "flipped")
FAULTS = (*STATUSES, *BROKEN)
# An upload cut off half way, and an answer that is lost after all was done.
UNHEARD = ("cut off", "unanswered")
WRITING = ("slow down", "error", *UNHEARD)
PASSING = tuple(fault for fault in FAULTS if fault not in LASTING)
STALL_SECONDS = 5.0
# Fewer than anybody's attempts: by chance alone, what one reader among many asks for would now and
# then meet a fault every time.
_IN_A_ROW = 3


class Asked(NamedTuple):
    """A request that came by, and the fault it met."""

    method: str
    path: str
    range: str | None
    fault: str | None


# By a request's place and the request, the fault that it is to meet.
Fault = Callable[[int, Asked], str | None]


class FaultProxy:
    """Passes on what it is asked, but for requests that `fault` names a fault for.

    Attributes:
        prone: which requests may meet one; ranged reads, if nothing else is said.
        fault: called with the place of each of those in their order, from 0 on, and the request.
        latency: seconds that every answer is held back.
        down: whether everything that is asked is refused.
        gate: nothing is answered until it is set.
        asked: every request so far.
    """

    def __init__(self, upstream: str) -> None:
        self._upstream = urlsplit(upstream).netloc
        self.fault: Fault = lambda place, asked: None
        self.prone: Callable[[Asked], bool] = lambda asked: asked.range is not None
        self.latency = 0.0
        self.down = False
        self.gate = threading.Event()
        self.gate.set()
        self.asked: list[Asked] = []
        self._lock = threading.Lock()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def reads(self) -> list[Asked]:
        """The ranged reads so far."""
        return [asked for asked in self.asked if asked.range]

    def note(self, method: str, path: str, byte_range: str | None) -> str | None:
        """Remember a request; the fault that it is to meet."""
        with self._lock:
            asked = Asked(method, path, byte_range, None)
            prone = self.prone(asked)
            fault = self.fault(sum(map(self.prone, self.asked)), asked) if prone else None
            fault = "slow down" if self.down else fault
            self.asked.append(asked._replace(fault=fault))
        return fault

    def connect(self) -> HTTPConnection:
        return HTTPConnection(self._upstream, timeout=30)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def every(period: int, faults: tuple[str, ...] = PASSING) -> Fault:
    """One request in `period` meets the next of `faults`, and none does many times in a row."""
    coming: Iterator[str] = cycle(faults)
    in_a_row: Counter[tuple[str, str, str | None]] = Counter()

    def fault(place: int, asked: Asked) -> str | None:
        same = asked[:3]
        if place % period or in_a_row[same] == _IN_A_ROW:
            del in_a_row[same]
            return None
        in_a_row[same] += 1
        return next(coming)

    return fault


def first(count: int, fault: str) -> Fault:
    """The first `count` requests meet `fault`."""
    return lambda place, asked: fault if place < count else None


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultProxy
    protocol_version = "HTTP/1.1"
    # Headers and body in two packets would otherwise wait for each other.
    wbufsize = -1
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def handle_expect_100(self) -> bool:
        """Uploads wait for this before they send their body."""
        going_on = super().handle_expect_100()
        self.wfile.flush()
        return going_on

    def _pass_on(self) -> None:
        path = self.path.partition("?")[0]  # less the signature of an address that was signed
        fault = self.proxy.note(self.command, path, self.headers.get("Range"))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length // 2 if fault == "cut off" else length)
        self.proxy.gate.wait(60)
        time.sleep(self.proxy.latency)
        if fault == "cut off":
            self._reset()
            return
        if fault in STATUSES:
            self._refuse(*STATUSES[fault])
            return
        connection = self.proxy.connect()
        try:
            connection.putrequest(self.command, self.path, True, True)
            for name, value in self.headers.items():
                if name.lower() != "expect":
                    connection.putheader(name, value)
            connection.endheaders(body)
            answer = connection.getresponse()
            if fault == "unanswered":
                self._reset()
            else:
                self._answer(answer, answer.read(), fault)
        finally:
            connection.close()

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = _pass_on  # noqa: N815

    def _refuse(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, answer: HTTPResponse, body: bytes, fault: str | None) -> None:
        if fault == "truncated":  # with a length that says so: no client notices
            body = body[: len(body) // 2]
        if fault == "flipped":
            body = bytes([body[0] ^ 1]) + body[1:]
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("content-length", "transfer-encoding", "connection"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(body))
        self.send_header("Content-Length", length or "0")
        self.end_headers()
        if fault in ("reset", "stall"):
            self._break_off(body, fault)
        else:
            self.wfile.write(body)

    def _break_off(self, body: bytes, fault: str) -> None:
        self.wfile.write(body[: len(body) // 2])
        self.wfile.flush()
        if fault == "stall":
            time.sleep(STALL_SECONDS)
        self._reset()

    def _reset(self) -> None:
        linger = struct.pack("ii", 1, 0)  # closing then sends a reset
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
