"""Every learner's outer gradient against its paper's formula, written out plainly, in float64.

The references share the generator's loss and nothing else: no inner loop, no optimiser, no rule and
no adjoint of ours.
"""

from pathlib import Path

import pytest
import torch
from gradients import assert_same
from torch import nn
from torch.func import functional_call
from torch.nn.attention import SDPBackend, sdpa_kernel

from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.learning.catalogue import page
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.inner.rule import InnerRule
from metatrain.learning.inner.theta import RULE, Theta
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import adaptation_lr, build_learner, build_theta

SMALL = ["data.image_size=8", "generator.width=8", "inner.steps=3", "inner.lr=0.01"]
ALPHA, STEPS = 0.01, 3

FREE_SCOPE = [name for name, kind in LEARNERS.items() if kind.Config.scope is None]


def episode_of(seed, task="task"):
    noise = torch.Generator().manual_seed(seed)
    images = torch.rand(5, 1, 8, 8, generator=noise, dtype=torch.float64) * 2 - 1
    return Episode(task, *Examples(images).split(3), seed)


class Bench:
    """A learner over a small generator in float64, at a general place."""

    def __init__(self, *overrides, network="unet"):
        self.config = load_config(None, [*SMALL, f"generator.name={network}", *overrides])
        self.place = build_theta(self.config).double()
        self.generator = self.place.generator
        self.learner = build_learner(self.config, build_theta(self.config).double())
        self.memory = {}
        self.scope = self.learner.inner.scope
        noise = torch.Generator().manual_seed(0)
        self.theta = {
            # Last layers, gates and rates start at zero; move everything to a general place.
            name: p.detach() + 0.05 * torch.randn(p.shape, generator=noise, dtype=p.dtype)
            for name, p in self.place.named().items()
        }
        self.episode = episode_of(1)

    def outer(self, step=0):
        return self.learner.episode_gradient(self.theta, self.episode, step, self.memory)

    def remember(self, outer):
        self.memory = self.learner.remember(self.memory, self.theta, outer.notes)

    def leaves(self):
        return {name: p.clone().requires_grad_() for name, p in self.theta.items()}

    def loss(self, weights, batch):
        with sdpa_kernel(SDPBackend.MATH):
            weights = {name: w for name, w in weights.items() if not name.startswith(RULE)}
            return functional_call(self.generator, weights, self.generator.prepare(batch))

    def gradient(self, weights, batch, names=None, graph=False):
        names = list(names or weights)
        if not graph:
            weights = {n: w.detach().requires_grad_() for n, w in weights.items()}
        loss, wanted = self.loss(weights, batch), [weights[name] for name in names]
        slopes = torch.autograd.grad(loss, wanted, create_graph=graph, materialize_grads=True)
        return dict(zip(names, slopes, strict=True))

    def unrolled(self, theta, advance, scope=None):
        """phi after each of the inner steps on the support, every step in the graph."""
        phi, trail = dict(theta), []
        for t in range(STEPS):
            g = self.gradient(phi, self.episode.support_batch(t), scope or self.scope, graph=True)
            phi = phi | {name: advance(name, phi[name], g, t) for name in g}
            trail.append(phi)
        return trail

    def reference(self, advance, scope=None, query_weights=(0.0, 0.0, 1.0)):
        """d/dtheta of the weighted query losses after the inner steps."""
        theta = self.leaves()
        trail = self.unrolled(theta, advance, scope)
        losses = [self.loss(phi, self.episode.query_batch()) for phi in trail]
        total = sum(w * loss for w, loss in zip(query_weights, losses, strict=True))
        slopes = torch.autograd.grad(total, list(theta.values()), materialize_grads=True)
        return dict(zip(theta, slopes, strict=True))


def sgd(name, weight, gradient, t):
    return weight - ALPHA * gradient[name]


def momentum():
    """Sutskever et al. 2013, with torch's convention: v = 0.9 v + g, w -= alpha v."""
    velocity = {}

    def advance(name, weight, gradient, t):
        velocity[name] = 0.9 * velocity.get(name, 0.0) + gradient[name]
        return weight - ALPHA * velocity[name]

    return advance


