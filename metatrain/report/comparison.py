"""The comparison of several runs: scores, significant differences, curves, and the same tasks."""

from collections.abc import Sequence
from dataclasses import dataclass

from metatrain import __version__
from metatrain.config import leaves, written
from metatrain.evaluation.results import Result, Space
from metatrain.evaluation.scores.baselines import REAL
from metatrain.metrics.metric import EVALUATION_METRICS, MAIN_METRICS
from metatrain.report.compared_runs import COLOURS, ComparedRun, read_compared_runs
from metatrain.report.comparison_figures import adapting_figures, training_figures
from metatrain.report.evaluated import task_kind
from metatrain.report.formatting import report_template
from metatrain.report.pairs import conclusion, pairs_of
from metatrain.report.task_choice import first_tasks, most_different, worst_and_best
from metatrain.report.task_panels import (
    TaskComparison,
    displayed_width_in_a_row,
    read_comparisons,
)
from metatrain.report.validation_curves import read_validation_curves
from metatrain.storage.files import write_file

# The number of first tasks on the page, and the most of each remarkable kind.
_FIRST, _REMARKABLE = 6, 3
# The most rows of images of each remarkable kind, over all of its tasks and runs.
_ROWS = 12

# Keys of the configuration that say where a run is, but not what it computes.
_PLACES = ("run.name", "run.dir")


def write_comparison(runs: Sequence[str], out: str | None = None) -> str:
    """Write the page that compares evaluated runs; returns its URL.

    The page is one file that needs nothing else: no network, no script.

    Args:
        runs: the runs' folders, paths or any fsspec URLs.
        out: the page's file; by default `report/comparison.html` of the first run.

    Raises:
        UserError: when a run cannot be read, or the runs cannot be compared.
    """
    compared = read_compared_runs(runs)
    first, pairs = compared[0], pairs_of(compared)
    curves, missing_curves = read_validation_curves(compared)
    image_size = first.evaluated.model.config.data.image_size
    page = report_template("comparison.html.j2").render(
        runs=compared,
        colours=COLOURS,
        episodes=first.evaluation.episodes,
        task_kind=task_kind(first.evaluation),
        conclusion=conclusion(compared, pairs),
        metrics=EVALUATION_METRICS,
        main=MAIN_METRICS,
        rows=_rows(compared),
        spaces=_common_spaces(compared),
        pairs=pairs,
        figures=[*adapting_figures(compared), *training_figures(curves)],
        missing_curves=missing_curves,
        first_tasks=read_comparisons(compared, first_tasks(first.evaluation, _FIRST)),
        remarkable=_remarkable(compared),
        image_size=image_size,
        image_width=displayed_width_in_a_row(image_size),
        keys=_differing_keys(compared),
        version=__version__,
    )
    url = out or f"{first.evaluated.url}/report/comparison.html"
    write_file(url, page.encode())
    return url


@dataclass(frozen=True, kw_only=True)
class ComparisonRow:
    """A row of the tables: a run, or a baseline; `run` is the only run that has the baseline."""

    kind: str
    name: str
    result: Result
    run: ComparedRun | None = None


def _rows(runs: Sequence[ComparedRun]) -> list[ComparisonRow]:
    """List the baselines that all runs share, each run with its own, and the real images."""
    shared = _shared_baselines(runs)
    rows = [
        ComparisonRow(kind="baseline", name=name, result=result)
        for name, result in shared.items()
        if name != REAL
    ]
    for run in runs:
        rows.append(ComparisonRow(kind="run", name=run.name, result=run.result, run=run))
        rows += [
            ComparisonRow(kind="between", name=name, result=result, run=run)
            for name, result in run.evaluation.results.items()
            if name not in shared and name != run.evaluation.system
        ]
    return [*rows, ComparisonRow(kind="baseline", name=REAL, result=shared[REAL])]


def _shared_baselines(runs: Sequence[ComparedRun]) -> dict[str, Result]:
    """Collect, by name, the baselines that have the same scores in every run that has them."""
    by_name: dict[str, list[Result]] = {}
    for run in runs:
        for name, result in run.evaluation.results.items():
            if name != run.evaluation.system:
                by_name.setdefault(name, []).append(result)
    return {
        name: results[0]
        for name, results in by_name.items()
        if all(result.scores == results[0].scores for result in results)
    }


def _common_spaces(runs: Sequence[ComparedRun]) -> list[Space]:
    """List the feature spaces, after the first, that all runs were scored in."""
    first, *others = [run.evaluation.spaces for run in runs]
    return [space for space in first[1:] if all(space in spaces for spaces in others)]


def _remarkable(runs: Sequence[ComparedRun]) -> dict[str, list[TaskComparison]]:
    """Read the tasks that were chosen by their scores, by the reason."""
    evaluations = [run.evaluation for run in runs]
    count = max(1, min(_REMARKABLE, _ROWS // len(runs)))
    worst, best = worst_and_best(evaluations, count)
    return {
        "Largest differences between the runs": read_comparisons(
            runs, most_different(evaluations, count)
        ),
        "Best on average": read_comparisons(runs, best),
        "Worst on average": read_comparisons(runs, worst),
    }


def _differing_keys(runs: Sequence[ComparedRun]) -> dict[str, list[str]]:
    """Collect the keys of the configuration that differ, with their values in every run."""
    configs = [dict(leaves(run.evaluated.model.config)) for run in runs]
    keys = [key for key in dict.fromkeys(k for c in configs for k in c) if key not in _PLACES]
    values = {key: [written(c[key]) if key in c else "–" for c in configs] for key in keys}
    return {key: row for key, row in values.items() if len(set(row)) > 1}
