"""An evaluation as text for a terminal."""

from collections.abc import Callable, Sequence
from dataclasses import astuple
from itertools import islice

from metatrain.base.tables import aligned
from metatrain.base.text import counted, printable
from metatrain.evaluation.protocol import ScoredSystem
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.scores.baselines import COPY, JITTERED
from metatrain.evaluation.scores.expectation_quality import ExpectationQuality
from metatrain.evaluation.scores.membership import Membership
from metatrain.evaluation.scores.statistics import Difference, Estimate, Score, holm
from metatrain.metrics.metric import EVALUATION_METRICS, MAIN_METRICS, METRICS
from metatrain.model.forecast import CONFIDENCE

_OTHER_METRICS = [metric for metric in EVALUATION_METRICS if metric not in MAIN_METRICS]


def evaluation_table(evaluation: Evaluation) -> str:
    """Return the scores in every feature space, the main ones with their intervals."""
    first, *spaces = (space.name for space in evaluation.spaces)
    blocks = [
        _description(evaluation),
        _block(evaluation, first, MAIN_METRICS, score_with_interval),
        _block(evaluation, first, _OTHER_METRICS, score_text),
        f"floor of the Frechet distance: {evaluation.floor:.3f}",
    ]
    for space in spaces:
        block = _block(evaluation, space, MAIN_METRICS, score_with_interval)
        blocks.append(f"in {space}:\n{block}")
    if evaluation.collapse:
        blocks.append(f"{evaluation.system}: {evaluation.collapse}")
    if evaluation.expectation_quality:
        blocks.append(_expectations(evaluation.expectation_quality))
    if evaluation.membership:
        blocks.append(_membership(evaluation.membership))
    return "\n\n".join([*blocks, *evaluation.missing])


def comparisons(name: str, systems: dict[str, ScoredSystem]) -> str:
    """Return a line for each other system: the differences of system `name` to it, with p."""
    scores = main_scores(systems[name])
    others = {
        other: main_scores(system)
        for other, system in systems.items()
        if other not in (name, COPY, JITTERED)  # copies generate nothing
    }
    pairs = [(f"{name} against {other}", scores, others[other]) for other in others]
    return "\n".join(differences(pairs, MAIN_METRICS))


def differences(
    pairs: Sequence[tuple[str, dict[str, Score], dict[str, Score]]], metrics: Sequence[str]
) -> list[str]:
    """Return a line for each pair of systems: its name, and the differences of their scores."""
    tests = [(m, scores[m].minus(others[m])) for _, scores, others in pairs for m in metrics]
    titled = (
        f"{METRICS[metric].title} {text}"
        for (metric, _), text in zip(tests, difference_texts(tests), strict=True)
    )
    return [f"{name}: {'; '.join(islice(titled, len(metrics)))}" for name, *_ in pairs]


def main_scores(system: ScoredSystem) -> dict[str, Score]:
    """Return the scores in the first space, which has all metrics."""
    return next(iter(system.scores.values()))


def score_with_interval(metric: str, estimate: Estimate) -> str:
    """Format a score with its interval, such as `0.036 [0.021, 0.050]`."""
    number = METRICS[metric].number
    return f"{score_text(metric, estimate)} [{number(estimate.low)}, {number(estimate.high)}]"


def score_text(metric: str, estimate: Estimate) -> str:
    """Format a score alone, such as `0.036` or `77.5%`."""
    return METRICS[metric].number(estimate.value) + METRICS[metric].unit


def difference_texts(tests: Sequence[tuple[str, Difference]]) -> list[str]:
    """Format differences in some metrics, such as `-0.021 [-0.030, -0.012] (p = 0.01, Holm 0.03)`.

    The second p, by Holm's method, holds for all of them together.
    """
    adjusted = holm([difference.p for _, difference in tests])
    return [_difference_text(*test, p) for test, p in zip(tests, adjusted, strict=True)]


def _difference_text(metric: str, difference: Difference, adjusted: float) -> str:
    number, unit = METRICS[metric].number, METRICS[metric].unit
    interval = f"[{number(difference.low)}, {number(difference.high)}]"
    chance = p_text(difference.p, adjusted)
    verdict = chance if difference.significant else f"not significant, {chance}"
    return f"{number(difference.value, signed=True)}{unit} {interval} ({verdict})"


def p_text(p: float, adjusted: float) -> str:
    """Format the p of a test by itself, and by Holm's method, such as `p = 0.01, Holm 0.03`."""
    return f"p = {p:.2g}, Holm {adjusted:.2g}"


def columns(corner: str, heads: Sequence[str], rows: dict[str, list[str]]) -> str:
    """Align the cells of each row below `heads`, beside the row's name.

    Names are never cut: of two systems with one name, the path at the end distinguishes them.
    """
    lines = [[corner, *heads], *([name, *cells] for name, cells in rows.items())]
    return aligned(lines, justify="right")


def _expectations(quality: ExpectationQuality) -> str:
    correlation, low, high = astuple(quality.correlation)
    tasks, seeds, _ = quality.extent
    error, held, warned = (
        score_with_interval("own_task", estimate)
        for estimate in (quality.error, quality.held, quality.warned)
    )
    return (
        f"expected before sampling: own task, with rank correlation {correlation:z.2f} "
        f"[{low:z.2f}, {high:z.2f}] to the measured share; mean error {error}; measured in the "
        f"{CONFIDENCE:.0%} interval for {held} of tasks; called unfamiliar {warned} of supports "
        f"(among {counted(tasks, 'task')}, {counted(seeds, 'seed')})"
    )


def _membership(members: Membership) -> str:
    gap = members.gap
    return (
        f"membership inference by the loss: AUROC {members.auroc.value:.2f} "
        f"[{members.auroc.low:.2f}, {members.auroc.high:.2f}], where at 0.50 nobody can tell the "
        f"support from other images of its task; these have a loss {100 * gap.value:z.1f}% "
        f"[{100 * gap.low:z.1f}, {100 * gap.high:z.1f}] higher"
    )


def _description(evaluation: Evaluation) -> str:
    episodes = evaluation.episodes
    tasks, seeds = len(episodes.tasks), episodes.seeds
    text = (
        f"{printable(episodes.benchmark)}, split {episodes.split}: {counted(tasks, 'task')}, "
        f"{counted(seeds, 'seed')}, {counted(episodes.shots, 'shot')}"
    )
    if (tasks, seeds) != episodes.listed:
        all_tasks, all_seeds = episodes.listed
        whole = f"{counted(all_tasks, 'task')} and {counted(all_seeds, 'seed')}"
        return f"{text}; the whole list has {whole}"
    return text if episodes.published else f"{text}; not a published list"


def _block(
    evaluation: Evaluation,
    space: str,
    metrics: Sequence[str],
    cell: Callable[[str, Estimate], str],
) -> str:
    rows = {
        result.name: [cell(metric, result.scores[space][metric]) for metric in metrics]
        for result in evaluation.results.values()
    }
    return columns("", [METRICS[metric].title for metric in metrics], rows)
