"""Objectives of two terms, on a linear game whose every outer gradient has a closed form.

Two players with opposing losses, L_u = u'u/2 + u'Bv - u'c and L_v = v'v - u'Bv + v'd, for c and d
the batch's pixels. Each descends its own loss, so that the field of both is F(w) = M w - q with
w = (u, v), M = [[I, B], [-B', 2I]] and q = (c, -d). M is not symmetric: code that takes it for a
Hessian fails here.
"""

import re

import pytest
import torch
from gradients import assert_same
from torch import nn
from toys import ToyNetwork, toy_theta

from metatrain.base.errors import UserError
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.learning.inner.loop import InnerConfig, InnerLoop
from metatrain.learning.learners import LEARNERS
from metatrain.learning.learners.maml import leaves

N, ALPHA, STEPS = 3, 0.1, 4
U, V = "network.u", "network.v"
EYE = torch.eye(N, dtype=torch.float64)
B = torch.randn(N, N, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
M = torch.cat([torch.cat([EYE, B], dim=1), torch.cat([-B.T, 2 * EYE], dim=1)])


class Players(ToyNetwork):
    def __init__(self):
        super().__init__()
        noise = torch.Generator().manual_seed(2)
        self.u, self.v = (
            nn.Parameter(torch.randn(N, generator=noise, dtype=torch.float64)) for _ in range(2)
        )


def aims(batch):
    """c and d, the means of the upper and of the lower row of pixels."""
    return batch.examples.target.mean(dim=(0, 1)).unbind()


def loss_of_u(players, c, d):
    return players.u @ players.u / 2 + players.u @ B @ players.v - players.u @ c


def loss_of_v(players, c, d):
    return players.v @ players.v - players.u @ B @ players.v + players.v @ d


def game(*moves, updates=None):
    first, second = moves or (("u",), ("v",))
    terms = (loss_of_u, first), (loss_of_v, second)
    return toy_theta(Players(), aims, *terms, updates=updates)


def episode(seed=0, task="task"):
    noise = torch.Generator().manual_seed(seed)
    return Episode(
        task,
        *Examples(torch.randn(4, 1, 2, N, generator=noise, dtype=torch.float64)).split(2),
        seed,
    )


def learner_of(
    name,
    gradient="adjoint",
    hvp="double_backward",
    steps=STEPS,
    updates=None,
    optimizer="sgd",
    momentum=None,
    **settings,
):
    kind = LEARNERS[name]
    config = kind.Config(name=name, **settings)
    inner = InnerConfig(steps=steps, lr=ALPHA, optimizer=optimizer, momentum=momentum)
    theta, proximity = game(updates=updates), kind.proximity(config)
    loop = InnerLoop(theta, inner, gradient=gradient, hvp=hvp, proximity=proximity)
    return kind(config, loop), loop.theta.copy()


def q_of(batch):
    c, d = aims(batch)
    return torch.cat([c, -d])


def flat(tree):
    return torch.cat([tree[U], tree[V]])


def tree_of(w):
    return {U: w[:N], V: w[N:]}


def descended(w, q, matrix=M, steps=STEPS):
    """w after `steps` steps of size ALPHA down the field matrix w - q."""
    for _ in range(steps):
        w = w - ALPHA * (matrix @ w - q)
    return w


@pytest.mark.parametrize("gradient", ["adjoint", "unrolled"])
def test_maml_gives_each_player_the_derivative_of_its_own_query_loss(gradient):
    learner, theta = learner_of("maml", gradient)
    w, support, query = flat(theta), q_of(episode().support_batch()), q_of(episode().query_batch())
    u, v = descended(w, support).split(N)
    # The whole derivative of each loss at phi, and its way back through w -> (I - alpha M) w.
    of_u = torch.cat([u + B @ v - query[:N], B.T @ u])
    of_v = torch.cat([-B @ v, 2 * v - B.T @ u - query[N:]])
    back = torch.linalg.matrix_power(torch.eye(2 * N, dtype=w.dtype) - ALPHA * M, STEPS).T
    expected = {U: (back @ of_u)[:N], V: (back @ of_v)[N:]}
    assert_same(learner.episode_gradient(theta, episode(), 0).gradient, expected, 1e-12)


def test_first_order_learners_descend_the_field():
    w = flat(learner_of("joint")[1])
    support, query, whole = (
        q_of(batch())
        for batch in (episode().support_batch, episode().query_batch, episode().whole_batch)
    )
    expected = {
        "joint": M @ w - whole,
        "fomaml": M @ descended(w, support) - query,
        "reptile": w - descended(w, whole),
    }
    for name, gradient in expected.items():
        learner, theta = learner_of(name)
        outer = learner.episode_gradient(theta, episode(), 0)
        assert_same(outer.gradient, tree_of(gradient), 1e-12)


def test_admm_adds_its_penalty_to_the_field():
    rho = 0.5
    learner, theta = learner_of("admm", rho=rho)
    w, whole = flat(theta), q_of(episode().whole_batch())
    pulled = descended(w, whole + rho * w, M + rho * torch.eye(2 * N, dtype=w.dtype))
    assert_same(learner.episode_gradient(theta, episode(), 0).gradient, tree_of(w - pulled), 1e-12)


@pytest.mark.long
def test_compiled_products_are_exact_for_a_game_too():
    learner, theta = learner_of("maml", hvp="compiled", steps=2)
    exact, _ = learner_of("maml", steps=2)
    assert_same(
        learner.episode_gradient(theta, episode(), 0).gradient,
        exact.episode_gradient(theta, episode(), 0).gradient,
        1e-10,
    )


# v takes two updates in each step, and then u one.
IN_TURN = ((1,), (1,), (0,))
OF_U, OF_V = (torch.diag(torch.arange(2 * N) // N == i).to(M) for i in range(2))


def descended_in_turn(w, q):
    for _ in range(STEPS):
        for player in (OF_V, OF_V, OF_U):
            w = w - ALPHA * player @ (M @ w - q)
    return w


def test_players_take_their_updates_in_turn():
    learner, theta = learner_of("reptile", updates=IN_TURN)
    w, whole = flat(theta), q_of(episode().whole_batch())
    expected = tree_of(w - descended_in_turn(w, whole))
    assert_same(learner.episode_gradient(theta, episode(), 0).gradient, expected, 1e-12)


@pytest.mark.parametrize("gradient", ["adjoint", "unrolled"])
def test_maml_goes_back_through_every_update_in_turn(gradient):
    learner, theta = learner_of("maml", gradient, updates=IN_TURN)
    w, support, query = flat(theta), q_of(episode().support_batch()), q_of(episode().query_batch())
    u, v = descended_in_turn(w, support).split(N)
    of_u = torch.cat([u + B @ v - query[:N], B.T @ u])
    of_v = torch.cat([-B @ v, 2 * v - B.T @ u - query[N:]])
    back = torch.autograd.functional.jacobian(lambda w: descended_in_turn(w, support), w).T
    expected = {U: (back @ of_u)[:N], V: (back @ of_v)[N:]}
    assert_same(learner.episode_gradient(theta, episode(), 0).gradient, expected, 1e-12)


@pytest.mark.parametrize("momentum", [None, 0.0, 0.5])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_players_in_turn_end_alike_in_place_and_as_a_function(optimizer, momentum):
    learner, theta = learner_of("maml", updates=IN_TURN, optimizer=optimizer, momentum=momentum)
    inner = learner.inner
    inner.adapt(theta, episode().support_batch, ALPHA)
    in_place = {name: value.clone() for name, value in inner.phi().items()}
    *_, last = inner.trace(leaves(theta), episode().support_batch, ALPHA)
    assert_same(last.phi, in_place, 1e-12)


def test_every_update_has_a_batch_of_its_own():
    learner, theta = learner_of("fomaml", updates=IN_TURN)
    asked = []

    def batch(number):
        asked.append(number)
        return episode().support_batch(number)

    learner.inner.adapt(theta, batch, ALPHA)
    assert asked == list(range(learner.inner.draws)) == list(range(3 * STEPS))


def test_joint_training_ends_where_neither_player_can_do_better():
    learner, theta = learner_of("joint")
    tasks = [episode(seed, f"task {seed}") for seed in range(3)]
    for step in range(400):
        outer = learner.outer_gradient(theta, tasks, step)
        theta = {name: p - ALPHA * outer.gradient[name] / 3 for name, p in theta.items()}
    mean = torch.stack([q_of(task.whole_batch()) for task in tasks]).mean(dim=0)
    assert_same(theta, tree_of(torch.linalg.solve(M, mean)), 1e-8)


@pytest.mark.parametrize("name", ["imaml", "meta-sgd", "maml++", "alfa"])
def test_what_has_no_meaning_for_a_game_is_refused(name):
    with pytest.raises(UserError, match=f"learner {re.escape(name)} .* 2 terms; choose reptile"):
        learner_of(name)


def test_differences_are_refused_where_the_jacobian_is_not_symmetric():
    with pytest.raises(UserError, match=r"meta\.hvp=difference .* 2 terms"):
        learner_of("maml", hvp="difference")


@pytest.mark.parametrize(("moves", "count"), [((("u",), ("u", "v")), 2), ((("u",), ("w",)), 0)])
def test_a_parameter_that_not_exactly_one_term_moves_is_named(moves, count):
    named = U if count == 2 else V
    with pytest.raises(UserError, match=f"{re.escape(named)} is moved by {count} terms"):
        game(*moves)
