"""Checking finds every fault that reading would meet, and says what the data set holds."""

import io
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from object_storage import upload
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.data.check import check, write_contact_sheet
from metatrain.data.labelled_sheet import labelled_sheet, unwritable
from metatrain.data.packed.manifest import FOOTERS_KEY, MANIFEST
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import DatasetWriter
from metatrain.data.packing.pack import pack
from metatrain.data.tasks.class_sampler import ClassSampler
from metatrain.storage import retry

SHARD = "data-00000.parquet"


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(retry, "_FIRST_WAIT", 0.0)


@pytest.fixture
def dataset(packed, tmp_path) -> Path:
    return Path(shutil.copytree(packed, tmp_path / "set"))


def flip(file: Path, at: int) -> None:
    data = bytearray(file.read_bytes())
    data[at] ^= 1
    file.write_bytes(data)


def test_a_whole_data_set_in_a_bucket_is_told_to_be_whole(s3, packed, tmp_path, capsys):
    url, sheet = upload(packed, f"{s3}/set"), tmp_path / "sheet.png"
    command = ["data", "check", url, "--sheet", str(sheet)]
    assert run("metatrain", COMMANDS, command) == 0
    told = capsys.readouterr().out
    assert "train: 16 tasks, 256 images" in told
    assert "320 images of 16 x 16 pixels" in told
    assert "whole: every hash, count, image and condition is as it was packed" in told
    assert np.asarray(Image.open(sheet)).std() > 10


def test_licences_are_counted(images, tmp_path):
    table = [
        {
            "path": f"task-{task:02d}/{i:02d}.png",
            "task": f"{task}",
            "licence": "CC0" if i else "MIT",
        }
        for task in range(4)
        for i in range(3)
    ]
    source = shutil.copytree(images, tmp_path / "images")
    pq.write_table(pa.Table.from_pylist(table), source / "table.parquet")
    pack(f"{source}/table.parquet", str(tmp_path / "set"))
    assert check(str(tmp_path / "set")).licences == {"CC0": 8, "MIT": 4}


@pytest.mark.parametrize("place", [4, 1000, -9, -200])
def test_a_flipped_bit_in_a_shard_or_its_footer_is_a_fault(dataset, place, capsys):
    flip(dataset / SHARD, place)
    assert run("metatrain", COMMANDS, ["data", "check", str(dataset)]) == 1
    told = capsys.readouterr().err
    assert f"{dataset} is not whole:" in told
    assert SHARD in told
    assert "copy or pack it again." in told


