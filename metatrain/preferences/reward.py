"""A Bradley-Terry reward on frozen features: the judge of best of n."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.data.pictures import on_white
from metatrain.metrics.hog import Hog
from metatrain.preferences.pairs import Pairs

# The side that images are averaged to, for features of tone and colour.
_SIDE = 8
# The strength of the ridge, for differences of mean square length 1 + 1.
_RIDGE = 0.1
_NEWTON_STEPS = 50

Reward = Callable[[Tensor], Tensor]


def fit_reward(pairs: Pairs) -> Reward:
    """Fit the reward r(x) = w f(x) to choices, p(x > y) = sigmoid(r(x) - r(y)).

    Bradley and Terry 1952, with a ridge on w, for there are more features than choices. The
    features f are frozen: shapes by histograms of oriented gradients, and tone and colour by the
    image averaged to 8 x 8, both scaled so that differences have mean square length 1.

    Returns:
        Maps images [N, C, H, W] to rewards [N].
    """
    differences = [f(pairs.winners) - f(pairs.losers) for f in (_shape, _tone)]
    scales = [d.square().sum(dim=1).mean().clamp(min=1e-12).rsqrt() for d in differences]
    scaled = torch.cat([s * d for s, d in zip(scales, differences, strict=True)], dim=1)
    weights = logistic_ridge(scaled, _RIDGE)

    def reward(images: Tensor) -> Tensor:
        parts = [s * f(images) for s, f in zip(scales, (_shape, _tone), strict=True)]
        return torch.cat(parts, dim=1) @ weights

    return reward


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


def _shape(images: Tensor) -> Tensor:
    return Hog().features(images.cpu()).double()


def _tone(images: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(on_white(images.cpu()).double(), _SIDE).flatten(1)
