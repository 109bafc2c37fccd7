"""The built-in tasks are what they claim: the same character in many faces, and no image twice."""

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.glyphs import MIN_FACES, glyph_tasks
from metatrain.data.packing.pack import PackSummary, pack
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.evaluation.episodes.published import PUBLISHED

SIZE = 16


@pytest.fixture(scope="module")
def packed(tmp_path_factory) -> tuple[PackSummary, str]:
    dest = str(tmp_path_factory.mktemp("glyphs") / "set")
    return pack("glyphs", dest, size=SIZE), dest


@pytest.fixture(scope="module")
def table(packed):
    return pq.read_table(f"{packed[1]}/data-00000.parquet")


@pytest.fixture(scope="module")
def pixels(table) -> np.ndarray:
    images = [Image.open(io.BytesIO(data)) for data in table["image"].to_pylist()]
    assert {(image.mode, image.size) for image in images} == {("L", (SIZE, SIZE))}
    return np.stack([np.asarray(image) for image in images])


def test_there_are_over_a_thousand_tasks_of_at_least_twelve_faces(packed):
    summary, url = packed
    assert sum(summary.tasks.values()) > 1000
    store = EpisodeStore(url)
    tasks = [task for split in ("train", "val", "test") for task in store.tasks(split)]
    assert min(task.count for task in tasks) >= MIN_FACES
    assert len({task.name for task in tasks}) == len(tasks)
    assert not summary.refused


def test_no_image_occurs_twice_so_that_none_leaks_between_splits(pixels):
    assert len({image.tobytes() for image in pixels}) == len(pixels)


def test_every_image_is_ink_on_white_within_its_margin(pixels):
    assert (pixels.min(axis=(1, 2)) < 128).all()
    edges = [pixels[:, 0], pixels[:, -1], pixels[:, :, 0], pixels[:, :, -1]]
    assert all((edge == 255).all() for edge in edges)


def test_a_small_letter_stays_smaller_than_its_capital(table, pixels):
    def height(name: str, face: str) -> int:
        rows = zip(table["task"].to_pylist(), table["source"].to_pylist(), strict=True)
        (at,) = (i for i, row in enumerate(rows) if row == (name, face))
        return int((pixels[at] < 128).any(axis=1).sum())

    assert height("U+006F", "DejaVuSans") < height("U+004F", "DejaVuSans")


def test_twins_of_other_scripts_marks_and_spaces_are_left_out(table):
    names = set(table["task"].to_pylist())
    assert "U+0041" in names
    twin, space, accent, full_stop = "U+0410", "U+0020", "U+0301", "U+002E"
    assert not names & {twin, space, accent, full_stop}


def test_a_style_as_the_task_has_the_same_images_by_their_faces(table, tmp_path):
    pack("glyphs", str(tmp_path), size=SIZE, variant="style")

    def told(of, task, sample):
        return {(row[task], row[sample], row["image"]) for row in of.to_pylist()}

    faces = told(pq.read_table(tmp_path / "data-00000.parquet"), "task", "character")
    assert faces == {(f, c, image) for c, f, image in told(table, "task", "source")}
    assert "DejaVuSans-Bold" in {name for name, _, _ in faces}
    assert len(EpisodeStore(str(tmp_path)).tasks("train")) > 10


def test_computer_modern_draws_what_its_glyph_names_say():
    faces = {
        name: {glyph.font.stem: glyph.drawn_by for glyph in glyphs}
        for name, glyphs in glyph_tasks().items()
    }
    assert "cmr10" not in faces["U+003C"], "its '<' is an inverted exclamation mark"
    assert faces["U+00BF"]["cmr10"] == ">"
    assert faces["U+0393"]["cmr10"] == "\xa1", "a capital gamma, where TeX had it"
    assert "cmti10" not in faces["U+0024"], "its dollar is a pound"
    assert not any("LastResortHE-Regular" in drawn for drawn in faces.values())


def test_the_published_list_of_the_built_in_tasks_is_the_one_that_is_made(packed):
    made = list_episodes(EpisodeStore(packed[1]), "test")
    assert PUBLISHED[made.data] == ("glyphs-16", made.sha256)
    assert made.published
    assert not made.first(3, 3).published
