"""The inner loop: a few steps on one task, from meta-parameters to fast weights."""

from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.base.section import Section, section_of
from metatrain.data.batch import Batch
from metatrain.generators import Draw, Generator
from metatrain.learning.inner.gradient import Adjoint, InnerGradient, Unrolled, query_loss
from metatrain.learning.inner.hvp import HVPS, Difference
from metatrain.learning.inner.loss import Loss, Precision
from metatrain.learning.inner.optimizers import MOMENTUM, OPTIMIZERS, State
from metatrain.learning.inner.scopes import SCOPES, All

RULE = "inner_rule."


class InnerConfig(Section):
    """The inner loop of meta-training."""

    steps: int = Field(default=4, ge=1, description="Inner steps (k) of an episode.")
    lr: float = Field(default=1e-3, gt=0, description="Inner learning rate (alpha).")
    lr_changes: dict[Annotated[int, Field(ge=1)], Annotated[float, Field(gt=0)]] = Field(
        default={}, description="Other inner rates from outer steps on, as {300: 0.002}."
    )
    optimizer: Literal["sgd", "momentum", "adam"] = Field(
        default="adam", description="Inner optimiser; its state starts afresh with every task."
    )
    precision: Precision = Field(
        default="fp32",
        description="What layers compute in while training; adapting is in fp32.",
    )
    compile: bool = Field(
        default=False,
        description="Compile gradients taken in place (reptile, fomaml, ...); starts in minutes.",
    )
    scope: section_of(SCOPES) = All.Config()  # pyright: ignore[reportInvalidTypeForm]

    def lr_at(self, step: int) -> float:
        """The inner rate of outer step `step`, from 0."""
        begun = [first for first in self.lr_changes if first <= step]
        return self.lr_changes[max(begun)] if begun else self.lr


class InnerStep(NamedTuple):
    """Where the differentiable inner loop is: all weights, and the loss before the step."""

    phi: Parameters
    loss: Tensor


