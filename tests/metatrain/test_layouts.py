"""Folders mean what people mean by them, a task has one name, and an image is in it once."""

import io
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.check import check
from metatrain.data.fingerprint import fingerprint_of, near_copies
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import DatasetWriter
from metatrain.data.packing.names import is_image_name, split_named, split_of_shard, task_name
from metatrain.data.packing.pack import pack
from metatrain.data.packing.sources.folders import layout_of

SPLITS = ("train", "val", "test")


def photo(seed: int, side: int = 40) -> Image.Image:
    small = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    return Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC)


def write(root: Path, *names: str) -> Path:
    """Write an image of its own at each of `names`."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photo(sum(name.encode()) + 1000 * len(name)).save(path, "PNG")
    return root


def folders(root: Path, *names: str) -> Path:
    return write(root, *(f"{name}/{i}.png" for name in names for i in range(2)))


def tasks_of(dest: Path) -> dict[str, list[str]]:
    store = EpisodeStore(str(dest))
    return {split: [task.name for task in store.tasks(split)] for split in SPLITS}


def all_tasks(dest: Path) -> list[str]:
    return sorted(name for names in tasks_of(dest).values() for name in names)


@pytest.fixture
def source(tmp_path) -> Path:
    return tmp_path / "source"


@pytest.fixture
def dest(tmp_path) -> Path:
    return tmp_path / "set"


# Splits


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "val", "test"),
        ("Train", "Valid", "Test"),
        ("training", "validation", "testing"),
        ("TRAIN_SET", "dev", "test-images"),
        ("train2017", "val 2017", "test2017"),
        ("a/b/training", "a/b/dev", "a/b/testing"),
    ],
)
def test_usual_spellings_of_splits_are_understood(source, dest, train, val, test):
    folders(source, f"{train}/a", f"{train}/b", f"{val}/c", f"{test}/d")
    pack(str(source), str(dest))
    assert tasks_of(dest) == {"train": ["a", "b"], "val": ["c"], "test": ["d"]}


@pytest.mark.parametrize("name", ["tasks", "trains", "tester", "a", "1", "testimony", "", "value"])
def test_other_words_are_no_splits(name):
    assert split_named(name) is None


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("data/train-00000-of-00004.parquet", "train"),
        ("validation-00000-of-00001-9f8e.parquet", "val"),
        ("test_017.tar", "test"),
        ("train", "train"),
        ("train-clean-100.tar", None),
        ("0000.parquet", None),
    ],
)
def test_shards_name_their_split(name, split):
    assert split_of_shard(name) == split


def test_the_classes_of_both_splits_are_one_set_when_asked(source, dest):
    folders(source, "train/cat", "train/dog", "test/cat", "test/dog")
    with pytest.raises(UserError, match=r"task 'cat' .* is in two splits.* --ignore-splits"):
        pack(str(source), str(dest))
    pack(str(source), str(dest), ignore_splits=True)
    store = EpisodeStore(str(dest))
    tasks = [task for split in SPLITS for task in store.tasks(split)]
    assert [(task.name, task.count) for task in tasks] == [("cat", 4), ("dog", 4)]


# Depth


def test_a_folder_around_all_others_says_nothing(source, dest, caplog):
    folders(source, "photos/more/cat", "photos/more/dog")
    write(source, "cover.png")
    pack(str(source), str(dest))
    assert all_tasks(dest) == ["cat", "dog"]
    assert "tasks are the folders within 'photos/more'" in caplog.text


@pytest.mark.parametrize(
    "names",
    [
        ("Greek/alpha", "Greek/beta", "Latin/a"),
        ("seg_train/seg_train/sea", "seg_train/seg_train/street", "seg_test/seg_test/sea"),
        ("train/Greek/alpha", "train/Greek/beta", "test/Latin/a"),
        ("photos/cat", "photos/dog", "photos"),
    ],
)
def test_classes_are_never_merged_without_a_word(source, dest, names):
    folders(source, *names)
    with pytest.raises(UserError, match=r"has folders within folders: .* --task-depth \d .*\d"):
        pack(str(source), str(dest))
    assert not dest.exists()


@pytest.mark.parametrize(
    ("depth", "tasks"), [(1, ["Greek", "Latin"]), (2, ["Greek/alpha", "Greek/beta", "Latin/a"])]
)
def test_the_depth_of_tasks_can_be_given(source, dest, depth, tasks):
    folders(source, "Greek/alpha", "Greek/beta", "Latin/a")
    pack(str(source), str(dest), task_depth=depth)
    assert all_tasks(dest) == tasks


def test_a_depth_counts_below_the_folders_of_splits(source, dest):
    folders(source, "x/train/Greek/alpha", "x/train/Greek/beta", "x/test/Latin/a")
    pack(str(source), str(dest), task_depth=2)
    assert tasks_of(dest) == {
        "train": ["Greek/alpha", "Greek/beta"],
        "val": [],
        "test": ["Latin/a"],
    }


def test_folders_within_a_tasks_own_are_its(source, dest):
    write(source, *(f"{task}/images/{i}.png" for task in "ab" for i in range(3)))
    folders(source, "c", "c/old", "c/new")
    pack(str(source), str(dest))
    assert all_tasks(dest) == ["a", "b", "c"]


def test_a_task_that_is_called_test_is_a_task(source, dest):
    folders(source, "test", "cat", "dog")
    pack(str(source), str(dest))
    assert all_tasks(dest) == ["cat", "dog", "test"]


names = st.text("ab", min_size=1, max_size=2)


@given(st.lists(st.lists(names, min_size=1, max_size=4).map(tuple), min_size=1, max_size=6))
def test_a_layout_that_is_not_refused_gives_each_folder_of_images_one_task(places):
    try:
        layout = layout_of(places, None, "source")
    except UserError:
        return
    tasks = {place: layout.task_of(place) for place in places}
    assert any(tasks.values())
    for task in set(tasks.values()) - {None}:
        within = {place for place in places if tasks[place] == task}
        own = {place for place in within if len(place) == layout.end}
        # Several folders are one task only where it is clear that they belong together.
        assert len(within) == 1 or own


# Names


def test_names_that_look_alike_are_one_task(source, dest, caplog):
    accents = [unicodedata.normalize(form, "Café") for form in ("NFC", "NFD")]
    for number, name in enumerate((*accents, f"{accents[0]} ", "tea")):
        (source / name).mkdir(parents=True, exist_ok=True)
        photo(number).save(source / name / f"{number}.png")
    pack(str(source), str(dest))
    store = EpisodeStore(str(dest))
    tasks = {task.name: task.count for split in SPLITS for task in store.tasks(split)}
    assert tasks == {"Café": 3, "tea": 1}
    assert r"one task: 'Caf\xe9 ' and 'Caf\xe9' and 'Cafe\u0301'" in caplog.text


def test_names_that_look_alike_in_two_splits_are_refused_with_both(source, dest):
    write(source, "train/Café/0.png", "test/Cafe\u0301 /0.png")
    with pytest.raises(UserError, match=r"spelled 'Caf\\xe9' and 'Cafe\\u0301 ', of.*two splits"):
        pack(str(source), str(dest))


@given(st.text())
def test_a_normalised_name_stays_as_it_is(text):
    name = task_name(text)
    assert task_name(name) == name == task_name(f" \ufeff{text}\t") == name.strip()
    assert task_name(unicodedata.normalize("NFD", text)) == name


# The same image


def test_equal_pixels_are_one_entry_and_near_copies_are_told(source, dest, caplog):
    folders(source, "cat", "dog")
    image = Image.open(source / "cat" / "0.png")
    image.save(source / "cat" / "copy.png", compress_level=0)
    image.save(source / "cat" / "same.webp", lossless=True)
    image.resize((80, 80)).save(source / "cat" / "large.png")
    image.save(source / "cat" / "again.jpg", quality=80)
    image.save(source / "dog" / "2.png")
    summary = pack(str(source), str(dest))
    assert summary.images == 2 + 2 + 3
    assert summary.refused == {"same image as another of its task": 2}
    assert summary.near_copies == 2
    assert "2 nearly the same as another of their task" in str(summary)
    assert "refused 2 files in 'cat': same image as another" in caplog.text
    card = check(str(dest))
    assert (card.copies, card.near_copies) == (0, 2)
    assert "2 images nearly the same as another of the task" in str(card)


def test_a_table_that_names_a_file_in_two_ways_has_it_once(source, dest):
    write(source, "a.png", "b.png")
    lines = [f"{name},t" for name in ("a.png", "./a.png", "x/../b.png", "b.png")]
    (source / "t.csv").write_text("\n".join(["path,task", *lines]))
    summary = pack(str(source / "t.csv"), str(dest))
    assert summary.images == 2
    assert summary.refused == {"listed twice": 2}


def test_check_counts_the_copies_of_a_data_set_that_was_packed_before(tmp_path):
    writer = DatasetWriter(f"{tmp_path}/set")
    writer.begin()
    for index, seed in enumerate((1, 2, 1)):
        buffer = io.BytesIO()
        photo(seed).save(buffer, "PNG")
        row = {"task": "t", "index": index, "split": "train", "image": buffer.getvalue()}
        writer.add(row | {"width": 40, "height": 40})
    writer.commit({})
    card = check(f"{tmp_path}/set")
    assert card.copies == 1
    assert not card.faults
    assert "1 image the same as another of the task" in str(card)


@pytest.mark.parametrize(
    "name",
    [
        "cat/@eaDir/1.jpg/SYNOPHOTO_THUMB_M.jpg",
        "cat/.thumbnails/1.png",
        "__MACOSX/cat/1.png",
        "cat/@__thumb/1.jpg",
        "#recycle/cat/1.jpg",
        "cat/._1.png",
        "cat/.DS_Store",
        "cat/Thumbs.db",
        "desktop.ini",
    ],
)
def test_what_systems_put_beside_photos_is_passed_over(source, dest, name):
    assert not is_image_name(name)
    write(folders(source, "cat", "dog"), name)
    summary = pack(str(source), str(dest))
    assert summary.images == 4
    assert summary.refused == {}


@given(st.integers(0, 1000), st.integers(40, 90))
def test_an_image_that_was_saved_again_is_a_near_copy_and_another_is_none(seed, quality):
    buffer = io.BytesIO()
    photo(seed).save(buffer, "JPEG", quality=quality)
    again, other = Image.open(buffer), photo(seed + 1)
    outlines = [fingerprint_of(image).outline for image in (photo(seed), again, other)]
    assert near_copies(outlines) == 1
    assert fingerprint_of(photo(seed)).pixels == fingerprint_of(photo(seed).copy()).pixels
    assert fingerprint_of(photo(seed)).pixels != fingerprint_of(other).pixels


def test_near_copies_are_those_that_a_comparison_of_all_pairs_has():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (30, 256), dtype=np.uint8)
    near = [np.clip(image.astype(int) + rng.integers(-2, 3, 256), 0, 255) for image in images[:7]]
    outlines = [bytes(image) for image in images] + [bytes(n.astype(np.uint8)) for n in near]
    rng.shuffle(outlines)
    assert near_copies(outlines) == 7
