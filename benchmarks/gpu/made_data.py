"""A packed data set of random images, for want of one to download."""

from pathlib import Path

import numpy as np
from PIL import Image

from metatrain.data.packing.pack import pack


def made_set(folder: Path, *, size: int, channels: int, tasks: int, images: int) -> str:
    """Pack tasks of images of blurred noise under `folder`; return the data set's path."""
    stream, mode = np.random.default_rng(0), {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    for task in range(tasks):
        place = folder / "images" / f"{task:04d}"
        place.mkdir(parents=True)
        for image in range(images):
            noise = stream.integers(0, 256, (8, 8, channels), dtype=np.uint8)
            picture = Image.fromarray(noise.squeeze(), mode).resize((size, size))
            picture.save(place / f"{image:02d}.png")
    pack(str(folder / "images"), str(folder / "data"))
    return str(folder / "data")
