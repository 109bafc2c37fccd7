import pytest
import torch

from metatrain.config import MetaConfig
from metatrain.training.average import MovingAverage
from metatrain.training.schedule import learning_rate


def test_the_rate_rises_stays_and_falls_to_zero():
    config = MetaConfig(steps=100, warmup=10, decay=0.5, lr=2.0)
    rates = [learning_rate(config, step) for step in range(101)]
    assert rates[0] == pytest.approx(2 / 11)
    assert rates[10:51] == [2.0] * 41
    assert rates[75] == pytest.approx(1.0)
    assert rates[100] == 0.0
    assert rates[:11] == sorted(rates[:11])
    assert rates[50:] == sorted(rates[50:], reverse=True)


def test_no_warmup_and_no_decay_is_a_constant_rate():
    config = MetaConfig(steps=10, warmup=0, decay=0.0, lr=2.0)
    assert {learning_rate(config, step) for step in range(10)} == {2.0}


def test_the_moving_average_follows_its_formula():
    average = MovingAverage({"w": torch.tensor([1.0], dtype=torch.float64)}, decay=0.5)
    expected = 1.0
    for step, value in enumerate([3.0, -2.0, 8.0, 1.0, 0.5, 7.0, 4.0, 4.0, 4.0]):
        average.update({"w": torch.tensor([value], dtype=torch.float64)}, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    assert average.parameters["w"].item() == pytest.approx(expected, rel=1e-12)
