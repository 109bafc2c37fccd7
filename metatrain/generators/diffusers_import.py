"""Import of parts of diffusers when they are used, for it is an optional package of seconds."""

import importlib
from collections.abc import Mapping
from typing import Any

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of


def diffusers_class(name: str) -> Any:
    """Return a class of diffusers.

    Raises:
        UserError: when diffusers is not installed.
    """
    try:
        diffusers = importlib.import_module("diffusers")
    except ImportError as error:
        raise UserError(
            "models of diffusers need a package that is not installed; pip install "
            "'metatrain[backbones]'."
        ) from error
    return getattr(diffusers, name)


def constructed(values: Mapping[str, Any], url: str) -> Any:
    """Make a model of diffusers without its weights.

    Args:
        values: its configuration, with its class.
        url: its folder, for messages.

    Raises:
        UserError: when the configuration cannot be built, or diffusers is not installed.
    """
    kind = diffusers_class(values["_class_name"])
    try:
        return kind.from_config(values)
    except Exception as error:  # a configuration of others may fail in any way
        raise UserError(f"{url}/config.json cannot be built: {reason_of(error)}.") from error
