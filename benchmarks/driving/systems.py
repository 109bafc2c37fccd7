"""The rare signs: the photos of them that a classifier is given, those it is asked, and more."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from typing_extensions import override

import metatrain
from benchmarks.few_real import Bench, Division, learned
from metatrain.base.errors import UserError
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.packing.names import is_image_name
from metatrain.data.pictures import from_uint8
from metatrain.data.tasks.augmented import Augmentation
from metatrain.model.model import Model

# A sign that is mirrored is another.
STANDARD = Augmentation(flip=False, colour=0.2, turn=10.0, scale=0.2, shift=0.1)
SIDE = 32
# Photos of a rare class that nobody is given, at least: fewer say little of it.
_LEAST = 7


def read_signs(folder: Path, classes: int) -> dict[str, Tensor]:
    """Read the photos of every class, uint8 [N, 3, 32, 32].

    Args:
        folder: has a folder for each class, with one photo of each track.
        classes: at least so many must be there.

    Raises:
        UserError: when there are fewer, or there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; give one with a folder for each class.")
    signs = {}
    for place in sorted(path for path in folder.iterdir() if path.is_dir()):
        photos = [path for path in sorted(place.iterdir()) if is_image_name(path.name)]
        if photos:
            signs[place.name] = torch.stack([_photo(path) for path in photos])
    if len(signs) < classes:
        raise UserError(
            f"{folder} has {len(signs)} folders of photos; give one for each of {classes} classes."
        )
    return signs


def _photo(path: Path) -> Tensor:
    """Read a photo; a black margin, which some copies of GTSRB have, is no part of the sign."""
    with Image.open(path) as image:
        photo = image.convert("RGB")
    content = photo.crop(photo.getbbox())
    pixels = content.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Signs(Bench):
    """The signs, of which a task is a rare class.

    Attributes:
        signs: photos by class.
        rare: number of the classes that are held out: those with the fewest photos, of enough.
    """

    signs: Mapping[str, Tensor]
    rare: int

    @cached_property
    def held_out(self) -> Sequence[str]:
        """The rare classes."""
        enough = [n for n, photos in self.signs.items() if len(photos) >= self.shots + _LEAST]
        return sorted(sorted(enough, key=lambda name: len(self.signs[name]))[: self.rare])

    def measure(self, system: str, seed: int) -> dict[str, float]:
        """Return the accuracy on the photos of each rare class."""
        division = self.divided(seed)
        given = division.given.items()
        return learned(
            system,
            division,
            lambda: {name: self.more(f"{seed}-{name}", photos, seed) for name, photos in given},
            steps=self.classifier_steps,
            seed=seed,
            augmentation=STANDARD,
        )

    def rows(self) -> list[tuple[Tensor, Tensor]]:
        """Return for each rare class the photos given first, and those generated of them."""
        given = self.divided(0).given
        return [(photos, self.more(f"0-{name}", photos, 0)) for name, photos in given.items()]

    def divided(self, seed: int) -> Division:
        """Divide the photos of every rare class into those given and the others."""
        given, rest = {}, {}
        for number, name in enumerate(self.held_out):
            photos = from_uint8(self.signs[name])
            order = np.random.default_rng([seed, number]).permutation(len(photos))
            given[name] = photos[order[: self.shots]]
            rest[name] = photos[order[self.shots :]]
        return Division(given, rest)

    @override
    def train_model(self) -> Model:
        if not (self.out / "data" / MANIFEST).exists():
            common = {n: photos for n, photos in self.signs.items() if n not in self.held_out}
            pairs = [
                (name, photo.permute(1, 2, 0).numpy())
                for name, photos in common.items()
                for photo in photos
            ]
            metatrain.pack({"train": pairs}, self.out / "data")
        return self.trained_recipe("driving", f"data.shots={self.shots}")
