"""What costs time in an evaluation, in pieces that need nothing of each other.

A piece of work is one system adapting to one episode and drawing. What comes of it follows from
the model, the data and the episode alone, and is kept in a file named after those: so any number of
workers anywhere may share the work, and whatever was done before an interruption stays done.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.config import Config
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import to_uint8
from metatrain.data.tasks.classes import read_episode
from metatrain.evaluation.episodes.episode_list import ListedEpisode
from metatrain.learning.learners import LEARNERS, Learner
from metatrain.model.adapt import Adapter
from metatrain.model.build import build_theta
from metatrain.model.file import Model, load_model, model_url
from metatrain.model.progression import draw_strip, steps_shown
from metatrain.model.surprise import surprise
from metatrain.storage.files import read_file, write_file

# Raised when a change makes something else of the same work.
_FORMAT = "metatrain-drawn-3"


@dataclass(frozen=True)
class System:
    """A model that adapts and draws.

    Attributes:
        url: its file.
        sha256: of what is in it; of what is used of its configuration where it is untrained.
        untrained: whether its weights are forgotten first, so that all it has is the inner loop.
    """

    url: str
    sha256: str
    untrained: bool = False


@dataclass(frozen=True)
class Work:
    """One system, one episode.

    Attributes:
        system: who draws.
        data: URL of the data set.
        fingerprint: sha256 of its manifest.
        split: of the episode's task.
        episode: what is given and compared with.
        shots: how many images are given.
        folder: where what was drawn is kept.
    """

    system: System
    data: str
    fingerprint: str
    split: str
    episode: ListedEpisode
    shots: int
    folder: str

    @property
    def key(self) -> str:
        """Names the outcome: the same wherever its inputs are the same."""
        inputs = [
            _FORMAT,
            self.system.sha256,
            self.system.untrained,
            self.fingerprint,
            self.shots,
            self.episode.model_dump(mode="json"),
        ]
        return hashlib.sha256(json.dumps(inputs).encode()).hexdigest()

    @property
    def file(self) -> str:
        """The file of the outcome, within `folder`."""
        return f"{self.key}.safetensors"


@dataclass(frozen=True)
class Drawn:
    """The outcome of a piece of work.

    Attributes:
        steps: after how many inner steps images were drawn, [P].
        images: uint8 [P, N, C, H, W].
        losses: the loss on reference and held-out images, [P].
        seconds: what the inner steps took, [P].
        surprise: the model's surprise at the support before its first inner step, see
            `Generator.surprise`.
        learned: how far its mean had fallen after the last, [].
    """

    steps: Tensor
    images: Tensor
    losses: Tensor
    seconds: Tensor
    surprise: Tensor
    learned: Tensor


def system_at(url: str) -> tuple[System, Model]:
    """The system of a model file, or of a run's or checkpoint's folder, and its model.

    Raises:
        UserError: when there is none, or it is damaged.
    """
    url = model_url(url)
    model = load_model(url)
    return System(url, model.sha256), model


def from_scratch(system: System, model: Model) -> System:
    """The same generator, inner loop and inner budget, but random weights."""
    return System(system.url, _untrained_sha256(model.config), untrained=True)


def _untrained_sha256(config: Config) -> str:
    """Of what random weights and adapting depend on, so that systems alike in it share the work."""
    used: dict[str, Any] = {
        "seed": True,
        "generator": True,
        "adapt": True,
        "data": {"image_size", "channels"},
        "inner": {"optimizer", "scope"},
    }
    kind = LEARNERS[config.learner.name]
    if kind.rule is not Learner.rule or kind.proximity is not Learner.proximity:
        used |= {"inner": True, "learner": True}  # it adapts in a way of its own
    kept = config.model_dump(mode="json", include=used)
    return hashlib.sha256(json.dumps(kept).encode()).hexdigest()


def perform(work: Work) -> None:
    """Do a piece of work, and keep what comes of it.

    Raises:
        UserError: when the model or the data cannot be read, or nothing be written.
    """
    model, store = _model(work.system), _store(work.data, work.fingerprint)
    task = next(task for task in store.tasks(work.split) if task.name == work.episode.task)
    config = model.config
    plan = work.episode.plan(task, work.shots)
    episode = read_episode(store, plan, config.data.image_size, config.data.channels)
    shown = [config.adapt.steps] if work.system.untrained else steps_shown(config)
    adapter = Adapter(model)
    before = surprise(adapter.generator, episode.support)
    strip = draw_strip(adapter, episode, shown, len(work.episode.reference))
    drawn = Drawn(
        torch.tensor(shown),
        torch.stack([to_uint8(strip.drawn[step]) for step in shown]),
        torch.tensor([strip.query_loss[step] for step in shown], dtype=torch.float64),
        torch.tensor([strip.seconds[step] for step in shown], dtype=torch.float64),
        before,
        before.mean() - surprise(adapter.generator, episode.support).mean(),
    )
    write_file(f"{work.folder}/{work.file}", save(asdict(drawn)))


def outcomes(works: Sequence[Work]) -> list[Drawn]:
    """What came of all `works`, in their order.

    Raises:
        UserError: when a file is damaged.
    """
    return [_outcome(f"{work.folder}/{work.file}") for work in works]


def _outcome(url: str) -> Drawn:
    try:
        return Drawn(**load(read_file(url)))
    except (SafetensorError, TypeError) as error:
        raise UserError(f"{url} is damaged; remove it and evaluate again.") from error


@lru_cache(maxsize=4)
def _model(system: System) -> Model:
    model = load_model(system.url)
    sha256 = _untrained_sha256(model.config) if system.untrained else model.sha256
    if sha256 != system.sha256:
        raise UserError(f"{system.url} was replaced while it was evaluated; evaluate it again.")
    if system.untrained:
        return Model(model.config, build_theta(model.config).copy(), step=0)
    return model


@lru_cache(maxsize=2)
def _store(url: str, fingerprint: str) -> EpisodeStore:
    store = EpisodeStore(url)
    if store.fingerprint != fingerprint:
        raise UserError(f"{url} was packed again while it was evaluated on; evaluate again.")
    return store
