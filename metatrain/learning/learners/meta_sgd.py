"""MAML with learned rates, one a parameter."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from metatrain.base.parameters import Parameters
from metatrain.base.section import Section
from metatrain.learning.inner.loop import InnerConfig
from metatrain.learning.inner.rule import InnerRule, attribute_name
from metatrain.learning.learners.maml import MAML


class RatePerParameter(InnerRule):
    """phi <- phi - a * direction, a = lr exp(r) for every single weight, r learned from 0.

    The exponential keeps rates above 0.
    """

    def __init__(self, moved: Parameters) -> None:
        super().__init__()
        self.log_rates = nn.ParameterDict(
            {attribute_name(name): torch.zeros_like(p) for name, p in moved.items()}
        )

    def forward(
        self, phi: Parameters, direction: Parameters, gradient: Parameters, step: int, lr: float
    ) -> Parameters:
        """See `InnerRule.forward`."""
        return {
            name: p - lr * self.log_rates[attribute_name(name)].exp() * direction[name]
            for name, p in phi.items()
        }

    def rates(self, lr: float) -> Tensor:
        """See `InnerRule.rates`."""
        return lr * torch.cat([r.detach().flatten() for r in self.log_rates.values()]).exp()


class MetaSGD(MAML):
    """Meta-SGD (Li et al. 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning").

    g = 1/M sum_i d/d(theta, a) L(phi_i; Q_i), phi <- phi - a * grad L(phi; S_i), k times

    Cost: as MAML.
    Memory: as MAML, and meta-parameters twice the moved ones.
    Use: one or few inner steps, where each has to count.
    """

    shardable = False  # rates belong to parameters and layers as a whole

    class Config(Section):
        """Nothing to set beyond the inner loop."""

        name: Literal["meta-sgd"] = "meta-sgd"

    @staticmethod
    def rule(config: Any, inner: InnerConfig, moved: Parameters) -> InnerRule:
        """See `Learner.rule`."""
        return RatePerParameter(moved)
