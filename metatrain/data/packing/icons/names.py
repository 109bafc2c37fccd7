"""From an icon's name to its task, and from a task to its split.

What tells styles apart (outline, filled, 24) says nothing about what is drawn, and goes.
"""

import hashlib
from collections import Counter
from collections.abc import Collection

from metatrain.data.packing.icons.sets import IconSet

# Words that tell a style in any set, at either end of a name.
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
# Words that tell a style in sets that use them much, and in others a thing: traffic-light.
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
_MUCH = 0.05
# Which of several drawings it is, or at what size; but of a number it is what is drawn.
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
    """The words by which a set tells its styles apart."""
    ends = Counter[str]()
    for icon in icons.icons:
        words = icon.name.split("-")
        ends.update({words[0], words[-1]} if len(words) > 1 else ())
    much = {word for word in _PERHAPS if ends[word] >= _MUCH * len(icons.icons)}
    return _STYLES | icons.styles | much


def task_of(name: str, styles: Collection[str]) -> str | None:
    """The task of an icon, such as ``arrow-left`` of ``arrow-left-02-filled``, or None."""
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
    """The first word of a task, in the singular."""
    word = task.partition("-")[0]
    return word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] not in "su" else word


def split_of(task: str) -> str:
    """The split of a task: by its head word alone, so that no word is in two.

    Nothing else matters, so a task is in the same split in every variant of the benchmark.
    """
    digest = hashlib.sha256(f"icons/{head_word(task)}".encode()).digest()
    place = int.from_bytes(digest[:8]) / 2**64
    return "train" if place < _TRAIN else "val" if place < _VAL else "test"
