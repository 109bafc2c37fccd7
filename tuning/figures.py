"""Line charts of a sweep's scores, and bars of the importance of its keys."""

import math

from markupsafe import Markup

from metatrain.report import svg
from metatrain.report.charts import Curve, Figure, Point, line_chart
from tuning.importance import importances
from tuning.ledger import SweepLedger

# The number of best trials with curves over k; the style sheet has a colour for each.
_BEST = 5

# In the drawing's own units: the height of a bar with its margin, its left end at least, the
# longest bar, and the room for its number.
_BAR, _LEFT, _LONGEST, _NUMBER = 26, 150, 230, 60


def importance_figure(ledger: SweepLedger) -> tuple[Markup | None, int]:
    """Draw a bar per key; returns also the outer step at which trials were compared."""
    shares, step = importances(ledger)
    if not shares:
        return None, step
    largest, parts = max(shares.values()) or 1.0, []
    left = max(_LEFT, *(svg.width_of(key) + 12 for key in shares))
    bar = Markup('<rect class="bar" x="{}" y="{}" width="{:.1f}" height="16" rx="2"/>')
    for i, (key, share) in enumerate(shares.items()):
        y, length = 4 + _BAR * i, _LONGEST * share / largest
        parts += [svg.text(left - 8, y + 12, key, anchor="end"), bar.format(left, y, length)]
        parts.append(svg.text(left + length + 6, y + 12, f"{share:.0%}", anchor="start"))
    height = _BAR * len(shares) + 8
    width = left + _LONGEST + _NUMBER
    return svg.drawing(width, height, label="Importance of each key", parts=parts), step


def curves_over_k(ledger: SweepLedger) -> Figure | None:
    """Draw the scores of the best trials over the number of inner steps."""
    curves = [
        Curve(
            name=f"trial {record.name}, trained with {ledger.config(record).inner.steps}",
            style=f"t{i}",
            points=[Point(k, score) for k, score in sorted(record.reports[-1].curve.items())],
            marker=0 if i == 0 else None,
        )
        for i, record in enumerate(ledger.finished_by_score()[:_BEST])
    ]
    title = f"{ledger.metric} over inner steps, the lowest trials"
    return _chart(title, curves, "inner steps", ledger.highest_score)


def curves_over_steps(ledger: SweepLedger) -> Figure | None:
    """Draw the scores of all trials over the training; the best trial stands out."""
    best = ledger.best()
    curves = [
        Curve(
            name=f"trial {record.name}, the lowest" if record is best else "",
            style="t0" if record is best else "faint other",
            points=[Point(report.step, report.score) for report in record.reports],
            marker=0 if record is best else None,
        )
        for record in sorted(ledger.records.values(), key=lambda r: r is best)
        if record.reports
    ]
    title = f"{ledger.metric} over the training, all trials"
    return _chart(title, curves, "outer steps", ledger.highest_score)


def _chart(title: str, curves: list[Curve], x_label: str, highest: float) -> Figure | None:
    """Draw the finite points of curves; None where there are none."""
    finite = []
    for curve in curves:
        points = [point for point in curve.points if math.isfinite(point.y)]
        if points:
            finite.append(
                Curve(name=curve.name, style=curve.style, points=points, marker=curve.marker)
            )
    if not finite:
        return None
    return line_chart(title, finite, [], x_label=x_label, highest=highest)
