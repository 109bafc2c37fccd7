import json

import pytest
import torch
from safetensors.torch import load_file, save

from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.examples import Examples
from metatrain.model.build import build_generator, build_theta
from metatrain.model.file import Model, load_model, model_bytes, save_model


@pytest.fixture
def model(config):
    parameters = {n: p.detach() for n, p in build_theta(config).named().items()}
    return Model(config, parameters, step=7)


def test_a_model_comes_back_as_it_was(model, tmp_path):
    support = Examples(torch.randint(0, 256, (3, 1, 16, 16)) / 127.5 - 1)
    save_model(model.adapted(model.parameters, support), f"{tmp_path}/run/model.safetensors")
    loaded = load_model(f"{tmp_path}/run")
    assert (loaded.config, loaded.step) == (model.config, 7)
    assert all(torch.equal(loaded.parameters[n], p) for n, p in model.parameters.items())
    torch.testing.assert_close(loaded.support.target, support.target)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["model.safetensors"]


def test_a_model_can_live_at_any_url(model):
    save_model(model, "memory://models/a.safetensors")
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
    content = model_bytes(model)
    foreign = save({"w": torch.zeros(1)})
    pickled = tmp_path / "pickle.safetensors"
    torch.save({"w": torch.zeros(1)}, pickled)
    for i, data in enumerate([content[:1000], b"", foreign, pickled.read_bytes()]):
        file = tmp_path / f"{i}.safetensors"
        file.write_bytes(data)
        with pytest.raises(UserError, match="is not a metatrain model, or is damaged"):
            load_model(str(file))


def test_parameters_of_another_shape_are_refused(model, tmp_path):
    wider = load_config(None, ["generator.width=16", "data.image_size=16"])
    save_model(Model(wider, model.parameters, 0), f"{tmp_path}/m.safetensors")
    with pytest.raises(UserError, match="are not those of its own configuration"):
        load_model(f"{tmp_path}/m.safetensors")


def test_a_newer_format_is_named(model, tmp_path):
    save_model(model, f"{tmp_path}/m.safetensors")
    tensors = load_file(f"{tmp_path}/m.safetensors")
    metadata = {"format": "metatrain-9", "step": "0", "config": json.dumps({})}
    (tmp_path / "m.safetensors").write_bytes(save(tensors, metadata))
    with pytest.raises(UserError, match="is of format metatrain-9; this metatrain reads"):
        load_model(f"{tmp_path}/m.safetensors")
