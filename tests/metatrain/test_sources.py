"""Every kind of source that packing reads, by a real file of that kind; hostile ones refused."""

import bz2
import gzip
import io
import json
import lzma
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import repeat
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from metatrain.api import pack as pack_in_python
from metatrain.base.errors import UserError
from metatrain.data.config import DataConfig
from metatrain.data.images import to_array
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing import spool
from metatrain.data.packing.containers import container
from metatrain.data.packing.pack import pack
from metatrain.model.support import as_support

TASKS, IMAGES, SIDE = ("cat", "dog", "owl"), 3, 24
SPLITS = ("train", "val", "test")


def pixels(task: str, number: int) -> np.ndarray:
    seed = 100 * TASKS.index(task) + number
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)


def png(task: str, number: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels(task, number)).save(buffer, "PNG")
    return buffer.getvalue()


EXAMPLES = [(task, number) for task in TASKS for number in range(IMAGES)]


def write(root: Path) -> Path:
    for task, number in EXAMPLES:
        (root / task).mkdir(parents=True, exist_ok=True)
        (root / task / f"{number}.png").write_bytes(png(task, number))
    return root


def packed(source: object, tmp_path: Path, **options: object) -> dict[str, np.ndarray]:
    """Pack `source`, and return the images of each task."""
    pack(source if not isinstance(source, Path) else str(source), f"{tmp_path}/set", **options)
    store = EpisodeStore(f"{tmp_path}/set")
    return {
        task.name: np.stack([to_array(image, SIDE, 3) for image in store.read(task)])
        for split in SPLITS
        for task in store.tasks(split)
    }


def expect(tasks: dict[str, np.ndarray], names: dict[str, str] | None = None) -> None:
    """Compare with all the examples."""
    assert sorted(tasks) == sorted((names or {}).get(task, task) for task in TASKS)
    for task in TASKS:
        images = np.stack([pixels(task, i).transpose(2, 0, 1) for i in range(IMAGES)])
        assert (tasks[(names or {}).get(task, task)] == images).all()


# Archives


