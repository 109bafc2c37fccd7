"""Retrieval: the share of images that are nearer to their own task than to any other."""

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
    prototypes = F.normalize(F.normalize(references, dim=-1).mean(dim=1), dim=-1)
    similarity = F.normalize(features, dim=-1) @ prototypes.T
    correct = similarity.argmax(dim=-1) == similarity.new_tensor(range(len(features)))[:, None]
    return correct.double().mean(dim=1)
