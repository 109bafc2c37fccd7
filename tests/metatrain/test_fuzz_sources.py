"""Mutated archives and tables to pack: a data set or a sentence, soon, in little memory."""

import csv
import io
import json
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fuzzing import FEWER, TIMEOUT, altered, bounds, damaged, outcome
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.check import check
from metatrain.data.images import BadImage
from metatrain.data.packed.manifest import FOOTERS_KEY, MANIFEST, manifest_schema
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import (
    IMAGE_SCHEMA,
    DatasetWriter,
    _column_end,
    _extent,
    sha256_of,
)
from metatrain.data.packing.containers import open_container
from metatrain.data.packing.pack import pack
from metatrain.data.packing.sources import open_source
from metatrain.data.packing.sources.listing import Options

pytestmark = TIMEOUT


def png(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


FILES = {f"task-{n % 2}/{n}.png": png(40 * n) for n in range(4)}
SAMPLES = {f"{n}.{end}": data for n in range(3) for end, data in (("png", png(n)), ("cls", b"1"))}
SAMPLES |= {f"{n}.json": json.dumps({"label": "a", "n": n}).encode() for n in range(3)}
ROWS = [{"path": name, "task": name[:6], "split": "train", "by": "me"} for name in FILES]


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in FILES.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(mode: str = "w", files: dict[str, bytes] = FILES) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # pyright: ignore[reportCallIssue, reportArgumentType]
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def npz() -> bytes:
    buffer = io.BytesIO()
    images = np.arange(4 * 64, dtype=np.uint8).reshape(4, 8, 8)
    np.savez(buffer, train_images=images, train_labels=np.array([0, 0, 1, 1]))
    return buffer.getvalue()


def comma_separated() -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(ROWS[0]))
    writer.writeheader()
    writer.writerows(ROWS)
    return text.getvalue().encode()


def parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer)
    return buffer.getvalue()


def with_images() -> pa.Table:
    images = [{"bytes": data, "path": name} for name, data in FILES.items()]
    return pa.table({"image": images, "label": [0, 0, 1, 1], "split": ["train"] * 4})


