"""The server of programs: clients with tokens, their quotas, and what they see of each other."""

import asyncio
import io
import re
import socket
import time
import zipfile
from contextlib import contextmanager

import pytest
from http_client import HOST, adapted, post, refusal
from small_models import save
from starlette.testclient import TestClient

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from serving import api, process
from serving.api import Api
from serving.commands import SERVE, STUDIO
from serving.guard import Guard
from serving.limits import Limits
from serving.opening import listening
from serving.server import accounts_in, run_server
from serving.tokens import Client, clients_in, others_may_read
from serving.worker import Worker

NAMES = ("alice", "bob")
TOKENS = {name: f"{name}-{'x' * 22}" for name in NAMES}


@pytest.fixture
def clients(models, tmp_path):
    """Serves alice and bob on one folder, bob with quotas, and returns a client of each."""

    @contextmanager
    def start(limits=Limits(), **quota):  # noqa: B008
        worker = Worker(limits.waiting)
        named = {
            "alice": Client(token=TOKENS["alice"]),
            "bob": Client(token=TOKENS["bob"], **quota),
        }
        accounts = accounts_in(tmp_path, named)
        app = Api(models=models, accounts=[*accounts.values()], worker=worker, limits=limits).app()
        by_token = {TOKENS[name]: accounts[name] for name in named}
        app = Guard(app, accounts=by_token, requests=limits.requests)
        with TestClient(app, base_url=HOST, raise_server_exceptions=False) as client:
            yield [_As(client, TOKENS[name]) for name in named]
        worker.close()

    return start


class _As:
    """A client that sends a token with every request."""

    def __init__(self, client, token):
        self._client, self._headers = client, {"authorization": f"Bearer {token}"}

    def __getattr__(self, method):
        def request(*arguments, headers=None, **options):
            headers = self._headers | (headers or {})
            return getattr(self._client, method)(*arguments, headers=headers, **options)

        return request


def test_nothing_of_one_client_is_seen_by_another(clients, pictures):
    with clients() as (alice, bob):
        place = adapted(alice, pictures, steps="2")
        alice.post(f"{place}/samples", json={})
        assert len(alice.get("/v1/adaptations").json()) == 1
        assert bob.get("/v1/adaptations").json() == []
        unknown = refusal(bob.get("/v1/adaptations/none"), 404)
        for path in (
            *("", "/events", "/given/0.png", "/previews/0-0.png", "/adapted.safetensors"),
            *("/sheet.png", "/drawings.zip", "/samples/0.png"),
        ):
            if path != "/events":  # which has no end
                assert alice.get(place + path).status_code == 200
            assert refusal(bob.get(place + path), 404) == unknown
        assert refusal(bob.post(f"{place}/samples", json={}), 404) == unknown
        assert refusal(bob.post(f"{place}/stop"), 404) == unknown
        assert refusal(bob.patch(f"{place}/samples/0", json={"kept": True}), 404) == unknown
        assert refusal(bob.delete(place), 404) == unknown
        assert alice.get(place).status_code == 200
        assert TOKENS["alice"] not in alice.get(place).text


def test_small_answers_are_sent_at_once():
    """Else each waits 40 ms for the client's acknowledgement of what came before."""

    async def accepted(bound):
        connected = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda _, w: connected.set_result(w), sock=bound)
        async with server:
            _, client = await asyncio.open_connection(*bound.getsockname())
            ours = (await connected).get_extra_info("socket")
            client.close()
            return ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    with listening("127.0.0.1", 0) as bound:
        assert asyncio.run(accepted(bound)) == 1


def test_every_client_has_a_quota(clients, pictures):
    with clients(jobs=0) as (_, bob):
        response = post(bob, pictures)
        assert "jobs of yours" in refusal(response, 429)
        assert int(response.headers["retry-after"]) > 0
    with clients(uploads=0) as (_, bob):
        assert "uploads of yours" in refusal(post(bob, pictures), 429)
    with clients(adaptations=1, listeners=0) as (alice, bob):
        place = adapted(bob, pictures, steps="1")
        assert "1 adaptations; delete" in refusal(post(bob, pictures), 429)
        assert "streams of events of yours" in refusal(bob.get(f"{place}/events"), 429)
        assert post(alice, pictures, steps="1").status_code == 202


def test_files_stay_within_the_quota_of_bytes(clients, pictures, tmp_path):
    def used():
        return sum(f.stat().st_size for f in (tmp_path / "bob").rglob("*.png"))

    with clients(disk_bytes=100) as (_, bob):
        assert "may have 100; delete" in refusal(post(bob, pictures), 507)
        assert [*(tmp_path / "bob").iterdir()] == []
    most = 30_000  # less than the adapted model
    with clients(disk_bytes=most) as (alice, bob):
        place = post(bob, pictures, steps="1").headers["location"]
        while (record := bob.get(place).json())["state"] in ("waiting", "adapting"):
            time.sleep(0.02)
        assert record["state"] == "failed"
        assert f"may have {most:,}" in record["error"]
        assert used() <= most
        assert bob.delete(place).status_code == 204
        assert used() == 0
        adapted(alice, pictures, steps="1")
    # Files that are there already count at the next start too.
    with clients() as (_, bob):
        adapted(bob, pictures, steps="1")
    with clients(disk_bytes=most) as (_, bob):
        refusal(post(bob, pictures), 507)


