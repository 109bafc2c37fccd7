"""A cell: one rater and one number of choices; every method learns from the same choices."""

import json
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import numpy as np
import torch
from torch import Tensor

from metatrain.data.episodes import Episode
from metatrain.data.tasks.random_streams import random_stream, stream_key
from metatrain.data.tasks.raters import better_of, rater_of
from metatrain.metrics.hog import Hog
from metatrain.metrics.kid import kid
from metatrain.model.model import Model
from metatrain.preferences.direct import (
    Loss,
    PairErrors,
    Training,
    direct_preference,
    fine_tuning,
)
from metatrain.preferences.folds import hold_out
from metatrain.preferences.pairs import Pairs
from metatrain.preferences.prefer import BEST_OF_N, DIRECT, WINNERS, in_scope, refuse_unteachable
from metatrain.preferences.reward import fit_reward
from metatrain.preferences.starts import Settings, learned_start
from metatrain.preferences.traits import TRAIT_COUNT, traits_of
from metatrain.storage.local_disk import write_whole

# Images that best of n draws for each that it keeps.
_DRAWN = 4
# Drawings that a method is judged by, and seeds. Every method and the unadapted model draw from the
# same noise, so that what was learned alone tells them apart; no choice is about these drawings.
_JUDGED, _AGAINST, _POOL, _CHOICES = 64, 0, 1, 2
_CHECKS, _EVERY = 20, 5
# The share of tastes that have a name, and the purpose of the stream of a rater's noise.
_NAMED, _NOISE = 0.25, 3
_SPLIT = "test"

LEARNED = "direct preference, meta-trained start"
METHODS = (DIRECT, LEARNED, WINNERS, BEST_OF_N)
# As many choices as a cell may have.
MOST = 100
# The utility [N] of images [N, C, H, W].
Taste = Callable[[Tensor], np.ndarray]


class RaterCell(NamedTuple):
    """Task, rater and number of choices that are measured at once.

    Attributes:
        task: the task that the model adapts to.
        rater: the rater's number.
        choices: the number of choices.
    """

    task: str
    rater: int
    choices: int


