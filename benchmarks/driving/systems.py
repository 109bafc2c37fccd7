"""The systems that are compared: each gives the photos that a classifier learns from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

import metatrain
from benchmarks.classifier import accuracy, trained
from metatrain.base.errors import UserError
from metatrain.cli.recipe import RECIPES
from metatrain.config import load_config
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.packing.names import is_image_name
from metatrain.data.pictures import from_uint8
from metatrain.data.tasks.augmented import Augmentation
from metatrain.model.model import Model

SYSTEMS = ("real", "real, augmented", "real and generated", "real and generated, augmented")
# A sign that is mirrored is another.
STANDARD = Augmentation(flip=False, colour=0.2, turn=10.0, scale=0.2, shift=0.1)
SIDE = 32
# Photos of a class that nobody is given, at least.
_LEAST = 2


def read_signs(folder: Path, classes: int) -> dict[str, Tensor]:
    """Read the photos of every class, uint8 [N, 3, 32, 32].

    Args:
        folder: has a folder for each class, with one photo of each track.
        classes: at least so many must be there.

    Raises:
        UserError: when there are fewer.
    """
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
    with Image.open(path) as image:
        pixels = image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(pixels)).permute(2, 0, 1)


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The signs and the budgets of all systems.

    Attributes:
        out: folder of the packed data and of the runs.
        signs: photos by class.
        rare: number of the classes that are held out: those with the fewest photos, of enough.
        shots: photos of a rare class to learn from.
        generated: photos of a rare class to generate.
        classifier_steps: batches of a classifier.
        meta_steps: outer steps of the model.
        adapt_steps: inner steps to a rare class; None for the recipe's.
    """

    out: Path
    signs: Mapping[str, Tensor]
    rare: int
    shots: int
    generated: int
    classifier_steps: int
    meta_steps: int
    adapt_steps: int | None = None

    @cached_property
    def held_out(self) -> Sequence[str]:
        """The rare classes."""
        enough = [n for n, photos in self.signs.items() if len(photos) >= self.shots + _LEAST]
        return sorted(sorted(enough, key=lambda name: len(self.signs[name]))[: self.rare])

    def measure(self, system: str, seed: int) -> dict[str, float]:
        """Return the accuracy on the photos of each rare class."""
        given, rest = self.divided(seed)
        photos = {name: [images] for name, images in given.items()}
        if "generated" in system:
            model = self._model(seed)
            for name, images in given.items():
                adapted = model.adapt(images, steps=self.adapt_steps, seed=seed)
                photos[name].append(adapted.sample(self.generated, seed=seed).cpu())
        # Each class has the same weight, and the real photos as much as the generated ones.
        rows = [_balanced(parts) for parts in photos.values()]
        labels = torch.repeat_interleave(
            torch.arange(len(rows)), torch.tensor([len(row) for row in rows])
        )
        network = trained(
            torch.cat(rows),
            labels,
            classes=len(rows),
            steps=self.classifier_steps,
            seed=seed,
            augmentation=STANDARD if system.endswith("augmented") else None,
        )
        return {
            name: accuracy(network, images, torch.full((len(images),), number))
            for number, (name, images) in enumerate(rest.items())
        }

    def divided(self, seed: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Divide the photos of every rare class, in [-1, 1], into those given and the others."""
        given, rest = {}, {}
        for number, name in enumerate(self.held_out):
            photos = from_uint8(self.signs[name])
            order = np.random.default_rng([seed, number]).permutation(len(photos))
            given[name] = photos[order[: self.shots]]
            rest[name] = photos[order[self.shots :]]
        return given, rest

    def _model(self, seed: int) -> Model:
        if not (self.out / "data" / MANIFEST).exists():
            common = {n: photos for n, photos in self.signs.items() if n not in self.held_out}
            pairs = [
                (name, photo.permute(1, 2, 0).numpy())
                for name, photos in common.items()
                for photo in photos
            ]
            metatrain.pack({"train": pairs}, self.out / "data")
        places = [f"data.path={self.out}/data", f"run.dir={self.out}/runs"]
        budgets = [f"meta.steps={self.meta_steps}", f"data.shots={self.shots}"]
        names = [f"run.name=seed-{seed}", f"seed={seed}"]
        recipe = str(RECIPES / "driving" / "driving.yaml")
        return metatrain.train(load_config(recipe, [*places, *budgets, *names]))


def _balanced(parts: Sequence[Tensor]) -> Tensor:
    """Join images, the shorter parts repeated to the length of the longest."""
    longest = max(len(part) for part in parts)
    return torch.cat([part[torch.arange(longest) % len(part)] for part in parts])
