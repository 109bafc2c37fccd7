"""Weights in 8 bits: a bound of the error, exact files, and damaged ones refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.torch import load_file, save_file
from sampling_models import adapted_model
from small_models import metatrain

from metatrain.base.errors import UserError
from metatrain.config import with_values
from metatrain.model.file import load_model
from metatrain.model.precision import rounded
from metatrain.storage.int8 import dequantize, quantize
from metatrain.storage.tensor_file import TensorFile
from metatrain.training.initial_weights import initial_weights

NAME = "network.stem.weight"

numbers = st.floats(allow_nan=False, allow_infinity=False, width=32)
tiny = st.floats(-(2.0**-93), 2.0**-93, width=32)
weights = arrays.arrays(
    np.float32,
    arrays.array_shapes(min_dims=2, max_dims=4, max_side=5),
    elements=numbers | tiny,
).map(torch.from_numpy)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    adapted_model(shots=0).save(path)
    assert metatrain("compress", path, "--dtype", "int8", "--out", small_of(path)) == 0
    return path


def small_of(file):
    return file.with_name("small.safetensors")


@given(weights)
def test_no_value_moves_by_more_than_half_a_step_of_its_row(weight):
    codes, scales = quantize(weight)
    assert codes.dtype == torch.int8
    assert -127 <= codes.min().item() <= codes.max().item() <= 127
    rows = weight.flatten(1).double()
    error = (dequantize(codes, scales).flatten(1).double() - rows).abs().amax(dim=1)
    bound = (rows.abs().amax(dim=1) / 254).clamp(min=2.0**-101)
    assert (error <= 1.001 * bound).all()


@given(weights)
def test_what_is_rounded_has_the_same_integers_and_scales(weight):
    codes, scales = quantize(weight)
    again, same = quantize(dequantize(codes, scales))
    assert torch.equal(again, codes)
    assert torch.equal(same, scales)


def test_a_file_of_a_quarter_is_read_as_what_was_rounded_and_written_again_as_it_is(file):
    data, whole = small_of(file).read_bytes(), load_model(str(file))
    kinds = {n: t.dtype for n, t in load_file(small_of(file)).items()}
    assert kinds[f"parameters/{NAME}"] == torch.int8
    assert kinds[f"scales/{NAME}"] == torch.float32
    assert kinds["parameters/network.stem.bias"] == torch.float16
    # Names of tensors and the configuration are much of so small a file.
    sizes = [sum(t.nbytes for t in load_file(f).values()) for f in (small_of(file), file)]
    assert sizes[0] < 0.35 * sizes[1]
    small = load_model(str(small_of(file)))
    assert all(p.dtype == torch.float32 for p in small.parameters.values())
    assert small.sha256 == rounded(whole, "int8").sha256
    assert small.to_bytes() == data


def test_it_adapts_in_single_precision_and_stores_what_that_changed(file, tmp_path, images):
    folder, samples = f"{images}/task-01", []
    for path in (file, small_of(file)):
        samples.append(load_model(str(path)).adapt(folder, steps=2).sample(2, steps=2))
    assert 0 < (samples[0] - samples[1]).abs().max() < 0.2
    options = ["--scope", "film", "--steps", 1, "--out", tmp_path / "new"]
    assert metatrain("adapt", small_of(file), folder, *options) == 0
    stored = load_file(tmp_path / "new" / "adapted.safetensors")
    assert {t.dtype for n, t in stored.items() if n.startswith("parameters/")} == {torch.float32}
    adapted = load_model(f"{tmp_path}/new/adapted.safetensors")
    small = load_model(str(small_of(file)))
    assert torch.equal(adapted.parameters[NAME], small.parameters[NAME])


def test_a_run_begins_with_it(file):
    config = with_values(load_model(str(file)).config, {"run.init": str(small_of(file))})
    start, small = initial_weights(config), load_model(str(small_of(file)))
    assert all(torch.equal(start[name], p) for name, p in small.parameters.items())


@pytest.mark.parametrize(
    ("scales", "sentence"),
    [
        (torch.full((8,), 3e38), "a scale is too large"),
        (torch.full((7,), 1.0), "not one for each row"),
        (torch.full((8, 1), 1.0), "not one for each row"),
        (torch.full((8,), float("nan")), "not finite"),
        (torch.full((8,), 0.5).half(), r"scales have the type torch\.float16, and not float32"),
        (torch.ones(8).int(), r"scales have the type torch\.int32, and not float32"),
        (None, f"it has no 'scales/{NAME}'"),
    ],
    ids=["large", "few", "square", "nan", "half", "whole", "none"],
)
def test_scales_that_are_not_of_the_weight_are_refused(file, scales, sentence):
    tensors, metadata = load_file(small_of(file)), TensorFile(str(small_of(file))).metadata
    del tensors[f"scales/{NAME}"]
    if scales is not None:
        tensors[f"scales/{NAME}"] = scales
    damaged = str(file.with_name("damaged.safetensors"))
    save_file(tensors, damaged, metadata)
    with pytest.raises(UserError, match=f"damaged.safetensors is not a .*: .*{sentence}"):
        load_model(damaged)
    config = with_values(load_model(str(file)).config, {"run.init": damaged})
    with pytest.raises(UserError, match="damaged"):
        initial_weights(config)


def test_whole_numbers_that_are_no_codes_are_refused_however_they_are_read(file):
    small, damaged = str(small_of(file)), str(file.with_name("damaged.safetensors"))
    tensors = load_file(small)
    tensors[f"parameters/{NAME}"] = tensors[f"parameters/{NAME}"].short()
    save_file(tensors, damaged, TensorFile(small).metadata)
    config = with_values(load_model(small).config, {"run.init": damaged})
    for read in (lambda: load_model(damaged), lambda: initial_weights(config)):
        with pytest.raises(UserError, match=r"damaged: .*has the type torch\.int16"):
            read()


def test_a_vector_that_half_precision_cannot_hold_is_a_sentence(file):
    model, name = load_model(str(file)), "network.stem.bias"
    large = replace(model, parameters=model.parameters | {name: model.parameters[name] + 1e6})
    with pytest.raises(UserError, match=f"cannot hold {name}, .* for int8"):
        rounded(large, "int8")