class RaterCells:
    """Cells of a model, in a folder; those that are done stay.

    Args:
        model: the model, before adapting.
        episodes: an episode for each task; its query images are real ones to compare with.
        folder: of the results.
        settings: of trainings on choices.
        start: a meta-trained start, which is measured too.
        steps: of each training; by default held-out choices decide, as in `metatrain prefer`.
        methods: names of the methods to measure; all by default.
    """

    def __init__(
        self,
        model: Model,
        episodes: Mapping[str, Episode],
        folder: Path,
        settings: Settings,
        start: Model | None = None,
        *,
        steps: int | None = None,
        methods: Collection[str] = METHODS,
    ) -> None:
        self._model, self._episodes, self._folder = model, episodes, folder
        self._settings, self._start, self._steps = settings, start, steps
        self._names = methods
        self._adapted, self._drawn = cache(self._adapt), cache(self._draw)

    def is_done(self, cell: RaterCell) -> bool:
        """Tell whether a cell has been measured."""
        return self._file(cell).exists()

    def scores(self, cell: RaterCell) -> dict[str, dict[str, float]]:
        """Read the scores of a cell that is done, by method."""
        return json.loads(self._file(cell).read_bytes())

    def run(self, cell: RaterCell) -> None:
        """Measure a cell, and write its scores."""
        adapted, taste = self._adapted(cell.task), self._taste(cell.rater)
        scale = float(taste(self._drawn(cell.task, _POOL)).std())
        pairs = self._pairs(cell, taste, scale)
        base = self._drawn(cell.task, _AGAINST)
        scores = {"unadapted": self._measured(cell.task, taste, base, base)}
        for name, draw in self._methods(adapted, pairs).items():
            started = time.perf_counter()
            images = draw()
            scores[name] = self._measured(cell.task, taste, images, base)
            scores[name]["seconds"] = time.perf_counter() - started
        write_whole(self._file(cell), [json.dumps(scores).encode()])

    def _file(self, cell: RaterCell) -> Path:
        name = f"{cell.rater}-{quote(cell.task, safe='')}-{cell.choices}.json"
        return self._folder / name

    def _adapt(self, task: str) -> Model:
        return self._model.adapt(self._episodes[task].support)

    def _draw(self, task: str, seed: int, count: int = _JUDGED) -> Tensor:
        return self._adapted(task).sample(count, seed=seed)

    def _taste(self, number: int) -> Taste:
        """Return the hidden taste of a rater of the task source's test split."""
        key, channels = stream_key(self._settings.seed, _SPLIT), self._model.config.data.channels
        rater = rater_of(key, number, traits=TRAIT_COUNT, channels=channels, named=_NAMED)
        return lambda images: rater.utilities(traits_of(images).numpy())

    def _pairs(self, cell: RaterCell, taste: Taste, scale: float) -> Pairs:
        drawn = self._drawn(cell.task, _CHOICES, 2 * MOST)[: 2 * cell.choices]
        stream = random_stream(stream_key(self._settings.seed, _SPLIT), _NOISE, cell.rater)
        better = better_of(taste(drawn).reshape(-1, 2), scale, stream)
        rows = 2 * torch.arange(cell.choices)
        chosen = torch.from_numpy(better)
        return Pairs(drawn[rows + chosen], drawn[rows + 1 - chosen])

    def _methods(self, adapted: Model, pairs: Pairs) -> dict[str, Callable[[], Tensor]]:
        """Return by name what learns from choices and draws."""
        direct = direct_preference(self._settings.beta)
        losses: dict[str, tuple[Loss, Model | None]] = {
            DIRECT: (direct, None),
            LEARNED: (direct, self._start),
            WINNERS: (fine_tuning, None),
        }
        methods: dict[str, Callable[[], Tensor]] = {
            name: lambda how=how: self._learned(adapted, pairs, *how).sample(_JUDGED, seed=_AGAINST)
            for name, how in losses.items()
            if name != LEARNED or self._start
        }
        methods[BEST_OF_N] = lambda: _best(adapted, pairs)
        return {name: draw for name, draw in methods.items() if name in self._names}

    def _learned(self, adapted: Model, pairs: Pairs, loss: Loss, start: Model | None) -> Model:
        """Train as `metatrain prefer` does; the model as it was where held-out choices say so."""
        model, names = in_scope(adapted, refuse_unteachable(adapted, None, start), start)
        errors, settings = PairErrors(model, names, pairs), self._settings
        begun = None
        if start:
            # The rate that is set is that of Adam from the standard start.
            settings = replace(settings, lr=None)
            begun = learned_start(start, errors.reference, settings)
        steps = self._steps
        if steps is None:
            options = {"checks": _CHECKS, "every": _EVERY, "start": begun}
            *_, held_out = hold_out(errors, loss, settings, **options, stopped=lambda: False)
            steps = held_out.best * _EVERY
            if not steps:
                return adapted
        training = Training(errors, torch.arange(len(pairs)), loss, settings, begun)
        for _ in range(steps):
            training.step()
        return replace(model, parameters={**model.parameters, **training.weights})

    def _measured(self, task: str, taste: Taste, images: Tensor, base: Tensor) -> dict[str, float]:
        real = self._episodes[task].query.target
        x, y = (Hog().features(i.cpu())[None] for i in (images, real))
        return {"win": win_rate(taste, images, base), "kid": kid(x, y)}


def _best(adapted: Model, pairs: Pairs) -> Tensor:
    reward = fit_reward(pairs)
    drawn = adapted.sample(_DRAWN * _JUDGED, seed=_AGAINST).unflatten(0, (_JUDGED, _DRAWN))
    best = reward(drawn.flatten(0, 1)).view(_JUDGED, _DRAWN).argmax(dim=1)
    return drawn[torch.arange(_JUDGED), best.to(drawn.device)]


def win_rate(taste: Taste, images: Tensor, against: Tensor) -> float:
    """Return the share of pairs of an image and one of `against` in which the former is better."""
    lead = taste(images)[:, None] - taste(against)[None, :]
    return float(((lead > 0) + 0.5 * (lead == 0)).mean())