def test_an_adaptation_is_removed_when_its_time_is_over(clients, pictures, tmp_path, monkeypatch):
    monkeypatch.setattr(api, "_EXPIRY_SECONDS", 0.1)
    with clients(days=3 / 24 / 3600) as (alice, bob):
        kept = adapted(alice, pictures, steps="1")
        place = post(bob, pictures, steps="1").headers["location"]
        record = bob.get(place).json()
        assert record["expires"] == pytest.approx(record["created"] + 3)
        while bob.get(place).status_code == 200:
            assert time.time() < record["expires"] + 10
            time.sleep(0.05)
        assert time.time() >= record["expires"]
        while [*(tmp_path / "bob").iterdir()]:
            assert time.time() < record["expires"] + 10
            time.sleep(0.05)
        assert alice.get(kept).status_code == 200


def test_what_computes_for_too_long_ends(clients, pictures):
    with clients(Limits(seconds=0.2)) as (alice, _):
        place = post(alice, pictures, steps="1000").headers["location"]
        while (record := alice.get(place).json())["state"] in ("waiting", "adapting"):
            time.sleep(0.02)
        assert "longer than 0.2 s" in record["error"]
        assert record["step"] < 1000
    with clients() as (alice, _):
        place = adapted(alice, pictures, steps="1")
    with clients(Limits(seconds=0.2)) as (alice, _):
        drawn = alice.post(f"{place}/samples", json={"count": 64, "steps": 200})
        assert "ask for fewer" in refusal(drawn, 422)


def test_a_zip_has_the_pngs_that_were_drawn(clients, pictures):
    with clients() as (alice, _):
        place = adapted(alice, pictures, steps="1")
        headers = {"accept": "application/zip"}
        data = alice.post(f"{place}/samples", json={"count": 3}, headers=headers).content
        with zipfile.ZipFile(io.BytesIO(data)) as file:
            assert file.read("2.png") == alice.get(f"{place}/samples/2.png").content


def test_an_adaptation_draws_nothing_where_nobody_looks(clients, pictures):
    with clients() as (alice, _):
        looked, blind = (adapted(alice, pictures, steps="2", previews=p) for p in ("true", "false"))
        assert alice.get(looked).json()["previews"] != []
        assert alice.get(blind).json()["previews"] == []
        draw = {"json": {"seed": 5}, "headers": {"accept": "image/png"}}
        drawn = [alice.post(f"{place}/samples", **draw).content for place in (looked, blind)]
        assert drawn[0] == drawn[1]


def test_metrics_count_what_was_done(clients, pictures):
    with clients() as (alice, bob):
        place = adapted(alice, pictures, steps="1")
        alice.post(f"{place}/samples", json={"count": 3})
        bob.get(f"/v1/{'x' * 50}")
        bob.request("Y" * 50, "/v1/models")
        text = bob.get("/metrics").text
        for line in (
            'metatrain_adaptations_total{state="done"} 1.0',
            "metatrain_images_total 3.0",
            "metatrain_jobs 0.0",
            "metatrain_stored_adaptations 1.0",
            'path="/v1/adaptations/{id}/samples",status="200"} 1.0',
            'metatrain_request_seconds_count{method="any",path="none",status="405"} 1.0',
        ):
            assert line in text, text
        assert place.rpartition("/")[2] not in text
        assert "x" * 50 not in text
        assert "Y" * 50 not in text


def test_the_api_describes_itself_to_programs_and_people(clients):
    with clients() as (alice, _):
        document = alice.get("/openapi.json", headers={"authorization": ""}).json()
        page = alice.get("/docs", headers={"authorization": ""}).text
        for path, operations in document["paths"].items():
            assert path in page
            for operation in operations.values():
                assert operation["summary"] in page
        assert "http://" not in page.replace(HOST, "")
        assert "<script" not in page


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": ""}, 401),
        ({"authorization": f"Bearer {TOKENS['bob']}x"}, 401),
        ({"authorization": "", "cookie": f"metatrain={TOKENS['bob']}"}, 401),
        ({"host": "evil.example"}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({}, 200),
    ],
)
def test_only_a_token_comes_through(clients, headers, status):
    with clients() as (_, bob):
        response = bob.get("/v1/models", headers=headers)
        assert response.status_code == status
        assert not [name for name in response.headers if name.startswith("access-control")]
        assert ("www-authenticate" in response.headers) == (status == 401)
        preflight = bob.options("/v1/models", headers={"origin": "http://evil.example"})
        assert preflight.status_code == 403


def test_tokens_are_made_once_and_for_this_user_alone(tmp_path):
    file = tmp_path / "new" / "tokens.json"
    [(name, client)] = clients_in(file).items()
    assert (name, client) == ("default", clients_in(file)["default"])
    assert file.stat().st_mode & 0o777 == 0o600
    assert client.token not in repr(client)
    file.chmod(0o640)
    with pytest.raises(UserError, match="chmod 600"):
        clients_in(file)


