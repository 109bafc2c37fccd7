"""Mean velocities: the identity of MeanFlow, and what their objectives compute with networks."""

import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_models import adapted_model
from torch.nn.attention import SDPBackend, sdpa_kernel

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.config import load_config
from metatrain.data.batch import support_batch
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.generators import Generator
from metatrain.generators.codecs.codec import Identity, IdentityConfig
from metatrain.generators.conditions.encoders import Given
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.generators.objectives.distill import Distill, DistillConfig
from metatrain.generators.objectives.meanflow import (
    MeanFlow,
    MeanFlowConfig,
    mean_velocity_and_target,
)
from metatrain.generators.sampler_sections import IntervalSamplerConfig
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import build_generator, build_learner, build_theta
from metatrain.model.export.graph import network_graph, sampling_generator
from metatrain.training.initial_weights import initial_weights

SHAPE = (1, 4, 4)
SMALL = ("data.image_size=8", "generator.width=8")
DISTILL = (
    *("objective.name=distill", "objective.teacher.path=teacher.safetensors"),
    "learner.name=fomaml",
)
NETWORKS = ("generator.name=unet", "generator.name=dit")
DEVIATION = 0.6


def mean_velocity(x, t, span, deviation=DEVIATION):
    """The mean velocity from noise N(0, 1) to examples N(0, deviation^2), in closed form.

    Every x keeps its quantile, so that x_r = x_t s(r) / s(t), with s(t) the deviation at t.
    """

    def at(time):
        return ((1 - time) ** 2 + (time * deviation) ** 2).sqrt()

    factor = (at(t + span) / at(t) - 1) / span
    return factor[:, None, None, None] * x


def velocity_of(x, t, deviation=DEVIATION):
    """The velocity of that flow: x s'(t) / s(t)."""
    rate = (t * deviation**2 - (1 - t)) / ((1 - t) ** 2 + (t * deviation) ** 2)
    return rate[:, None, None, None] * x


@settings(max_examples=50, deadline=None)
@given(t=st.floats(0.0, 0.9), share=st.floats(0.05, 1.0), deviation=st.floats(0.2, 3.0))
def test_the_target_of_a_linear_gaussian_flow_is_its_mean_velocity(t, share, deviation):
    x = torch.randn(3, *SHAPE, dtype=torch.float64)
    times = torch.full((3,), t, dtype=torch.float64)
    spans = share * (1 - times)
    mean, target = mean_velocity_and_target(
        lambda x, t, span: mean_velocity(x, t, span, deviation),
        x,
        times,
        spans,
        velocity_of(x, times, deviation),
    )
    assert not target.requires_grad
    torch.testing.assert_close(target, mean, rtol=1e-9, atol=1e-9)


class ClosedForm(VelocityNetwork):
    """A network of that mean velocity; without an interval, of its velocity."""

    Config = Section
    embedding = 1

    def encode(self, support):
        return support

    def over(self, span, memory, given):
        return Given(memory, memory, span[:, None])

    def velocity(self, x, t, memory, visible, given=None):
        span = torch.zeros_like(t) if given is None else given.summary[:, 0]
        safe = span.clamp(min=1e-9)
        means = mean_velocity(x, t, safe)
        return torch.where(span[:, None, None, None] > 0, means, velocity_of(x, t))


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_with_the_true_mean_velocity_any_number_of_steps_is_exact(steps):
    objective = MeanFlow(MeanFlowConfig(sampler=IntervalSamplerConfig(steps=steps)), SHAPE)
    generator = Generator(ClosedForm(Section(), SHAPE), objective, Identity(IdentityConfig()))
    noise = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(3)).double()
    samples = generator.sample(Examples(torch.zeros(1, *SHAPE).double()), 2, seed=3)
    torch.testing.assert_close(samples, (DEVIATION * noise).clamp(-1, 1))


