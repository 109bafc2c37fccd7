"""MAML++: MAML with measures for stability."""

from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.episodes import Episode
from metatrain.learning.inner.config import InnerConfig
from metatrain.learning.inner.gradient import FirstOrder
from metatrain.learning.inner.rule import InnerRule, attribute_name
from metatrain.learning.learners.learner import Memory, OuterGradient
from metatrain.learning.learners.maml import MAML, leaves
from metatrain.learning.learners.sections import MAMLPlusPlusConfig


class RatePerLayerAndStep(InnerRule):
    """The update phi <- phi - a_t * direction, a_t = lr exp(r) per parameter tensor and step t.

    Steps beyond those of meta-training use the rates of its last step.
    """

    def __init__(self, moved: Parameters, steps: int) -> None:
        super().__init__()
        self.log_rates = nn.ParameterDict(
            {attribute_name(name): p.new_zeros(steps) for name, p in moved.items()}
        )

    @override
    def forward(
        self, phi: Parameters, direction: Parameters, gradient: Parameters, step: int, lr: float
    ) -> Parameters:

        def rate(name: str) -> Tensor:
            rates = self.log_rates[attribute_name(name)]
            return lr * rates[min(step, len(rates) - 1)].exp()

        return {name: p - rate(name) * direction[name] for name, p in phi.items()}

    @override
    def rates(self, lr: float) -> Tensor:
        return lr * torch.cat([r.detach() for r in self.log_rates.values()]).exp()


class MAMLPlusPlus(MAML):
    """MAML++ (Antoniou et al. 2019, "How to train your MAML", section 4).

    g = 1/M sum_i d/d(theta, a) sum_t w_t L(phi_i,t; Q_i), phi_i,t after t inner steps

    Includes the learned rates a per layer and step; the multi-step loss, whose weights w_t start
    equal and move to the last step over `multi_step` outer steps; and derivative-order annealing,
    which drops Hessians in the first `first_order` outer steps. The measures for BatchNorm do not
    apply: generators here have none.

    Cost: as MAML, and k - 1 more gradients per episode until `multi_step`.
    Memory: as MAML, and a gradient per inner step until `multi_step`.
    Use: where MAML is unstable, or its inner rate is hard to find.
    """

    plays_games = False  # learned rates have no one loss

    Config = MAMLPlusPlusConfig

    @staticmethod
    @override
    def rule(config: Any, inner: InnerConfig, moved: Parameters) -> InnerRule:
        return RatePerLayerAndStep(moved, inner.steps)

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:
        theta = leaves(theta)
        order = FirstOrder(self.inner.field) if step < self.config.first_order else None
        steps = list(self.inner.trace(theta, episode.support_batch, self.lr(step), order))
        losses = [
            weight * self.inner.losses(inner_step.phi, episode.query_batch())[0]
            for weight, inner_step in zip(self.step_weights(step), steps, strict=True)
            if weight
        ]
        total = torch.stack(losses).sum()
        metrics = {
            "loss": total.detach(),
            "inner_first": steps[0].loss,
            "inner_last": steps[-1].loss,
        }
        gradient = self.gradient_of([total], theta)
        return OuterGradient(gradient, metrics | self.inner.diagnostics(theta, self.lr(step)))

    def step_weights(self, step: int) -> list[float]:
        """Weigh the query loss after each inner step, at outer step `step`; the sum is 1."""
        count = self.inner.config.steps
        spread = max(0.0, 1 - step / self.config.multi_step) if self.config.multi_step else 0.0
        return [spread / count] * (count - 1) + [1 - spread * (count - 1) / count]
