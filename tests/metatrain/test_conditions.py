"""Conditions come with the images that they belong to, by the same one request."""

import csv
import io
import json
import struct
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from object_storage import upload
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.config import load_config, parse_config, to_yaml
from metatrain.data.check import check
from metatrain.data.images import normalise
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.data.packed import writer as shards
from metatrain.data.packed.manifest import CONDITIONS_KEY, MANIFEST
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import DatasetWriter
from metatrain.data.packing.pack import pack
from metatrain.data.pictures import decode
from metatrain.training.run_data import training_sampler

TASKS, IMAGES, SIZE = 6, 9, 16
KINDS = {"caption": "text", "pose": "vector", "sketch": "image", "tone": "bits"}
CONDITIONS = (
    "data.conditions={caption: text, pose: {name: vector, size: 2}, sketch: image, "
    "tone: {name: bits, size: 24}}"
)


def caption(task: int, image: int) -> str:
    return f"drawing {image} of {task}, ä 文" if image else ""


def pose(task: int, image: int) -> list[float]:
    return [task + 0.1, -image / 7]


def tone(task: int, image: int) -> bytes:
    return bytes([task, image, 255])


def sketch(task: int, image: int) -> Image.Image:
    """Wider than high, and in colour: to be cropped, resized and made grey like a target."""
    pixels = np.random.default_rng([task, image]).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def rows_of(folder: Path) -> list[dict[str, str]]:
    rows = []
    for task in range(TASKS):
        for image in range(IMAGES):
            name = f"{task}-{image}"
            target = np.full((SIZE, SIZE), 10 * task + image, np.uint8)
            Image.fromarray(target).save(folder / f"{name}.png")
            sketch(task, image).save(folder / f"{name}-sketch.png")
            (folder / f"{name}.bin").write_bytes(tone(task, image))
            row = {"path": f"{name}.png", "task": f"t{task}", "caption": caption(task, image)}
            row |= {"pose": json.dumps(pose(task, image)), "sketch": f"{name}-sketch.png"}
            rows.append(row | {"tone": f"{name}.bin", "licence": "CC0"})
    return rows


