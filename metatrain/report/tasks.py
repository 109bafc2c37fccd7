"""Which tasks a page shows: the first ones of the list, which nobody chose, and remarkable ones."""

import math
from collections.abc import Sequence

from metatrain.evaluation.results import Evaluation


def fixed(evaluation: Evaluation, count: int) -> list[int]:
    """The first tasks, by number: a fair sample, and the same for every run on the list."""
    return list(range(min(count, len(evaluation.episodes.tasks))))


def extremes(evaluations: Sequence[Evaluation], count: int) -> tuple[list[int], list[int]]:
    """The tasks, by number, that go worst and those that go best, each from the utmost on.

    By the mean own-task share over systems that were evaluated on the same tasks. As that has few
    values, equal ones are told apart by the tasks' KID. No task is both: `count` is halved for
    want of tasks.
    """
    results = [evaluation.result for evaluation in evaluations]
    shares = zip(*(result.own_task for result in results), strict=True)
    kids = zip(*(result.task_kid for result in results), strict=True)
    keys = [(sum(share), -_comparable(sum(kid))) for share, kid in zip(shares, kids, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    count = min(count, len(order) // 2)
    return order[:count], order[::-1][:count]


def contested(evaluations: Sequence[Evaluation], count: int) -> list[int]:
    """The tasks, by number, whose own-task share differs most between systems, the most first."""
    shares = list(zip(*(evaluation.result.own_task for evaluation in evaluations), strict=True))
    order = sorted(range(len(shares)), key=lambda i: min(shares[i]) - max(shares[i]))
    return order[:count]


def _comparable(kid: float) -> float:
    """What drew no numbers is as bad as can be."""
    return math.inf if math.isnan(kid) else kid
