"""Classifiers that learn from a few real images of each class, and from generated ones.

The question of a recipe whose images are training data: is a classifier that learns from generated
images better than one that learns from the few real ones alone, with a standard augmentation?
"""

import argparse
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor

import metatrain
from benchmarks.classifier import accuracy, trained
from benchmarks.conditions.table import share
from benchmarks.paired import Results
from metatrain.cli.recipe import RECIPES
from metatrain.config import load_config
from metatrain.data.pictures import from_uint8, pil_images, to_uint8
from metatrain.data.tasks.augmented import Augmentation
from metatrain.evaluation.scores.statistics import Score, mean_of, score
from metatrain.model.model import Model
from metatrain.storage.files import read_file, write_file

SYSTEMS = ("real", "real, augmented", "real and generated", "real and generated, augmented")

_SIDE, _GAP, _SHOWN = 48, 4, 10

Images = Mapping[str, Tensor]


# Those of `Bench` that a command takes as options.
BUDGETS = ("generated", "classifier_steps", "width", "meta_steps", "adapt_steps")


def add_budgets(parser: argparse.ArgumentParser, *, generated: int, classifier_steps: int) -> None:
    """Add an option for each of `BUDGETS`, two of them with the given defaults."""
    add = parser.add_argument
    text = f"images to generate of a task ({generated})"
    add("--generated", type=int, default=generated, help=text)
    add("--classifier-steps", type=int, default=classifier_steps)
    add("--width", type=int, default=32, help="of the model (32)")
    add("--meta-steps", type=int, default=2000, help="of the model (2000)")
    add("--adapt-steps", type=int, help="inner steps to a task (the recipe's)")


@dataclass(frozen=True, kw_only=True)
class Bench(ABC):
    """The budgets of all systems, and the model that generates.

    Attributes:
        out: folder of the packed data and of the run.
        shots: real images of a task to learn from.
        generated: images of a task to generate.
        classifier_steps: batches of a classifier.
        width: the model's.
        meta_steps: outer steps of the model.
        adapt_steps: inner steps to a task; None for the recipe's.
    """

    out: Path
    shots: int
    generated: int
    classifier_steps: int
    width: int
    meta_steps: int
    adapt_steps: int | None = None

    @abstractmethod
    def train_model(self) -> Model:
        """Pack the tasks that are not held out, and train the recipe's model on them, once."""

    @cached_property
    def _model(self) -> Model:
        return self.train_model()

    def more(self, name: str, given: Tensor, seed: int) -> Tensor:
        """Generate images [generated, C, S, S] in [-1, 1] like those given.

        All systems of a seed share them, in a file of this name.
        """

        def sampled() -> Tensor:
            adapted = self._model.adapt(given, steps=self.adapt_steps, seed=seed)
            return adapted.sample(self.generated, seed=seed).cpu()

        return kept(self.out / "generated" / f"{name}.safetensors", sampled)

    def trained_recipe(self, name: str, *settings: str) -> Model:
        """Train a recipe's model on the data packed at `out`/data, once, and return it."""
        budgets = [f"generator.width={self.width}", f"meta.steps={self.meta_steps}"]
        places = [f"data.path={self.out}/data", f"run.dir={self.out}/runs", "run.name=model"]
        config = load_config(str(RECIPES / name / f"{name}.yaml"), [*places, *budgets, *settings])
        return metatrain.train(config)


class Division(NamedTuple):
    """Images [N, C, S, S] in [-1, 1] of each class: those to learn from, and the others."""

    given: Images
    rest: Images


def learned(
    system: str,
    division: Division,
    generated: Callable[[], Images],
    *,
    steps: int,
    seed: int,
    augmentation: Augmentation,
) -> dict[str, float]:
    """Train a classifier as a system does, and return its accuracy on the rest of each class.

    Args:
        system: one of `SYSTEMS`.
        division: the real images.
        generated: makes images of some of the classes.
        steps: batches of the classifier.
        seed: of the classifier.
        augmentation: that of the systems with one.
    """
    parts = {name: [images] for name, images in division.given.items()}
    for name, images in (generated() if "generated" in system else {}).items():
        parts[name].append(images)
    # Each class has the same weight, and in it the real images as much as the generated ones.
    rows = balanced([torch.cat(balanced(images)) for images in parts.values()])
    sizes = torch.tensor([len(row) for row in rows])
    network = trained(
        torch.cat(rows),
        torch.repeat_interleave(torch.arange(len(rows)), sizes),
        classes=len(rows),
        steps=steps,
        seed=seed,
        augmentation=augmentation if system.endswith("augmented") else None,
    )
    return {
        name: accuracy(network, division.rest[name], torch.full((len(division.rest[name]),), label))
        for label, name in enumerate(parts)
    }


def balanced(parts: Sequence[Tensor]) -> list[Tensor]:
    """Repeat the smaller parts until all have about the size of the largest."""
    most = max(len(part) for part in parts)
    return [part.repeat(max(1, round(most / len(part))), 1, 1, 1) for part in parts]


def kept(path: Path, make: Callable[[], Tensor]) -> Tensor:
    """Return the images of a file in [-1, 1]; make them where there is none."""
    if not path.exists():
        write_file(str(path), save({"images": to_uint8(make())}))
    return from_uint8(load(read_file(str(path)))["images"])


def table(results: Results) -> str:
    """Format accuracies with their intervals over tasks, and the differences to the first two.

    The score of a task is the mean over the seeds, and all systems have the same tasks.
    """
    scores = {system: _score(seeds) for system, seeds in results.items()}
    bases = list(scores)[:2]
    lines = [
        f"| learned from | accuracy | {' | '.join(f'minus {base}' for base in bases)} |",
        "|---|--:|--:|--:|",
    ]
    for system, one in scores.items():
        differences = [
            "" if system == base else share(one.minus(scores[base]), "+") for base in bases
        ]
        lines.append(f"| {' | '.join([system, share(one.estimate), *differences])} |")
    return "\n".join(lines)


def picture(rows: Sequence[tuple[Tensor, Tensor]], path: Path) -> None:
    """Draw a row a task: the images given, and the first of those generated."""
    given = max(len(left) for left, _ in rows)
    width = (given + _SHOWN) * (_SIDE + _GAP) + 4 * _GAP
    sheet = Image.new("RGB", (width, len(rows) * (_SIDE + _GAP)), "white")
    for number, (left, right) in enumerate(rows):
        top = number * (_SIDE + _GAP)
        for start, images in ((0, left), (given * (_SIDE + _GAP) + 4 * _GAP, right[:_SHOWN])):
            for place, image in enumerate(pil_images(images)):
                large = image.convert("RGB").resize((_SIDE, _SIDE), Image.Resampling.BICUBIC)
                sheet.paste(large, (start + place * (_SIDE + _GAP), top))
    sheet.quantize().save(path, optimize=True)  # generated noise would fill half a megabyte


def _score(seeds: list[dict[str, float]]) -> Score:
    tasks = torch.tensor([list(one.values()) for one in seeds], dtype=torch.float64).mean(dim=0)
    return score(mean_of(tasks), len(tasks))
