"""Improved precision and recall: how plausible generated images are, and how varied."""

from torch import Tensor

from metatrain.metrics.neighbours import within_balls

NEIGHBOURS = 3


def precision(x: Tensor, y: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the share of each task's generated images x on the manifold of the real images y.

    Kynkaanniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative
    Models", eq. 1 and 2, with their k = 3. The manifold is that of all tasks together.

    Args:
        x: features [T, N, D] of generated images.
        y: features [T, M, D] of real images.
        k: a ball of the manifold reaches to the k-th nearest neighbour of its centre.

    Returns:
        [T], whose mean is the precision.
    """
    on_manifold = within_balls(x.flatten(0, 1), y.flatten(0, 1), k).any(dim=1)
    return on_manifold.unflatten(0, x.shape[:2]).double().mean(dim=1)


def recall(x: Tensor, y: Tensor, k: int = NEIGHBOURS) -> Tensor:
    """Return the share of each task's real images y on the manifold of the generated images x.

    Eq. 3 of the same paper; arguments and result as in `precision`.
    """
    return precision(y, x, k)
