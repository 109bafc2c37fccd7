"""An evaluation as a person reads it in a terminal."""

from collections.abc import Callable, Sequence
from dataclasses import asdict

from metatrain.evaluation.protocol import Entrant
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.scores.baselines import COPY, JITTERED
from metatrain.evaluation.scores.expectation_quality import Foresight
from metatrain.evaluation.scores.statistics import Difference, Estimate, Score
from metatrain.metrics.registry import EVALUATION_METRICS, MAIN_METRICS, METRICS
from metatrain.model.calibration import CONFIDENCE

_OTHERS = [name for name in EVALUATION_METRICS if name not in MAIN_METRICS]
_NAME, _WIDE, _NARROW = 24, 24, 12


def table(evaluation: Evaluation) -> str:
    """The scores in every feature space, the main ones with their intervals."""
    first = evaluation.spaces[0].name
    blocks = [_described(evaluation), _block(evaluation, first, MAIN_METRICS, written, _WIDE)]
    blocks.append(_block(evaluation, first, _OTHERS, brief, _NARROW))
    blocks.append(f"floor of the Frechet distance: {evaluation.floor:.3f}")
    for space in evaluation.spaces[1:]:
        block = _block(evaluation, space.name, MAIN_METRICS, written, _WIDE)
        blocks.append(f"in {space.name}:\n{block}")
    if evaluation.foresight:
        blocks.append(_foreseen(evaluation.foresight))
    return "\n\n".join([*blocks, *evaluation.missing])


def comparisons(name: str, entrants: dict[str, Entrant]) -> str:
    """How a system differs from each of the others, in a line each; where chance may do it too."""
    own = main_scores(entrants[name])
    lines = []
    for other, entrant in entrants.items():
        if other not in (name, COPY, JITTERED):  # which draw nothing
            theirs = main_scores(entrant)
            found = (f"{METRICS[m].title} {gap(m, own[m].minus(theirs[m]))}" for m in MAIN_METRICS)
            lines.append(f"{name} against {other}: {'; '.join(found)}")
    return "\n".join(lines)


def main_scores(entrant: Entrant) -> dict[str, Score]:
    """Those in the space that has all metrics."""
    return next(iter(entrant.scores.values()))


def written(metric: str, found: Estimate) -> str:
    """A score with its interval, such as `0.036 [0.021, 0.050]`."""
    number = METRICS[metric].number
    return f"{brief(metric, found)} [{number(found.low)}, {number(found.high)}]"


def brief(metric: str, found: Estimate) -> str:
    """A score alone, such as `0.036` or `77.5%`."""
    return METRICS[metric].number(found.value) + METRICS[metric].unit


def gap(metric: str, found: Difference) -> str:
    """A difference, such as `-0.021 [-0.030, -0.012]`, or that it is not significant."""
    number, unit = METRICS[metric].number, METRICS[metric].unit
    said = f"{number(found.value, signed=True)}{unit} [{number(found.low)}, {number(found.high)}]"
    return said if found.significant else f"{said} (not significant, p = {found.p:.2f})"


def columns(corner: str, heads: Sequence[str], rows: dict[str, list[str]], width: int) -> str:
    """Cells below `heads`, each `width` wide, beside the names of their rows.

    Names are never cut: of two systems with one name, the path at the end tells which is which.
    """
    room = max(_NAME, *(len(name) + 1 for name in rows))
    lines = [(corner, heads), *rows.items()]
    return "\n".join(
        f"{name:<{room}}" + "".join(f"{c:>{width}}" for c in cells) for name, cells in lines
    )


def _foreseen(found: Foresight) -> str:
    correlation, low, high = asdict(found.correlation).values()
    error, held, warned = (written("own_task", e) for e in (found.error, found.held, found.warned))
    return (
        f"expected before drawing: own task, with rank correlation {correlation:z.2f} "
        f"[{low:z.2f}, {high:z.2f}] to what came of it; off by {error} of images; in its "
        f"{CONFIDENCE:.0%} interval for {held} of tasks; unfamiliar were {warned}"
    )


def _described(evaluation: Evaluation) -> str:
    episodes = evaluation.episodes
    tasks, seeds = len(episodes.tasks), episodes.seeds
    said = f"{episodes.benchmark}, split {episodes.split}: {tasks} tasks, {seeds} seeds, "
    said += f"{episodes.shots} shots"
    if (tasks, seeds) != episodes.listed:
        return (
            f"{said}; the whole list has {episodes.listed[0]} tasks and {episodes.listed[1]} seeds"
        )
    return said if episodes.published else f"{said}; not a published list"


def _block(
    evaluation: Evaluation,
    space: str,
    metrics: Sequence[str],
    cell: Callable[[str, Estimate], str],
    width: int,
) -> str:
    rows = {
        result.name: [cell(m, result.scores[space][m]) for m in metrics]
        for result in evaluation.results.values()
    }
    return columns("", [METRICS[m].title for m in metrics], rows, width)
