"""Choosing the icons of the benchmark: which names are tasks, and which icons their samples."""

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

# At which icons are compared, whatever size they are packed at.
_SIZE = 32
# Less ink than this many of the 256 cells is a speck; two icons that differ in no more are one.
_LEAST_INK, _NEAR = 6, 8
_INK_BYTES = 32
_MOST_OF_A_SOURCE, _MOST_OF_A_TASK = 3, 64


@dataclass(frozen=True)
class Variant:
    """How much a name must have to be a task.

    Attributes:
        images: the least images.
        sources: the least families of sets that they come from.
    """

    images: int
    sources: int


NARROW, WIDE = Variant(images=20, sources=8), Variant(images=8, sources=4)


@dataclass(frozen=True)
class Candidate:
    """An icon that may become a sample, the family of its set, and its licence."""

    icon: Icon
    source: str
    licence: str


@dataclass(frozen=True)
class _Inked:
    """A candidate, and where its ink is."""

    candidate: Candidate
    ink: np.ndarray

    @property
    def source(self) -> str:
        return self.candidate.source


def candidates(sets: Iterable[IconSet], variant: Variant) -> dict[str, list[Candidate]]:
    """By task, sorted by name, the icons that may be its samples, if they are enough."""
    tasks: dict[str, list[Candidate]] = defaultdict(list)
    for icons in sets:
        styles = style_words(icons)
        for icon in icons.icons:
            if task := task_of(icon.name, styles):
                tasks[task].append(Candidate(icon, icons.family, icons.licence))
    # In an order that favours no set and no style, and is the same everywhere.
    return {
        task: sorted(tasks[task], key=lambda found: _lot(found.icon.id))
        for task in sorted(tasks)
        if _enough(tasks[task], variant)
    }


def chosen(
    tasks: Mapping[str, Sequence[Candidate]], variant: Variant
) -> dict[str, list[Candidate]]:
    """The tasks that are left, and their icons, once what is too alike is out.

    Within a task, no two icons are near each other; and none of an evaluation task is near one of
    any training task. All by `fingerprint` at one size, so the choice holds for every size.
    """
    kept = {task: found for task, found in _distinct_of(tasks) if _enough(found, variant)}
    trained = {task: found for task, found in kept.items() if split_of(task) == "train"}
    seen = np.array([f.ink for found in trained.values() for f in found]).reshape(-1, _INK_BYTES)
    unseen = {
        task: [f for f in found if not _is_near(f.ink, seen)]
        for task, found in kept.items()
        if task not in trained
    }
    left = trained | {task: found for task, found in unseen.items() if _enough(found, variant)}
    return {
        task: sorted((f.candidate for f in left[task]), key=lambda c: c.icon.id)
        for task in sorted(left)
    }


def _distinct_of(
    tasks: Mapping[str, Sequence[Candidate]],
) -> Iterator[tuple[str, list[_Inked]]]:
    progress = Progress("comparing icons", sum(len(found) for found in tasks.values()))
    done = 0
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for task, kept in zip(tasks, pool.map(_distinct, tasks.values()), strict=True):
            yield task, kept
            done += len(tasks[task])
            progress.update(done)
    progress.close()


def _distinct(found: Sequence[Candidate]) -> list[_Inked]:
    """Of a task's candidates the first that differ, no more of them than may be."""
    kept: list[_Inked] = []
    of_source = Counter[str]()
    for candidate in found:
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
    """The fingerprint, as bits, of an icon that can be drawn and is no speck or blot."""
    try:
        cells = fingerprint(draw(icon, _SIZE))
    except BadImage:
        return None
    seen = _LEAST_INK <= cells.sum() <= cells.size - _LEAST_INK
    return np.packbits(cells) if seen else None


def _is_near(ink: np.ndarray, others: np.ndarray) -> bool:
    if not len(others):
        return False
    return bool((np.bitwise_count(others ^ ink).sum(axis=1) <= _NEAR).any())


def _enough(found: Sequence[Candidate | _Inked], variant: Variant) -> bool:
    sources = {candidate.source for candidate in found}
    return len(found) >= variant.images and len(sources) >= variant.sources


def _lot(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()
