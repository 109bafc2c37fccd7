"""The runs of a comparison: their names, their looks, and whether they can be compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from metatrain.base.errors import UserError
from metatrain.evaluation.results import Evaluation, Result
from metatrain.report.charts import MARKERS, swatch
from metatrain.report.evaluated import EvaluatedRun, read_run

# Colours in the style sheet, `--run-0` and on; with the markers, no two runs look the same.
COLOURS = 6
# More runs cannot be told apart in a chart.
MAX_RUNS = 12


@dataclass(frozen=True)
class ComparedRun:
    """One of the runs of a comparison.

    Attributes:
        name: its name on the page, which no other run has.
        number: its place among the runs, from 0.
        evaluated: its model, its evaluation and its history.
    """

    name: str
    number: int
    evaluated: EvaluatedRun

    @property
    def evaluation(self) -> Evaluation:
        """Its scores, with those of the baselines."""
        return self.evaluated.evaluation

    @property
    def result(self) -> Result:
        """Its own scores."""
        return self.evaluated.evaluation.result

    @property
    def style(self) -> str:
        """The CSS classes of its curves."""
        return f"run run-{self.number % COLOURS}"

    @property
    def marker(self) -> int:
        """The number of the marker on its curves."""
        return self.number % MARKERS

    @property
    def swatch(self) -> Markup:
        """A short piece of its curve, which shows beside its name."""
        return swatch(self.style, self.marker)


def read_compared_runs(urls: Sequence[str]) -> list[ComparedRun]:
    """Read the runs at `urls`.

    Raises:
        UserError: when one is named twice, cannot be read, or was not evaluated as another one
            was; or there are too many.
    """
    urls = [url.rstrip("/") for url in urls]
    twice = next((url for url in urls if urls.count(url) > 1), None)
    if twice is not None:
        raise UserError(f"{twice} is named twice; name every run once.")
    if len(urls) > MAX_RUNS:
        raise UserError(
            f"{len(urls)} runs are too many for one page, which has room for {MAX_RUNS}; name "
            f"fewer."
        )
    runs = [read_run(url) for url in urls]
    for other in runs[1:]:
        _check_comparable(runs[0], other, urls)
    return [
        ComparedRun(name, i, run)
        for i, (name, run) in enumerate(zip(_names(runs), runs, strict=True))
    ]


def _names(runs: Sequence[EvaluatedRun]) -> list[str]:
    """Choose the runs' names or, if two are equal, those of their folders, or else their URLs."""
    urls = [run.url for run in runs]
    folders = [url.rpartition("/")[2] for url in urls]
    names = [run.model.config.run.name for run in runs]
    return next(unique for unique in (names, folders, urls) if len(set(unique)) == len(unique))


def _check_comparable(first: EvaluatedRun, other: EvaluatedRun, urls: Sequence[str]) -> None:
    """Check that two runs were scored on the same episodes and by the same network.

    Raises:
        UserError: when they were not, with the difference that explains most.
    """
    for sentence, condition in _CONDITIONS.items():
        values = condition(first), condition(other)
        if values[0] != values[1]:
            difference = sentence.format(*(_shorten(value) for value in values))
            raise UserError(
                f"{first.url} and {other.url} cannot be compared, since they {difference}; "
                f"{_remedy(sentence, urls)}."
            )


def _remedy(sentence: str, urls: Sequence[str]) -> str:
    if sentence == _SIZE:
        return "choose runs that generate images of one size"
    return f"evaluate them together: `metatrain evaluate {' '.join(urls)}`"


def _shorten(value: Any) -> str:
    """Write a list as its length, and a sha256 as its beginning."""
    if isinstance(value, list):
        return str(len(value))
    return str(value)[:12] if len(str(value)) == 64 else str(value)


def _of_episodes(name: str, run: EvaluatedRun) -> Any:
    return getattr(run.evaluation.episodes, name)


def _size(run: EvaluatedRun) -> str:
    data = run.model.config.data
    return f"{data.image_size} pixels with {data.channels} channel{'s' * (data.channels > 1)}"


_SIZE = "generate {} and {}"

# What must be equal, from what explains most to what explains least, by the words for a difference.
_CONDITIONS: dict[str, Callable[[EvaluatedRun], Any]] = {
    _SIZE: _size,
    "were evaluated on two data sets (sha256 {} and {})": partial(_of_episodes, "data"),
    "were evaluated on the splits {} and {}": partial(_of_episodes, "split"),
    "were evaluated on two lists of episodes (sha256 {} and {})": partial(_of_episodes, "sha256"),
    "adapted to {} and {} images of a task": partial(_of_episodes, "shots"),
    "generated {} and {} images of an episode": partial(_of_episodes, "images"),
    "were evaluated with {} and {} seeds": partial(_of_episodes, "seeds"),
    "were evaluated on {} and {} tasks": partial(_of_episodes, "tasks"),
    "were scored in the spaces of two networks ({} and {})": lambda run: (
        run.evaluation.spaces[0].name
    ),
    "were scored by two metric networks (sha256 {} and {})": lambda run: (
        run.evaluation.spaces[0].sha256
    ),
}
