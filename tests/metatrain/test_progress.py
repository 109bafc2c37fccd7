"""Progress and tables as people see them, in a terminal and in a log."""

import io
import logging
import re
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from small_models import save
from tiny_backbones import overrides_of, write_pipeline

import metatrain as interface
from metatrain.base import progress
from metatrain.base.progress import (
    Progress,
    StreamDisplay,
    displayed,
    report_share,
    tracked,
)
from metatrain.base.tables import aligned
from metatrain.config import load_config
from metatrain.data.check import check, write_contact_sheet
from metatrain.data.packing.pack import pack
from metatrain.model import filling
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.storage.files import read_file, sizes_under
from metatrain.training.initial_weights import initial_weights
from metatrain.training.partition import Partition


class Terminal(io.StringIO):
    """A stream that is a terminal."""

    def isatty(self):
        return True


# The time of a line in a log.
TIME = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d (?=\w)")


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set."""
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def work_shown_on(stream):
    with displayed(StreamDisplay(stream)):
        return Progress("packing", 100)


def test_the_time_left_follows_from_the_rate_so_far(clock):
    stream = io.StringIO()
    work = work_shown_on(stream)
    clock[0] = 10.0
    work.update(20)
    assert TIME.sub("", stream.getvalue()) == "packing: 20/100, 2.0/s, ETA 40 s\n"


def test_the_time_before_the_work_does_not_count(clock):
    stream = io.StringIO()
    work = work_shown_on(stream)
    clock[0] = 300.0
    work.update(0)
    assert stream.getvalue() == ""
    clock[0] = 310.0
    work.update(20)
    assert TIME.sub("", stream.getvalue()) == "packing: 20/100, 2.0/s, ETA 40 s\n"


def test_a_part_in_progress_counts_by_its_share(clock):
    stream = io.StringIO()
    work = work_shown_on(stream)
    with work.part(20, 40):
        clock[0] = 10.0
        report_share(0.5)
    report_share(1.0)
    assert TIME.sub("", stream.getvalue()) == "packing: 40/100, 4.0/s, ETA 15 s\n"


def test_work_of_unknown_size_has_no_time_left(clock, caplog):
    caplog.set_level(logging.INFO, "metatrain")
    work = Progress("copying, MB", 0)
    clock[0] = 10.0
    work.update(20.5)
    assert [record.message for record in caplog.records] == ["copying, MB: 20, 2.0/s, ETA unknown"]


def test_items_are_counted_as_they_are_done_and_the_line_goes_with_an_error(clock):
    stream = Terminal()
    with displayed(StreamDisplay(stream)):
        for item in tracked("reading", [1, 2], 2):
            clock[0] += 2.0
            if item == 2:
                break
    assert stream.getvalue().split("\r")[1:] == ["reading: 1/2, 0.5/s, ETA 2.0 s", " " * 30, ""]


class Stepping:
    """A clock on which time passes whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 10.0
        return self.now


def test_sampling_shows_the_time_left_within_its_first_batch(packed, tmp_path, monkeypatch, caplog):
    model = load_model(save(packed, tmp_path, "objective.sampler.steps=4"))
    adapted = model.adapt(torch.zeros(2, 1, 16, 16) - 1)
    caplog.set_level(logging.INFO, "metatrain")
    monkeypatch.setattr(progress.time, "monotonic", Stepping())
    adapted.sample(8)
    lines = [r.message for r in caplog.records if r.message.startswith("sampling")]
    assert [line.partition(",")[0] for line in lines] == [
        f"sampling: {done}/8" for done in (2, 4, 6, 8)
    ]
    assert "ETA 1 min" in lines[0] or "ETA 30 s" in lines[0]


EVALUATION = {
    *("reading tasks", "training the metric network", "reading episodes"),
    *("adapting to unseen tasks", "reading samples", "scoring", "writing pictures"),
}
LONG_WORK = {
    "check": (lambda data, images, model, out: check(data), {"checking images"}),
    "sheet": (
        lambda data, images, model, out: write_contact_sheet(data, f"{out}/sheet.png"),
        {"reading tasks"},
    ),
    "pack": (lambda data, images, model, out: pack(images, f"{out}/data"), {"packing"}),
    "evaluate": (
        lambda data, images, model, out: interface.evaluate(
            model, split="train", tasks=2, seeds=1, shots=3, workers=1, out=f"{out}/evaluation"
        ),
        EVALUATION,
    ),
}


