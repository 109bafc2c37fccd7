"""What an evaluation leaves behind: numbers as JSON, and what paired tests need of them.

The file of an evaluation says all that one must know to read its numbers; the resampled scores
beside it let any two evaluations on the same episodes be compared later.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from metatrain.base.errors import UserError
from metatrain.evaluation.scores.expectation_quality import Foresight
from metatrain.evaluation.scores.measure import Scores
from metatrain.evaluation.scores.near_copies import Offender
from metatrain.evaluation.scores.statistics import Estimate, Score
from metatrain.metrics.registry import METRICS
from metatrain.storage.files import read_file, write_file

FORMAT = "metatrain-evaluation-2"
_NUMBERS, _RESAMPLED = "evaluation.json", "scores.safetensors"


@dataclass(frozen=True)
class Episodes:
    """What was evaluated on.

    Attributes:
        benchmark: its name.
        sha256: of the list of episodes, all of it.
        published: whether that list is one of those published with metatrain.
        data: sha256 of the data set's manifest.
        split: the tasks' split.
        shots: support images of each task (K).
        images: images drawn, reference images and held-out ones of each episode.
        seeds: how often each task's images were drawn anew.
        tasks: names of the tasks that were evaluated on, in the list's order.
        listed: how many tasks and seeds the whole list has.
    """

    benchmark: str
    sha256: str
    published: bool
    data: str
    split: str
    shots: int
    images: int
    seeds: int
    tasks: list[str]
    listed: tuple[int, int]


@dataclass(frozen=True)
class Space:
    """A feature space: its name, and the sha256 of the file that defines it."""

    name: str
    sha256: str


@dataclass(frozen=True)
class Moment:
    """A system after a number of inner steps: its scores, and seconds a task until there."""

    scores: dict[str, Estimate]
    seconds: float


@dataclass(frozen=True)
class Result:
    """What one system got.

    Attributes:
        name: the system.
        about: what it is, in a few words.
        sha256: of its model; '' where it has none.
        scores: by feature space and metric.
        own_task: each task's own-task share, in the order of the tasks.
        task_kid: each task's KID by itself, from few images.
        curve: by number of inner steps, for what adapts.
    """

    name: str
    about: str
    sha256: str
    scores: dict[str, dict[str, Estimate]]
    own_task: list[float]
    task_kid: list[float]
    curve: dict[int, Moment]


@dataclass(frozen=True)
class Evaluation:
    """One system on one list of episodes, with the baselines.

    Attributes:
        episodes: what was evaluated on.
        spaces: the feature spaces, the one that has all metrics first.
        floor: the Frechet distance of two samples of one Gaussian, each of a system's size.
        system: the name of the system that this is about.
        results: by name, of the baselines and the system, in the order of a table.
        outer_steps: outer steps behind the system's model; 0 where it has none.
        missing: a sentence for everything that could not be had.
        offenders: the images of the system that are nearest to their support, nearest first.
        foresight: how good its expectations were; None where it had none.
        format: of this file.
    """

    episodes: Episodes
    spaces: list[Space]
    floor: float
    system: str
    results: dict[str, Result]
    outer_steps: int
    missing: list[str]
    offenders: list[Offender]
    foresight: Foresight | None = None
    format: str = FORMAT

    @property
    def result(self) -> Result:
        """That of the system itself."""
        return self.results[self.system]


def write_evaluation(evaluation: Evaluation, scores: dict[str, Scores], folder: str) -> None:
    """Write the numbers, and the resampled scores of each system, under `folder`."""
    resampled = {
        "/".join((space, metric, system)): score.resampled.clone()  # none may be shared
        for system, spaces in scores.items()
        for space, metrics in spaces.items()
        for metric, score in metrics.items()
    }
    write_file(f"{folder}/{_RESAMPLED}", save(resampled))
    # Last, since it is what says that the evaluation is complete.
    write_file(f"{folder}/{_NUMBERS}", json.dumps(asdict(evaluation), indent=1).encode())


def read_evaluation(folder: str) -> Evaluation:
    """The numbers under `folder`.

    Raises:
        MissingError: when there are none.
        UserError: when they are damaged, or of another version.
    """
    url = f"{folder}/{_NUMBERS}"
    try:
        values = json.loads(read_file(url))
        if values.get("format") == FORMAT:
            return TypeAdapter(Evaluation).validate_python(values)
    except (ValidationError, ValueError, AttributeError) as error:
        raise UserError(f"{url} is damaged; run `metatrain evaluate` again.") from error
    raise UserError(f"{url} is of an older metatrain; run `metatrain evaluate` again.")


def read_scores(folder: str, evaluation: Evaluation, system: str) -> Scores:
    """The scores of `system` with their resamples, as `write_evaluation` left them.

    Raises:
        UserError: when they are missing or damaged.
    """
    url = f"{folder}/{_RESAMPLED}"
    try:
        tensors = load(read_file(url))
        return {
            space: {
                metric: Score(estimate.value, tensors["/".join((space, metric, system))])
                for metric, estimate in metrics.items()
            }
            for space, metrics in evaluation.results[system].scores.items()
        }
    except (SafetensorError, KeyError) as error:
        raise UserError(f"{url} is damaged; run `metatrain evaluate` again.") from error


def estimates(scores: Mapping[str, Score]) -> dict[str, Estimate]:
    """Scores by metric without resamples; no interval of a share reaches beyond what a share is."""
    return {metric: _within_bounds(metric, score.estimate) for metric, score in scores.items()}


def _within_bounds(metric: str, found: Estimate) -> Estimate:
    if not METRICS[metric].is_share:
        return found
    return Estimate(found.value, max(found.low, 0.0), min(found.high, 1.0))
