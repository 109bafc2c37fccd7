"""Adaptive learning of hyperparameters for fast adaptation."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.learning.inner.config import InnerConfig
from metatrain.learning.inner.rule import InnerRule
from metatrain.learning.learners.maml import MAML
from metatrain.learning.learners.sections import ALFAConfig


class GeneratedRates(InnerRule):
    """The update phi <- b * phi - a * direction, with (a, b) of every layer from a small network.

    The network's input is the mean weight and mean gradient of every layer. a = lr exp(.) stays
    positive; at the start a = lr and b = 1.
    """

    def __init__(self, moved: Parameters) -> None:
        super().__init__()
        layers = len(moved)
        self.hidden = nn.Linear(2 * layers, 2 * layers)
        self.out = nn.Linear(2 * layers, 2 * layers)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)
        self._last = torch.zeros(layers)

    @override
    def forward(
        self, phi: Parameters, direction: Parameters, gradient: Parameters, step: int, lr: float
    ) -> Parameters:
        log_rates, decays = self._generate(phi, gradient)
        self._last = log_rates.detach()
        return {
            name: (1 + decays[i]) * p - lr * log_rates[i].exp() * direction[name]
            for i, (name, p) in enumerate(phi.items())
        }

    @override
    def rates(self, lr: float) -> Tensor:
        """Return the rates of the last inner step."""
        return lr * self._last.exp()

    def _generate(self, phi: Parameters, gradient: Parameters) -> tuple[Tensor, Tensor]:
        state = torch.stack(
            [gradient[name].mean() for name in phi] + [p.mean() for p in phi.values()]
        )
        log_rates, decays = self.out(F.relu(self.hidden(state))).chunk(2)
        return log_rates, decays


class ALFA(MAML):
    """ALFA (Baik et al. 2020, "Meta-Learning with Adaptive Hyperparameters").

    g = 1/M sum_i d/d(theta, h) L(phi_i; Q_i), phi <- b * phi - a * grad L(phi; S_i), k times,
    (a, b) = h(mean gradients, mean weights) of the layers

    Cost: as MAML; the network is small.
    Memory: as MAML.
    Use: tasks so different that no single rate suits all.
    """

    plays_games = False  # learned rates have no one loss

    Config = ALFAConfig

    @staticmethod
    @override
    def rule(config: Any, inner: InnerConfig, moved: Parameters) -> InnerRule:
        return GeneratedRates(moved)
