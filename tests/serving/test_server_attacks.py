"""Attacks on the server: image bombs, deletions from many sides, clients that trickle or stall."""

import asyncio
import io
import socket
import struct
import time
import urllib.request
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import pytest
from fuzzing import bounds, memory
from http_client import BEARER, TOKEN, adapted, post, refusal
from PIL import Image
from served import serving

from serving import connection
from serving.accounts import Account
from serving.api import Api
from serving.file_answers import MadeAnswer
from serving.guard import Guard
from serving.limits import Limits, Places, Quota, RequestError
from serving.worker import Worker


def png_bomb(side, bits):
    """A PNG of `side` x `side` zeros, a few kilobytes that unpack to gigabytes."""

    def chunk(kind, data):
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    packer, row = zlib.compressobj(9), bytes(1 + side * bits // 8)
    pixels = b"".join(packer.compress(row) for _ in range(200)) + packer.flush()
    colour = {1: 0, 24: 2}[bits]
    head = struct.pack(">IIBBBBB", side, side, 8 if bits == 24 else 1, colour, 0, 0, 0)
    chunks = chunk(b"IHDR", head) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def gif_bomb():
    buffer = io.BytesIO()
    Image.new("L", (1, 1)).save(buffer, "GIF")
    data = bytearray(buffer.getvalue())
    data[6:10] = struct.pack("<HH", 65535, 65535)
    return bytes(data)


BOMBS = {
    "grey.png": lambda: png_bomb(60_000, 1),
    "colour.png": lambda: png_bomb(50_000, 24),
    "canvas.gif": gif_bomb,
    "entities.svg": lambda: (
        b'<!DOCTYPE svg [<!ENTITY a "aaaaaaaaaa">'
        + b"".join(b'<!ENTITY %c "%s">' % (98 + i, b"&%c;" % (97 + i) * 10) for i in range(12))
        + b']><svg xmlns="http://www.w3.org/2000/svg"><text>&m;</text></svg>'
    ),
    "large.svg": lambda: b'<svg xmlns="http://www.w3.org/2000/svg" width="9e9" height="9e9"/>',
}


@pytest.mark.parametrize("name", [*BOMBS])
def test_an_image_bomb_is_a_sentence(serve, tmp_path, name):
    data = BOMBS[name]()
    assert len(data) < 4 << 20
    client = serve()
    with bounds():
        assert name in refusal(post(client, [(name, data)] * 3), 422)
    assert [*tmp_path.iterdir()] == []


def test_deletions_from_many_sides_leave_nothing(serve, pictures, tmp_path):
    client = serve(waiting=100, jobs=100, loaded=2)
    done = [adapted(client, pictures, steps="1") for _ in range(2)]
    for place in done:
        client.post(f"{place}/samples", json={"count": 3})
    adapting = [post(client, pictures, steps="1000").headers["location"] for _ in range(2)]
    places = done + adapting
    asked = [
        lambda place: client.post(f"{place}/samples", json={"count": 8, "seed": 5}),
        lambda place: client.delete(place),
        lambda place: client.get(f"{place}/samples/1.png"),
        lambda place: client.get(f"{place}/sheet.png"),
        lambda place: client.delete(place),
        lambda place: client.get(f"{place}/drawings.zip"),
        lambda place: client.patch(f"{place}/samples/1", json={"kept": True}),
        lambda place: client.get(f"{place}/adapted.safetensors"),
        lambda place: client.get(f"{place}/given/0.png"),
        lambda place: client.post(f"{place}/stop"),
        lambda place: client.delete(place),
    ]
    with ThreadPoolExecutor(16) as threads:
        futures = [threads.submit(ask, place) for ask in asked for place in places]
        answers = [future.result(60) for future in futures]
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) <= {200, 202, 204, 404, 409}
    assert statuses.count(204) == len(places)
    while client.get("/healthz").json()["jobs"]:
        time.sleep(0.02)
    assert [*tmp_path.iterdir()] == []
    assert client.get("/v1/adaptations").json() == []
    adapted(client, pictures, steps="1")  # the worker goes on


def test_a_file_deleted_before_it_is_sent_is_a_404(serve, pictures, tmp_path):
    """As it is for whoever asks between the deletion's first and last file."""
    client = serve()
    place = adapted(client, pictures, steps="1")
    client.post(f"{place}/samples", json={})
    for number in range(12):
        choice = {"number": number, "answer": "left", "seconds": 1}
        assert client.post(f"{place}/choices", json=choice).status_code == 201
    for file in (tmp_path / place.rpartition("/")[2]).rglob("*"):
        if file.is_file():
            file.unlink()
    for path in (
        "samples/0.png",
        "given/0.png",
        "sheet.png",
        "drawings.zip",
        "choices.zip",
        "adapted.safetensors",
    ):
        assert "meanwhile" in refusal(client.get(f"{place}/{path}"), 404)
    assert "meanwhile" in refusal(client.post(f"{place}/preferences"), 404)


def test_all_that_is_made_shares_its_places(serve, pictures):
    client = serve()
    place = adapted(client, pictures, steps="1")
    client.post(f"{place}/samples", json={})
    client.post(f"{place}/choices", json={"number": 0, "answer": "left", "seconds": 1})
    full = serve(downloads=0)
    for path in ("sheet.png", "drawings.zip", "choices.zip"):
        assert client.get(f"{place}/{path}").status_code == 200
        assert "downloads are open" in refusal(full.get(f"{place}/{path}"), 429)


