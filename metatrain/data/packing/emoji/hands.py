"""The hands of the benchmark: sets of emoji, and their drawings of each emoji."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from metatrain.data.packing.emoji.catalogue import Catalogue, Emoji
from metatrain.data.packing.icons.sets import Icon, IconSet, icon_set, is_free, well_formed

# By set, its hand. Fluent Emoji is left out: it is Fluent Emoji Flat with shades. OpenMoji and the
# first Emoji One are share-alike.
HANDS = {
    "emojione": "emojione",
    "fluent-emoji-flat": "fluent",
    "fxemoji": "fxemoji",
    "noto": "noto",
    "noto-v1": "noto-v1",
    "streamline-emojis": "streamline",
    "twemoji": "twemoji",
}

# Counts the drawings of an emoji in one set.
_COUNT = re.compile(r"-\d$")


@dataclass(frozen=True)
class EmojiDrawing:
    """A drawing of an emoji by a hand, and its licence."""

    emoji: Emoji
    hand: str
    icon: Icon
    licence: str


def read_hands(
    parsed: Iterable[Mapping[str, Any]], catalogue: Catalogue
) -> tuple[list[IconSet], list[EmojiDrawing]]:
    """Return the sets of `HANDS` among the parsed ones, and one drawing of each emoji by each hand.

    Raises:
        UserError: when a set is not of Iconify's format.
    """
    sets: list[IconSet] = []
    drawings: dict[tuple[str, Emoji], EmojiDrawing] = {}
    for content in parsed:
        with well_formed(content):
            if content["prefix"] not in HANDS or not is_free(content):
                continue
            icons = icon_set(content)
            sets.append(icons)
            codes = {name: code for code, name in content.get("chars", {}).items()}
        hand = HANDS[icons.name]
        for icon in sorted(icons.icons, key=lambda icon: icon.name):
            if emoji := _emoji_of(icon.name, codes, catalogue):
                drawing = EmojiDrawing(emoji, hand, icon, icons.licence)
                drawings.setdefault((hand, emoji), drawing)
    return sets, list(drawings.values())


def _emoji_of(name: str, codes: Mapping[str, str], catalogue: Catalogue) -> Emoji | None:
    """Return the emoji of an icon: by its code if its set has codes, or else by its name."""
    if codes:
        return catalogue.with_code(codes[name]) if name in codes else None
    return catalogue.with_name(name) or catalogue.with_name(_COUNT.sub("", name))
