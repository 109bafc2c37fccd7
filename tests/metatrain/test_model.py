"""The model: its file, its identity, and what it does."""

import json
from dataclasses import replace

import pytest
import torch
from pydantic import Field
from safetensors.torch import load, load_file, save

from metatrain.base.errors import MissingStepError, UserError
from metatrain.config import Config, load_config
from metatrain.data.examples import Examples
from metatrain.generators import GENERATORS
from metatrain.generators.networks.unet import UNet
from metatrain.learning.learners import LEARNERS
from metatrain.model.adapt import adapt_together
from metatrain.model.build import build_generator, build_theta
from metatrain.model.file import load_model, parse_model
from metatrain.model.model import Model
from metatrain.model.support import as_support


def untrained(config):
    """A model that is not as it was made, or from scratch would be the same."""
    noise = torch.Generator().manual_seed(0)
    named = build_theta(config).named().items()
    moved = {n: p.detach() + 0.05 * torch.randn(p.shape, generator=noise) for n, p in named}
    return Model(config, moved, step=7)


@pytest.fixture
def model(config):
    return untrained(config)


def images(seed, count=3):
    noise = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 1, 16, 16), generator=noise).to(torch.uint8)


def test_a_model_comes_back_as_it_was(model, tmp_path):
    support = Examples(torch.randint(0, 256, (3, 1, 16, 16)) / 127.5 - 1)
    model.adapted(model.parameters, support).save(f"{tmp_path}/run/model.safetensors")
    loaded = load_model(f"{tmp_path}/run")
    assert (loaded.config, loaded.step) == (model.config, 7)
    assert all(torch.equal(loaded.parameters[n], p) for n, p in model.parameters.items())
    torch.testing.assert_close(loaded.support.target, support.target)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["model.safetensors"]


def test_a_model_prints_in_one_line(model):
    assert repr(model) == f"Model(unet, {count(model):,} parameters, step {model.step})"
    adapted = model.adapt(images(0), steps=1)
    assert repr(adapted).endswith(", adapted to 3 images)")


def count(model):
    return sum(value.numel() for value in model.parameters.values())


def test_a_model_can_live_at_any_url(model):
    model.save("memory://models/a.safetensors")
    assert load_model("memory://models/a.safetensors").step == 7


def test_the_seed_alone_decides_the_first_weights(config):
    torch.manual_seed(1)
    one = build_generator(config).state_dict()
    torch.manual_seed(2)
    two = build_generator(config).state_dict()
    other = build_generator(config.model_copy(update={"seed": 1})).state_dict()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert not torch.equal(one["network.stem.weight"], other["network.stem.weight"])


def test_a_missing_damaged_or_foreign_file_is_told_in_a_sentence(model, tmp_path):
    with pytest.raises(UserError, match=r"there is no model at .*nowhere/model\.safetensors"):
        load_model(f"{tmp_path}/nowhere")
    content = model.to_bytes()
    foreign = save({"w": torch.zeros(1)})
    pickled = tmp_path / "pickle.safetensors"
    torch.save({"w": torch.zeros(1)}, pickled)
    for i, data in enumerate([content[:1000], b"", foreign, pickled.read_bytes()]):
        file = tmp_path / f"{i}.safetensors"
        file.write_bytes(data)
        with pytest.raises(UserError, match="is not a metatrain model, or is damaged: ") as error:
            load_model(str(file))
        assert ("damaged: it has no 'format'." in str(error.value)) == (data == foreign)


def test_parameters_of_another_shape_are_refused(model, tmp_path):
    wider = load_config(None, ["generator.width=16", "data.image_size=16"])
    Model(wider, model.parameters, 0).save(f"{tmp_path}/m.safetensors")
    with pytest.raises(UserError, match="are not those of its own configuration"):
        load_model(f"{tmp_path}/m.safetensors")


def test_a_newer_format_is_named(model, tmp_path):
    model.save(f"{tmp_path}/m.safetensors")
    tensors = load_file(f"{tmp_path}/m.safetensors")
    metadata = {"format": "metatrain-9", "step": "0", "config": json.dumps({})}
    (tmp_path / "m.safetensors").write_bytes(save(tensors, metadata))
    with pytest.raises(UserError, match="is of format metatrain-9; this metatrain reads"):
        load_model(f"{tmp_path}/m.safetensors")


