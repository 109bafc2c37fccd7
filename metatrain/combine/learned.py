"""Combinations with weights that are learned on the support of every task."""

from collections.abc import Mapping
from typing import Any

import torch

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.base.text import listed
from metatrain.combine.members import combined_step
from metatrain.config import parse_config
from metatrain.generators import NETWORKS
from metatrain.generators.combined.ensemble import Ensemble
from metatrain.generators.combined.gan_mixture import GANMixture
from metatrain.generators.combined.mixture import Mixture
from metatrain.generators.networks.adversarial import AdversarialNetwork
from metatrain.learning.inner.theta import RULE
from metatrain.model.build import build_generator
from metatrain.model.model import Model

# Measured by the loss on held-out images of 24 unseen glyph tasks, 40 steps. With a good and a poor
# member: 0.469 at 0.03, 0.450 at 0.1, 0.449 at 0.3, reached within 10 steps. With two equally good
# members there is nothing to learn, and a high rate does harm: 0.4236 at 0.1, 0.4238 at 0.3.
_ENSEMBLE_LR = 0.3
# Measured likewise, with the first member adapted to four other tasks as the other members: 0.4408
# at 0.003, 0.4380 at 0.01, 0.4381 at 0.03, 0.4384 at 0.1, 0.4408 at 0.3. At 0.03, alpha can go from
# 0 to 1 within 40 steps, which a task needs that one member fits.
MIXTURE_LR = 0.03

# The prefix of the names of a network's parameters in a generator.
_NETWORK = "network."


def ensemble(members: Mapping[str, Model]) -> Model:
    """Return a model whose velocity is a weighted mean of the members'; see `Ensemble`.

    Raises:
        UserError: when a member is more than a network.
    """
    networks = _networks(members)
    generator = {"name": "ensemble", "members": len(networks)}
    return _learned(members, generator, Ensemble.parameters_of(networks), _ENSEMBLE_LR)


def mixture(members: Mapping[str, Model]) -> Model:
    """Return the first member, with weighted differences of the others added; see `Mixture`.

    Of GANs both players are mixed, see `GANMixture`.

    Raises:
        UserError: when a member is more than a network.
    """
    first, *others = _networks(members)
    kind = NETWORKS[next(iter(members.values())).config.generator.name]
    name, mixed = (
        ("gan_mixture", GANMixture)
        if issubclass(kind, AdversarialNetwork)
        else ("mixture", Mixture)
    )
    generator = {"name": name, "vectors": len(others)}
    return _learned(members, generator, mixed.parameters_of(first, others), MIXTURE_LR)


def _learned(
    members: Mapping[str, Model], generator: dict[str, Any], parameters: Parameters, lr: float
) -> Model:
    first = next(iter(members.values()))
    values = first.config.model_dump()
    values["generator"] = {**generator, "of": values["generator"]}
    # A learned inner rule belongs to the members' parameters, not to the few that adapt now.
    values["learner"] = {"name": "reptile"}
    values["inner"] |= {"scope": {"name": "head"}, "optimizer": "adam"}
    values["adapt"] |= {"lr": lr}
    named = {f"{_NETWORK}{name}": p for name, p in parameters.items()}
    step = combined_step(members)
    return Model(parse_config(values), named, step, frozen=first.frozen)


def _networks(members: Mapping[str, Model]) -> list[Parameters]:
    """Return the parameters of each member's network, without those of a learned inner rule."""
    config = next(iter(members.values())).config
    kind = NETWORKS.get(config.generator.name)
    if kind is None:
        raise UserError(
            f"{next(iter(members))} has generator.name={config.generator.name}, which is a "
            f"combination itself, or of a kind that has none; give models of {listed(NETWORKS)}."
        )
    with torch.device("meta"):
        network = kind(config.generator, build_generator(config).network.shape)
    names = [f"{_NETWORK}{name}" for name, _ in network.named_parameters()]
    for url, model in members.items():
        extra = [n for n in model.parameters if not n.startswith(RULE) and n not in names]
        if extra:
            raise UserError(
                f"{url} has parameters beside its network's, because it was trained with "
                f"inner.scope.name={model.config.inner.scope.name}; use uniform or greedy."
            )
    return [
        {name.removeprefix(_NETWORK): model.parameters[name] for name in names}
        for model in members.values()
    ]
