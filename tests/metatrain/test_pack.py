"""Packing keeps every good image, accounts for every other, and leaves whole data sets only."""

import csv
import io
import os
import signal
import subprocess
import sys
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.check import check
from metatrain.data.images import to_array
from metatrain.data.packed import writer as shards
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing import pixel_options
from metatrain.data.packing.pack import assign_splits, pack

TASKS, IMAGES = 10, 4


def noise(seed: int, side: int = 10) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def write_tasks(root: Path, names: list[str], images: int = IMAGES) -> Path:
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        for image in range(images):
            (root / name / f"{image}.png").write_bytes(noise(hash_of(name) + image))
    return root


def hash_of(name: str) -> int:
    return int.from_bytes(name.encode(), "big") % 10**9


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names_of(url: str | Path, split: str) -> list[str]:
    return [task.name for task in EpisodeStore(str(url)).tasks(split)]


@pytest.fixture
def source(tmp_path) -> Path:
    return write_tasks(tmp_path / "source", [f"task{i}" for i in range(TASKS)])


@pytest.fixture
def dest(tmp_path) -> Path:
    return tmp_path / "set"


def small_pieces(monkeypatch) -> None:
    monkeypatch.setattr(shards, "ROW_GROUP_BYTES", 700)
    monkeypatch.setattr(shards, "SHARD_BYTES", 3000)


# What a data set is


def test_packing_twice_gives_the_same_bytes(source, tmp_path, monkeypatch):
    small_pieces(monkeypatch)
    pack(str(source), str(tmp_path / "one"))
    os.utime(source / "task0" / "0.png", (1, 1))
    pack(str(source), str(tmp_path / "two"))
    one = files_of(tmp_path / "one")
    assert one == files_of(tmp_path / "two")
    assert len(one) > 3


def test_every_split_and_size_of_shards_hands_out_the_same_images(source, tmp_path, monkeypatch):
    pack(str(source), str(tmp_path / "whole"))
    small_pieces(monkeypatch)
    pack(str(source), str(tmp_path / "pieces"))
    whole, pieces = EpisodeStore(str(tmp_path / "whole")), EpisodeStore(str(tmp_path / "pieces"))
    for task in whole.tasks("train"):
        assert whole.read(task) == pieces.read(task)


def test_a_task_is_one_row_group_unless_it_is_large(source, dest, tmp_path):
    for image in range(4):
        (source / "task3" / f"large{image}.png").write_bytes(noise(image, 1000))
    pack(str(source), str(dest))
    rows = pq.read_table(dest / MANIFEST).to_pylist()
    assert [row["task"] for row in rows] == sorted(row["task"] for row in rows)
    pieces = [row for row in rows if row["task"] == "task3"]
    assert [row["count"] for row in pieces] == [2 + IMAGES, 2]
    assert len(rows) == TASKS + 1


def test_a_shard_ends_once_it_is_128_mb(tmp_path, dest):
    (tmp_path / "large.png").write_bytes(noise(0, 1500))
    rows = [{"path": "large.png", "task": f"{i:02d}"} for i in range(22)]
    write_csv(tmp_path / "table.csv", rows)
    pack(str(tmp_path / "table.csv"), str(dest))
    sizes = [path.stat().st_size for path in sorted(dest.glob("data-*.parquet"))]
    assert len(sizes) == 2
    assert 128e6 <= sizes[0] < 140e6


def test_the_manifest_gives_the_exact_bytes_of_every_row_group(source, dest, monkeypatch):
    small_pieces(monkeypatch)
    pack(str(source), str(dest))
    for file in {row["file"] for row in pq.read_table(dest / MANIFEST).to_pylist()}:
        rows = [r for r in pq.read_table(dest / MANIFEST).to_pylist() if r["file"] == file]
        ends = [row["offset"] + row["length"] for row in rows]
        assert [row["offset"] for row in rows] == [4, *ends[:-1]]
        assert [row["row_group"] for row in rows] == list(range(len(rows)))


