"""The inner loop at test time: from meta-parameters and a support to fast weights."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.base.progress import tracked
from metatrain.config import Config
from metatrain.data.batch import support_batch
from metatrain.data.examples import Examples
from metatrain.learning.inner.gradient import FirstOrder
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.inner.stack import StackedInnerLoop
from metatrain.learning.inner.theta import Theta
from metatrain.model.build import adaptation_lr, build_adaptation

# Tasks pass together through a network of which they move at most this share.
_MOVED = 0.5

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
    """Adapt to several supports of one size at once.

    Parameters in scope have a first dimension for the tasks, and the rest of the network works on
    all images together. The result is that of an `Adapter` for each support, to rounding.

    Args:
        config: the model's configuration.
        theta: where to start; it is left as it is.
        supports: the supports.
        seed: seeds the noise of every task alike.
        on_step: called after every inner step with the steps taken and the mean loss before it.

    Returns:
        The fast weights of each support.
    """
    loop, start = build_adaptation(config, theta, StackedInnerLoop), theta.copy()
    count = len(supports)
    wide = {name: start[name].expand(count, *start[name].shape) for name in loop.scope}
    phi, lr = wide, adaptation_lr(config, theta)

    def batches(step: int) -> Any:
        return tuple(support_batch(support, seed, step) for support in supports)

    inner_steps = loop.trace(start | wide, batches, lr, FirstOrder(loop.field))
    for step, taken in enumerate(tracked("adapting", inner_steps, config.adapt.steps), start=1):
        phi = taken.phi
        if on_step:
            on_step(step, taken.loss.item() / count)
    return [start | {name: phi[name][task].clone() for name in wide} for task in range(count)]


def sooner_together(config: Config, theta: Theta) -> bool:
    """Return whether several tasks can pass through one inner loop, and sooner than one by one.

    On a CPU they do where the network is mostly shared. Grouped convolutions, which separate
    weights for each task come to, take longer than a call for each task: see
    `benchmarks/evaluation/inner_step.py`.
    """
    if not config.learner.stackable or config.recomputes:
        return False
    moved = set(SCOPES[config.inner.scope.name].names(theta.generator))
    sizes = {name: parameter.numel() for name, parameter in theta.generator.named_parameters()}
    on_cpu = all(parameter.device.type == "cpu" for parameter in theta.generator.parameters())
    return not on_cpu or sum(sizes[name] for name in moved) <= _MOVED * sum(sizes.values())
