"""Two processes that write the same: one is refused or waits, and what is written is whole."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from small_models import save

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.data.check import check
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import DatasetWriter
from metatrain.data.packing.pack import pack
from metatrain.metrics import network as networks
from metatrain.metrics.network import metric_network
from metatrain.storage.files import absolute, filesystem_of, read_file, write_file
from metatrain.storage.lease import lease


def test_of_two_packs_into_one_place_one_packs_and_the_other_waits(images, tmp_path):
    dest = str(tmp_path / "set")
    with ThreadPoolExecutor(2) as pool:
        both = [pool.submit(pack, images, dest, size=16, wait=True) for _ in range(2)]
        summaries = [one.result() for one in both]
    assert sorted(summary.already_packed for summary in summaries) == [False, True]
    assert check(dest).faults == []
    assert sorted(p.name for p in Path(dest).iterdir()) == ["data-00000.parquet", MANIFEST]


def rows(task: str) -> list[dict]:
    row = {"task": task, "image": b"image", "width": 1, "height": 1, "split": "train"}
    return [row | {"index": index} for index in range(3)]


def writer(dest: str, task: str) -> DatasetWriter:
    one = DatasetWriter(dest)
    one.packed_before()
    one.begin()
    for row in rows(task):
        one.add(row)
    return one


def test_a_pack_that_woke_too_late_neither_replaces_nor_removes_what_another_packed(tmp_path):
    dest = str(tmp_path)
    late, quick = writer(dest, "late"), writer(dest, "quick")
    quick.commit({})
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UserError, match="by another process meanwhile; pack again"):
        late.commit({})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_manifest_replaces_only_the_one_that_was_read(tmp_path):
    dest = str(tmp_path)
    writer(dest, "first").commit({"tasks": {}, "summary": {}})
    late = writer(dest, "late")
    late._end_row_group()
    late._end_shard()
    write_file(f"{dest}/{MANIFEST}", b"another")
    with pytest.raises(UserError, match="was packed by another process meanwhile"):
        late.commit({})
    assert read_file(f"{dest}/{MANIFEST}") == b"another"


def test_a_data_set_in_a_place_that_cannot_be_written_is_known_to_be_packed(
    images, packed, monkeypatch
):
    def refuse(*_: object, **__: object) -> None:
        raise UserError("it may not be written.")

    monkeypatch.setattr("metatrain.storage.lease.create", refuse)
    assert pack(images, packed).already_packed


COMMANDS_BY_NAME = {
    "pack": ["pack", "{images}", "{out}"],
    "adapt": ["adapt", "{model}", "{images}/task-00", "--out", "{out}"],
    "evaluate": ["evaluate", "{model}", "--out", "{out}"],
    "tune-adaptation": ["tune-adaptation", "{model}", "--out", "{out}"],
    "calibrate": ["calibrate", "{model}", "--out", "{out}"],
    "combine": ["combine", "uniform", "{model}", "{model}", "--out", "{out}"],
}
# Those that write one file, and not a folder.
FILES = ("calibrate", "combine")


@pytest.mark.parametrize("name", COMMANDS_BY_NAME)
def test_what_another_process_writes_by_name_is_refused_in_a_sentence(
    name, packed, images, tmp_path, capsys
):
    is_file = name in FILES
    out = f"{tmp_path}/out.safetensors" if is_file else f"{tmp_path}/out"
    places = {"model": save(packed, tmp_path / "model"), "images": images, "out": out}
    words = [word.format(**places) for word in COMMANDS_BY_NAME[name]]
    with lease(out, "writes", is_file=is_file):
        assert run("metatrain", COMMANDS, words) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert f"{out} is in use: " in line
    assert f"writes it, as process {os.getpid()}, since" in line
    assert line.endswith("wait until it has ended, or end it. With --wait, this command waits.")
    assert not Path(out).exists()


def test_two_stores_do_not_serve_one_folder(tmp_path, capsys):
    with lease(str(tmp_path), "serves"):
        assert run("metatrain", COMMANDS, ["store", "start", "--folder", str(tmp_path)]) == 1
    *_, line = capsys.readouterr().err.splitlines()
    assert f"{tmp_path} is in use: " in line
    assert line.endswith("wait until it has ended, or end it."), "there is no --wait to name"
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_model_is_not_calibrated_while_it_is_evaluated(packed, tmp_path, capsys):
    model = save(packed, tmp_path / "model")
    with lease(f"{model}/evaluation", "evaluates"):
        assert run("metatrain", COMMANDS, ["calibrate", model]) == 1
    assert f"{model}/evaluation is in use: " in capsys.readouterr().err


def test_a_metric_network_that_another_process_trains_is_waited_for(packed, tmp_path, monkeypatch):
    store, url = EpisodeStore(packed), f"{tmp_path}/metric.safetensors"
    trained: list[int] = []
    real = networks.train_metric_network

    def train(*arguments: object, **options: object):
        trained.append(1)
        return real(*arguments, **options)

    monkeypatch.setattr(networks, "train_metric_network", train)
    results: list[str] = []

    def ask() -> None:
        results.append(metric_network(store, url, image_size=16, channels=1).sha256)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(trained) == 1
    assert len(set(results)) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["metric.safetensors"]


def test_no_reader_sees_half_of_a_file_that_two_write(tmp_path):
    url = str(tmp_path / "file")
    contents = [bytes([65 + n]) * (1000 + 300_000 * n) for n in range(2)]
    write_file(url, contents[0])
    stop = threading.Event()

    def write(content: bytes) -> None:
        while not stop.is_set():
            write_file(url, content)

    threads = [threading.Thread(target=write, args=[content]) for content in contents]
    for thread in threads:
        thread.start()
    seen = {read_file(url) for _ in range(300)}
    stop.set()
    for thread in threads:
        thread.join()
    assert seen <= set(contents)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_link_in_the_place_of_a_file_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "victim").write_text("kept")
    (tmp_path / "file").symlink_to(tmp_path / "victim")
    (tmp_path / "file.partial").symlink_to(tmp_path / "victim")
    write_file(str(tmp_path / "file"), b"new")
    assert (tmp_path / "victim").read_text() == "kept"
    assert (tmp_path / "file").read_text() == "new"


@pytest.mark.parametrize("path", ["~/x", "~", "a/~/x", "./a", "/a/b/", "file:///a/b", "~nobody0/x"])
def test_there_is_one_way_to_make_a_path_absolute(path, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    if path.startswith("~nobody0"):
        with pytest.raises(UserError, match="begins with an unknown user"):
            absolute(path)
        return
    assert filesystem_of(path)[1] == absolute(path).rstrip("/")
    assert absolute(absolute(path)) == absolute(path)
    assert Path(absolute(path)).is_absolute()
    if path.startswith("~"):
        assert absolute(path).startswith(str(tmp_path))
