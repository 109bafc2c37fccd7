"""The benchmark of backbones: as many passes in both systems, and cells that are measured once."""

import pytest
import torch

from benchmarks.backbones import cell as cells
from benchmarks.backbones.__main__ import LEARNERS, main
from benchmarks.backbones.models import config_of
from benchmarks.backbones.plain_loop import PlainLoop
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.model.build import build_learner, build_theta

NAME = "SD3Transformer2DModel"


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_plain_loop_passes_the_backbone_as_often(tmp_path, learner):
    settings = (f"learner.name={learner}", "inner.steps=2", "inner.optimizer=sgd")
    config = config_of(tmp_path, NAME, 16, (*settings, "meta.gradient=unrolled"))
    place = build_theta(config)
    plain, passes = PlainLoop(place.generator, config), {"ours": 0, "plain": 0}
    for name, generator in (("ours", place.generator), ("plain", plain.generator)):
        generator.register_forward_pre_hook(
            lambda *_, name=name: passes.update({name: passes[name] + 1})
        )
    images = torch.rand(4, 4, 16, 16) * 2 - 1
    episode = Episode("task", *Examples(images).split(2), 0)
    build_learner(config, place).episode_gradient(place.copy(), episode, 0)
    plain.run(learner, episode)
    assert passes["ours"] == passes["plain"] > 1


@pytest.mark.long
def test_a_cell_is_measured_once(tmp_path, capsys, monkeypatch):
    sizes = ["--width", "16", "--rounds", "1", "--steps", "2"]
    words = [str(tmp_path), "--classes", NAME, "--learners", "fomaml", *sizes]
    main(words)
    table = capsys.readouterr().out
    assert table.count(f"| {NAME} | fomaml |") == 1
    monkeypatch.setattr(cells, "_measure", lambda *_: pytest.fail("it is measured"))
    main(words)
    assert capsys.readouterr().out == table
