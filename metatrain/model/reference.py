"""Adapted models stored as what adaptation changed, beside a reference to their origin.

A small scope moves kilobytes of a model of megabytes. The reference is the path from the one file
to the other, so that both may move together, and the hash of the model. A path out of a stranger's
file is never fetched from elsewhere, and what lies there counts only if it has that hash.
"""

import os
from pathlib import Path
from typing import NamedTuple

import torch

from metatrain.base.parameters import Parameters

# A file of changes is written where they are at most this share of the model.
_SMALL = 0.5


class Reference(NamedTuple):
    """A model in another file.

    Attributes:
        path: the path to it, from the folder of the file that refers to it; or its name.
        sha256: the hash of the model, see `Model.sha256`.
        named: whether `path` is a name.
    """

    path: str
    sha256: str
    named: bool = False

    def url_from(self, url: str) -> str:
        """Return the path of the model, as seen from the file `url` that refers to it."""
        return os.path.normpath(Path(url).parent / self.path)


def path_between(url: str, model_url: str) -> str | None:
    """Return the path from the folder of file `url` to `model_url`; None if either is no path."""
    if "://" in url or "://" in model_url:
        return None
    return os.path.relpath(Path(model_url).expanduser().resolve(), Path(url).resolve().parent)


def changes(parameters: Parameters, start: Parameters) -> Parameters | None:
    """Return the parameters that differ from those at the start; None where that saves no room.

    Args:
        parameters: the adapted model's.
        start: those of the model in the same scope, before its first inner step.
    """
    changed = {
        n: p for n, p in parameters.items() if n not in start or not torch.equal(p, start[n])
    }
    return changed if _numbers(changed) <= _SMALL * _numbers(parameters) else None


def _numbers(parameters: Parameters) -> int:
    return sum(parameter.numel() for parameter in parameters.values())