@pytest.mark.parametrize(
    ("owner", "mode", "others_may"),
    [
        *((7, 0o600, False), (7, 0o640, True), (7, 0o604, True), (8, 0o600, True)),
        # Of a Secret that a pod mounts; and what is root's, but not for this user alone.
        *((0, 0o440, False), (0, 0o444, True), (0, 0o460, True)),
    ],
)
def test_tokens_are_of_one_user_alone(owner, mode, others_may):
    assert others_may_read(owner, mode, user=7) == others_may


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it: "),
        ("[]", "it: "),
        ("{}", "at least one client"),
        ('{"a": {"token": "short"}}', "a.token"),
        ('{"a": {"token": "' + "x" * 30 + '", "disk": 1}}', "a.disk"),
        ('{"../a": {"token": "' + "x" * 30 + '"}}', "lower-case letters"),
        ('{"": {"token": "' + "x" * 30 + '"}}', "lower-case letters"),
        (
            '{"a": {"token": "TOKEN"}, "b": {"token": "TOKEN"}}'.replace("TOKEN", "x" * 30),
            "its own",
        ),
        ("[" * 100_000, "it: "),
    ],
    ids=["empty", "list", "nobody", "short", "key", "name", "nameless", "twice", "deep"],
)
def test_a_file_of_tokens_is_checked(tmp_path, text, message):
    file = tmp_path / "tokens.json"
    file.touch(mode=0o600)
    file.write_text(text)
    with pytest.raises(UserError, match=message) as error:
        clients_in(file)
    assert "x" * 30 not in str(error.value)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--store", "s3://bucket/a"], "--store is of servers on a Ray cluster"),
        (["--replicas", "3"], "--replicas is of servers on a Ray cluster"),
        (["--ray", "--device", "cuda"], "with --ray, give --gpus"),
    ],
)
def test_an_option_of_another_kind_of_server_is_refused(capsys, options, sentence):
    assert run("metatrain", {"serve": SERVE}, ["serve", "model", *options]) == 1
    assert sentence in capsys.readouterr().err


def test_a_mistake_is_a_sentence(tmp_path, capsys):
    tokens = tmp_path / "tokens.json"
    tokens.write_text("{}")
    tokens.chmod(0o644)
    arguments = ["serve", "nowhere", "--dir", str(tmp_path)]
    assert run("metatrain", {"serve": SERVE}, arguments) == 1
    assert "other users may read it" in capsys.readouterr().err
    assert [*tmp_path.iterdir()] == [tokens]


@pytest.mark.parametrize(
    ("address", "host"),
    [
        ("127.0.0.2", "127.0.0.2"),
        ("0.0.0.0", "0.0.0.0"),
        ("Localhost", "Localhost"),
        ("0:0::1", "[::1]"),
    ],
)
def test_the_url_that_is_printed_leads_here(packed, tmp_path, monkeypatch, caplog, address, host):
    if ":" in address and not _has_ipv6():
        pytest.skip("this machine has no IPv6")
    answers = []

    def look(self, sockets):
        [url] = set(re.findall(r"http://[^/,]*", caplog.text))
        with TestClient(self.config.app, base_url=url) as client:
            answers.append((url.rpartition(":")[0], client.get("/healthz").status_code))
            upper = {"host": client.base_url.netloc.decode().upper()}
            answers.append(client.get("/healthz", headers=upper).status_code)

    monkeypatch.setattr(process.uvicorn.Server, "run", look)
    model = save(packed, tmp_path / "small")
    folder = tmp_path / "state"
    options = {"port": 0, "hosts": [], "device": "cpu", "trust": False, "allow_urls": False}
    run_server([model], folder=folder, tokens=folder / "t.json", address=address, **options)
    assert answers == [(f"http://{host}", 200), 200]


def _has_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as bound:
            bound.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--tokens", "folder"], "folder is a folder, and a file is needed"),
        (["--tokens", "file/tokens.json"], "file has to be a folder"),
        (["--tokens", "x" * 300], "is no usable path"),
        (["--tokens", "link"], "there is nothing at link"),
        (["--dir", "file"], "file has to be a folder"),
        (["--dir", "file/below"], "has to be a folder, and a file is at"),
        (["--dir", "x" * 300], "is no usable path"),
        (["--address", "ü..b"], "of ü..b cannot be used"),
    ],
    ids=range(8),
)
def test_a_place_that_cannot_be_used_is_a_sentence(
    packed, tmp_path, monkeypatch, capsys, options, sentence
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("a file")
    (tmp_path / "link").symlink_to("nowhere")
    model = save(packed, tmp_path / "model")
    if "--dir" not in options:
        options = [*options, "--dir", "state"]
    for name, command in (("serve", SERVE), ("studio", STUDIO)):
        if name == "studio" and options[0] != "--dir":
            continue  # which has no such option
        arguments = [name, model, *options, *(["--no-browser"] if name == "studio" else [])]
        assert run("metatrain", {name: command}, arguments) == 1
        message = capsys.readouterr().err
        assert sentence in message
        assert "Traceback" not in message
    assert (tmp_path / "file").read_text() == "a file"
