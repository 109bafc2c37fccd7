"""Lessons of a student: what its teacher, adapted to the support of an episode, draws.

The lessons of an episode are a function of the episode and the teacher alone, and episodes recur
after a while, so that the teacher adapts to each only once; lessons are kept in memory, and a run
that resumes makes them again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.text import counted
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples, repeated_to
from metatrain.data.tasks import EpisodeSampler
from metatrain.generators import Generator
from metatrain.generators.frozen import read_pinned
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.flow import FlowMatching, random_stream
from metatrain.generators.objectives.mean_velocity import MeanVelocity
from metatrain.generators.objectives.sections import DistillConfig
from metatrain.generators.sampler_sections import FlowSamplerConfig
from metatrain.generators.samplers import states
from metatrain.model.file import parse_model
from metatrain.model.model import Model

# Tells the random stream of the teacher's noise from those of the student's.
_TEACHER = 3


@dataclass(frozen=True)
class RecurringSampler:
    """Plans of a run's episodes that recur after `period` outer steps."""

    sampler: EpisodeSampler
    period: int

    @property
    def meta_batch(self) -> int:
        """Episodes of an outer step."""
        return self.sampler.meta_batch

    @property
    def epoch(self) -> int | None:
        """Episodes in which every task comes once, or after which they recur."""
        recurring = self.period * self.meta_batch
        return min(self.sampler.epoch or recurring, recurring)

    def plan(self, step: int, slot: int) -> object:
        """Return the plan of the outer step of which `step` is the repetition."""
        return self.sampler.plan(step % self.period, slot)


class Lessons:
    """The drawings of a run's teacher.

    Args:
        config: the run's configuration; with another objective there are no lessons.
        device: where the teacher computes.

    Raises:
        UserError: when the teacher cannot be read, or the student cannot learn of it.
    """

    def __init__(self, config: Config, device: torch.device) -> None:
        self._teacher: _Teacher | None = None
        if isinstance(config.objective, DistillConfig):
            self._teacher = _Teacher(teacher_of(config.objective).to(device), config.objective)
            self._period = period_of(config.objective, config.meta.batch)

    def of(self, episodes: Sequence[Episode], step: int) -> list[Episode]:
        """Return the episodes of outer step `step` with the teacher's drawings for queries."""
        if self._teacher is None:
            return list(episodes)
        # Other noise for the student whenever an episode recurs.
        seeds = 2 * (step // self._period)
        return [replace(e, query=self._teacher.drawings(e), seed=e.seed + seeds) for e in episodes]


def period_of(config: DistillConfig, meta_batch: int) -> int:
    """Return the outer steps after which episodes recur."""
    return -(-config.episodes // meta_batch)


def teacher_of(config: DistillConfig) -> Model:
    """Read the teacher that a configuration names.

    Raises:
        UserError: when it cannot be read, or is not of a kind that can be distilled.
    """
    weights = config.teacher
    model = parse_model(read_pinned(weights.path, weights.sha256), weights.path, trust=True)
    refuse_teacher(model, config.steps, weights.path)
    return model


def refuse_teacher(model: Model, steps: int, url: str) -> None:
    """Refuse a model that a student of `steps` steps cannot learn of.

    Raises:
        UserError: when it is no flow, or a student whose steps do not divide into these.
    """
    objective = model.generator().objective
    if not isinstance(objective, FlowMatching):
        raise UserError(
            f"{url} is of objective.name={model.config.objective.name}, which draws along no "
            f"trajectory; only flows can be distilled."
        )
    calls = objective.config.sampler.steps
    if isinstance(objective, MeanVelocity) and (calls % steps or calls == steps):
        raise UserError(
            f"{url} draws in {counted(calls, 'network call')} already, and students of it in a "
            f"whole part of them, not in {steps}; take fewer steps, or the model that it is a "
            f"student of."
        )


class _Teacher:
    """A teacher that adapts, and keeps what it drew.

    Args:
        model: the teacher.
        config: what the student learns of it.
    """

    def __init__(self, model: Model, config: DistillConfig) -> None:
        self._adapter, self._config = model.adapter(), config
        self._drawings: dict[tuple[str, int], Examples] = {}

    def drawings(self, episode: Episode) -> Examples:
        """Return trajectories [pairs, steps + 1, C, H, W] of the teacher, adapted to a support."""
        key = episode.task, episode.seed
        if key not in self._drawings:
            for _ in self._adapter.steps(episode.support, episode.seed):
                pass
            self._drawings[key] = self._draw(episode)
        return self._drawings[key].to(episode.support.target.device)

    @torch.no_grad()
    def _draw(self, episode: Episode) -> Examples:
        generator, count = self._adapter.generator, self._config.pairs
        given = {name: repeated_to(count, c) for name, c in episode.query.given.items()}
        stream = random_stream(episode.seed, 0, _TEACHER)
        noise = torch.randn((count, *generator.objective.shape), generator=stream)
        path = trajectories(generator, episode.support, Examples(noise, given), self._config.steps)
        return Examples(path.cpu(), given, encoded=True)


@torch.no_grad()
def trajectories(generator: Generator, support: Examples, noise: Examples, steps: int) -> Tensor:
    """Follow a flow from noises, and return its states [B, steps + 1, C, H, W] at equal times.

    The flow is sampled as it is configured, in at least as many steps.

    Args:
        generator: the flow.
        support: the examples to condition on.
        noise: noises [B, C, H, W] as the network sees examples, and the conditions of each.
        steps: the number of times after the first.
    """
    objective, network = generator.objective, generator.network
    assert isinstance(objective, FlowMatching)
    assert isinstance(network, VelocityNetwork)
    latents = generator.latents(support)
    start = noise.target.to(latents.target)
    given = network.conditions(noise.given, start)
    tensors = {name: c for name, c in given.items() if isinstance(c, Tensor)}
    sampler: FlowSamplerConfig = objective.config.sampler
    every = -(-sampler.steps // steps)
    sampler = sampler.model_copy(update={"steps": every * steps})
    velocity = objective.field(network, latents, len(start), sampler, tensors)
    return torch.stack([start, *states(velocity, start, sampler)][::every], dim=1)
