"""A run as its evaluation left it: all that a page tells."""

from dataclasses import dataclass

from metatrain.base.errors import UserError
from metatrain.evaluation.results import Evaluation, read_evaluation, read_scores
from metatrain.evaluation.scores.measure import SpaceScores
from metatrain.model.file import Model, load_model
from metatrain.storage.files import MissingError, asking, filesystem_of
from metatrain.training.checkpoint import CheckpointStore
from metatrain.training.state import Record


@dataclass(frozen=True)
class EvaluatedRun:
    """A run that was trained and evaluated.

    Attributes:
        url: its folder.
        evaluation: what it got.
        model: what training left.
        history: of its training; empty where none was kept.
    """

    url: str
    evaluation: Evaluation
    model: Model
    history: list[Record]

    @property
    def folder(self) -> str:
        """Where its evaluation lies."""
        return f"{self.url}/evaluation"

    @property
    def seconds(self) -> float:
        """How long the outer steps of its training took."""
        before = [0.0, *(record["step"] for record in self.history)]
        pairs = zip(self.history, before, strict=False)
        return sum((record["step"] - b) * record["seconds"] for record, b in pairs)

    def images_seen(self, step: int) -> int:
        """Training images behind `step` outer steps: those of every episode, once each."""
        config = self.model.config
        return step * config.meta.batch * (config.data.shots + config.data.queries)

    def scores(self, system: str) -> SpaceScores:
        """The scores of one of the systems of its evaluation, with their resamples."""
        return read_scores(self.folder, self.evaluation, system)


def read_run(url: str) -> EvaluatedRun:
    """The run at `url`, a path or any fsspec URL.

    Raises:
        UserError: when it has not been trained or evaluated, or cannot be read.
    """
    url = url.rstrip("/")
    try:
        evaluation = read_evaluation(f"{url}/evaluation")
    except MissingError as error:
        raise UserError(_what_is_missing(url)) from error
    return EvaluatedRun(url, evaluation, load_model(url), CheckpointStore(url).history())


def unseen(evaluation: Evaluation) -> str:
    """What tasks it was evaluated on: `unseen` ones, as a rule."""
    return "training" if evaluation.episodes.split == "train" else "unseen"


def _what_is_missing(run: str) -> str:
    fs, path = filesystem_of(f"{run}/model.safetensors")
    if asking(run, lambda: fs.exists(path)):
        return f"{run} has not been evaluated yet; run `metatrain evaluate {run}` first."
    return f"{run} has no trained model yet; run `metatrain train CONFIG` first, then evaluate it."
