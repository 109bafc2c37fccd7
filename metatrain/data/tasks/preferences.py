"""The task source of preferences: a task is a rater, its examples choices between drawings."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from pydantic import ValidationError
from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.text import counted, printable
from metatrain.data.conditions.sections import VectorConfig
from metatrain.data.episode_config import EpisodeConfig, TooFew
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.packed.store import EpisodeStore, ImagePlace, Task
from metatrain.data.rated import DRAWINGS_END, LOSER, NAMED_TRAITS, SHOTS, SHOTS_END, TRAITS
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.data.tasks.packed_source import PackedSource
from metatrain.data.tasks.random_streams import IMAGES, random_stream, stream_key, turn_of
from metatrain.data.tasks.raters import Rater, better_of, rater_of
from metatrain.data.tasks.sections import PreferencesConfig


@dataclass(frozen=True)
class Scene:
    """Drawings of a model, and the images that it was conditioned on.

    Attributes:
        name: of what is drawn.
        shots: the packed task of these images.
        drawings: the packed task of the drawings.
    """

    name: str
    shots: Task
    drawings: Task

    @property
    def images(self) -> list[ImagePlace]:
        """The places of the shots, and then of the drawings."""
        return [(task, i) for task in (self.shots, self.drawings) for i in range(task.count)]


@dataclass(frozen=True)
class PreferencePlan:
    """The choices of one rater in a scene.

    Attributes:
        rater: the rater.
        scene: the scene.
        pairs: the drawings of each choice, of the support's first; no drawing comes twice.
        shots: choices of the support.
        seed: seeds all further randomness of the episode.
    """

    rater: Rater
    scene: Scene
    pairs: tuple[tuple[int, int], ...]
    shots: int
    seed: int


@dataclass(frozen=True, kw_only=True)
class PreferenceSampler:
    """Plans of the episodes of one split: every rater comes once before any comes twice.

    Attributes:
        scenes: what is drawn.
        rater: returns a rater by number.
        epoch: the number of raters.
        key: of the random streams.
        meta_batch: episodes of an outer step.
        shots: choices of a support.
        queries: choices of a query.
    """

    scenes: tuple[Scene, ...]
    rater: Callable[[int], Rater]
    epoch: int
    key: int
    meta_batch: int
    shots: int
    queries: int

    def plan(self, step: int, slot: int) -> PreferencePlan:
        """Return the plan of `slot` in outer step `step`."""
        rater = self.rater(turn_of(self.key, step * self.meta_batch + slot, self.epoch))
        stream = random_stream(self.key, IMAGES, step, slot)
        scene = self.scenes[int(stream.integers(len(self.scenes)))]
        count = self.shots + self.queries
        order = stream.permutation(scene.drawings.count)[: 2 * count].reshape(count, 2)
        pairs = tuple((int(a), int(b)) for a, b in order)
        return PreferencePlan(rater, scene, pairs, self.shots, int(stream.integers(2**62)))


class Preferences(PackedSource[PreferencesConfig, PreferencePlan]):
    """Raters over the packed drawings of one model.

    An example's target is the drawing that was chosen; its condition `loser` [C, H, W] is the one
    that was not, and `shots` [K, C, H, W] what the model was conditioned on. A rater is a pure
    function of seed, split and number.

    Args:
        config: the source's section of the configuration.
        data: the rest of section `data`.
        store: the data set; by default the one at `data.path`, with its cache on this node.

    Raises:
        UserError: when the data set or the cache cannot be used, or it has no drawings.
    """

    Config = PreferencesConfig

    def __init__(
        self, config: PreferencesConfig, data: EpisodeConfig, store: EpisodeStore | None = None
    ) -> None:
        super().__init__(config, data, store)
        section = _section_of_traits(self.store)
        self._traits = section.size
        self.reader = ClassReader(self.store, data.image_size, data.channels, {TRAITS: section})

    @classmethod
    @override
    def conditions(
        cls, config: PreferencesConfig, data: EpisodeConfig
    ) -> dict[str, tuple[int, ...]]:
        image = (data.channels, data.image_size, data.image_size)
        # As many as `metatrain drawings` gives by default; the data set alone has the number.
        return {LOSER: image, SHOTS: (5, *image)}

    @override
    def sampler(
        self,
        split: str,
        *,
        seed: int,
        meta_batch: int,
        queries: int | None = None,
        too_few: TooFew | None = None,
    ) -> PreferenceSampler:
        queries = self.data.queries if queries is None else queries
        key, data = stream_key(seed, split), self.data
        options = {"traits": self._traits, "channels": data.channels, "named": self.config.named}
        return PreferenceSampler(
            scenes=self._scenes(split, 2 * (data.shots + queries)),
            rater=partial(rater_of, key, **options),
            epoch=self.config.raters,
            key=key,
            meta_batch=meta_batch,
            shots=data.shots,
            queries=queries,
        )

    @override
    def read(self, plan: PreferencePlan) -> Episode:
        name = f"{plan.rater.name}, {plan.scene.name}"
        images = self.reader.examples(name, plan.scene.images)
        shots, drawings = images.split(plan.scene.shots.count)
        traits = drawings.given[TRAITS]
        assert isinstance(traits, Tensor)
        utilities, pairs = plan.rater.utilities(traits.numpy()), np.array(plan.pairs)
        stream = np.random.Generator(np.random.Philox(key=plan.seed))
        better = better_of(utilities[pairs], float(utilities.std()), stream)
        rows = np.arange(len(pairs))
        winners, losers = (
            drawings.target[torch.from_numpy(pairs[rows, side])] for side in (better, 1 - better)
        )
        given = {LOSER: losers, SHOTS: shots.target.expand(len(pairs), *shots.target.shape)}
        return Episode(name, *Examples(winners, given).split(plan.shots), plan.seed)

    @override
    def bytes_of(self, plan: PreferencePlan) -> int:
        return 2 * self.reader.bytes_of(plan.scene.images)

    @property
    @override
    def fingerprint(self) -> str:
        decides = [super().fingerprint, self.store.fingerprint]
        return hashlib.sha256("/".join(decides).encode()).hexdigest()

    def _scenes(self, split: str, needed: int) -> tuple[Scene, ...]:
        """Return the scenes of a split, and refuse any with too few drawings for an episode."""
        tasks = {task.name: task for task in self.store.tasks(split)}
        scenes = tuple(
            Scene(name, tasks[f"{name}{SHOTS_END}"], drawings)
            for task, drawings in tasks.items()
            if task.endswith(DRAWINGS_END)
            for name in [task.removesuffix(DRAWINGS_END)]
            if f"{name}{SHOTS_END}" in tasks
        )
        if not scenes:
            raise UserError(
                f"split '{split}' of {self.url} has no drawings; make some with metatrain drawings."
            )
        least = min(scenes, key=lambda scene: scene.drawings.count)
        if least.drawings.count < needed:
            raise UserError(
                f"an episode of {needed // 2} choices needs {needed} drawings, and "
                f"'{printable(least.name)}' in {self.url} has "
                f"{counted(least.drawings.count, 'drawing')}; lower data.shots or data.queries, or "
                f"make more with metatrain drawings --drawings {needed}."
            )
        return scenes


def _section_of_traits(store: EpisodeStore) -> VectorConfig:
    """Return the section of the packed traits, and refuse data without any."""
    try:
        section = VectorConfig.model_validate(store.conditions.get(TRAITS))
    except ValidationError:
        section = VectorConfig()
    if section.size <= len(NAMED_TRAITS):
        raise UserError(
            f"{store.url} has no drawings with traits, which raters choose by; make them with "
            f"metatrain drawings."
        )
    return section