class InnerLoop:
    """Adapts a generator to one task.

    `steps` and `adapt` do it in place, and then the generator is the fast weights phi; theta stays
    with the caller. `trace` does the same as a function of theta that can be differentiated.

    Args:
        generator: whose parameters become phi. Nobody else may use them meanwhile.
        config: optimiser, rate, scope and number of steps.
        gradient: how `trace` is differentiated, see `metatrain.learning.inner.gradient`.
        hvp: how Hessian-vector products are made, see `metatrain.learning.inner.hvp`.
        proximity: lambda of a term lambda/2 |phi - centre|^2 that joins the loss of every step
            taken in place.

    Attributes:
        lr: the inner rate; a learner sets it at every outer step.

    Raises:
        UserError: when the generator has BatchNorm, or no parameter in scope.
    """

    def __init__(
        self,
        generator: Generator,
        config: InnerConfig,
        gradient: str = "adjoint",
        hvp: str = "double_backward",
        proximity: float = 0.0,
    ) -> None:
        _refuse_batch_norm(generator)
        self.generator, self.config, self.proximity = generator, config, proximity
        self.lr = config.lr
        self.scope = SCOPES[config.scope.name].names(generator)
        self.loss_at = self._loss()
        self.hvp = HVPS[hvp](self.loss_at)
        self._gradient = Unrolled(self.loss_at) if gradient == "unrolled" else Adjoint(self.hvp)
        # The way back begins with the last step, whose graph an exact product would only rebuild.
        exact = not isinstance(self.hvp, Difference)
        self._last = Unrolled(self.loss_at) if exact else self._gradient
        self._parameters = dict(generator.named_parameters())
        self._objective = torch.compile(generator, dynamic=False) if config.compile else generator

    def adapt(
        self,
        theta: Parameters,
        batch: Callable[[int], Batch],
        centre: Parameters | None = None,
    ) -> Tensor:
        """Take all inner steps in place, from `theta` on `batch(0)`, `batch(1)`, ...

        Args:
            theta: where to start.
            batch: the batch of each inner step.
            centre: what `proximity` pulls to, for the parameters in scope; without, theta.

        Returns:
            The loss before each step, [steps], without the proximity's term.
        """
        return torch.stack(list(self.steps(theta, batch, centre)))

    def steps(
        self,
        theta: Parameters,
        batch: Callable[[int], Batch],
        centre: Parameters | None = None,
    ) -> Iterator[Tensor]:
        """As `adapt`, pausing after every step to yield the loss before it, a scalar."""
        self.start(theta)
        moved = {name: self._parameters[name] for name in self.scope}
        optimizer = self._optimizer(moved)
        for step in range(self.config.steps):
            gradient, loss = self._slope(moved, batch(step))
            for name, parameter in moved.items():
                if self.proximity:
                    away = parameter.detach() - (centre or theta)[name]
                    gradient[name] = gradient[name] + self.proximity * away
                parameter.grad = gradient[name]
            optimizer.step()
            yield loss
        for parameter in moved.values():
            parameter.grad = None

    def trace(
        self,
        theta: Parameters,
        batch: Callable[[int], Batch],
        gradient: InnerGradient | None = None,
    ) -> Iterator[InnerStep]:
        """The inner steps as a differentiable function of `theta`, pausing after each.

        Args:
            theta: where to start: leaves that require gradients, or made of such.
            batch: the batch of each inner step.
            gradient: how to differentiate, where it is not to be the loop's own way.
        """
        last = self._last if gradient is None else gradient
        gradient = gradient or self._gradient
        rule = {n.removeprefix(RULE): p for n, p in theta.items() if n.startswith(RULE)}
        weights = {name: p for name, p in theta.items() if not name.startswith(RULE)}
        moved = {name: weights.pop(name) for name in self.scope}
        state: State = {}
        for step in range(self.config.steps):
            differentiate = last if step + 1 == self.config.steps else gradient
            loss, slope = differentiate(moved, weights, self.draw(batch(step)))
            direction, state = OPTIMIZERS[self.config.optimizer](slope, state, step)
            arguments = (moved, direction, slope, step, self.lr)
            moved = functional_call(self.generator.inner_rule, rule, arguments)
            yield InnerStep(weights | moved, loss)

    def start(self, theta: Parameters) -> None:
        """Set phi = theta, as far as `theta` goes."""
        with torch.no_grad():
            for name, value in theta.items():
                self._parameters[name].copy_(value)

    def phi(self) -> Parameters:
        """The fast weights as they stand; views, not copies."""
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    def loss(self, phi: Parameters, batch: Batch) -> Tensor:
        """The loss on `batch` at weights `phi`, differentiable in them once."""
        return query_loss(self.loss_at, phi, self.draw(batch))

    def gradient(self, batch: Batch) -> tuple[Parameters, Tensor]:
        """Gradient of the loss on `batch` in all parameters at phi, and the loss."""
        return self._slope(self._parameters, batch)

    def _slope(self, wanted: Mapping[str, nn.Parameter], batch: Batch) -> tuple[Parameters, Tensor]:
        """Gradient of the loss on `batch` in the `wanted` parameters at phi, and the loss."""
        draw = self.draw(batch)
        with self.loss_at.computing(draw[0].device):
            loss = self._objective(*draw)
        gradient = torch.autograd.grad(loss, list(wanted.values()), materialize_grads=True)
        return dict(zip(wanted, gradient, strict=True)), loss.detach()

    def draw(self, batch: Batch) -> Draw:
        """What the loss needs of `batch`."""
        return self.generator.draw(batch)

    def _loss(self) -> Loss:
        return Loss(self.generator, self.config.precision)

    def diagnostics(self, theta: Parameters) -> dict[str, Tensor]:
        """What to log of learned rates and of products that are not exact; scalars."""
        self.start({name: p for name, p in theta.items() if name.startswith(RULE)})
        found = {}
        rates = self.generator.inner_rule.rates(self.lr)
        if rates is not None:
            found = {"rate_min": rates.min(), "rate_mean": rates.mean(), "rate_max": rates.max()}
        if isinstance(self.hvp, Difference):
            device = next(iter(theta.values())).device
            found["hvp_error"] = torch.tensor(self.hvp.error, device=device)
        return found

    def _optimizer(self, moved: dict[str, nn.Parameter]) -> "torch.optim.Optimizer | _RuleSteps":
        # A new one for every task: moments of one task must not reach another.
        if len(list(self.generator.inner_rule.parameters())):
            return _RuleSteps(self.generator, moved, self.config.optimizer, self.lr)
        lr, parameters = self.lr, list(moved.values())
        if self.config.optimizer == "adam":
            # Fused, or its many small operations cost a tenth of an inner step on a CPU; without
            # values, as a plan has it, there is nothing to fuse.
            return torch.optim.Adam(parameters, lr=lr, fused=not parameters[0].is_meta)
        return torch.optim.SGD(
            parameters, lr=lr, momentum=MOMENTUM if self.config.optimizer == "momentum" else 0.0
        )


class _RuleSteps:
    """Takes the steps of a learned update rule in place, as torch's optimisers take theirs."""

    def __init__(
        self, generator: Generator, moved: dict[str, nn.Parameter], optimizer: str, lr: float
    ) -> None:
        self._rule, self._moved, self._lr = generator.inner_rule, moved, lr
        self._optimizer = OPTIMIZERS[optimizer]
        self._state: State = {}
        self._step = 0

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients."""
        gradient = {n: p.grad for n, p in self._moved.items() if p.grad is not None}
        direction, self._state = self._optimizer(gradient, self._state, self._step)
        phi = self._rule({**self._moved}, direction, gradient, self._step, self._lr)
        for name, parameter in self._moved.items():
            parameter.copy_(phi[name])
        self._step += 1


def _refuse_batch_norm(generator: nn.Module) -> None:
    for name, module in generator.named_modules():
        if isinstance(module, _BatchNorm):
            raise UserError(
                f"{type(generator).__name__}.{name} is a BatchNorm, whose running statistics carry "
                f"one task into the next; use metatrain.generators.networks.layers.group_norm."
            )
