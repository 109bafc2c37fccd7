"""The emoji of Unicode: names, tags and subgroups, from the npm package `emojibase-data`."""

import json
import re
import tarfile
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metatrain.base.errors import UserError
from metatrain.data.packing.npm import NpmPackage, members

EMOJIBASE = NpmPackage(
    name="emojibase-data",
    version="17.0.0",
    integrity="sha512-Yvgb5AWoHViHV/gq1qr5ZAarcBip+B27/"
    "ZLRsUJkbgAEaLlZ/fof9g882LTpmEpyhBNEC0m2SEmItljHsTygjA==",
    size=6_711_091,
)

_EMOJI, _GROUPS = "en/data", "meta/groups"
# Further names, the surest first.
_NAMES = (
    "meta/unicode-names",
    "en/shortcodes/cldr",
    "en/shortcodes/github",
    "en/shortcodes/iamcal",
    "en/shortcodes/emojibase",
)
_FILES = re.compile(rf"package/({'|'.join((_EMOJI, _GROUPS, *_NAMES))})\.json")
_FILE_BYTES = 4_000_000
# A flag is the design of a state; a component, such as a skin tone, is never drawn alone.
_LEFT_OUT = ("component", "flags")
_SELECTORS = ("FE0E", "FE0F")

# Names by the code of an emoji.
Vocabulary = Mapping[str, Iterable[str]]


@dataclass(frozen=True)
class Emoji:
    """An emoji, without skin tones.

    Attributes:
        character: the emoji itself.
        label: its name in the Unicode CLDR.
        tags: further words for it.
        group: its group in Unicode, such as ``animals-nature``.
        subgroup: its subgroup there, such as ``animal-bird``.
    """

    character: str
    label: str
    tags: tuple[str, ...]
    group: str
    subgroup: str

    @property
    def caption(self) -> str:
        """The name and the tags, such as ``baby chick, animal, bird``."""
        return caption_of(self.label, self.tags)


def caption_of(label: str, tags: Iterable[str]) -> str:
    """Return a caption of a name and tags, of which one may be the name again."""
    return ", ".join((label, *(tag for tag in tags if tag != label)))


class Catalogue:
    """All emoji but flags and components, to be found by code or by name.

    Args:
        emoji: by code, such as ``1F423``.
        vocabularies: names, of which those in an earlier vocabulary count first. A name of two
            emoji in one vocabulary counts for nothing there.
    """

    def __init__(self, emoji: Mapping[str, Emoji], vocabularies: Iterable[Vocabulary]) -> None:
        self._by_code = {_plain(code): emoji[code] for code in emoji}
        self._by_name: dict[str, Emoji] = {}
        for vocabulary in vocabularies:
            for name, codes in _codes_by_name(vocabulary).items():
                named = self._by_code.get(min(codes))
                if named and len(codes) == 1:
                    self._by_name.setdefault(name, named)

    def subgroups(self) -> dict[str, set[str]]:
        """Return the subgroups by group."""
        subgroups: dict[str, set[str]] = defaultdict(set)
        for emoji in self._by_code.values():
            subgroups[emoji.group].add(emoji.subgroup)
        return subgroups

    def with_code(self, code: str) -> Emoji | None:
        """Return the emoji with a code, in either case, with or without variation selectors."""
        return self._by_code.get(_plain(code))

    def with_name(self, name: str) -> Emoji | None:
        """Return the emoji with a name, whatever separates its words."""
        return self._by_name.get(_letters(name))


def read_catalogue(archive: Path) -> Catalogue:
    """Read the catalogue from the package's archive; nothing is unpacked to disk.

    Raises:
        UserError: when it is no such archive.
    """
    try:
        files = {
            name.removeprefix("package/").removesuffix(".json"): json.load(file)
            for name, file in members(archive, _FILES, _FILE_BYTES)
        }
        emoji = dict(_emoji(files[_EMOJI], files[_GROUPS]))
        labels = {code: [emoji[code].label] for code in emoji}
        return Catalogue(emoji, [labels, *(_vocabulary(files[name]) for name in _NAMES)])
    except (
        *(tarfile.TarError, OSError, EOFError, RecursionError),
        *(LookupError, TypeError, ValueError, AttributeError),
    ) as error:
        raise UserError(
            f"{archive} cannot be read as a catalogue of emoji ({error!r}); remove it and pack "
            f"again."
        ) from error


def _emoji(entries: list[dict[str, Any]], groups: Mapping[str, Any]) -> Iterator[tuple[str, Emoji]]:
    """Yield codes and emoji. Letters of flags have no group, and skin tones are within entries."""
    for entry in entries:
        group = groups["groups"].get(str(entry.get("group")), _LEFT_OUT[0])
        if group not in _LEFT_OUT:
            subgroup = groups["subgroups"][str(entry["subgroup"])]
            tags = tuple(str(tag) for tag in entry.get("tags", ()))
            yield entry["hexcode"], Emoji(entry["emoji"], entry["label"], tags, group, subgroup)


def _vocabulary(names: Mapping[str, str | list[str]]) -> Vocabulary:
    return {code: [name] if isinstance(name, str) else name for code, name in names.items()}


def _codes_by_name(vocabulary: Vocabulary) -> dict[str, set[str]]:
    codes: dict[str, set[str]] = defaultdict(set)
    for code, names in vocabulary.items():
        for name in names:
            codes[_letters(name)].add(_plain(code))
    return codes


def _plain(code: str) -> str:
    return "-".join(part for part in code.upper().split("-") if part not in _SELECTORS)


def _letters(name: str) -> str:
    return "".join(character for character in name.casefold() if character.isalnum())
