"""The choice of tasks for a page: the first of the list, and those with remarkable scores."""

import math
from collections.abc import Sequence

from metatrain.evaluation.results import Evaluation


def first_tasks(evaluation: Evaluation, count: int) -> list[int]:
    """Choose the first tasks, by number: a fair sample, and the same for every run on the list."""
    return list(range(min(count, len(evaluation.episodes.tasks))))


def worst_and_best(evaluations: Sequence[Evaluation], count: int) -> tuple[list[int], list[int]]:
    """Choose the tasks, by number, with the lowest and with the highest own-task share.

    The share is the mean over systems that were evaluated on the same tasks. It has few values, so
    the KID of the task decides between equal ones. No task is in both lists: `count` is halved
    where there are too few tasks.
    """
    results = [evaluation.result for evaluation in evaluations]
    shares = zip(*(result.own_task for result in results), strict=True)
    kids = zip(*(result.task_kid for result in results), strict=True)
    keys = [(sum(share), -_comparable(sum(kid))) for share, kid in zip(shares, kids, strict=True)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    count = min(count, len(order) // 2)
    return order[:count], order[::-1][:count]


def most_different(evaluations: Sequence[Evaluation], count: int) -> list[int]:
    """Choose the tasks, by number, whose own-task share differs most between systems."""
    shares = list(zip(*(evaluation.result.own_task for evaluation in evaluations), strict=True))
    order = sorted(range(len(shares)), key=lambda i: min(shares[i]) - max(shares[i]))
    return order[:count]


def _comparable(kid: float) -> float:
    """Order a KID that is not a number after all others."""
    return math.inf if math.isnan(kid) else kid
