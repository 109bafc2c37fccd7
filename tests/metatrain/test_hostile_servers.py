"""Files by HTTP and from disk that claim more than they have, or never end."""

import gzip
import os
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path

import pytest

from metatrain.base.errors import UserError
from metatrain.storage import files, http_bodies, local_disk
from metatrain.storage.files import read_file
from metatrain.storage.ranges import read_range

BODY = bytes(range(256)) * 40
Serve = Callable[["Handler"], None]
KINDS: dict[str, Serve] = {}


class Handler(BaseHTTPRequestHandler):
    """Answers as the function of a path's name does."""

    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            KINDS[self.path.strip("/")](self)

    def begin(self, status: int = 200, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()


def kind(serve: Serve) -> Serve:
    KINDS[serve.__name__] = serve
    return serve


@kind
def whole(self: Handler) -> None:
    self.begin(Content_Length=len(BODY))
    self.wfile.write(BODY)


@kind
def untold(self: Handler) -> None:
    self.begin(Connection="close")
    self.wfile.write(BODY)


@kind
def endless(self: Handler) -> None:
    self.begin(Connection="close")
    for _ in count():
        self.wfile.write(BODY)


@kind
def huge(self: Handler) -> None:
    self.begin(Content_Length=2**60)
    for _ in count():
        self.wfile.write(BODY)


@kind
def short(self: Handler) -> None:
    self.begin(Content_Length=len(BODY) + 1)
    self.wfile.write(BODY)


@kind
def bomb(self: Handler) -> None:
    data = gzip.compress(bytes(10**7))
    self.begin(Content_Length=len(data), Content_Encoding="gzip")
    self.wfile.write(data)


@kind
def silent(self: Handler) -> None:
    self.begin(Content_Length=len(BODY))
    self.wfile.write(BODY[:10])
    time.sleep(3)


@kind
def elsewhere(self: Handler) -> None:
    self.begin(302, Location="file:///etc/passwd", Content_Length=0)


@kind
def keyed(self: Handler) -> None:
    data = f"{self.headers['X-Key']} {self.headers['Accept-Encoding']}".encode()
    self.begin(Content_Length=len(data))
    self.wfile.write(data)


@kind
def part(self: Handler) -> None:
    first, last = map(int, self.headers["Range"].removeprefix("bytes=").split("-"))
    data = BODY[first : last + 1]
    self.begin(206, Content_Length=len(data), Content_Range=f"bytes {first}-{last}/{len(BODY)}")
    self.wfile.write(data)


@kind
def larger_part(self: Handler) -> None:
    self.begin(206, Connection="close")
    self.wfile.write(BODY)


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listening:
        listening.daemon_threads = True
        threading.Thread(target=listening.serve_forever, args=(0.05,), daemon=True).start()
        yield f"http://127.0.0.1:{listening.server_port}"
        listening.shutdown()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "STALL_SECONDS", 0.5)
    monkeypatch.setattr(http_bodies, "_MOST_BYTES", 10**6)
    monkeypatch.setattr("metatrain.storage.retry.ATTEMPTS", 1)


@pytest.mark.parametrize("name", ["whole", "untold"])
def test_a_file_is_read(server, name):
    assert read_file(f"{server}/{name}") == BODY


def test_a_part_is_read(server):
    assert bytes(read_range(f"{server}/part", 100, 300)) == BODY[100:300]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("endless", "sends more than 1,000,000 bytes"),
        ("huge", "this machine has memory for"),
        ("short", "cannot reach|ends too early|damaged"),
        ("silent", "cannot reach"),
        ("elsewhere", "cannot reach"),
    ],
)
def test_a_body_without_end_or_of_another_length_is_refused(server, name, sentence):
    started = time.monotonic()
    with pytest.raises((UserError, files.GarbledError)) as caught:
        read_file(f"{server}/{name}")
    assert re.search(sentence, str(caught.value)) or isinstance(caught.value, files.GarbledError)
    assert time.monotonic() - started < 10


def test_the_headers_that_the_user_has_configured_are_sent(server, monkeypatch):
    monkeypatch.setitem(files.conf, "http", {"headers": {"X-Key": "theirs"}})
    assert read_file(f"{server}/keyed") == b"theirs identity"


def test_what_is_compressed_is_not_unpacked(server):
    assert len(read_file(f"{server}/bomb")) < 20_000


@pytest.mark.parametrize("name", ["whole", "larger_part"])
def test_more_than_the_part_that_is_asked_for_is_refused(server, name):
    with pytest.raises(UserError, match="sends"):
        files.read_bytes(*files.filesystem_of(f"{server}/{name}"), 100, 300)


def test_a_file_of_holes_is_refused_before_it_is_read(tmp_path):
    with (tmp_path / "shard").open("wb") as file:
        file.truncate(2**43)
    with pytest.raises(UserError, match="has 8,796,093,022,208 bytes, and this machine has"):
        read_file(f"{tmp_path}/shard")
    with pytest.raises(UserError, match="this machine has memory for"):
        read_range(f"{tmp_path}/shard", 5, 2**42)
    assert bytes(read_range(f"{tmp_path}/shard", 5, 10)) == bytes(5)


def test_a_pipe_that_takes_a_files_place_is_not_waited_for(tmp_path, monkeypatch):
    """Between a look at the file and its opening."""
    path = tmp_path / "file"
    path.write_bytes(b"whole")
    opened = os.open

    def swap(name: str | Path, *arguments: int) -> int:
        path.unlink()
        os.mkfifo(path)
        return opened(name, *arguments)

    monkeypatch.setattr(local_disk.os, "open", swap)
    with pytest.raises(UserError, match="is a pipe; give a file"):
        read_file(str(path))
