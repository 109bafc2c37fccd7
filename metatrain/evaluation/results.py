"""The files of an evaluation: its numbers as JSON, and the resamples that paired tests need.

The JSON file has everything that is needed to interpret its numbers. With the resampled scores
beside it, any two evaluations on the same episodes can be compared later.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from metatrain.base.errors import MissingStepError
from metatrain.evaluation.scores.baselines import COPY, REAL
from metatrain.evaluation.scores.expectation_quality import ExpectationQuality
from metatrain.evaluation.scores.measure import SpaceScores
from metatrain.evaluation.scores.membership import Membership
from metatrain.evaluation.scores.near_copies import NearCopyPicture
from metatrain.evaluation.scores.statistics import Estimate, Score
from metatrain.metrics.diversity import collapse
from metatrain.metrics.metric import METRICS
from metatrain.storage.files import read_file, write_file

FORMAT = "metatrain-evaluation-3"
# The metrics of every system in every feature space.
_ALWAYS = {"kid", "own_task"}
_NUMBERS, _SCORES = "evaluation.json", "scores.safetensors"


@dataclass(frozen=True, kw_only=True)
class EpisodeSet:
    """The episodes of an evaluation.

    Attributes:
        benchmark: name of the benchmark.
        sha256: hash of the whole list of episodes.
        published: whether metatrain publishes that list.
        data: sha256 of the data set's manifest.
        split: split of the tasks.
        shots: support images of an episode (K).
        images: samples of an episode, and as many reference and held-out images.
        seeds: seeds that selected images of every task.
        tasks: names of the tasks, in the order of the list.
        listed: numbers of tasks and seeds of the whole list.
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
    """The name of a feature space, and the sha256 of the file that defines it."""

    name: str
    sha256: str


@dataclass(frozen=True)
class CurvePoint:
    """The scores of a system after some inner steps, and the seconds a task that those take."""

    scores: dict[str, Estimate]
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Result:
    """The scores of one system.

    Attributes:
        name: name of the system.
        about: a description in a few words.
        sha256: hash of its model; '' if it has none.
        scores: scores by feature space and metric.
        own_task: own-task share of each task, in the order of the tasks.
        task_kid: KID of each task by itself, from few images.
        curve: points by number of inner steps, for a system that adapts.
    """

    name: str
    about: str
    sha256: str
    scores: dict[str, dict[str, Estimate]]
    own_task: list[float]
    task_kid: list[float]
    curve: dict[int, CurvePoint]


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The evaluation of one system, with the baselines.

    Attributes:
        episodes: the episodes.
        spaces: the feature spaces, the one that has all metrics first.
        floor: Frechet distance of two samples of one Gaussian, each as large as a system's.
        system: name of the evaluated system.
        results: results by name, of the system and the baselines, in the order of a table.
        outer_steps: outer steps of the system's model; 0 if it has none.
        missing: a sentence for each part that is missing.
        near_copies: the samples nearest to their support, nearest first.
        expectation_quality: quality of the model's expectations; None if it had none.
        membership: success of membership inference; None without a model, or in an older file.
        format: format of the file.
    """

    episodes: EpisodeSet
    spaces: list[Space]
    floor: float
    system: str
    results: dict[str, Result]
    outer_steps: int
    missing: list[str]
    near_copies: list[NearCopyPicture]
    expectation_quality: ExpectationQuality | None = None
    membership: Membership | None = None
    format: str = FORMAT

    @property
    def result(self) -> Result:
        """The result of the evaluated system."""
        return self.results[self.system]

    @property
    def collapse(self) -> str | None:
        """A sentence if the system's samples of a task are much more alike than real images."""
        space = self.spaces[0].name
        ours, real = (self.results[name].scores[space] for name in (self.system, REAL))
        return collapse(ours["diversity"].value, real["diversity"].value)


_ADAPTER = TypeAdapter(Evaluation)


def write_evaluation(evaluation: Evaluation, scores: dict[str, SpaceScores], folder: str) -> None:
    """Write the numbers, and each system's scores with their resamples, under `folder`."""
    tensors = {
        "/".join((part, space, metric, system)): tensor.clone()  # safetensors shares no memory
        for system, spaces in scores.items()
        for space, metrics in spaces.items()
        for metric, score in metrics.items()
        for part, tensor in (("resampled", score.resampled), ("influence", score.influence))
    }
    write_file(f"{folder}/{_SCORES}", save(tensors))
    values = _ADAPTER.dump_python(evaluation)
    # Last, because this file marks the evaluation as complete.
    write_file(f"{folder}/{_NUMBERS}", json.dumps(values, indent=1).encode())


def read_evaluation(folder: str) -> Evaluation:
    """Read the numbers under `folder`.

    Raises:
        MissingError: when there are none.
        MissingStepError: when they are damaged, or of another version.
    """
    url = f"{folder}/{_NUMBERS}"
    data = read_file(url)
    try:
        values = json.loads(data)
        if values.get("format") == FORMAT:
            evaluation = _ADAPTER.validate_python(values)
            _check(evaluation)
            return evaluation
    except (ValidationError, ValueError, AttributeError, RecursionError) as error:
        raise _evaluate_again(f"{url} is damaged") from error
    raise _evaluate_again(f"{url} is of another version of metatrain")


def _check(evaluation: Evaluation) -> None:
    """Compare the parts of an evaluation with each other: whoever reads one relies on the rest.

    Raises:
        ValueError: when they contradict each other.
    """
    tasks, spaces = len(evaluation.episodes.tasks), {space.name for space in evaluation.spaces}
    systems = {evaluation.system, COPY, REAL}
    if not tasks or not spaces or not systems <= evaluation.results.keys():
        raise ValueError("it has no tasks, no feature space, or no result of a system")
    for result in evaluation.results.values():
        scores = [*result.scores.values(), *(point.scores for point in result.curve.values())]
        if not {len(result.own_task), len(result.task_kid)} <= {tasks}:
            raise ValueError("a result has not a score for each task")
        if result.scores.keys() != spaces or not all(
            _ALWAYS <= point.keys() <= METRICS.keys() for point in scores
        ):
            raise ValueError("a result has the scores of another space or metric")
    quality = evaluation.expectation_quality
    if quality and len(quality.expected) != tasks:
        raise ValueError("it has not an expectation for each task")


def read_scores(folder: str, evaluation: Evaluation, system: str) -> SpaceScores:
    """Read the scores of `system` with their resamples, as `write_evaluation` wrote them.

    Raises:
        MissingError: when they are missing.
        MissingStepError: when they are damaged.
    """
    url = f"{folder}/{_SCORES}"
    try:
        tensors = load(read_file(url))
        return {
            space: {
                metric: Score(
                    estimate.value,
                    tensors["/".join(("resampled", space, metric, system))],
                    tensors["/".join(("influence", space, metric, system))],
                )
                for metric, estimate in metrics.items()
            }
            for space, metrics in evaluation.results[system].scores.items()
        }
    except (SafetensorError, KeyError) as error:
        raise _evaluate_again(f"{url} is damaged") from error


def _evaluate_again(fault: str) -> MissingStepError:
    return MissingStepError(f"{fault}; evaluate the run again.", step="evaluate")


def estimates(scores: Mapping[str, Score]) -> dict[str, Estimate]:
    """Return the estimates by metric; the interval of a share is cut to [0, 1]."""
    return {metric: _bounded(metric, score.estimate) for metric, score in scores.items()}


def _bounded(metric: str, estimate: Estimate) -> Estimate:
    if not METRICS[metric].is_share:
        return estimate
    return Estimate(estimate.value, max(estimate.low, 0.0), min(estimate.high, 1.0))
