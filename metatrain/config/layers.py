"""Layers of plain values: dotted keys nested, and one layer over another.

A layer that chooses another component drops what the layer below repeats of the old one's defaults.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Any

from pydantic_core import to_jsonable_python

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.config.tree import COMPONENTS, brought_scope
from metatrain.learning.inner.registry import SCOPES

Values = Mapping[str, Any]


def nested(values: Values, *, depth: int | None = None) -> dict[str, Any]:
    """Nest dotted keys, `inner.lr: 1` as `inner: {lr: 1}`.

    Args:
        values: plain values.
        depth: the number of levels whose keys are nested; None nests those of all.

    Raises:
        UserError: when a key is there twice, dotted and nested.
    """
    tree: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and depth != 1:
            value = nested(value, depth=depth and depth - 1)
        # Keys may be numbers, such as outer steps.
        first, *rest = key.split(".") if isinstance(key, str) else [key]
        for name in reversed(rest):
            value = {name: value}
        _add(tree, first, value, first)
    return tree


def _add(tree: dict[str, Any], name: Any, value: Any, place: Any) -> None:
    """Set a value that `tree` does not have yet; sections are united."""
    if name not in tree:
        tree[name] = value
    elif isinstance(value, Mapping) and isinstance(tree[name], dict):
        for part, inner in value.items():
            _add(tree[name], part, inner, f"{place}.{part}")
    else:
        raise UserError(f"the key {place} is there twice, dotted and nested; remove one.")


def united(base: Values, changes: Values) -> dict[str, Any]:
    """Return nested values with changes on top; a section keeps what is not changed."""
    tree = dict(base)
    for key, value in changes.items():
        if isinstance(value, Mapping):
            value = united(_section(tree.get(key)), value)
        tree[key] = value
    return tree


def _section(short: Any) -> Values:
    """Write a value out as a section: `text` is `{name: text}`, and `[text]` is `{text: text}`."""
    if isinstance(short, str):
        return {"name": short}
    if isinstance(short, list) and all(isinstance(name, str) for name in short):
        return {name: name for name in short}
    return short if isinstance(short, Mapping) else {}


def overlaid(base: Values, changes: Values) -> dict[str, Any]:
    """Return `united` values, without defaults in `base` of components that the changes replace."""
    kept = _without_old_defaults(without_brought_scope(base, changes), changes)
    return united(kept, changes)


def without_brought_scope(base: Values, changes: Values) -> dict[str, Any]:
    """Drop the scope that a learner or generator brings, where the changes choose another one."""
    chosen = [changes.get(section) for section in ("learner", "generator")]
    inner = base.get("inner")
    if isinstance(inner, Mapping) and any(isinstance(c, Mapping) and "name" in c for c in chosen):
        brought = {"name": brought_scope(base) or next(iter(SCOPES))}
        if inner.get("scope") == brought:
            return {**base, "inner": {k: v for k, v in inner.items() if k != "scope"}}
    return dict(base)


def _without_old_defaults(base: Values, changes: Values, place: str = "") -> dict[str, Any]:
    registries = (r for section, r in COMPONENTS.items() if fnmatchcase(place, section))
    sections = next((registry.sections for registry in registries), {})
    before = base.get("name", next(iter(sections), None))
    if before in sections and changes.get("name", before) != before:
        return _without_defaults(base, sections[before])
    kept = dict(base)
    for key, value in base.items():
        change = changes.get(key)
        if isinstance(value, Mapping) and isinstance(change, Mapping):
            kept[key] = _without_old_defaults(value, change, f"{place}.{key}" if place else key)
    return kept


def _without_defaults(values: Values, section: type[Section]) -> dict[str, Any]:
    """Return the values that differ from a section's defaults, and its name."""
    defaults = {
        key: field.get_default(call_default_factory=True)
        for key, field in section.model_fields.items()
        if not field.is_required()
    }
    kept: dict[str, Any] = {}
    for key, value in values.items():
        default = defaults.get(key)
        if isinstance(default, Section) and isinstance(value, Mapping):
            name = getattr(default, "name", None)
            if value.get("name", name) == name:
                value = _without_defaults(value, type(default))
                if not value.keys() - {"name"}:
                    continue
        elif key != "name" and key in defaults and to_jsonable_python(default) == value:
            continue
        kept[key] = value
    return kept