def test_a_zip_is_the_folder_that_it_holds(tmp_path):
    folder = write(tmp_path / "photos")
    with zipfile.ZipFile(tmp_path / "photos.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, file.relative_to(tmp_path))
        archive.writestr("__MACOSX/photos/cat/._0.png", b"x")
    expect(packed(tmp_path / "photos.zip", tmp_path))


@pytest.mark.parametrize(
    ("ending", "compress"),
    [(".tar", bytes), (".tar.gz", gzip.compress), (".tbz2", bz2.compress), (".TXZ", lzma.compress)],
)
def test_a_tar_is_the_folder_that_it_holds(tmp_path, ending: str, compress: Callable):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(write(tmp_path / "photos"), ".")
    (tmp_path / f"x{ending}").write_bytes(compress(buffer.getvalue()))
    expect(packed(tmp_path / f"x{ending}", tmp_path))


def test_a_folder_of_archives_has_one_for_each_task(tmp_path):
    write(tmp_path / "photos")
    (tmp_path / "archives").mkdir()
    for task in TASKS:
        with tarfile.open(tmp_path / "archives" / f"{task}.tar", "w") as archive:
            archive.add(tmp_path / "photos" / task, ".")
    expect(packed(tmp_path / "archives", tmp_path))


def test_an_archive_may_lie_anywhere(tmp_path):
    import fsspec

    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for task, number in EXAMPLES:
            archive.writestr(f"{task}/{number}.png", png(task, number))
    memory = fsspec.filesystem("memory")
    memory.pipe_file("/archives/x.zip", (tmp_path / "x.zip").read_bytes())
    expect(packed("memory://archives/x.zip", tmp_path))
    rows = ["path,task", *(f"{task}/{number}.png,{task}" for task, number in EXAMPLES)]
    memory.pipe_file("/t.csv", "\n".join(rows).encode())
    expect(packed("memory://t.csv", tmp_path / "table", root="memory://archives/x.zip"))


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", size: int = 0):
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, size
    return info


def test_a_hostile_tar_reaches_nothing(tmp_path):
    secret = tmp_path / "secret.png"
    secret.write_bytes(png("cat", 0))
    with tarfile.open(tmp_path / "x.tar", "w") as archive:
        for task, number in EXAMPLES:
            data = png(task, number)
            archive.addfile(member(f"{task}/{number}.png", size=len(data)), io.BytesIO(data))
        archive.addfile(member("cat/link.png", tarfile.SYMTYPE, str(secret)))
        archive.addfile(member("cat/hard.png", tarfile.LNKTYPE, "../secret.png"))
        archive.addfile(member("cat/pipe.png", tarfile.FIFOTYPE))
        archive.addfile(member("cat/disk.png", tarfile.CHRTYPE))
        archive.addfile(member("../secret.png", size=0))
        archive.addfile(member("/etc/x.png", size=0))
        archive.addfile(member("cat/../../secret.png", size=0))
    summary = pack(f"{tmp_path}/x.tar", f"{tmp_path}/set")
    assert summary.images == len(EXAMPLES)
    assert summary.refused == {"not a file": 4, "leads out of the source's folder": 3}
    assert not (tmp_path.parent / "secret.png").exists()


def test_a_hostile_zip_reaches_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(container, "MAX_FILE_BYTES", 10_000_000)
    monkeypatch.setattr(container, "_SMALL_BYTES", 1_000_000)
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for task, number in EXAMPLES:
            archive.writestr(f"{task}/{number}.png", png(task, number))
        archive.writestr("../secret.png", b"x")
        archive.writestr("/etc/x.png", b"x")
        archive.writestr("cat\\..\\..\\x.png", b"x")
        link = zipfile.ZipInfo("cat/link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("cat/bomb.png", bytes(20_000_000))
        archive.writestr("cat/small-bomb.png", bytes(5_000_000))
        archive.writestr("cat/damaged.png", os.urandom(1000))
    data = bytearray((tmp_path / "x.zip").read_bytes())
    # Declared as smaller than it unpacks to.
    for at in range(len(data)):
        if data[at : at + 4] == b"PK\1\2" and data[at + 46 :].startswith(b"cat/damaged.png"):
            data[at + 24 : at + 28] = (500).to_bytes(4, "little")
    (tmp_path / "x.zip").write_bytes(data)
    summary = pack(f"{tmp_path}/x.zip", f"{tmp_path}/set")
    assert summary.images == len(EXAMPLES)
    assert summary.refused == {
        "not a file": 1,
        "leads out of the source's folder": 3,
        "huge": 1,
        "unpacks to far more than images do": 1,
        "corrupt or truncated": 1,
    }


def test_a_bomb_is_refused_before_it_fills_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(spool, "_ALWAYS_ALLOWED", 1_000_000)
    (tmp_path / "x.tar.gz").write_bytes(gzip.compress(bytes(30_000_000)))
    with pytest.raises(UserError, match=r"x\.tar\.gz unpacks to more than .* bytes"):
        pack(f"{tmp_path}/x.tar.gz", f"{tmp_path}/set")


def test_what_has_no_end_leaves_room_on_the_disk(monkeypatch):
    monkeypatch.setattr(spool, "_SHARE_LEFT", 1.0)
    with pytest.raises(UserError, match=r"https://endless\.example/x\.zip has filled .* 5 bytes"):
        spool.Spool("https://endless.example/x.zip").write(repeat(b"bytes"))


@pytest.mark.parametrize("name", ["x.zip", "x.tar", "x.tar.gz", "x.npz", "x.parquet"])
@pytest.mark.parametrize("data", [b"", b"PK\3\4 not really", b"\x1f\x8b\x08", os.urandom(5000)])
def test_a_damaged_archive_is_a_sentence(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=r"x\."):
        pack(f"{tmp_path}/{name}", f"{tmp_path}/set")
    assert not (tmp_path / "set").exists()


# Tables


@pytest.mark.parametrize(("ending", "separator"), [("csv", ";"), ("tsv", "\t"), ("csv", "|")])
def test_a_table_of_any_separator_with_columns_of_any_name(tmp_path, ending, separator):
    write(tmp_path / "elsewhere" / "photos")
    rows = [separator.join((f"photos/{t}/{n}.png", t, "a, b; c")) for t, n in EXAMPLES]
    text = "\n".join([separator.join(("file", "animal", "remark")), *rows])
    (tmp_path / f"t.{ending}").write_text(text.replace("a, b; c", '"a, b; c"'))
    options = {"path_column": "file", "task_column": "animal", "root": f"{tmp_path}/elsewhere"}
    expect(packed(tmp_path / f"t.{ending}", tmp_path, **options))
    table = pq.read_table(tmp_path / "set" / "data-00000.parquet")
    assert set(table["remark"].to_pylist()) == {"a, b; c"}


def test_a_column_that_is_not_there_is_named_with_those_that_are(tmp_path):
    (tmp_path / "t.csv").write_text("file,animal\nx.png,cat\n")
    with pytest.raises(UserError, match=r"no column 'path', only file, animal.* --path-column"):
        pack(f"{tmp_path}/t.csv", f"{tmp_path}/set")
    with pytest.raises(UserError, match=r"no column 'animals', .* did you mean 'animal'"):
        pack(f"{tmp_path}/t.csv", f"{tmp_path}/set", path_column="file", task_column="animals")


def test_the_root_of_a_table_may_be_an_archive(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for task, number in EXAMPLES:
            archive.writestr(f"train/{task}-{number}.png", png(task, number))
    lines = [json.dumps({"path": f"train/{t}-{n}.png", "label": t}) for t, n in EXAMPLES]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    expect(packed(tmp_path / "t.jsonl", tmp_path, root=f"{tmp_path}/x.zip"))


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_two_columns_of_one_name_are_refused(tmp_path, ending):
    if ending == "csv":
        (tmp_path / "t.csv").write_text("path,task,task\nx.png,a,b\n")
    else:
        columns = [pa.array(["x.png"]), pa.array(["a"]), pa.array(["b"])]
        pq.write_table(pa.table(columns, names=["path", "task", "task"]), tmp_path / "t.parquet")
    with pytest.raises(UserError, match="has two columns 'task'; rename or remove one"):
        pack(f"{tmp_path}/t.{ending}", f"{tmp_path}/set")


# Hugging Face


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_an_image_folder_has_its_tasks_in_a_column(tmp_path, ending):
    rows: dict[str, list[dict[str, str]]] = {"train": [], "test": []}
    for task, number in EXAMPLES:
        split = "test" if task == "owl" else "train"
        folder = tmp_path / "data" / split
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{task}-{number}.png").write_bytes(png(task, number))
        rows[split].append({"file_name": f"{task}-{number}.png", "label": task, "text": "x"})
    for split, listed in rows.items():
        if ending == "csv":
            lines = [",".join(row.values()) for row in listed]
            text = "\n".join(["file_name,label,text", *lines])
        else:
            text = "\n".join(json.dumps(row) for row in listed)
        (tmp_path / "data" / split / f"metadata.{ending}").write_text(text)
    expect(packed(tmp_path / "data", tmp_path))
    assert [task.name for task in EpisodeStore(f"{tmp_path}/set").tasks("test")] == ["owl"]
    theirs = datasets.load_dataset(
        "imagefolder", data_dir=f"{tmp_path}/data", cache_dir=f"{tmp_path}/cache"
    )
    assert len(theirs["train"]) == 6


def test_an_image_folder_without_such_a_column_has_its_tasks_in_folders(tmp_path):
    write(tmp_path / "data")
    lines = [f"{task}/{number}.png,a {task}" for task, number in EXAMPLES]
    (tmp_path / "data" / "metadata.csv").write_text("\n".join(["file_name,caption", *lines]))
    expect(packed(tmp_path / "data", tmp_path, conditions={"caption": "text"}))


def hugging_face(tasks: tuple[str, ...] = TASKS) -> datasets.Dataset:
    examples = [(task, number) for task, number in EXAMPLES if task in tasks]
    columns = {
        "image": [{"bytes": png(*e), "path": None} for e in examples],
        "label": [TASKS.index(task) for task, _ in examples],
        "number": [number for _, number in examples],
    }
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=list(TASKS)),
            "number": datasets.Value("int64"),
        }
    )
    return datasets.Dataset.from_dict(columns, features)


