"""Classification accuracy: real images classify generated ones, and generated ones real images."""

import torch
import torch.nn.functional as F
from torch import Tensor

# The penalty, as a share of the mean eigenvalue of the features' scatter.
_RIDGE = 0.1
# The smallest penalty: a system that generates one image for all tasks has no scatter.
_LEAST = 1e-12


def accuracy(images: Tensor, labelled: Tensor) -> Tensor:
    """Return the share of each task's images that a classifier trained on `labelled` recognises.

    The classifier is ridge regression on one-hot labels, whose only solution depends on nothing
    but the features: W = (X'X + lambda I)^-1 X'Y, with X centred and lambda a tenth of the mean
    eigenvalue of X'X. Trained on real images, it measures whether generated ones are recognised.
    Trained on generated images and tested on real ones, it is the classification accuracy score
    of Ravuri and Vinyals 2019, "Classification Accuracy Score for Conditional Generative Models".

    Args:
        images: features [T, N, D], N images of each of T tasks.
        labelled: training features [T, M, D] of the same tasks.

    Returns:
        [T], whose mean is the accuracy; chance is 1 / T.
    """
    tasks = len(labelled)
    train, test = labelled.double().flatten(0, 1), images.double().flatten(0, 1)
    labels = torch.arange(tasks).repeat_interleave(labelled.shape[1])
    targets = F.one_hot(labels, tasks).double() - 1 / tasks
    centre = train.mean(dim=0)
    scores = (test - centre) @ _ridge(train - centre, targets)
    correct = scores.argmax(dim=1).unflatten(0, images.shape[:2]) == torch.arange(tasks)[:, None]
    return correct.double().mean(dim=1)


def _ridge(x: Tensor, y: Tensor) -> Tensor:
    """Solve for the weights [D, T] with the smaller of X'X and XX'."""
    penalty = (_RIDGE * x.square().sum() / min(x.shape)).clamp_min(_LEAST)
    if len(x) < x.shape[1]:
        return x.T @ torch.linalg.solve(x @ x.T + penalty * torch.eye(len(x)), y)
    return torch.linalg.solve(x.T @ x + penalty * torch.eye(x.shape[1]), x.T @ y)
