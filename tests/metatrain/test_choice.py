"""`meta.gradient=auto`: memory is predicted from what autograd keeps, and speed is measured."""

import pytest
import torch

from metatrain.build import build_generator, build_learner, choose_gradient
from metatrain.config import load_config
from metatrain.episodes import Episode
from metatrain.inner import choice
from metatrain.inner.choice import choose, graph_bytes
from metatrain.parameters import copy_of

SMALL = ["data.image_size=16", "generator.width=16", "inner.optimizer=sgd", "meta.gradient=auto"]


def bench(*overrides):
    config = load_config(None, [*SMALL, *overrides])
    images = torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    episode = Episode("task", images[:3], images[3:], 0)
    return config, copy_of(build_generator(config)), episode


def test_a_learner_without_second_order_has_nothing_to_choose():
    choice = choose_gradient(*bench("learner.name=reptile"))
    assert choice == ("adjoint", "reptile does not go back through inner steps")


def test_what_fits_is_timed_and_the_faster_one_taken():
    picked = choose_gradient(*bench("learner.name=maml"))
    assert "GiB, and for an episode adjoint took" in picked.reason
    seconds = [float(word) for word in picked.reason.split() if word.count(".") == 1][1:]
    assert picked.gradient == ("adjoint" if seconds[0] <= seconds[1] else "unrolled")


def test_what_does_not_fit_is_not_tried(monkeypatch):
    config, theta, episode = bench("learner.name=maml")
    inner = build_learner(config, build_generator(config)).inner
    wanted = inner.config.steps * graph_bytes(inner, theta, episode.support_batch)

    def tried(way):
        raise AssertionError("must not be tried")

    monkeypatch.setattr(choice, "free_memory", lambda device: 4 * wanted - 8)
    picked = choose(tried, inner, theta, episode.support_batch, sharing=2)
    assert picked.gradient == "adjoint"
    assert "are free" in picked.reason


@pytest.mark.parametrize("shots", [2, 8])
def test_the_graph_is_that_of_the_images_and_not_of_the_weights(shots):
    config, theta, _ = bench("learner.name=maml")
    inner = build_learner(config, build_generator(config)).inner
    images = torch.rand(shots, 1, 16, 16)
    few = graph_bytes(inner, theta, Episode("t", images, images, 0).support_batch)
    more = graph_bytes(
        inner, theta, Episode("t", images.repeat(2, 1, 1, 1), images, 0).support_batch
    )
    assert 1.6 < more / few < 2.6
