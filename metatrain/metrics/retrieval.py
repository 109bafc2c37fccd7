"""Retrieval: the share of images that are nearer to their own task than to any other."""

import torch
import torch.nn.functional as F
from torch import Tensor


def own_task_share(features: Tensor, references: Tensor) -> Tensor:
    """Return the share of each task's images that are nearest to their own task.

    The distance to a task is the cosine to the mean direction of its reference images.

    Args:
        features: [T, N, D], N images of each of T tasks.
        references: [T, R, D], real images of the same tasks, none of them in the support.

    Returns:
        [T], in [0, 1], whose mean is the share over all images; chance is 1 / T.
    """
    similarity = _similarity(features, references)
    correct = similarity.argmax(dim=-1) == similarity.new_tensor(range(len(features)))[:, None]
    return correct.double().mean(dim=1)


def nearer_tasks(features: Tensor, references: Tensor) -> Tensor:
    """Return how many other tasks each image is nearer to than its own, int32 [T, N].

    Args:
        features: see `own_task_share`.
        references: see `own_task_share`.
    """
    similarity = _similarity(features, references)
    own = similarity.diagonal(dim1=0, dim2=2).T[..., None]
    return (similarity > own).sum(dim=-1, dtype=torch.int32)


def own_task_share_among(nearer: Tensor, tasks: int) -> Tensor:
    """Return the own-task share of each task [..., T] among only `tasks` of all T.

    Of the others, some are left out at random, always the same way. An image that is nearer to r of
    the T - 1 others is nearest to its own task with probability C(T - 1 - r, tasks - 1) / C(T - 1,
    tasks - 1). One random number decides for all images of a task, which are confused with the same
    others.

    Args:
        nearer: how many other tasks each image is nearer to than its own, [..., T, N].
        tasks: at most T.
    """
    others, chosen = nearer.shape[-2] - 1, tasks - 1
    left = (others - nearer).double()
    log_chance = _log_choose(left, chosen) - _log_choose(left.new_tensor(others), chosen)
    chance = torch.where(left >= chosen, log_chance.exp(), 0.0).where(nearer > 0, 1.0)
    stream = torch.Generator().manual_seed(0)
    drawn = torch.rand((*nearer.shape[:-1], 1), generator=stream, dtype=torch.float64)
    return (drawn < chance).double().mean(dim=-1)


def _similarity(features: Tensor, references: Tensor) -> Tensor:
    """Return the cosine of each image to the mean direction of each task, [T, N, T]."""
    prototypes = F.normalize(F.normalize(references, dim=-1).mean(dim=1), dim=-1)
    return F.normalize(features, dim=-1) @ prototypes.T


def _log_choose(n: Tensor, k: int) -> Tensor:
    """Return the logarithm of the binomial coefficient, where n >= k."""
    n = n.clamp(min=k)
    return torch.lgamma(n + 1) - torch.lgamma(n - k + 1) - torch.lgamma(n.new_tensor(k + 1))