def test_the_image_column_is_plain_and_any_parquet_reader_can_read_it(source, dest):
    pack(str(source), str(dest))
    shard = dest / "data-00000.parquet"
    metadata = pq.read_metadata(shard)
    column = metadata.row_group(0).column(metadata.schema.names.index("image"))
    assert column.compression == "UNCOMPRESSED"
    assert not column.has_dictionary_page
    assert column.statistics is None
    table = pq.read_table(shard, page_checksum_verification=True)
    assert table.column_names == ["task", "index", "image", "width", "height", "split"]
    assert table["index"].to_pylist() == list(range(IMAGES)) * TASKS
    assert set(table["width"].to_pylist()) == {10}


def test_size_makes_every_image_that_square(source, dest):
    pack(str(source), str(dest), size=6)
    table = pq.read_table(dest / "data-00000.parquet")
    assert {Image.open(io.BytesIO(data)).size for data in table["image"].to_pylist()} == {(6, 6)}


@pytest.mark.parametrize("scheme", ["file://{tmp}", "memory://{tmp}"])
def test_source_and_dest_may_be_any_fsspec_url(source, tmp_path, dest, scheme):
    url = scheme.format(tmp=tmp_path)
    fs, root = fsspec.core.url_to_fs(url)
    if not url.startswith("file"):
        fs.put(f"{source}/", f"{root}/source/", recursive=True)
    pack(f"{url}/source", f"{url}/copy")
    pack(str(source), str(dest))
    copy, plain = EpisodeStore(f"{url}/copy"), EpisodeStore(str(dest))
    assert copy.fingerprint == plain.fingerprint
    task = plain.tasks("train")[0]
    assert copy.read(task) == plain.read(task)


# Which split


names = st.lists(st.text(min_size=1, max_size=8), unique=True, max_size=60)


@given(names, st.integers(0, 2**40), st.sampled_from([(0.8, 0.1, 0.1), (0.5, 0.3, 0.2)]))
def test_splits_are_disjoint_complete_and_of_their_shares(tasks, seed, shares):
    splits = assign_splits(dict.fromkeys(tasks), seed, shares)
    assert splits.keys() == set(tasks)
    counts = [list(splits.values()).count(split) for split in ("train", "val", "test")]
    for count, share in zip(counts, shares, strict=True):
        assert abs(count - share * len(tasks)) <= 2
    if len(tasks) >= 3:
        assert min(counts) >= 1


@given(names, st.integers(0, 2**40), st.randoms())
def test_splits_do_not_depend_on_the_order_of_tasks(tasks, seed, random):
    shuffled = random.sample(tasks, len(tasks))
    one, two = (assign_splits(dict.fromkeys(t), seed, (0.8, 0.1, 0.1)) for t in (tasks, shuffled))
    assert one == two


def test_another_seed_is_another_split(source, tmp_path):
    for seed in range(3):
        pack(str(source), str(tmp_path / str(seed)), seed=seed, split=(0.5, 0.2, 0.3))
    assert len({tuple(names_of(tmp_path / str(seed), "test")) for seed in range(3)}) > 1


def test_shares_that_do_not_sum_to_one_are_refused(source, dest):
    with pytest.raises(UserError, match="summing to 1"):
        pack(str(source), str(dest), split=(0.8, 0.1, 0.2))


def test_folders_named_train_val_and_test_give_the_splits(tmp_path, dest):
    for split, names in {"train": ["a", "b"], "val": ["c"], "test": ["d"]}.items():
        write_tasks(tmp_path / "source" / split, names)
    summary = pack(str(tmp_path / "source"), str(dest))
    assert summary.tasks == {"train": 2, "val": 1, "test": 1}
    assert (names_of(dest, "train"), names_of(dest, "test")) == (["a", "b"], ["d"])


def test_a_task_in_two_splits_is_refused(tmp_path, dest):
    write_tasks(tmp_path / "source" / "train", ["cats"])
    write_tasks(tmp_path / "source" / "test", ["cats"])
    with pytest.raises(UserError, match=r"task 'cats' of .* is in two splits"):
        pack(str(tmp_path / "source"), str(dest))


def test_a_misnamed_split_is_not_taken_for_a_task(tmp_path, dest):
    write_tasks(tmp_path / "source" / "train", ["a", "b"])
    write_tasks(tmp_path / "source" / "later", ["c"])
    with pytest.raises(UserError, match="folders of splits must be named train, val, test"):
        pack(str(tmp_path / "source"), str(dest))


