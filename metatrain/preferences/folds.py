"""Trainings that each leave choices out, and the step that foresees these best."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.generators.objectives.flow import random_stream
from metatrain.generators.objectives.preference import preference_loss
from metatrain.preferences.direct import (
    Judged,
    Loss,
    PairErrors,
    Training,
)
from metatrain.preferences.share import Share
from metatrain.preferences.starts import Settings, Start

FOLDS = 5
# Checks without a better one after which trainings end.
_PATIENCE = 3
_FOLD = 3


def folds_of(count: int, seed: int) -> Tensor:
    """Divide `count` pairs at random, and return the fold of each, [N]."""
    order = torch.randperm(count, generator=random_stream(seed, _FOLD))
    folds = torch.empty(count, dtype=torch.long)
    folds[order] = torch.arange(count) % FOLDS
    return folds


@dataclass(frozen=True)
class HeldOut:
    """Margins of pairs by the trainings that left them out.

    Attributes:
        margins: after each check, [checks + 1, N]; those of the reference are 0, in front.
        folds: the fold of each pair, [N].
        beta: the strength that the loss has.
    """

    margins: Tensor
    folds: Tensor
    beta: float

    @property
    def losses(self) -> Tensor:
        """The loss of each pair after each check, [checks + 1, N]."""
        return preference_loss(self.margins, self.beta)

    @property
    def best(self) -> int:
        """The check with the lowest mean loss; 0 where none beats the reference."""
        return _lowest(self.losses)

    @property
    def foreseen(self) -> Share:
        """The share of pairs whose winner the training that left them out prefers.

        The check of a fold is chosen by the other folds, so that no pair has a part in what judges
        it.
        """
        correct = 0
        for fold in range(FOLDS):
            inside = self.folds == fold
            # Not the reference, which prefers nothing.
            check = 1 + _lowest(self.losses[1:, ~inside])
            correct += int((self.margins[check, inside] > 0).sum())
        return Share(correct, len(self.folds))


def _lowest(losses: Tensor) -> int:
    """Return the row of the lowest mean, which is never one that is not a number."""
    return int(losses.mean(dim=1).nan_to_num(nan=torch.inf).argmin())


def hold_out(
    errors: PairErrors,
    loss: Loss,
    settings: Settings,
    *,
    checks: int,
    every: int,
    stopped: Callable[[], bool],
    start: Start | None = None,
) -> Iterator[HeldOut]:
    """Train once for each fold, on all others, up to one check after the other.

    They end early where no check has been better for a while.

    Args:
        errors: of all pairs.
        loss: what the trainings minimise.
        settings: the settings.
        checks: at most so many.
        every: steps between two checks.
        stopped: tells after a check whether to end there.
        start: where each training starts; by default at the reference.

    Yields:
        The margins after the last check, once for each fold that was trained further.
    """
    folds = folds_of(errors.count, settings.seed)
    rows = [(folds == fold).nonzero()[:, 0] for fold in range(FOLDS)]
    others = [(folds != fold).nonzero()[:, 0] for fold in range(FOLDS)]
    judged = [Judged(errors, inside, settings.seed) for inside in rows]
    trainings = [Training(errors, outside, loss, settings, start) for outside in others]
    before = torch.zeros(1, errors.count, dtype=torch.float64)
    result = HeldOut(before, folds, settings.beta)
    for check in range(1, checks + 1):
        now = torch.zeros_like(before)
        for inside, judge, training in zip(rows, judged, trainings, strict=True):
            yield result
            for _ in range(every):
                training.step()
            now[0, inside] = judge.margins(training.weights)
        result = HeldOut(torch.cat([result.margins, now]), folds, settings.beta)
        if check - result.best >= _PATIENCE or stopped():
            break
    yield result
