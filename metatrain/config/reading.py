"""Configurations read from files, overrides and plain values, with a sentence for every mistake."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from metatrain.base.errors import UserError, did_you_mean
from metatrain.config.moved import with_moved_keys
from metatrain.config.sentences import refusal, shown
from metatrain.config.tree import COMPONENTS, Config
from metatrain.config.values import leaves
from metatrain.storage.files import read_file


def load_config(path: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (a path or any fsspec URL), then apply overrides such as `inner.lr=0.01`.

    Raises:
        UserError: naming the key, its value and what is allowed, or the file that cannot be read.
    """
    return parse_config(load_values(path, overrides))


def load_values(path: str | None = None, overrides: Sequence[str] = ()) -> Any:
    """Read the plain values of a YAML file with overrides, without validating them.

    Raises:
        UserError: when they cannot be read.
    """
    malformed = [override for override in overrides if "=" not in override]
    if malformed:
        raise UserError(
            f"'{malformed[0]}' is not an override; write key=value, as in inner.lr=0.01."
        )
    data = read_file(path) if path else b"{}"
    try:
        tree = OmegaConf.create(data.decode())
        tree = OmegaConf.merge(tree, OmegaConf.from_dotlist(list(overrides)))
        return OmegaConf.to_container(tree, resolve=True)
    except (OmegaConfBaseException, yaml.YAMLError, ValueError, TypeError) as error:
        first_line = str(error).splitlines()[0]
        raise UserError(
            f"{path or 'the overrides'} cannot be read as YAML keys and values: {first_line}."
        ) from error


def parse_config(values: Any) -> Config:
    """Make a `Config` of plain values, such as those in a checkpoint.

    Raises:
        UserError: one line for every key that is unknown or has a value that is not allowed.
    """
    try:
        return Config.model_validate(with_moved_keys(values))
    except ValidationError as error:
        lines = [_sentence(detail) for detail in error.errors()]
        raise UserError("\n  ".join(["the configuration cannot be used:", *lines])) from error


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return `config` with other values at dotted keys.

    Raises:
        UserError: see `parse_config`.
    """
    tree = config.model_dump(mode="json")
    for key, value in values.items():
        *path, leaf = key.split(".")
        section = tree
        for name in path:
            section = section.setdefault(name, {})
        section[leaf] = value
    return parse_config(tree)


def _sentence(detail: ErrorDetails) -> str:
    loc = [str(part) for part in detail["loc"]]
    for section in COMPONENTS:
        depth = section.count(".") + 1
        if fnmatchcase(".".join(loc[:depth]), section):
            del loc[depth : depth + 1]  # pydantic puts the component's name before its keys
    key = ".".join(loc) or "the top level"
    if detail["type"] == "union_tag_invalid":
        name = shown(detail["input"].get("name"))
        registry = next(r for section, r in COMPONENTS.items() if fnmatchcase(key, section))
        return f"{key}.name is {name}; allowed is {', '.join(registry)}."
    if detail["type"] == "union_tag_not_found":
        value = shown(detail["input"])
        return f"{key} is {value}; write {key}.name={value}."
    of_section = loc and isinstance(detail["input"], dict)
    return refusal(detail, key, lambda: _nearest(key), prefix=f"{key}." if of_section else "")


def _nearest(key: str) -> str:
    """Return a hint at a similar key of the same section, or the same key elsewhere."""
    parent, _, word = key.rpartition(".")
    keys = [key for key, _ in leaves(Config())]
    for section, registry in COMPONENTS.items():
        if fnmatchcase(parent, section) or "*" not in section:
            place = section.replace("*", parent.rpartition(".")[2])
            keys += [k for part in registry.values() for k, _ in leaves(part.Config(), f"{place}.")]
    known = list(dict.fromkeys([key.partition(".")[0] for key in keys] + keys))
    siblings = [key.rpartition(".")[2] for key in known if key.rpartition(".")[0] == parent]
    hint = did_you_mean(word, siblings)
    if hint and parent:
        return hint.replace("'", f"'{parent}.", 1)
    elsewhere = [key for key in known if key.rpartition(".")[2] == word]
    return hint or (f"; did you mean '{elsewhere[0]}'?" if elsewhere else "")