def adam():
    """Kingma and Ba 2015, algorithm 1."""
    m, v = {}, {}

    def advance(name, weight, gradient, t):
        g = gradient[name]
        # A weight whose every gradient is 0 has no derivative: it does not move.
        moves = g.detach() != 0
        m[name] = 0.9 * m.get(name, 0.0) + 0.1 * g
        v[name] = 0.999 * v.get(name, 0.0) + 0.001 * g**2
        m_hat, v_hat = m[name] / (1 - 0.9 ** (t + 1)), v[name] / (1 - 0.999 ** (t + 1))
        root = torch.where(moves, v_hat, 1.0).sqrt()
        return weight - ALPHA * torch.where(moves, m_hat / (root + 1e-8), 0.0)

    return advance


ADVANCES = {"sgd": lambda: sgd, "momentum": momentum, "adam": adam}


def test_joint_is_the_plain_gradient_on_support_and_query():
    bench = Bench("learner.name=joint")
    assert_same(bench.outer().gradient, bench.gradient(bench.theta, bench.episode.whole_batch()))


def reference_phi(bench, advance, batch_at, pull=None):
    """k first-order steps on `batch_at`, `pull` being a further gradient."""
    phi = dict(bench.theta)
    for t in range(STEPS):
        g = bench.gradient(phi, batch_at(t), bench.scope)
        g = {name: value + (pull(name, phi[name]) if pull else 0.0) for name, value in g.items()}
        phi = phi | {name: advance(name, phi[name], g, t) for name in bench.scope}
    return phi


@pytest.mark.parametrize("scope", ["all", "film", "lora"])
@pytest.mark.parametrize("optimizer", ADVANCES)
def test_reptile_is_theta_minus_phi_and_the_gradient_at_phi_of_what_all_tasks_share(
    optimizer, scope
):
    overrides = [f"inner.optimizer={optimizer}", f"inner.scope.name={scope}"]
    bench = Bench("learner.name=reptile", *overrides)
    phi = reference_phi(bench, ADVANCES[optimizer](), bench.episode.whole_batch)
    shared = bench.gradient(phi, bench.episode.whole_batch(noise_index=STEPS))
    moved = {name: bench.theta[name] - phi[name] for name in bench.scope}
    assert_same(bench.outer().gradient, shared | moved)


@pytest.mark.parametrize("optimizer", ADVANCES)
def test_fomaml_is_the_query_gradient_at_phi(optimizer):
    bench = Bench("learner.name=fomaml", f"inner.optimizer={optimizer}")
    phi = reference_phi(bench, ADVANCES[optimizer](), bench.episode.support_batch)
    assert_same(bench.outer().gradient, bench.gradient(phi, bench.episode.query_batch()))


@pytest.mark.parametrize("mode", ["adjoint", "unrolled"])
@pytest.mark.parametrize("network", ["unet", "dit"])
@pytest.mark.parametrize("optimizer", ADVANCES)
def test_maml_is_the_derivative_through_every_inner_step(optimizer, network, mode):
    overrides = [f"inner.optimizer={optimizer}", f"meta.gradient={mode}"]
    bench = Bench("learner.name=maml", *overrides, network=network)
    assert_same(bench.outer().gradient, bench.reference(ADVANCES[optimizer]()))


@pytest.mark.parametrize("scope", [name for name in SCOPES if name != "all"])
def test_maml_in_every_scope_moves_that_alone_and_learns_the_rest_too(scope):
    bench = Bench("learner.name=maml", f"inner.scope.name={scope}", "inner.optimizer=sgd")
    assert 0 < len(bench.scope) < len(bench.theta)
    assert_same(bench.outer().gradient, bench.reference(sgd))


@pytest.mark.parametrize(
    ("name", "in_head"), [("anil", lambda head: head), ("boil", lambda head: not head)]
)
def test_anil_moves_the_head_and_boil_the_body(name, in_head):
    bench = Bench(f"learner.name={name}", "inner.optimizer=sgd")
    head = ("network.norm_out.", "network.film_out.", "network.out.")
    scope = [n for n in bench.theta if in_head(n.startswith(head))]
    assert_same(bench.outer().gradient, bench.reference(sgd, scope))


def test_cavia_adapts_one_vector_whose_start_is_not_learned():
    bench = Bench("learner.name=cavia", "inner.optimizer=sgd")
    expected = bench.reference(sgd, ["network.context.vector"])
    assert expected["network.context.vector"].abs().max() > 0
    expected["network.context.vector"] = torch.zeros_like(expected["network.context.vector"])
    assert_same(bench.outer().gradient, expected)
    assert not build_theta(bench.config).generator.network.context.vector.any()


