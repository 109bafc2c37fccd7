"""The inner loop: a few steps on one task, from meta-parameters to fast weights."""

from collections.abc import Callable, Iterator
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from metatrain.batch import Batch
from metatrain.generators import Generator
from metatrain.parameters import Parameters
from metatrain.scope import Scope, names_in_scope
from metatrain.section import Section


class InnerConfig(Section):
    """The inner loop of meta-training."""

    steps: int = Field(default=4, ge=1, description="Inner steps (k) of an episode.")
    lr: float = Field(default=1e-3, gt=0, description="Inner learning rate (alpha).")
    optimizer: Literal["sgd", "adam"] = Field(
        default="adam", description="Inner optimiser; its state starts afresh with every task."
    )
    scope: Scope = Field(default="all", description="Which parameters the inner loop moves.")


class InnerLoop:
    """Adapts a generator in place; it is the fast weights phi, and theta stays with the caller.

    Args:
        generator: whose parameters become phi. Nobody else may use them meanwhile.
        config: optimiser, rate, scope and number of steps.
    """

    def __init__(self, generator: Generator, config: InnerConfig) -> None:
        self.generator, self.config = generator, config
        self.scope = names_in_scope(generator, config.scope)
        self._parameters = dict(generator.named_parameters())

    def adapt(self, theta: Parameters, batch: Callable[[int], Batch]) -> Tensor:
        """Take all inner steps from `theta` on `batch(0)`, `batch(1)`, ...

        Returns:
            The loss before each step, [steps].
        """
        return torch.stack(list(self.steps(theta, batch)))

    def steps(self, theta: Parameters, batch: Callable[[int], Batch]) -> Iterator[Tensor]:
        """As `adapt`, pausing after every step to yield the loss before it, a scalar."""
        self.start(theta)
        moved = [self._parameters[name] for name in self.scope]
        optimizer = self._optimizer(moved)
        for step in range(self.config.steps):
            loss = self.generator(batch(step))
            gradients = torch.autograd.grad(loss, moved)
            for parameter, gradient in zip(moved, gradients, strict=True):
                parameter.grad = gradient
            optimizer.step()
            yield loss.detach()
        optimizer.zero_grad()

    def start(self, theta: Parameters) -> None:
        """Set phi = theta."""
        with torch.no_grad():
            for name, parameter in self._parameters.items():
                parameter.copy_(theta[name])

    def phi(self) -> Parameters:
        """The fast weights as they stand; views, not copies."""
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    def gradient(self, batch: Batch) -> tuple[Parameters, Tensor]:
        """Gradient of the loss on `batch` in all parameters at phi, and the loss."""
        loss = self.generator(batch)
        gradients = torch.autograd.grad(loss, list(self._parameters.values()))
        return dict(zip(self._parameters, gradients, strict=True)), loss.detach()

    def _optimizer(self, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
        # A new one for every task: moments of one task must not reach another.
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(parameters, lr=self.config.lr)
        # Fused, or its many small operations cost a tenth of an inner step on a CPU.
        return torch.optim.Adam(parameters, lr=self.config.lr, fused=True)
