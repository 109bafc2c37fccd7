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
from benchmarks.refinement.pen import redrawn
from metatrain.config import Config, load_config
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.tasks.augmented import Augmentation
from metatrain.model.build import build_theta
from metatrain.model.model import Model

SYSTEMS = (
    "raw",
    "raw, augmented",
    "hand-made, augmented",
    "refined, one domain",
    "refined, meta-learned",
    "refined, meta-learned, augmented",
    "real labels",
)
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
        augmentation = STANDARD if system.endswith("augmented") else None
        scores: dict[str, float] = {}
        network = None
        for number, person in enumerate(self.test):
            # What does not know the person is the same for all.
            if network is None or system.startswith("refined"):
                letters = self.letters(system, seed, person)
                network = self._classifier(letters, seed, augmentation)
            scores[person] = accuracy(network, *self._divided(person, seed, number)[1].tensors())
        return scores

    def letters(self, system: str, seed: int, person: str) -> Letters:
        """Return the letters that a system's classifier for `person` learns from."""
        if system == "real labels":
            return self._real()
        if system.startswith("hand-made"):
            return Letters(redrawn(self.simulated.images), self.simulated.labels)
        return self._refined(system, seed, person) if "refined" in system else self.simulated

    def _refined(self, system: str, seed: int, person: str) -> Letters:
        given, _ = self._divided(person, seed, list(self.test).index(person))
        photos = self._model(system, seed).refine(
            list(self.simulated.images),
            like=list(given.images),
            steps=self.alone_steps if "one domain" in system else None,
            seed=seed,
        )
        images = np.stack([photo.pixels[..., 0] for photo in photos])
        return Letters(images, self.simulated.labels)

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