def test_200_clients_that_trickle_take_little_memory(models, tmp_path):
    limits, worker = Limits(upload_seconds=60), Worker(1)
    account = Account(tmp_path, Quota())
    api = Api(models=models, accounts=[account], worker=worker, limits=limits)
    guarded = Guard(api.app(), accounts={TOKEN: account}, requests=limits.requests)
    head = (
        f"POST /v1/adaptations HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n"
        f"content-type: multipart/form-data; boundary=b\r\ncontent-length: {60 << 20}\r\n\r\n"
        f'--b\r\ncontent-disposition: form-data; name="images"; filename="a"\r\n\r\n'
    ).encode()
    small = head.replace(b"/v1/adaptations HTTP", b"/v1/adaptations/x/samples HTTP")
    first = {"upload": head + bytes(300_000), "settings": small, "head": head[:60]}
    with serving(guarded, limits) as port, ExitStack() as stack:
        before = memory("VmRSS")
        clients = []
        for number in range(200):
            client = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            client.setblocking(False)
            _trickle(client, first[[*first][number % 3]])
            clients.append(client)
        for _ in range(5):
            for client in clients:
                _trickle(client, bytes(50_000))
            request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/models", headers=BEARER)
            with urllib.request.urlopen(request, timeout=20) as response:
                assert response.status == 200
        assert memory("VmRSS") - before < 150
    worker.close()


def _trickle(client, data):
    """Send what the server takes at once; it may have closed the connection."""
    with suppress(BlockingIOError, ConnectionError):
        client.send(data)


def test_who_does_not_read_is_cut_off(monkeypatch):
    monkeypatch.setattr(connection, "READING_PATIENCE", 0.5)
    size = 64 << 20

    async def large(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(size >> 16):
            await send({"type": "http.response.body", "body": bytes(1 << 16), "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    with (
        serving(large, Limits()) as port,
        socket.create_connection(("127.0.0.1", port), timeout=20) as client,
    ):
        client.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
        time.sleep(2)
        assert _read(client) < size


def _read(client):
    length = 0
    with suppress(ConnectionError):
        while data := client.recv(1 << 20):
            length += len(data)
    return length


def test_an_answer_has_its_place_until_it_is_read():
    places, begun = Places(1, "downloads"), asyncio.Event()

    async def stalled(message):
        begun.set()
        await asyncio.Event().wait()

    async def receive():
        await asyncio.Event().wait()

    async def attack():
        answer = MadeAnswer(lambda: bytes(1000), "image/png", places=places, seconds=0.3)
        first = asyncio.create_task(answer({"type": "http"}, receive, stalled))
        await begun.wait()
        with pytest.raises(RequestError, match="downloads are open"):
            await answer({"type": "http"}, receive, stalled)
        with pytest.raises(TimeoutError):
            await first
        places.refuse_when_full()

    asyncio.run(attack())


@pytest.mark.long
def test_a_body_that_does_not_arrive_gives_its_place_away(models, tmp_path):
    limits, worker = Limits(upload_seconds=0.3, body_seconds=0.3), Worker(1)
    account = Account(tmp_path, Quota(uploads=1))
    api = Api(models=models, accounts=[account], worker=worker, limits=limits)
    guarded = Guard(api.app(), accounts={TOKEN: account}, requests=limits.requests)
    with serving(guarded, limits) as port:
        for _ in range(2):
            with socket.create_connection(("127.0.0.1", port), timeout=20) as client:
                client.sendall(
                    f"POST /v1/pictures HTTP/1.1\r\nhost: 127.0.0.1\r\n"
                    f"authorization: Bearer {TOKEN}\r\ncontent-length: 100\r\n"
                    f"content-type: multipart/form-data; boundary=b\r\n\r\n--b".encode()
                )
                answer = client.recv(10_000)
                assert b" 408 " in answer
                assert b"within 0.3 s; send less" in answer + client.recv(10_000)
    worker.close()


def test_a_client_that_leaves_is_no_failure(models, tmp_path, caplog):
    """A log with a traceback of each would be of any length that clients like."""
    limits, worker = Limits(), Worker(1)
    account = Account(tmp_path, Quota(uploads=1))
    api = Api(models=models, accounts=[account], worker=worker, limits=limits)
    guarded = Guard(api.app(), accounts={TOKEN: account}, requests=limits.requests)
    head = f"host: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\ncontent-length: 100\r\n"
    form = "content-type: multipart/form-data; boundary=b\r\n"
    with serving(guarded, limits) as port:
        for path, kind in (("adaptations", form), ("pictures", form)):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.sendall(f"POST /v1/{path} HTTP/1.1\r\n{head}{kind}\r\n--b".encode())
        metrics = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=BEARER)
        started = time.monotonic()
        while True:
            with urllib.request.urlopen(metrics, timeout=20) as response:
                if response.read().count(b'_count{method="POST"') == 2:
                    break
            assert time.monotonic() - started < 20
            time.sleep(0.05)
    worker.close()
    assert "failed" not in caplog.text


def test_too_many_requests_at_once_are_refused(serve):
    response = serve(requests=0).get("/v1/models")
    assert "requests are open" in refusal(response, 429)
    assert int(response.headers["retry-after"]) > 0


def test_a_number_without_end_in_a_path_is_refused(serve):
    client = serve()
    for path in (f"given/{'9' * 5000}.png", f"previews/{'9' * 5000}-0.png"):
        assert "characters" in refusal(client.get(f"/v1/adaptations/x/{path}"), 414)


def test_types_are_taken_as_they_are(serve, pictures):
    client = serve()
    place = adapted(client, pictures, steps="1")
    for body in ({"count": "1"}, {"count": True}, {"seed": "1"}, {"steps": "1"}):
        assert next(iter(body)) in refusal(client.post(f"{place}/samples", json=body), 422)
    fields, file = {"model": "small"}, pictures[0]
    response = client.post("/v1/pictures", data=fields, files=[("images", file), ("other", file)])
    assert "call files images" in refusal(response, 422)
