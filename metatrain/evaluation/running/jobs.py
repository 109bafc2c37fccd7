"""The jobs of an evaluation: one system adapts to one episode and samples.

The output of a job depends on the model, the data and the episode alone, and is kept in a file that
is named by their hash. So any number of workers can share the jobs, and an evaluation that was
interrupted resumes without the jobs that are done.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.membership import image_losses
from metatrain.model.model import Model
from metatrain.model.places import model_url
from metatrain.model.progression import draw_strip, steps_shown
from metatrain.model.surprise import surprise
from metatrain.storage.files import read_file, write_file

# Change it whenever the same job gives another output.
_FORMAT = "metatrain-drawn-5"


@dataclass(frozen=True)
class System:
    """A model that adapts and samples.

    Attributes:
        url: the model's file.
        sha256: the model's hash; for an untrained system, that of the configuration it uses.
        untrained: whether to replace the weights by random ones, so that only the inner loop is
            left of the model.
    """

    url: str
    sha256: str
    untrained: bool = False


@dataclass(frozen=True, kw_only=True)
class Job:
    """One system on one episode.

    Attributes:
        system: the system that adapts and samples.
        data: URL of the data set.
        fingerprint: sha256 of the data set's manifest.
        split: split of the episode's task.
        episode: the episode.
        shots: number of support images (K).
        folder: folder of the output.
        steps: numbers of inner steps to sample after; by default those of a strip.
    """

    system: System
    data: str
    fingerprint: str
    split: str
    episode: ListedEpisode
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
            self.episode.model_dump(mode="json"),
            *self.steps,
        ]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()

    @property
    def file(self) -> str:
        """The name of the output's file in `folder`."""
        return f"{self.key}.safetensors"


@dataclass(frozen=True, kw_only=True)
class JobOutput:
    """The output of a job, at P numbers of inner steps.

    Attributes:
        steps: the numbers of inner steps, [P].
        images: N samples after each, uint8 [P, N, C, H, W]; uint16 of models with `data.bits=16`.
        losses: the loss on reference and held-out images, [P].
        seconds: the time of the inner steps, [P].
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
    return System(url, model.sha256), model


def from_scratch(system: System, model: Model) -> System:
    """Return the system with random weights, but the same generator, inner loop and inner steps."""
    return System(system.url, _untrained_sha256(model.config), untrained=True)


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
    task = next(task for task in store.tasks(job.split) if task.name == job.episode.task)
    config, data = model.config, model.config.data
    reader = ClassReader(store, data.image_size, data.channels, data.conditions)
    episode = reader.read(job.episode.plan(task, job.shots)).to(device)
    shown = _steps(job, config)
    adapter = model.adapter()
    # Nobody calibrates random weights, or asks whether they tell their support.
    features = _no_features if job.system.untrained else surprise
    before = features(adapter.generator, episode.support)
    strip = draw_strip(adapter, episode, shown, len(job.episode.reference))
    losses = _no_losses if job.system.untrained else image_losses
    support_losses, other_losses = losses(adapter.generator, episode)
    output = JobOutput(
        steps=torch.tensor(shown),
        images=torch.stack([to_levels(strip.drawn[step], data.bits).cpu() for step in shown]),
        losses=_by_step(strip.query_loss, shown),
        seconds=_by_step(strip.seconds, shown),
        surprise=before.cpu(),
        learned=(before.mean() - features(adapter.generator, episode.support).mean()).cpu(),
        support_losses=support_losses,
        other_losses=other_losses,
    )
    write_file(f"{job.folder}/{job.file}", save(asdict(output)))


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
    """Read the outputs of `jobs`, in their order.

    Raises:
        UserError: when a file is damaged.
    """
    urls = tracked("reading samples", [f"{job.folder}/{job.file}" for job in jobs], len(jobs))
    return [_read_output(url) for url in urls]


def _read_output(url: str) -> JobOutput:
    try:
        return JobOutput(**load(read_file(url)))
    except (SafetensorError, TypeError) as error:
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
