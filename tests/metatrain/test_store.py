"""What the store hands out is exactly what was packed, at one ranged read a row group."""

import io
import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.packed.manifest import MANIFEST, MANIFEST_SCHEMA, manifest_schema
from metatrain.data.packed.parquet_headers import unpacked
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.storage import files, retry
from metatrain.storage.local_disk import read_part
from metatrain.training.problems import problems_of, refuse

TASKS, IMAGES = 8, 5
SHARD = "data-00000.parquet"
MANY = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch):
    monkeypatch.setattr(retry, "_FIRST_WAIT", 0.0)


def noise(seed: int, side: int = 12) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("source")
    for task in range(TASKS):
        (root / f"task {task}").mkdir()
        for image in range(IMAGES):
            (root / f"task {task}" / f"{image}.png").write_bytes(noise(100 * task + image))
    return root


@pytest.fixture(scope="module")
def pristine(source, tmp_path_factory) -> Path:
    dest = tmp_path_factory.mktemp("pristine") / "set"
    pack(str(source), str(dest))
    return dest


@pytest.fixture
def dataset(pristine, tmp_path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(pristine, tmp_path / "set"))


def everything(url: Path) -> dict[str, list[bytes]]:
    store = EpisodeStore(str(url))
    return {
        task.name: store.read(task)
        for split in ("train", "val", "test")
        for task in store.tasks(split)
    }


def rewrite_manifest(dataset: Path, **columns) -> None:
    table = pq.read_table(dataset / MANIFEST)
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values, table.schema.field(name).type))
    pq.write_table(table, dataset / MANIFEST)


def test_reading_gives_the_packed_bytes_in_order(source, pristine):
    assert everything(pristine) == {
        folder.name: [(folder / f"{i}.png").read_bytes() for i in range(IMAGES)]
        for folder in source.iterdir()
    }


def test_tasks_are_sorted_counted_and_in_one_split_each(pristine):
    store = EpisodeStore(str(pristine))
    splits = {split: store.tasks(split) for split in ("train", "val", "test")}
    names = [task.name for tasks in splits.values() for task in tasks]
    assert len(names) == len(set(names)) == TASKS
    for split, tasks in splits.items():
        assert [task.name for task in tasks] == sorted(task.name for task in tasks)
        assert all((task.split, task.count) == (split, IMAGES) for task in tasks)


def test_a_task_costs_one_ranged_read_and_no_footer(pristine, monkeypatch):
    store = EpisodeStore(str(pristine))
    task = store.tasks("train")[1]
    reads = []

    def counted_read(path, start=None, end=None):
        reads.append((start, end))
        return read_part(path, start, end)

    monkeypatch.setattr(files, "read_part", counted_read)
    store.read(task)
    ((start, end),) = reads
    rows = pq.read_table(pristine / MANIFEST).to_pylist()
    (row,) = (row for row in rows if row["task"] == task.name)
    assert (start, end - start) == (row["offset"], row["length"])


def test_threads_may_share_a_store(pristine):
    store = EpisodeStore(str(pristine))
    tasks = store.tasks("train") * 20
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(store.read, tasks))
    assert together == [everything(pristine)[task.name] for task in tasks]


@given(data=st.data())
@MANY
def test_one_flipped_bit_in_any_row_group_is_detected(pristine, dataset, data):
    original = (pristine / SHARD).read_bytes()
    # Around them stand Parquet's magic number and its footer, which nothing here reads.
    end = max(group.end for group in EpisodeStore(str(pristine)).row_groups)
    at = data.draw(st.integers(4, end - 1), label="byte")
    damaged = bytearray(original)
    damaged[at] ^= 1 << data.draw(st.integers(0, 7), label="bit")
    (dataset / SHARD).write_bytes(damaged)
    with pytest.raises(UserError, match=rf"{SHARD} is damaged: bytes \d+ to .*again\.$"):
        everything(dataset)


