"""Conditions from what a caller has: texts, files, numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from metatrain.base.errors import UserError, did_you_mean
from metatrain.base.progress import say
from metatrain.base.text import counted, listed, printable
from metatrain.config import Config
from metatrain.data.conditions import CONDITIONS, ConditionKind
from metatrain.data.examples import Condition, repeated_to
from metatrain.data.images import BadValue
from metatrain.generators.conditions.config import conditions_of, kinds_of
from metatrain.generators.conditions.registry import ENCODERS
from metatrain.storage.files import asking, filesystem_of, read_file

# One value of a condition: a text, the path or URL of a file or its bytes, or a number or several.
Value = str | Path | bytes | float | Sequence[float]
# Of each condition by name one value for all images, or a list with one for each.
Given = Mapping[str, Value | list[Any]]


def as_given(given: Given, config: Config, count: int | None = None) -> dict[str, Condition]:
    """Convert the values of conditions to what a generator takes.

    Args:
        given: the values by name.
        config: the model's configuration.
        count: the number of images; None for any.

    Returns:
        A value for each of `count` images; without `count`, as many as were given.

    Raises:
        UserError: when the model has no such condition, or a value cannot be used.
    """
    return {name: _condition(name, value, config, count) for name, value in given.items()}


def condition_of_kind(kind: str, config: Config) -> str:
    """Return the name of the model's one condition of a kind, such as text.

    Raises:
        UserError: when it has none, or several.
    """
    names = [name for name, of_kind in kinds_of(config.generator).items() if of_kind == kind]
    if len(names) == 1:
        return names[0]
    if not names:
        raise UserError(
            f"the model has no condition of the kind {kind}; train one with "
            f"generator.conditions=[support, {kind}]."
        )
    raise UserError(
        f"the model has {len(names)} conditions of the kind {kind}, {listed(names)}; name one in "
        f"Python, by given={{...}} of Model.sample."
    )


def _condition(name: str, value: Value | list[Any], config: Config, count: int | None) -> Condition:
    names = list(kinds_of(config.generator))
    if name not in names:
        raise UserError(
            f"the model has no condition '{printable(name)}', only {listed(names)}"
            f"{did_you_mean(name, names) or '.'}"
        )
    section = config.data.conditions[name]
    kind = CONDITIONS[_name(section)](section, config.data.image_size, config.data.channels)
    values = value if isinstance(value, list) else [value]
    if (count is not None and len(values) not in (1, count)) or not values:
        raise UserError(
            f"'{name}' has {counted(len(values), 'value')} for {counted(count or 1, 'image')}; "
            f"give one for all, or one for each."
        )
    try:
        packed = [_packed(kind, one, config.data.image_size) for one in values]
        condition = kind.decode(packed)
    except BadValue as error:
        raise UserError(f"'{name}' cannot be used: {error}; give another.") from error
    remarks = [kind.unread(one) for one in packed]
    if encoder := conditions_of(config.generator).get(name):
        remarks += [ENCODERS[_name(encoder)].unread(encoder, one) for one in packed]
    for remark in dict.fromkeys(remark for remark in remarks if remark):
        say(f"'{name}' is {remark}.")
    return condition if count is None else repeated_to(count, condition)


def _packed(kind: ConditionKind, value: Value, size: int) -> bytes:
    """Return a value as packing has it."""
    if kind.is_file:
        data = value if isinstance(value, bytes) else _file(str(value), kind.most_bytes)
    else:
        data = (value if isinstance(value, str) else json.dumps(value)).encode(errors="replace")
    if not data.strip():
        raise BadValue("empty")
    return kind.encode(data, size, False)


def _file(url: str, most: int | None) -> bytes:
    """Read a file, but none of more than `most` bytes: memory is bounded."""
    fs, path = filesystem_of(url)
    size = asking(url, lambda: fs.info(path)["size"]) or 0
    if most is not None and size > most:
        raise BadValue(f"a file of more than {most // 10**6} MB")
    return read_file(url)


def _name(section: Any) -> str:
    return section.model_dump()["name"]
