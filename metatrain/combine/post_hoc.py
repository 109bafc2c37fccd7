"""Post-hoc EMA: averages of theta over any length of time, chosen after the training.

Karras et al. 2024, "Analyzing and Improving the Training Dynamics of Diffusion Models", section 3
and appendix C. Training keeps two averages of different lengths, and every checkpoint stores both.
A linear combination of these snapshots approximates any other average.
"""

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.training.average import gamma_of
from metatrain.training.average_snapshots import Snapshot, snapshots_of

# Beyond the longest, the weight of a step would not grow with its number; below the shortest, an
# average covers hardly any steps.
_SHORTEST, _LONGEST = 0.01, 0.28

Array = NDArray[np.floating]


def reconstruct(run: str, sigma: float, *, trust: bool = False) -> tuple[Model, float]:
    """Reconstruct the average of relative length `sigma` over a whole run, from its snapshots.

    Returns:
        The model, and the error of its profile relative to the norm of the exact one.

    Raises:
        UserError: when `sigma` is out of range, or there are no snapshots.
    """
    if not _SHORTEST <= sigma <= _LONGEST:
        raise UserError(f"sigma is {sigma}; give a length from {_SHORTEST} to {_LONGEST}.")
    snapshots = snapshots_of(run)
    if not snapshots:
        raise UserError(
            f"there are no averages under {run}; give the folder of a run that was trained with "
            f"meta.post_hoc=true."
        )
    weights, error = solve(snapshots, snapshots[-1].step, sigma)
    newest = load_model(snapshots[-1].url, trust=trust)
    # float64, because the weights have both signs and large terms cancel.
    mean = {name: torch.zeros_like(p, dtype=torch.float64) for name, p in newest.parameters.items()}
    weighted = zip(snapshots, weights, strict=True)
    for snapshot, weight in tracked("reading averages", weighted, len(snapshots)):
        for name, value in load_model(snapshot.url, trust=trust).parameters.items():
            mean[name].add_(value, alpha=weight)
    return replace(newest, parameters={name: p.float() for name, p in mean.items()}), error


def solve(snapshots: list[Snapshot], step: int, sigma: float) -> tuple[Array, float]:
    """Find the weights of the snapshots that best fit the profile of `sigma` at `step`.

    Algorithm 3 of the paper, least squares over profiles, but with weights that sum to 1, as
    those of an average do. Otherwise the constant part of theta would be scaled.

    Returns:
        The weights [N], and the error of their profile relative to the norm of the exact one.
    """
    t = np.array([snapshot.step for snapshot in snapshots], float)
    gamma = np.array([gamma_of(snapshot.sigma) for snapshot in snapshots])
    end, exact = np.array(step, float), np.array(gamma_of(sigma))
    gram = _inner_product(t[:, None], gamma[:, None], t, gamma)
    target = _inner_product(t, gamma, end, exact)
    ones = np.ones((len(t), 1))
    bordered = np.block([[gram, ones], [ones.T, np.zeros((1, 1))]])
    weights = np.linalg.solve(bordered, np.append(target, 1.0))[:-1]
    norm = float(_inner_product(end, exact, end, exact))
    error = norm - 2 * weights @ target + weights @ gram @ weights
    return weights, float(np.sqrt(max(0.0, error) / norm))


def _inner_product(t_a: Array, gamma_a: Array, t_b: Array, gamma_b: Array) -> Array:
    """Return the integral of the product of two profiles (g + 1) tau^g / t^(g + 1) over [0, t]."""
    power = np.where(t_a < t_b, gamma_b, -gamma_a)
    scale = (gamma_a + 1) * (gamma_b + 1) / ((gamma_a + gamma_b + 1) * np.maximum(t_a, t_b))
    return scale * (t_a / t_b) ** power