def write_table(file: Path, rows: list[dict[str, str]]) -> str:
    with file.open("w", newline="") as lines:
        writer = csv.DictWriter(lines, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return str(file)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("table")
    write_table(folder / "table.csv", rows_of(folder))
    return folder


@pytest.fixture(scope="module")
def rows(folder) -> list[dict[str, str]]:
    return list(csv.DictReader((folder / "table.csv").open(newline="")))


@pytest.fixture(scope="module")
def dataset(folder, tmp_path_factory) -> Path:
    dest = tmp_path_factory.mktemp("packed") / "set"
    pack(f"{folder}/table.csv", str(dest), split=(1, 0, 0), conditions=KINDS)
    return dest


def config_of(url: object, *further: str):
    sizes = [f"data.image_size={SIZE}", "data.shots=3", "data.queries=4", "meta.batch=3"]
    return load_config(None, [f"data.path={url}", *sizes, CONDITIONS, *further])


def assert_own(examples, task: str) -> None:
    """That every target has its own conditions; its one value names task and image."""
    number = int(task.removeprefix("t"))
    targets = ((examples.target[:, 0, 0, 0] + 1) * 127.5).round().int() - 10 * number
    images = targets.tolist()
    assert examples.given["caption"] == tuple(caption(number, i) for i in images)
    expected = torch.tensor([pose(number, i) for i in images], dtype=torch.float32)
    assert examples.given["pose"].equal(expected)
    buffers = [io.BytesIO() for _ in images]
    for buffer, i in zip(buffers, images, strict=True):
        sketch(number, i).save(buffer, "PNG")
    sketches = [normalise(buffer.getvalue()).data for buffer in buffers]
    assert examples.given["sketch"].equal(decode(sketches, SIZE, 1))
    bits = np.unpackbits(np.frombuffer(b"".join(tone(number, i) for i in images), np.uint8))
    assert examples.given["tone"].equal(torch.from_numpy(bits).float().view(len(images), 24))


# What an episode brings


@pytest.mark.parametrize("world", [1, 2, 3])
def test_every_worker_has_the_conditions_of_its_own_images(dataset, world):
    config = config_of(dataset)
    for rank in range(world):
        source = open_tasks(config.data)
        sampler = training_sampler(source, config)
        steps = load_episodes(source, sampler, start=1, rank=rank, world=world)
        for step, episodes in enumerate(islice(steps, 3), start=1):
            plans = [sampler.plan(step, slot) for slot in range(rank, 3, world)]
            assert [e.task for e in episodes] == [plan.task.name for plan in plans]
            for episode in episodes:
                for batch in (episode.support_batch(), episode.query_batch()):
                    assert_own(batch.examples, episode.task)
                    assert_own(batch.support, episode.task)
                assert_own(episode.whole_batch().examples, episode.task)


def test_an_episode_with_conditions_is_one_ranged_request(proxy, s3, dataset):
    url = upload(str(dataset), f"{s3}/conditions")
    config = config_of(url)
    source = open_tasks(config.data)
    sampler, before = training_sampler(source, config), len(proxy.asked)
    for slot in range(TASKS):
        assert_own(source.read(sampler.plan(0, slot)).query, f"t{_task(sampler, slot)}")
    asked = proxy.asked[before:]
    assert len(asked) == TASKS
    assert all(request.range and request.path.endswith(".parquet") for request in asked)


def _task(sampler, slot: int) -> str:
    return sampler.plan(0, slot).task.name.removeprefix("t")


def test_only_the_conditions_that_are_asked_for_come(dataset):
    config = load_config(None, [f"data.path={dataset}", "data.conditions.caption=text"])
    source = open_tasks(config.data)
    sampler = source.sampler("train", seed=0, meta_batch=1, queries=2)
    assert list(source.read(sampler.plan(0, 0)).support.given) == ["caption"]
    without = open_tasks(load_config(None, [f"data.path={dataset}"]).data)
    assert not without.read(sampler.plan(0, 0)).support.given
    both = config_of(dataset).data.model_copy(update={"image_size": 28})
    more = open_tasks(both).bytes_of(sampler.plan(0, 0)) - source.bytes_of(sampler.plan(0, 0))
    assert more == 7 * 4 * (28 * 28 + 2)


# What is packed

values = st.lists(st.tuples(st.text(), st.binary(max_size=40)), min_size=1, max_size=12)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tasks=st.lists(values, min_size=1, max_size=3))
def test_any_values_come_back_from_their_places(tmp_path_factory, monkeypatch, tasks):
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 100)
    url = str(tmp_path_factory.mktemp("any") / "set")
    columns = {"text": pa.string(), "bytes": pa.binary()}
    writer = DatasetWriter(url, ["note"], columns)
    writer.begin()
    for number, images in enumerate(tasks):
        for index, (text, data) in enumerate(images):
            row = {"task": f"t{number}", "split": "train", "width": 1, "height": 1, "note": "n"}
            row |= {"index": index, "image": b"%d" % index, "text": text.encode(), "bytes": data}
            writer.add(row)
    writer.commit({}, {"text": {"name": "text"}, "bytes": {"name": "bits"}})
    store = EpisodeStore(url)
    for task, images in zip(store.tasks("train"), tasks, strict=True):
        read = store.read_columns(task, ["text", "image", "bytes"])
        assert read["text"] == [text.encode() for text, _ in images]
        assert read["bytes"] == [data for _, data in images]
        assert read["image"] == [b"%d" % index for index in range(len(images))]
        last = store.read_columns(task, ["bytes"], [len(images) - 1])
        assert last == {"bytes": [images[-1][1]]}


def test_a_parquet_table_with_lists_gives_the_same_data_set(rows, folder, dataset, tmp_path):
    typed = [row | {"pose": json.loads(row["pose"])} for row in rows]
    pq.write_table(pa.Table.from_pylist(typed), folder / "table.parquet")
    pack(f"{folder}/table.parquet", f"{tmp_path}/set", split=(1, 0, 0), conditions=KINDS)
    shard = "data-00000.parquet"
    assert (tmp_path / "set" / shard).read_bytes() == (dataset / shard).read_bytes()


def test_a_packed_text_is_a_string_to_any_reader_of_parquet(dataset):
    table = pq.read_table(dataset / "data-00000.parquet")
    assert table["caption"].to_pylist()[1] == caption(0, 1)
    pose_of_second = struct.unpack("<2f", table["pose"].to_pylist()[1])
    assert pose_of_second == pytest.approx(pose(0, 1))


def test_without_conditions_the_bytes_are_those_of_a_data_set_that_never_heard_of_them(
    folder, tmp_path
):
    pack(f"{folder}/table.csv", f"{tmp_path}/one")
    pack(f"{folder}/table.csv", f"{tmp_path}/two", conditions={})
    manifest = (tmp_path / "one" / MANIFEST).read_bytes()
    assert manifest == (tmp_path / "two" / MANIFEST).read_bytes()
    schema = pq.read_schema(tmp_path / "one" / MANIFEST)
    assert CONDITIONS_KEY not in schema.metadata
    assert "columns" not in schema.names
    assert not EpisodeStore(f"{tmp_path}/one").conditions


