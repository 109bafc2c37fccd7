"""Implicit MAML."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.parameters import Parameters
from metatrain.data.batch import Batch
from metatrain.data.episodes import Episode
from metatrain.learning.inner.gradient_field import dot
from metatrain.learning.learners.learner import Learner, Memory, OuterGradient
from metatrain.learning.learners.sections import IMAMLConfig


class IMAML(Learner):
    """iMAML (Rajeswaran et al. 2019, "Meta-Learning with Implicit Gradients", lemma 1).

    g = 1/M sum_i (I + H(phi_i) / lambda)^-1 grad L(phi_i; Q_i),
    phi_i = argmin L(phi; S_i) + lambda/2 |phi - theta|^2

    Solved by conjugate gradients; exact once they and the inner loop have converged. With a scope
    smaller than the generator, the fixed parameters psi get the implicit gradient
    grad_psi L_Q - (d^2 L_S / dpsi dphi) x / lambda, for x the result above.

    Cost: k + 1 gradients and `iterations` Hessian-vector products per episode.
    Memory: one inner step's graph, whatever k.
    Use: long inner loops, any inner optimiser.
    """

    plays_games = False  # conjugate gradients need a symmetric system

    Config = IMAMLConfig

    @staticmethod
    @override
    def proximity(config: Any) -> float:
        return config.proximity

    @override
    def episode_gradient(
        self, theta: Parameters, episode: Episode, step: int, memory: Memory | None = None
    ) -> OuterGradient:

        def support(_: int) -> Batch:
            # The same noise in all inner steps: the minimum is that of one function.
            return episode.support_batch()

        losses = self.inner.adapt(theta, support, self.lr(step))
        gradient, query_loss = self.inner.gradient(episode.query_batch())
        phi, draw = self.inner.phi(), self.inner.prepare(support(0))
        scale = 1 / self.config.proximity

        def product(vector: Parameters) -> Parameters:
            return self.inner.hvp(phi, vector, draw)

        def system(x: Parameters) -> Parameters:
            hessian_x = product(x)
            return {name: value + scale * hessian_x[name] for name, value in x.items()}

        query = {name: gradient[name] for name in self.inner.scope}
        solved = conjugate_gradients(system, query, self.config.iterations, self.inner.field.dot)
        mixed = product(solved)
        fixed = {n: g - scale * mixed[n] for n, g in gradient.items() if n not in query}
        metrics = {"loss": query_loss, "inner_first": losses[0], "inner_last": losses[-1]}
        return OuterGradient(fixed | solved, metrics | self.inner.diagnostics(theta, self.lr(step)))


def conjugate_gradients(
    system: Callable[[Parameters], Parameters],
    b: Parameters,
    iterations: int,
    dot: Callable[[Parameters, Parameters], Tensor] = dot,
) -> Parameters:
    """Solve A x = b for a symmetric positive definite A, from x = 0 (Hestenes and Stiefel 1952).

    Args:
        system: maps x to A x.
        b: the right-hand side.
        iterations: the maximum number of products.
        dot: the inner product.
    """
    x = {name: torch.zeros_like(value) for name, value in b.items()}
    residual = direction = b
    square = initial = float(dot(residual, residual))
    for iteration in range(iterations):
        if square <= 1e-30 * initial:
            break
        image = system(direction)
        curvature = float(dot(direction, image))
        if not curvature > 0:
            # A is not positive definite: lambda is too small for the loss's negative curvature.
            # Return the last iterate, and in the first step b, the gradient without the inverse.
            return x if iteration else b
        length = square / curvature
        x = _sum(x, direction, length)
        residual = _sum(residual, image, -length)
        square, before = float(dot(residual, residual)), square
        direction = _sum(residual, direction, square / before)
    return x


def _sum(a: Parameters, b: Parameters, factor: float) -> Parameters:
    return {name: value + factor * b[name] for name, value in a.items()}