def test_parquet_of_hugging_face_has_images_and_names_of_labels(tmp_path):
    hugging_face().to_parquet(f"{tmp_path}/part.parquet")
    expect(packed(tmp_path / "part.parquet", tmp_path))
    table = pq.read_table(tmp_path / "set" / "data-00000.parquet")
    assert set(table["number"].to_pylist()) == {"0", "1", "2"}


def test_a_folder_of_parquet_shards_has_splits_in_their_names(tmp_path):
    (tmp_path / "repo" / "data").mkdir(parents=True)
    for tasks, name in ((TASKS[:2], "train-00000-of-00001"), (TASKS[2:], "validation-0-of-1")):
        hugging_face(tasks).to_parquet(f"{tmp_path}/repo/data/{name}.parquet")
    (tmp_path / "repo" / "README.md").write_text("x")
    expect(packed(tmp_path / "repo", tmp_path))
    assert [task.name for task in EpisodeStore(f"{tmp_path}/set").tasks("val")] == ["owl"]


def test_a_packed_data_set_can_be_packed_again_at_another_size(tmp_path):
    packed(write(tmp_path / "photos"), tmp_path)
    summary = pack(f"{tmp_path}/set", f"{tmp_path}/small", size=8)
    assert summary.images == len(EXAMPLES)
    for split in SPLITS:
        names = [t.name for t in EpisodeStore(f"{tmp_path}/set").tasks(split)]
        assert [t.name for t in EpisodeStore(f"{tmp_path}/small").tasks(split)] == names


