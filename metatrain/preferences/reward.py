"""A Bradley-Terry reward on frozen features: the judge of best of n."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.data.pictures import on_white
from metatrain.metrics.hog import Hog
from metatrain.preferences.pairs import Pairs

# The sides that images are averaged to, for features of tone and colour from coarse to fine.
_SIDES = (1, 2, 4, 8)
# The strength of the ridge, for differences of mean square length 1.
_RIDGE = 0.1
_NEWTON_STEPS = 50

Reward = Callable[[Tensor], Tensor]


def fit_reward(pairs: Pairs) -> Reward:
    """Fit the reward r(x) = w f(x) to choices, p(x > y) = sigmoid(r(x) - r(y)).

    Bradley and Terry 1952, with a ridge on w, for there are more features than choices. The
    features f are frozen: shapes by histograms of oriented gradients, and tone and colour by the
    image averaged to squares of several sizes. Each kind is scaled so that the differences of all
    of them have the same mean square length, together 1.

    Returns:
        Maps images [N, C, H, W] to rewards [N].
    """
    features = zip(_features(pairs.winners), _features(pairs.losers), strict=True)
    differences = [winners - losers for winners, losers in features]
    mean_squares = [d.square().sum(dim=1).mean().clamp(min=1e-12) for d in differences]
    scales = [(len(differences) * mean_square).rsqrt() for mean_square in mean_squares]
    weights = logistic_ridge(_scaled(differences, scales), _RIDGE)
    return lambda images: _scaled(_features(images), scales) @ weights


def logistic_ridge(differences: Tensor, ridge: float) -> Tensor:
    """Return the w [D] that minimises sum_i log(1 + exp(-w z_i)) + ridge / 2 |w|^2.

    It lies in the span of the rows, w = sum_i a_i z_i, so Newton's steps are in a.

    Args:
        differences: z [N, D] in float64, winner less loser.
        ridge: the strength.
    """
    gram = differences @ differences.T
    a = gram.new_zeros(len(gram))
    eye = torch.eye(len(gram), dtype=gram.dtype)
    for _ in range(_NEWTON_STEPS):
        p = torch.sigmoid(-gram @ a)
        curvature = (p * (1 - p))[:, None] * gram + ridge * eye
        a = a + torch.linalg.solve(curvature, p - ridge * a)
    return differences.T @ a


def _features(images: Tensor) -> list[Tensor]:
    """Compute each kind of features of images, [N, D] in float64."""
    images = on_white(images.cpu())
    tones = [F.adaptive_avg_pool2d(images.double(), side).flatten(1) for side in _SIDES]
    return [Hog().features(images).double(), *tones]


def _scaled(features: Sequence[Tensor], scales: Sequence[Tensor]) -> Tensor:
    return torch.cat([s * f for s, f in zip(scales, features, strict=True)], dim=1)
