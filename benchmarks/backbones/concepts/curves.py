"""Curves over inner steps, and how many steps of one start another one's quality takes."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.evaluation.scores.statistics import Estimate, resamples

_TAILS = (0.025, 0.975)


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Costs of a start after P numbers of inner steps, on the same T concepts for all starts.

    Attributes:
        steps: the numbers of inner steps, rising from 0.
        loss: the flow's loss on images of the concept that it has not adapted to, [P, T].
        own_task: the share of samples that are nearest to their own concept, [P, T].
        rates: the rate of adapting by number of steps; None where it was learned.
        pace: seconds of an inner step on one core.
    """

    steps: Sequence[int]
    loss: Tensor
    own_task: Tensor
    rates: Sequence[float | None]
    pace: float


@dataclass(frozen=True)
class Speed:
    """The steps that a quality takes from two starts.

    Attributes:
        standard: inner steps from the standard start.
        other: the fewest from the other start; None where it is not reached.
        ratio: standard / other, with its interval over concepts; 0 where it is not reached.
    """

    standard: int
    other: int | None
    ratio: Estimate


def speed(steps: Sequence[int], standard: Tensor, other: Tensor, after: int | None) -> Speed:
    """Compare the steps of two starts to the same mean cost.

    No adapting at all counts as one step, so that a ratio has an end. The interval is that of the
    percentiles of resampled concepts; each has its own target and steps.

    Args:
        steps: the numbers of inner steps, [P].
        standard: costs from the standard start, [P, T]; lower is better.
        other: those from another start on the same concepts.
        after: the steps of the standard start that set the target; None for its best.
    """
    concepts = standard.shape[1]
    rows = torch.cat([torch.ones(1, concepts).double(), resamples(concepts)])
    levels, costs = standard.double() @ rows.T, other.double() @ rows.T
    targets, wanted = levels.min(dim=0)
    if after is not None:
        wanted = torch.full_like(wanted, list(steps).index(after))
        targets = levels[wanted[0]]
    good = costs <= targets
    reached, first = good.any(dim=0), good.int().argmax(dim=0)
    count = torch.tensor(steps).clamp(min=1).double()
    ratios = torch.where(reached, count[wanted] / count[first], 0.0)
    low, high = (ratios[1:].quantile(tail).item() for tail in _TAILS)
    needed = steps[int(first[0])] if reached[0] else None
    return Speed(steps[int(wanted[0])], needed, Estimate(ratios[0].item(), low, high))
