"""A page of several runs: which is better, by how much, for sure or not, and how it looks."""

from collections.abc import Sequence
from dataclasses import dataclass

from metatrain import __version__
from metatrain.config import leaves, written
from metatrain.evaluation.results import Result, Space
from metatrain.evaluation.scores.baselines import REAL
from metatrain.metrics.metric import EVALUATION_METRICS, MAIN_METRICS
from metatrain.report.comparison_figures import adapting_figures, training_figures
from metatrain.report.contenders import Contender, read_contenders
from metatrain.report.evaluated import unseen
from metatrain.report.pairs import pairs_of, verdict
from metatrain.report.panels import Comparison, displayed_in_a_row, read_comparisons
from metatrain.report.tasks import contested, extremes, fixed
from metatrain.report.validated import read_courses
from metatrain.report.writing import template
from metatrain.storage.files import write_file

# Tasks that are shown whatever they came to, and at most of each remarkable kind.
_FIXED, _REMARKABLE = 6, 3
# So many strips of each kind are enough to look at, however many runs draw one of each task.
_STRIPS = 12

# Keys of the configuration that say where a run is, and not what.
_PLACES = ("run.name", "run.dir")


def write_comparison(runs: Sequence[str], out: str | None = None) -> str:
    """Write the page that compares evaluated runs; returns where it lies.

    The page is one file that needs nothing else: no network, no script.

    Args:
        runs: the runs' folders, paths or any fsspec URLs.
        out: the page's file; by default `report/comparison.html` of the first run.

    Raises:
        UserError: when a run cannot be read, or the runs cannot be compared.
    """
    contenders = read_contenders(runs)
    first, pairs = contenders[0], pairs_of(contenders)
    courses, without_course = read_courses(contenders)
    image_size = first.run.model.config.data.image_size
    page = template("comparison.html.j2").render(
        contenders=contenders,
        episodes=first.evaluation.episodes,
        unseen=unseen(first.evaluation),
        verdict=verdict(contenders, pairs),
        metrics=EVALUATION_METRICS,
        main=MAIN_METRICS,
        lines=_lines(contenders),
        spaces=_common_spaces(contenders),
        pairs=pairs,
        figures=[*adapting_figures(contenders), *training_figures(courses)],
        without_course=without_course,
        fixed=read_comparisons(contenders, fixed(first.evaluation, _FIXED)),
        remarkable=_remarkable(contenders),
        image_size=image_size,
        image_width=displayed_in_a_row(image_size),
        keys=_differing_keys(contenders),
        version=__version__,
    )
    url = out or f"{first.run.url}/report/comparison.html"
    write_file(url, page.encode())
    return url


@dataclass(frozen=True)
class Line:
    """A row of the tables: a run, or what stands beside it; `of` is whose alone it is."""

    kind: str
    name: str
    result: Result
    of: Contender | None = None


def _lines(contenders: Sequence[Contender]) -> list[Line]:
    """Baselines that all runs share, each run with those of its own, and the ceiling."""
    shared = _shared_baselines(contenders)
    lines = [Line("baseline", n, result) for n, result in shared.items() if n != REAL]
    for contender in contenders:
        lines.append(Line("contender", contender.name, contender.result, contender))
        lines += [
            Line("between", name, result, contender)
            for name, result in contender.evaluation.results.items()
            if name not in shared and name != contender.evaluation.system
        ]
    return [*lines, Line("baseline", REAL, shared[REAL])]


def _shared_baselines(contenders: Sequence[Contender]) -> dict[str, Result]:
    """By name, what has the same scores beside every run that has it."""
    found: dict[str, list[Result]] = {}
    for contender in contenders:
        for name, result in contender.evaluation.results.items():
            if name != contender.evaluation.system:
                found.setdefault(name, []).append(result)
    return {
        name: results[0]
        for name, results in found.items()
        if all(result.scores == results[0].scores for result in results)
    }


def _common_spaces(contenders: Sequence[Contender]) -> list[Space]:
    """The feature spaces that all runs were scored in, after the first."""
    first, *others = [contender.evaluation.spaces for contender in contenders]
    return [space for space in first[1:] if all(space in spaces for spaces in others)]


def _remarkable(contenders: Sequence[Contender]) -> dict[str, list[Comparison]]:
    """By what is remarkable of them, tasks that nobody fixed beforehand."""
    evaluations = [contender.evaluation for contender in contenders]
    count = max(1, min(_REMARKABLE, _STRIPS // len(contenders)))
    worst, best = extremes(evaluations, count)
    return {
        "Where the runs differ most": read_comparisons(contenders, contested(evaluations, count)),
        "Best, all runs together": read_comparisons(contenders, best),
        "Worst, all runs together": read_comparisons(contenders, worst),
    }


def _differing_keys(contenders: Sequence[Contender]) -> dict[str, list[str]]:
    """By key of the configuration that is not the same everywhere, its value in every run."""
    configs = [dict(leaves(contender.run.model.config)) for contender in contenders]
    keys = [key for key in dict.fromkeys(k for c in configs for k in c) if key not in _PLACES]
    values = {key: [written(c[key]) if key in c else "–" for c in configs] for key in keys}
    return {key: row for key, row in values.items() if len(set(row)) > 1}
