"""Models in half precision: half the file, the same adapting, and what brings nothing refused."""

from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from sampling_models import adapted_model
from small_models import metatrain

from metatrain.base.errors import UserError
from metatrain.model.file import load_model
from metatrain.model.precision import rounded

TYPES = {"fp16": torch.float16, "bf16": torch.bfloat16}


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "model.safetensors"
    adapted_model(shots=0).save(path)
    return path


def compress(file, dtype, out):
    return metatrain("compress", file, "--dtype", dtype, "--out", out)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_file_of_half_the_size_is_read_as_what_was_rounded(file, tmp_path, capsys, dtype):
    out = tmp_path / "out" / "small.safetensors"
    assert compress(file, dtype, out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    tensors = load_file(out)
    assert {t.dtype for name, t in tensors.items() if name.startswith("parameters/")} == {
        TYPES[dtype]
    }
    small, whole = load_model(str(out)), load_model(str(file))
    assert small.sha256 == rounded(whole, dtype).sha256
    assert all(p.dtype == torch.float32 for p in small.parameters.values())
    largest = max((small.parameters[n] - p).abs().max().item() for n, p in whole.parameters.items())
    assert 0 < largest < 0.02
    assert out.stat().st_size < 0.6 * file.stat().st_size


def test_a_compressed_model_adapts_as_well(file, tmp_path, images):
    compress(file, "fp16", tmp_path / "small.safetensors")
    folder, samples = f"{images}/task-01", []
    for path in (file, tmp_path / "small.safetensors"):
        adapted = load_model(str(path)).adapt(folder, steps=2)
        samples.append(adapted.sample(2, steps=2))
    assert 0 < (samples[0] - samples[1]).abs().max() < 0.05


def test_an_adapted_model_keeps_its_support(tmp_path):
    adapted_model().save(tmp_path / "adapted.safetensors")
    assert compress(tmp_path, "bf16", tmp_path / "small.safetensors") == 0
    small = load_model(f"{tmp_path}/small.safetensors")
    whole = load_model(f"{tmp_path}/adapted.safetensors")
    assert torch.equal(small.support.target, whole.support.target)


def test_what_brings_nothing_is_not_written(file, tmp_path, capsys):
    half = tmp_path / "half.safetensors"
    assert compress(file, "fp16", half) == 0
    for dtype in TYPES:
        assert compress(half, dtype, tmp_path / "again.safetensors") == 1
        assert "already; keep that" in capsys.readouterr().err
    assert not (tmp_path / "again.safetensors").exists()


def test_what_half_precision_cannot_hold_is_a_sentence(file):
    model = load_model(str(file))
    name = next(iter(model.parameters))
    large = replace(model, parameters=model.parameters | {name: model.parameters[name] + 1e6})
    with pytest.raises(UserError, match=f"cannot hold {name}, .* for fp16"):
        rounded(large, "fp16")
    assert rounded(large, "bf16").parameters[name].isfinite().all()


def test_the_place_to_write_is_a_file_of_models(file, tmp_path, capsys):
    assert compress(file, "fp16", tmp_path / "folder") == 1
    assert "name a file that ends in .safetensors" in capsys.readouterr().err


def test_the_model_itself_is_not_overwritten(file, tmp_path, capsys, monkeypatch):
    before = file.read_bytes()
    monkeypatch.chdir(file.parent)
    (file.parent / "link.safetensors").symlink_to(file)
    for out in (file, file.name, f"../{file.parent.name}/{file.name}", "link.safetensors"):
        assert compress(file, "fp16", out) == 1
        assert "--out is the model itself" in capsys.readouterr().err
    assert file.read_bytes() == before
