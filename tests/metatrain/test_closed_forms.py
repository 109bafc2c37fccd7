"""Learners on a quadratic loss, where what they compute has a closed form."""

import pytest
import torch
from gradients import assert_same
from torch import nn
from toys import ToyNetwork, toy_theta

from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.learning.inner.loop import InnerConfig, InnerLoop
from metatrain.learning.learners import LEARNERS
from metatrain.learning.learners.imaml import conjugate_gradients

N = 6
W = "network.w"


class Quadratic(ToyNetwork):
    """L(w; images) = 1/2 (w - c)' A (w - c), c the images' mean pixel values."""

    def __init__(self):
        super().__init__()
        noise = torch.Generator().manual_seed(3)
        root = torch.randn(N, N, generator=noise, dtype=torch.float64)
        self.register_buffer("A", root @ root.T / N + torch.eye(N, dtype=torch.float64))
        self.w = nn.Parameter(torch.randn(N, generator=noise, dtype=torch.float64))

    def forward(self, centre):
        away = self.w - centre
        return away @ self.A @ away / 2


def quadratic():
    def centre(batch):
        return (batch.examples.target.mean(dim=(0, 1, 2)),)

    return toy_theta(Quadratic(), centre, lambda network, *draw: network(*draw))


def quadratic_episode(task="task", seed=5):
    noise = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 1, 1, N, generator=noise, dtype=torch.float64)
    return Episode(task, *Examples(images).split(2), 0)


def quadratic_learner(name, steps, lr, **settings):
    kind = LEARNERS[name]
    config = kind.Config(name=name, **settings)
    inner = InnerConfig(steps=steps, lr=lr, optimizer="sgd")
    loop = InnerLoop(quadratic(), inner, proximity=kind.proximity(config))
    return kind(config, loop), loop.theta.copy(), loop.generator.network.A


def centres(episode):
    return episode.support.target.mean(dim=(0, 1, 2)), episode.query.target.mean(dim=(0, 1, 2))


@pytest.mark.parametrize("steps", [1, 4])
def test_maml_on_a_quadratic_is_its_closed_form(steps):
    learner, theta, A = quadratic_learner("maml", steps, lr=0.1)
    episode = quadratic_episode()
    support, query = centres(episode)
    contraction = torch.linalg.matrix_power(torch.eye(N, dtype=A.dtype) - 0.1 * A, steps)
    phi = support + contraction @ (theta[W] - support)
    expected = {W: contraction.T @ A @ (phi - query)}
    assert_same(learner.episode_gradient(theta, episode, 0).gradient, expected, 1e-12)


def test_imaml_on_a_quadratic_is_its_closed_form():
    proximity = 2.0
    learner, theta, A = quadratic_learner(
        "imaml", 600, lr=0.1, proximity=proximity, iterations=2 * N
    )
    episode = quadratic_episode()
    support, query = centres(episode)
    eye = torch.eye(N, dtype=A.dtype)
    phi = torch.linalg.solve(A + proximity * eye, A @ support + proximity * theta[W])
    expected = {W: torch.linalg.solve(eye + A / proximity, A @ (phi - query))}
    assert_same(learner.episode_gradient(theta, episode, 0).gradient, expected)


@pytest.mark.long
def test_compiled_first_order_gradients_are_those_that_are_not():
    episode = quadratic_episode()
    gradients = []
    for compiled in (False, True):
        learner, theta, _ = quadratic_learner("fomaml", 3, lr=0.1)
        config = learner.inner.config.model_copy(update={"compile": compiled})
        learner.inner = InnerLoop(learner.inner.theta, config)
        gradients.append(learner.episode_gradient(theta, episode, 0).gradient)
    assert_same(gradients[1], gradients[0], 1e-12)


def test_admm_finds_the_consensus_of_quadratics():
    """min over z of sum_i f_i(z) has the mean of the centres for a solution."""
    learner, theta, _ = quadratic_learner("admm", 40, lr=0.25, rho=1.0)
    episodes = [quadratic_episode(f"task {i}", seed=i) for i in range(3)]
    memory = {}
    for step in range(60):
        outer = learner.outer_gradient(theta, episodes, step, memory)
        theta = {W: theta[W] - outer.gradient[W] / len(episodes)}
        memory = learner.remember(memory, theta, outer.notes)
    solution = torch.stack(
        [torch.cat([e.support.target, e.query.target]).mean(dim=(0, 1, 2)) for e in episodes]
    ).mean(dim=0)
    assert_same(theta, {W: solution})


def test_conjugate_gradients_solve_in_as_many_steps_as_there_are_unknowns():
    A = Quadratic().A
    b = torch.arange(1.0, N + 1, dtype=A.dtype)
    solved = conjugate_gradients(lambda x: {W: A @ x[W]}, {W: b}, iterations=N)
    assert_same(solved, {W: torch.linalg.solve(A, b)}, 1e-10)


def test_where_the_curvature_is_negative_conjugate_gradients_keep_what_they_have():
    b = torch.ones(2, dtype=torch.float64)
    down = torch.tensor([-1.0, -2.0], dtype=torch.float64)
    solved = conjugate_gradients(lambda x: {W: down * x[W]}, {W: b}, iterations=5)
    assert torch.equal(solved[W], b)
