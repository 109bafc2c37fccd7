"""Made domains: bars, black on white where they are simulated, and in greys of each domain."""

import numpy as np
import pytest
from PIL import Image

from metatrain.config import load_config
from metatrain.data.packing.pack import pack

SMALL = (
    *("data.image_size=8", "data.channels=1", "data.shots=2", "data.queries=2", "meta.batch=3"),
    *("data.tasks.name=domains", "data.tasks.variants=2", "generator.name=refiner"),
    *("generator.width=8", "objective.name=refine", "objective.replay=8"),
    *("inner.steps=2", "inner.lr=0.01", "meta.steps=4", "meta.warmup=0", "meta.lr=0.01"),
)


def bar(number, dark=0, light=255):
    """An image [8, 8] of uint8 with a bar, of which no two numbers below 25 have the same."""
    image = np.full((8, 8), light, np.uint8)
    image[number // 5 : number // 5 + 4, 1 + number % 5 : 3 + number % 5] = dark
    return image


def write_bars(folder, count, **greys):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(bar(number, **greys)).save(folder / f"{number}.png")


def greys_of(domain):
    return {"dark": 40 + 10 * domain, "light": 180 + 5 * domain}


@pytest.fixture(scope="session")
def domains(tmp_path_factory):
    """A packed data set of 6 domains and of simulated images."""
    folder = tmp_path_factory.mktemp("domains")
    write_bars(folder / "images/simulated", 20)
    for domain in range(6):
        write_bars(folder / f"images/d{domain}", 8, **greys_of(domain))
    pack(folder / "images", folder / "packed")
    return folder / "packed"


def configuration(data, *changes):
    """A configuration of refinement as small as it gets."""
    return load_config(None, [*SMALL, f"data.path={data}", *changes])
