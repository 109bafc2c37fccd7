"""`meta.gradient=auto`: memory is predicted from what autograd keeps, and speed is measured."""

import time

import pytest
import torch

from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.learning.gradient_choice import GradientMethod, choose, graph_bytes
from metatrain.model.build import build_learner, build_theta, choose_method

SMALL = ["data.image_size=16", "generator.width=16", "inner.optimizer=sgd", "meta.gradient=auto"]


def bench(*overrides):
    config = load_config(None, [*SMALL, *overrides])
    images = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    episode = Episode("task", *Examples(images).split(3), 0)
    return config, build_theta(config).copy(), episode


def test_a_learner_without_second_order_that_takes_tasks_apart_has_nothing_to_choose():
    config, theta, episode = bench("learner.name=imaml")
    assert choose_method(config, theta, [episode, episode]) == (
        GradientMethod("adjoint", 1),
        "there is no other method",
    )


def test_methods_that_fit_are_timed_and_the_fastest_taken():
    config, theta, episode = bench(
        "learner.name=maml", "meta.tasks_at_once=auto", "inner.scope.name=film"
    )
    picked = choose_method(config, theta, [episode, episode])
    taken = dict(part.split(" took ") for part in picked.reason.removesuffix(" s").split(" s, "))
    assert list(taken) == ["adjoint", "adjoint x2", "unrolled", "unrolled x2"]
    assert str(picked.method) == min(taken, key=lambda method: float(taken[method]))


def test_what_does_not_fit_is_not_tried():
    methods = [
        GradientMethod("adjoint", 1),
        GradientMethod("adjoint", 4),
        GradientMethod("unrolled", 1),
    ]
    needs = dict(zip(methods, (2, 8, 10), strict=True))
    tried = []

    def compute(method):
        tried.append(method)
        time.sleep(0.001 * needs[method])

    picked = choose(methods, compute, needs.__getitem__, free=9)
    assert set(tried) == {methods[0], methods[1]}
    assert picked.method == methods[0]
    assert "unrolled needs 0.00 GiB of 0.00" in picked.reason
    # Where nothing fits, what needs the least is tried all the same.
    assert choose(methods, compute, needs.__getitem__, free=1).method == methods[0]


@pytest.mark.parametrize("shots", [2, 8])
def test_the_graph_is_that_of_the_images_and_not_of_the_weights(shots):
    config, theta, _ = bench("learner.name=maml")
    inner = build_learner(config, build_theta(config)).inner
    images = torch.rand(shots, 1, 16, 16)
    few = graph_bytes(
        inner, theta, Episode("t", Examples(images), Examples(images), 0).support_batch
    )
    more = graph_bytes(
        inner,
        theta,
        Episode("t", Examples(images.repeat(2, 1, 1, 1)), Examples(images), 0).support_batch,
    )
    assert 1.6 < more / few < 2.6
