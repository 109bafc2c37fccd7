"""The task of an icon's name, and the split of a task.

Words for styles (outline, filled, 24) say nothing about the motif, and are removed.
"""

import hashlib
from collections import Counter
from collections.abc import Collection

from metatrain.data.packing.icons.sets import IconSet

# Words for a style in any set, at either end of a name.
_STYLES = frozenset(
    [
        "baseline",
        "bold-duotone",
        "bulk",
        "duotone",
        "fill",
        "filled",
        "glyph",
        "linear",
        "outline",
        "outlined",
        "regular",
        "remix",
        "rounded",
        "twotone",
    ]
)
# Words for a style in sets that use them often; in others they are part of a thing: traffic-light.
_PERHAPS = frozenset(
    [
        "alt",
        "bold",
        "broken",
        "duo",
        "f",
        "flat",
        "ios",
        "light",
        "line",
        "logo",
        "md",
        "o",
        "r",
        "round",
        "sharp",
        "solid",
        "stroke",
        "thin",
        "tone",
        "two",
    ]
)
_OFTEN = 0.05
# They count the drawings of a motif, or sizes, unless the motif is a number.
_COUNTED = frozenset(
    [
        "one",
        "two",
        "three",
        "four",
        "five",
        "six",
    ]
)
_NUMBERS = frozenset(
    [
        "number",
        "numeric",
        "digit",
        "counter",
        "dice",
        "looks",
        "filter",
        "exposure",
        "hexagon",
    ]
)

# Shares of the head words.
_TRAIN, _VAL = 0.74, 0.86


def style_words(icons: IconSet) -> frozenset[str]:
    """Return the words for styles in a set."""
    ends = Counter[str]()
    for icon in icons.icons:
        words = icon.name.split("-")
        ends.update({words[0], words[-1]} if len(words) > 1 else ())
    frequent = {word for word in _PERHAPS if ends[word] >= _OFTEN * len(icons.icons)}
    return _STYLES | icons.styles | frequent


def task_of(name: str, styles: Collection[str]) -> str | None:
    """Return the task of an icon, ``arrow-left`` for ``arrow-left-02-filled``, or None."""
    words = name.split("-")
    numbered = words[0] in _NUMBERS

    def is_style(word: str) -> bool:
        return word in styles or (not numbered and (word.isdigit() or word in _COUNTED))

    while len(words) > 1 and is_style(words[-1]):
        words.pop()
    while len(words) > 1 and words[0] in styles:
        words.pop(0)
    task = "-".join(words)
    return task if any(character.isalpha() for character in task) and len(task) > 1 else None


def head_word(task: str) -> str:
    """Return the first word of a task, in the singular."""
    word = task.partition("-")[0]
    return word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] not in "su" else word


def split_of(task: str) -> str:
    """Return the split of a task, which depends on its head word alone: no word is in two splits.

    So a task is in the same split in every variant of the benchmark.
    """
    digest = hashlib.sha256(f"icons/{head_word(task)}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    return "train" if place < _TRAIN else "val" if place < _VAL else "test"
