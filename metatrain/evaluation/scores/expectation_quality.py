"""How good a calibrated model's expectations are, by what came of the tasks that it had them of."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.evaluation.scores.statistics import Estimate, Statistic, mean_of, score
from metatrain.model.calibration import UNFAMILIAR, Calibration


@dataclass(frozen=True)
class Foresight:
    """How good it was what a calibrated model expected of these tasks before it drew anything.

    Attributes:
        correlation: Spearman's, over tasks, of the own-task share expected and measured.
        error: the mean absolute difference of the two.
        held: the share of tasks whose measured share lies in the interval that was expected.
        warned: the share of supports that the model called unfamiliar.
        expected: each task's expected share, in the order of the tasks.
    """

    correlation: Estimate
    error: Estimate
    held: Estimate
    warned: Estimate
    expected: list[float]


def foresight(
    calibration: Calibration, surprise: Tensor, learned: Tensor, measured: Tensor
) -> Foresight:
    """Compare what was expected with what came of it.

    Args:
        calibration: that of the model.
        surprise: the model's, at the support of each episode, [S, T, P].
        learned: how far its mean fell by adapting, [S, T].
        measured: each task's own-task share, [T].
    """
    seeds, tasks = surprise.shape[:2]
    each = surprise.flatten(0, 1)
    expected = [calibration.expected(*of) for of in zip(each, learned.flatten(), strict=True)]
    values = torch.tensor([e.value for e in expected]).view(seeds, tasks)
    held = torch.tensor(
        [e.low <= y <= e.high for e, y in zip(expected, measured.tolist() * seeds, strict=True)]
    ).view(seeds, tasks)
    warned = torch.tensor([calibration.familiarity(x) < UNFAMILIAR for x in each])
    parts = {
        "correlation": rank_correlation(values.mean(dim=0), measured),
        "error": mean_of((values - measured).abs().mean(dim=0)),
        "held": mean_of(held.double().mean(dim=0)),
        "warned": mean_of(warned.view(seeds, tasks).double().mean(dim=0)),
    }
    found = {name: score(statistic, tasks).estimate for name, statistic in parts.items()}
    return Foresight(**found, expected=values.mean(dim=0).tolist())


def rank_correlation(x: Tensor, y: Tensor) -> Statistic:
    """Spearman's: Pearson's of mid-ranks, among tasks that count so often each."""

    def statistic(weights: Tensor) -> Tensor:
        weights = weights.double()
        a, b = (_centred_ranks(values.double(), weights) for values in (x, y))
        product = (weights * a * b).sum(dim=1)
        squares = (weights * a**2).sum(dim=1) * (weights * b**2).sum(dim=1)
        # Who expects the same of all tasks foresees nothing.
        return torch.where(squares > 0, product / squares.sqrt(), 0.0)

    return statistic


def _centred_ranks(values: Tensor, weights: Tensor) -> Tensor:
    """Mid-ranks less their mean, [B, T]."""
    below = (values[None, :] < values[:, None]).double() + (values == values[:, None]).double() / 2
    ranks = weights @ below.T
    return ranks - (weights * ranks).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
