"""Refinement: losses against a reference that is written out, the replay buffer, and its tasks."""

import math
from dataclasses import replace

import pytest
import torch
from domains import SMALL, configuration
from gradients import assert_same
from hypothesis import given, settings
from hypothesis import strategies as st
from local_training import train
from torch import nn

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.data.loader import open_tasks
from metatrain.data.simulated import REPLAYED, SIMULATED
from metatrain.data.slots import in_order_of_slots, slots_of
from metatrain.generators import Generator
from metatrain.generators.codecs.codec import Identity, IdentityConfig
from metatrain.generators.networks.refiner import Refiner, RefinerConfig, RefiningNetwork
from metatrain.generators.objectives.refine import Refine, RefineConfig, RefineDraw
from metatrain.learning.inner.gradient_field import GradientField
from metatrain.learning.inner.rule import InnerRule
from metatrain.learning.inner.theta import Theta
from metatrain.model.build import build_learner, build_theta
from metatrain.training.checkpoint import CheckpointStore, draft_of, state_of
from metatrain.training.observer import Observer
from metatrain.training.replay import Replay

A, W, V = "network.generator.A", "network.discriminator.W", "network.discriminator.v"
SIDE, PIXELS, HIDDEN = 3, 9, 5


class Small(RefiningNetwork):
    """R(x) = x + A x, and a D of two places: v_p . tanh(W x)."""

    Config = Section
    reach = SIDE

    def __init__(self):
        super().__init__(Section(), (1, SIDE, SIDE))
        noise = torch.Generator().manual_seed(1)

        def weight(*shape):
            value = torch.randn(shape, generator=noise, dtype=torch.float64)
            return nn.Parameter(value / shape[-1] ** 0.5)

        self.generator, self.discriminator = nn.Module(), nn.Module()
        self.generator.A = weight(PIXELS, PIXELS)
        self.discriminator.W, self.discriminator.v = weight(HIDDEN, PIXELS), weight(2, HIDDEN)

    def refine(self, images):
        return images + (images.flatten(1) @ self.generator.A.T).view_as(images)

    def judge(self, images):
        return (images.flatten(1) @ self.discriminator.W.T).tanh() @ self.discriminator.v.T


def theta_of(**settings):
    objective = Refine(RefineConfig(**settings), (1, SIDE, SIDE))
    return Theta(Generator(Small(), objective, Identity(IdentityConfig())), InnerRule())


def episode(variants=3, replayed=True):
    noise = torch.Generator().manual_seed(3)

    def images(*shape):
        return 2 * torch.rand(*shape, 1, SIDE, SIDE, generator=noise, dtype=torch.float64) - 1

    conditions = {SIMULATED: images(7, variants)}
    conditions |= {REPLAYED: images(7, variants)} if replayed else {}
    return Episode("task", *Examples(images(7), conditions).split(4), 5)


def reference(w, draw, features, weight, penalty):
    """Return SimGAN's losses of the refiner and of the discriminator, example by example."""

    def probability(x):  # of having been refined, by place
        return 1 / (1 + ((x.flatten() @ w[W].T).tanh() @ w[V].T).exp())

    def refined(x):
        return x + (w[A] @ x.flatten()).view_as(x)

    def kept(x):
        if features == "pixels":
            return x
        across, down = x[:, :-1, 1:] - x[:, :-1, :-1], x[:, 1:, :-1] - x[:, :-1, :-1]
        return torch.stack([across, down])

    of_r, of_d = [], []
    for real, simulated, old, is_old in zip(*draw, strict=True):
        result = refined(simulated)
        change = (kept(result) - kept(simulated)).abs().mean()
        of_r.append(-(1 - probability(result)).log().mean() + weight * change)
        seen = old if is_old else result
        slope = ((1 - (real.flatten() @ w[W].T).tanh() ** 2) * w[V].mean(dim=0)) @ w[W]
        of_d.append(
            -probability(seen).log().mean()
            - (1 - probability(real)).log().mean()
            + penalty / 2 * (slope**2).sum()
        )
    return torch.stack(of_r).mean(), torch.stack(of_d).mean()


