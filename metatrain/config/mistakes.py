"""Sentences about mistakes in a configuration, with hints at the keys that may be meant."""

import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from pydantic_core import ErrorDetails

from metatrain.base.errors import did_you_mean
from metatrain.base.registry import Registry
from metatrain.base.section import Section
from metatrain.config.sentences import by_value, refusal, shown
from metatrain.config.tree import COMPONENTS, Config

# As many keys as a hint names at most.
_MANY = 3


def sentences_about(details: Sequence[ErrorDetails]) -> list[str]:
    """Return a sentence about every value of a configuration that is refused."""
    return [_sentence(place, group) for place, group in by_value(details)]


def _sentence(place: list[str], details: Sequence[ErrorDetails]) -> str:
    detail, chosen = details[0], {}
    for section in COMPONENTS:
        depth = section.count(".") + 1
        if len(place) > depth and fnmatchcase(".".join(place[:depth]), section):
            # Pydantic puts the component's name before its keys.
            chosen[".".join(place[:depth])] = place.pop(depth)
    key = ".".join(place) or "the top level"
    if detail["type"] == "union_tag_invalid":
        name = shown(detail["input"].get("name"))
        return f"{key}.name is {name}; allowed is {', '.join(_registry(key))}."
    if detail["type"] == "union_tag_not_found":
        value = shown(detail["input"])
        return f"{key} is {value}; write {key}.name={value}."
    prefix = f"{key}." if isinstance(detail["input"], dict) else f"{key} "
    return refusal(details, key, lambda: _hint(key, chosen), prefix if place else "")


def _registry(section: str) -> Registry[Any]:
    return next(r for pattern, r in COMPONENTS.items() if fnmatchcase(section, pattern))


def _hint(key: str, chosen: Mapping[str, str]) -> str:
    """Return a hint at what an unknown key may mean.

    Args:
        key: the dotted key.
        chosen: the components around it, by section.
    """
    parent, _, word = key.rpartition(".")
    if parent in chosen:
        others = [n for n, part in _registry(parent).sections.items() if word in part.model_fields]
        if others:
            return (
                f" with {parent}.name={chosen[parent]}; it belongs to {', '.join(others)}, so "
                f"remove it, or choose {parent}.name={others[0]}."
            )
    known = {k: text for k, text in _known_keys(parent) if k != key}
    siblings = {k.rpartition(".")[2]: k for k in known if k.rpartition(".")[0] == parent}
    described = [k for k, text in known.items() if _describes(text, word)]
    near = did_you_mean(word, list(siblings))
    if near and not ("_" in word and described):
        return near.replace("'", f"'{parent}.", 1) if parent else near
    same = [k for k in known if k.rpartition(".")[2] == word]
    nearby = [k for k in described if k in siblings.values()]
    keys = (same or nearby or described)[:_MANY]
    return f"; did you mean {' or '.join(repr(k) for k in keys)}?" if keys else ""


def _describes(description: str, word: str) -> bool:
    """Tell whether a key's description has all parts of another name, such as learning_rate."""
    words = {word.rstrip("s") for word in re.findall(r"[a-z]+", description.lower())}
    return {part.rstrip("s") for part in word.lower().split("_")} <= words


def _known_keys(parent: str) -> Iterator[tuple[str, str]]:
    """Yield dotted keys with their descriptions: the defaults', then those of all components."""
    yield from _keys(Config())
    for section, registry in COMPONENTS.items():
        if fnmatchcase(parent, section) or "*" not in section:
            place = section.replace("*", parent.rpartition(".")[2])
            for part in registry.sections.values():
                if not any(field.is_required() for field in part.model_fields.values()):
                    yield from _keys(part(), f"{place}.")


def _keys(section: Section, prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, field in type(section).model_fields.items():
        yield prefix + key, field.description or ""
        if isinstance(value := getattr(section, key), Section):
            yield from _keys(value, f"{prefix}{key}.")
