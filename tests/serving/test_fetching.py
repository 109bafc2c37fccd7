"""Images by URL: which addresses are public, what a server may do on the way, and who asks."""

import asyncio
import http.server
import socket
import threading
import time

import pytest
from http_client import post, refusal

from serving.fetching import Fetcher, is_public, public_address
from serving.limits import Limits, RequestError


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "0.0.0.0"),
        *("100.64.0.1", "224.0.0.1", "255.255.255.255", "240.0.0.1", "::", "::1", "fe80::1"),
        *("fe80::1%lo", "fc00::1", "fd12::1", "fec0::1", "ff02::1", "::ffff:127.0.0.1"),
        *(
            "192.0.0.192",
            "192.88.99.1",
            "168.63.129.16",
            "::ffff:192.0.0.192",
            "3fff::1",
            "5f00::1",
        ),
        *("::ffff:169.254.169.254", "64:ff9b::7f00:1", "2002:7f00:1::", "2002:a00:1::", "::7f00:1"),
    ],
)
def test_an_address_of_somebody_s_own_is_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "93.184.215.14", "2606:4700::1111"])
def test_an_address_of_anybody_s_is_public(address):
    assert is_public(address)


def test_one_address_that_is_not_public_is_enough(monkeypatch):
    def resolved(*addresses):
        infos = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, 80)) for a in addresses]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: infos)
        return public_address("host.test", 80)

    assert resolved("1.1.1.1", "1.0.0.1") == ("1.1.1.1", 80)
    for addresses in (["127.0.0.1"], ["1.1.1.1", "10.0.0.1"], []):
        with pytest.raises(RequestError, match="not a public host"):
            resolved(*addresses)


class Answers(http.server.BaseHTTPRequestHandler):
    """Answers as a path says."""

    def do_GET(self):
        self.server.asked.append((self.headers["host"], self.path))
        kind, _, rest = self.path[1:].partition("/")
        if kind == "to":
            self.send_response(302)
            self.send_header("location", rest)
            self.end_headers()
            return
        self.send_response(404 if kind == "none" else 200)
        if kind == "short":
            self.send_header("content-length", "9")
        self.end_headers()
        if kind == "trickle":
            with self.server.ending:
                self.server.ending.wait(10)
        self.wfile.write(b"image")

    def log_message(self, *_):
        pass


@pytest.fixture
def server():
    """A server, and the resolution that leads host.test there and asks the system of others."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.asked, server.ending = [], threading.Condition()
    thread = threading.Thread(target=server.serve_forever, args=[0.02])
    thread.start()

    def resolve(host, port):
        ours = (host, port) == ("host.test", 80)
        return server.server_address if ours else public_address(host, port)

    server.resolve = resolve
    yield server
    with server.ending:
        server.ending.notify_all()
    server.shutdown()
    thread.join()
    server.server_close()


def fetched(server, *urls, files=(), **bounds):
    limits = Limits(**{"urls": 2, "fetch_seconds": 20.0, "image_bytes": 5} | bounds)
    return asyncio.run(Fetcher(limits, server.resolve).images(urls, files))


def test_images_are_fetched_by_their_own_names(server):
    urls = ["http://host.test/a/fox.png?x=1", "http://HOST.test:80/to//b.png"]
    assert fetched(server, *urls) == [("fox.png", b"image"), ("b.png", b"image")]
    assert server.asked[0] == ("host.test", "/a/fox.png?x=1")


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("http://127.0.0.1/", "not a public host"),
        ("http://[::1]/", "not a public host"),
        ("http://localhost/", "not a public host"),
        ("http://2130706433/", "not a public host"),
        ("http://host.test/to/http://127.0.0.1/x", "not a public host"),
        ("http://host.test/to/http://[::ffff:127.0.0.1]/", "not a public host"),
        ("http://host.test/to/file:///etc/passwd", "only http and https"),
        ("http://host.test/to/http://host.test:22/", "only http and https"),
        ("http://host.test/to/" + "to/" * 9, "leads on more than 5 times"),
        ("http://host.test/none", "answered 404"),
        ("http://host.test/short", "less than it said"),
        ("http://host.test:99999/", "only http and https"),
        ("http://user@host.test/", "no plain host"),
        ("http://host.test/\u00e9", "letters that a URL has to quote"),
        ("http://host.test/ x", "spaces"),
        ("http://host.test/\r\nx: y", "cannot be fetched"),
        ("file:///etc/passwd", "only http and https"),
        ("ftp://host.test/", "only http and https"),
        ("", "only http and https"),
    ],
    ids=range(19),
)
def test_what_cannot_be_fetched_is_refused(server, url, sentence):
    with pytest.raises(RequestError, match=sentence):
        fetched(server, url)
    assert all(host.lower().startswith("host.test") for host, _ in server.asked)


def test_bytes_time_and_number_are_bounded(server):
    url = "http://host.test/x"
    with pytest.raises(RequestError, match="more than 4 bytes"):
        fetched(server, url, image_bytes=4)
    with pytest.raises(RequestError, match="more than 2 bytes"):
        fetched(server, url, url, upload_bytes=7)
    with pytest.raises(RequestError, match="at most 2"):
        fetched(server, url, url, url)
    file = ("a.png", bytes(4))
    assert len(fetched(server, url, files=[file], images=2, upload_bytes=9)) == 1
    for sentence, bounds in (("at most 2", {"images": 2}), ("than 4 bytes", {"upload_bytes": 12})):
        with pytest.raises(RequestError, match=sentence):
            fetched(server, url, files=[file, file], **bounds)
    started = time.monotonic()
    with pytest.raises(RequestError, match=r"slow|longer"):
        fetched(server, "http://host.test/trickle", fetch_seconds=0.3)
    assert time.monotonic() - started < 9  # its server would wait for 10 s


def test_a_server_fetches_nothing_unless_it_is_told_to(serve, pictures):
    urls = '["http://127.0.0.1/x.png"]'
    assert "fetches no images" in refusal(post(serve(), pictures, urls=urls), 422)
    assert "not a public host" in refusal(post(serve(urls=2), pictures, urls=urls), 422)
    assert "urls" in refusal(post(serve(urls=2), pictures, urls="[1]"), 422)
