"""The typefaces of the test, each with digits that are given and digits that are asked for."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from benchmarks.conditions.sound.recordings import DIGITS, Recording, Recordings
from metatrain.data.conditions.sections import TextConfig
from metatrain.data.examples import Examples
from metatrain.data.packed.store import EpisodeStore, Task
from metatrain.data.tasks.class_reader import ClassReader

DIGIT = "digit"
# Digits that are asked for; the others may be given.
ASKED = 5
SEEN, UNSEEN = "known speakers", "new speaker"


@dataclass(frozen=True, kw_only=True)
class Specimen:
    """A typeface of the test.

    Attributes:
        number: its place among those of the test, the seed of its samples.
        given: images [5, 1, H, W] of the digits that a model may be given.
        given_sounds: a recording of each, of takes that training never hears.
        asked: the digits that are asked for.
        real: their images [5, 1, H, W].
        moved: the same, moved by a pixel or two.
        sounds: by whose they are, a recording of each asked digit.
    """

    number: int
    given: Tensor
    given_sounds: Sequence[Recording]
    asked: str
    real: Tensor
    moved: Tensor
    sounds: Mapping[str, Sequence[Recording]]


def digit_reader(store: EpisodeStore, size: int) -> ClassReader:
    """Return the reader of images with their digits."""
    return ClassReader(store, size, 1, {DIGIT: TextConfig()})


def whole_task(reader: ClassReader, task: Task) -> tuple[Examples, list[str]]:
    """Read all images of a typeface, and the digit of each."""
    examples = reader.examples(task.name, [(task, index) for index in range(task.count)])
    return examples, [str(digit) for digit in examples.given[DIGIT]]


def specimen(reader: ClassReader, task: Task, number: int, spoken: Recordings) -> Specimen:
    """Choose the digits and the recordings of a typeface by its number."""
    examples, digits = whole_task(reader, task)
    stream = np.random.default_rng(number)
    order = "".join(str(digit) for digit in stream.permutation(len(DIGITS)))
    given, asked = order[:-ASKED], order[-ASKED:]

    def images(of: str, variant: int) -> Tensor:
        places = [[i for i, d in enumerate(digits) if d == digit][variant] for digit in of]
        return examples.target[places]

    def recordings(of: str, pool: Mapping[str, list[Recording]]) -> list[Recording]:
        return [pool[digit][stream.integers(len(pool[digit]))] for digit in of]

    return Specimen(
        number=number,
        given=images(given, 0),
        given_sounds=recordings(given, spoken.seen),
        asked=asked,
        real=images(asked, 0),
        moved=images(asked, 1),
        sounds={
            SEEN: recordings(asked, spoken.seen),
            UNSEEN: recordings(asked, spoken.unseen),
        },
    )
