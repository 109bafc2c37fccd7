"""Frechet distance between Gaussians fitted to features; FID if the features are Inception's."""

import torch
from torch import Tensor

# Covariances decomposed in one call: 64 of 64 x 64 numbers are 2 MB.
_BATCH = 64


class Frechet:
    """The squared distance |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), with unbiased S.

    Heusel et al. 2017, "GANs Trained by a Two Time-Scale Update Rule", eq. 6; the name FID is for
    Inception features only. The distance is biased upward in small samples, so compare it with
    that of real images (`frechet_floor`). It equals torchmetrics' FrechetInceptionDistance on
    these features (tested). That class needs one pass over the images for each distance; a
    bootstrap needs the distances of thousands of resamples of tasks, so this one keeps the sums
    of each task.

    Args:
        x: features [T, N, D], N images of each of T tasks.
        y: features [T, M, D] of the same tasks.
    """

    def __init__(self, x: Tensor, y: Tensor) -> None:
        x, y = _in_their_span(x.double(), y.double())
        self._x, self._y = _Sums(x), _Sums(y)

    def __call__(self, weights: Tensor) -> Tensor:
        """Return the distances [B] in which task t counts `weights[b, t]` times, for each row b."""
        chunks = weights.double().split(_BATCH)
        return torch.cat([frechet_distance(*self._x(w), *self._y(w)) for w in chunks])


def _in_their_span(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Return the features in coordinates of their span, if fewer; no distance changes."""
    rows = torch.cat([x.flatten(0, 1), y.flatten(0, 1)])
    if len(rows) >= rows.shape[1]:
        return x, y
    basis = torch.linalg.qr(rows.T).Q
    return x @ basis, y @ basis


class _Sums:
    """Sums over the images of each task, which give the moments of any resample of tasks."""

    def __init__(self, features: Tensor) -> None:
        self._count, self._first = features.shape[1], features.sum(dim=1)
        self._second = torch.einsum("tnd,tne->tde", features, features)

    def __call__(self, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means [B, D] and covariances [B, D, D]."""
        count = weights.sum(dim=1)[:, None] * self._count
        mean = weights @ self._first / count
        second = torch.einsum("bt,tde->bde", weights, self._second)
        scatter = second - count[..., None] * mean[:, :, None] * mean[:, None, :]
        return mean, scatter / (count[..., None] - 1)


def frechet_distance(m1: Tensor, s1: Tensor, m2: Tensor, s2: Tensor) -> Tensor:
    """Return the distances [B] between Gaussians of means [B, D] and covariances [B, D, D]."""
    # (S1 S2)^(1/2) and (S1^(1/2) S2 S1^(1/2))^(1/2) have the same trace; the second is symmetric.
    root = _root(s1)
    inner = torch.linalg.eigvalsh(root.mT @ s2 @ root).clamp_min(0)
    traces = (s1 + s2).diagonal(dim1=1, dim2=2).sum(dim=1)
    return (m1 - m2).square().sum(dim=1) + traces - 2 * inner.sqrt().sum(dim=1)


def frechet_floor(features: Tensor, pairs: int = 64, seed: int = 0) -> float:
    """Estimate the distance between two samples of one Gaussian, each as large as `features`.

    It tends to 0 as the samples grow.

    Args:
        features: [T, N, D]; the Gaussian is fitted to them.
        pairs: number of pairs of samples to average over.
        seed: seed of the samples.
    """
    noise = torch.Generator().manual_seed(seed)
    _, covariance = _Sums(features.double())(torch.ones(1, len(features)).double())
    root = _root(covariance)[0]
    shape = (*features.shape[:2], len(root))

    def sample() -> Tensor:
        return torch.randn(shape, generator=noise, dtype=root.dtype) @ root.T

    once = torch.ones(1, len(features))
    return torch.cat([Frechet(sample(), sample())(once) for _ in range(pairs)]).mean().item()


def _root(covariance: Tensor) -> Tensor:
    """Return R [B, D, D] with R R' = `covariance` [B, D, D], which may be singular."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt()[:, None, :]
