"""Blood smears of patients whom no model saw, and the cells of them that a detector is given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from typing_extensions import override

import metatrain
from benchmarks.classifier import accuracy, trained
from benchmarks.few_real import SYSTEMS, Bench, Division, balanced, learned
from benchmarks.medicine.cells import SIDE, read_splits
from metatrain.base.errors import UserError
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.pictures import from_uint8
from metatrain.data.tasks.augmented import Augmentation
from metatrain.model.model import Model

# The rival that needs no image of the new smear.
ELSEWHERE = "cells of other smears, augmented"
ALL = (*SYSTEMS, ELSEWHERE)
RED, OTHER = "red cell", "other"
# A cell has no upright side.
STANDARD = Augmentation(flip=True, colour=0.2, turn=180.0, scale=0.2, shift=0.1)
# Windows that are no red cell to learn from: they cost nobody's time.
_OTHERS = 20
# Cells of a smear that nobody is given, at least.
_LEAST = 2


@dataclass(frozen=True, kw_only=True)
class Smears(Bench):
    """The smears, each a task, of which red cells are given.

    Attributes:
        cells: the folder that `cells` beside this file makes.
        smears: at most so many smears of the test, those of most cells.
    """

    cells: Path
    smears: int

    @cached_property
    def held_out(self) -> Sequence[str]:
        """The smears of the test with enough cells.

        Raises:
            UserError: when there are none.
        """
        counts = {name: len(self._read("cells", name)) for name in self._splits["test"]}
        enough = [
            name
            for name in counts
            if counts[name] >= self.shots + _LEAST and len(self._read("others", name)) > _OTHERS
        ]
        if not enough:
            raise UserError(
                f"no smear of the test in {self.cells} has {self.shots + _LEAST} red cells and "
                f"{_OTHERS + 1} other windows; lower --shots."
            )
        return sorted(enough, key=lambda name: -counts[name])[: self.smears]

    def measure(self, system: str, seed: int) -> dict[str, float]:
        """Return for each smear the mean of the accuracies on red cells and on other windows."""
        elsewhere = self._elsewhere(seed) if system == ELSEWHERE else None
        return {
            smear: self._of_smear(smear, system, seed, number, elsewhere)
            for number, smear in enumerate(self.held_out)
        }

    def rows(self) -> list[tuple[Tensor, Tensor]]:
        """Return for each smear the cells given first, and those generated of them."""
        rows = []
        for number, smear in enumerate(self.held_out):
            given = self.divided(smear, 0, number).given[RED]
            rows.append((given, self.more(self._file(smear, 0), given, 0)))
        return rows

    def divided(self, smear: str, seed: int, number: int) -> Division:
        """Divide the windows of a smear into those given and the others."""
        given, rest = {}, {}
        for name, folder, count in ((RED, "cells", self.shots), (OTHER, "others", _OTHERS)):
            images = self._read(folder, smear)
            order = np.random.default_rng([seed, number]).permutation(len(images))
            given[name], rest[name] = images[order[:count]], images[order[count:]]
        return Division(given, rest)

    def _of_smear(
        self, smear: str, system: str, seed: int, number: int, elsewhere: nn.Module | None
    ) -> float:
        division = self.divided(smear, seed, number)
        if elsewhere:
            rest = enumerate(division.rest.values())
            parts = [
                accuracy(elsewhere, images, torch.full((len(images),), n)) for n, images in rest
            ]
            return sum(parts) / len(parts)
        scores = learned(
            system,
            division,
            lambda: {RED: self.more(self._file(smear, seed), division.given[RED], seed)},
            steps=self.classifier_steps,
            seed=seed,
            augmentation=STANDARD,
        )
        return sum(scores.values()) / len(scores)

    def _elsewhere(self, seed: int) -> nn.Module:
        """Train a detector on the smears that the model was trained on."""
        folders = ("cells", "others")
        parts = balanced(
            [torch.cat([self._read(f, name) for name in self._splits["train"]]) for f in folders]
        )
        labels = torch.repeat_interleave(torch.arange(2), torch.tensor([len(p) for p in parts]))
        return trained(
            torch.cat(parts),
            labels,
            classes=2,
            steps=self.classifier_steps,
            seed=seed,
            augmentation=STANDARD,
        )

    def _file(self, smear: str, seed: int) -> str:
        return f"{self.shots}-{seed}-{smear}"

    @override
    def train_model(self) -> Model:
        if not (self.out / "data" / MANIFEST).exists():
            metatrain.pack(
                self.cells / "cells.csv", self.out / "data", size=SIDE, task_column="patient"
            )
        return self.trained_recipe(
            "medicine", f"data.image_size={SIDE}", "data.channels=3", "data.queries=2"
        )

    @cached_property
    def _splits(self) -> Mapping[str, Sequence[str]]:
        return read_splits(self.cells)

    def _read(self, folder: str, smear: str) -> Tensor:
        """Read the windows [N, 3, 32, 32] of a smear in [-1, 1], of `cells` or `others`."""
        paths = (self.cells / folder / smear).glob("*.png")
        images = [np.asarray(Image.open(p)) for p in sorted(paths, key=lambda p: int(p.stem))]
        pixels = np.stack(images) if images else np.zeros((0, SIDE, SIDE, 3), np.uint8)
        return from_uint8(torch.from_numpy(pixels).permute(0, 3, 1, 2))
