"""Images of 256 pixels from packing to drawing: a codec, latents, a learner, five images."""

import numpy as np
import pytest
import torch
from PIL import Image
from small_models import metatrain

import metatrain as api
from metatrain.config import load_config
from metatrain.data.packed.store import EpisodeStore

SIZE, SHOTS = 256, 5


def _write_discs(folder, noise):
    """Write discs of one colour at any place: a task."""
    folder.mkdir(parents=True)
    colour, places = noise.integers(0, 200, 3), np.indices((SIZE, SIZE))
    for image in range(2 * SHOTS):
        centre, radius = noise.integers(64, 192, (2, 1, 1)), noise.integers(24, 64)
        inside = np.square(places - centre).sum(axis=0) < radius**2
        pixels = np.where(inside[..., None], colour, 255).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{image}.png")


@pytest.mark.long
def test_256_pixels_from_packing_to_drawing(tmp_path):
    torch.set_num_threads(1)
    noise, packed, latents = np.random.default_rng(0), tmp_path / "packed", tmp_path / "latents"
    for task, split in enumerate(("train", "train", "val", "test")):
        _write_discs(tmp_path / "images" / split / f"disc {task}", noise)
    _write_discs(tmp_path / "new", noise)
    codec, run = tmp_path / "codec.safetensors", tmp_path / "runs" / "large"
    small = ["generator.width=4", "meta.batch=2"]
    sizes = ["--factor", 8, "--channels", 4, "--steps", 2]
    assert metatrain("pack", tmp_path / "images", packed, "--size", SIZE) == 0
    assert metatrain("codec", "train", packed, *small, *sizes, "--out", codec) == 0
    assert metatrain("encode", packed, "--codec", codec, "--out", latents) == 0
    assert EpisodeStore(str(latents)).latents.shape == (4, SIZE // 8, SIZE // 8)
    overrides = [
        *(f"run.dir={run.parent}", f"run.name={run.name}", f"data.path={latents}"),
        *(f"data.image_size={SIZE}", "data.channels=3", f"data.shots={SHOTS}", "data.queries=5"),
        *("codec.name=trained", f"codec.path={codec}", "generator.width=8", "learner.name=fomaml"),
        *("inner.steps=2", "meta.steps=2", "meta.batch=2", "objective.sampler.steps=2"),
    ]
    api.train(load_config(None, overrides))
    adapted, sheet = tmp_path / "adapted", tmp_path / "sheet.png"
    assert metatrain("adapt", run, tmp_path / "new", "--steps", 3, "--out", adapted) == 0
    assert metatrain("generate", adapted, "-n", 2, "--out", sheet) == 0
    with Image.open(sheet) as picture:
        assert min(picture.size) >= SIZE
        assert picture.mode == "RGB"