@pytest.mark.parametrize("name", LONG_WORK)
def test_whatever_may_take_long_shows_its_progress(
    name, packed, images, tmp_path, monkeypatch, caplog
):
    work, labels = LONG_WORK[name]
    model = save(packed, tmp_path / "run")
    caplog.set_level(logging.INFO, "metatrain")
    monkeypatch.setattr(progress.time, "monotonic", Stepping())
    work(packed, images, model, tmp_path)
    assert labels <= {record.message.partition(":")[0] for record in caplog.records}


@pytest.fixture
def lines(monkeypatch, caplog):
    """The lines of progress, of which each update shows one."""
    caplog.set_level(logging.INFO, "metatrain")
    monkeypatch.setattr(progress.LogDisplay, "interval", 1e-9)
    return lambda: [record.message for record in caplog.records]


def test_a_network_that_takes_long_to_make_shows_how_far_it_is(lines, monkeypatch):
    config = load_config(None, ["generator.width=64", "data.image_size=16"])
    expected = build_theta(config).copy()
    assert not lines(), "it did not take long"
    monkeypatch.setattr(filling, "_LONG", -1.0)
    made = build_theta(config).copy()
    assert all(torch.equal(made[name], value) for name, value in expected.items())
    last = re.fullmatch(r"making the network, million numbers: (\d+)/(\d+), .*", lines()[-1])
    assert last
    assert last[1] == last[2]


@pytest.mark.long
def test_packages_that_are_imported_on_the_way_are_no_part_of_the_network(tmp_path):
    """A network of diffusers imports its class while it is made, which makes tensors."""
    folder = write_pipeline(tmp_path, "UNet2DModel")
    overrides = overrides_of(folder, "UNet2DModel")
    code = f"""\
from metatrain.config import load_config
from metatrain.model import filling
from metatrain.model.build import build_theta

filling._LONG = -1.0
build_theta(load_config(None, {overrides}))
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_weights_that_are_made_slice_by_slice_show_how_far_they_are(lines):
    config = load_config(None, ["generator.width=64", "data.image_size=16"])
    with torch.device("meta"):
        shapes = {name: p.shape for name, p in build_theta(config).named().items()}
    initial_weights(config, Partition.whole(shapes))
    last = re.fullmatch(r"making the weights, MB: (\d+)/(\d+), .*", lines()[-1])
    assert last
    assert last[1] == last[2]


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = bytes(9_000_000)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def test_a_download_shows_how_far_it_is_without_what_may_be_a_signature(lines):
    with ThreadingHTTPServer(("127.0.0.1", 0), _Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/model.safetensors"
        assert len(read_file(f"{url}?X-Amz-Signature=abc")) == 9_000_000
        server.shutdown()
    assert f"reading {url}, MB: 9/9, " in lines()[-1]
    assert "abc" not in "".join(lines())


def test_a_listing_shows_how_much_it_has(lines, tmp_path):
    for name in ("a/x", "a/y", "b/z"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("12")
    assert sizes_under(str(tmp_path)) == {"a/x": 2, "a/y": 2, "b/z": 2}
    assert f"listing {tmp_path}, files: 3, " in lines()[-1]


def test_a_terminal_overwrites_one_line_however_narrow_it_is(clock, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    work = work_shown_on(stream)
    for second in (1.0, 1.5, 2.0):
        clock[0] = second
        work.update(10)
    work.say("refused one")
    first, second, *rest = stream.getvalue().split("\r")[1:]
    assert first == "packing: 10/100, 10"
    assert second == "packing: 10/100, 5."
    assert rest == [" " * 19, "refused one\n"]


def test_without_a_display_progress_is_logged_and_nothing_is_printed(clock, caplog, capfd):
    caplog.set_level(logging.INFO, "metatrain")
    work = Progress("packing", 100)
    clock[0] = 10.0
    work.update(20)
    work.say("refused one")
    work.close()
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("INFO", "packing: 20/100, 2.0/s, ETA 40 s"),
        ("WARNING", "refused one"),
    ]
    assert capfd.readouterr() == ("", "")


ROWS = [["", "KID", "own task"], ["joint", "0.111 [0.090, 0.130]", "4.4%"], ["図形", "0.1", "90%"]]


def test_a_log_has_each_row_of_a_table_on_one_line():
    assert aligned(ROWS, justify="right").split("\n") == [
        "                        KID  own task",
        "joint  0.111 [0.090, 0.130]      4.4%",
        "図形                    0.1       90%",
    ]
    long = "a sentence without an end " * 20
    assert aligned([["x", long]], justify="left") == f"x  {long.rstrip()}"


def test_a_narrow_terminal_folds_cells_within_their_columns(monkeypatch):
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("COLUMNS", "30")
    assert aligned(ROWS, justify="right").split("\n") == [
        "                 KID  own task",
        "joint  0.111 [0.090,      4.4%",
        "              0.130]",
        "図形             0.1       90%",
    ]