def rate_of(theta, name):
    return theta[f"inner_rule.log_rates.{name.replace('.', ':')}"]


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_meta_sgd_learns_a_rate_for_every_weight(optimizer):
    bench = Bench("learner.name=meta-sgd", f"inner.optimizer={optimizer}")
    theta, plain = bench.leaves(), ADVANCES[optimizer]()
    bench.leaves = lambda: theta

    def advance(name, weight, gradient, t):
        step = weight - plain(name, weight, gradient, t)
        return weight - rate_of(theta, name).exp() * step

    assert_same(bench.outer().gradient, bench.reference(advance))


@pytest.mark.parametrize(
    ("step", "weights"),
    [(0, (1 / 3, 1 / 3, 1 / 3)), (150, (1 / 12, 1 / 12, 5 / 6)), (200, (0, 0, 1))],
)
def test_maml_plus_plus_learns_rates_by_layer_and_step_from_annealed_query_losses(step, weights):
    bench = Bench("learner.name=maml++", "learner.first_order=0", "inner.optimizer=sgd")
    theta = bench.leaves()
    bench.leaves = lambda: theta

    def advance(name, weight, gradient, t):
        return weight - ALPHA * rate_of(theta, name)[t].exp() * gradient[name]

    assert_same(bench.outer(step).gradient, bench.reference(advance, query_weights=weights))


def test_maml_plus_plus_begins_without_hessians():
    bench = Bench("learner.name=maml++", "inner.optimizer=sgd", "learner.first_order=10")
    theta = bench.leaves()
    bench.leaves = lambda: theta

    def advance(name, weight, gradient, t):
        return weight - ALPHA * rate_of(theta, name)[t].exp() * gradient[name].detach()

    share = (1 - 9 / 200) + 9 / 200
    equal = (1 - 9 / 200) / 3
    weights = (equal, equal, share - 2 * equal)
    assert_same(bench.outer(9).gradient, bench.reference(advance, query_weights=weights))
    # The next step has them.
    assert not torch.equal(
        bench.outer(9).gradient["network.stem.weight"],
        bench.outer(10).gradient["network.stem.weight"],
    )


def test_alfa_generates_rate_and_decay_of_every_layer_from_its_means():
    bench = Bench("learner.name=alfa", "inner.optimizer=sgd")
    theta, generated = bench.leaves(), {}
    bench.leaves = lambda: theta
    rule = {n.removeprefix("inner_rule."): p for n, p in theta.items() if "inner_rule." in n}
    phi_now = {}

    def advance(name, weight, gradient, t):
        if t not in generated:
            means = [gradient[n].mean() for n in bench.scope]
            means += [(phi_now.get(n, theta[n])).mean() for n in bench.scope]
            hidden = torch.relu(rule["hidden.weight"] @ torch.stack(means) + rule["hidden.bias"])
            generated[t] = rule["out.weight"] @ hidden + rule["out.bias"]
        i = bench.scope.index(name)
        rate, decay = generated[t][i], generated[t][len(bench.scope) + i]
        moved = (1 + decay) * weight - ALPHA * rate.exp() * gradient[name]
        # Only once all of a step are known may the next step's means see them.
        pending[name] = moved
        if len(pending) == len(bench.scope):
            phi_now.update(pending)
            pending.clear()
        return moved

    pending = {}
    assert_same(bench.outer().gradient, bench.reference(advance))


def test_multi_step_weights_sum_to_one_and_end_at_the_last_step():
    learner = Bench("learner.name=maml++").learner
    for step in (0, 1, 99, 199, 200, 10_000):
        assert sum(learner.step_weights(step)) == pytest.approx(1, abs=1e-12)
    assert learner.step_weights(200) == [0.0, 0.0, 1.0]


