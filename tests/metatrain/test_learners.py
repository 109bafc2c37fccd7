"""Every learner against the formula of its paper, written out plainly, in float64."""

import pytest
import torch
from torch.func import functional_call, grad

from metatrain.build import build_generator
from metatrain.config import load_config
from metatrain.episodes import Episode
from metatrain.inner.loop import InnerLoop
from metatrain.learners import LEARNERS

SMALL = ["data.image_size=8", "generator.width=8", "inner.steps=3", "inner.lr=0.01"]


class Bench:
    """A small generator in float64, an episode, and the loss as a function of the weights."""

    def __init__(self, *overrides):
        config = load_config(None, [*SMALL, *overrides])
        self.generator = build_generator(config).double()
        self.loop = InnerLoop(self.generator, config.inner)
        self.inner, self.learner = config.inner, LEARNERS[config.learner.name](self.loop)
        noise = torch.Generator().manual_seed(0)
        self.theta = {
            # The generator's last layers start at zero; move everything to a general place.
            name: p.detach() + 0.05 * torch.randn(p.shape, generator=noise, dtype=p.dtype)
            for name, p in self.generator.named_parameters()
        }
        self.episode = self.episode_of(1)

    @staticmethod
    def episode_of(seed):
        noise = torch.Generator().manual_seed(seed)
        images = torch.rand(5, 1, 8, 8, generator=noise, dtype=torch.float64) * 2 - 1
        return Episode("task", images[:3], images[3:], seed)

    def gradient(self, weights, batch):
        return grad(lambda w: functional_call(self.generator, w, (batch,)))(weights)

    def reference_phi(self, batch_at, scope=None):
        """k steps of SGD or Adam (Kingma and Ba 2015, algorithm 1), nothing shared with ours."""
        phi = {name: p.clone() for name, p in self.theta.items()}
        m = {name: torch.zeros_like(p) for name, p in phi.items()}
        v = {name: torch.zeros_like(p) for name, p in phi.items()}
        for t in range(1, self.inner.steps + 1):
            g = self.gradient(phi, batch_at(t - 1))
            for name in scope or phi:
                if self.inner.optimizer == "sgd":
                    phi[name] = phi[name] - self.inner.lr * g[name]
                    continue
                m[name] = 0.9 * m[name] + 0.1 * g[name]
                v[name] = 0.999 * v[name] + 0.001 * g[name] ** 2
                step = (m[name] / (1 - 0.9**t)) / ((v[name] / (1 - 0.999**t)).sqrt() + 1e-8)
                phi[name] = phi[name] - self.inner.lr * step
        return phi

    def film(self):
        return [name for name in self.theta if "film" in name]


def assert_same(ours, reference, tolerance=1e-8):
    assert ours.keys() == reference.keys()
    difference = sum((ours[n] - reference[n]).square().sum() for n in ours).sqrt()
    assert difference <= tolerance * sum(r.square().sum() for r in reference.values()).sqrt()


def test_joint_is_the_plain_gradient_on_support_and_query():
    bench = Bench("learner.name=joint")
    ours = bench.learner.episode_gradient(bench.theta, bench.episode).gradient
    assert_same(ours, bench.gradient(bench.theta, bench.episode.whole_batch()))


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_reptile_is_theta_minus_phi(optimizer):
    bench = Bench("learner.name=reptile", f"inner.optimizer={optimizer}")
    ours = bench.learner.episode_gradient(bench.theta, bench.episode).gradient
    phi = bench.reference_phi(bench.episode.whole_batch)
    assert_same(ours, {name: bench.theta[name] - phi[name] for name in phi})


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_fomaml_is_the_query_gradient_at_phi(optimizer):
    bench = Bench("learner.name=fomaml", f"inner.optimizer={optimizer}")
    ours = bench.learner.episode_gradient(bench.theta, bench.episode).gradient
    phi = bench.reference_phi(bench.episode.support_batch)
    assert_same(ours, bench.gradient(phi, bench.episode.query_batch()))


def test_fomaml_in_scope_film_moves_only_film_in_the_inner_loop():
    bench = Bench("learner.name=fomaml", "inner.scope=film")
    ours = bench.learner.episode_gradient(bench.theta, bench.episode).gradient
    phi = bench.reference_phi(bench.episode.support_batch, scope=bench.film())
    assert_same(ours, bench.gradient(phi, bench.episode.query_batch()))


def test_reptile_in_scope_film_gives_the_shared_parameters_the_gradient_at_phi():
    bench = Bench("learner.name=reptile", "inner.scope=film")
    ours = bench.learner.episode_gradient(bench.theta, bench.episode).gradient
    phi = bench.reference_phi(bench.episode.whole_batch, scope=bench.film())
    shared = bench.gradient(phi, bench.episode.whole_batch(draw=bench.inner.steps))
    expected = {n: bench.theta[n] - phi[n] if n in bench.film() else shared[n] for n in phi}
    assert_same(ours, expected)


@pytest.mark.parametrize("name", LEARNERS)
def test_one_task_leaves_nothing_behind_for_the_next(name):
    bench = Bench(f"learner.name={name}", "inner.optimizer=adam")
    alone = bench.learner.episode_gradient(bench.theta, bench.episode).gradient
    fresh = Bench(f"learner.name={name}", "inner.optimizer=adam")
    fresh.learner.episode_gradient(fresh.theta, fresh.episode_of(2))
    after_another = fresh.learner.episode_gradient(fresh.theta, fresh.episode).gradient
    assert all(torch.equal(alone[n], after_another[n]) for n in alone)


@pytest.mark.parametrize("name", LEARNERS)
def test_theta_is_left_alone(name):
    bench = Bench(f"learner.name={name}")
    before = {n: p.clone() for n, p in bench.theta.items()}
    bench.learner.episode_gradient(bench.theta, bench.episode)
    assert all(torch.equal(before[n], bench.theta[n]) for n in before)
