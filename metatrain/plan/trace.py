"""A run's computation without its numbers: the real learner on the meta device, and a ledger."""

import weakref
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from metatrain.build import build_generator, build_learner
from metatrain.config import Config
from metatrain.episodes import Episode
from metatrain.parameters import copy_of

# From so many inner steps on, each further one adds what the one before it did.
_REGULAR = 4


@dataclass(frozen=True)
class Cost:
    """What outer gradients take.

    Attributes:
        bytes: alive at the peak, in float32, beyond theta and the learner's generator.
        flops: floating-point operations of one episode.
    """

    bytes: int
    flops: int


class Ledger(TorchDispatchMode):
    """Counts the bytes of meta tensors that come and go, and the operations on them.

    Such tensors have sizes and no values; where the code that runs asks for one, it is told 1.

    Args:
        known: tensors that are not counted.

    Attributes:
        alive: bytes of the tensors made since the start that still exist.
        peak: the most that has been.
        flops: of matrix products, convolutions and attention, which is nearly all.
    """

    def __init__(self, known: list[Tensor]) -> None:
        super().__init__()
        self.alive, self.peak, self.flops = 0, 0, 0
        self._sizes = {tensor.untyped_storage()._cdata: 0 for tensor in known}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Run one operation, and note what it made."""
        kwargs = kwargs or {}
        if func is torch.ops.aten._local_scalar_dense.default:
            return 1.0
        if func is torch.ops.aten._to_copy.default and args[0].is_meta and "device" in kwargs:
            return args[0]  # to the CPU, where learners keep what they remember of tasks
        out = func(*args, **kwargs)
        count = flop_registry.get(func._overloadpacket)
        self.flops += count(*args, **kwargs, out_val=out) if count else 0
        for value in tree_leaves(out):
            if isinstance(value, Tensor) and value.is_meta:
                self._note(value.untyped_storage())
        return out

    def _note(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes()
            self.alive += storage.nbytes()
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.alive -= self._sizes.pop(key)


def trace(config: Config, episodes: int, share: float = 1.0) -> Cost:
    """What the outer gradient of one worker costs.

    Args:
        config: the configuration.
        episodes: how many the worker takes.
        share: of an episode's images that it takes.
    """
    steps = config.inner.steps
    if steps <= _REGULAR:
        return _traced(config, steps, episodes, share)
    before, last = (_traced(config, k, episodes, share) for k in (_REGULAR - 2, _REGULAR - 1))
    more = steps - (_REGULAR - 1)
    return Cost(
        last.bytes + more * (last.bytes - before.bytes),
        last.flops + more * (last.flops - before.flops),
    )


def _traced(config: Config, steps: int, episodes: int, share: float) -> Cost:
    at_once = 1 if config.meta.tasks_at_once == "auto" else config.meta.tasks_at_once
    # While a second episode is computed, the gradient of the first is there.
    count = min(episodes, max(2, at_once))
    settled = {"inner": {"steps": steps, "compile": False}, "meta": {"tasks_at_once": at_once}}
    config = config.model_copy(
        update={k: getattr(config, k).model_copy(update=values) for k, values in settled.items()}
    )
    with torch.device("meta"):
        generator = build_generator(config)
        theta, images = copy_of(generator), [_episode(config, share) for _ in range(count)]
    learner = build_learner(config, generator)
    given = [tensor for e in images for tensor in (e.support, e.query)]
    with Ledger([*generator.parameters(), *theta.values(), *given]) as ledger:
        # As late as can be, when every annealing is over.
        learner.outer_gradient(theta, images, config.meta.steps)
    return Cost(ledger.peak, ledger.flops // count)


def _episode(config: Config, share: float) -> Episode:
    data = config.data
    support, query = (
        torch.empty(max(1, round(share * count)), data.channels, data.image_size, data.image_size)
        for count in (data.shots, data.queries)
    )
    return Episode("planned", support, query, seed=0)
