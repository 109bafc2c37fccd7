"""Partitions of features by k-means, each in a random subspace of its own."""

import importlib
from typing import Any

import numpy as np
import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.progress import tracked

_STARTS = 3


class Partitions:
    """Several partitions by k-means.

    CACTUs (Hsu, Levine and Finn 2019, "Unsupervised Learning via Meta-Learning", section 3): the
    first one is of the features as they are. Each other one scales every feature at random, and so
    groups images by other traits.

    Args:
        features: [N, D], what the centres are found for.
        clusters: groups of a partition.
        count: partitions.
        seed: of scales and centres.

    Raises:
        UserError: when scikit-learn is not installed.
    """

    def __init__(self, features: Tensor, *, clusters: int, count: int, seed: int) -> None:
        kmeans, stream = _kmeans(), np.random.default_rng(seed)
        scales = [np.ones(features.shape[1]), *stream.random((count - 1, features.shape[1]))]
        self._fitted: list[tuple[np.ndarray, Any]] = []
        for number, scale in enumerate(tracked("finding groups", scales, count)):
            model = kmeans(clusters, n_init=_STARTS, random_state=seed + number)
            self._fitted.append((scale, model.fit(features.numpy() * scale)))

    def groups_of(self, features: Tensor) -> Tensor:
        """Return the nearest group of each row of features [N, D] by partition, [P, N] of int32."""
        groups = [model.predict(features.numpy() * scale) for scale, model in self._fitted]
        return torch.from_numpy(np.stack(groups).astype(np.int32))


def _kmeans() -> Any:
    try:
        return importlib.import_module("sklearn.cluster").MiniBatchKMeans
    except ImportError as error:
        raise UserError(
            "grouping needs scikit-learn, which is not installed; pip install "
            "'metatrain[unlabelled]'."
        ) from error
