"""A cell: one task, one rater, one number of choices; every method learns from the same choices."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import torch
from torch import Tensor

from benchmarks.preferences.raters import Rater, Taste, taste_of, win_rate
from metatrain.data.episodes import Episode
from metatrain.metrics.hog import Hog
from metatrain.metrics.kid import kid
from metatrain.model.model import Model
from metatrain.preferences.direct import (
    Loss,
    PairErrors,
    Settings,
    Training,
    direct_preference,
    fine_tuning,
)
from metatrain.preferences.folds import hold_out
from metatrain.preferences.pairs import Pairs
from metatrain.preferences.prefer import BEST_OF_N, DIRECT, WINNERS, in_scope, refuse_unteachable
from metatrain.preferences.reward import fit_reward
from metatrain.storage.local_disk import write_whole

# Images that best of n draws for each that it keeps.
_DRAWN = 4
# Drawings that a method is judged by, and their seeds, which no choice is about.
_JUDGED, _POOL, _CHOICES, _AGAINST = 64, 1, 2, 3
_CHECKS, _EVERY = 20, 5


class RaterCell(NamedTuple):
    """Task, rater and number of choices that are measured at once.

    Attributes:
        task: the task that the model adapts to.
        rater: the rater's name.
        choices: the number of choices.
    """

    task: str
    rater: str
    choices: int


class RaterCells:
    """Cells of a model, in a folder; those that are done stay.

    Args:
        model: the model, before adapting.
        episodes: an episode for each task; its query images are real ones to compare with.
        folder: of the results.
        settings: of trainings on choices.
    """

    def __init__(
        self, model: Model, episodes: Mapping[str, Episode], folder: Path, settings: Settings
    ) -> None:
        self._model, self._episodes, self._folder = model, episodes, folder
        self._settings = settings
        self._adapted = cache(self._adapt)

    def is_done(self, cell: RaterCell) -> bool:
        """Tell whether a cell has been measured."""
        return self._file(cell).exists()

    def scores(self, cell: RaterCell) -> dict[str, dict[str, float]]:
        """Read the scores of a cell that is done, by method."""
        return json.loads(self._file(cell).read_bytes())

    def run(self, cell: RaterCell) -> None:
        """Measure a cell, and write its scores.

        Raises:
            UserError: when there is no such rater.
        """
        adapted, taste = self._adapted(cell.task), taste_of(cell.rater)
        rater = Rater(taste, taste(adapted.sample(_JUDGED, seed=_POOL)).std().item())
        drawn = adapted.sample(2 * cell.choices, seed=_CHOICES)
        pairs = rater.choose(drawn[0::2], drawn[1::2], self._settings.seed)
        base = adapted.sample(_JUDGED, seed=_AGAINST)
        scores = {"unadapted": self._measured(cell.task, taste, base, base)}
        for name, draw in self._methods(adapted, pairs).items():
            started = time.perf_counter()
            images = draw()
            scores[name] = self._measured(cell.task, taste, images, base)
            scores[name]["seconds"] = time.perf_counter() - started
        write_whole(self._file(cell), [json.dumps(scores).encode()])

    def _file(self, cell: RaterCell) -> Path:
        name = f"{quote(cell.task, safe='')}-{cell.rater}-{cell.choices}.json"
        return self._folder / name

    def _adapt(self, task: str) -> Model:
        return self._model.adapt(self._episodes[task].support)

    def _methods(self, adapted: Model, pairs: Pairs) -> dict[str, Callable[[], Tensor]]:
        """Return by name what learns from choices and draws."""
        losses: dict[str, Loss] = {
            DIRECT: direct_preference(self._settings.beta),
            WINNERS: fine_tuning,
        }
        methods = {
            name: lambda loss=loss: self._learned(adapted, pairs, loss).sample(_JUDGED, seed=0)
            for name, loss in losses.items()
        }
        return {**methods, BEST_OF_N: lambda: _best(adapted, pairs)}

    def _learned(self, adapted: Model, pairs: Pairs, loss: Loss) -> Model:
        """Train as `metatrain prefer` does; the model as it was where held-out choices say so."""
        model, names = in_scope(adapted, refuse_unteachable(adapted))
        errors = PairErrors(model, names, pairs)
        options = {"checks": _CHECKS, "every": _EVERY}
        *_, held_out = hold_out(errors, loss, self._settings, **options, stopped=lambda: False)
        training = Training(errors, torch.arange(len(pairs)), loss, self._settings)
        for _ in range(held_out.best * _EVERY):
            training.step()
        return replace(model, parameters={**model.parameters, **training.weights})

    def _measured(self, task: str, taste: Taste, images: Tensor, base: Tensor) -> dict[str, float]:
        real = self._episodes[task].query.target
        x, y = (Hog().features(i.cpu())[None] for i in (images, real))
        return {"win": win_rate(taste, images, base), "kid": kid(x, y)}


def _best(adapted: Model, pairs: Pairs) -> Tensor:
    reward = fit_reward(pairs)
    drawn = adapted.sample(_DRAWN * _JUDGED, seed=0).unflatten(0, (_JUDGED, _DRAWN))
    best = reward(drawn.flatten(0, 1)).view(_JUDGED, _DRAWN).argmax(dim=1)
    return drawn[torch.arange(_JUDGED), best.to(drawn.device)]
