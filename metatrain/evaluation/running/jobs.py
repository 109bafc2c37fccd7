"""The jobs of an evaluation: one system adapts to one episode, or to a few at once, and samples.

The output of a job depends on the model, the data and the episodes alone, and is kept in a file
that is named by their hash. So any number of workers can share the jobs, and an evaluation that was
interrupted resumes without the jobs that are done.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import to_levels
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.evaluation.episodes.episode_list import ListedEpisode
from metatrain.generators import Generator
from metatrain.learning.learners import LEARNERS, Learner
from metatrain.model.adapt import SMALL, can_adapt_together
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.membership import image_losses
from metatrain.model.model import Model
from metatrain.model.places import model_url
from metatrain.model.progression import draw_strips, steps_shown
from metatrain.model.surprise import surprise
from metatrain.storage.files import read_file, write_file

# Change it whenever the same job gives another output.
_FORMAT = "metatrain-drawn-6"
# Tasks that a small model adapts to at once: more take hardly less time, and keep cores waiting.
_AT_ONCE = 8


@dataclass(frozen=True)
class System:
    """A model that adapts and samples.

    Attributes:
        url: the model's file.
        sha256: the model's hash; for an untrained system, that of the configuration it uses.
        untrained: whether to replace the weights by random ones, so that only the inner loop is
            left of the model.
        at_once: the most episodes of a job. It depends on the model alone, since tasks that adapt
            at once have other rounding than one by one.
    """

    url: str
    sha256: str
    untrained: bool = False
    at_once: int = 1


@dataclass(frozen=True, kw_only=True)
class Job:
    """One system on an episode, or on several at once.

    Attributes:
        system: the system that adapts and samples.
        data: URL of the data set.
        fingerprint: sha256 of the data set's manifest.
        split: split of the episodes' tasks.
        episodes: the episodes, at most `at_once` of the system.
        shots: number of support images (K).
        folder: folder of the output.
        steps: numbers of inner steps to sample after; by default those of a strip.
    """

    system: System
    data: str
    fingerprint: str
    split: str
    episodes: tuple[ListedEpisode, ...]
    shots: int
    folder: str
    steps: tuple[int, ...] = ()

    @property
    def key(self) -> str:
        """The hash of everything that the output depends on."""
        inputs = [
            _FORMAT,
            self.system.sha256,
            self.system.untrained,
            self.fingerprint,
            self.shots,
            [episode.model_dump(mode="json") for episode in self.episodes],
            *self.steps,
        ]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()

    @property
    def file(self) -> str:
        """The name of the output's file in `folder`."""
        return f"{self.key}.safetensors"


@dataclass(frozen=True, kw_only=True)
class JobOutput:
    """The output of one episode of a job, at P numbers of inner steps.

    Attributes:
        steps: the numbers of inner steps, [P].
        images: N samples after each, uint8 [P, N, C, H, W]; uint16 of models with `data.bits=16`.
        losses: the loss on reference and held-out images, [P].
        seconds: the time of the inner steps, [P]; an equal share of it where tasks adapt at once.
        surprise: the model's surprise at the support before its first inner step, see
            `metatrain.model.surprise`; none of an untrained system.
        learned: the decrease of the mean surprise by all inner steps, []; NaN where there is none.
        support_losses: the loss of each support image after the last inner step, [K]; none of an
            untrained system, of which nobody asks.
        other_losses: that of each reference and held-out image, [Q]; likewise.
    """

    steps: Tensor
    images: Tensor
    losses: Tensor
    seconds: Tensor
    surprise: Tensor
    learned: Tensor
    support_losses: Tensor
    other_losses: Tensor


def system_at(url: str, *, trust: bool = False) -> tuple[System, Model]:
    """Read the model in a file, or in the folder of a run or a checkpoint, as a system.

    Raises:
        UntrustedError: see `load_model`.
        UserError: when there is none, or it is damaged.
    """
    url = model_url(url)
    model = load_model(url, trust=trust)
    return System(url, model.sha256, at_once=_at_once(model)), model


def _at_once(model: Model) -> int:
    """Return how many tasks of an evaluation the model adapts to at once."""
    config = model.config
    alike = not model.frozen and not config.data.conditions  # conditions may differ in length
    small = sum(p.numel() for p in model.parameters.values()) <= SMALL
    return _AT_ONCE if alike and small and can_adapt_together(config) else 1


def from_scratch(system: System, model: Model) -> System:
    """Return the system with random weights, but the same generator, inner loop and inner steps."""
    return replace(system, sha256=_untrained_sha256(model.config), untrained=True)


