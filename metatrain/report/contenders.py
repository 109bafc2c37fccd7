"""Runs that a page compares: what each is called and drawn as, and whether they can be compared."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from markupsafe import Markup

from metatrain.base.errors import UserError
from metatrain.evaluation.results import Evaluation, Result
from metatrain.report.charts import SHAPES, sample
from metatrain.report.evaluated import EvaluatedRun, read_run

# Colours in the style sheet, `--run-0` and on; with the shapes, no two runs look the same.
COLOURS = 6
# More are not to be told apart on a page or in a picture.
MOST = 12


@dataclass(frozen=True)
class Contender:
    """One of the runs of a comparison.

    Attributes:
        name: what the page calls it, unlike all others.
        number: its place among them.
        run: what is known of it.
    """

    name: str
    number: int
    run: EvaluatedRun

    @property
    def evaluation(self) -> Evaluation:
        """What it got, with the baselines."""
        return self.run.evaluation

    @property
    def result(self) -> Result:
        """What it got itself."""
        return self.run.evaluation.result

    @property
    def style(self) -> str:
        """The CSS classes of its curves."""
        return f"run run-{self.number % COLOURS}"

    @property
    def shape(self) -> int:
        """That of the dots on its curves."""
        return self.number % SHAPES

    @property
    def key(self) -> Markup:
        """A piece of its curve, to be found by."""
        return sample(self.style, self.shape)


def read_contenders(urls: Sequence[str]) -> list[Contender]:
    """The runs at `urls`, which can be compared.

    Raises:
        UserError: when one is named twice, cannot be read, or was evaluated otherwise than another;
            or there are too many.
    """
    urls = [url.rstrip("/") for url in urls]
    twice = next((url for url in urls if urls.count(url) > 1), None)
    if twice is not None:
        raise UserError(f"{twice} is named twice; name every run once.")
    if len(urls) > MOST:
        raise UserError(
            f"{len(urls)} runs are too many for one page, which tells {MOST} apart; name fewer."
        )
    runs = [read_run(url) for url in urls]
    for other in runs[1:]:
        _check_comparable(runs[0], other, urls)
    return [
        Contender(name, i, run)
        for i, (name, run) in enumerate(zip(_names(runs), runs, strict=True))
    ]


def _names(runs: Sequence[EvaluatedRun]) -> list[str]:
    """The runs' own names; where two have the same, those of their folders, or their URLs."""
    urls = [run.url for run in runs]
    own, folders = [run.model.config.run.name for run in runs], [u.rpartition("/")[2] for u in urls]
    return next(names for names in (own, folders, urls) if len(set(names)) == len(names))


def _check_comparable(one: EvaluatedRun, other: EvaluatedRun, urls: Sequence[str]) -> None:
    """That both were scored on the same episodes and by the same network.

    Raises:
        UserError: when they were not; it says how they differ first.
    """
    for told, of in _CONDITIONS.items():
        ones, others = of(one), of(other)
        if ones != others:
            how = told.format(_brief(ones), _brief(others))
            raise UserError(
                f"{one.url} and {other.url} cannot be compared, since they {how}; "
                f"{_remedy(told, urls)}."
            )


def _remedy(told: str, urls: Sequence[str]) -> str:
    if told == _SIZE:
        return "choose runs that draw images of one size"
    return f"evaluate them together: `metatrain evaluate {' '.join(urls)}`"


def _brief(value: Any) -> str:
    """A list by its length, a sha256 by its beginning."""
    if isinstance(value, list):
        return str(len(value))
    return str(value)[:12] if len(str(value)) == 64 else str(value)


def _of_episodes(name: str, run: EvaluatedRun) -> Any:
    return getattr(run.evaluation.episodes, name)


def _size(run: EvaluatedRun) -> str:
    data = run.model.config.data
    return f"{data.image_size} pixels with {data.channels} channel{'s' * (data.channels > 1)}"


_SIZE = "draw {} and {}"

# What must be the same, from what explains most to what explains least, and how it is told.
_CONDITIONS: dict[str, Callable[[EvaluatedRun], Any]] = {
    _SIZE: _size,
    "were evaluated on two data sets (sha256 {} and {})": partial(_of_episodes, "data"),
    "were evaluated on the splits {} and {}": partial(_of_episodes, "split"),
    "were evaluated on two lists of episodes (sha256 {} and {})": partial(_of_episodes, "sha256"),
    "were given {} and {} images of a task": partial(_of_episodes, "shots"),
    "drew {} and {} images of an episode": partial(_of_episodes, "images"),
    "were evaluated with {} and {} seeds": partial(_of_episodes, "seeds"),
    "were evaluated on {} and {} tasks": partial(_of_episodes, "tasks"),
    "were scored in the spaces of two networks ({} and {})": lambda run: (
        run.evaluation.spaces[0].name
    ),
    "were scored by two metric networks (sha256 {} and {})": lambda run: (
        run.evaluation.spaces[0].sha256
    ),
}
