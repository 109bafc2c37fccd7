"""Runs that were trained and evaluated: all that a page shows of one."""

from collections.abc import Sequence
from dataclasses import dataclass

from metatrain.base.errors import MissingStepError
from metatrain.evaluation.protocol import UNADAPTED
from metatrain.evaluation.results import Evaluation, read_evaluation, read_scores
from metatrain.evaluation.scores.measure import SpaceScores
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.places import home_of, model_url
from metatrain.storage.files import MissingError, exists
from metatrain.training.checkpoint import CheckpointStore
from metatrain.training.state import Record


@dataclass(frozen=True)
class EvaluatedRun:
    """A run that was trained and evaluated.

    Attributes:
        url: its folder, see `home_of`.
        evaluation: its scores, with those of the baselines.
        model: its model file.
        history: the log of its training; empty if none was kept.
    """

    url: str
    evaluation: Evaluation
    model: Model
    history: list[Record]

    @property
    def folder(self) -> str:
        """The folder of its evaluation."""
        return f"{self.url}/evaluation"

    @property
    def seconds(self) -> float:
        """The time that the outer steps of its training took, in seconds."""
        return training_seconds(self.history)

    def images_seen(self, step: int) -> int:
        """Count the training images in the episodes of `step` outer steps, each image once."""
        config = self.model.config
        return step * config.meta.batch * (config.data.shots + config.data.queries)

    def scores(self, system: str) -> SpaceScores:
        """Read the scores of one of the systems of its evaluation, with their resamples."""
        return read_scores(self.folder, self.evaluation, system)


def read_run(url: str) -> EvaluatedRun:
    """Read the run at `url`, a path or any fsspec URL, or the name of an evaluated model.

    Raises:
        MissingStepError: when it has not been trained or evaluated.
        UserError: when it cannot be read.
    """
    file, url = model_url(url), home_of(url.rstrip("/"))
    try:
        evaluation = read_evaluation(f"{url}/evaluation")
    except MissingError as error:
        raise _missing_step(url, file) from error
    if not evaluation.result.curve or UNADAPTED not in evaluation.results:
        raise MissingStepError(
            f"{url}/evaluation is not of a model that adapts; evaluate the run again.",
            step="evaluate",
        )
    # Trusted, since nothing is built of it, and no place that it names is read.
    model = load_model(file, trust=True)
    return EvaluatedRun(url, evaluation, model, CheckpointStore(url).history())


def training_seconds(history: Sequence[Record]) -> float:
    """Return the time that the outer steps of a training took, in seconds."""
    previous = [0.0, *(record["step"] for record in history)]
    pairs = zip(history, previous, strict=False)
    return sum((record["step"] - step) * record["seconds"] for record, step in pairs)


def task_kind(evaluation: Evaluation) -> str:
    """Name the tasks of an evaluation: `training` or, on any other split, `unseen`."""
    return "training" if evaluation.episodes.split == "train" else "unseen"


def _missing_step(run: str, model: str) -> MissingStepError:
    if exists(model):
        sentence = f"{run} has not been evaluated; evaluate it first."
        return MissingStepError(sentence, step="evaluate")
    sentence = f"{run} has no trained model; train it first, then evaluate it."
    return MissingStepError(sentence, step="train")