# Tables


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def table_rows(source: Path) -> list[dict[str, str]]:
    return [
        {
            "path": f"source/{path.relative_to(source)}",
            "task": f"00{path.parent.name[-1]}",
            "split": "train" if path.parent.name < "task7" else "test",
            "licence": "CC0",
        }
        for path in sorted(source.rglob("*.png"))
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_names_tasks_splits_and_metadata(source, dest, suffix):
    table = source.parent / f"table{suffix}"
    if suffix == ".csv":
        write_csv(table, table_rows(source))
    else:
        pq.write_table(pa.Table.from_pylist(table_rows(source)), table)
    summary = pack(str(table), str(dest))
    assert summary.tasks == {"train": 7, "val": 0, "test": 3}
    assert names_of(dest, "test") == ["007", "008", "009"]
    assert set(pq.read_table(dest / "data-00000.parquet")["licence"].to_pylist()) == {"CC0"}


def test_a_column_source_tells_which_images_of_a_task_belong_together(
    source, dest, monkeypatch, tmp_path
):
    rows = [row | {"source": f"set {n % 3}"} for n, row in enumerate(table_rows(source))]
    rows[0]["source"] = rows[3]["source"] = ""
    write_csv(source.parent / "table.csv", rows)
    pack(str(source.parent / "table.csv"), str(dest))
    small_pieces(monkeypatch)
    pack(str(source.parent / "table.csv"), str(tmp_path / "pieces"))
    for url in (str(dest), str(tmp_path / "pieces")):
        first, second, *_ = EpisodeStore(url).tasks("train")
        assert first.sources == (), "an image without a source is alone"
        assert second.sources == (0, 1, 2, 0), "set 1, set 2, set 0, set 1"


def test_a_manifest_whose_sources_cannot_be_is_refused(source, dest):
    rows = [row | {"source": "one"} for row in table_rows(source)]
    write_csv(source.parent / "table.csv", rows)
    pack(str(source.parent / "table.csv"), str(dest))
    manifest = pq.read_table(dest / MANIFEST)
    forged = pa.array([[0]] * manifest.num_rows, pa.list_(pa.int32()))
    at = manifest.column_names.index("sources")
    pq.write_table(manifest.set_column(at, "sources", forged), dest / MANIFEST)
    with pytest.raises(UserError, match="impossible sources"):
        EpisodeStore(str(dest))


def test_a_table_cannot_lead_out_of_its_folder(source, dest, tmp_path, caplog):
    (tmp_path / "secret.png").write_bytes(noise(1))
    paths = ["../secret.png", "a/../../secret.png", str(tmp_path / "secret.png"), "task0/0.png"]
    write_csv(source / "table.csv", [{"path": path, "task": "t"} for path in paths])
    summary = pack(str(source / "table.csv"), str(dest))
    assert summary.images == 1
    assert summary.refused == {"leads out of the source's folder": 2, "listed twice": 1}
    assert "refused '../secret.png': leads out of the source's folder" in caplog.text


def test_rows_that_name_nothing_are_refused_one_by_one(source, dest):
    rows = table_rows(source)
    wrong = [
        {**rows[0], "path": "gone.png"},
        {**rows[0], "task": ""},
        {**rows[0], "path": "source"},
    ]
    write_csv(source.parent / "table.csv", [*rows, *wrong, rows[0]])
    summary = pack(str(source.parent / "table.csv"), str(dest))
    assert summary.images == TASKS * IMAGES
    assert summary.refused == {
        "cannot be read": 1,
        "no task": 1,
        "not a file": 1,
        "listed twice": 1,
    }


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"path": "a.png", "tasks": "t"}, "no column 'task'.*did you mean 'tasks'"),
        ({"path": "a.png", "task": "t", "split": "later"}, "'later' of a.png must be one of"),
        (
            {"path": "a.png", "task": "t", "width": "3"},
            "column 'width', and packed data has another",
        ),
    ],
)
def test_a_wrong_table_is_refused_in_a_sentence(tmp_path, dest, row, message):
    write_csv(tmp_path / "table.csv", [row])
    with pytest.raises(UserError, match=message):
        pack(str(tmp_path / "table.csv"), str(dest))


# What is refused