def test_second_order_gradients_agree_with_finite_differences_of_the_whole_bilevel_objective():
    bench = Bench("learner.name=meta-sgd", "inner.optimizer=sgd")
    ours, noise = bench.outer().gradient, torch.Generator().manual_seed(7)
    direction = {
        n: torch.randn(p.shape, generator=noise, dtype=p.dtype) for n, p in bench.theta.items()
    }

    def objective(e):
        theta = {n: p + e * direction[n] for n, p in bench.theta.items()}
        phi = dict(theta)
        for t in range(STEPS):
            g = bench.gradient(phi, bench.episode.support_batch(t), bench.scope)
            phi |= {n: phi[n] - ALPHA * rate_of(theta, n).exp() * g[n] for n in g}
        return bench.loss(phi, bench.episode.query_batch()).item()

    # Fourth order, so that truncation is far below what is asserted.
    e = 1e-4
    slope = (8 * (objective(e) - objective(-e)) - (objective(2 * e) - objective(-2 * e))) / (12 * e)
    assert sum((ours[n] * direction[n]).sum() for n in ours).item() == pytest.approx(
        slope, rel=1e-7
    )


def test_imaml_has_the_implicit_gradient_of_the_parameters_it_does_not_move():
    """By finite differences of the bilevel objective in a body parameter."""
    lam = 200.0
    bench = Bench(
        "learner.name=imaml",
        f"learner.proximity={lam}",
        "learner.iterations=60",
        "inner.scope.name=head",
        "inner.optimizer=sgd",
        "inner.lr=0.004",
        "inner.steps=60",
    )
    ours = bench.outer().gradient
    noise = torch.Generator().manual_seed(7)
    direction = {
        n: torch.randn(p.shape, generator=noise, dtype=p.dtype) for n, p in bench.theta.items()
    }

    def objective(e):
        theta = {n: p + e * direction[n] for n, p in bench.theta.items()}
        phi = dict(theta)
        for _ in range(60):
            g = bench.gradient(phi, bench.episode.support_batch(), bench.scope)
            phi |= {n: phi[n] - 0.004 * (g[n] + lam * (phi[n] - theta[n])) for n in g}
        return bench.loss(phi, bench.episode.query_batch()).item()

    e = 1e-4
    slope = (8 * (objective(e) - objective(-e)) - (objective(2 * e) - objective(-2 * e))) / (12 * e)
    assert sum((ours[n] * direction[n]).sum() for n in ours).item() == pytest.approx(
        slope, rel=1e-7
    )


def test_mtl_descends_body_and_heads_jointly_and_remembers_the_heads():
    bench = Bench("learner.name=mtl", "learner.head_lr=0.5")
    body = [n for n in bench.theta if n not in bench.scope]
    first = bench.outer()
    g = bench.gradient(bench.theta, bench.episode.whole_batch())
    head = {n: bench.theta[n] - 0.5 * g[n] for n in bench.scope}
    expected = {n: g[n] for n in body} | {n: bench.theta[n] - head[n] for n in bench.scope}
    assert_same(first.gradient, expected)

    bench.remember(first)
    g = bench.gradient(bench.theta | head, bench.episode.whole_batch())
    again = {n: head[n] - 0.5 * g[n] for n in bench.scope}
    expected = {n: g[n] for n in body} | {n: bench.theta[n] - again[n] for n in bench.scope}
    assert_same(bench.outer().gradient, expected)
    # Another task begins at theta's head, not at this one's.
    other = bench.learner.episode_gradient(bench.theta, episode_of(2, "other"), 0)
    g = bench.gradient(bench.theta, episode_of(2).whole_batch())
    assert_same({n: other.gradient[n] for n in body}, {n: g[n] for n in body})


# --- ADMM ---------------------------------------------------------------------------------------


def test_admm_without_duals_is_reptile_as_the_penalty_goes_to_0():
    admm = Bench("inner.optimizer=sgd", "learner.name=admm", "learner.rho=1e-12")
    reptile = Bench("inner.optimizer=sgd", "learner.name=reptile")
    assert_same(admm.outer().gradient, reptile.outer().gradient)


@pytest.mark.parametrize("name", ["admm", "mtl"])
def test_a_task_that_comes_twice_in_a_meta_batch_is_remembered_as_the_mean(name):
    bench, images = Bench(f"learner.name={name}"), (episode_of(1, "same"), episode_of(2, "same"))
    bench.remember(bench.learner.outer_gradient(bench.theta, images, 0))
    singly = []
    for episode in images:
        alone = Bench(f"learner.name={name}")
        alone.remember(alone.learner.outer_gradient(alone.theta, [episode], 0))
        singly.append(alone.memory["same"])
    expected = {n: (singly[0][n] + singly[1][n]) / 2 for n in singly[0]}
    assert_same(bench.memory["same"], expected, 1e-12)


