"""Scores of models that adapted to the same tasks, and a folder that keeps what they sampled."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from safetensors.torch import load
from torch import Tensor

from metatrain.evaluation.scores.statistics import Score, mean_of, mean_of_pairs, score
from metatrain.metrics.kid import kid_of_pairs
from metatrain.metrics.retrieval import own_task_share
from metatrain.storage.files import write_file
from metatrain.storage.tensors import file_bytes, read_metadata


class Measured(NamedTuple):
    """Features [T, N, D] of samples by the sampler's name, and further numbers."""

    features: dict[str, Tensor]
    numbers: dict[str, float]


def kept(file: Path, measure: Callable[[], Measured]) -> Measured:
    """Measure, unless the file has the result already."""
    if not file.exists():
        result = measure()
        metadata = {key: repr(value) for key, value in result.numbers.items()}
        write_file(str(file), file_bytes(result.features, metadata))
    data = file.read_bytes()
    return Measured(load(data), {key: float(n) for key, n in read_metadata(data).items()})


class Scores(NamedTuple):
    """KID, and the share of samples that are nearest to their own task."""

    kid: Score
    own_task: Score

    def cells(self, first: "Scores") -> list[str]:
        """Format both, each with its difference to that of the first and the 95% interval."""
        kid, own = self.kid.minus(first.kid), self.own_task.minus(first.own_task)
        return [
            f"{self.kid.value:.4f}",
            f"{kid.value:+.4f} [{kid.low:+.4f}, {kid.high:+.4f}]",
            f"{self.own_task.value:.1%}",
            f"{100 * own.value:+.1f} [{100 * own.low:+.1f}, {100 * own.high:+.1f}]",
        ]

    def plain(self) -> dict[str, Any]:
        """Return both, with their intervals, as plain values."""
        return {"kid": vars(self.kid.estimate), "own_task": vars(self.own_task.estimate)}


def scores_of(samples: Tensor, real: Tensor) -> Scores:
    """Score features of samples [T, N, D] beside those of the tasks' own images [T, N, D]."""
    tasks = len(real)
    return Scores(
        score(mean_of_pairs(kid_of_pairs(samples, real)), tasks),
        score(mean_of(own_task_share(samples, real)), tasks),
    )
