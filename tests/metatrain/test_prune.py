"""Pruned models: what only the removed channels did is missing, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sampling_models import adapted_model
from small_models import metatrain

import metatrain as library
from metatrain.base.errors import UserError
from metatrain.config import with_values
from metatrain.data.examples import Examples
from metatrain.generators.networks.wiring import FREQUENCIES
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.pruning import pruned

# Channels that a norm takes together, in networks of both widths.
GROUP = 8
KINDS = [[], ["generator.multipliers=[1,2,4]"], ["objective.name=meanflow"]]


def model_of(*overrides, width=16):
    return adapted_model(f"generator.width={width}", *overrides, shots=0)


def positions(stream, count, heads, choose):
    """Places of `count` channels among twice as many, so that norms and heads have them alike."""
    if stream == FREQUENCIES:
        return torch.arange(0, 2 * count, 2)
    part = count // heads
    groups = 2 * part // GROUP
    blocks = [sorted(choose.permutation(groups)[: groups // 2]) for _ in range(heads)]
    starts = [2 * part * head + GROUP * b for head, chosen in enumerate(blocks) for b in chosen]
    return torch.cat([torch.arange(start, start + GROUP) for start in starts])


class Choices:
    def __init__(self, seed):
        self.stream = torch.Generator().manual_seed(seed)

    def permutation(self, count):
        return torch.randperm(count, generator=self.stream).tolist()


def widened(model, seed):
    """The same function by a network of twice the width, whose further channels are 0."""
    wiring, choose = model.generator().network.wiring(), Choices(seed)
    config = with_values(model.config, {"generator.width": 2 * model.config.generator.width})
    zeros = {name: torch.zeros_like(p) for name, p in build_theta(config).copy().items()}
    places = {}
    for name, wide in zeros.items():
        value, axes = model.parameters[name], wiring.axes[name.removeprefix("network.")]
        index = [torch.arange(size) for size in wide.shape]
        for axis, streams in enumerate(axes):
            size, parts = value.shape[axis], []
            for stream in streams:
                heads = wiring.heads.get(stream, 1)
                count = size // len(streams)
                if stream not in places:
                    places[stream] = positions(stream, count, heads, choose)
                parts.append(
                    places[stream] + sum(2 * len(places[s]) for s in streams[: len(parts)])
                )
                if stream in wiring.products:
                    rows = torch.arange(size) // count == len(parts) - 1
                    factor = torch.where(rows, 2.0**0.25, 1.0)
                    value = value * factor.view(-1, *(1,) * (value.ndim - 1))
            index[axis] = torch.cat(parts) if parts else index[axis]
        wide[torch.meshgrid(*index, indexing="ij")] = value
    return replace(model, config=config, parameters=zeros)


def samples(model):
    support = torch.rand(3, 1, 16, 16, generator=torch.Generator().manual_seed(2)) * 2 - 1
    return replace(model, support=Examples(support)).sample(2, steps=2)


@pytest.mark.parametrize("overrides", KINDS, ids=str)
@given(st.integers(0, 2**32))
@settings(max_examples=4)
def test_a_network_with_channels_of_zeros_is_pruned_to_what_it_computes(overrides, seed):
    narrow = model_of(*overrides, width=8)
    wide = widened(narrow, seed)
    assert torch.allclose(samples(wide), samples(narrow), atol=1e-4)
    result = pruned(wide, 0.5)
    assert result.config == narrow.config
    assert result.parameters.keys() == narrow.parameters.keys()
    for name, parameter in narrow.parameters.items():
        assert torch.allclose(result.parameters[name], parameter, atol=1e-6), name


def test_the_channels_of_least_weight_are_removed_from_all_layers_that_share_them():
    model = model_of()
    result = pruned(model, 0.5)
    stem = model.parameters["network.stem.weight"]
    kept = result.parameters["network.stem.weight"]
    rows = [next(i for i, row in enumerate(stem) if torch.equal(row, other)) for other in kept]
    assert rows == sorted(set(rows))
    assert len(rows) == 8
    whole = model.parameters["network.down.0.norm_in.weight"]
    assert torch.equal(result.parameters["network.down.0.norm_in.weight"], whole[rows])


def test_a_pruned_file_is_read_and_adapts_and_trains_further(packed, images, tmp_path):
    file, out = tmp_path / "model.safetensors", tmp_path / "pruned.safetensors"
    model = model_of()
    model.save(file)
    assert metatrain("compress", file, "--prune", 0.5, "--out", out) == 0
    assert out.stat().st_size < 0.4 * file.stat().st_size
    small = load_model(str(out))
    assert small.parameters.keys() == model.parameters.keys()
    assert small.adapt(f"{images}/task-01", steps=1).sample(2, steps=2).isfinite().all()
    settings = {"run.dir": f"{tmp_path}/runs", "run.init": str(out), "data.path": packed}
    settings |= {"data.shots": 3, "data.queries": 3, "inner.steps": 1, "meta.warmup": 0}
    settings |= {"meta.steps": 1, "meta.lr": 1e-12, "checkpoint.samples": False}
    trained = library.train(with_values(small.config, settings))
    for name, parameter in small.parameters.items():
        assert torch.allclose(trained.parameters[name], parameter, atol=1e-6), name


def test_precision_and_pruning_go_together(tmp_path, capsys):
    file, out = tmp_path / "model.safetensors", tmp_path / "small.safetensors"
    model_of().save(file)
    assert metatrain("compress", file, "--prune", 0.5, "--dtype", "int8", "--out", out) == 0
    assert "generator.width=8 run.init=" in capsys.readouterr().err
    whole, small = pruned(load_model(str(file)), 0.5), load_model(str(out))
    name = "network.stem.weight"
    assert 0 < (small.parameters[name] - whole.parameters[name]).abs().max() < 0.01


def test_a_file_in_fewer_bits_is_pruned_too(tmp_path):
    file, half, out = (tmp_path / f"{name}.safetensors" for name in ("model", "half", "small"))
    model_of(width=32).save(file)
    assert metatrain("compress", file, "--dtype", "int8", "--out", half) == 0
    assert metatrain("compress", half, "--prune", 0.25, "--out", out) == 0
    assert out.stat().st_size > half.stat().st_size
    assert load_model(str(out)).config.generator.width == 24


def test_learned_rates_begin_anew():
    result = pruned(model_of("learner.name=meta-sgd"), 0.5)
    fresh = build_theta(result.config).copy()
    rates = [name for name in fresh if name.startswith("inner_rule.")]
    assert rates
    assert all(torch.equal(result.parameters[name], fresh[name]) for name in rates)
    assert result.parameters.keys() == fresh.keys()


@pytest.mark.parametrize(
    ("overrides", "share", "sentence"),
    [
        ([], 0.99, "the share to prune is 0.99, and of a width of 16 shares from 0.5 to 0.5 can"),
        ([], 0.0, "the share to prune is 0, "),
        ([], -1, "the share to prune is -1, "),
        ([], float("nan"), "the share to prune is nan, "),
        (["generator.width=8"], 0.5, "has a width of 8, and none is smaller"),
        (["generator.width=32"], 0.99, "from 0.25 to 0.75 can"),
        (["generator.heads=32"], 0.5, "heads is 32, which does not divide"),
        (["inner.scope.name=lora"], 0.5, "belongs to conditions .* or to an added scope"),
        (["inner.scope.name=context"], 0.5, "belongs to conditions .* or to an added scope"),
        (["generator.conditions=[support, text]"], 0.5, "belongs to conditions"),
    ],
    ids=str,
)
def test_what_cannot_be_pruned_is_a_sentence(overrides, share, sentence):
    model = model_of(*overrides)
    with pytest.raises(UserError, match=sentence):
        pruned(model, share)


@pytest.mark.parametrize("network", ["dit", "resnet_gan", "ensemble"])
def test_other_networks_are_refused(network, tmp_path, capsys):
    others = ["objective.name=adversarial"] if network == "resnet_gan" else []
    adapted_model(f"generator.name={network}", *others, shots=0).save(tmp_path / "m.safetensors")
    out = tmp_path / "small.safetensors"
    assert metatrain("compress", tmp_path / "m.safetensors", "--prune", 0.5, "--out", out) == 1
    assert f"the model's generator is {network}, which cannot be pruned" in capsys.readouterr().err
    assert not Path(out).exists()


def test_an_adapted_model_is_refused():
    with pytest.raises(UserError, match="prune the model that it came from"):
        pruned(adapted_model("generator.width=16"), 0.5)