def test_admm_follows_its_three_equations_over_two_outer_steps():
    rho, decay = 0.3, 0.2
    bench = Bench(
        "learner.name=admm", "inner.optimizer=sgd", f"learner.rho={rho}", f"learner.decay={decay}"
    )
    dual = {name: torch.zeros_like(p) for name, p in bench.theta.items()}
    for _ in range(2):
        z = bench.theta
        phi = reference_phi(
            bench,
            sgd,
            bench.episode.whole_batch,
            pull=lambda n, w, z=z, dual=dual: rho * (w - z[n] + dual[n]),
        )
        consensus = {n: rho / (rho + decay) * (phi[n] + dual[n]) for n in z}
        outer = bench.outer()
        gradient = outer.gradient
        assert_same(gradient, {n: z[n] - consensus[n] for n in z})
        # The engine's step, in full.
        bench.theta = {n: z[n] - gradient[n] for n in z}
        bench.remember(outer)
        dual = {n: dual[n] + phi[n] - bench.theta[n] for n in z}
        assert_same(bench.memory["task"], dual)


# --- reductions ---------------------------------------------------------------------------------


def test_one_reptile_step_of_sgd_is_the_joint_gradient_times_the_rate():
    overrides = ["inner.steps=1", "inner.optimizer=sgd"]
    reptile = Bench("learner.name=reptile", *overrides).outer().gradient
    joint = Bench("learner.name=joint", *overrides).outer().gradient
    assert_same(reptile, {name: ALPHA * g for name, g in joint.items()})


def test_maml_goes_to_fomaml_as_the_inner_rate_goes_to_zero():
    def difference(rate):
        overrides = ["inner.optimizer=sgd", f"inner.lr={rate}"]
        maml = Bench("learner.name=maml", *overrides).outer().gradient
        fomaml = Bench("learner.name=fomaml", *overrides).outer().gradient
        return sum((maml[n] - fomaml[n]).square().sum() for n in maml).sqrt().item()

    # The dropped term is of the first order in the rate.
    assert difference(1e-4) / difference(1e-5) == pytest.approx(10, rel=0.01)


# --- what holds for every learner ---------------------------------------------------------------


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
@pytest.mark.parametrize("name", LEARNERS)
def test_one_task_leaves_nothing_behind_for_the_next(name, optimizer):
    bench = Bench(f"learner.name={name}", f"inner.optimizer={optimizer}")
    alone = bench.outer().gradient
    fresh = Bench(f"learner.name={name}", f"inner.optimizer={optimizer}")
    fresh.learner.episode_gradient(fresh.theta, episode_of(2, "other"), 0)
    after_another = fresh.outer().gradient
    assert all(torch.equal(alone[n], after_another[n]) for n in alone)


@pytest.mark.parametrize("name", LEARNERS)
def test_theta_is_left_alone(name):
    bench = Bench(f"learner.name={name}")
    before = {n: p.clone() for n, p in bench.theta.items()}
    bench.learner.outer_gradient(bench.theta, [bench.episode, episode_of(2, "b")], 0)
    assert all(torch.equal(before[n], bench.theta[n]) for n in before)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_meta_batch_is_the_sum_of_its_episodes(name):
    bench, apart = Bench(f"learner.name={name}"), Bench(f"learner.name={name}")
    episodes = [bench.episode, episode_of(2, "b")]
    together = bench.learner.outer_gradient(bench.theta, episodes, 0)
    parts = [apart.learner.episode_gradient(apart.theta, e, 0) for e in episodes]
    summed = {n: parts[0].gradient[n] + parts[1].gradient[n] for n in bench.theta}
    assert_same(together.gradient, summed)
    for key, value in together.metrics.items():
        assert value.item() == pytest.approx(sum(p.metrics[key].item() for p in parts))


STACKABLE = [name for name, kind in LEARNERS.items() if kind.Config.stackable]


