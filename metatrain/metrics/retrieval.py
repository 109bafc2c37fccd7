"""Retrieval: do images look like their own task, rather than like another?"""

import torch.nn.functional as F
from torch import Tensor


def own_task_share(features: Tensor, references: Tensor) -> Tensor:
    """Share of each task's images whose nearest task, by cosine to its mean reference, is its own.

    Args:
        features: [T, N, D], N images of each of T tasks.
        references: [T, R, D], real images of the same tasks, none of them in the support.

    Returns:
        [T], in [0, 1]; its mean is the share over all images. Chance is 1 / T.
    """
    prototypes = F.normalize(F.normalize(references, dim=-1).mean(dim=1), dim=-1)
    similarity = F.normalize(features, dim=-1) @ prototypes.T
    own = similarity.argmax(dim=-1) == similarity.new_tensor(range(len(features)))[:, None]
    return own.double().mean(dim=1)
