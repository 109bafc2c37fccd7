"""Selection of the names that are tasks of the benchmark, and of the icons that are samples."""

import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from metatrain.base.progress import Progress
from metatrain.data.images import BadImage
from metatrain.data.packing.icons.drawing import draw, fingerprint
from metatrain.data.packing.icons.names import split_of, style_words, task_of
from metatrain.data.packing.icons.sets import Icon, IconSet

# Icons are compared at this size in pixels, whatever size they are packed at.
_SIZE = 32
# Of 256 cells: an icon with ink in fewer cells is a speck; two that differ in no more are equal.
_LEAST_INK, _NEAR = 6, 8
_INK_BYTES = 32
_MOST_OF_A_SOURCE, _MOST_OF_A_TASK = 3, 64


@dataclass(frozen=True)
class Variant:
    """The requirements for a task.

    Attributes:
        images: the fewest images.
        sources: the fewest families of sets that the images come from.
    """

    images: int
    sources: int


NARROW, WIDE = Variant(images=20, sources=8), Variant(images=8, sources=4)


@dataclass(frozen=True)
class IconCandidate:
    """An icon that may become a sample, the family of its set, and its licence."""

    icon: Icon
    source: str
    licence: str


@dataclass(frozen=True)
class _Inked:
    """A candidate, and the cells of its ink, as bits."""

    candidate: IconCandidate
    ink: np.ndarray

    @property
    def source(self) -> str:
        return self.candidate.source


def candidates(sets: Iterable[IconSet], variant: Variant) -> dict[str, list[IconCandidate]]:
    """Return the possible samples of each possible task, sorted by the task's name."""
    tasks: dict[str, list[IconCandidate]] = defaultdict(list)
    for icons in sets:
        styles = style_words(icons)
        for icon in icons.icons:
            if task := task_of(icon.name, styles):
                tasks[task].append(IconCandidate(icon, icons.family, icons.licence))
    # An order that favours no set and no style, and is the same everywhere.
    return {
        task: sorted(tasks[task], key=lambda candidate: _lot(candidate.icon.id))
        for task in sorted(tasks)
        if _enough(tasks[task], variant)
    }


def chosen(
    tasks: Mapping[str, Sequence[IconCandidate]], variant: Variant
) -> dict[str, list[IconCandidate]]:
    """Return the tasks and their icons after near copies are removed.

    No two icons of a task are near each other, and no icon of an evaluation task is near one of any
    training task. They are compared by `fingerprint` at one size, so the choice holds for every
    size.
    """
    kept = {task: icons for task, icons in _distinct_of(tasks) if _enough(icons, variant)}
    trained = {task: icons for task, icons in kept.items() if split_of(task) == "train"}
    seen = np.array([i.ink for icons in trained.values() for i in icons]).reshape(-1, _INK_BYTES)
    unseen = {
        task: [icon for icon in icons if not _is_near(icon.ink, seen)]
        for task, icons in kept.items()
        if task not in trained
    }
    left = trained | {task: icons for task, icons in unseen.items() if _enough(icons, variant)}
    return {
        task: sorted((icon.candidate for icon in left[task]), key=lambda c: c.icon.id)
        for task in sorted(left)
    }


def _distinct_of(
    tasks: Mapping[str, Sequence[IconCandidate]],
) -> Iterator[tuple[str, list[_Inked]]]:
    progress = Progress("comparing icons", sum(len(icons) for icons in tasks.values()))
    done = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for task, kept in zip(tasks, pool.map(_distinct, tasks.values()), strict=True):
            yield task, kept
            done += len(tasks[task])
            progress.update(done)
    progress.close()


def _distinct(candidates: Sequence[IconCandidate]) -> list[_Inked]:
    """Return the first candidates of a task that differ, up to the limits of source and task."""
    kept: list[_Inked] = []
    of_source = Counter[str]()
    for candidate in candidates:
        if len(kept) == _MOST_OF_A_TASK:
            break
        if of_source[candidate.source] == _MOST_OF_A_SOURCE:
            continue
        ink = _ink(candidate.icon)
        if ink is not None and not _is_near(ink, np.array([k.ink for k in kept], np.uint8)):
            kept.append(_Inked(candidate, ink))
            of_source[candidate.source] += 1
    return kept


def _ink(icon: Icon) -> np.ndarray | None:
    """Return the fingerprint as bits; None for a speck, a blot, or an icon that fails to render."""
    try:
        cells = fingerprint(draw(icon, _SIZE))
    except BadImage:
        return None
    visible = _LEAST_INK <= cells.sum() <= cells.size - _LEAST_INK
    return np.packbits(cells) if visible else None


def _is_near(ink: np.ndarray, others: np.ndarray) -> bool:
    if not len(others):
        return False
    return bool((np.bitwise_count(others ^ ink).sum(axis=1) <= _NEAR).any())


def _enough(icons: Sequence[IconCandidate | _Inked], variant: Variant) -> bool:
    sources = {icon.source for icon in icons}
    return len(icons) >= variant.images and len(sources) >= variant.sources


def _lot(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
