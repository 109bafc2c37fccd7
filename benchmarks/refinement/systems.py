"""The systems that are compared: each gives the letters that a classifier learns from."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from torch import nn

import metatrain
from benchmarks.classifier import accuracy, trained
from benchmarks.refinement.letters import NAMES, Letters
from metatrain.config import Config, load_config
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.tasks.augmented import Augmentation
from metatrain.model.build import build_theta
from metatrain.model.model import Model

SYSTEMS = ("raw", "raw, augmented", "refined, one domain", "refined, meta-learned", "real labels")
# Letters are not mirrored, and have no colours.
STANDARD = Augmentation(flip=False, colour=0.0, turn=15.0, scale=0.2, shift=0.1)
_CONFIG = Path(__file__).parents[2] / "configs/refine.yaml"


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The letters and the budgets of all systems.

    Attributes:
        out: folder of the packed data and of the runs.
        simulated: rendered letters, with labels.
        training: letters of the persons to meta-train on.
        test: letters of the persons to read.
        shots: unlabelled letters of a person to adapt to; they are not read.
        classifier_steps: batches of a classifier.
        meta_steps: outer steps of the meta-learned refiner.
        alone_steps: steps of a refiner that starts from nothing.
    """

    out: Path
    simulated: Letters
    training: Mapping[str, Letters]
    test: Mapping[str, Letters]
    shots: int
    classifier_steps: int
    meta_steps: int
    alone_steps: int

    def measure(self, system: str, seed: int) -> dict[str, float]:
        """Return the accuracy on the letters of each test person."""
        if system.startswith("refined"):
            model = self._model(system, seed)
            steps = self.alone_steps if "one" in system else None
            return {
                person: self._of_person(model, person, steps, seed, number)
                for number, person in enumerate(self.test)
            }
        letters = self._real() if system == "real labels" else self.simulated
        augmentation = STANDARD if system == "raw, augmented" else None
        network = self._classifier(letters, seed, augmentation)
        return {
            person: accuracy(network, *self._divided(person, seed, number)[1].tensors())
            for number, person in enumerate(self.test)
        }

    def _of_person(
        self, model: Model, person: str, steps: int | None, seed: int, number: int
    ) -> float:
        given, rest = self._divided(person, seed, number)
        photos = model.refine(
            list(self.simulated.images), like=list(given.images), steps=steps, seed=seed
        )
        images = np.stack([photo.pixels[..., 0] for photo in photos])
        letters = Letters(images, self.simulated.labels)
        return accuracy(self._classifier(letters, seed), *rest.tensors())

    def _classifier(
        self, letters: Letters, seed: int, augmentation: Augmentation | None = None
    ) -> nn.Module:
        return trained(
            *letters.tensors(),
            classes=len(NAMES),
            steps=self.classifier_steps,
            seed=seed,
            augmentation=augmentation,
        )

    def _divided(self, person: str, seed: int, number: int) -> tuple[Letters, Letters]:
        """Divide the letters of a person into those to adapt to and those to read."""
        letters = self.test[person]
        order = np.random.default_rng([seed, number]).permutation(len(letters.labels))
        given, rest = order[: self.shots], order[self.shots :]
        return (
            Letters(letters.images[given], letters.labels[given]),
            Letters(letters.images[rest], letters.labels[rest]),
        )

    def _real(self) -> Letters:
        images, labels = zip(*self.training.values(), strict=True)
        return Letters(np.concatenate(images), np.concatenate(labels))

    def _model(self, system: str, seed: int) -> Model:
        config = self._config(seed)
        if system == "refined, one domain":
            return Model(config, build_theta(config).copy(), 0)
        if not (self.out / "data" / MANIFEST).exists():
            named = {"simulated": self.simulated, **self.training}
            pairs = [
                (n, Image.fromarray(i)) for n, letters in named.items() for i in letters.images
            ]
            metatrain.pack(pairs, self.out / "data")
        return metatrain.train(config)

    def _config(self, seed: int) -> Config:
        places = [f"data.path={self.out}/data", f"run.dir={self.out}/runs"]
        budgets = [f"meta.steps={self.meta_steps}", f"data.shots={self.shots}"]
        return load_config(
            str(_CONFIG), [*places, *budgets, f"run.name=seed-{seed}", f"seed={seed}"]
        )