WHOLE: dict[str, Callable[[], bytes]] = {
    "a.zip": zipped,
    "a.tar": tarred,
    "a.tar.gz": lambda: tarred("w:gz"),
    "samples.tar": lambda: tarred(files=SAMPLES),
    "a.npz": npz,
    "a.csv": comma_separated,
    "a.jsonl": lambda: b"\n".join(json.dumps(row).encode() for row in ROWS),
    "a.parquet": lambda: parquet(pa.Table.from_pylist(ROWS)),
    "images.parquet": lambda: parquet(with_images()),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the images that tables name."""
    root = tmp_path_factory.mktemp("fuzz")
    for name, data in FILES.items():
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(data)
    return root


def read_all(path: str) -> None:
    """List a source and read all that it lists, as packing does."""
    for image in open_source(path, Options(size=8)).images:
        try:
            assert image.task.isprintable() or image.task
            image.read()
        except BadImage as error:
            assert str(error)


@pytest.mark.parametrize("name", WHOLE)
@given(data=st.data())
@FEWER
def test_a_source(folder, name, data):
    (folder / name).write_bytes(data.draw(damaged(WHOLE[name]())))
    outcome(lambda: read_all(f"{folder}/{name}"))


@given(data=st.data())
@FEWER
def test_the_rows_of_a_table(folder, data):
    rows = data.draw(altered(ROWS))
    rows = rows if isinstance(rows, list) else [rows]
    name = data.draw(st.sampled_from(["rows.jsonl", "rows.csv"]))
    if name.endswith(".jsonl"):
        content = "\n".join(map(json.dumps, rows)).encode()
    else:
        text = io.StringIO()
        writer = csv.writer(text)
        writer.writerow(["path", "task", "split", "by"])
        writer.writerows([[*row.values()] if isinstance(row, dict) else [row] for row in rows])
        content = text.getvalue().encode(errors="surrogatepass")
    (folder / name).write_bytes(content)
    outcome(lambda: read_all(f"{folder}/{name}"))


@given(data=st.data())
@FEWER
def test_the_names_within_an_archive(folder, data):
    texts = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)
    names = data.draw(
        st.lists(
            st.one_of(texts, st.sampled_from(["/etc/passwd", "../x.png", "a/../../x.png", "a//b"])),
            min_size=1,
            max_size=6,
        )
    )
    (folder / "names.tar").write_bytes(tarred(files={name: png(9) for name in names}))

    def read() -> None:
        container = open_container(f"{folder}/names.tar")
        for name in [*container.sizes, *names]:
            try:
                assert container.read(name) == png(9)
            except BadImage as error:
                assert not str(error).startswith("root:")

    outcome(read)


def sparse(rows: int, columns: int) -> dict[str, bytes]:
    """Tables of little more than their header that hold `rows` times `columns` values."""
    keys = [f"k{n}" for n in range(columns)]
    header = ",".join(["path", "task", *keys])
    lines = [json.dumps({"path": "x", "task": "t", f"k{n}": 1}) for n in range(rows)]
    json_files = {f"{n}.json": b'{"label": 1, "k%d": 1}' % n for n in range(rows)}
    return {
        "sparse.csv": f"{header}\n{'x,t' + chr(10)}".encode() + b"x,t\n" * rows,
        "sparse.jsonl": "\n".join(lines).encode(),
        "sparse.tar": tarred(files=json_files | {f"{n}.png": b"" for n in range(rows)}),
    }


@pytest.mark.parametrize("name", ["sparse.csv", "sparse.jsonl", "sparse.tar"])
def test_a_table_that_is_nearly_empty_takes_no_more_memory_than_it_has_bytes(folder, name):
    (folder / name).write_bytes(sparse(2000, 2000)[name])
    with bounds(), pytest.raises(UserError, match="are empty in nearly all of its rows"):
        read_all(f"{folder}/{name}")


@pytest.mark.parametrize("label", [[1, 2], {"a": 1}, None, 2.5, b"x"])
def test_labels_of_any_type_are_texts(folder, label):
    table = with_images().set_column(1, "label", pa.array([label] * 4))
    (folder / "labels.parquet").write_bytes(parquet(table))
    outcome(lambda: read_all(f"{folder}/labels.parquet"))


def test_splits_of_any_type_are_texts(folder):
    table = with_images().set_column(2, "split", pa.array([3] * 4))
    (folder / "splits.parquet").write_bytes(parquet(table))
    with pytest.raises(UserError, match=r"'3' of .* must be one of train, val, test"):
        read_all(f"{folder}/splits.parquet")


@pytest.mark.parametrize("name", ["a\x00.png", "\x00"])
def test_a_name_that_no_file_has_is_refused(folder, name):
    rows = [{"path": name, "task": "t"}, {"path": next(iter(FILES)), "task": "t"}]
    (folder / "names.jsonl").write_text("\n".join(map(json.dumps, rows)))
    outcome(lambda: read_all(f"{folder}/names.jsonl"))


def bombs() -> dict[str, bytes]:
    """Parquet files of some kilobytes whose rows would take all memory."""
    long = pa.DictionaryArray.from_arrays(pa.array([0] * 40), pa.array([b"x" * 10**8]))
    plain = pa.array([b"x" * 10**6] * 100)
    tables = {
        "dictionary": (pa.table({"image": long, "label": ["a"] * 40}), {}),
        "plain": (pa.table({"image": plain, "label": ["a"] * 100}), {"use_dictionary": False}),
        "prefix": (
            pa.table({"image": plain, "label": ["a"] * 100}),
            {"use_dictionary": False, "column_encoding": {"image": "DELTA_BYTE_ARRAY"}},
        ),
    }
    buffers = {name: io.BytesIO() for name in tables}
    for name, (table, options) in tables.items():
        pq.write_table(
            table, buffers[name], compression="zstd", dictionary_pagesize_limit=2**30, **options
        )
    return {name: buffer.getvalue() for name, buffer in buffers.items()}


def test_parquet_that_unpacks_to_far_more_than_it_has_is_refused_unread(folder):
    for name, data in bombs().items():
        assert len(data) < 200_000
        path = folder / f"{name}.parquet"
        path.write_bytes(data)
        reason = r"claim to hold|a dictionary of|stand for many"
        with bounds(), pytest.raises(UserError, match=reason):
            read_all(str(path))


def bomb(folder: Path, metadata: Mapping[bytes, bytes] | None = None) -> str:
    """A data set of hand, in whose shard each row has a text of 30 MB, of one dictionary."""
    image, by = png(9), pa.DictionaryArray.from_arrays([0, 0, 0], ["x" * 3 * 10**7])
    columns = {"task": ["a"] * 3, "index": [0, 1, 2], "image": [image] * 3, "width": [8] * 3}
    columns |= {"height": [8] * 3, "split": ["train"] * 3, "by": by}
    pq.write_table(
        pa.table(columns, pa.schema([*IMAGE_SCHEMA, ("by", by.type)])),
        folder / "data-00000.parquet",
        compression={"by": "zstd"} | dict.fromkeys(IMAGE_SCHEMA.names, "none"),
        use_dictionary=["by"],
        dictionary_pagesize_limit=2**30,
    )
    data = (folder / "data-00000.parquet").read_bytes()
    group = pq.read_metadata(io.BytesIO(data)).row_group(0)
    offset, length = _extent(group)
    row = {"task": "a", "split": "train", "file": "data-00000.parquet", "row_group": 0}
    row |= {"offset": offset, "length": length, "count": 3}
    row |= {"images": _column_end(group, "image") - 3 * (4 + len(image))}
    row |= {"sha256": sha256_of(data[offset : offset + length])}
    footers = json.dumps({"data-00000.parquet": sha256_of(data[offset + length :])})
    schema = manifest_schema(sources=False, columns=False)
    schema = schema.with_metadata({**(metadata or {}), FOOTERS_KEY: footers.encode()})
    pq.write_table(pa.Table.from_pylist([row], schema), folder / MANIFEST)
    return str(folder)


def test_a_shard_that_unpacks_to_far_more_than_it_has_is_a_fault_and_not_read(tmp_path):
    bomb(tmp_path)
    with bounds():
        [fault] = check(str(tmp_path)).faults
    assert "it has a dictionary of 30,000,004 bytes" in fault
    assert EpisodeStore(str(tmp_path)).tasks("train")[0].count == 3


def test_a_data_set_that_is_added_to_is_read_within_bounds(tmp_path):
    images, dest = tmp_path / "images", tmp_path / "set"
    (images / "a").mkdir(parents=True)
    (images / "a" / "0.png").write_bytes(png(1))
    pack(images, dest)
    metadata = pq.read_schema(dest / MANIFEST).metadata
    (images / "a" / "1.png").write_bytes(png(2))
    bomb(dest, metadata)
    with bounds(), pytest.raises(UserError, match="it has a dictionary of 30,000,004 bytes"):
        pack(images, dest, grow=True)


def test_a_packed_image_that_cannot_be_decoded_is_named_when_its_task_grows(tmp_path):
    images, dest = tmp_path / "images", tmp_path / "set"
    (images / "a").mkdir(parents=True)
    (images / "a" / "0.png").write_bytes(png(1))
    pack(images, dest)
    shard = dest / "data-00000.parquet"
    rows = pq.read_table(shard).to_pylist()
    note = json.loads(pq.read_schema(dest / MANIFEST).metadata[b"metatrain.pack"])
    for path in (shard, dest / MANIFEST):
        path.unlink()
    writer = DatasetWriter(str(dest), ())
    writer.begin()
    for row in rows:
        writer.add({**row, "image": b"rubbish"})
    writer.commit(note)
    (images / "a" / "1.png").write_bytes(png(2))
    with pytest.raises(UserError, match=r"image 0 of task .a., .* cannot be decoded"):
        pack(images, dest, grow=True)