@given(data=st.data())
@MANY
def test_a_damaged_manifest_never_yields_other_images(pristine, dataset, data):
    damaged = bytearray((pristine / MANIFEST).read_bytes())
    for _ in range(data.draw(st.integers(1, 3), label="flips")):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] ^= data.draw(st.integers(1, 255))
    cut = data.draw(st.sampled_from([len(damaged), len(damaged) // 2, 0]), label="cut")
    (dataset / MANIFEST).write_bytes(damaged[:cut])
    try:
        result = everything(dataset)
    except UserError:
        return
    packed = everything(pristine)
    assert all(images == packed[name] for name, images in result.items())


def test_a_read_that_was_garbled_once_is_repeated(pristine, monkeypatch):
    reads = []

    def flaky(path, start=None, end=None):
        data = read_part(path, start, end)
        reads.append(path)
        return data[:-1] if len(reads) == 1 else data

    store = EpisodeStore(str(pristine))
    packed = everything(pristine)
    monkeypatch.setattr(files, "read_part", flaky)
    task = store.tasks("train")[0]
    assert store.read(task) == packed[task.name]


@pytest.mark.parametrize(
    "name", ["../secret.parquet", "/etc/passwd", "a/b.parquet", "..", "", ".hidden", "a\\b", "a\0b"]
)
def test_a_manifest_cannot_lead_out_of_its_folder(dataset, name):
    shutil.copy(dataset / SHARD, dataset.parent / "secret.parquet")
    rewrite_manifest(dataset, file=[name] * TASKS)
    with pytest.raises(UserError, match="is not the plain name of a file"):
        EpisodeStore(str(dataset))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("offset", -1),
        ("length", 0),
        ("count", 0),
        ("count", 2**31 - 1),
        ("row_group", -1),
        ("images", 0),
        ("sha256", "../secret"),
        ("split", "training"),
        ("task", None),
    ],
)
def test_a_manifest_that_cannot_be_is_refused_in_a_sentence(dataset, column, value):
    rewrite_manifest(dataset, **{column: [value] * TASKS})
    with pytest.raises(UserError, match=r"manifest\.parquet is malformed \(.*\); .* again\.$"):
        EpisodeStore(str(dataset))


def test_claims_beyond_all_memory_are_refused_before_they_are_believed(dataset):
    rewrite_manifest(dataset, count=[2**24 + 1] * TASKS, length=[2**40] * TASKS)
    with pytest.raises(UserError, match="has more than 16,777,216 images"):
        EpisodeStore(str(dataset))
    table = pq.read_table(dataset / MANIFEST)
    many = pa.table(
        {name: pa.repeat(table[name][0], 3_000_000) for name in table.column_names},
        schema=table.schema,
    )
    pq.write_table(many, dataset / MANIFEST, compression="zstd")
    assert (dataset / MANIFEST).stat().st_size < 1_000_000
    before = pa.total_allocated_bytes()
    with pytest.raises(UserError, match="3,000,000 rows are too many"):
        EpisodeStore(str(dataset))
    assert pa.total_allocated_bytes() - before < 10_000_000


def test_a_text_that_is_there_once_and_stands_in_all_rows_is_refused(dataset):
    rewrite_manifest(dataset, task=["x" * 100_000] * TASKS)
    many = pa.concat_tables([pq.read_table(dataset / MANIFEST)] * 15)
    pq.write_table(many, dataset / MANIFEST, compression="zstd")
    assert (dataset / MANIFEST).stat().st_size < 10_000, "and 30 MB once each row has its own"
    with pytest.raises(UserError, match="column task has a text of 100,000 bytes"):
        EpisodeStore(str(dataset))


def test_images_of_one_source_may_be_very_many(dataset):
    table, count = pq.read_table(dataset / MANIFEST), 100_000
    columns = {name: [table[name][0].as_py()] * 8 for name in MANIFEST_SCHEMA.names}
    columns |= {"count": [count] * 8, "length": [2**40] * 8}
    columns["task"] = [f"film-{i}" for i in range(8)]
    schema = manifest_schema(sources=True, columns=False).with_metadata(table.schema.metadata)
    many = pa.table(columns | {"sources": [[0] * count] * 8}, schema=schema)
    pq.write_table(many, dataset / MANIFEST)
    assert (dataset / MANIFEST).stat().st_size < count // 10
    assert {len(group.sources) for group in EpisodeStore(str(dataset)).row_groups} == {count}


def test_a_range_or_count_that_the_shard_does_not_confirm_is_refused(dataset):
    rewrite_manifest(dataset, count=[IMAGES + 1] * TASKS)
    with pytest.raises(UserError, match="values in place of"):
        everything(dataset)


def test_a_parquet_file_that_is_no_manifest_is_refused(tmp_path):
    pq.write_table(pa.table({"task": ["a"]}), tmp_path / MANIFEST)
    with pytest.raises(UserError, match="is malformed"):
        EpisodeStore(str(tmp_path))


def test_what_is_missing_is_named(dataset, tmp_path):
    with pytest.raises(UserError, match=r"there is nothing at .*nowhere"):
        EpisodeStore(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="pack it first"):
        EpisodeStore(str(tmp_path))
    with pytest.raises(UserError, match="cannot reach nosuch://bucket/set"):
        EpisodeStore("nosuch://bucket/set")
    (dataset / SHARD).unlink()
    with pytest.raises(UserError, match=f"{SHARD} is missing"):
        everything(dataset)


def test_images_that_would_be_enlarged_are_refused_with_both_sizes(pristine, tmp_path):
    store = EpisodeStore(str(pristine))
    packed = store.shape()[0]
    store.refuse_enlarging(packed)
    with pytest.raises(UserError, match=f"of {packed} pixels, and {packed + 1} are asked for"):
        store.refuse_enlarging(packed + 1)
    config = load_config(
        None, [f"run.dir={tmp_path}", f"data.path={pristine}", f"data.image_size={packed + 1}"]
    )
    with pytest.raises(UserError, match="--size"):
        refuse(problems_of(config))
    assert not list(tmp_path.iterdir())


def test_an_unknown_split_is_named(pristine):
    with pytest.raises(UserError, match="there is no split 'training'"):
        EpisodeStore(str(pristine)).tasks("training")


def test_the_fingerprint_is_the_manifests_and_follows_the_data(pristine, source, tmp_path):
    store = EpisodeStore(str(pristine))
    assert store.fingerprint == EpisodeStore(f"file://{pristine}").fingerprint
    pack(str(source), str(tmp_path / "other"), seed=1)
    assert store.fingerprint != EpisodeStore(str(tmp_path / "other")).fingerprint


def test_the_manifest_holds_the_footers_hashes(pristine):
    footers = json.loads(pq.read_schema(pristine / MANIFEST).metadata[b"metatrain.footers"])
    assert list(footers) == [SHARD]


@given(rows=st.integers(1, 60), size=st.integers(1, 9), codec=st.sampled_from(["snappy", "none"]))
@settings(max_examples=20)
def test_what_a_file_unpacks_to_is_what_pyarrow_says_of_an_honest_one(rows, size, codec):
    texts = [f"task-{i % 7}" for i in range(rows)]
    lists = [[i] * (i % size) for i in range(rows)]
    table, buffer = pa.table({"text": texts, "list": lists, "number": range(rows)}), io.BytesIO()
    pq.write_table(table, buffer, compression=codec, row_group_size=20)
    result, footer = unpacked(buffer.getvalue()), pq.read_metadata(buffer)
    groups = [footer.row_group(i) for i in range(footer.num_row_groups)]
    chunks = [group.column(i) for group in groups for i in range(group.num_columns)]
    assert (result.rows, result.values) == (rows, sum(chunk.num_values for chunk in chunks))
    # pyarrow counts the headers of pages too.
    whole = sum(chunk.total_uncompressed_size for chunk in chunks)
    assert whole - 60 * len(chunks) * 2 < result.bytes <= whole


def varint(number: int) -> bytes:
    """A number above 0 as Thrift writes it."""
    digits = [(2 * number) >> shift & 127 for shift in range(0, (2 * number).bit_length(), 7)]
    return bytes([*(digit | 128 for digit in digits[:-1]), digits[-1]])


def test_the_size_of_pages_is_taken_from_the_pages_and_not_from_the_footer(dataset):
    table = pq.read_table(dataset / MANIFEST)
    wide = table.set_column(0, table.schema.field(0), [["x" * 2_000_000] * TASKS])
    pq.write_table(wide, dataset / MANIFEST, compression="zstd")
    data = (dataset / MANIFEST).read_bytes()
    size = pq.read_metadata(io.BytesIO(data)).row_group(0).column(0).total_uncompressed_size
    assert len(varint(size)) == len(varint(1_100_000))
    body, claim, footer = data.rpartition(varint(size))
    assert claim
    lying = body + varint(1_100_000) + footer
    column = pq.read_metadata(io.BytesIO(lying)).row_group(0).column(0)
    assert 1_100_000 in (column.total_uncompressed_size, size)
    assert unpacked(lying).bytes == unpacked(data).bytes > 2_000_000
    (dataset / MANIFEST).write_bytes(lying)
    with pytest.raises(UserError, match="claim to hold 2,0"):
        EpisodeStore(str(dataset))


def test_an_encoding_by_which_a_few_bytes_stand_for_many_is_refused(dataset):
    table = pq.read_table(dataset / MANIFEST)
    encoding = {"task": "DELTA_BYTE_ARRAY"}
    pq.write_table(table, dataset / MANIFEST, use_dictionary=False, column_encoding=encoding)
    with pytest.raises(UserError, match="an encoding by which a few bytes may stand for many"):
        EpisodeStore(str(dataset))
