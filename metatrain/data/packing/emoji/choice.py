"""Selection of the drawings that are samples, and of the tasks that have enough of them."""

import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from metatrain.base.progress import Progress
from metatrain.data.images import BadImage
from metatrain.data.packed.writer import sha256_of
from metatrain.data.packing.emoji.drawing import colours_of, draw_png
from metatrain.data.packing.emoji.hands import EmojiDrawing

# Drawings are compared at this size in pixels, whatever size they are packed at.
_SIZE = 32
# Of 255: cells that differ by no more in any channel have one colour.
_ONE_COLOUR = 40
# Of 256 cells: a drawing with fewer that differ from white is a speck; two that differ in no more
# are equal.
_LEAST_INK, _NEAR = 12, 16
_MOST_OF_A_TASK = 64


@dataclass(frozen=True)
class _Coloured:
    """A drawing, and the colours of its cells, uint8 [256, 3]."""

    drawing: EmojiDrawing
    colours: np.ndarray


def chosen(
    tasks: Mapping[str, Sequence[EmojiDrawing]], splits: Mapping[str, str], least: int
) -> dict[str, list[EmojiDrawing]]:
    """Return the tasks with at least `least` drawings after near copies are removed.

    No two drawings of a task are near each other, and none of an evaluation task is near one of any
    training task. They are compared at one size, so the choice holds for every size.

    Args:
        tasks: by task, its drawings.
        splits: by task, its split.
        least: the fewest drawings of a task.
    """
    kept = {task: few for task, few in _distinct(tasks).items() if len(few) >= least}
    trained = np.array([c.colours for t in kept if splits[t] == "train" for c in kept[t]])
    for task in kept:
        if splits[task] != "train":
            kept[task] = [c for c in kept[task] if not _is_near(c.colours, trained)]
    return {
        task: sorted((c.drawing for c in kept[task]), key=lambda drawing: drawing.icon.id)
        for task in sorted(kept)
        if len(kept[task]) >= least
    }


def _distinct(tasks: Mapping[str, Sequence[EmojiDrawing]]) -> dict[str, list[_Coloured]]:
    progress = Progress("comparing drawings", sum(len(drawings) for drawings in tasks.values()))
    distinct: dict[str, list[_Coloured]] = {}
    done = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for task, kept in zip(tasks, pool.map(_distinct_of, tasks.values()), strict=True):
            distinct[task] = kept
            done += len(tasks[task])
            progress.update(done)
    progress.close()
    return distinct


def _distinct_of(drawings: Sequence[EmojiDrawing]) -> list[_Coloured]:
    """Return the first drawings that differ, in an order that favours no hand."""
    kept: list[_Coloured] = []
    for drawing in sorted(drawings, key=_lot):
        colours = _colours(drawing)
        if colours is not None and not _is_near(colours, np.array([k.colours for k in kept])):
            kept.append(_Coloured(drawing, colours))
        if len(kept) == _MOST_OF_A_TASK:
            break
    return kept


def _colours(drawing: EmojiDrawing) -> np.ndarray | None:
    """Return the colours of the cells; None for a speck, or a drawing that fails to render."""
    try:
        colours = colours_of(draw_png(drawing.icon, _SIZE))
    except BadImage:
        return None
    return colours if _cells_apart(colours, np.uint8(255)) >= _LEAST_INK else None


def _is_near(colours: np.ndarray, others: np.ndarray) -> bool:
    """Tell whether any of `others` [N, 256, 3] is near `colours` [256, 3]."""
    return bool(len(others) and (_cells_apart(colours, others) <= _NEAR).any())


def _cells_apart(colours: np.ndarray, others: np.ndarray | np.uint8) -> np.ndarray:
    """Return in how many cells `others` [N, 256, 3] differ from `colours` [256, 3], [N]."""
    distance = np.maximum(colours, others) - np.minimum(colours, others)
    return (distance.max(axis=-1) > _ONE_COLOUR).sum(axis=-1)


def _lot(drawing: EmojiDrawing) -> str:
    return sha256_of(drawing.icon.id.encode())