@pytest.mark.parametrize("replayed", [False, True])
@pytest.mark.parametrize(("features", "penalty"), [("pixels", 0.0), ("edges", 0.7)])
def test_losses_and_gradients_are_those_written_out(features, penalty, replayed):
    theta = theta_of(features=features, weight=0.3, penalty=penalty)
    weights = theta.copy()
    draw = theta.generator.prepare(episode(replayed=replayed).whole_batch())
    assert int(RefineDraw(*draw).is_replayed.sum()) == (3 if replayed else 0)
    leaves = {name: p.clone().requires_grad_() for name, p in weights.items()}
    for term, expected in enumerate(reference(leaves, draw, features, 0.3, penalty)):
        names = theta.terms[term]
        value, gradient = GradientField(theta).gradient_of(term, weights, tuple(names), draw)
        torch.testing.assert_close(value, expected.detach(), rtol=0, atol=1e-12)
        slopes = torch.autograd.grad(expected, [leaves[n] for n in names], retain_graph=True)
        assert_same(gradient, dict(zip(names, slopes, strict=True)))


def test_updates_take_other_images_and_the_same_every_time():
    theta = theta_of()
    first, second, again = (
        RefineDraw(*theta.generator.prepare(episode().support_batch(number)))
        for number in (0, 1, 0)
    )
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert torch.equal(first.real, second.real)
    assert not torch.equal(first.simulated, second.simulated)
    assert not torch.equal(first.replayed, second.replayed)
    beside = episode().support.given
    for name, chosen in ((SIMULATED, first.simulated), (REPLAYED, first.replayed)):
        same = (beside[name] == chosen[:, None]).flatten(2).all(dim=2)
        assert (same.sum(dim=1) == 1).all()


def test_a_new_refiner_changes_nothing_and_sees_as_far_as_it_says():
    torch.manual_seed(0)
    network = Refiner(RefinerConfig(width=4, blocks=2), (1, 32, 32))
    images = torch.rand(1, 1, 32, 32)
    assert torch.equal(network.refine(images), images)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.5)
    images.requires_grad_()
    for function, reach in ((network.refine, network.reach), (network.judge, 7)):
        result = function(images)
        middle = result[0, 0, 16, 16] if result.ndim == 4 else result.view(8, 8)[4, 4]
        [slope] = torch.autograd.grad(middle, images)
        rows = slope[0, 0].abs().sum(dim=1).nonzero().flatten()
        assert (int(rows.min()), int(rows.max())) == (16 - reach, 16 + reach)


@pytest.mark.parametrize("learner", ["maml", "anil"])
def test_second_order_with_a_penalty_is_refused(learner):
    config = load_config(None, [*SMALL, f"learner.name={learner}", "objective.penalty=1"])
    with pytest.raises(UserError, match=r"objective\.penalty=0"):
        build_learner(config, build_theta(config))


def buffer_of(config, steps, world):
    """Return the buffer after some steps in which slot s adds s's images, for so many workers."""
    replays = [Replay(config, {}) for _ in range(world)]
    seen = []
    for step in range(steps):
        by_worker, seen_by_worker = [], []
        for rank, replay in enumerate(replays):
            slots = slots_of(rank, world, config.meta.batch)
            episodes = [episode(replayed=False) for _ in slots]
            seen_by_worker.append(replay.added_to(episodes, step, slots))
            by_worker.append([torch.full((2, 1, 3, 3), 10.0 * step + slot) for slot in slots])
        seen += [e.query.given.get(REPLAYED) for e in in_order_of_slots(seen_by_worker)]
        for replay in replays:
            replay.add(in_order_of_slots(by_worker), step)
    states = [replay.state["images"] for replay in replays]
    assert all(torch.equal(state, states[0]) for state in states)
    return states[0], seen