def test_a_value_that_is_none_is_refused_with_its_column_and_the_rest_is_packed(
    rows, folder, tmp_path, caplog
):
    changed = [dict(row) for row in rows]
    changed[0]["pose"] = "fast"
    changed[2]["pose"] = "[1e999, 0]"
    changed[3]["sketch"] = "0-0.bin"
    changed[4]["sketch"] = "../elsewhere.png"
    changed[5]["pose"] = '[true, "1"]'
    summary = pack(
        write_table(folder / "changed.csv", changed), f"{tmp_path}/set", conditions=KINDS
    )
    assert summary.images == TASKS * IMAGES - 5
    assert summary.refused == {
        "column 'pose': not a number or a list of numbers": 2,
        "column 'pose': not finite": 1,
        "column 'sketch': leads out of the source's folder": 1,
        "column 'sketch': unknown format": 1,
    }
    told = caplog.text
    assert "refused 2 files: column 'pose': not a number or a list of numbers ('0-0.png'" in told
    assert "refused '0-3.png': column 'sketch': unknown format" in told


def test_values_of_two_shapes_are_refused_with_both_images(rows, folder, tmp_path):
    changed = [dict(row) for row in rows]
    changed[7]["pose"] = "3"
    sentence = r"column 'pose' has size 1 in '0-7.png' and size 2 in '0-0.png'; give all images val"
    with pytest.raises(UserError, match=sentence):
        pack(write_table(folder / "two.csv", changed), f"{tmp_path}/set", conditions=KINDS)
    assert not (tmp_path / "set").exists()


def test_tasks_that_are_added_have_the_same_conditions(rows, folder, tmp_path):
    def added(name: str, **other: str) -> str:
        return write_table(folder / name, [r | {"task": name} | other for r in rows[:IMAGES]])

    dest = f"{tmp_path}/set"
    pack(f"{folder}/table.csv", dest, conditions=KINDS)
    pack(added("more.csv"), dest, conditions=KINDS)
    assert not check(dest).faults
    with pytest.raises(UserError, match="packed with other options"):
        pack(added("plain.csv"), dest)
    sentence = "column 'pose' has size 1 in '0-0.png' and size 2 in the data set that is there; g"
    with pytest.raises(UserError, match=sentence):
        pack(added("other.csv", pose="7"), dest, conditions=KINDS)
    assert not check(dest).faults


@pytest.mark.parametrize(
    ("kinds", "sentence"),
    [
        ({"captoin": "text"}, r"--condition captoin: .*no such column.* did you mean 'caption'\?"),
        (
            {"caption": "txet"},
            r"names no kind; .* vector, image, audio, bits; did you mean 'text'",
        ),
        ({"path": "text"}, "--condition path: .*no such column"),
    ],
)
def test_a_column_or_kind_that_is_not_there_is_named(folder, tmp_path, kinds, sentence):
    with pytest.raises(UserError, match=sentence):
        pack(f"{folder}/table.csv", f"{tmp_path}/set", conditions=kinds)
    assert not (tmp_path / "set").exists()


def test_a_source_without_files_has_none_to_read(tmp_path):
    with pytest.raises(UserError, match="glyphs has no files to read; pack a"):
        pack("glyphs", f"{tmp_path}/set", conditions={"source": "image"})


def test_the_command_packs_and_checks_conditions(folder, tmp_path, capsys):
    table, dest = f"{folder}/table.csv", f"{tmp_path}/set"
    conditions = ["--condition", "caption", "--condition", "pose=vector"]
    assert run("metatrain", COMMANDS, ["pack", table, dest, *conditions]) == 0
    assert run("metatrain", COMMANDS, ["data", "check", dest]) == 0
    told = capsys.readouterr().out
    assert (
        "  condition caption: text; 6 images without\n  condition pose: vector (size 2)\n" in told
    )


# What is checked


def test_a_value_that_cannot_be_decoded_is_a_fault_and_stops_a_run(tmp_path):
    writer = DatasetWriter(f"{tmp_path}/set", (), {"pose": pa.binary()})
    writer.begin()
    buffer = io.BytesIO()
    Image.new("L", (9, 9)).save(buffer, "PNG")
    row = {"task": "t", "split": "train", "width": 9, "height": 9, "image": buffer.getvalue()}
    for index, value in enumerate([b"\0" * 8, b"\0" * 4]):
        writer.add({**row, "index": index, "pose": value})
    writer.commit({}, {"pose": {"name": "vector", "size": 2}})
    (fault,) = check(f"{tmp_path}/set").faults
    assert "image 1 of task 't' has a value in column 'pose' that cannot be decoded (1 num" in fault
    pose = "data.conditions.pose={name: vector, size: 2}"
    sizes = ["data.image_size=9", "data.shots=1", "data.queries=1"]
    source = open_tasks(load_config(None, [f"data.path={tmp_path}/set", *sizes, pose]).data)
    sentence = r"task 't' in .*set has a value in column 'pose' .*\(1 numbers in place of 2\); pack"
    with pytest.raises(UserError, match=sentence):
        source.read(source.sampler("train", seed=0, meta_batch=1).plan(0, 0))


