"""Icon sets, and the choice of those with a free licence and one colour."""

import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from metatrain.base.errors import UserError

# Permissive licences, and those that require attribution alone. Share-alike, non-commercial and
# copyleft licences are left out, and so is the OFL, which extends to works made of a font.
FREE = re.compile(r"MIT|Apache-2\.0|ISC|BSD-[23]-Clause|CC0-1\.0|CC-BY-\d\.\d|Unlicense|0BSD")

# Brands look alike in every set, and are trademarks whatever the licence.
_LEFT_OUT = ("Logos",)

# Sets by the same authors, most of them editions or weights of one drawing.
_FAMILIES = {
    "bx": "boxicons",
    "bxs": "boxicons",
    "ic": "material",
    "uil": "unicons",
    "uim": "unicons",
    "uis": "unicons",
    "uit": "unicons",
}


@dataclass(frozen=True)
class Icon:
    """One icon: the content of an SVG, in `currentColor`, and its canvas.

    Attributes:
        set: the set's short name.
        name: the icon's name within the set.
        body: SVG elements, without the element svg around them.
        box: left, top, width and height of the canvas, in the body's units.
    """

    set: str
    name: str
    body: str
    box: tuple[float, float, float, float]

    @property
    def id(self) -> str:
        """The name in the whole package, such as ``tabler:home``."""
        return f"{self.set}:{self.name}"


@dataclass(frozen=True)
class IconSet:
    """A set of icons by one author under one licence.

    Attributes:
        name: short and unique, such as ``tabler``.
        title: the name for people.
        author: the author's name.
        url: the origin of the set.
        licence: the SPDX identifier.
        styles: endings and beginnings of names that stand for styles in this set.
        icons: the icons, without hidden ones and aliases.
    """

    name: str
    title: str
    author: str
    url: str
    licence: str
    styles: frozenset[str]
    icons: tuple[Icon, ...]

    @property
    def family(self) -> str:
        """The family of the set: sets by the same authors share it."""
        return _FAMILIES.get(self.name) or self.name.partition("-")[0].rstrip("0123456789")


def usable_sets(parsed: Iterable[Mapping[str, Any]]) -> Iterator[IconSet]:
    """Yield the parsed sets that have a free licence, one colour, and no logos.

    Raises:
        UserError: when one is not of Iconify's format.
    """
    for content in parsed:
        with well_formed(content):
            info = content["info"]
            usable = not info.get("palette") and info.get("category") not in _LEFT_OUT
            if usable and is_free(content):
                yield icon_set(content)


@contextmanager
def well_formed(content: Any) -> Iterator[None]:
    """Raise a UserError where the block inside finds a parsed set not of Iconify's format."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        name = content.get("prefix") if isinstance(content, Mapping) else None
        raise UserError(
            f"the icon set {name!r} is malformed ({error!r}); remove the package, and pack again."
        ) from error


def is_free(content: Mapping[str, Any]) -> bool:
    """Tell whether a parsed set has a free licence."""
    return FREE.fullmatch(content["info"]["license"].get("spdx", "")) is not None


def icon_set(content: Mapping[str, Any]) -> IconSet:
    """Return a parsed set with its icons."""
    info = content["info"]
    styles = (*(content.get("suffixes") or ()), *(content.get("prefixes") or ()))
    return IconSet(
        name=content["prefix"],
        title=info["name"],
        author=info["author"]["name"],
        url=info["author"].get("url") or info["license"].get("url") or "",
        licence=info["license"]["spdx"],
        styles=frozenset(word for style in styles for word in style.split("-") if word),
        icons=tuple(
            Icon(content["prefix"], name, icon["body"], _box(content | icon))
            for name, icon in content["icons"].items()
            if not icon.get("hidden")
        ),
    )


def _box(icon: Mapping[str, Any]) -> tuple[float, float, float, float]:
    # Iconify's defaults.
    defaults = {"left": 0, "top": 0, "width": 16, "height": 16}
    left, top, width, height = (float(icon.get(key, value)) for key, value in defaults.items())
    return left, top, width, height
