"""The judge: it foresees the words of an image, from the images and captions of training tasks."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.base.progress import tracked
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import on_white
from metatrain.data.tasks.class_reader import ClassReader
from metatrain.generators.conditions.sections import WordsConfig
from metatrain.generators.conditions.words import opened_words
from metatrain.metrics.space import FeatureSpace

# Of 0.01, 0.1, 1 and 10, the one with which most captions of emoji of the split val are among the
# five that fit best.
_RIDGE = 0.1
# Side of the picture that colours are compared in.
_COLOURS = 8


class Judge:
    """A kernel ridge regression from the features of an image to the mean vector of its words.

    The training tasks have few captions; a network of images and captions, trained as CLIP is,
    found fewer of unseen emoji.

    Args:
        store: the data set; only its training tasks are read.
        reader: reads images with their captions.
        condition: the name of the captions' condition.
        words: the table of word vectors.
        spaces: feature spaces, beside which coarse colours count as much.

    Raises:
        UserError: when the data or the table cannot be read.
    """

    def __init__(
        self,
        store: EpisodeStore,
        reader: ClassReader,
        condition: str,
        words: WordsConfig,
        spaces: Sequence[FeatureSpace],
    ) -> None:
        _, self._vectors = opened_words(words.pinned().model_dump_json())
        self._spaces = spaces
        parts, captions = [], []
        tasks = store.tasks("train")
        for task in tracked("reading captions", tasks, len(tasks)):
            examples = reader.examples(task.name, [(task, index) for index in range(task.count)])
            parts.append(self._parts(examples.target))
            captions += examples.given[condition]
        whole = [torch.cat(part) for part in zip(*parts, strict=True)]
        self._moments = [(part.mean(0), part.std(0) + 1e-3) for part in whole]
        self._known = self._scaled(whole)
        targets = self._of_words(captions)
        self._centre = targets.mean(0)
        kernel = _kernel(self._known, self._known).double() + _RIDGE * torch.eye(len(targets))
        targets = F.normalize(targets - self._centre, dim=1).double()
        self._weights = torch.linalg.solve(kernel, targets).float()

    def fit(self, images: Tensor, captions: Sequence[str]) -> Tensor:
        """Return how well each caption fits each image, [..., L] of images [..., C, H, W]."""
        features = self._scaled(self._parts(images.flatten(0, -4)))
        foreseen = F.normalize(_kernel(features, self._known) @ self._weights, dim=1)
        words = F.normalize(self._of_words(captions) - self._centre, dim=1)
        return (foreseen @ words.T).unflatten(0, images.shape[:-3])

    def _parts(self, images: Tensor) -> list[Tensor]:
        colours = F.adaptive_avg_pool2d(on_white(images), _COLOURS).flatten(1)
        return [*(space.features(images) for space in self._spaces), colours]

    def _scaled(self, parts: Sequence[Tensor]) -> Tensor:
        """Scale features so that each space counts as much."""
        pairs = zip(parts, self._moments, strict=True)
        return torch.cat([(p - m) / s / p.shape[1] ** 0.5 for p, (m, s) in pairs], dim=1)

    def _of_words(self, captions: Sequence[str]) -> Tensor:
        return torch.stack([self._mean_vector(caption) for caption in captions])

    def _mean_vector(self, caption: str) -> Tensor:
        vectors = self._vectors(caption)
        return F.normalize(vectors, dim=1).sum(0) / max(1, len(vectors))


def _kernel(x: Tensor, y: Tensor) -> Tensor:
    """Compute the Gaussian kernel exp(-|x - y|^2 / 2), [N, M] of [N, D] and [M, D]."""
    return (-torch.cdist(x, y).square() / 2).exp()
