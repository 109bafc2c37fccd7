"""ONNX files: what onnxruntime samples with them is what torch samples."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from sampling_models import GAN, adapted_model
from small_models import metatrain
from torch import nn

from metatrain.base.errors import MissingStepError, UserError
from metatrain.generators.codecs.trained import codec_bytes
from metatrain.generators.frozen import pinned
from metatrain.generators.networks.autoencoder import Autoencoder, AutoencoderConfig
from metatrain.model.export.graph import Graph
from metatrain.model.export.onnx import onnx_bytes
from metatrain.model.export.sampling import export_onnx
from metatrain.model.file import load_model

DOCS = Path(__file__).parents[2] / "docs" / "export.md"
EXAMPLE = re.search(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL).group(1)


def agree(model, folder, counts=(1, 5)):
    """Compare what the example of the docs samples with what torch does."""
    definitions, _, _ = EXAMPLE.partition("\n\n\nshape =")
    exec(definitions, names := {})
    shape = json.loads((folder / "model.json").read_text())["noise"]
    for count in counts:
        noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(7))
        expected = model._generator.sample(model.support, count, 7).numpy()
        result = names["sample"](folder, noise.numpy())
        assert result.dtype == np.float32 and expected.std() > 0.05
        np.testing.assert_allclose(result, expected, atol=1e-4)


def test_a_command_writes_what_the_docs_example_samples_as_torch_does(tmp_path, capsys):
    model = adapted_model("objective.sampler.guidance=2.5", "inner.scope.name=lora")
    model.save(tmp_path / "adapted.safetensors")
    out = tmp_path / "exported"
    assert metatrain("export", tmp_path, "--format", "onnx", "--out", out) == 0
    assert capsys.readouterr() == (f"{out / 'model.onnx'}\n", "")
    assert sorted(file.name for file in out.iterdir()) == ["model.json", "model.onnx"]
    agree(load_model(f"{tmp_path}/adapted.safetensors"), out)
    for file in out.iterdir():
        assert sys.prefix.encode() not in file.read_bytes() and b".py" not in file.read_bytes()
    code = EXAMPLE + "\nassert pixels.shape == (8, 1, 16, 16) and pixels.std() > 9"
    assert subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=False).returncode == 0


def test_a_gan_samples_as_torch_does(tmp_path):
    model = adapted_model(*GAN).to_sample_only()
    export_onnx(model, str(tmp_path))
    agree(model, tmp_path)


@pytest.mark.long
def test_a_mean_flow_samples_as_torch_does_in_the_steps_it_was_exported_with(tmp_path):
    model = adapted_model("objective.name=meanflow", "objective.sampler.steps=2")
    export_onnx(model, str(tmp_path))
    agree(model, tmp_path)


@pytest.mark.long
def test_in_int8_a_network_is_smaller_and_near(tmp_path, capsys):
    model = adapted_model("generator.width=32")
    model.save(tmp_path / "adapted.safetensors")
    out = tmp_path / "small"
    options = ("--format", "onnx", "--int8")
    assert metatrain("export", tmp_path, *options, "--out", out) == 0
    sentence = re.search(
        r"int8: ([\d.]+) MB in place of ([\d.]+); .* by ([\d.]+)%", capsys.readouterr().err
    )
    small, whole, error = map(float, sentence.groups())
    assert small < 0.4 * whole and abs(small - (out / "model.onnx").stat().st_size / 1e6) < 0.01
    assert 0 < error < 15
    with pytest.raises(AssertionError, match="tolerance"):
        agree(model, out)


@pytest.mark.long
def test_a_network_that_8_bits_cannot_hold_is_refused(tmp_path):
    model = adapted_model()
    blind = {n: p.clone() for n, p in model.parameters.items()}
    # A channel of nothing but 0, whose weights are so large that all others round to 0.
    for name in ("norm_out.weight", "norm_out.bias"):
        blind[f"network.{name}"][0] = 0
    for name in ("weight", "bias"):
        blind[f"network.film_out.linear.{name}"][8] = 0
    blind["network.out.weight"][:, 0] = 1e4
    with pytest.raises(UserError, match=r"would differ by \d+%, and no more than 20%"):
        export_onnx(replace(model, parameters=blind), str(tmp_path / "out"), int8=True)
    assert not (tmp_path / "out").exists()


def test_int8_is_for_onnxruntime_alone(tmp_path, capsys):
    assert metatrain("export", tmp_path, "--int8", "--out", tmp_path / "out") == 1
    assert "choose --format onnx or web" in capsys.readouterr().err


@pytest.mark.long
def test_a_mixture_samples_as_torch_does(tmp_path):
    model = adapted_model("generator.name=mixture", "generator.of.width=8")
    export_onnx(model, str(tmp_path))
    agree(model, tmp_path)


@pytest.mark.long
def test_a_model_over_a_codec_comes_with_its_decoder(tmp_path):
    torch.manual_seed(0)
    autoencoder = Autoencoder(AutoencoderConfig(width=8, latent_channels=2), (1, 16, 16))
    with torch.no_grad():
        for parameter in autoencoder.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    file = tmp_path / "codec.safetensors"
    file.write_bytes(codec_bytes(autoencoder, torch.zeros(2), torch.ones(2), {}))
    network = ("generator.name=dit", "generator.depth=1", "generator.patch=2")
    model = adapted_model("codec.name=trained", f"codec.path={file}", *network)
    model = replace(model, config=pinned(model.config))
    export_onnx(model, str(tmp_path / "out"))
    assert json.loads((tmp_path / "out/model.json").read_text())["noise"] == [2, 4, 4]
    agree(model, tmp_path / "out")


@pytest.mark.parametrize(
    ("overrides", "shots", "error", "sentence"),
    [
        ((), 0, MissingStepError, "has not been adapted"),
        (("generator.conditions.text.name=text",), 3, UserError, "takes conditions beside"),
        (
            ("generator.name=residual", "objective.name=super_resolution"),
            3,
            UserError,
            "only flows and GANs",
        ),
    ],
    ids=["unadapted", "conditions", "enlarging"],
)
def test_what_cannot_be_exported_is_a_sentence(tmp_path, overrides, shots, error, sentence):
    with pytest.raises(error, match=sentence):
        export_onnx(adapted_model(*overrides, shots=shots), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


class Fixed(nn.Module):
    """A function of as many rows as it was exported with."""

    def forward(self, x):
        return x.sum(dim=0).expand(len(x), -1)


class Sorting(nn.Module):
    """A function that calls what ONNX has no form of."""

    def forward(self, x):
        return torch.special.bessel_j0(x)


@pytest.mark.parametrize(
    ("module", "sentence"),
    [(Fixed(), "onnxruntime refuses it"), (Sorting(), "that ONNX has no form of")],
    ids=["fixed", "unknown"],
)
def test_a_foreign_network_that_does_not_fit_is_a_sentence(module, sentence):
    with pytest.raises(UserError, match=sentence):
        onnx_bytes(Graph(module, {"x": torch.randn(2, 4)}, "y"))


def test_without_its_packages_an_export_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(UserError, match=r"pip install 'metatrain\[onnx\]'"):
        export_onnx(adapted_model(), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