def test_a_kind_that_is_not_installed_is_told(tmp_path):
    writer = DatasetWriter(f"{tmp_path}/set", (), {"smell": pa.binary()})
    writer.begin()
    row = {"task": "t", "split": "train", "width": 9, "height": 9, "image": b"x", "index": 0}
    writer.add({**row, "smell": b"x"})
    writer.commit({}, {"smell": {"name": "smell"}})
    with pytest.raises(UserError, match=r"has the condition 'smell' of kind smell, .*; install"):
        check(f"{tmp_path}/set")


def forged(dataset: Path, dest: Path, **columns) -> str:
    """The data set with some of its manifest replaced."""
    dest.mkdir()
    (dest / "data-00000.parquet").symlink_to(dataset / "data-00000.parquet")
    table = pq.read_table(dataset / MANIFEST)
    for name, values_ in columns.items():
        at = table.column_names.index(name)
        field = table.schema.field(name)
        table = table.set_column(at, field, pa.array(values_, field.type))
    pq.write_table(table, dest / MANIFEST)
    return str(dest)


def places(dataset: Path) -> Iterator[list[tuple[str, int]]]:
    yield from (row["columns"] for row in pq.read_table(dataset / MANIFEST).to_pylist())


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda name, at: (name, -1), "a column outside of its range"),
        (lambda name, at: (name, 10**12), "a column outside of its range"),
        (lambda name, at: (name + "s", at), "other columns than the data set"),
    ],
)
def test_a_manifest_with_impossible_columns_is_refused(dataset, tmp_path, change, sentence):
    columns = [[change(*pair) for pair in row] for row in places(dataset)]
    with pytest.raises(UserError, match=sentence):
        EpisodeStore(forged(dataset, tmp_path / "forged", columns=columns))


def test_values_that_lie_elsewhere_are_a_fault(dataset, tmp_path):
    columns = [[(name, dict(row)["pose"]) for name, _ in row] for row in places(dataset)]
    faults = check(forged(dataset, tmp_path / "forged", columns=columns)).faults
    assert len(faults) >= 3 * TASKS
    assert any("other values of column 'caption' than the manifest" in fault for fault in faults)


# What is configured


@pytest.mark.parametrize(
    ("conditions", "sentence"),
    [
        ("{captoin: text}", r"data.conditions.captoin names .*manifest.parquet, which has caption, "
         r"pose, sketch, tone; did you mean 'caption'\?"),
        ("{depth: image}", r"; pack the data with --condition depth=image, or leave data.condit"),
        ("{caption: image}", r"data.conditions.caption.name is image, and column 'caption' in .*"
         r"manifest.parquet was packed with name text; set data.conditions.caption.name=text"),
        ("{pose: {name: vector, size: 3}}", r"data.conditions.pose.size is 3, and column 'pose' in "
         r".*manifest.parquet was packed with size 2; set data.conditions.pose.size=2"),
    ],
)  # fmt: skip
def test_what_the_data_does_not_have_is_told_when_it_is_opened(dataset, conditions, sentence):
    config = load_config(None, [f"data.path={dataset}", f"data.conditions={conditions}"])
    with pytest.raises(UserError, match=sentence):
        open_tasks(config.data)


def test_data_without_conditions_names_none(packed):
    config = load_config(None, [f"data.path={packed}", "data.conditions.caption=text"])
    with pytest.raises(UserError, match=r"which has none; pack the data with --condition caption="):
        open_tasks(config.data)


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.conditions.caption=txt", 'conditions.caption.name is "txt"; allowed is text, vec'),
        ("data.conditions.caption=3", "data.conditions.caption is 3; write data.conditions.cap"),
        ("data.conditions.pose={name: vector, siz: 2}", "did you mean 'data.conditions.pose.size'"),
        ("data.conditions.pose={name: vector, size: 0}", "data.conditions.pose.size is 0; allowed"),
        ("data.conditions=text", "data.conditions is"),
        ("data.condition.pose=text", "there is no key 'data.condition'; did you mean 'data.condit"),
    ],
)
def test_a_condition_that_cannot_be_is_a_sentence(override, sentence):
    with pytest.raises(UserError) as error:
        load_config(None, [override])
    assert sentence in str(error.value)


def test_conditions_are_stored_and_printed_with_the_configuration(dataset, tmp_path):
    config = config_of(dataset)
    assert parse_config(json.loads(config.model_dump_json())) == config
    (tmp_path / "printed.yaml").write_text(to_yaml(config))
    assert load_config(f"{tmp_path}/printed.yaml") == config
