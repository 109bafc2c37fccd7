"""Collapse: samples of a game that are much more alike than the images that it adapted to."""

import torch
from torch import Tensor

from metatrain.metrics.diversity import collapse, diversity
from metatrain.model.model import Model

# Samples to compare.
_SAMPLES = 32


def collapse_of(adapted: Model) -> str | None:
    """Return a line if the samples of an adapted game have collapsed, by their pixels; else None.

    Only games are looked at: with one loss to minimise, a model has no reason to collapse.
    """
    support = adapted.support
    if support is None or len(support) < 2 or len(adapted.theta().terms) < 2:
        return None
    sentence = collapse(_diversity(adapted.sample(_SAMPLES)), _diversity(support.target))
    return sentence and f"Warning: {sentence}; take fewer inner steps, or give more images."


def _diversity(images: Tensor) -> float:
    return diversity(torch.flatten(images, 1)[None].cpu()).item()
