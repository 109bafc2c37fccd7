"""Strangers' models: what they claim is compared with their own bytes, and bounded."""

import json
import time
from dataclasses import replace
from typing import Any, get_args

import pytest
import torch
from annotated_types import Le, Lt
from pydantic import BaseModel
from safetensors.torch import load, save

from metatrain.base.errors import UserError
from metatrain.config import Config
from metatrain.data.examples import Examples
from metatrain.model.build import build_theta
from metatrain.model.expectation import warning
from metatrain.model.file import parse_model
from metatrain.model.model import Model
from metatrain.storage import retry
from metatrain.storage.ranges import read_range
from metatrain.storage.tensor_file import TensorFile
from metatrain.storage.tensors import MOST_TENSORS, read_metadata


@pytest.fixture
def model(config):
    return Model(config, build_theta(config).copy(), step=7)


def claiming(model: Model, values: dict[str, Any] | str, **metadata: str) -> bytes:
    """The file of `model` with other values in its configuration, or with another text."""
    data = model.to_bytes()
    written = read_metadata(data)
    if isinstance(values, dict):
        config = json.loads(written["config"])
        for key, value in values.items():
            section, _, name = key.rpartition(".")
            (config[section] if section else config)[name] = value
        values = json.dumps(config)
    return save(load(data), written | {"config": values} | metadata)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"generator": {"name": "dit", "depth": 10**9}}, "generator.depth is 1000000000; allowed"),
        ({"generator": {"name": "dit", "depth": 1000}}, "far more parameters than the file"),
        (
            {
                "generator": {
                    "name": "ensemble",
                    "members": 64,
                    "of": {"name": "dit", "depth": 90},
                },
                "inner": {"scope": {"name": "head"}},
            },
            "far more parameters than the file",
        ),
        ({"generator.width": 2**62}, "generator.width is .*; allowed"),
        ({"generator.width": 10**400}, "generator.width is .*; allowed"),
        ({"generator.multipliers": [1, 2**62]}, "generator.multipliers.1 is .*; allowed"),
        ({"generator.width": 16384}, "are not those of its own configuration"),
        ({"adapt.steps": 10**9}, "adapt.steps is 1000000000; allowed"),
        ({"data.shots": 10**9}, "data.shots is 1000000000; allowed"),
        ('{"a":' * 100_000 + "1" + "}" * 100_000, "is not a metatrain model, or is damaged"),
        ("[" * 400 + "]" * 400, "the configuration cannot be used"),
    ],
)
def test_a_configuration_beyond_the_files_own_tensors_is_refused_at_once(model, values, sentence):
    data = claiming(model, values)
    started = time.process_time()
    with pytest.raises(UserError, match=sentence):
        parse_model(data, "theirs")
    assert time.process_time() - started < 30, "an idle core takes 3 s for 2,000 parameters"


def test_numbers_that_are_none_are_refused_by_name(model):
    tensors, metadata = load(model.to_bytes()), read_metadata(model.to_bytes())
    for bad in (float("nan"), float("inf")):
        tensors["parameters/network.stem.bias"][3] = bad
        with pytest.raises(UserError, match=r"parameters/network\.stem\.bias is not finite"):
            parse_model(save(tensors, metadata), "theirs")
    whole = {n: p.to(torch.int16) for n, p in model.parameters.items()}
    with pytest.raises(UserError, match=r"has the type torch\.int16"):
        parse_model(replace(model, parameters=whole).to_bytes(), "theirs")


@pytest.mark.parametrize("step", ["-1", str(2**63), "9" * 10_000, "1.5"])
def test_an_impossible_step_is_refused(model, step):
    with pytest.raises(UserError, match="is not a metatrain model, or is damaged"):
        parse_model(claiming(model, {}, step=step), "theirs")


def test_a_support_of_thousands_is_refused(model):
    support = Examples(torch.zeros(1025, 1, 16, 16))
    with pytest.raises(UserError, match="has a support of 1,025 images; at most 1024"):
        parse_model(model.adapted(model.parameters, support).to_bytes(), "theirs")
    with pytest.raises(UserError, match="1,025 images to adapt to; give at most 1,024"):
        model.adapt(torch.zeros(1025, 1, 16, 16), value_range=(-1, 1))


@pytest.mark.parametrize(("tasks", "features"), [(0, 8), (1, 10**5), (5, 3)])
def test_a_calibration_of_impossible_sizes_is_refused(model, tasks, features):
    written = read_metadata(model.to_bytes())
    arrays = {"surprise": torch.zeros(tasks, features)}
    arrays |= {"learned": torch.zeros(tasks), "nearer": torch.zeros(1, tasks, 1).int()}
    tensors = load(model.to_bytes()) | {f"calibration/{n}": a for n, a in arrays.items()}
    values = {"model": model.sha256, "benchmark": "theirs", "shots": 2}
    data = save(tensors, written | {"calibration": json.dumps(values)})
    with pytest.raises(UserError, match="calibrat"):
        theirs = parse_model(data, "theirs")
        warning(theirs, Examples(torch.zeros(2, 1, 16, 16)))


def test_far_more_tensors_than_a_model_has_are_refused_before_any_is_made(tmp_path):
    names = [f"t{i}" for i in range(MOST_TENSORS + 2)]
    empty = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}
    header = json.dumps(dict.fromkeys(names, empty)).encode()
    data = len(header).to_bytes(8, "little") + header
    (tmp_path / "model.safetensors").write_bytes(data)
    with pytest.raises(UserError, match=r"at most 20,000 are read"):
        parse_model(data, "here")
    with pytest.raises(UserError, match=r"at most 20,000 are read"):
        TensorFile(str(tmp_path / "model.safetensors"))


def test_a_tensor_far_behind_the_end_of_its_file_is_refused_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(retry.time, "sleep", lambda _: pytest.fail("it is asked again"))
    for far in (2**40, 2**62, 2**63 - 400):
        entry = {"dtype": "F32", "shape": [1], "data_offsets": [far, far + 4]}
        header = json.dumps({"x": entry}).encode()
        (tmp_path / "far").write_bytes(len(header).to_bytes(8, "little") + header)
        with pytest.raises(UserError, match="ends too early"):
            TensorFile(str(tmp_path / "far")).read("x")


def test_a_range_beyond_the_end_of_a_file_takes_no_memory(tmp_path):
    (tmp_path / "shard").write_bytes(bytes(range(100)))
    assert bytes(read_range(f"{tmp_path}/shard", 90, 2**62)) == bytes(range(90, 100))


def unbounded(section: type[BaseModel], place: str = "") -> list[str]:
    """The keys of integers without an upper bound in a section and those within."""
    keys = []
    for name, field in section.model_fields.items():
        keys += _unbounded(field.annotation, field.metadata, f"{place}{name}")
    return keys


def _unbounded(kind: Any, metadata: list[Any], place: str) -> list[str]:
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return unbounded(kind, f"{place}.")
    bounded = any(isinstance(m, Le | Lt) or _is_bounded(m) for m in metadata)
    if kind is int and not bounded:
        return [place]
    further = [*metadata, *getattr(kind, "__metadata__", ())]
    return [key for part in get_args(kind) for key in _unbounded(part, further, place)]


def _is_bounded(metadata: Any) -> bool:
    return any(isinstance(m, Le | Lt) for m in getattr(metadata, "metadata", ()))


def test_every_size_in_a_configuration_has_an_upper_bound():
    assert unbounded(Config) == []

    class Free(BaseModel):
        size: int = 1

    class Outer(BaseModel):
        of: Free | None = None

    assert unbounded(Outer) == ["of.size"]
