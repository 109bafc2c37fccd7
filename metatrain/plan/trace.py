"""A run's computation without its numbers: the real learner on the meta device, and a counter."""

import weakref
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from metatrain.base.progress import Progress
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.model.build import build_learner, build_theta
from metatrain.plan.result_cache import ResultCache

# From this many inner steps on, each adds as much as the one before it.
_REGULAR = 4


@dataclass(frozen=True)
class Cost:
    """Cost of outer gradients, in addition to theta and the learner's generator.

    Attributes:
        weights: bytes at the peak of tensors shaped like parameters: stored fast weights,
            gradients, moments of the inner optimiser; in float32.
        activations: bytes at the peak of all other tensors; in float32.
        flops: floating-point operations of one episode.
        launches: operations on tensors of one episode.
        passes: calls of the generator in one episode.
    """

    weights: int
    activations: int
    flops: int
    launches: int
    passes: int

    def extrapolated(self, before: "Cost", times: int) -> "Cost":
        """Add the difference from `before` `times` more."""
        pairs = zip(astuple(self), astuple(before), strict=True)
        return Cost(*(ours + times * (ours - other) for ours, other in pairs))


class CostCounter(TorchDispatchMode):
    """Counter of the bytes of living meta tensors, and of the operations on them.

    Meta tensors have no values; code that asks for one gets 1.

    Args:
        weights: parameters, whose shapes distinguish weights from activations; not counted.
        others: further tensors that are not counted.
        shards: divisor of the bytes of tensors that are shaped like parameters.

    Attributes:
        peak: the most bytes of counted tensors that existed at one time.
        weights: how many of those were shaped like parameters.
        flops: operations of matrix products, convolutions and attention, which are nearly all.
        launches: operations that made a new tensor.
    """

    def __init__(self, weights: list[Tensor], others: list[Tensor], shards: int) -> None:
        super().__init__()
        self._shards, self._results = shards, ResultCache()
        self.peak, self.weights, self.flops, self.launches = 0, 0, 0, 0
        self._shapes = {weight.shape for weight in weights}
        self._known = {tensor.untyped_storage()._cdata for tensor in (*weights, *others)}
        # Bytes that are alive, of what is shaped like a parameter and of the rest.
        self._alive = {True: 0, False: 0}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation and count its result."""
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0
        if func is torch.ops.aten._to_copy.default and args[0].is_meta and _leaves_meta(kwargs):
            return args[0]  # to the CPU, where the memory of tasks is kept
        out, flops = self._results.call(func, args, kwargs)
        self.flops += flops
        for value in tree_leaves(out):
            if isinstance(value, Tensor) and value.is_meta:
                self._count(value)
        return out

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, weight = storage._cdata, tensor.shape in self._shapes
        size = storage.nbytes() // (self._shards if weight else 1)
        if key in self._known:
            return
        self._known.add(key)
        self.launches += 1
        self._alive[weight] += size
        if sum(self._alive.values()) > self.peak:
            self.peak, self.weights = sum(self._alive.values()), self._alive[True]
        weakref.finalize(storage, self._forget, key, size, weight)

    def _forget(self, key: int, size: int, weight: bool) -> None:
        self._known.remove(key)
        self._alive[weight] -= size


def _leaves_meta(kwargs: Mapping[str, Any]) -> bool:
    device = kwargs.get("device")
    return device is not None and torch.device(device).type != "meta"


def to_be_traced(config: Config, episodes: int) -> int:
    """Return how many episodes to trace to know the cost of `episodes` on one worker."""
    at_once = 1 if config.meta.tasks_at_once == "auto" else config.meta.tasks_at_once
    # While a second episode is computed, the gradient of the first exists.
    return min(episodes, max(2, at_once))


def trace(config: Config, episodes: int, shards: int = 1) -> Cost:
    """Trace the cost of one worker's outer gradient.

    Args:
        config: the configuration.
        episodes: number of the worker's episodes to trace, see `to_be_traced`.
        shards: number of workers that share the weights and the images of an episode.
    """
    steps = config.inner.steps
    if steps <= _REGULAR:
        return _traced(config, steps, episodes, shards)
    before, last = (_traced(config, k, episodes, shards) for k in (_REGULAR - 2, _REGULAR - 1))
    return last.extrapolated(before, steps - (_REGULAR - 1))


def _traced(config: Config, steps: int, episodes: int, shards: int) -> Cost:
    at_once = 1 if config.meta.tasks_at_once == "auto" else config.meta.tasks_at_once
    inner = {"steps": steps, "compile": False, "precision": "fp32"}
    fixed = {"inner": inner, "meta": {"tasks_at_once": at_once}}
    config = config.model_copy(
        update={k: getattr(config, k).model_copy(update=values) for k, values in fixed.items()}
    )
    with torch.device("meta"):
        place = build_theta(config)
        theta, images = place.copy(), [_episode(config, shards) for _ in range(episodes)]
    learner, passes = build_learner(config, place), 0
    progress = Progress("planning, passes of the network", 0)

    def count(*_: object) -> None:
        nonlocal passes
        passes += 1
        progress.update(passes)

    place.generator.register_forward_pre_hook(count)
    inputs = [tensor for e in images for tensor in (e.support.target, e.query.target)]
    with CostCounter([*place.parameters(), *theta.values()], inputs, shards) as counter:
        # At the last outer step, after all annealing.
        learner.outer_gradient(theta, images, config.meta.steps)
    progress.close()
    per_episode = (total // episodes for total in (counter.flops, counter.launches, passes))
    return Cost(counter.weights, counter.peak - counter.weights, *per_episode)


def _episode(config: Config, shards: int) -> Episode:
    data = config.data
    support, query = (
        Examples(
            torch.empty(count, data.channels, data.image_size, data.image_size),
            {name: torch.empty(count, *shape) for name, shape in data.condition_shapes.items()},
        )
        for count in (-(-data.shots // shards), -(-data.queries // shards))
    )
    return Episode("planned", support, query, seed=0)
