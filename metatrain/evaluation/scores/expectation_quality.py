"""The quality of a calibrated model's expectations, measured on the tasks they were about."""

from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.evaluation.scores.statistics import Estimate, Statistic, mean_of, score
from metatrain.model.calibration import UNFAMILIAR, Calibration, SampleSizes


@dataclass(frozen=True)
class ExpectationQuality:
    """A comparison of the own-task shares that a model expected with those measured.

    Attributes:
        correlation: Spearman's rank correlation, over tasks, of expected and measured share.
        error: their mean absolute difference.
        held: the share of tasks whose measured share lies in the expected interval.
        warned: the share of supports that the model called unfamiliar.
        expected: the expected share of each task, in the order of the tasks.
        measured: the measured share of each task, in the same order.
        extent: the numbers of tasks, seeds and images that both are of, see `Extent`.
    """

    correlation: Estimate
    error: Estimate
    held: Estimate
    warned: Estimate
    expected: list[float]
    measured: list[float]
    extent: tuple[int, int, int]


def expectation_quality(
    calibration: Calibration, *, surprise: Tensor, learned: Tensor, nearer: Tensor
) -> ExpectationQuality:
    """Compare the shares that `calibration` expects with those measured.

    Both are of the largest extent that the calibration and the evaluation have in common: among as
    many tasks, over as many seeds, with as many images.

    Args:
        calibration: the model's calibration.
        surprise: the model's surprise at the support of each episode, [S, T, P].
        learned: the decrease of its mean by adapting, [S, T].
        nearer: how many other tasks each sample is nearer to than its own, [S, T, N].
    """
    seeds, tasks, images = nearer.shape
    extent = calibration.extent.common(SampleSizes(tasks, seeds, images))
    forecast, measured = calibration.forecast(extent), extent.own_task(nearer)
    seeds, each = extent.seeds, surprise[: extent.seeds].flatten(0, 1)
    learned = learned[: extent.seeds].flatten()
    expected = [forecast.expected(*of) for of in zip(each, learned, strict=True)]
    values = torch.tensor([e.value for e in expected]).view(seeds, tasks)
    held = torch.tensor(
        [e.low <= y <= e.high for e, y in zip(expected, measured.tolist() * seeds, strict=True)]
    ).view(seeds, tasks)
    warned = torch.tensor([calibration.familiarity(x) < UNFAMILIAR for x in each])
    statistics = {
        "correlation": rank_correlation(values.mean(dim=0), measured),
        "error": mean_of((values - measured).abs().mean(dim=0)),
        "held": mean_of(held.double().mean(dim=0)),
        "warned": mean_of(warned.view(seeds, tasks).double().mean(dim=0)),
    }
    estimates = {name: score(statistic, tasks).estimate for name, statistic in statistics.items()}
    return ExpectationQuality(
        **estimates,
        expected=values.mean(dim=0).tolist(),
        measured=measured.tolist(),
        extent=(extent.tasks, extent.seeds, extent.images),
    )


def rank_correlation(x: Tensor, y: Tensor) -> Statistic:
    """Return Spearman's rank correlation of x [T] and y [T], with mid-ranks, as a statistic."""

    def statistic(weights: Tensor) -> Tensor:
        weights = weights.double()
        a, b = (_centred_ranks(values.double(), weights) for values in (x, y))
        product = (weights * a * b).sum(dim=1)
        squares = (weights * a**2).sum(dim=1) * (weights * b**2).sum(dim=1)
        # A constant expectation predicts nothing: its correlation counts as 0.
        return torch.where(squares > 0, product / squares.sqrt(), 0.0)

    return statistic


def _centred_ranks(values: Tensor, weights: Tensor) -> Tensor:
    """Return the mid-ranks less their mean, [B, T], where tasks count `weights` [B, T] times."""
    below = (values[None, :] < values[:, None]).double() + (values == values[:, None]).double() / 2
    ranks = weights @ below.T
    return ranks - (weights * ranks).sum(dim=1, keepdim=True) / weights.sum(dim=1, keepdim=True)