def test_a_dataset_in_memory_is_packed(tmp_path):
    expect(packed(hugging_face(), tmp_path))
    splits = datasets.DatasetDict(train=hugging_face(TASKS[:2]), test=hugging_face(TASKS[2:]))
    summary = pack(splits, f"{tmp_path}/splits")
    assert summary.tasks == {"train": 2, "val": 0, "test": 1}


# NumPy


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_archive_of_medmnist_has_labels_as_tasks(tmp_path, save):
    arrays = {}
    for split, tasks in {"train": TASKS[:2], "val": (), "test": TASKS[2:]}.items():
        examples = [(task, number) for task, number in EXAMPLES if task in tasks]
        images = np.array([pixels(*example) for example in examples], dtype=np.uint8)
        arrays[f"{split}_images"] = images.reshape(-1, SIDE, SIDE, 3)
        arrays[f"{split}_labels"] = np.array([[TASKS.index(t)] for t, _ in examples], np.uint8)
    arrays["val_labels"] = arrays["val_labels"].reshape(0, 1)
    save(tmp_path / "medmnist.npz", **arrays)
    expect(packed(tmp_path / "medmnist.npz", tmp_path), {t: str(i) for i, t in enumerate(TASKS)})
    assert [task.name for task in EpisodeStore(f"{tmp_path}/set").tasks("test")] == ["2"]


def test_an_archive_of_keras_is_split_anew_when_asked(tmp_path):
    grey = np.random.default_rng(0).integers(0, 256, (2, 20, SIDE, SIDE), dtype=np.uint8)
    labels = np.arange(20) % 10
    names = {"x_train": grey[0], "y_train": labels, "x_test": grey[1], "y_test": labels}
    np.savez(tmp_path / "mnist.npz", **names)
    with pytest.raises(UserError, match="--ignore-splits"):
        pack(f"{tmp_path}/mnist.npz", f"{tmp_path}/set")
    summary = pack(f"{tmp_path}/mnist.npz", f"{tmp_path}/set", ignore_splits=True)
    assert summary.tasks == {"train": 6, "val": 2, "test": 2}
    assert summary.images == 40


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"images": np.zeros((2, 8, 8), np.uint8)}, "has the arrays images; name them"),
        (
            {"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros((2, 14), np.uint8)},
            r"labels has the shape \[2, 14\]",
        ),
        (
            {"images": np.zeros((2, 8, 8), np.float32), "labels": np.zeros(2, np.uint8)},
            "of float32; images are uint8",
        ),
        (
            {"images": np.array([{}, {}], object), "labels": np.zeros(2, np.uint8)},
            "is no plain array",
        ),
        (
            {"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(3, np.uint8)},
            "2 images and 3 labels",
        ),
    ],
)
def test_other_arrays_are_refused_in_a_sentence(tmp_path, arrays, sentence):
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(UserError, match=sentence):
        pack(f"{tmp_path}/x.npz", f"{tmp_path}/set")


