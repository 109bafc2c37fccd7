"""The inner loop: a few steps on one task, from meta-parameters to fast weights."""

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.data.batch import Batch
from metatrain.generators import Draw
from metatrain.learning.inner.config import InnerConfig
from metatrain.learning.inner.gradient import Adjoint, InnerGradient, Unrolled, query_loss
from metatrain.learning.inner.gradient_field import GradientField, total
from metatrain.learning.inner.hvp import HVPS, FiniteDifference
from metatrain.learning.inner.in_place import InPlaceAdam, InPlaceOptimizer, InPlaceSGD
from metatrain.learning.inner.optimizers import OPTIMIZERS, Direction, State
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.inner.rule import InnerRule
from metatrain.learning.inner.theta import RULE, Theta


class InnerStep(NamedTuple):
    """All weights after a step of the differentiable inner loop, and the loss before it."""

    phi: Parameters
    loss: Tensor


class InnerLoop:
    """Adapts a generator to one task.

    `steps` and `adapt` do it in place, and then the generator is the fast weights phi; theta stays
    with the caller. `trace` does the same as a function of theta that can be differentiated.

    Args:
        theta: the owner of the generator, whose parameters become phi; nothing else may use them
            meanwhile.
        config: optimiser, rate, scope and number of steps.
        gradient: the method to differentiate `trace`, see `metatrain.learning.inner.gradient`.
        hvp: the method for Hessian-vector products, see `metatrain.learning.inner.hvp`.
        proximity: lambda of a term lambda/2 |phi - centre|^2 that joins the loss of every step
            taken in place.
        field: the gradient field; by default, that of whole weights.

    Raises:
        UserError: when no parameter is in scope, or `hvp` cannot serve an objective of several
            terms.
    """

    def __init__(
        self,
        theta: Theta,
        config: InnerConfig,
        gradient: str = "adjoint",
        hvp: str = "double_backward",
        proximity: float = 0.0,
        field: GradientField | None = None,
    ) -> None:
        self.theta, self.generator = theta, theta.generator
        self.config, self.proximity = config, proximity
        self.scope = SCOPES[config.scope.name].names(self.generator)
        if not self.scope:
            raise UserError(
                f"inner.scope.name={config.scope.name} moves no parameter of "
                f"{type(self.generator.network).__name__}, which is frozen or has none there; use "
                f"inner.scope.name=lora, which adds some."
            )
        self.field = field or GradientField(theta, config.precision)
        self.hvp = HVPS[hvp](self.field)
        exact = not isinstance(self.hvp, FiniteDifference)
        if not exact and len(theta.terms) > 1:
            raise UserError(
                f"meta.hvp=difference needs a symmetric Hessian, and the objective has "
                f"{len(theta.terms)} terms; use meta.hvp=double_backward."
            )
        self._gradient = Unrolled(self.field) if gradient == "unrolled" else Adjoint(self.hvp)
        # A backward pass begins with the last step, whose graph an exact product would rebuild.
        self._last = Unrolled(self.field) if exact else self._gradient
        self._updates = theta.by_update(self.scope)
        # With momentum, players that answer each other overshoot.
        usual = 0.9 if len(theta.terms) == 1 else 0.0
        self._momentum = usual if config.momentum is None else config.momentum
        self._parameters: dict[str, nn.Parameter] = theta.named()
        generator = self.generator
        self._objective = torch.compile(generator, dynamic=False) if config.compile else generator

    def adapt(
        self,
        theta: Parameters,
        batch: Callable[[int], Batch],
        lr: float,
        centre: Parameters | None = None,
    ) -> Tensor:
        """Take all inner steps in place, from `theta` on `batch(0)`, `batch(1)`, ...

        Args:
            theta: where to start.
            batch: maps the number of an update to its batch; a step is one update or several.
            lr: the inner rate.
            centre: what `proximity` pulls the parameters in scope towards; by default theta.

        Returns:
            The loss before each step, [steps], without the proximity's term.
        """
        return torch.stack(list(self.steps(theta, batch, lr, centre)))

    def steps(
        self,
        theta: Parameters,
        batch: Callable[[int], Batch],
        lr: float,
        centre: Parameters | None = None,
    ) -> Iterator[Tensor]:
        """Take the steps of `adapt`, yielding after each the loss before it, a scalar."""
        self.start(theta)
        moved = {name: self._parameters[name] for name in self.scope}
        optimizer = self.optimizer(moved, lr)
        for step in range(self.config.steps):
            losses = {}
            for number, names in self._numbered_updates(step):
                part = {name: moved[name] for name in names}
                gradient, losses[names] = self._slope(part, batch(number))
                for name, parameter in part.items():
                    if self.proximity:
                        away = parameter.detach() - (centre or theta)[name]
                        gradient[name] = gradient[name] + self.proximity * away
                    # Laid out as the parameter is, or torch's fused Adam takes the wrong numbers.
                    parameter.grad = gradient[name].contiguous()
                optimizer.step()
                for parameter in part.values():
                    parameter.grad = None  # or the next update would move it too
            yield total(list(losses.values()))

    def trace(
        self,
        theta: Parameters,
        batch: Callable[[int], Batch],
        lr: float,
        gradient: InnerGradient | None = None,
    ) -> Iterator[InnerStep]:
        """Take the inner steps as a differentiable function of `theta`, yielding after each.

        Args:
            theta: where to start: leaves that require gradients, or functions of such.
            batch: maps the number of an update to its batch; a step is one update or several.
            lr: the inner rate.
            gradient: the method to differentiate; by default the loop's.
        """
        last = self._last if gradient is None else gradient
        gradient = gradient or self._gradient
        rule = {n.removeprefix(RULE): p for n, p in theta.items() if n.startswith(RULE)}
        weights = {name: p for name, p in theta.items() if not name.startswith(RULE)}
        moved = {name: weights.pop(name) for name in self.scope}
        state: State = {}
        for step in range(self.config.steps):
            losses = {}
            for number, names in self._numbered_updates(step):
                part = {name: moved[name] for name in names}
                others = {name: p for name, p in moved.items() if name not in part}
                differentiate = last if number + 1 == self.draws else gradient
                draw = self.prepare(batch(number))
                losses[names], slope = differentiate(part, weights | others, draw)
                direction, state = OPTIMIZERS[self.config.optimizer](slope, state, self._momentum)
                arguments = (part, direction, slope, step, lr)
                moved = moved | functional_call(self.theta.inner_rule, rule, arguments)
            yield InnerStep(weights | moved, total(list(losses.values())))

    @property
    def draws(self) -> int:
        """The number of batches that an adaptation asks for, one for each update."""
        return self.config.steps * len(self._updates)

    def _numbered_updates(self, step: int) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield the number of each update of an inner step, and the names that it moves."""
        yield from enumerate(self._updates, start=step * len(self._updates))

    def start(self, theta: Parameters) -> None:
        """Set phi to `theta`, which may be a part of all parameters."""
        with torch.no_grad():
            for name, value in theta.items():
                self._parameters[name].copy_(value)

    def phi(self) -> Parameters:
        """Return the fast weights as they stand; views, not copies."""
        return {name: parameter.detach() for name, parameter in self._parameters.items()}

    def losses(self, phi: Parameters, batch: Batch) -> list[Tensor]:
        """Compute the terms on `batch` at weights `phi`, each differentiable in them once."""
        draw = self.prepare(batch)
        return [query_loss(self.field, phi, draw, term) for term in range(len(self.theta.terms))]

    def gradient(self, batch: Batch) -> tuple[Parameters, Tensor]:
        """Compute the gradient on `batch` in all parameters at phi, and the sum of the terms."""
        return self._slope(self._parameters, batch)

    def _slope(self, moved: Mapping[str, nn.Parameter], batch: Batch) -> tuple[Parameters, Tensor]:
        """Compute the gradient on `batch` in the `moved` parameters, and the sum of the terms."""
        draw, gradient, losses = self.prepare(batch), {}, []
        for term, names in self.theta.by_term(moved):
            with self.field.computing(draw[0].device):
                loss = self._objective(*draw, term=term)
            values = [moved[name] for name in names]
            slopes = torch.autograd.grad(loss, values, materialize_grads=True)
            gradient |= zip(names, slopes, strict=True)
            losses.append(loss.detach())
        return {name: gradient[name] for name in moved}, total(losses)

    def prepare(self, batch: Batch) -> Draw:
        """Compute the draw of `batch`."""
        return self.generator.prepare(batch)

    def diagnostics(self, theta: Parameters, lr: float) -> dict[str, Tensor]:
        """Summarise learned rates and the error of approximate products, as scalars to log."""
        self.start({name: p for name, p in theta.items() if name.startswith(RULE)})
        metrics = {}
        rates = self.theta.inner_rule.rates(lr)
        if rates is not None:
            metrics = {"rate_min": rates.min(), "rate_mean": rates.mean(), "rate_max": rates.max()}
        if isinstance(self.hvp, FiniteDifference):
            device = next(iter(theta.values())).device
            metrics["hvp_error"] = torch.tensor(self.hvp.error, device=device)
        return metrics

    def optimizer(self, moved: dict[str, nn.Parameter], lr: float) -> InPlaceOptimizer:
        """Make the optimiser of the steps on one task, with learned rates where there are some.

        Args:
            moved: the parameters in scope, which it moves in place.
            lr: the inner rate.
        """
        # Made anew for every task: moments of one task must not reach another.
        momentum = self._momentum
        if len(list(self.theta.inner_rule.parameters())):
            kind = OPTIMIZERS[self.config.optimizer]
            return _RuleSteps(
                self.theta.inner_rule, moved, lambda g, state: kind(g, state, momentum), lr
            )
        parameters = list(moved.values())
        if self.config.optimizer == "adam":
            return InPlaceAdam(parameters, lr=lr, beta1=momentum)
        if self.config.optimizer == "sgd":
            momentum = 0.0
        return InPlaceSGD(parameters, lr=lr, momentum=momentum)


class _RuleSteps:
    """An optimiser that takes the steps of a learned update rule in place."""

    def __init__(
        self,
        rule: InnerRule,
        moved: dict[str, nn.Parameter],
        optimizer: Callable[[Parameters, State], Direction],
        lr: float,
    ) -> None:
        self._rule, self._moved, self._lr = rule, moved, lr
        self._optimizer = optimizer
        self._state: State = {}
        self._step = 0

    @torch.no_grad()
    def step(self) -> None:
        """Move the parameters by their gradients."""
        gradient = {n: p.grad for n, p in self._moved.items() if p.grad is not None}
        direction, self._state = self._optimizer(gradient, self._state)
        phi = self._rule({**self._moved}, direction, gradient, self._step, self._lr)
        for name, parameter in self._moved.items():
            parameter.copy_(phi[name])
        self._step += 1
