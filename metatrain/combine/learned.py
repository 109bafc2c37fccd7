"""Combinations whose weights are learned on the support of every task."""

from collections.abc import Mapping
from typing import Any

import torch

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.combine.members import steps_behind
from metatrain.config import parse_config
from metatrain.generators import NETWORKS
from metatrain.generators.combined.ensemble import Ensemble
from metatrain.generators.combined.mixture import Mixture
from metatrain.learning.inner.theta import RULE
from metatrain.model.build import build_generator
from metatrain.model.file import Model

# Measured on glyphs, 24 unseen tasks, 40 steps, by the loss on held-out images. With a good and a
# poor member: 0.469 at 0.03, 0.450 at 0.1, 0.449 at 0.3, after 10 steps already. With two equally
# good ones there is nothing to learn, and a high rate does harm: 0.4236 at 0.1, 0.4238 at 0.3.
_ENSEMBLE_LR = 0.3
# In the same way, with the first member adapted to four other tasks as the other members: 0.4408
# at 0.003, 0.4380 at 0.01, 0.4381 at 0.03, 0.4384 at 0.1, 0.4408 at 0.3. With 0.03 alpha can come
# from 0 to 1 within 40 steps, where a member is all that a task needs.
_MIXTURE_LR = 0.03

# Before the names of a network's parameters in a generator.
_NETWORK = "network."


def ensemble(members: Mapping[str, Model]) -> Model:
    """A model whose velocity is a weighted mean of the members'; see `Ensemble`.

    Raises:
        UserError: when a member is not a network alone.
    """
    networks = _networks(members)
    generator = {"name": "ensemble", "members": len(networks)}
    return _learned(members, generator, Ensemble.parameters_of(networks), _ENSEMBLE_LR)


def mixture(members: Mapping[str, Model]) -> Model:
    """The first member, to which the others' differences from it can be added; see `Mixture`.

    Raises:
        UserError: when a member is not a network alone.
    """
    first, *others = _networks(members)
    generator = {"name": "mixture", "vectors": len(others)}
    return _learned(members, generator, Mixture.parameters_of(first, others), _MIXTURE_LR)


def _learned(
    members: Mapping[str, Model], generator: dict[str, Any], parameters: Parameters, lr: float
) -> Model:
    values = next(iter(members.values())).config.model_dump()
    values["generator"] = {**generator, "of": values["generator"]}
    # A learned rule is one for other parameters than the few that are moved now.
    values["learner"] = {"name": "reptile"}
    values["inner"] |= {"scope": {"name": "head"}, "optimizer": "adam"}
    values["adapt"] |= {"lr": lr}
    named = {f"{_NETWORK}{name}": p for name, p in parameters.items()}
    return Model(parse_config(values), named, steps_behind(members))


def _networks(members: Mapping[str, Model]) -> list[Parameters]:
    """The parameters of each member's network, without those of a learned inner rule."""
    config = next(iter(members.values())).config
    kind = NETWORKS.get(config.generator.name)
    if kind is None:
        raise UserError(
            f"{next(iter(members))} is of generator.name={config.generator.name}, which is a "
            f"combination itself; give the models that it was made of."
        )
    with torch.device("meta"):
        network = kind(config.generator, build_generator(config).network.shape)
    names = [f"{_NETWORK}{name}" for name, _ in network.named_parameters()]
    for url, model in members.items():
        extra = [n for n in model.parameters if not n.startswith(RULE) and n not in names]
        if extra:
            raise UserError(
                f"{url} has other parameters than its network's, since it was trained with "
                f"inner.scope.name={model.config.inner.scope.name}; use uniform or greedy."
            )
    return [
        {name.removeprefix(_NETWORK): model.parameters[name] for name in names}
        for model in members.values()
    ]
