"""Tests of the feature spaces: HOG, pixels, features from a file, and the metric network."""

import hashlib
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from metatrain.base.errors import UserError
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import decode, png
from metatrain.metrics.hog import Hog
from metatrain.metrics.network import metric_network
from metatrain.metrics.pixels import Pixels
from metatrain.metrics.precomputed import Precomputed, pixel_hash

SHAPE: dict[str, Any] = {"image_size": 16, "channels": 1}


def noise():
    return torch.Generator().manual_seed(0)


def hog_written_out(image):
    """Compute HOG features of one channel of 16 x 16 pixels, cell by cell, in plain numpy."""
    padded = np.pad(image, 1, mode="edge")
    cells = np.zeros((8, 8, 9))
    for y in range(16):
        for x in range(16):
            dx = padded[y + 1, x + 2] - padded[y + 1, x]
            dy = padded[y + 2, x + 1] - padded[y, x + 1]
            place = (math.degrees(math.atan2(dy, dx)) % 180) / 20 - 0.5
            lower = math.floor(place)
            for plane, weight in ((lower, lower + 1 - place), (lower + 1, place - lower)):
                cells[y // 2, x // 2, plane % 9] += weight * math.hypot(dx, dy) / 4
    blocks = []
    for y in range(7):
        for x in range(7):
            # By orientation, then by cell.
            block = cells[y : y + 2, x : x + 2].transpose(2, 0, 1).ravel()
            block = np.minimum(block / np.linalg.norm(block), 0.2)
            blocks.append(block / np.linalg.norm(block))
    result = np.concatenate(blocks)
    return result / np.linalg.norm(result) * math.sqrt(result.size)


def test_hog_is_its_paper_written_out():
    images = torch.randn(2, 1, 16, 16, generator=noise(), dtype=torch.float64)
    result = Hog().features(images)
    assert result.shape == (2, 7 * 7 * 36)
    for image, row in zip(images, result, strict=True):
        np.testing.assert_allclose(row, hog_written_out(image[0].numpy()), rtol=1e-9)


def test_hog_knows_an_image_by_its_strongest_channel_whatever_its_size():
    grey = torch.randn(3, 2, 1, 20, 20, generator=noise(), dtype=torch.float64)
    colour = torch.cat([grey, 0.1 * grey, torch.zeros_like(grey)], dim=2)
    assert Hog().features(colour).allclose(Hog().features(grey))
    assert Hog().features(torch.zeros(1, 1, 16, 16)).isfinite().all()
    assert Pixels().features(colour).shape == (3, 2, 1200)


@pytest.fixture
def table(tmp_path):
    """A file with features of three images, as another program writes it from their PNG files."""
    images = torch.rand(3, 3, 8, 8, generator=noise()) * 2 - 1
    files = [tmp_path / f"{i}.png" for i in range(3)]
    for file, image in zip(files, images, strict=True):
        file.write_bytes(png(image))
    digests = [hashlib.sha256(np.asarray(Image.open(f)).tobytes()).digest() for f in files]
    hashes = torch.tensor([list(digest) for digest in digests], dtype=torch.uint8)
    features = torch.arange(6.0).view(3, 2)
    save_file({"sha256": hashes, "features": features}, tmp_path / "f", {"name": "Inception v3"})
    return str(tmp_path / "f"), decode([f.read_bytes() for f in files], 8, 3)


def test_features_of_another_program_are_found_by_the_pixels(table):
    url, images = table
    space = Precomputed(url)
    assert space.name == "Inception v3"
    assert space.features(images[[2, 0]][None]).tolist() == [[[4, 5], [0, 1]]]
    with pytest.raises(UserError, match="lacks the features of 1 of 2") as error:
        space.features(torch.stack([images[0], torch.zeros(3, 8, 8)]))
    assert pixel_hash(torch.zeros(3, 8, 8)).hex() in str(error.value)


@pytest.mark.parametrize(
    ("tensors", "metadata", "sentence"),
    [
        ({"features": torch.zeros(1, 2)}, {"name": "n"}, "cannot be read"),
        ({"features": torch.zeros(1, 2), "sha256": torch.zeros(1, 32)}, {}, "cannot be read"),
        ({"features": torch.zeros(2, 2), "sha256": torch.zeros(1, 32)}, {"name": "n"}, "shapes"),
        (
            {"features": torch.full((1, 2), math.nan), "sha256": torch.zeros(1, 32)},
            {"name": "n"},
            "not finite",
        ),
    ],
)
def test_a_table_that_is_none_is_refused_with_what_it_must_be(
    tmp_path, tensors, metadata, sentence
):
    save_file(tensors, tmp_path / "f", metadata)
    with pytest.raises(UserError, match=sentence) as error:
        Precomputed(str(tmp_path / "f"))
    assert "uint8 [N, 32]" in str(error.value)


def test_a_pickle_is_never_loaded(tmp_path):
    torch.save({"features": torch.zeros(1, 2)}, tmp_path / "f")
    with pytest.raises(UserError, match="cannot be read"):
        Precomputed(str(tmp_path / "f"))


@pytest.fixture(scope="module")
def network(packed, tmp_path_factory):
    """A metric network of the packed stripes, and the URL of its file."""
    url = f"{tmp_path_factory.mktemp('network')}/metric.safetensors"
    return metric_network(EpisodeStore(packed), url, **SHAPE), url


def test_the_metric_network_is_made_once_and_is_then_the_one_in_the_file(packed, network):
    made, url = network
    content = Path(url).read_bytes()
    assert made.sha256 == hashlib.sha256(content).hexdigest()
    result = metric_network(EpisodeStore(packed), url, **SHAPE)
    images = torch.rand(2, 3, 1, 16, 16) * 2 - 1
    assert result.sha256 == made.sha256
    assert result.features(images).equal(made.features(images))
    assert result.features(images).square().mean(dim=-1).allclose(torch.ones(2, 3))
    with safe_open(url, "pt") as file:
        assert file.metadata()["benchmark"] == "data"
        assert file.metadata()["data"] == EpisodeStore(packed).fingerprint


def test_a_metric_network_made_for_other_data_is_refused_and_left_alone(packed, network, tmp_path):
    _, url = network
    content = Path(url).read_bytes()
    sentence = "trained for 'data' with image_size 16, but the data to evaluate has 8"
    with pytest.raises(UserError, match=sentence):
        metric_network(EpisodeStore(packed), url, image_size=8, channels=1)
    (tmp_path / "m").write_bytes(content[:-4])
    with pytest.raises(UserError, match="not a metric network, or is damaged; remove it"):
        metric_network(EpisodeStore(packed), f"{tmp_path}/m", **SHAPE)
    assert Path(url).read_bytes() == content
    assert (tmp_path / "m").read_bytes() == content[:-4]
