"""The tables and the figure: how many steps each start takes to a quality."""

from collections.abc import Mapping

from torch import Tensor

from benchmarks.backbones.concepts.curves import Curves, Speed, speed
from benchmarks.backbones.concepts.plan import STANDARD
from benchmarks.figures import composed, series_style
from metatrain.report.charts import MARKERS, Curve, Figure, Point, ReferenceLine, line_chart

# Steps of the standard start whose quality is compared, where they were measured; None: its best.
_TARGETS = (None, 4, 16, 64)


def speed_table(curves: Mapping[str, Curves]) -> str:
    """Return the steps and seconds of each trained start to the standard one's quality."""
    lines = [
        "| quality | start | standard: steps | s | trained: steps | s | times fewer |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    standard, pace = curves[STANDARD], pace_of(curves)
    for title, costs in (("flow loss", _loss_of), ("own task", _cost_of_own_task)):
        for after in (target for target in _TARGETS if target in (None, *standard.steps)):
            for name, of in curves.items():
                if name != STANDARD:
                    result = speed(standard.steps, costs(standard), costs(of), after)
                    where = f"{title}, {'best' if after is None else f'after {after}'}"
                    lines.append(f"| {where} | {name} | {_speed_cells(result, pace)} |")
    return "\n".join(lines)


def curve_table(curves: Mapping[str, Curves]) -> str:
    """Return the mean loss and own-task share of all starts after each number of steps."""
    heads = [f"{name}: {part}" for name in curves for part in ("rate", "loss", "own task")]
    lines = [f"| steps | {' | '.join(heads)} |", f"|--:|{'--:|' * len(heads)}"]
    for place, steps in enumerate(curves[STANDARD].steps):
        cells = [cell for of in curves.values() for cell in _point_cells(of, place)]
        lines.append(f"| {steps} | {' | '.join(cells)} |")
    return "\n".join(lines)


def pace_of(curves: Mapping[str, Curves]) -> float:
    """Return the seconds of an inner step: all starts have the same network."""
    return min(of.pace for of in curves.values())


def figure_svg(curves: Mapping[str, Curves], real: float) -> str:
    """Draw loss and own-task share over inner steps.

    Args:
        curves: of all starts.
        real: own-task share of held-out real images.
    """
    ceiling = ReferenceLine(name="held-out real", style="real", y=100 * real)
    loss = line_chart(
        "flow loss on held-out images",
        [_line(i, name, of, of.loss, 1.0) for i, (name, of) in enumerate(curves.items())],
        [],
        x_label="inner steps",
        log=True,
        log_x=True,
    )
    own = line_chart(
        "own task in %",
        [_line(i, name, of, of.own_task, 100.0) for i, (name, of) in enumerate(curves.items())],
        [ceiling],
        x_label="inner steps",
        log_x=True,
    )
    row: list[Figure] = [loss, own]
    return composed([row])


def _line(number: int, name: str, of: Curves, values: Tensor, unit: float) -> Curve:
    """Draw the means over concepts; a logarithmic axis has no place for 0 steps."""
    means = (unit * values.mean(dim=1)).tolist()
    points = [Point(k, mean) for k, mean in zip(of.steps, means, strict=True) if k]
    return Curve(name=name, style=series_style(number), points=points, marker=number % MARKERS)


def _loss_of(curves: Curves) -> Tensor:
    return curves.loss


def _cost_of_own_task(curves: Curves) -> Tensor:
    return -curves.own_task


def _speed_cells(result: Speed, pace: float) -> str:
    ratio = result.ratio
    cells = [str(result.standard), f"{result.standard * pace:.2f}"]
    if result.other is None:
        cells += ["never", "", f"[{ratio.low:.2f}, {ratio.high:.2f}]"]
    else:
        cells += [str(result.other), f"{result.other * pace:.2f}"]
        cells.append(f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]")
    return " | ".join(cells)


def _point_cells(curves: Curves, place: int) -> list[str]:
    rate, loss = curves.rates[place], curves.loss[place].mean().item()
    own = curves.own_task[place].mean().item()
    return ["learned" if rate is None else f"{rate:g}", f"{loss:.4f}", f"{own:.1%}"]
