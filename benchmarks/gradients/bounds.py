"""Lower bounds: the forward and backward passes of a learner, in place, by hand."""

# torch does not export _foreach_*, of which all its optimisers are made.
# pyright: reportPrivateImportUsage=false
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from benchmarks.gradients.cases import LR, Case, System
from metatrain.data.batch import Batch
from metatrain.data.episodes import Episode
from metatrain.generators import Generator

Gradient = tuple[Tensor, ...]


class _InPlace:
    """Gradient descent in the weights of a generator, and a snapshot to restore them from."""

    def __init__(self, generator: Generator) -> None:
        self.generator = generator
        self.names = [name for name, _ in generator.named_parameters()]
        self.weights: list[Tensor] = list(generator.parameters())
        self.snapshot = [w.detach().clone() for w in self.weights]

    def gradient(self, batch: Batch) -> Gradient:
        (loss,) = self.generator.losses(batch)
        return torch.autograd.grad(loss, self.weights)

    def descend(self, batches: Iterable[Batch]) -> None:
        for batch in batches:
            gradient = self.gradient(batch)
            with torch.no_grad():
                torch._foreach_add_(self.weights, gradient, alpha=-LR)

    def restore(self) -> None:
        with torch.no_grad():
            torch._foreach_copy_(self.weights, self.snapshot)


def _joint(place: _InPlace, episode: Episode, steps: int) -> Gradient:
    return place.gradient(episode.whole_batch())


def _reptile(place: _InPlace, episode: Episode, steps: int) -> Gradient:
    place.descend(episode.whole_batch(i) for i in range(steps))
    with torch.no_grad():
        gradient = torch._foreach_sub(place.snapshot, place.weights)
    place.restore()
    return tuple(gradient)


def _fomaml(place: _InPlace, episode: Episode, steps: int) -> Gradient:
    place.descend(episode.support_batch(i) for i in range(steps))
    gradient = place.gradient(episode.query_batch())
    place.restore()
    return gradient


# Second-order learners are compared with `fomaml`: k + 1 passes forward and backward.
BOUNDS: dict[str, Callable[[_InPlace, Episode, int], Gradient]] = {
    "joint": _joint,
    "reptile": _reptile,
    "fomaml": _fomaml,
}


def bound(name: str, case: Case) -> System:
    """Prepare the bound `name` to run on `case`."""
    place, episodes = _InPlace(case.learner("joint").inner.generator), case.episodes()

    def run() -> dict[str, Tensor]:
        total, *others = (BOUNDS[name](place, episode, case.steps) for episode in episodes)
        for other in others:
            torch._foreach_add_(total, other)
        return dict(zip(place.names, total, strict=True))

    return run