def test_the_conditions_of_a_support_come_back(model):
    given = {"source": torch.rand(3, 2, 4), "caption": ("a cat", "", "ein Kätzchen \u2014 \n")}
    support = Examples(torch.zeros(3, 1, 16, 16), given)
    loaded = parse_model(model.adapted(model.parameters, support).to_bytes(), "file").support
    assert loaded is not None
    assert loaded.given.keys() == given.keys()
    assert torch.equal(loaded.given["source"], given["source"])
    assert loaded.given["caption"] == given["caption"]


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"source": torch.zeros(2, 5)}, "'source' in file is not given for each of 3 images"),
        ({"source": torch.tensor(1.0)}, "'source' in file is not given for each of 3 images"),
        ({"caption": ("a", "b")}, "'caption' in file is not given for each of 3 images"),
        ({"caption": (1, 2, 3)}, "file is not a metatrain model, or is damaged"),
    ],
)
def test_conditions_that_do_not_fit_the_support_are_refused(model, given, sentence):
    support = Examples(torch.zeros(3, 1, 16, 16), given)
    with pytest.raises(UserError, match=sentence):
        parse_model(model.adapted(model.parameters, support).to_bytes(), "file")


def test_a_support_of_another_size_is_refused(model):
    for shape in ((3, 1, 8, 8), (3, 3, 16, 16), (1, 16, 16)):
        content = model.adapted(model.parameters, Examples(torch.zeros(shape))).to_bytes()
        with pytest.raises(UserError, match="the support in file is not of the size"):
            parse_model(content, "file")


class Scaled(UNet):
    """A generator with state that no step moves."""

    def __init__(self, config, shape):
        super().__init__(config, shape)
        self.register_buffer("scale", torch.ones(2))


@pytest.fixture
def scaled(monkeypatch, model):
    monkeypatch.setitem(GENERATORS._loaded, "unet", Scaled)
    return model


def test_buffers_come_back_and_count(scaled):
    assert torch.equal(scaled.generator().network.scale, torch.ones(2))
    moved = replace(scaled, buffers={"network.scale": torch.tensor([2.0, 3.0])})
    loaded = parse_model(moved.to_bytes(), "file")
    assert loaded.generator().network.scale.tolist() == [2.0, 3.0]
    assert loaded.sha256 == moved.sha256 != scaled.sha256
    assert loaded.to("cpu").buffers["network.scale"].tolist() == [2.0, 3.0]
    for wrong in ({"network.scale": torch.ones(3)}, {"network.shift": torch.ones(2)}):
        with pytest.raises(UserError, match="the buffers in file are not those of its own"):
            parse_model(replace(scaled, buffers=wrong).to_bytes(), "file")


def test_a_model_is_known_by_what_was_chosen_and_not_by_defaults_that_come_later(model, config):
    class LaterSection(type(config.adapt)):
        schedule: str = Field(default="flat")

    class Later(Config):
        adapt: LaterSection = LaterSection()
        colour: str | None = None

    later = Later.model_validate(config.model_dump())
    assert Model(later, model.parameters, 7).sha256 == model.sha256
    chosen = Later.model_validate(config.model_dump() | {"colour": "red"})
    assert Model(chosen, model.parameters, 7).sha256 != model.sha256
    assert replace(model, step=8).sha256 != model.sha256


def test_components_without_any_chosen_value_have_different_hashes(model):
    names = ["learner.name=reptile", "learner.name=maml", "learner.name=fomaml", "seed=1"]
    configs = [load_config(None, [name]) for name in names]
    assert len({Model(config, model.parameters, 7).sha256 for config in configs}) == 4


def test_samples_are_the_generators_and_follow_seed_steps_and_guidance(model):
    with pytest.raises(MissingStepError, match="has not been adapted"):
        model.sample(4)
    adapted = model.adapt(images(0), steps=2)
    drawn = adapted.sample(66, seed=3)
    assert torch.equal(drawn[:64], adapted.generator().sample(adapted.support, 64, 3_000_009))
    assert torch.equal(drawn[64:], adapted.generator().sample(adapted.support, 2, 3_000_010))
    assert torch.equal(adapted.sample(4, seed=1), adapted.sample(4, seed=1))
    assert torch.equal(adapted.sample(4), adapted.sample(4, steps=2, guidance=1.0))
    sampler = adapted.config.objective.sampler.model_copy(update={"steps": 3, "guidance": 2.5})
    chosen = adapted.sample(4, steps=3, guidance=2.5)
    assert torch.equal(chosen, adapted.generator().sample(adapted.support, 4, 0, sampler))
    assert not torch.equal(chosen, adapted.sample(4))
    with pytest.raises(UserError, match="count is 0"):
        adapted.sample(0)
    with pytest.raises(UserError, match=r"objective\.sampler\.steps is 0; allowed is greater"):
        adapted.sample(1, steps=0)
    assert [image.size for image in adapted.images(2)] == [(16, 16), (16, 16)]


