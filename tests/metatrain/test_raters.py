"""Raters as tasks: pure functions, an objective that is the paper's, and a start for choices."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rated_choices import rate
from sampling_models import adapted_model
from small_models import metatrain, save

import metatrain as library
from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.loader import open_tasks
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.rated import GREY_TRAITS, LOSER, NAMED_TRAITS, SHOTS
from metatrain.data.tasks.random_streams import random_stream, stream_key
from metatrain.data.tasks.raters import better_of, rater_of
from metatrain.learning.inner.low_rank import low_rank_terms
from metatrain.learning.inner.registry import SCOPES
from metatrain.learning.inner.theta import RULE
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import build_generator, build_learner, build_theta
from metatrain.preferences.direct import PairErrors, Training, direct_preference
from metatrain.preferences.pairs import Pairs
from metatrain.preferences.prefer import in_scope, refuse_unteachable
from metatrain.preferences.starts import Settings, learned_start
from metatrain.preferences.traits import TRAIT_COUNT, traits_of
from metatrain.training.initial_weights import initial_weights

UNET8 = ("generator.name=unet", "generator.width=8")
UNET16 = ("generator.name=unet", "generator.width=16")
SPLITS = st.sampled_from(["train", "val", "test"])


def rater(seed, split, number, channels=3, named=0.25):
    options = {"traits": TRAIT_COUNT, "channels": channels, "named": named}
    return rater_of(stream_key(seed, split), number, **options)


@given(st.integers(0, 2**63 - 1), SPLITS, st.integers(0, 10**6))
def test_a_rater_is_a_pure_function_of_seed_split_and_number(seed, split, number):
    one = rater(seed, split, number)
    assert one == rater(seed, split, number)
    assert np.linalg.norm(one.weights) == pytest.approx(1)
    others = [(seed + 1, split, number), (seed, split, number + 1)]
    others += [(seed, other, number) for other in ("train", "val", "test") if other != split]
    assert all(
        rater(*key, named=0.0).weights != rater(seed, split, number, named=0.0).weights
        for key in others
    )


@given(st.integers(0, 2**32), st.sampled_from([1, 3]))
def test_a_named_taste_is_for_or_against_one_trait_that_drawings_have(seed, channels):
    named = rater(seed, "train", 0, channels, named=1.0)
    [trait] = np.flatnonzero(named.weights)
    assert trait < (GREY_TRAITS if channels == 1 else len(NAMED_TRAITS))
    assert named.name.endswith(NAMED_TRAITS[trait])
    assert ("not " in named.name) == (named.weights[trait] < 0)
    linear = rater(seed, "train", 0, channels, named=0.0)
    assert not np.flatnonzero(linear.weights[: len(NAMED_TRAITS)]).size


def test_choices_follow_bradley_and_terry():
    stream = random_stream(0, 9)
    close = better_of(np.tile([1.0, 0.0], (4000, 1)), 2.0, stream)  # half a deviation apart
    assert (close == 0).mean() == pytest.approx(1 / (1 + np.exp(-1)), abs=0.02)
    far = np.array([[100.0, 0.0], [0.0, 100.0]])
    assert better_of(far, 1.0, stream).tolist() == [0, 1]
    assert set(better_of(np.zeros((50, 2)), 0.0, stream)) == {0, 1}  # indifferent, by chance


def test_traits_are_what_they_are_named():
    images = torch.ones(5, 3, 8, 8)  # white
    images[1, :, :, :4] = -1  # ink on the left
    images[2, :, :, 2:6] = -1  # as much, symmetric
    images[3, 1:] = -1  # red
    images[4] = -1
    traits = {n: traits_of(images)[:, i].tolist() for i, n in enumerate(NAMED_TRAITS)}
    assert traits["thick"][0] < traits["thick"][1] == traits["thick"][2] < traits["thick"][4]
    assert traits["symmetric"][1] < traits["symmetric"][2] == traits["symmetric"][0]
    assert traits["red"] == pytest.approx([0, 0, 0, 2, 0])
    assert traits["green"] == pytest.approx([0, 0, 0, -1, 0])
    grey = traits_of(images[:, :1])
    assert torch.allclose(grey[:3], traits_of(images)[:3], atol=1e-5)


@pytest.fixture(scope="module")
def base(packed, tmp_path_factory):
    return save(packed, tmp_path_factory.mktemp("base"), "data.shots=3")


@pytest.fixture(scope="module")
def drawn(base, tmp_path_factory):
    out = tmp_path_factory.mktemp("drawn") / "drawings"
    options = ["--tasks", 3, "--drawings", 20, "--device", "cpu"]
    assert metatrain("drawings", base, "--out", out, *options) == 0
    return out


def configuration(drawn, base, *overrides):
    small = ["data.image_size=16", "generator.width=8", "objective.sampler.steps=2"]
    raters = ["data.tasks.name=preferences", "objective.name=preference", "inner.scope.name=lora"]
    sizes = ["data.shots=4", "data.queries=4", "inner.steps=2", "meta.steps=2", "meta.batch=2"]
    places = [f"data.path={drawn}", f"run.init={base}", "cluster.workers=1"]
    return load_config(None, [*small, *raters, *sizes, *places, *overrides])


@pytest.fixture(scope="module")
def config(drawn, base):
    return configuration(drawn, base)


@pytest.fixture(scope="module")
def episode(config):
    source = open_tasks(config.data)
    return source.read(source.sampler("train", seed=0, meta_batch=2).plan(1, 1))


def test_an_episode_is_a_raters_choices_between_drawings(config, drawn, packed, episode):
    source = open_tasks(config.data)
    sampler = source.sampler("train", seed=0, meta_batch=2)
    again = source.read(sampler.plan(1, 1))
    parts = [(episode.support, again.support), (episode.query, again.query)]
    for one, other in parts:
        assert torch.equal(one.target, other.target)
        assert all(torch.equal(one.given[n], other.given[n]) for n in (LOSER, SHOTS))
    images = torch.cat([torch.cat([e.target, e.given[LOSER]]) for e, _ in parts])
    assert len(torch.unique(images.flatten(1), dim=0)) == len(images)  # no drawing comes twice
    # The shots are real images of the task that is drawn.
    plan = sampler.plan(1, 1)
    real = EpisodeStore(str(packed)).images_of(
        [t for t in EpisodeStore(str(packed)).tasks("train") if t.name == plan.scene.name], 16, 1
    )
    shots, known = episode.support.given[SHOTS][0], next(iter(real)).flatten(1).tolist()
    assert len(shots) == 3
    assert all(shot in known for shot in shots.flatten(1).tolist())
    # The rater's taste, by traits of the images themselves, is what chooses.
    utility = [plan.rater.utilities(traits_of(i).numpy()) for i in images.split(4)]
    leads = np.concatenate([utility[0] - utility[1], utility[2] - utility[3]])
    assert leads.mean() > 0
    raters = {sampler.plan(step, slot).rater for step in range(3) for slot in range(2)}
    test = source.sampler("test", seed=0, meta_batch=2)
    assert len(raters) == 6 and not raters & {test.plan(step, 0).rater for step in range(3)}
    assert test.plan(0, 0).scene.name not in {s.name for s in sampler.scenes}


def test_data_without_enough_drawings_is_refused(config, packed):
    with pytest.raises(UserError, match="has no drawings with traits"):
        open_tasks(config.data.model_copy(update={"path": str(packed)}))
    source = open_tasks(config.data.model_copy(update={"queries": 9}))
    with pytest.raises(UserError, match=r"13 choices needs 26 drawings, and .* has 20 drawings"):
        source.sampler("train", seed=0, meta_batch=2)


def learned(config):
    """Theta with adapters that do something."""
    stream = torch.Generator().manual_seed(3)
    weights = initial_weights(config)
    return {
        n: p + 0.05 * torch.randn(p.shape, generator=stream) if ".lora." in n else p
        for n, p in weights.items()
    }


def test_the_objective_is_the_papers_in_float64(config, base, episode):
    """Eq. 14 by plain networks: with the terms merged into weights, and without them."""
    theta = build_theta(config).load(learned(config)).double()
    support = episode.support
    doubled = replace(episode.support_batch(7), examples=support.to(torch.float64))
    draw = tuple(
        t.double() if t.is_floating_point() else t for t in theta.generator.prepare(doubled)
    )
    winners, losers, x0, t, shots, visible = draw
    assert torch.equal(winners.float(), support.target) and visible.all() and len(shots) == 3
    plain = build_generator(load_config(None, ["data.image_size=16", "generator.width=8"]))
    network = plain.double().network
    without = {n: p for n, p in theta.generator.network.named_parameters() if ".lora." not in n}
    terms = low_rank_terms(theta.generator.network)
    merged = {
        n: p + terms[layer].weight() if (layer := n.removesuffix(".weight")) in terms else p
        for n, p in without.items()
    }

    def errors(weights, images):
        network.load_state_dict(weights)
        at = t[:, None, None, None]
        with torch.no_grad():
            velocity = network.velocity(
                (1 - at) * x0 + at * images, t, network.encode(shots), visible
            )
        return (velocity - (images - x0)).square().mean(dim=(1, 2, 3)).numpy()

    now, ref = ([errors(w, i) for i in (winners, losers)] for w in (merged, without))
    inside = -0.5 * 2000.0 * ((now[0] - ref[0]) - (now[1] - ref[1]))
    expected = np.mean(np.logaddexp(0, -inside))
    loss = theta.generator(*draw)
    assert abs(inside).min() > 0
    assert loss.item() == pytest.approx(expected, rel=1e-9)
    # Its gradient, by differences; nothing beside the adapters has one.
    named = theta.named()
    slopes = torch.autograd.grad(loss, list(named.values()), materialize_grads=True)
    gradient = dict(zip(named, slopes, strict=True))
    assert all(bool(g.any()) == (".lora." in n) for n, g in gradient.items())
    name = next(n for n in named if n.endswith("lora.down"))
    towards, values = torch.randn_like(gradient[name]), []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            named[name] += step * towards
            values.append(theta.generator(*draw).item())
    slope = (values[0] - values[1]) / 2e-6
    assert (gradient[name] * towards).sum().item() == pytest.approx(slope, rel=1e-4)


ANY_SCOPE = sorted(name for name, learner in LEARNERS.items() if learner.Config.scope is None)


@pytest.mark.long
@pytest.mark.parametrize("name", ANY_SCOPE)
def test_every_learner_moves_the_adapter_alone(drawn, base, episode, name):
    config = configuration(drawn, base, f"learner.name={name}")
    theta = learned(config)
    learner = build_learner(config, build_theta(config))
    outer = learner.episode_gradient(theta, episode, 0)
    assert outer.is_finite()
    moved = {n for n, g in outer.gradient.items() if g.any()}
    assert moved
    assert all(".lora." in n or n.startswith("inner_rule.") for n in moved)


@pytest.fixture(scope="module")
def start(drawn, base, tmp_path_factory):
    """A model that was meta-trained on raters."""
    folder = tmp_path_factory.mktemp("runs")
    run = configuration(drawn, base, f"run.dir={folder}", "learner.name=fomaml", "meta.lr=0.01")
    return library.train(run, device="cpu")


def test_the_committed_configuration_trains_a_start(drawn, base, tmp_path):
    places = [f"data.path={drawn}", f"run.init={base}", f"run.dir={tmp_path}"]
    small = ["data.image_size=16", "generator.width=8", "meta.steps=1", "meta.batch=1"]
    few = ["data.shots=4", "data.queries=4"]
    start = library.train(load_config("configs/raters.yaml", [*places, *small, *few]), device="cpu")
    moved = {n for n, p in start.parameters.items() if n.endswith(".lora.up") and p.any()}
    assert moved and all("film" in name for name in moved)
    # The whole of it is the model of its commands.
    whole, demo = (load_config(f"configs/{name}.yaml") for name in ("raters", "demo"))
    assert whole.generator == demo.generator
    assert (whole.data.image_size, whole.data.channels) == (
        demo.data.image_size,
        demo.data.channels,
    )


def test_meta_training_learns_a_start_and_nothing_else(start, base):
    before = library.load(base).parameters
    assert all(torch.equal(start.parameters[n], p) for n, p in before.items())
    ups = [p for n, p in start.parameters.items() if n.endswith(".lora.up")]
    assert all(p.any() for p in ups)


def test_a_start_is_where_preferring_starts(start, base, images):
    model = library.load(base).adapt(f"{images}/task-03")
    scoped, names = in_scope(model, refuse_unteachable(model, None, start), start)
    assert names == SCOPES["lora"].names(start.generator())
    # The reference is the adapted model, and trainings start at the learned adapter.
    assert torch.equal(scoped.sample(2), model.sample(2))
    drawn = model.sample(8, seed=1)
    errors = PairErrors(scoped, names, Pairs(drawn[:4], drawn[4:]))
    begun = learned_start(start, errors.reference, Settings())
    training = Training(errors, torch.arange(4), direct_preference(2000.0), Settings(), begun)
    assert all(torch.equal(w, start.parameters[n]) for n, w in training.weights.items())
    training.step()
    lr = start.config.inner.lr  # of the inner loop, by whose Adam a first step moves by the rate
    moves = [(w - start.parameters[n]).abs().max() for n, w in training.weights.items()]
    assert float(max(moves)) == pytest.approx(lr, rel=0.01)


def test_rates_that_a_learner_learned_are_those_of_the_steps(drawn, base, images):
    config = configuration(drawn, base, "learner.name=meta-sgd")
    weights = learned(config)
    slow = {n: p - 100 if "up" in n else p for n, p in weights.items() if n.startswith(RULE)}
    start = library.Model(config, weights | slow, 1)
    model = library.load(base).adapt(f"{images}/task-03")
    scoped, names = in_scope(model, "lora", start)
    drawings = model.sample(8, seed=1)
    errors = PairErrors(scoped, names, Pairs(drawings[:4], drawings[4:]))
    begun = learned_start(start, errors.reference, Settings())
    training = Training(errors, torch.arange(4), direct_preference(2000.0), Settings(), begun)
    training.step()
    moved = {n for n, w in training.weights.items() if not torch.equal(w, weights[n])}
    assert moved
    assert not [name for name in moved if name.endswith(".up")]
    with pytest.raises(UserError, match="the start learned its inner rates; leave lr out"):
        learned_start(start, errors.reference, Settings(lr=0.1))


def test_the_command_starts_there_and_judges_by_held_out_choices(
    start, base, images, tmp_path, capsys
):
    start.save(tmp_path / "start.safetensors")
    assert metatrain("adapt", base, f"{images}/task-03", "--out", tmp_path / "adapted") == 0
    model = library.load(tmp_path / "adapted" / "adapted.safetensors")
    choices, out = rate(model, tmp_path / "choices", 10), tmp_path / "preferred"
    command = ["prefer", tmp_path / "adapted", choices, "--out", out, "--steps", 1]
    code = metatrain(*command, "--start", tmp_path / "start.safetensors", "--device", "cpu")
    shown = capsys.readouterr().err
    assert "Held-out choices that direct preference foresaw" in shown
    # Chance decides whether one step of an accidental start foresees anything; both ends are told.
    assert code == (0 if "Took 1 step on 10 pairs" in shown else 1), shown
    if code == 0:
        preferred = library.load(out / "adapted.safetensors")
        off = {n: p for n, p in preferred.parameters.items() if not n.endswith(".lora.up")}
        zeros = {n: torch.zeros_like(p) for n, p in preferred.parameters.items() if n not in off}
        without = replace(preferred, parameters={**off, **zeros})
        assert torch.equal(without.sample(2), model.sample(2))


def test_a_start_that_does_not_fit_is_refused(start, base, images):
    model = library.load(base).adapt(f"{images}/task-03")
    with pytest.raises(UserError, match=r"start was trained on objective\.name=flow"):
        refuse_unteachable(model, None, library.load(base))
    with pytest.raises(UserError, match="scope is film, and a start has the scope lora"):
        refuse_unteachable(model, "film", start)
    with pytest.raises(UserError, match="adapted by low-rank terms"):
        refuse_unteachable(adapted_model("inner.scope.name=lora"), None, start)
    with pytest.raises(UserError, match="needs the condition 'loser' of every example"):
        start.adapt(f"{images}/task-03")


@pytest.mark.parametrize(
    ("overrides", "fault"),
    [
        (UNET16, r"has the shape \[.*\] there, and the shape \["),
        (("generator.name=dit", "generator.width=16", "generator.patch=4"), "no place here"),
        ((*UNET8, "generator.multipliers=[1,2,2]"), "has no place there"),
    ],
    ids=["wider", "other", "deeper"],
)
def test_a_start_of_another_network_is_refused(start, overrides, fault):
    scoped, names = in_scope(adapted_model(*overrides), "lora", start)
    reference = {name: scoped.parameters[name] for name in names}
    with pytest.raises(UserError, match=f"the start is of another network: .* {fault}"):
        learned_start(start, reference, Settings())


@pytest.mark.parametrize(
    ("override", "reason"),
    [
        ("inner.scope.name=film", "set inner.scope.name=lora"),
        ("data.tasks.name=classes", "from choices"),
    ],
    ids=["scope", "tasks"],
)
def test_choices_need_an_adapter_and_raters(drawn, base, override, reason):
    with pytest.raises(UserError, match=reason):
        configuration(drawn, base, override)