def test_a_missing_and_a_short_shard_are_faults(dataset):
    data = (dataset / SHARD).read_bytes()
    (dataset / SHARD).write_bytes(data[: len(data) // 2])
    assert check(str(dataset)).faults
    (dataset / SHARD).unlink()
    (fault,) = check(str(dataset)).faults
    assert SHARD in fault


@pytest.mark.parametrize(("column", "value"), [("split", "test"), ("task", "other")])
def test_a_manifest_that_says_other_than_the_shards_is_a_fault(dataset, column, value):
    table = pq.read_table(dataset / MANIFEST)
    at = table.schema.get_field_index(column)
    values = [value, *table[column].to_pylist()[1:]]
    table = table.set_column(at, table.schema.field(column), pa.array(values))
    pq.write_table(table, dataset / MANIFEST)
    (fault,) = check(str(dataset)).faults
    assert "another name or split" in fault


def test_an_image_that_cannot_be_decoded_is_a_fault(tmp_path):
    writer = DatasetWriter(str(tmp_path / "set"), ())
    writer.begin()
    row = {"task": "t", "split": "train", "width": 1, "height": 1}
    buffer = io.BytesIO()
    Image.new("L", (9, 9)).save(buffer, "PNG")
    for index, image in enumerate([buffer.getvalue(), b"rubbish"]):
        writer.add({**row, "index": index, "image": image})
    writer.commit({})
    (fault,) = check(str(tmp_path / "set")).faults
    assert "image 1 of task 't' cannot be decoded" in fault


def test_a_shard_that_lacks_a_footers_hash_is_a_fault(dataset):
    table = pq.read_table(dataset / MANIFEST)
    metadata = table.schema.metadata | {FOOTERS_KEY: json.dumps({}).encode()}
    pq.write_table(table.replace_schema_metadata(metadata), dataset / MANIFEST)
    (fault,) = check(str(dataset)).faults
    assert "footer" in fault


def test_names_and_licences_of_strangers_act_on_no_terminal(images, tmp_path, capsys):
    hostile = "\x1b[2J\x1b]52;c;x\x07\u202e\n  whole: every hash is right {}"
    table = [
        {
            "path": f"task-{task:02d}/{i:02d}.png",
            "task": hostile.format(task),
            "licence": hostile.format("CC0"),
            "split": ("train", "train", "val", "test")[task],
        }
        for task in range(4)
        for i in range(6)
    ]
    source = shutil.copytree(images, tmp_path / "images")
    pq.write_table(pa.Table.from_pylist(table), source / "table.parquet")
    assert run("metatrain", COMMANDS, ["pack", f"{source}/table.parquet", f"{tmp_path}/set"]) == 0
    assert run("metatrain", COMMANDS, ["data", "check", f"{tmp_path}/set"]) == 0
    store = EpisodeStore(f"{tmp_path}/set")
    flip(tmp_path / "set" / SHARD, 100)
    assert run("metatrain", COMMANDS, ["data", "check", f"{tmp_path}/set"]) == 1
    with pytest.raises(UserError) as error:
        ClassSampler(
            list(store.tasks("train")), shots=5, queries=5, meta_batch=1, seed=0, split="train"
        )
    outputs = [*capsys.readouterr(), str(error.value)]
    for text in outputs:
        assert not {*text} & {"\x1b", "\x07", "\u202e"}
        assert not re.search(r"^\s*whole: every hash is right", text, re.MULTILINE)
    assert "\\x1b[2J" in outputs[0]
    assert "\\n  whole: every hash is right 0'" in outputs[-1]


def test_a_sheet_names_its_tasks_and_how_many_they_are(tmp_path, images):
    table = [
        {"path": f"task-{n % 10:02d}/{n // 10:02d}.png", "task": f"{n:03d}"} for n in range(100)
    ]
    source = shutil.copytree(images, tmp_path / "images")
    pq.write_table(pa.Table.from_pylist(table), source / "table.parquet")
    pack(f"{source}/table.parquet", f"{tmp_path}/set")
    message = write_contact_sheet(f"{tmp_path}/set", f"{tmp_path}/sheet.png")
    assert message == f"{tmp_path}/sheet.png: the first image of 64 of 100 tasks"
    image = torch.ones(2, 3, 64, 64)
    sheets = [
        np.asarray(Image.open(io.BytesIO(labelled_sheet(image, names))))
        for names in (["a", "b"], ["a", "c"], ["a", "a task of a very long name"])
    ]
    places = np.argwhere((sheets[0] != sheets[1]).any(2))
    assert len(places), "the names are drawn"
    assert places[:, 0].min() >= 4 + 64, "beneath the image"
    assert places[:, 1].min() >= 4 + 68, "of the second"
    assert (sheets[2][:, -4:] == 255).all(), "a long name stays within its place"


def test_names_in_letters_that_the_font_lacks_are_numbers_and_told_beside_the_sheet(
    tmp_path, images
):
    table = [
        {"path": "task-00/00.png", "task": "漢字"},
        {"path": "task-01/00.png", "task": "Ωμέγα"},
    ]
    source = shutil.copytree(images, tmp_path / "images")
    pq.write_table(pa.Table.from_pylist(table), source / "table.parquet")
    pack(f"{source}/table.parquet", f"{tmp_path}/set")
    message = write_contact_sheet(f"{tmp_path}/set", f"{tmp_path}/sheet.png")
    assert unwritable(["Ωμέγα", "漢字"]) == {"漢字": "#2"}
    assert re.fullmatch("  #[12]: 漢字", message.splitlines()[1])
    image = torch.ones(1, 3, 64, 64)
    assert labelled_sheet(image, ["漢字"]) == labelled_sheet(image, ["#1"])
    assert labelled_sheet(image, ["Ωμέγα"]) != labelled_sheet(image, ["#1"])
