"""The data set: red cells cut out of blood smears by their boxes, and windows that are no red cell.

    python -m benchmarks.medicine.cells BCCD DEST
    metatrain pack DEST/cells.csv data --size 32 --task-column patient

A smear is a patient, since the data name none. DEST has cells/SMEAR/N.png, others/SMEAR/N.png, and
cells.csv with the columns path, patient and split; the smears with the most cells are the test.
Windows of others lie at random and may show white cells, platelets, ground, or part of a red cell;
a red cell that has no box in the data may be among them.
"""

import argparse
import csv
import io
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np
from PIL import Image

from benchmarks.commands import resumable
from metatrain.base.errors import UserError
from metatrain.base.progress import say, tracked
from metatrain.storage.files import write_file

SIDE = 32
RED = "RBC"
# Sides of a whole red cell in these smears; boxes that are longer than wide are cut by the edge.
_SIDES, _LONGEST = (60, 160), 1.4
# The greatest share that two windows have in common (intersection over union).
_OVERLAP = 0.3
_OTHERS, _TRIES = 60, 1000
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Box(NamedTuple):
    """A rectangle in pixels; its right and lower edges lie outside."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def sides(self) -> tuple[int, int]:
        """Width and height."""
        return self.right - self.left, self.bottom - self.top


def overlaps(windows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the intersection over the union of windows [N, 4] and others [M, 4], as [N, M]."""
    one, two = windows[:, None].astype(float), others[None].astype(float)
    sides = np.minimum(one[..., 2:], two[..., 2:]) - np.maximum(one[..., :2], two[..., :2])
    common = sides.clip(0).prod(axis=-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(axis=-1) for each in (one, two)]
    return common / (areas[0] + areas[1] - common)


def main(argv: Sequence[str] | None = None) -> int:
    """Cut the cells."""
    parser = argparse.ArgumentParser(description="Red cells of blood smears, by their boxes.")
    add = parser.add_argument
    add("smears", type=Path, metavar="BCCD", help="has JPEGImages/ and Annotations/")
    add("dest", type=Path, metavar="DEST", help="folder to write")
    add("--held-out", type=int, default=16, help="smears of the test, those of most cells (16)")
    options = parser.parse_args(argv)
    return resumable(lambda: cut(options.smears, options.dest, options.held_out))


def cut(smears: Path, dest: Path, held_out: int) -> None:
    """Write the cells and the other windows of every smear, and the table of the cells.

    Raises:
        UserError: when there are no more smears than those to hold out, or one cannot be read.
    """
    paths = sorted(smears.glob("Annotations/*.xml"))
    if len(paths) <= held_out:
        raise UserError(
            f"{smears}/Annotations has {len(paths)} .xml files; give more than --held-out, "
            f"which is {held_out}."
        )
    counts = {}
    for number, path in enumerate(tracked("cutting cells", paths, len(paths))):
        picture, boxes = _photo(smears / "JPEGImages" / f"{path.stem}.jpg"), red_boxes(path)
        cells = [_square(box, picture.size) for box in boxes if _is_whole(box)]
        counts[path.stem] = len(cells)
        apart = other_windows(boxes, cells, picture.size, number)
        _save(picture, cells, dest / "cells" / path.stem)
        _save(picture, apart, dest / "others" / path.stem)
    test = set(sorted(counts, key=lambda name: -counts[name])[:held_out])
    content = io.StringIO(newline="")
    table = csv.writer(content)
    table.writerow(("path", "patient", "split"))
    for name, count in counts.items():
        split = "test" if name in test else "train"
        table.writerows((f"cells/{name}/{n}.png", name, split) for n in range(count))
    # The last, and whole or not at all: where it is, everything is.
    write_file(str(dest / "cells.csv"), content.getvalue().encode())
    say(f"{sum(counts.values()):,} red cells of {len(counts)} smears, {len(test)} of them test.")


def read_splits(folder: Path) -> dict[str, list[str]]:
    """Read which smears are of which split, of the folder that `cut` wrote.

    Raises:
        UserError: when there is no table.
    """
    path = folder / "cells.csv"
    if not path.exists():
        raise UserError(f"{path} is not there; python -m benchmarks.medicine.cells writes it.")
    splits: dict[str, dict[str, None]] = {"train": {}, "test": {}}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            splits[row["split"]][row["patient"]] = None
    return {split: list(names) for split, names in splits.items()}


def red_boxes(path: Path) -> list[Box]:
    """Read the boxes of the red cells of a smear; a box of no extent is left out.

    Raises:
        UserError: when the file is damaged.
    """
    boxes = []
    try:
        for element in ElementTree.parse(path).getroot().iter("object"):
            corners = [int(element.findtext(f"bndbox/{corner}", "0")) for corner in _CORNERS]
            box = Box(*corners)
            if element.findtext("name") == RED and min(box.sides) > 0:
                boxes.append(box)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}; download the data again.") from error
    return boxes


def other_windows(
    boxes: Sequence[Box], cells: Sequence[Box], size: tuple[int, int], seed: int
) -> list[Box]:
    """Choose windows at random, as large as the cells, that lie apart from all red cells."""
    if not cells:
        return []
    stream = np.random.default_rng(seed)
    sides = stream.choice([cell.sides[0] for cell in cells], size=_TRIES)
    corners = np.stack([stream.integers(extent - sides + 1) for extent in size], axis=1)
    windows = np.concatenate([corners, corners + sides[:, None]], axis=1)
    windows = windows[overlaps(windows, np.array(boxes)).max(axis=1) <= _OVERLAP]
    taken = overlaps(windows, windows) > _OVERLAP
    chosen: list[int] = []
    for number in range(len(windows)):
        if len(chosen) < _OTHERS and not taken[number, chosen].any():
            chosen.append(number)
    return [Box(*map(int, windows[number])) for number in chosen]


def _photo(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return image.convert("RGB")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error}; download the data again.") from error


def _is_whole(box: Box) -> bool:
    low, high = sorted(box.sides)
    return _SIDES[0] <= high <= _SIDES[1] and high <= _LONGEST * low


def _square(box: Box, size: tuple[int, int]) -> Box:
    """Return the square around a box, moved into the image."""
    side = max(box.sides)
    left, top = (
        min(max((box[axis] + box[axis + 2] - side) // 2, 0), size[axis] - side) for axis in (0, 1)
    )
    return Box(left, top, left + side, top + side)


def _save(picture: Image.Image, windows: Sequence[Box], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, drawing in enumerate(_cut(picture, windows)):
        drawing.save(folder / f"{number}.png")


def _cut(picture: Image.Image, windows: Sequence[Box]) -> Iterator[Image.Image]:
    for window in windows:
        yield picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS, box=window)


if __name__ == "__main__":
    sys.exit(main())
