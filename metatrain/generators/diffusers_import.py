"""Import of parts of diffusers when they are used, for it is an optional package of seconds."""

import importlib
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.generators.parameter_bound import at_most
from metatrain.storage.local_disk import refuse_beyond_memory

# Tensors of the largest networks, a few times over.
_MOST_PARAMETERS = 8_000


def diffusers_class(name: str) -> Any:
    """Return a class of diffusers.

    Raises:
        UserError: when diffusers is not installed.
    """
    try:
        # Modules make tensors as they are imported, which whoever counts or records those of a
        # network in the making must not take for its own.
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return getattr(importlib.import_module("diffusers"), name)
    except ImportError as error:
        raise UserError(
            "models of diffusers need a package that is not installed; pip install "
            "'metatrain[backbones]'."
        ) from error


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
        with at_most(_MOST_PARAMETERS):
            with torch.device("meta"):
                size = sum(
                    p.numel() * p.element_size() for p in kind.from_config(values).parameters()
                )
            if torch.get_default_device().type == "cpu":
                refuse_beyond_memory(f"the model in {url}", size)
            return kind.from_config(values)
    except UserError:
        raise
    except Exception as error:  # a configuration of others may fail in any way
        raise UserError(f"{url}/config.json cannot be built: {reason_of(error)}.") from error
