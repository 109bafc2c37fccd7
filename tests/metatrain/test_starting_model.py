"""A run that starts from a trained model instead of random weights."""

import json
import time
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import metatrain
from metatrain.base.errors import UserError
from metatrain.config import load_config, with_values
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.storage.tensor_file import TensorFile
from metatrain.training.checkpoint import CheckpointStore
from metatrain.training.initial_weights import initial_weights
from metatrain.training.partition import Partition, shapes_of


@pytest.fixture
def trained(tmp_path):
    """The file of a model whose weights no seed gives."""
    config = load_config(None, ["generator.width=8", "data.image_size=16", "learner.name=joint"])
    weights = {name: torch.randn_like(p) for name, p in build_theta(config).named().items()}
    url = f"{tmp_path}/trained.safetensors"
    Model(config, weights, step=10).save(url)
    return url


def start(url, *others):
    small = ["generator.width=8", "data.image_size=16", "seed=3"]
    return load_config(None, [*small, f"run.init={url}", *others])


def test_a_run_starts_with_the_weights_of_the_model_and_a_worker_with_its_slices(trained):
    model = load_model(trained)
    weights = initial_weights(start(trained))
    assert all(torch.equal(weights[name], p) for name, p in model.parameters.items())
    slices = {name: (p.numel() // 3, p.numel() // 2) for name, p in weights.items()}
    partition = Partition(shapes=shapes_of(weights), slices=slices)
    part = initial_weights(start(trained), partition)
    assert all(torch.equal(part[name], partition.cut(name, p)) for name, p in weights.items())


@pytest.mark.parametrize(
    ("others", "added"),
    [
        (["learner.name=meta-sgd"], "inner_rule."),
        (["learner.name=maml++"], "inner_rule."),
        (["inner.scope.name=lora"], ".lora."),
        (["generator.conditions=[support, text]"], ".encoders."),
    ],
    ids=str,
)
def test_what_a_learner_or_scope_or_condition_adds_is_as_the_seed_decides(others, added, trained):
    model, config = load_model(trained), start(trained, *others)
    weights = initial_weights(config)
    fresh = build_theta(config).copy()
    assert all(torch.equal(weights[name], p) for name, p in model.parameters.items())
    further = weights.keys() - model.parameters.keys()
    assert further
    assert all(added in name and torch.equal(weights[name], fresh[name]) for name in further)


def test_an_encoder_of_the_model_is_not_left_out(trained, tmp_path):
    config = start(trained, "generator.conditions=[support, text]")
    Model(config, build_theta(config).copy(), step=1).save(f"{tmp_path}/told.safetensors")
    with pytest.raises(UserError, match=r"it has .*encoders.* too"):
        initial_weights(start(f"{tmp_path}/told.safetensors"))


def test_learned_rates_of_the_model_are_left_out(trained, tmp_path):
    config = start(trained, "learner.name=meta-sgd", "run.init=null")
    Model(config, build_theta(config).copy(), step=1).save(f"{tmp_path}/rates.safetensors")
    weights = initial_weights(start(f"{tmp_path}/rates.safetensors", "learner.name=reptile"))
    assert not any(name.startswith("inner_rule.") for name in weights)


def test_half_precision_in_a_file_is_read_exactly(trained, tmp_path):
    half = {name: tensor.half() for name, tensor in load_file(trained).items()}
    save_file(half, f"{tmp_path}/half.safetensors", TensorFile(trained).metadata)
    expected = {name: p.half().float() for name, p in load_model(trained).parameters.items()}
    model = load_model(f"{tmp_path}/half.safetensors")
    weights = initial_weights(start(f"{tmp_path}/half.safetensors"))
    for name, p in expected.items():
        assert model.parameters[name].dtype == torch.float32
        assert torch.equal(model.parameters[name], p)
        assert torch.equal(weights[name], p)


@pytest.mark.parametrize(
    ("others", "sentence"),
    [
        (["generator.width=16"], "generator.width is 8 there, and 16 here; set it as there"),
        (["generator.name=dit"], "generator.name is unet there, and dit here"),
        (["data.channels=3"], "data.channels is 1 there, and 3 here"),
    ],
    ids=str,
)
def test_a_model_of_another_network_is_refused_with_the_key_that_differs(others, sentence, trained):
    with pytest.raises(UserError, match=sentence):
        initial_weights(start(trained, *others))


def test_a_missing_or_damaged_model_is_refused(trained, tmp_path):
    with pytest.raises(UserError, match=r"run\.init is nowhere, and there is no model"):
        initial_weights(start("nowhere"))
    data = Path(trained).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(data[:-100])
    with pytest.raises(UserError, match=r"cut.safetensors is no safetensors file, or damaged"):
        initial_weights(start(f"{tmp_path}/cut.safetensors"))


def test_a_run_resumes_without_its_starting_model_and_refuses_another(packed, trained, tmp_path):
    settings = [f"run.dir={tmp_path}/runs", f"data.path={packed}", "data.shots=3"]
    settings += ["data.queries=3", "inner.steps=1", "meta.warmup=0", "checkpoint.samples=false"]
    config = start(trained, *settings, "meta.steps=1", "meta.lr=1e-12")
    model = metatrain.train(config)
    start_of_run = load_model(trained).parameters
    assert all(torch.allclose(model.parameters[n], p, atol=1e-9) for n, p in start_of_run.items())
    Path(trained).unlink()
    assert metatrain.train(with_values(config, {"meta.steps": 2})).step == 2
    with pytest.raises(UserError, match=r"cannot resume with changed run.init"):
        metatrain.train(with_values(config, {"run.init": "other"}))
    assert CheckpointStore(config.run.url).steps()[-1] == 2


def test_weights_that_are_no_finite_float32_are_refused(trained, tmp_path):
    tensors, metadata = load_file(trained), TensorFile(trained).metadata
    for sentence, alter in [
        ("is not finite", lambda t: t.double() * 1e300),
        ("has the type torch.int64", torch.Tensor.long),
        ("has the type torch.bool", torch.Tensor.bool),
    ]:
        save_file({n: alter(t) for n, t in tensors.items()}, f"{tmp_path}/x.safetensors", metadata)
        with pytest.raises(UserError, match=sentence):
            initial_weights(start(f"{tmp_path}/x.safetensors"))


def test_a_file_of_another_format_is_refused(trained, tmp_path):
    tensors, metadata = load_file(trained), TensorFile(trained).metadata
    for version in ("metatrain-0", "x" * 1_000_000):
        save_file(tensors, f"{tmp_path}/x.safetensors", {**metadata, "format": version})
        with pytest.raises(UserError, match=r"of format [-\w]{,60}; this metatrain reads"):
            initial_weights(start(f"{tmp_path}/x.safetensors"))


@pytest.mark.parametrize("shape", [[10**4000] * 1000, [9999999999] * 100_000, [1] * 100_000])
def test_a_shape_that_no_tensor_has_takes_no_time(shape, tmp_path):
    entry = {"dtype": "F32", "shape": shape, "data_offsets": [0, 4]}
    text = json.dumps({"parameters/x": entry}).encode()
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes(4))
    begin = time.process_time()
    with pytest.raises(UserError, match="shape or place that no tensor has"):
        TensorFile(f"{tmp_path}/x.safetensors")
    assert time.process_time() - begin < 5


@given(st.data())
def test_a_tensor_file_of_any_header_is_read_or_refused(tmp_path_factory, data):
    numbers = st.integers(-1, 2**63) | st.none() | st.text(max_size=3)
    entry = st.fixed_dictionaries(
        {
            "dtype": st.sampled_from(["F32", "F16", "U8", "BOGUS"]) | st.none(),
            "shape": st.lists(numbers, max_size=3) | st.none(),
            "data_offsets": st.lists(numbers, min_size=1, max_size=3),
        }
    )
    header = data.draw(st.dictionaries(st.text(max_size=5), entry, max_size=3))
    text = json.dumps(header).encode()
    url = tmp_path_factory.mktemp("file") / "x.safetensors"
    length = data.draw(st.sampled_from([len(text), len(text) + 1, 2**62]))
    url.write_bytes(length.to_bytes(8, "little") + text + bytes(16))
    try:
        file = TensorFile(str(url))
        for name in file.shapes:
            file.read(name)
    except UserError as error:
        assert "damaged" in str(error)