def moved(*overrides):
    """A generator in float64, away from layers that start at zero."""
    generator = build_generator(load_config(None, [*SMALL, *overrides])).double()
    stream = torch.Generator().manual_seed(1)
    for p in generator.parameters():
        p.data += 0.1 * torch.randn(p.shape, dtype=torch.float64, generator=stream)
    return generator


def images(count):
    return torch.rand(count, 1, 8, 8, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("network", NETWORKS)
def test_the_loss_has_the_derivative_along_the_flow_in_it(network):
    options = ("objective.name=meanflow", "objective.intervals=1", "objective.weighting=0")
    generator = moved(network, *options)
    draw = generator.prepare(support_batch(Examples(images(4)), 0, 0))
    x1, x0, t, span, support, visible = draw
    assert (span > 0).all() and (t + span <= 1).all()
    net, v = generator.network, x1 - x0
    x, at = (1 - t[:, None, None, None]) * x0 + t[:, None, None, None] * x1, span.clone()

    def mean(shift):
        memory = net.encode(support)
        return net.velocity(
            x + shift * v, t + shift, memory, visible, net.over(at - shift, memory, None)
        )

    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH):
        slope = (mean(1e-6) - mean(-1e-6)) / 2e-6
        error = mean(0.0) - v - span[:, None, None, None] * slope
    torch.testing.assert_close(generator(*draw), error.square().mean(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("network", NETWORKS)
def test_an_interval_of_no_length_adds_nothing(network):
    net = moved(network, "objective.name=meanflow").network
    x, t, visible = images(2), torch.rand(2).double(), torch.ones(2, 3, dtype=torch.bool)
    memory = net.encode(images(3))
    plain = net.velocity(x, t, memory, visible)
    none, some = (
        net.velocity(x, t, memory, visible, net.over(torch.full_like(t, span), memory, None))
        for span in (0.0, 0.5)
    )
    torch.testing.assert_close(none, plain)
    assert (some - plain).abs().max() > 1e-3


def test_without_intervals_a_mean_flow_begins_as_a_flow():
    batch = support_batch(Examples(images(4)), 0, 0)
    flow = build_generator(load_config(None, [*SMALL])).double()
    options = ("objective.name=meanflow", "objective.weighting=0", "objective.intervals=0")
    mean = build_generator(load_config(None, [*SMALL, *options])).double()
    torch.testing.assert_close(flow.losses(batch), mean.losses(batch))


@pytest.mark.parametrize("objective", [("objective.name=meanflow",), DISTILL])
def test_a_run_may_begin_with_a_flow(objective, tmp_path):
    flow = adapted_model(shots=0)
    flow.save(tmp_path / "model.safetensors")
    options = ["generator.width=8", "data.image_size=16", *objective, f"run.init={tmp_path}"]
    weights = initial_weights(load_config(None, options))
    new = {name for name in weights if name.startswith("network.interval.")}
    assert new == weights.keys() - flow.parameters.keys()
    for name, value in flow.parameters.items():
        torch.testing.assert_close(weights[name], value)


def test_a_network_without_an_embedding_is_refused():
    with pytest.raises(UserError, match=r"Ensemble has none; choose generator\.name=unet or dit"):
        build_generator(load_config(None, ["generator.name=ensemble", "objective.name=meanflow"]))


def outer(learner, *overrides):
    config = load_config(
        None,
        [*SMALL, "inner.steps=1", f"learner.name={learner}", "objective.name=meanflow", *overrides],
    )
    theta = build_theta(config)
    stream = torch.Generator().manual_seed(1)
    start = {n: p + 0.02 * torch.randn(p.shape, generator=stream) for n, p in theta.copy().items()}
    tasks = [Episode(f"{i}", *Examples(images(5).float()).split(3), seed=i) for i in (1, 2)]
    return build_learner(config, theta).outer_gradient(start, tasks, 0)


@pytest.mark.parametrize("learner", LEARNERS.built_in)
def test_a_learner_trains_a_mean_flow_or_says_why_not(learner):
    if LEARNERS[learner].Config.products:
        with pytest.raises(UserError, match=f"learner {re.escape(learner)} .* objective meanflow"):
            outer(learner)
        return
    gradient = outer(learner).gradient
    assert all(g.isfinite().all() for g in gradient.values())
    assert gradient["network.interval.out.weight"].abs().max() > 0


def test_tasks_at_once_have_the_gradient_of_one_after_the_other():
    torch.manual_seed(5)
    single = outer("fomaml", "inner.optimizer=sgd").gradient
    torch.manual_seed(5)
    stacked = outer("fomaml", "inner.optimizer=sgd", "meta.tasks_at_once=2").gradient
    for name, value in single.items():
        torch.testing.assert_close(stacked[name], value, rtol=1e-3, atol=1e-5)


def taught(path, steps):
    """Trajectories, and the draw that is prepared of them."""
    generator = moved(*DISTILL, f"objective.steps={steps}", f"objective.path={path}")
    lessons = torch.randn(8, steps + 1, 1, 8, 8, dtype=torch.float64)
    episode = Episode("", Examples(images(3)), Examples(lessons, encoded=True), 0)
    return lessons, generator.prepare(episode.query_batch())


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("path", ["teacher", "straight"])
def test_a_student_learns_the_means_of_its_teachers_way(path, steps):
    lessons, (x, slope, t, span, *_) = taught(path, steps)
    means = span > 0
    assert means.sum() == 6 and (span[means] == 1 / steps).all()
    for row in range(8):
        noise, image = lessons[row, 0], lessons[row, -1]
        if not means[row]:  # a velocity, from other noise to the same image
            torch.testing.assert_close(x[row] + (1 - t[row]) * slope[row], image)
            continue
        first = round(t[row].item() * steps)
        if path == "straight":
            torch.testing.assert_close(slope[row], image - noise)
            torch.testing.assert_close(x[row], (1 - t[row]) * noise + t[row] * image)
        else:
            torch.testing.assert_close(x[row], lessons[row, first])
            torch.testing.assert_close(x[row] + slope[row] / steps, lessons[row, first + 1])


def test_adapting_a_student_follows_the_velocity():
    batch = support_batch(Examples(images(4)), 0, 0)
    student, flow = moved(*DISTILL), moved("objective.condition_dropout=0")
    flow.network.load_state_dict(student.network.state_dict(), strict=False)
    torch.testing.assert_close(student.losses(batch), flow.losses(batch))


@pytest.mark.parametrize("objective", [("objective.name=meanflow",), DISTILL])
def test_examples_can_be_cut_out_of_a_draw(objective):
    generator = moved(*objective)
    draw = generator.prepare(support_batch(Examples(images(5)), 0, 0))
    errors = generator.objective.errors(generator.network, draw)
    torch.testing.assert_close(errors.mean(), generator(*draw))
    part = generator.objective.share(draw, slice(1, 3))
    torch.testing.assert_close(generator.objective.errors(generator.network, part), errors[1:3])


def test_a_student_samples_in_the_steps_that_it_learned():
    section = DistillConfig.model_validate({"teacher": {"path": "t"}, "steps": 2})
    assert section.sampler.steps == 2 and section.sampler.method == "euler"
    assert Distill(section, SHAPE).config.steps == 2


def test_what_is_exported_knows_the_length_of_steps():
    model = adapted_model("objective.name=meanflow", "objective.sampler.steps=1")
    generator = sampling_generator(model)
    graph = network_graph(model, generator)
    noise = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(4))
    velocity = graph.module(noise, torch.zeros(2), torch.ones(2, dtype=torch.bool))
    expected = generator.sample(model.support, 2, 4)
    torch.testing.assert_close((noise + velocity).clamp(-1, 1), expected)


def test_learners_that_mix_support_and_query_cannot_be_taught():
    with pytest.raises(UserError, match=r"learner reptile learns .*; use learner\.name=fomaml"):
        load_config(None, [*DISTILL, "learner.name=reptile"])
