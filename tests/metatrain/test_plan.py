"""Plans on the meta device, compared with real tensors, and their readability."""

import logging
from pathlib import Path

import pytest
import torch

from metatrain.base.progress import LogDisplay
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import build_learner, build_theta
from metatrain.plan import result_cache
from metatrain.plan.hardware import Hardware
from metatrain.plan.plan import plan_of, remedy
from metatrain.plan.trace import trace

SMALL = [
    "data.image_size=8", "data.shots=2", "data.queries=2",
    "generator.name=dit", "generator.width=16", "generator.depth=1", "generator.heads=2",
]  # fmt: skip
GPUS = ["cluster.gpus_per_worker=1", "meta.batch=64"]


def small(*overrides):
    return load_config(None, [*SMALL, *overrides])


def planned(*overrides, memory=80e9):
    config = small(*GPUS, *overrides)
    return plan_of(config, Hardware(memory, per_node=8, link=1e9, network=1e8, tflops=1.0))


@pytest.mark.parametrize("learner", LEARNERS)
def test_every_learner_is_traced(learner):
    cost = trace(small(f"learner.name={learner}", "inner.steps=1"), episodes=1)
    assert cost.weights > 0
    assert cost.activations > 0
    assert cost.flops > 0
    assert cost.passes >= 1


def test_operations_are_those_that_real_tensors_need():
    fomaml = ["learner.name=fomaml", "inner.steps=2", "inner.optimizer=sgd"]
    # Without attention, which torch's counter does not support on CPUs.
    config = load_config(None, [*SMALL[:3], "generator.width=8", *fomaml])
    place = build_theta(config)
    theta, learner = place.copy(), build_learner(config, place)
    images = torch.rand(4, 1, 8, 8)
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        learner.episode_gradient(theta, Episode("task", *Examples(images).split(2), 0), 0)
    cost = trace(config, episodes=1)
    assert cost.flops == pytest.approx(counter.get_total_flops(), rel=0.05)
    assert cost.passes == 3


@pytest.mark.parametrize("learner", ["reptile", "maml"])
def test_operations_that_are_looked_up_cost_what_they_cost_when_run(learner, monkeypatch):
    overrides = (f"learner.name={learner}", "inner.steps=2")
    cost = trace(small(*overrides), episodes=2)
    monkeypatch.setattr(result_cache, "_key", lambda *_: None)
    assert trace(small(*overrides), episodes=2) == cost


def test_tracing_shows_its_progress(monkeypatch, caplog):
    caplog.set_level(logging.INFO, "metatrain")
    monkeypatch.setattr(LogDisplay, "interval", 1e-9)
    trace(small("inner.steps=2"), episodes=1)
    assert "planning, passes of the network: 2," in caplog.text


def test_a_long_inner_loop_is_continued_as_if_it_had_been_traced(monkeypatch):
    config = small("learner.name=maml", "inner.optimizer=sgd", "inner.steps=6")
    continued = trace(config, episodes=1)
    monkeypatch.setattr("metatrain.plan.trace._REGULAR", 6)
    assert trace(config, episodes=1) == continued


def test_each_stage_needs_less_than_the_one_before_and_shards_the_least():
    stages = [
        planned(
            f"cluster.zero_stage={n}", "cluster.inner_loop=gathered", "cluster.workers=8"
        ).memory
        for n in range(4)
    ]
    permanent = [sum(memory.permanent.values()) for memory in stages]
    assert permanent[0] > permanent[1] == permanent[2]
    sharded = planned("cluster.zero_stage=3", "cluster.inner_loop=sharded", "cluster.workers=8")
    assert sharded.memory.peak < stages[3].peak
    assert "phi" in sharded.memory.permanent


def test_groups_send_to_each_other_over_the_slower_network():
    one, two = (planned(f"cluster.workers={n}", "cluster.shards_per_group=8") for n in (8, 16))
    assert not any(transfer.between_groups for transfer in one.transfers)
    last = two.transfers[-1]
    assert last.between_groups
    more = two.step_time().sending - one.step_time().sending
    assert more == pytest.approx(last.sent / 1e8)


def test_what_does_not_fit_is_answered_with_settings_that_do():
    chosen = ["learner.name=joint", "cluster.workers=8", "cluster.zero_stage=0"]
    tight = planned(*chosen, memory=0.999 * planned(*chosen).memory.peak)
    assert not tight.fits
    changes, better = remedy(tight, lambda further: small(*GPUS, *chosen, *further))
    assert better.fits
    again = plan_of(small(*GPUS, *chosen, *changes), tight.hardware)
    assert changes
    assert again.memory.peak == better.memory.peak


def metatrain(*arguments):
    return run("metatrain", COMMANDS, [str(argument) for argument in arguments])


def test_the_plan_is_one_readable_page(capsys):
    assert metatrain("plan", "configs/demo.yaml", *SMALL, "--gpus", 2, "--price", 2.5) == 0
    page = capsys.readouterr().out
    for words in ("Memory of a worker", "total", "sent     least", "an outer step", "cost "):
        assert words in page
    assert "Assumed: 8 workers per node" in page
    assert max(map(len, page.splitlines())) <= 100


def test_what_cannot_fit_is_one_sentence_and_exit_status_1(capsys):
    arguments = ["learner.name=joint", "--gpus", 2, "--gpu-memory", 0.000001]
    assert metatrain("plan", "configs/demo.yaml", *SMALL, *arguments) == 1
    error = capsys.readouterr().err
    assert "a worker's memory is too small" in error
    assert "Traceback" not in error


def test_time_on_this_machine_is_measured(capsys):
    assert metatrain("plan", "configs/demo.yaml", *SMALL) == 0
    assert "measured on this machine" in capsys.readouterr().out


@pytest.mark.parametrize(("name", "millions"), [("large-100m", 100), ("large-3b", 3000)])
def test_the_large_configurations_are_as_large_as_they_say(name, millions):
    config = load_config(str(Path("configs") / f"{name}.yaml"))
    with torch.device("meta"):
        theta = build_theta(config)
    count = sum(p.numel() for p in theta.named().values())
    assert count == pytest.approx(1e6 * millions, rel=0.02)