# WebDataset


@pytest.mark.parametrize("label", ["cls", "json"])
def test_shards_of_webdataset_are_packed(tmp_path, label):
    (tmp_path / "shards").mkdir()
    for shard, tasks in enumerate((TASKS[:2], TASKS[2:])):
        path = tmp_path / "shards" / f"{('train', 'test')[shard]}-{shard:04d}.tar"
        with webdataset.TarWriter(str(path)) as sink:
            for task, number in EXAMPLES:
                if task in tasks:
                    value = task if label == "cls" else {"label": task, "source": f"s{number}"}
                    value = value.encode() if label == "cls" else value
                    key = f"{task}{number}"
                    sink.write({"__key__": key, "png": png(task, number), label: value})
    expect(packed(tmp_path / "shards", tmp_path))
    assert [task.name for task in EpisodeStore(f"{tmp_path}/set").tasks("test")] == ["owl"]


# Python


def test_any_iterable_of_tasks_and_images_is_packed(tmp_path):
    write(tmp_path / "photos")

    def examples() -> Iterator[tuple[str, object]]:
        # Not sorted by task, and an image of each type.
        for number in range(IMAGES):
            yield "cat", png("cat", number)
            yield "dog", Image.fromarray(pixels("dog", number))
            yield "owl", pixels("owl", number) if number else tmp_path / "photos/owl/0.png"

    summary = pack_in_python(examples(), tmp_path / "set")
    assert summary.images == len(EXAMPLES)
    expect(packed(examples(), tmp_path / "again"))
    assert pack_in_python(examples(), tmp_path / "set").already_packed


@pytest.mark.parametrize(
    ("examples", "sentence"),
    [
        ([], "there are no images to pack"),
        (["cat"], "item 0 is no pair of a task and an image"),
        ([("cat", 3)], "image 0 of task 'cat' is a int"),
        ([("cat", np.zeros((4, 4, 2), np.uint8))], r"has the shape \[4, 4, 2\] of uint8"),
        (3, "a int is no source"),
        ({"later": []}, "'later' is no split"),
    ],
)
def test_what_is_no_image_is_told(examples, sentence, tmp_path):
    with pytest.raises(UserError, match=sentence):
        pack(examples, f"{tmp_path}/set")


# What is not read


@pytest.mark.parametrize("name", ["x.h5", "x.tfrecord", "x.rar", "folder/x.lmdb"])
def test_what_is_not_read_is_named_with_what_is(tmp_path, name):
    (tmp_path / "folder").mkdir()
    (tmp_path / name).write_bytes(b"x")
    source = tmp_path / name if name.startswith("x") else tmp_path / "folder"
    with pytest.raises(UserError, match=r"no task found in .* What pack reads: a folder.*\.npz"):
        pack(str(source), f"{tmp_path}/set")


# Formats that further packages read


@pytest.mark.parametrize("ending", ["heic", "avif"])
def test_photos_of_phones_are_read_where_their_package_is(tmp_path, ending):
    plugin = pytest.importorskip("pillow_heif")
    plugin.register_heif_opener()
    y, x = np.mgrid[:64, :48]
    picture = Image.fromarray(np.stack([4 * x, 3 * y, x + y], -1).astype(np.uint8))
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    picture.save(tmp_path / "photos" / "cat" / f"0.{ending}", quality=95)
    summary = pack(f"{tmp_path}/photos", f"{tmp_path}/set")
    assert summary.notes == {f"{ending.upper()}: converted": 1}
    store = EpisodeStore(f"{tmp_path}/set")
    image = to_array(store.read(store.tasks("train")[0])[0], 48, 3)
    expected = to_array(_png_of(picture), 48, 3)
    assert np.abs(image.astype(int) - expected).mean() < 4


