"""MAML with a learned rate for every parameter."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.learning.inner.config import InnerConfig
from metatrain.learning.inner.rule import InnerRule, attribute_name
from metatrain.learning.learners.maml import MAML
from metatrain.learning.learners.sections import MetaSGDConfig


class RatePerParameter(InnerRule):
    """The update phi <- phi - a * direction, a = lr exp(r) for every weight, r learned from 0.

    The exponential keeps rates positive.
    """

    def __init__(self, moved: Parameters) -> None:
        super().__init__()
        self.log_rates = nn.ParameterDict(
            {attribute_name(name): torch.zeros_like(p) for name, p in moved.items()}
        )

    @override
    def forward(
        self, phi: Parameters, direction: Parameters, gradient: Parameters, step: int, lr: float
    ) -> Parameters:
        return {
            name: p - lr * self.log_rates[attribute_name(name)].exp() * direction[name]
            for name, p in phi.items()
        }

    @override
    def rates(self, lr: float) -> Tensor:
        return lr * torch.cat([r.detach().flatten() for r in self.log_rates.values()]).exp()


class MetaSGD(MAML):
    """Meta-SGD (Li et al. 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning").

    g = 1/M sum_i d/d(theta, a) L(phi_i; Q_i), phi <- phi - a * grad L(phi; S_i), k times

    Cost: as MAML.
    Memory: as MAML, and a rate for every moved weight.
    Use: one or few inner steps.
    """

    plays_games = False  # learned rates have no one loss

    Config = MetaSGDConfig

    @staticmethod
    @override
    def rule(config: Any, inner: InnerConfig, moved: Parameters) -> InnerRule:
        return RatePerParameter(moved)
