"""Codecs of pretrained autoencoders, against diffusers' own."""

import shutil

import diffusers
import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file
from small_models import metatrain

from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.loader import open_tasks
from metatrain.generators.codecs.taef2 import _decoder, _encoder
from metatrain.model.build import build_generator
from metatrain.training.encoding import encode_data
from metatrain.training.run_data import encoded_source

WEIGHTS = "diffusion_pytorch_model.safetensors"


def autoencoder(codec):
    torch.manual_seed(0)
    if codec == "autoencoder_tiny":
        widths = {"encoder_block_out_channels": (8, 8), "decoder_block_out_channels": (8, 8)}
        blocks = {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
        return diffusers.AutoencoderTiny(**widths, **blocks, latent_channels=2, scaling_factor=0.5)
    kinds = {
        "down_block_types": ["DownEncoderBlock2D"] * 2,
        "up_block_types": ["UpDecoderBlock2D"] * 2,
    }
    sizes = {"block_out_channels": (8, 8), "norm_num_groups": 4, "latent_channels": 2}
    return diffusers.AutoencoderKL(**kinds, **sizes, scaling_factor=0.5, shift_factor=0.25)


def build(codec, *places):
    overrides = ["data.image_size=16", "data.channels=3", "generator.width=8"]
    return build_generator(load_config(None, [*overrides, f"codec.name={codec}", *places]))


@pytest.mark.parametrize("codec", ["autoencoder_kl", "autoencoder_tiny"])
def test_latents_are_those_of_diffusers_scaled_for_its_networks(tmp_path, codec):
    model = autoencoder(codec)
    model.save_pretrained(tmp_path)
    ours = build(codec, f"codec.path={tmp_path}").codec
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        latents, decoded = ours.encode(images), ours.decode(ours.encode(images))
        if codec == "autoencoder_kl":
            expected = (model.encode(images).latent_dist.mode() - 0.25) * 0.5
            again = model.decode(expected / 0.5 + 0.25).sample
        else:
            expected = model.encode(images).latents * 0.5
            again = model.decode(expected / 0.5).sample
    assert latents.shape == (2, *ours.shape(3, 16)) == (2, 2, 8, 8)
    torch.testing.assert_close(latents, expected)
    torch.testing.assert_close(decoded, again)


@pytest.fixture
def taef2(tmp_path):
    """Files of TAEF2's layout with random weights, and the overrides that name them."""
    torch.manual_seed(0)
    for name, network in (("encoder", _encoder()), ("decoder", _decoder())):
        save_file(network.state_dict(), tmp_path / f"taef2_{name}.safetensors")
    return [f"codec.{n}.path={tmp_path}/taef2_{n}.safetensors" for n in ("encoder", "decoder")]


def test_taef2_keeps_the_tensors_that_diffusers_drops(taef2, tmp_path):
    names = [*load_file(tmp_path / "taef2_encoder.safetensors")]
    assert len([name for name in names if ".pool." in name]) == 12
    codec = build("taef2", *taef2).codec
    images = torch.rand(2, 3, 16, 16) * 2 - 1
    with torch.no_grad():
        latents = codec.encode(images)
        assert latents.shape == (2, 32, 2, 2) == (2, *codec.shape(3, 16))
        assert codec.decode(latents).shape == images.shape
        before = codec.decode(latents)
        codec.decoder[3].pool[1].bias += 1.0
        assert not torch.equal(codec.decode(latents), before)


FILES = {
    "autoencoder_kl": WEIGHTS,
    "autoencoder_tiny": WEIGHTS,
    "taef2": "taef2_decoder.safetensors",
}


@pytest.mark.parametrize("codec", FILES)
@pytest.mark.parametrize("fault", ["lacks tensor", "has an unknown tensor"])
def test_missing_and_unexpected_tensors_are_refused(taef2, tmp_path, codec, fault):
    places = taef2
    if codec != "taef2":
        autoencoder(codec).save_pretrained(tmp_path)
        places = [f"codec.path={tmp_path}"]
    tensors = load_file(tmp_path / FILES[codec])
    if fault == "lacks tensor":
        tensors.pop(next(iter(tensors)))
    else:
        tensors["more"] = torch.ones(1)
    save_file(tensors, tmp_path / FILES[codec])
    with pytest.raises(UserError, match=f"{fault} "):
        build(codec, *places)


@pytest.mark.parametrize("codec", FILES)
@pytest.mark.parametrize("change", ["data.channels=1", "data.image_size=17"])
def test_images_that_a_codec_does_not_take_are_a_sentence(taef2, tmp_path, codec, change):
    places = taef2
    if codec != "taef2":
        autoencoder(codec).save_pretrained(tmp_path)
        places = [f"codec.path={tmp_path}"]
    with pytest.raises(UserError, match=r"change data\.channels and data\.image_size"):
        build(codec, *places, change)


def test_another_autoencoder_is_a_sentence(tmp_path):
    autoencoder("autoencoder_tiny").save_pretrained(tmp_path)
    with pytest.raises(UserError, match=r"of the class AutoencoderTiny, and codec\.name=auto"):
        build("autoencoder_kl", f"codec.path={tmp_path}")


@pytest.mark.parametrize("codec", FILES)
def test_latents_of_any_codec_are_stored_by_the_contents_of_its_files(taef2, tmp_path, codec):
    """They are read from another place of the same files, and refused where a weight differs."""
    pictures, noise = tmp_path / "pictures", np.random.default_rng(0)
    for task in "abcdefgh":
        (pictures / task).mkdir(parents=True)
        for image in range(4):
            pixels = noise.integers(0, 255, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(pictures / task / f"{image}.png")
    assert metatrain("pack", pictures, tmp_path / "packed", "--size", 16) == 0
    (tmp_path / "files").mkdir()
    if codec != "taef2":
        autoencoder(codec).save_pretrained(tmp_path / "files")
    for file in tmp_path.glob("taef2*"):
        file.rename(tmp_path / "files" / file.name)

    def config_of(folder):
        names = ("encoder", "decoder") if codec == "taef2" else ()
        paths = {n: {"path": f"{tmp_path / folder}/taef2_{n}.safetensors"} for n in names}
        place = paths or {"path": f"{tmp_path / folder}"}
        data = {"path": f"{tmp_path}/latents", "image_size": 16, "channels": 3}
        values = {"data": {**data, "shots": 2, "queries": 2}, "codec": {"name": codec, **place}}
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(values))
        return load_config(f"{tmp_path}/run.yaml")

    config = config_of("files")
    words = ["--config", tmp_path / "run.yaml", "--out", tmp_path / "latents"]
    assert metatrain("encode", tmp_path / "packed", *words) == 0
    shutil.copytree(tmp_path / "files", tmp_path / "moved")
    source = open_tasks(config.data)
    latents = encoded_source(source, config_of("moved"))
    sampler = source.sampler("train", seed=0, meta_batch=1)
    episode, seen = latents.read(sampler.plan(0, 0)), source.read(sampler.plan(0, 0))
    expected = build_generator(config).latents(seen.support).target
    assert episode.support.encoded and not seen.support.encoded
    torch.testing.assert_close(episode.support.target, expected, atol=2e-3, rtol=2e-3)
    other = tmp_path / "moved" / FILES[codec]
    save_file({name: 2 * tensor for name, tensor in load_file(other).items()}, other)
    with pytest.raises(UserError, match="has the latents of a codec with sha256"):
        encoded_source(source, config_of("moved"))


def test_pixels_are_no_latents_to_store(tmp_path):
    with pytest.raises(UserError, match="name a codec to encode by"):
        encode_data("anywhere", load_config().codec, str(tmp_path))