def _png_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 10 10">{}</svg>'


def test_a_drawing_is_rendered_at_the_size_of_the_data_set(tmp_path):
    pytest.importorskip("resvg_py")
    (tmp_path / "photos" / "box").mkdir(parents=True)
    drawing = SVG.format('<rect x="5" width="5" height="10" fill="red"/>')
    (tmp_path / "photos" / "box" / "0.svg").write_text(drawing)
    summary = pack(f"{tmp_path}/photos", f"{tmp_path}/set", size=32)
    assert summary.notes["SVG: rendered"] == 1
    store = EpisodeStore(f"{tmp_path}/set")
    image = to_array(store.read(store.tasks("train")[0])[0], 32, 3)
    assert (image[:, :, 16:] == np.array([255, 0, 0])[:, None, None]).all()
    assert (image[:, :, :16] == 255).all()


@pytest.mark.parametrize(
    "body",
    [
        '<image href="/etc/passwd" width="9" height="9"/>',
        '<image href="file:///tmp/x.png" width="9" height="9"/>',
        '<g id="a"><use href="#a"/></g>',
        "".join(
            f'<g id="g{i}">{f"<use href={chr(34)}#g{i - 1}{chr(34)}/>" * 10}</g>' for i in range(9)
        )
        + '<use href="#g8"/>',
        "<g",
    ],
)
def test_a_hostile_drawing_is_refused(tmp_path, body):
    pytest.importorskip("resvg_py")
    (tmp_path / "photos" / "box").mkdir(parents=True)
    (tmp_path / "photos" / "box" / "0.svg").write_text(SVG.format(body))
    (tmp_path / "photos" / "box" / "1.png").write_bytes(png("cat", 0))
    summary = pack(f"{tmp_path}/photos", f"{tmp_path}/set", size=32)
    assert summary.refused == {"corrupt or truncated": 1}


# Supports


CONFIG = DataConfig(path="none", image_size=SIDE, channels=3)


@pytest.fixture
def web(tmp_path) -> Iterator[str]:
    """A web server of the test's folder."""
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    handler.log_message = lambda *_: None  # pyright: ignore
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("place", ["{tmp}/a::b", "file://{tmp}/a::b", "{tmp}/x.zip", "{web}/x.zip"])
def test_a_support_is_what_packing_would_take(tmp_path, web, place):
    folder = tmp_path / "a::b"
    (folder / "@eaDir").mkdir(parents=True)
    for number in range(IMAGES):
        (folder / f"{number}.png").write_bytes(png("cat", number))
    for other in ("notes.txt", ".hidden.png", "@eaDir/0.png"):
        (folder / other).write_bytes(b"x")
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"five/{file.relative_to(folder)}")
    support = as_support(place.format(tmp=tmp_path, web=web), CONFIG)
    arrays = [pixels("cat", number) for number in range(IMAGES)]
    assert (support.target == as_support(np.stack(arrays), CONFIG).target).all()


def test_a_support_may_be_one_image_on_the_web(tmp_path, web):
    (tmp_path / "0.png").write_bytes(png("cat", 0))
    support = as_support(f"{web}/0.png?size=large", CONFIG)
    assert (support.target == as_support(pixels("cat", 0), CONFIG).target).all()
    with pytest.raises(UserError, match="there is nothing at"):
        as_support(f"{web}/1.png", CONFIG)


def test_a_folder_with_two_colons_in_its_name_is_that_folder(tmp_path, monkeypatch):
    write(tmp_path / "a::b")
    monkeypatch.chdir(tmp_path)
    expect(packed("a::b", tmp_path))
    pack("a::b", "c::d")
    assert (tmp_path / "c::d" / "manifest.parquet").exists()
