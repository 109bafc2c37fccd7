"""Frechet distance between Gaussians fitted to features; FID where those are Inception's."""

import torch
from torch import Tensor

# Covariances that are decomposed at once: 64 of 64 x 64 numbers are 2 MB.
_AT_ONCE = 64


class Frechet:
    """d^2 = |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), with S unbiased.

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule", eq. 6; called FID in the
    features of Inception only. Biased upward in small samples, so that it is read beside what real
    images get (see `floor`). The same as torchmetrics' FrechetInceptionDistance with these
    features (a test holds that), which sees images once: a bootstrap needs the distance of
    thousands of resamples of tasks, which is why sums are kept by task here.

    Args:
        x: features [T, N, D], N images of each of T tasks.
        y: features [T, M, D] of the same tasks.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        x, y = _in_their_span(x.double(), y.double())
        self._x, self._y = _Sums(x), _Sums(y)

    def __call__(self, weights: Tensor) -> Tensor:
        """The distances [B] where task t counts `weights[b, t]` times, for each row b."""
        chunks = weights.double().split(_AT_ONCE)
        return torch.cat([frechet_distance(*self._x(w), *self._y(w)) for w in chunks])


def _in_their_span(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """The same features by coordinates in their span, where that has fewer: no distance changes."""
    rows = torch.cat([x.flatten(0, 1), y.flatten(0, 1)])
    if len(rows) >= rows.shape[1]:
        return x, y
    basis = torch.linalg.qr(rows.T).Q
    return x @ basis, y @ basis


class _Sums:
    """Sums over the images of each task, from which moments of any resample of tasks follow."""

    def __init__(self, features: Tensor) -> None:
        self._count, self._first = features.shape[1], features.sum(dim=1)
        self._second = torch.einsum("tnd,tne->tde", features, features)

    def __call__(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Means [B, D] and covariances [B, D, D]."""
        count = weights.sum(dim=1)[:, None] * self._count
        mean = weights @ self._first / count
        second = torch.einsum("bt,tde->bde", weights, self._second)
        scatter = second - count[..., None] * mean[:, :, None] * mean[:, None, :]
        return mean, scatter / (count[..., None] - 1)


def frechet_distance(m1: Tensor, s1: Tensor, m2: Tensor, s2: Tensor) -> Tensor:
    """The distances [B] between Gaussians of means [B, D] and covariances [B, D, D]."""
    # (S1 S2)^(1/2) and (S1^(1/2) S2 S1^(1/2))^(1/2) have one trace, and the second is symmetric.
    root = _root(s1)
    inner = torch.linalg.eigvalsh(root.mT @ s2 @ root).clamp_min(0)
    traces = (s1 + s2).diagonal(dim1=1, dim2=2).sum(dim=1)
    return (m1 - m2).square().sum(dim=1) + traces - 2 * inner.sqrt().sum(dim=1)


def floor(features: Tensor, draws: int = 64, seed: int = 0) -> float:
    """What two samples of one Gaussian get, each as large as this one: 0 to an infinite sample.

    Args:
        features: [T, N, D], to which the Gaussian is fitted.
        draws: pairs of samples whose mean it is.
        seed: of the draws.
    """
    noise = torch.Generator().manual_seed(seed)
    _, covariance = _Sums(features.double())(torch.ones(1, len(features)).double())
    root = _root(covariance)[0]
    sample = (*features.shape[:2], len(root))

    def draw() -> Tensor:
        return torch.randn(sample, generator=noise, dtype=root.dtype) @ root.T

    once = torch.ones(1, len(features))
    return torch.cat([Frechet(draw(), draw())(once) for _ in range(draws)]).mean().item()


def _root(covariance: Tensor) -> Tensor:
    """R [B, D, D] with R R' = `covariance` [B, D, D], which may lack ranks."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt()[:, None, :]