@pytest.mark.parametrize("generator", ["dit", "ensemble", "mixture"])
def test_every_generator_samples_with_other_steps(generator):
    small = ["generator.width=8"] if generator == "dit" else ["generator.of.width=8"]
    base = [f"generator.name={generator}", "data.image_size=16", "adapt.steps=1"]
    adapted = untrained(load_config(None, base + small)).adapt(images(0))
    assert not torch.equal(adapted.sample(1, steps=1), adapted.sample(1, steps=2))


def test_adapting_calls_back_after_every_step_and_leaves_the_model_alone(model):
    before, seen = {n: p.clone() for n, p in model.parameters.items()}, []
    adapted = model.adapt(images(0), steps=5, on_step=lambda step, loss: seen.append((step, loss)))
    assert [step for step, _ in seen] == [1, 2, 3, 4, 5]
    assert seen[-1][1] < seen[0][1]
    assert all(torch.equal(model.parameters[n], p) for n, p in before.items())
    assert any((adapted.parameters[n] != p).any() for n, p in before.items())
    slower = model.adapt(images(0), steps=5, lr=1e-6)
    moved = [
        sum(((m.parameters[n] - p) ** 2).sum() for n, p in before.items())
        for m in (slower, adapted)
    ]
    assert moved[0] < moved[1]
    with pytest.raises(UserError, match=r"adapt\.steps is 0; allowed is greater"):
        model.adapt(images(0), steps=0)
    learned = untrained(load_config(None, ["learner.name=meta-sgd", "data.image_size=16"]))
    with pytest.raises(UserError, match="this model learned its inner rates; leave lr out"):
        learned.adapt(images(0), lr=0.1)


@pytest.mark.parametrize(
    "chosen",
    [
        # Adam would divide rounding by rounding where a slope is 0.
        ["inner.scope.name=film", "inner.optimizer=sgd"],
        ["inner.scope.name=lora", "inner.optimizer=momentum"],
        ["inner.optimizer=sgd"],
        ["learner.name=meta-sgd"],
        ["learner.name=imaml"],
    ],
)
def test_tasks_together_give_what_each_gives_alone(overrides, chosen):
    model = untrained(load_config(None, [*overrides, *chosen, "adapt.lr=0.01"]))
    tasks, losses = [images(seed) for seed in range(3)], []
    together = model.adapt_tasks(tasks, on_step=lambda *of: losses.append(of))
    supports = [as_support(task, model.config.data) for task in tasks]
    if LEARNERS[model.config.learner.name].Config.stackable:  # where one by one is sooner, too
        phis = adapt_together(model.config, model.theta(), supports)
        stacked = [model.adapted(phi, s) for phi, s in zip(phis, supports, strict=True)]
        tasks, together = [*tasks, *tasks], [*together, *stacked]
    for task, adapted in zip(tasks, together, strict=True):
        alone = model.adapt(task)
        assert any((alone.parameters[n] != p).any() for n, p in model.parameters.items())
        for name, parameter in alone.parameters.items():
            torch.testing.assert_close(
                adapted.parameters[name], parameter, rtol=1e-4, atol=1e-5, msg=name
            )
        loaded = parse_model(adapted.to_bytes(), "file")
        assert torch.equal(loaded.support.target, adapted.support.target)
        assert all(torch.equal(loaded.parameters[n], p) for n, p in adapted.parameters.items())
    assert [step for step, _ in losses][:3] == [1, 2, 3]


def test_tasks_together_have_as_many_images_each(model):
    with pytest.raises(UserError, match="the tasks have 3, 2 images; give as many of each"):
        model.adapt_tasks([images(0), images(1, count=2)])
    assert model.adapt_tasks([]) == []


def test_a_device_that_is_not_there_is_named(model):
    assert model.to("auto").device.type in ("cpu", "cuda")
    assert model.adapt(images(0), steps=1).to("cpu").sample(1).device.type == "cpu"
    with pytest.raises(UserError, match=r"device cuda:99 is asked for, and torch .* sees"):
        model.to("cuda:99")
    with pytest.raises(UserError, match="there is no device 'gpu'; give auto, cpu or cuda"):
        model.to("gpu")


def test_a_model_has_the_same_bytes_whenever_it_is_written(model):
    model = replace(model, support=as_support(images(1), model.config.data))
    files = {model.to_bytes() for _ in range(8)}
    assert len(files) == 1
    tensors = load(*files)
    for name, value in model.parameters.items():
        torch.testing.assert_close(tensors[f"parameters/{name}"], value, rtol=0, atol=0)
