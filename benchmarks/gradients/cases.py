"""A case: one network, its weights and its episodes, the same for every system that is measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.gradients.networks import CHANNELS, NETWORKS, SIZE
from metatrain.base.parameters import Parameters
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators import Generator
from metatrain.learning.inner.scopes import SCOPES
from metatrain.learning.learners import LEARNERS, Learner
from metatrain.model.build import build_learner

SHOTS, QUERIES, LR = 5, 5, 0.01

# The outer gradient of a case, summed over its tasks. All that it needs is made beforehand.
System = Callable[[], Parameters]


@dataclass(frozen=True)
class Case:
    """What is measured: `steps` inner steps on each of `tasks` tasks, in `dtype`."""

    network: str
    steps: int
    tasks: int
    dtype: torch.dtype = torch.float32

    def episodes(self) -> list[Episode]:
        """Random images, the same in every precision."""
        noise = torch.Generator().manual_seed(1)
        shape = (self.tasks, SHOTS + QUERIES, CHANNELS, SIZE, SIZE)
        images = (torch.rand(shape, generator=noise) * 2 - 1).to(self.dtype)
        return [
            Episode(f"task {seed}", *Examples(pictures).split(SHOTS), seed)
            for seed, pictures in enumerate(images)
        ]

    def learner(self, name: str, overrides: Sequence[str] = ()) -> Learner:
        """The learner `name` over a generator of its own, with the weights of `theta`."""
        common = [f"learner.name={name}", f"inner.steps={self.steps}", f"inner.lr={LR}"]
        config = load_config(None, [*common, "inner.optimizer=sgd", *overrides])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            generator = NETWORKS[self.network]()
            _off_zero(generator)
            scope = SCOPES[config.inner.scope.name]
            scope.install(generator, config.inner.scope)
            named = dict(generator.named_parameters())
            moved: Parameters = {n: named[n] for n in scope.names(generator)}
            rule = LEARNERS[name].rule(config.learner, config.inner, moved)
            generator.inner_rule = rule
        return build_learner(config, generator.to(self.dtype))


def theta_of(generator: Generator) -> Parameters:
    """Its parameters, as what to start from."""
    return {name: p.detach().clone() for name, p in generator.named_parameters()}


@torch.no_grad()
def _off_zero(generator: Generator) -> None:
    # Layers that start at 0 would make most of the Hessian 0, and every way to it look exact.
    for parameter in generator.parameters():
        if not parameter.any():
            parameter.copy_(0.02 * torch.randn_like(parameter))