def test_bad_files_are_named_and_counted_and_the_run_goes_on(source, dest, caplog):
    folder = source / "task5"
    (folder / "empty.png").write_bytes(b"")
    (folder / "cut.png").write_bytes(noise(1)[:150])
    (folder / "drawing.jxl").write_bytes(b"\xff\x0a\x00")
    (folder / "\x1b[2J.png").write_bytes(b"")
    (source / "loose.png").write_bytes(noise(1))
    for quiet in (".DS_Store", "task5/Thumbs.db", "task5/notes.txt", "task5/._0.png"):
        (source / quiet).write_bytes(b"x")
    summary = pack(str(source), str(dest))
    assert summary.images == TASKS * IMAGES
    assert summary.refused == {
        "empty": 2,
        "corrupt or truncated": 1,
        "unknown format": 1,
        "not in a task's folder": 1,
        "not an image": 1,
    }
    told = caplog.text
    assert "refused 'task5/cut.png': corrupt or truncated" in told
    assert "notes.txt" not in told
    assert "\x1b" not in told
    assert "2 refused: empty" in str(summary)


def test_what_was_handled_is_counted(source, dest):
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((1, 1), (0, 0, 0, 255))
    clear.save(source / "task0" / "clear.png")
    clear.convert("CMYK").save(source / "task1" / "print.jpg")
    summary = pack(str(source), str(dest))
    assert summary.notes == {
        "CMYK: converted to RGB": 1,
        "a single colour": 1,
        "transparent: on white": 1,
    }


def test_links_and_pipes_lead_nowhere(source, dest, tmp_path):
    (tmp_path / "secret.png").write_bytes(noise(1))
    write_tasks(tmp_path / "elsewhere", ["secret"])
    (source / "task0" / "out.png").symlink_to(tmp_path / "secret.png")
    (source / "task0" / "in.png").symlink_to(source / "task7" / "0.png")
    (source / "task0" / "loop").symlink_to(source)
    (source / "linked").symlink_to(tmp_path / "elsewhere" / "secret")
    os.mkfifo(source / "task0" / "pipe.png")
    summary = pack(str(source), str(dest))
    assert summary.images == TASKS * IMAGES + 1
    assert summary.refused == {
        "leads out of the source's folder": 1,
        "not a file": 2,
        "not in a task's folder": 1,
    }


