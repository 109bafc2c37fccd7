"""The inner loop at test time: from meta-parameters and a support to fast weights."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.base.progress import tracked
from metatrain.config import Config
from metatrain.data.batch import support_batch
from metatrain.data.examples import Examples
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.inner.stack import StackedInnerLoop
from metatrain.learning.inner.theta import Theta
from metatrain.model.build import adaptation_lr, build_adaptation

# On a CPU tasks pass together through a network of which they move at most this share, or that has
# at most so many parameters.
_MOVED, SMALL = 0.5, 2**20

# Called after every inner step with the steps taken and the loss before the last of them.
OnStep = Callable[[int, float], None]


class Adapter:
    """`config.adapt.steps` inner steps, each on the whole support.

    Args:
        config: the model's configuration.
        theta: where to start. Its generator becomes the fast weights; nobody else may use it.

    Attributes:
        theta: the same, with the fast weights after the steps taken.
        generator: the generator of `theta`.
    """

    def __init__(self, config: Config, theta: Theta) -> None:
        self.theta, self.generator = theta, theta.generator
        self._start = theta.copy()
        self._inner = build_adaptation(config, theta)
        self._lr = adaptation_lr(config, theta)

    def steps(self, support: Examples, seed: int = 0) -> Iterator[tuple[int, Tensor | None]]:
        """Adapt to `support`, and yield the steps taken, 0 to adapt.steps, with the loss before.

        Between two yields `generator` has the fast weights after that many steps. The loss [] of
        the last step is the one before it; of step 0 there is none.
        """
        latents = self.generator.encoded_ahead(support)
        losses = self._inner.steps(
            self._start, lambda step: support_batch(latents, seed, step), self._lr
        )
        self._inner.start(self._start)
        yield 0, None
        yield from enumerate(losses, start=1)


def adapt_together(
    config: Config,
    theta: Theta,
    supports: Sequence[Examples],
    seed: int = 0,
    on_step: OnStep | None = None,
) -> list[Parameters]:
    """Adapt to several supports of one size at once; see `steps_together`.

    Args:
        config: the model's configuration.
        theta: where to start; it is left as it is.
        supports: the supports.
        seed: seeds the noise of every task alike.
        on_step: called after every inner step with the steps taken and the mean loss before it.

    Returns:
        The fast weights of each support.
    """
    steps = steps_together(config, theta, supports, [seed] * len(supports))
    phis = next(steps).phis
    for at in tracked("adapting", steps, config.adapt.steps):
        phis = at.phis
        if on_step and at.loss is not None:
            on_step(at.step, at.loss.item())
    return [{name: value.clone() for name, value in phis(i).items()} for i in range(len(supports))]


class StepTogether(NamedTuple):
    """An inner step of several tasks.

    Attributes:
        step: the steps taken.
        loss: the mean loss of the tasks before the last of them, []; None before the first.
        phis: maps the number of a task to its fast weights, views that the next step moves.
    """

    step: int
    loss: Tensor | None
    phis: Callable[[int], Parameters]


def steps_together(
    config: Config, theta: Theta, supports: Sequence[Examples], seeds: Sequence[int]
) -> Iterator[StepTogether]:
    """Adapt to several supports of one size at once; yield before the first step and after each.

    Parameters in scope have a first dimension for the tasks, and the rest of the network works on
    all images together. The result is that of an `Adapter` for each support, to rounding.

    Args:
        config: the model's configuration.
        theta: where to start; it is left as it is.
        supports: the supports.
        seeds: seeds of the noise of each.
    """
    loop, start = build_adaptation(config, theta, StackedInnerLoop), theta.copy()
    count, latents = len(supports), [theta.generator.encoded_ahead(s) for s in supports]
    wide = {name: start[name].expand(count, *start[name].shape) for name in loop.scope}

    def batches(step: int) -> Any:
        pairs = zip(latents, seeds, strict=True)
        return tuple(support_batch(given, seed, step) for given, seed in pairs)

    def phis(task: int) -> Parameters:
        return start | {name: value[task] for name, value in loop.phi().items() if name in wide}

    losses = loop.steps(start | wide, batches, adaptation_lr(config, theta))
    loop.start(start | wide)
    yield StepTogether(0, None, phis)
    for step, loss in enumerate(losses, start=1):
        yield StepTogether(step, loss / count, phis)


def can_adapt_together(config: Config) -> bool:
    """Return whether several tasks can pass through one inner loop."""
    return config.learner.stackable and not config.recomputes


def sooner_together(config: Config, theta: Theta) -> bool:
    """Return whether several tasks can pass through one inner loop, and sooner than one by one.

    On a CPU they do where the network is mostly shared, or so small that its operations on one
    task's images are too short: see `benchmarks/evaluation/inner_step.py`.
    """
    if not can_adapt_together(config):
        return False
    moved = set(SCOPES[config.inner.scope.name].names(theta.generator))
    sizes = {name: parameter.numel() for name, parameter in theta.generator.named_parameters()}
    on_cpu = all(parameter.device.type == "cpu" for parameter in theta.generator.parameters())
    every = sum(sizes.values())
    return not on_cpu or every <= SMALL or sum(sizes[name] for name in moved) <= _MOVED * every
