"""The studio among strangers: who holds its places, who looks on, and who wrote its folder."""

import socket
import stat
import threading
import time
import urllib.request
from contextlib import suppress
from dataclasses import replace
from http.client import HTTPConnection
from pathlib import Path

import pytest
import uvicorn
from http_client import adapted, post, refusal
from small_models import save

from metatrain import Model
from metatrain.base.errors import UserError
from serving import connection, process, studio
from serving.adaptations import Adaptation, Adaptations
from serving.disk import Disk
from serving.limits import Limits, Quota
from serving.records import Drawing, Record

ID = "x" * 22
# Less than what waits for a client that is said not to read.
LARGE = 60_000


def record(**fields):
    defaults = {"model": "small", "created": 0, "given": ("a",), "seed": 0, "steps": 2}
    return Record(id=ID, **(defaults | fields))


async def answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    size = LARGE if scope["path"] == "/large" else 4
    await send({"type": "http.response.body", "body": b"here" * (size // 4)})


@pytest.fixture
def port(monkeypatch):
    """The port of a server with places for 4 connections, which waits half a second for a head."""
    monkeypatch.setattr(connection, "PATIENCE", 0.5)
    monkeypatch.setattr(connection, "READING_PATIENCE", 0.5)
    bound = socket.create_server(("127.0.0.1", 0))
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    server = uvicorn.Server(process.server_config(answer, Limits(requests=2)))
    thread = threading.Thread(target=server.run, args=[[bound]])
    thread.start()
    yield bound.getsockname()[1]
    server.should_exit = True
    thread.join()


@pytest.mark.parametrize("head", [b"", b"GET / HTTP/1.1\r\nhost: 127"])
def test_clients_that_ask_for_nothing_hold_no_place_for_long(port, head):
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    for one in idle:
        one.sendall(head)
    time.sleep(1.5)
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5) as response:
        assert response.read() == b"here"
    for one in idle:
        one.close()


@pytest.mark.parametrize("head", ["", "connection: close\r\n"])
def test_clients_that_read_nothing_hold_no_place_for_long(port, head):
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    with client:
        client.connect(("127.0.0.1", port))
        client.sendall(f"GET /large HTTP/1.1\r\nhost: 127.0.0.1\r\n{head}\r\n".encode())
        time.sleep(2)
        length = 0
        with suppress(ConnectionError):
            while data := client.recv(1 << 16):
                length += len(data)
        assert length < LARGE


def test_between_two_requests_a_client_at_work_keeps_its_connection(port, monkeypatch):
    monkeypatch.setattr(connection, "PATIENCE", 2.0)
    client = HTTPConnection("127.0.0.1", port, timeout=20)
    client.connect()
    connected = client.sock
    # Not one request is under way when its first two seconds have passed.
    for _ in range(6):
        time.sleep(0.45)
        client.request("GET", "/")
        assert client.getresponse().read() == b"here"
    assert client.sock is connected
    client.close()


def test_a_head_without_end_is_refused(port):
    with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
        client.sendall(b"GET / HTTP/1.1\r\nhost: 127.0.0.1\r\nx: " + b"a" * 200_000)
        assert client.recv(100).startswith(b"HTTP/1.1 400")


def test_neither_folder_nor_token_is_seen_by_other_users(packed, tmp_path, monkeypatch):
    opened: list[str] = []
    pages: list[tuple[int, str]] = []
    monkeypatch.setattr(studio.webbrowser, "open", opened.append)
    monkeypatch.setattr(studio, "Thread", _Now)

    def look(self, sockets):
        page = Path(opened[0].removeprefix("file://"))
        pages.append((page.parent.stat().st_mode, page.read_text()))

    monkeypatch.setattr(process.uvicorn.Server, "run", look)
    model = save(packed, tmp_path / "small")
    options = {"port": 0, "device": "cpu", "trust": False, "browser": True}
    studio.run_studio([model], folder=tmp_path / "state" / "studio", **options)
    assert stat.S_IMODE((tmp_path / "state" / "studio").stat().st_mode) == 0o700
    [(mode, text)] = pages
    assert stat.S_IMODE(mode) == 0o700
    assert "token=" in text
    assert "token" not in opened[0]


class _Now:
    """A thread that runs at once."""

    def __init__(self, target, args, daemon):
        self.start = lambda: target(*args)


@pytest.mark.parametrize(
    "change",
    [
        ('"id":"x', '"id":"y'),
        ('"created":0.0', '"created":NaN'),
        ('"created":0.0', '"created":1e999'),
        ('"seed":0', '"seed":-1'),
        ('"steps":2', '"steps":' + "9" * 400),
        ('"name":"0"', '"name":"../../0"'),
        ('"name":"0"', '"name":"0/../../0"'),
        ('"distance":0.5', '"distance":Infinity'),
        ('"lora":null', '"lora":".."'),
        ('"lora":null', '"lora":"adaptation.json"'),
        ("{", "[" * 10_000),
    ],
)
def test_a_record_that_a_stranger_wrote_is_refused(tmp_path, change):
    drawing = Drawing(name="0", seed=0, steps=None, guidance=None, nearest=0, distance=0.5)
    Adaptation(tmp_path / ID, record(state="done", drawings=(drawing,)), Disk(0)).store()
    file = tmp_path / ID / "adaptation.json"
    assert [a.record.id for a in Adaptations(tmp_path, Quota())] == [ID]
    text = file.read_text()
    assert change[0] in text
    file.write_text(text.replace(*change, 1))
    with pytest.raises(UserError, match="cannot be read; remove the folder"):
        Adaptations(tmp_path, Quota())


def test_a_folder_elsewhere_is_no_adaptation(tmp_path):
    Adaptation(tmp_path / "elsewhere" / ID, record(), Disk(0)).store()
    state = tmp_path / "state"
    state.mkdir()
    (state / ID).symlink_to(tmp_path / "elsewhere" / ID)
    assert [*Adaptations(state, Quota())] == []


def test_what_a_crash_left_is_removed_and_nothing_else(tmp_path):
    state, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "given-0.png").write_text("mine")
    contents = {
        "a": ["given-0.png", ".given-1.png.0123.partial"],
        "b": [],
        "c": ["step-0-0.png", "drawing-0-guidance-7.5.png", f"images/{'0' * 64}.png"],
        "d": ["given-0.png", "diary.txt"],
        "e": ["images/holiday.png"],
        "f": ["images/.x.png.0.partial", ".adaptation.json.0.partial", "given-0.png"],
    }
    for name, files in contents.items():
        for file in files:
            (state / (name * 22) / file).parent.mkdir(parents=True, exist_ok=True)
            (state / (name * 22) / file).write_text("some")
    (state / ("b" * 22)).mkdir()
    (state / ("f" * 22) / "adaptation.json").write_text(
        record(state="done").model_dump_json().replace(ID, "f" * 22)
    )
    (state / ("g" * 22)).symlink_to(elsewhere)
    (state / ("a" * 22) / "images").symlink_to(elsewhere)
    (state / "given").mkdir()
    adaptations = Adaptations(state, Quota())
    assert [a.record.id for a in adaptations] == ["f" * 22]
    assert {path.name for path in state.iterdir()} == {"given", *(n * 22 for n in "defg")}
    assert (elsewhere / "given-0.png").read_text() == "mine"
    left = {str(f.relative_to(state)) for f in state.rglob("*") if f.is_file()}
    assert left == {
        *("d" * 22 + "/given-0.png", "d" * 22 + "/diary.txt", "e" * 22 + "/images/holiday.png"),
        *("f" * 22 + "/adaptation.json", "f" * 22 + "/given-0.png"),
    }


def test_what_was_not_written_takes_no_bytes(tmp_path):
    disk = Disk(100)
    for _ in range(3):
        with pytest.raises(OSError, match="too long"):
            disk.write(tmp_path / "folder" / ("x" * 240), bytes(60))
        assert disk.used == 0
    disk.write(tmp_path / "folder" / "given-0.png", bytes(60))
    assert disk.used == 60
    disk.remove_folder(tmp_path / "folder")
    assert disk.used == 0


def test_a_loss_that_is_no_number_is_told_as_none(serve, pictures, monkeypatch):

    real = Model.adapt_stepwise

    def diverging(self, *arguments, **options):
        for at in real(self, *arguments, **options):
            yield replace(at, loss=float("nan"))

    monkeypatch.setattr(Model, "adapt_stepwise", diverging)
    client = serve()
    place = adapted(client, pictures, steps="2")
    assert client.get(place).json()["loss"] is None
    assert len(serve().get("/v1/adaptations").json()) == 1


def test_names_of_files_show_their_controls(serve, pictures):
    client = serve()
    name = "a\u202egnp.exe\x1b[2J<b>.png"
    place = post(client, [(name, pictures[0][1])]).headers["location"]
    [given] = client.get(place).json()["given"]
    assert given.isprintable()
    assert "\u202e" not in given
    refusal(client.get(f"{place}/given/1.png"), 404)
    client.delete(place)