@settings(max_examples=25)
@given(world=st.integers(2, 4), steps=st.integers(1, 5), capacity=st.integers(1, 20))
def test_the_buffer_and_what_is_seen_of_it_are_the_same_at_any_world_size(world, steps, capacity):
    config = load_config(None, [*SMALL, f"objective.replay={capacity}", "meta.batch=5"])
    one, seen_by_one = buffer_of(config, steps, 1)
    many, seen_by_many = buffer_of(config, steps, world)
    assert torch.equal(one, many)
    assert len(one) == min(capacity, 10 * steps)
    for a, b in zip(seen_by_one, seen_by_many, strict=True):
        assert (a is None and b is None) or torch.equal(a, b)
    assert all(images is None for images in seen_by_one[:5])
    # The newest are there, as far as there is room for them.
    newest = [10.0 * (steps - 1) + slot for slot in range(5) for _ in range(2)]
    assert one[-min(10, capacity) :, 0, 0, 0].tolist() == newest[-min(10, capacity) :]


def test_an_episode_is_real_images_of_one_domain_with_simulated_ones_beside_each(domains):
    source = open_tasks(configuration(domains).data)
    samplers = [source.sampler(s, seed=0, meta_batch=3) for s in ("train", "val", "test")]
    names = [[s.plan(*divmod(i, 3)).real.task.name for i in range(s.epoch)] for s in samplers]
    assert sorted(name for split in names for name in split) == [f"d{i}" for i in range(6)]
    plan = samplers[0].plan(3, 2)
    episode, again = source.read(plan), source.read(samplers[0].plan(3, 2))
    for part, same in ((episode.support, again.support), (episode.query, again.query)):
        assert part.given[SIMULATED].shape == (2, 2, 1, 8, 8)
        assert torch.equal(part.given[SIMULATED], same.given[SIMULATED])
        # Simulated images are black and white, and real ones neither.
        assert set(part.given[SIMULATED].unique().tolist()) == {-1.0, 1.0}
        assert part.target.abs().max() < 1
    assert len(set(plan.simulated)) == 8
    assert source.bytes_of(plan) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (("data.tasks.simulated=fonts",), "no task 'fonts' of simulated images"),
        (("data.channels=4",), "data.channels is 4"),
        (
            ("generator.name=resnet_gan", "data.image_size=16"),
            "needs a generator that refines",
        ),
        (("codec={name: trained, path: nowhere}",), "refines pixels"),
        (
            ("cluster.inner_loop=sharded", "cluster.zero_stage=3"),
            "replay buffer of objective refine",
        ),
    ],
    ids=["simulated", "channels", "generator", "codec", "shards"],
)
def test_what_cannot_be_refined_is_refused(domains, changes, message):
    with pytest.raises(UserError, match=message):
        config = configuration(domains, *changes)
        open_tasks(config.data)
        build_theta(config)


@pytest.mark.parametrize("learner", ["joint", "reptile", "fomaml", "maml", "admm"])
def test_every_learner_of_games_refines(domains, learner):
    config = configuration(domains, f"learner.name={learner}", "meta.steps=2")
    state = train(config)
    start = build_theta(config).copy()
    moved = {n.split(".")[1] for n, p in state.parameters.items() if (p != start[n]).any()}
    assert moved == {"generator", "discriminator"}
    assert all(math.isfinite(value) for record in state.history for value in record.values())


def test_a_run_resumes_from_a_checkpoint_with_its_buffer_as_if_uninterrupted(domains, tmp_path):
    config = configuration(domains, f"run.dir={tmp_path}", "checkpoint.every=3", "meta.steps=5")
    store = CheckpointStore(config.run.url)

    class Keep(Observer):
        def on_checkpoint(self, state):
            store.save(draft_of(state, config))

    whole = train(config, [Keep()])
    middle = state_of(store.open(3))
    assert middle.replay["images"].shape == (8, 1, 8, 8)
    rest = train(config, [], middle)
    assert torch.equal(rest.replay["images"], whole.replay["images"])
    assert all(torch.equal(rest.parameters[n], p) for n, p in whole.parameters.items())
    # The buffer matters: without it the discriminator learns something else.
    other = train(config, [], replace(state_of(store.open(3)), replay={}))
    assert any(not torch.equal(other.parameters[n], p) for n, p in whole.parameters.items())
