"""Auxiliary losses against their formulas, and free of the number of workers."""

import math

import pytest
import torch

from metatrain.config import load_config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.learning.auxiliaries import Auxiliaries, info_nce
from metatrain.learning.learners import OuterGradient
from metatrain.model.build import build_generator, build_learner, build_theta

SMALL = ["data.image_size=8", "generator.width=8"]


def episode_of(seed):
    noise = torch.Generator().manual_seed(seed)
    images = torch.rand(5, 1, 8, 8, generator=noise, dtype=torch.float64) * 2 - 1
    return Episode(f"task {seed}", *Examples(images).split(3), seed)


EPISODES = [episode_of(seed) for seed in range(3)]


def auxiliaries(slots, gather, *overrides, network="unet"):
    config = load_config(None, [*SMALL, f"generator.name={network}", *overrides])
    learner = build_learner(config, build_theta(config).double())
    noise = torch.Generator().manual_seed(0)
    theta = {
        name: p.detach() + 0.05 * torch.randn(p.shape, generator=noise, dtype=p.dtype)
        for name, p in build_theta(config).double().named().items()
    }
    return Auxiliaries(config.auxiliary, learner, slots, gather), theta


def nothing(theta):
    return OuterGradient({name: torch.zeros_like(p) for name, p in theta.items()}, {})


def alone(*overrides, network="unet"):
    there, theta = auxiliaries(range(3), lambda values: values, *overrides, network=network)
    return there.add_to(nothing(theta), theta, EPISODES), theta


def test_info_nce_is_its_formula():
    noise = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4, 5, generator=noise, dtype=torch.float64)
    for i, loss in enumerate(info_nce(a, b, temperature=0.3)):
        cosines = [torch.dot(a[i], p) / a[i].norm() / p.norm() / 0.3 for p in b]
        expected = -math.log(cosines[i].exp() / sum(c.exp() for c in cosines))
        assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("network", ["unet", "dit"])
def test_contrast_is_the_same_at_any_number_of_workers(network):
    overrides = ["auxiliary.contrast=0.7"]
    whole, theta = alone(*overrides, network=network)
    shares = {0: EPISODES[0::2], 1: EPISODES[1::2]}
    everyones = []
    there, _ = auxiliaries(
        range(3), lambda values: everyones.extend(values) or values, *overrides, network=network
    )
    there.add_to(nothing(theta), theta, EPISODES)
    parts = []
    for rank, episodes in shares.items():
        worker, _ = auxiliaries(
            range(rank, 3, 2), lambda values: list(everyones), *overrides, network=network
        )
        parts.append(worker.add_to(nothing(theta), theta, episodes))
    assert max(g.abs().max() for g in whole.gradient.values()) > 1e-3
    for name, expected in whole.gradient.items():
        summed = parts[0].gradient[name] + parts[1].gradient[name]
        torch.testing.assert_close(summed, expected, rtol=1e-9, atol=1e-12)
    total = sum(part.metrics["contrast"] for part in parts)
    assert total.item() == pytest.approx(whole.metrics["contrast"].item(), rel=1e-12)


@pytest.mark.parametrize("loss", ["contrast", "masked"])
def test_an_auxiliary_gradient_is_the_slope_of_its_loss_times_its_weight(loss):
    outer, theta = alone(f"auxiliary.{loss}=2.0")
    noise = torch.Generator().manual_seed(1)
    direction = {n: torch.randn(p.shape, generator=noise, dtype=p.dtype) for n, p in theta.items()}
    there, _ = auxiliaries(range(3), lambda values: values, f"auxiliary.{loss}=2.0")

    def value(e):
        moved = {n: p + e * direction[n] for n, p in theta.items()}
        return there.add_to(nothing(moved), moved, EPISODES).metrics[loss].item()

    e = 1e-4
    slope = 2.0 * (8 * (value(e) - value(-e)) - (value(2 * e) - value(-2 * e))) / (12 * e)
    ours = sum((outer.gradient[n] * direction[n]).sum() for n in theta).item()
    assert ours == pytest.approx(slope, rel=1e-7)


@pytest.mark.parametrize("network", ["unet", "dit"])
def test_what_is_hidden_cannot_be_seen(network):
    config = load_config(None, [*SMALL, f"generator.name={network}"])
    generator = build_generator(config).double()
    for parameter in generator.parameters():
        parameter.data += 0.05
    images = EPISODES[0].query.target
    hidden = torch.zeros(len(images), 1, 8, 8, dtype=torch.float64)
    hidden[:, :, 2:5, 3:6] = 1
    batch = EPISODES[0].query_batch()
    restored = generator.objective.restore(generator.network, batch, hidden)
    batch.examples.target.mul_(torch.where(hidden.bool(), -1.0, 1.0))
    again = generator.objective.restore(generator.network, batch, hidden)
    batch.examples.target.mul_(torch.where(hidden.bool(), -1.0, 1.0))
    assert torch.equal(restored, again)
    assert torch.equal(restored[hidden == 0], images[hidden == 0])


def test_without_weights_nothing_is_added():
    outer, _ = alone()
    assert not outer.metrics
    assert not any(g.any() for g in outer.gradient.values())


def test_what_must_start_at_0_is_not_learned_by_an_auxiliary_loss_either():
    outer, _ = alone("learner.name=cavia", "auxiliary.masked=1.0")
    assert not outer.gradient["network.context.vector"].any()
    assert outer.gradient["network.context.linear.weight"].any()
