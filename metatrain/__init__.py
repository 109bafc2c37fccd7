"""Meta-train image generators that learn something new from a handful of images.

>>> model = metatrain.load("runs/demo")
>>> adapted = model.adapt("five_images/")
>>> adapted.images(16)

Names are imported when they are first used, so that `import metatrain` costs nothing (PEP 562).
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from metatrain.api import evaluate, generate_art, load, pack, train
    from metatrain.base.errors import MissingStepError, UntrustedError, UserError
    from metatrain.config import Config, load_config
    from metatrain.data.examples import Examples
    from metatrain.evaluation.terminal_table import evaluation_table
    from metatrain.model.listing import models
    from metatrain.model.model import Model

__version__ = "0.1.0"

__all__ = [
    "Config",
    "Examples",
    "MissingStepError",
    "Model",
    "UntrustedError",
    "UserError",
    "evaluate",
    "evaluation_table",
    "generate_art",
    "load",
    "load_config",
    "models",
    "pack",
    "train",
]

_HOMES = {
    "Config": "metatrain.config",
    "Examples": "metatrain.data.examples",
    "MissingStepError": "metatrain.base.errors",
    "Model": "metatrain.model.model",
    "UntrustedError": "metatrain.base.errors",
    "UserError": "metatrain.base.errors",
    "evaluate": "metatrain.api",
    "evaluation_table": "metatrain.evaluation.terminal_table",
    "generate_art": "metatrain.api",
    "load": "metatrain.api",
    "load_config": "metatrain.config",
    "models": "metatrain.model.listing",
    "pack": "metatrain.api",
    "train": "metatrain.api",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'metatrain' has no attribute '{name}'")
    from importlib import import_module

    value = getattr(import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
