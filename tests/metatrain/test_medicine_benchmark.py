"""The benchmark of medicine on made smears, a step of everything."""

import csv

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks.few_real import table
from benchmarks.medicine.cells import Box, cut, other_windows, overlaps, read_splits, red_boxes
from benchmarks.medicine.systems import ALL, OTHER, RED, Smears
from benchmarks.paired import measured
from metatrain.base.errors import UserError

OBJECT = """<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax>
<ymax>{}</ymax></bndbox></object>"""


def write_smear(folder, name, cells):
    """Draw red cells in rows, and beside them a white one and one without extent."""
    boxes = [
        (20 + 90 * (n % 6), 20 + 90 * (n // 6), 90 + 90 * (n % 6), 90 + 90 * (n // 6))
        for n in range(cells)
    ]
    image = Image.new("RGB", (640, 480), (230, 225, 220))
    for box in boxes:
        ImageDraw.Draw(image).ellipse(box, fill=(190, 80, 90))
    rows = [OBJECT.format("RBC", *box) for box in boxes]
    rows += [OBJECT.format("WBC", 400, 300, 500, 400), OBJECT.format("RBC", 5, 5, 5, 5)]
    for place in ("JPEGImages", "Annotations"):
        (folder / place).mkdir(parents=True, exist_ok=True)
    image.save(folder / "JPEGImages" / f"{name}.jpg")
    (folder / "Annotations" / f"{name}.xml").write_text(f"<annotation>{''.join(rows)}</annotation>")
    return [Box(*box) for box in boxes]


@pytest.fixture
def cells(tmp_path):
    """Four smears of 7 cells to train on, and two of 10 and 9 to test."""
    for number, count in enumerate((7, 10, 7, 7, 9, 7)):
        write_smear(tmp_path / "bccd", f"smear{number}", count)
    cut(tmp_path / "bccd", tmp_path / "cells", 2)
    return tmp_path / "cells"


def test_cells_are_cut_by_their_boxes_and_whole_smears_are_held_out(cells):
    assert read_splits(cells) == {
        "train": ["smear0", "smear2", "smear3", "smear5"],
        "test": ["smear1", "smear4"],
    }
    with (cells / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 47 == len({row["path"] for row in rows})
    for row in rows:
        with Image.open(cells / row["path"]) as image:
            assert image.size == (32, 32)
            assert np.abs(np.array(image)[16, 16].astype(int) - (190, 80, 90)).max() < 20


def test_other_windows_lie_apart_from_red_cells_and_from_each_other(tmp_path):
    boxes = write_smear(tmp_path, "one", 9)
    assert red_boxes(tmp_path / "Annotations" / "one.xml") == boxes
    windows = other_windows(boxes, boxes, (640, 480), 0)
    assert len(windows) > 20
    assert overlaps(np.array(windows), np.array(boxes)).max() <= 0.3
    mutual = overlaps(np.array(windows), np.array(windows))
    assert (mutual.diagonal() == 1).all() and (mutual - np.eye(len(windows))).max() <= 0.3
    assert all(min(w[:2]) >= 0 and w.right <= 640 and w.bottom <= 480 for w in windows)


def test_overlap_is_the_intersection_over_the_union():
    one, two = np.array([[0, 0, 10, 10]]), np.array([[5, 0, 15, 10], [10, 0, 20, 10]])
    assert overlaps(one, two).tolist() == [[50 / 150, 0]]


@pytest.mark.long
def test_every_system_is_measured_on_cells_that_it_was_not_given(cells, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    bench = Smears(
        cells=cells,
        out=tmp_path / "out",
        smears=16,
        shots=7,
        generated=3,
        classifier_steps=2,
        width=8,
        meta_steps=1,
        adapt_steps=1,
    )
    assert list(bench.held_out) == ["smear1", "smear4"]
    given, rest = bench.divided("smear1", 0, 0)
    assert (len(given[RED]), len(rest[RED]), len(given[OTHER])) == (7, 3, 20)
    results = measured(tmp_path / "out", ALL, 1, {"shots": 7}, bench.measure)
    assert all(0 <= min(scores[0].values()) <= 1 for scores in results.values())
    assert all(f"| {system} |" in table(results) for system in ALL)


def test_damaged_smears_are_a_sentence_and_no_table(tmp_path):
    write_smear(tmp_path, "one", 9)
    write_smear(tmp_path, "two", 9)
    annotation, photo = tmp_path / "Annotations" / "two.xml", tmp_path / "JPEGImages" / "two.jpg"
    whole = annotation.read_text()
    for damaged in (whole[:-10], whole.replace(">20<", ">many<", 1)):
        annotation.write_text(damaged)
        with pytest.raises(
            UserError, match=r"two\.xml cannot be read: .*; download the data again"
        ):
            cut(tmp_path, tmp_path / "cells", 1)
    annotation.write_text(whole)
    photo.write_bytes(photo.read_bytes()[:2000])
    with pytest.raises(UserError, match=r"two\.jpg cannot be read: "):
        cut(tmp_path, tmp_path / "cells", 1)
    photo.unlink()
    with pytest.raises(UserError, match=r"two\.jpg cannot be read: "):
        cut(tmp_path, tmp_path / "cells", 1)
    assert not (tmp_path / "cells" / "cells.csv").exists()


def test_a_smear_without_other_windows_to_ask_about_is_not_measured(cells, tmp_path):
    """Their accuracy would be none, and so would that of the table."""
    for file in [*(cells / "others" / "smear1").iterdir()][20:]:
        file.unlink()
    budgets = {"smears": 2, "generated": 1, "classifier_steps": 1, "width": 8, "meta_steps": 1}
    assert Smears(cells=cells, out=tmp_path, shots=5, **budgets).held_out == ["smear4"]


def test_what_cannot_be_used_is_a_sentence(cells, tmp_path):
    with pytest.raises(UserError, match=r"has 0 \.xml files; give more than --held-out"):
        cut(tmp_path, tmp_path / "new", 2)
    with pytest.raises(UserError, match=r"benchmarks\.medicine\.cells writes it"):
        read_splits(tmp_path)
    bench = Smears(
        cells=cells,
        out=tmp_path,
        smears=2,
        shots=20,
        generated=1,
        classifier_steps=1,
        width=8,
        meta_steps=1,
    )
    with pytest.raises(UserError, match="no smear of the test"):
        _ = bench.held_out
