"""Made photographs: shapes with edges and texture, packed, and a run on them."""

import numpy as np
import pytest
from PIL import Image

from metatrain.config import load_config
from metatrain.data.packing.pack import pack


def photograph(seed, height=96, width=112):
    """An image [H, W, 3] of uint8: discs and waves, which a bicubic enlargement blurs."""
    stream = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.empty((height, width, 3))
    image[:] = stream.uniform(40, 215, 3)
    for _ in range(12):
        centre, radius = stream.uniform(0, (height, width)), stream.uniform(5, 30)
        inside = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        wave = 30 * np.sin(stream.uniform(0.1, 0.6) * x + stream.uniform(0.1, 0.6) * y)
        image[inside] = stream.uniform(20, 235, 3) + wave[inside][:, None]
    return image.clip(0, 255).round().astype(np.uint8)


def write_photographs(folder, count, **size):
    folder.mkdir(exist_ok=True)
    for seed in range(count):
        Image.fromarray(photograph(seed, **size)).save(folder / f"{seed:02}.png")


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A packed data set of 20 photographs."""
    root = tmp_path_factory.mktemp("photographs")
    write_photographs(root / "source", 20)
    pack(root / "source", root / "packed", photos=True)
    return str(root / "packed")


def sr_config(photos, run, *overrides):
    """A configuration of super-resolution as small as it gets."""
    small = [
        *("generator.name=residual", "generator.width=8", "objective.name=super_resolution"),
        *("data.tasks.name=degradations", "data.channels=3", "data.image_size=16"),
        *("data.shots=1", "data.queries=1", "inner.steps=2", "inner.optimizer=sgd"),
        *("inner.lr=0.02", "adapt.steps=3", "adapt.lr=0.02", "meta.steps=4", "meta.batch=2"),
        *("meta.warmup=0", "cluster.workers=1", "checkpoint.every=100"),
    ]
    places = [f"data.path={photos}", f"run.dir={run}"]
    return load_config(None, [*small, *places, *overrides])
