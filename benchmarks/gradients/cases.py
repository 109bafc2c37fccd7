"""A case: one network, its weights and its episodes, the same for every system."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from benchmarks.gradients.networks import CHANNELS, NETWORKS, SIZE
from metatrain.base.parameters import Parameters
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators import Generator
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.inner.theta import Theta
from metatrain.learning.learners import LEARNERS, Learner
from metatrain.model.build import build_learner

SHOTS, QUERIES, LR = 5, 5, 0.01

# Computes the outer gradient of a case, summed over its tasks; it is prepared in advance.
System = Callable[[], Parameters]


@dataclass(frozen=True)
class Case:
    """A network and `steps` inner steps on each of `tasks` tasks, in `dtype` on `device`."""

    network: str
    steps: int
    tasks: int
    dtype: torch.dtype = torch.float32
    device: str = "cpu"

    def episodes(self) -> list[Episode]:
        """Make episodes of random images, the same in every precision."""
        noise = torch.Generator().manual_seed(1)
        shape = (self.tasks, SHOTS + QUERIES, CHANNELS, SIZE, SIZE)
        images = (torch.rand(shape, generator=noise) * 2 - 1).to(self.dtype)
        return [
            Episode(f"task {seed}", *Examples(pictures).split(SHOTS), seed).to(
                torch.device(self.device)
            )
            for seed, pictures in enumerate(images)
        ]

    def learner(self, name: str, overrides: Sequence[str] = ()) -> Learner:
        """Make the learner `name` over a new generator, with the same weights at every call."""
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
        return build_learner(config, Theta(generator, rule).to(self.device, self.dtype))


@torch.no_grad()
def _off_zero(generator: Generator) -> None:
    # Layers that start at 0 would make most of the Hessian 0, and every method look exact.
    for parameter in generator.parameters():
        if not parameter.any():
            parameter.copy_(0.02 * torch.randn_like(parameter))