def test_nothing_to_pack_is_a_sentence_and_leaves_nothing(tmp_path, dest):
    with pytest.raises(UserError, match=r"there is no folder at .*nowhere"):
        pack(str(tmp_path / "nowhere"), str(dest))
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat" / "0.png").write_bytes(noise(0))
    with pytest.raises(UserError, match=r"no task found in .*flat"):
        pack(str(tmp_path / "flat"), str(dest))
    (tmp_path / "bad" / "task").mkdir(parents=True)
    (tmp_path / "bad" / "task" / "0.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"no image in .*bad could be kept"):
        pack(str(tmp_path / "bad"), str(dest))
    assert not dest.exists()


def test_packing_into_the_source_is_refused(source):
    for inside in (source, source / "packed"):
        with pytest.raises(UserError, match="choose a DEST outside"):
            pack(str(source), str(inside))


# Whole or not at all


def test_packing_again_does_nothing(source, dest):
    first = pack(str(source), str(dest))
    before = {path: path.stat().st_mtime_ns for path in dest.iterdir()}
    again = pack(str(source), str(dest))
    assert (again.already_packed, again.tasks, again.images) == (True, first.tasks, first.images)
    assert str(again).startswith("already packed")
    assert before == {path: path.stat().st_mtime_ns for path in dest.iterdir()}


@pytest.mark.parametrize("change", ["option", "source", "split"])
def test_another_data_set_is_not_overwritten(source, dest, change, tmp_path):
    pack(str(source), str(dest))
    before = files_of(dest)
    if change == "source":
        (source / "task3" / "0.png").write_bytes(noise(77, 11))
    if change == "split":
        task = next(task for task in EpisodeStore(str(dest)).tasks("train"))
        source.rename(tmp_path / "tasks")
        (source / "test").mkdir(parents=True)
        (tmp_path / "tasks" / task.name).rename(source / "test" / task.name)
    with pytest.raises(UserError, match=r"already holds a data set .* choose another DEST"):
        pack(str(source), str(dest), seed=1 if change == "option" else 0)
    assert files_of(dest) == before


def test_a_task_that_is_packed_grows_by_the_new_images_of_its_folder(source, dest, monkeypatch):
    small_pieces(monkeypatch)
    pack(str(source), str(dest))
    before, old = files_of(dest), EpisodeStore(str(dest))
    for name in ("0a", "z"):
        (source / "task3" / f"{name}.png").write_bytes(noise(hash_of(name)))
    summary = pack(str(source), str(dest))
    assert (sum(summary.tasks.values()), summary.images) == (TASKS, TASKS * IMAGES + 2)
    after = files_of(dest)
    assert {name: after[name] for name in before if name != MANIFEST} == {
        name: data for name, data in before.items() if name != MANIFEST
    }
    store = EpisodeStore(str(dest))
    for split in ("train", "val", "test"):
        for task, then in zip(store.tasks(split), old.tasks(split), strict=True):
            new = [noise(hash_of(n)) for n in ("0a", "z")] if task.name == "task3" else []
            assert store.read(task) == old.read(then) + new
    assert pack(str(source), str(dest)).already_packed
    assert not check(str(dest)).faults


def test_images_from_elsewhere_are_added_to_a_task_when_asked(source, dest, tmp_path):
    pack(str(source), str(dest))
    (tmp_path / "more" / "task3").mkdir(parents=True)
    (tmp_path / "more" / "task3" / "new.png").write_bytes(noise(78))
    with pytest.raises(UserError, match=r"4 images of task 'task3' .* --grow"):
        pack(str(tmp_path / "more"), str(dest))
    assert pack(str(tmp_path / "more"), str(dest), grow=True).images == TASKS * IMAGES + 1
    again = pack(str(tmp_path / "more"), str(dest), grow=True)
    assert again.already_packed
    assert again.images == TASKS * IMAGES + 1


def test_new_images_join_the_sources_of_those_that_are_there(source, dest):
    rows = [row | {"source": f"set {n % 2}"} for n, row in enumerate(table_rows(source))]
    table = source.parent / "table.csv"
    write_csv(table, rows)
    pack(str(table), str(dest))
    (source / "task0" / "new.png").write_bytes(noise(5))
    new = rows[0] | {"path": "source/task0/new.png", "source": "set 1"}
    write_csv(table, [*rows, new])
    pack(str(table), str(dest))
    [grown] = [task for task in EpisodeStore(str(dest)).tasks("train") if task.name == "000"]
    assert grown.sources == (0, 1, 0, 1, 1)


def test_other_metadata_of_a_packed_image_are_not_passed_over(source, dest):
    rows, table = table_rows(source), source.parent / "table.csv"
    write_csv(table, rows)
    pack(str(table), str(dest))
    write_csv(table, [rows[0] | {"licence": "MIT"}, *rows[1:]])
    with pytest.raises(UserError, match=r"column 'licence' of 'source/task0/0\.png' differs"):
        pack(str(table), str(dest))


def test_new_tasks_are_added_and_nothing_that_is_there_is_rewritten(source, dest, monkeypatch):
    small_pieces(monkeypatch)
    pack(str(source), str(dest))
    before, reader = files_of(dest), EpisodeStore(str(dest))
    splits = {split: names_of(dest, split) for split in ("train", "val", "test")}
    images = {task: reader.read(task) for task in reader.tasks("train")}
    write_tasks(source, ["more a", "more b", "more c"])
    summary = pack(str(source), str(dest))
    after = files_of(dest)
    assert summary.images == (TASKS + 3) * IMAGES
    assert sum(summary.tasks.values()) == TASKS + 3
    assert {name: after[name] for name in before if name != MANIFEST} == {
        name: data for name, data in before.items() if name != MANIFEST
    }
    assert len(after) > len(before)
    for split, names in splits.items():
        assert set(names) <= set(names_of(dest, split))
    assert {task: reader.read(task) for task in images} == images
    grown = EpisodeStore(str(dest))
    added = [task for task in grown.tasks("train") if task.name.startswith("more")]
    assert added
    for task in added:
        assert grown.read(task) == [noise(hash_of(task.name) + i) for i in range(IMAGES)]
    assert pack(str(source), str(dest)).already_packed


def test_tasks_may_be_added_from_another_source(source, dest, tmp_path):
    pack(str(source), str(dest))
    pack(str(write_tasks(tmp_path / "other", ["z"])), str(dest))
    assert names_of(dest, "train")[-1] == "z"
    assert pack(str(source), str(dest)).already_packed


@pytest.mark.parametrize("fault", [KeyboardInterrupt, OSError("disk full")])
def test_an_interrupted_packing_removes_what_it_wrote(source, dest, monkeypatch, fault):
    small_pieces(monkeypatch)
    dest.mkdir()
    (dest / "mine.txt").write_text("not ours")
    plain, calls = pixel_options.normalise, []

    def interrupted(data, **options):
        calls.append(any(dest.glob("data-*.parquet")))
        if len(calls) == TASKS * IMAGES - 1:
            raise fault
        return plain(data, **options)

    monkeypatch.setattr(pixel_options, "normalise", interrupted)
    with pytest.raises((KeyboardInterrupt, OSError)):
        pack(str(source), str(dest))
    assert calls[-1], "a shard had been written when the fault came"
    assert set(files_of(dest)) == {"mine.txt"}


KILLED = """
import os, signal, sys
from metatrain.data.packed import writer as shards
from metatrain.data.packing import pack, pixel_options
shards.ROW_GROUP_BYTES, shards.SHARD_BYTES = 700, 3000
plain, calls = pixel_options.normalise, []
def normalise(data, **options):
    calls.append(1)
    if len(calls) == 35:
        os.kill(os.getpid(), signal.SIGKILL)
    return plain(data, **options)
pixel_options.normalise = normalise
pack.pack(sys.argv[1], sys.argv[2])
"""


def test_after_a_kill_the_next_run_completes_to_the_same_bytes(source, dest, tmp_path):
    killed = subprocess.run([sys.executable, "-c", KILLED, str(source), str(dest)])
    assert killed.returncode == -signal.SIGKILL
    assert len(files_of(dest)) > 1
    with pytest.raises(UserError, match="is not a packed data set"):
        EpisodeStore(str(dest))
    pack(str(source), str(dest))
    pack(str(source), str(tmp_path / "undisturbed"))
    assert files_of(dest) == files_of(tmp_path / "undisturbed")


def test_adding_that_was_killed_leaves_what_was_there_and_completes_next_time(
    source, dest, tmp_path, monkeypatch
):
    small_pieces(monkeypatch)
    pack(str(write_tasks(tmp_path / "few", ["a", "b"])), str(dest))
    before = files_of(dest)
    killed = subprocess.run([sys.executable, "-c", KILLED, str(source), str(dest)])
    assert killed.returncode == -signal.SIGKILL
    there = files_of(dest)
    assert there.keys() > before.keys()
    assert {name: there[name] for name in before} == before
    assert names_of(dest, "train") == ["a", "b"]
    pack(str(source), str(dest))
    pack(str(tmp_path / "few"), str(tmp_path / "undisturbed"))
    pack(str(source), str(tmp_path / "undisturbed"))
    assert files_of(dest) == files_of(tmp_path / "undisturbed")


@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_raw_pixels_are_those_of_the_images(tmp_path, mode):
    folder = tmp_path / "source" / "task"
    folder.mkdir(parents=True)
    for i in range(3):
        picture = Image.open(io.BytesIO(noise(i, 12))).convert(mode)
        picture.save(folder / f"{i}.png")
    pack(str(tmp_path / "source"), str(tmp_path / "png"), size=8)
    pack(str(tmp_path / "source"), str(tmp_path / "raw"), size=8, raw=True)
    png, raw = EpisodeStore(str(tmp_path / "png")), EpisodeStore(str(tmp_path / "raw"))
    (task,) = png.tasks("train")
    for one, other in zip(png.read(task), raw.read(task), strict=True):
        assert other.startswith(b"P5" if mode == "L" else b"P6")
        for size, channels in ((8, 1), (8, 3), (5, 3)):
            assert (to_array(one, size, channels) == to_array(other, size, channels)).all()


def test_raw_pixels_need_a_size(source, dest):
    with pytest.raises(UserError, match="give it, such as --size 32"):
        pack(str(source), str(dest), raw=True)