@pytest.mark.parametrize("network", ["unet", "dit"])
@pytest.mark.parametrize("name", STACKABLE)
def test_tasks_side_by_side_give_the_gradient_of_one_after_the_other(name, network):
    scope = [] if LEARNERS[name].Config.scope else ["inner.scope.name=film"]
    overrides = [f"learner.name={name}", *scope]
    apart = Bench(*overrides, network=network)
    stacked = Bench(*overrides, "meta.tasks_at_once=2", network=network)
    episodes = [episode_of(seed, f"task {seed}") for seed in range(3)]
    expected = apart.learner.outer_gradient(apart.theta, episodes, 50)
    ours = stacked.learner.outer_gradient(stacked.theta, episodes, 50)
    assert_same(ours.gradient, expected.gradient)
    assert ours.metrics.keys() == expected.metrics.keys()
    for key, value in expected.metrics.items():
        assert ours.metrics[key].item() == pytest.approx(value.item(), rel=1e-9)
    episodes[1].support.target[0, 0, 0, 0] = torch.inf
    assert stacked.learner.outer_gradient(stacked.theta, episodes, 50).failed == ("task 1",)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("rule", ["maml", "meta-sgd", "alfa"])
def test_the_inner_loop_in_place_is_the_one_that_is_differentiated(optimizer, rule):
    bench = Bench(f"learner.name={rule}", f"inner.optimizer={optimizer}")
    inner = bench.learner.inner
    *_, last = inner.trace(bench.leaves(), bench.episode.support_batch, ALPHA)
    losses = inner.adapt(bench.theta, bench.episode.support_batch, ALPHA)
    phi = {name: p for name, p in inner.phi().items() if name in last.phi}
    assert_same(phi, {n: p.detach() for n, p in last.phi.items()}, 1e-12)
    assert losses[-1].item() == pytest.approx(last.loss.item(), rel=1e-12)


def test_adam_takes_no_step_and_has_no_slope_where_there_never_was_a_gradient():
    """The output layer starts at 0, and nothing before it has a gradient."""
    config = load_config(None, [*SMALL, "learner.name=maml", "inner.optimizer=adam"])
    learner = build_learner(config, build_theta(config))
    theta = {n: p.detach() for n, p in build_theta(config).named().items()}
    episode = Episode(
        "task", *(p.to(torch.float32) for p in (episode_of(1).support, episode_of(1).query)), 1
    )
    gradient = learner.episode_gradient(theta, episode, 0).gradient
    assert all(g.isfinite().all() for g in gradient.values())
    assert max(g.abs().max() for g in gradient.values()) < 100


def test_learned_rates_hold_after_meta_training_whatever_adapt_lr_says():
    learned, fixed = (
        Bench(f"learner.name={name}", "inner.lr=0.02", "adapt.lr=0.001")
        for name in ("meta-sgd", "maml")
    )
    assert adaptation_lr(learned.config, learned.place) == 0.02
    assert adaptation_lr(fixed.config, fixed.place) == 0.001


@pytest.mark.parametrize("name", ["meta-sgd", "maml++", "alfa"])
def test_learned_rates_are_logged_and_stay_above_zero(name):
    bench = Bench(f"learner.name={name}")
    logs = [n for n in bench.theta if "log_rates" in n]
    for log in logs or ["inner_rule.out.bias"]:
        bench.theta[log][: None if logs else len(bench.scope)] -= 5.0
    metrics = bench.outer().metrics
    assert 0 < metrics["rate_min"] <= metrics["rate_mean"] <= metrics["rate_max"] < ALPHA


@pytest.mark.parametrize("name", LEARNERS)
def test_the_task_whose_loss_is_not_finite_is_named(name):
    bench = Bench(f"learner.name={name}")
    broken = episode_of(2, "broken")
    broken.support.target[0, 0, 0, 0] = torch.inf
    outer = bench.learner.outer_gradient(bench.theta, [bench.episode, broken], 0)
    assert outer.failed == ("broken",)


def test_batchnorm_is_refused_with_what_to_use():
    generator = Bench().generator
    generator.network.norm = nn.BatchNorm2d(4)
    with pytest.raises(UserError, match=r"network\.norm .* is a BatchNorm.*use .*group_norm"):
        Theta(generator, InnerRule())


def test_the_page_of_learners_is_what_their_docstrings_say():
    docs = Path(__file__).parents[2] / "docs" / "learners.md"
    assert docs.read_text() == page(), "python -m metatrain.learning.catalogue > docs/learners.md"