def _untrained_sha256(config: Config) -> str:
    """Hash what random weights and adapting depend on, so that equal systems share their jobs."""
    used: dict[str, bool | set[str]] = {
        "seed": True,
        "generator": True,
        "objective": True,
        "codec": True,
        "adapt": True,
        "data": {"image_size", "channels", "bits", "conditions"},
        "inner": {"optimizer", "scope"},
    }
    kind = LEARNERS[config.learner.name]
    if kind.rule is not Learner.rule or kind.proximity is not Learner.proximity:
        used |= {"inner": True, "learner": True}  # this learner adapts in its own way
    kept = config.model_dump(mode="json", include=used)
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def perform(job: Job, device: torch.device) -> None:
    """Run a job on `device`, and write its output.

    Raises:
        UserError: when the model or the data cannot be read, or the output cannot be written.
    """
    model, store = _model(job.system, device), _store(job.data, job.fingerprint)
    config, theta = model.config, model.theta()
    episodes = [_read_episode(job, store, config, listed).to(device) for listed in job.episodes]
    # Nobody calibrates random weights, or asks whether they tell their support.
    features = _no_features if job.system.untrained else surprise
    before = [features(theta.generator, episode.support) for episode in episodes]
    shown, count = _steps(job, config), len(job.episodes[0].reference)
    strips = draw_strips(config, theta, episodes, shown, count)
    outputs = []
    for strip, episode, expected in zip(strips, episodes, before, strict=True):
        after = features(theta.generator, episode.support)
        losses = _no_losses if job.system.untrained else image_losses
        support_losses, other_losses = losses(theta.generator, episode)
        levels = [to_levels(strip.drawn[step], config.data.bits).cpu() for step in shown]
        output = JobOutput(
            steps=torch.tensor(shown),
            images=torch.stack(levels),
            losses=_by_step(strip.query_loss, shown),
            seconds=_by_step(strip.seconds, shown),
            surprise=expected.cpu(),
            learned=(expected.mean() - after.mean()).cpu(),
            support_losses=support_losses,
            other_losses=other_losses,
        )
        outputs.append(output)
    write_file(f"{job.folder}/{job.file}", save(_stacked(outputs)))


def _read_episode(job: Job, store: EpisodeStore, config: Config, listed: ListedEpisode) -> Episode:
    task, data = next(t for t in store.tasks(job.split) if t.name == listed.task), config.data
    reader = ClassReader(store, data.image_size, data.channels, data.conditions)
    return reader.read(listed.plan(task, job.shots))


def _stacked(outputs: Sequence[JobOutput]) -> dict[str, Tensor]:
    """Stack every part of the outputs of a job, which are of one shape."""
    parts = [asdict(output) for output in outputs]
    return {name: torch.stack([part[name] for part in parts]) for name in parts[0]}


def _no_features(generator: Generator, support: Examples) -> Tensor:
    """Return no features, in the place of `surprise`."""
    return torch.empty(0)


def _no_losses(generator: Generator, episode: Episode) -> tuple[Tensor, Tensor]:
    """Return no losses, in the place of `image_losses`."""
    return torch.empty(0), torch.empty(0)


def _steps(job: Job, config: Config) -> Sequence[int]:
    """Return the numbers of inner steps to sample after."""
    if job.steps:
        return job.steps
    return [config.adapt.steps] if job.system.untrained else steps_shown(config)


def _by_step(values: Mapping[int, float], steps: Sequence[int]) -> Tensor:
    return torch.tensor([values[step] for step in steps], dtype=torch.float64)


def read_outputs(jobs: Sequence[Job]) -> list[JobOutput]:
    """Read the outputs of `jobs`, one of each episode, in their order.

    Raises:
        UserError: when a file is damaged.
    """
    urls = tracked("reading samples", [f"{job.folder}/{job.file}" for job in jobs], len(jobs))
    return [output for url in urls for output in _read_outputs(url)]


def _read_outputs(url: str) -> list[JobOutput]:
    try:
        parts = load(read_file(url))
        count = len(parts["steps"])
        return [JobOutput(**{n: part[i] for n, part in parts.items()}) for i in range(count)]
    except (SafetensorError, TypeError, KeyError, IndexError) as error:
        raise UserError(f"{url} is damaged; remove it and evaluate again.") from error


@lru_cache(maxsize=4)
def _model(system: System, device: torch.device) -> Model:
    model = load_model(system.url, trust=True)  # `system_at` has asked
    sha256 = _untrained_sha256(model.config) if system.untrained else model.sha256
    if sha256 != system.sha256:
        raise UserError(f"{system.url} was replaced during its evaluation; evaluate it again.")
    if system.untrained:
        model = Model(model.config, build_theta(model.config).copy(), step=0)
    return model.to(device)


@lru_cache(maxsize=2)
def _store(url: str, fingerprint: str) -> EpisodeStore:
    store = EpisodeStore(url)
    if store.fingerprint != fingerprint:
        raise UserError(f"{url} was packed again during the evaluation; evaluate again.")
    return store
