"""Configurations read from files, overrides and plain values, with a sentence for every mistake."""

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any

from pydantic import ValidationError

from metatrain.base.errors import UserError
from metatrain.config.layers import nested, overlaid, united
from metatrain.config.mistakes import sentences_about
from metatrain.config.moved import with_moved_keys
from metatrain.config.tree import Config
from metatrain.config.yaml_values import parse_file, parse_override
from metatrain.storage.files import read_file


def load_config(path: str | None = None, overrides: Sequence[str] = ()) -> Config:
    """Read a YAML file (a path or any fsspec URL), then apply overrides such as `inner.lr=0.01`.

    An override that chooses another component, such as `generator.name=dit`, drops what the file
    repeats of the old one's defaults.

    Raises:
        UserError: naming the key, its value and what is allowed, or the file that cannot be read.
    """
    return parse_config(load_values(path, overrides))


def load_values(path: str | None = None, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """Read the plain values of a configuration with overrides, without validating them.

    Raises:
        UserError: when they cannot be read.
    """
    values = nested(read_yaml(path)) if path else {}
    return overlaid(values, override_values(overrides))


def read_yaml(path: str) -> dict[str, Any]:
    """Read the keys and values of a YAML file, a path or any fsspec URL, as they are.

    Raises:
        UserError: when it cannot be read.
    """
    return parse_file(read_file(path), path)


def override_values(overrides: Sequence[str]) -> dict[str, Any]:
    """Parse overrides such as `inner.lr=0.01` into nested values; the last of a key wins.

    Raises:
        UserError: naming the override that cannot be read.
    """
    pairs = [nested(dict([parse_override(override)])) for override in overrides]
    return reduce(united, pairs, {})


def parse_config(values: Any) -> Config:
    """Make a `Config` of plain values, such as those in a checkpoint.

    Raises:
        UserError: one line for every key that is unknown or has a value that is not allowed.
    """
    try:
        return Config.model_validate(with_moved_keys(values))
    except ValidationError as error:
        lines = sentences_about(error.errors())
        raise UserError("\n  ".join(["the configuration cannot be used:", *lines])) from error


def with_values(config: Config, values: Mapping[str, Any]) -> Config:
    """Return `config` with other values at dotted keys.

    Raises:
        UserError: see `parse_config`.
    """
    return parse_config(overlaid(config.model_dump(mode="json"), nested(values)))
