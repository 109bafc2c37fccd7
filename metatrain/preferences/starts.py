"""Starts of trainings on choices: the model as it was, or a meta-trained adapter."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.generators.objectives.sections import BETA
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.inner.theta import RULE
from metatrain.model.build import build_adaptation
from metatrain.model.model import Model

# The rate of a start that is not meta-trained.
LR = 3e-4


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of trainings on choices.

    Attributes:
        beta: the strength that holds the model to the reference.
        lr: the rate of Adam, by default 3e-4; or of a meta-trained start, by default its own.
        batch: pairs of a step.
        seed: decides on batches and noise.
    """

    beta: float = BETA
    lr: float | None = None
    batch: int = 16
    seed: int = 0


class Stepper(Protocol):
    """An optimiser of certain parameters."""

    def step(self) -> object:
        """Move the parameters by their gradients."""
        ...


@dataclass(frozen=True)
class Start:
    """A start of trainings.

    Attributes:
        weights: of the scope.
        optimizer: makes the optimiser of parameters of these names.
    """

    weights: Parameters
    optimizer: Callable[[dict[str, nn.Parameter]], Stepper]


def standard_start(reference: Parameters, settings: Settings) -> Start:
    """Start at the weights of the reference, with Adam."""
    lr = settings.lr or LR
    return Start(reference, lambda moved: torch.optim.Adam(moved.values(), lr=lr))


def learned_start(start: Model, reference: Parameters, settings: Settings) -> Start:
    """Start at a meta-trained adapter, with the optimiser and the rates of its inner loop.

    Args:
        start: the model that was meta-trained.
        reference: the weights of the reference, of the same names.
        settings: of the training.

    Raises:
        UserError: when it is an adapter of another network, or learned its rates and one is given.
    """
    refuse_start(start)
    if settings.lr is not None and any(name.startswith(RULE) for name in start.parameters):
        raise UserError("lr is given, and the start learned its inner rates; leave lr out.")
    if fault := _difference(_adapters(start), reference):
        raise UserError(
            f"the start is of another network: {fault}; train a start from the model that was "
            f"adapted."
        )
    config, device = start.config, next(iter(reference.values())).device
    inner = build_adaptation(config, start.to(device).theta())
    lr = settings.lr or config.inner.lr_at(config.meta.steps)
    weights = {name: start.parameters[name].detach().to(device) for name in reference}
    return Start(weights, lambda moved: inner.optimizer(moved, lr))


def refuse_start(start: Model) -> None:
    """Refuse a model that was not meta-trained on choices.

    Raises:
        UserError: naming what it was trained on.
    """
    name = start.config.objective.name
    if name != "preference":
        raise UserError(
            f"the start was trained on objective.name={name}; give a model that was trained on "
            f"objective.name=preference."
        )


def _adapters(start: Model) -> Parameters:
    """Return the weights of a start that choices move."""
    names = SCOPES[start.config.inner.scope.name].names(start.generator())
    return {name: start.parameters[name] for name in names}


def _difference(adapters: Parameters, reference: Parameters) -> str | None:
    """Return what keeps adapters from the place of the reference's; None where nothing does."""
    for name in sorted({*adapters, *reference}):
        there, here = (_shape(weights.get(name)) for weights in (adapters, reference))
        if there != here:
            return f"{name} has {there} there, and {here} here"
    return None


def _shape(weight: Tensor | None) -> str:
    return "no place" if weight is None else f"the shape {list(weight.shape)}"
