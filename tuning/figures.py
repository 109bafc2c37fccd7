"""The pictures of a sweep's report, as inline SVG: colours from the page's style sheet."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup

from metatrain.report.charts import Axis, Curve, Figure, Point, draw
from tuning.importance import importances
from tuning.ledger import Ledger, Record
from tuning.space import Dimension
from tuning.surface import Array, ResponseSurface

# The heat map's cells across and up; its colours, from the lowest value to the highest.
_COLUMNS, _ROWS = 24, 18
_COLOURS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))

# As many points as a Gaussian process is fitted to in about a second.
_POINTS = 400

_BEST = 5


@dataclass(frozen=True)
class Scale:
    """A key of the space, or the score, as an axis from 0 to 1; `best_up` has the lowest at 1."""

    key: str
    axis: Axis | None
    choices: tuple[str, ...] = ()
    best_up: bool = False

    def place(self, value: Any) -> float:
        """Where `value` lies."""
        if self.axis:
            place = self.axis.place(value)
            return 1 - place if self.best_up else place
        return (self.choices.index(str(value)) + 0.5) / len(self.choices)

    def ticks(self) -> list[tuple[float, str]]:
        """Places with what stands there."""
        if self.axis:
            return [(self.place(tick), _number(tick)) for tick in self.axis.ticks()]
        return [(self.place(choice), choice) for choice in self.choices]


def scale_of(key: str, dimension: Dimension) -> Scale:
    """The axis of a key."""
    if dimension.choice:
        return Scale(key, None, tuple(str(value) for value in dimension.choice))
    return Scale(key, Axis(dimension.extremes(), log=dimension.log))


def parallel_coordinates(ledger: Ledger) -> Markup:
    """A line a trial through all that it was given, to its score; the best stand out."""
    space, best = ledger.sweep.settings.space, _best(ledger, _BEST)
    seen = [(r, r.last.score) for r in ledger.records.values() if r.last and r.last.finite]
    scales = [scale_of(key, d) for key, d in space.items() if not d.same_as]
    scores = Axis([score for _, score in seen] or [0.0], padding=0.02)
    scales.append(Scale(f"{ledger.metric} (best at the top)", scores, best_up=True))
    top, bottom, apart = 34, 270, 150
    parts = []
    for record, score in sorted(seen, key=lambda pair: pair[0] in best):
        values = record.values | {scales[-1].key: score}
        places = [
            (30 + apart * i, bottom - scale.place(values[scale.key]) * (bottom - top))
            for i, scale in enumerate(scales)
            if scale.key in values
        ]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        kind = "best" if record in best else record.state
        line = '<polyline class="trial {}" points="{}"><title>trial {}: {:.4g}</title></polyline>'
        parts.append(Markup(line).format(kind, path, record.name, score))
    parts += [_upright(30 + apart * i, top, bottom, scale) for i, scale in enumerate(scales)]
    width = 30 + apart * (len(scales) - 1) + 90
    return _svg(width, 300, "All trials: what each was given, and its score", parts)


def _upright(x: float, top: float, bottom: float, scale: Scale) -> Markup:
    parts = [_line(x, top, x, bottom, "zero"), _text(x - 24, top - 14, scale.key, "start")]
    for place, said in scale.ticks():
        parts.append(_text(x + 5, bottom - place * (bottom - top) + 4, said, "start"))
    return Markup().join(parts)


@dataclass(frozen=True)
class Response:
    """Two heat maps over the inner rate and the number of inner steps.

    Attributes:
        key: the key along the x axis.
        score: the score, as far as it can be told.
        error: how sure that is, one standard deviation.
        best: the lowest point of the surface: rate, k, score and its standard deviation.
        alike: what all trials that it is made of have in common with the best one.
    """

    key: str
    score: Markup
    error: Markup
    best: tuple[float, ...]
    alike: dict[str, str]


def response(ledger: Ledger) -> Response | None:
    """The response surface at the last outer step; None where too few trials tell of it."""
    key = _rate_key(ledger)
    if key is None:
        return None
    alike = _chosen_for_the_best(ledger)
    x, y, trials = _observed(ledger, key, alike)
    if len(set(trials)) < 3 or len(set(x[:, 0])) < 3 or len(set(x[:, 1])) < 2:
        return None
    surface = ResponseSurface(x, y, trials)
    (lr_low, k_low, _), (lr_high, k_high, _) = x.min(axis=0), x.max(axis=0)
    lrs, ks = np.linspace(lr_low, lr_high, _COLUMNS), np.linspace(k_low, k_high, _ROWS)
    mean, deviation = surface.at(np.array([[lr, k, 1.0] for k in ks for lr in lrs]))
    low = int(mean.argmin())
    best = (10 ** lrs[low % _COLUMNS], 10 ** ks[low // _COLUMNS], mean[low], deviation[low])
    tried = sorted({(10**lr, 10**k) for lr, k, _ in x.tolist()})
    score, error = (
        _heat_map(title, values.reshape(_ROWS, _COLUMNS), 10**lrs, 10**ks, tried, key)
        for title, values in ((ledger.metric, mean), ("standard deviation", deviation))
    )
    return Response(key, score, error, tuple(float(value) for value in best), alike)


def _chosen_for_the_best(ledger: Ledger) -> dict[str, str]:
    """Its scope, its learner and the like: with others the surface is another.

    Nothing, where fewer than three trials had the same.
    """
    best = ledger.best()
    chosen = {k: v for k, v in best.values.items() if isinstance(v, str)} if best else {}
    alike = [r for r in ledger.records.values() if r.last and _has(r, chosen)]
    return chosen if len(alike) >= 3 else {}


def _has(record: Record, values: Mapping[str, Any]) -> bool:
    return all(record.values.get(key) == value for key, value in values.items())


def _rate_key(ledger: Ledger) -> str | None:
    """What stands for the inner rate: `inner.lr`, or else the first key that is loguniform."""
    space = ledger.sweep.settings.space
    rates = [key for key, dimension in space.items() if dimension.log and not dimension.when]
    return "inner.lr" if "inner.lr" in rates else (rates[0] if rates else None)


def _observed(ledger: Ledger, key: str, alike: Mapping[str, Any]) -> tuple[Array, Array, Any]:
    """Points [N, 3] of log10 rate, log10 k and share of the training, scores, and trials."""
    steps = ledger.sweep.base.meta.steps
    points = [
        (math.log10(record.values[key]), math.log10(k), report.step / steps, score, record.number)
        for record, report in ledger.reports()
        if _has(record, alike)
        for k, score in report.curve.items()
        if math.isfinite(score)
    ]
    # Of the newest looks at trials rather than of the first.
    table = np.array(sorted(points, key=lambda p: -p[2])[:_POINTS], dtype=float).reshape(-1, 5)
    return table[:, :3], table[:, 3], table[:, 4].astype(np.int64)


@dataclass(frozen=True)
class _Frame:
    """Where a heat map lies in its drawing, and what its axes show."""

    across: Axis
    up: Axis
    left: float = 44
    right: float = 360
    top: float = 26
    bottom: float = 260

    def x(self, value: float) -> float:
        return self.left + self.across.place(value) * (self.right - self.left)

    def y(self, value: float) -> float:
        return self.bottom - self.up.place(value) * (self.bottom - self.top)

    def axes(self) -> list[Markup]:
        below = [
            _text(self.x(t), self.bottom + 16, _number(t), "middle") for t in self.across.ticks()
        ]
        beside = [_text(self.left - 6, self.y(t) + 4, _number(t), "end") for t in self.up.ticks()]
        return below + beside


def _heat_map(
    title: str, values: Array, lrs: Array, ks: Array, tried: list[tuple[float, float]], key: str
) -> Markup:
    """Values [ROWS, COLUMNS] at rates and numbers of steps, with what was tried as dots."""
    frame = _Frame(Axis([lrs[0], lrs[-1]], log=True), Axis([ks[0], ks[-1]], log=True))
    low, high = float(values.min()), float(values.max())
    wide, tall = (frame.right - frame.left) / _COLUMNS, (frame.bottom - frame.top) / _ROWS
    parts = [
        _text(frame.left, frame.top - 10, title, "start"),
        _text(6, frame.top - 10, "k", "start"),
    ]
    for row, column in np.ndindex(values.shape):
        value = float(values[row, column])
        said = f"{key} {lrs[column]:.3g}, k {ks[row]:.3g}: {value:.4g}"
        place = frame.left + column * wide, frame.bottom - (row + 1) * tall
        parts.append(_cell(*place, wide, tall, (value - low) / ((high - low) or 1.0), said))
    for lr, k in tried:
        dot = Markup('<circle class="tried" cx="{:.1f}" cy="{:.1f}" r="2"/>')
        parts.append(dot.format(frame.x(lr), frame.y(k)))
    parts += [*frame.axes(), _text(frame.right, frame.bottom + 32, key, "end")]
    parts += _legend(frame, low, high)
    return _svg(440, 300, f"{title} over {key} and the number of inner steps", parts)


def _legend(frame: _Frame, low: float, high: float) -> list[Markup]:
    tall = (frame.bottom - frame.top) / 20
    x, edge = frame.right + 16, frame.right + 33
    bar = [_cell(x, frame.bottom - (i + 1) * tall, 12, tall, (i + 0.5) / 20, "") for i in range(20)]
    ends = [(frame.bottom, low), (frame.top + 8, high)]
    return bar + [_text(edge, y, f"{value:.3g}", "start") for y, value in ends]


def _cell(x: float, y: float, wide: float, tall: float, share: float, said: str) -> Markup:
    # A hair larger, or the page would show between two of them.
    place = Markup('x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"')
    cell = Markup('<rect {} fill="{}"><title>{}</title></rect>')
    return cell.format(place.format(x, y, wide + 0.3, tall + 0.3), _colour(share), said)


def importance_figure(ledger: Ledger) -> tuple[Markup | None, int]:
    """Bars, a key each, with the outer step at which trials were compared."""
    shares, step = importances(ledger)
    if not shares:
        return None, step
    width, height = 440, 26 * len(shares) + 8
    longest, parts = max(shares.values()) or 1.0, []
    for i, (key, share) in enumerate(shares.items()):
        y = 4 + 26 * i
        bar = '<rect class="bar" x="150" y="{}" width="{:.1f}" height="16" rx="2"/>'
        parts += [_text(142, y + 12, key, "end"), Markup(bar).format(y, 230 * share / longest)]
        parts.append(_text(156 + 230 * share / longest, y + 12, f"{share:.0%}", "start"))
    return _svg(width, height, "Importance of each key", parts), step


def curves_over_k(ledger: Ledger) -> Figure | None:
    """The score of the best trials over the number of inner steps."""
    named = [
        Curve(
            f"trial {record.name}, trained with {ledger.config(record).inner.steps}",
            f"t{i}",
            [Point(k, score) for k, score in sorted(record.reports[-1].curve.items())],
            marked=i == 0,
        )
        for i, record in enumerate(_best(ledger, _BEST))
    ]
    title = f"{ledger.metric} over inner steps, the best trials"
    return _chart(title, named, "inner steps")


def curves_over_steps(ledger: Ledger) -> Figure | None:
    """The score of every trial over its training."""
    best = _best(ledger, 1)
    curves = [
        Curve(
            f"trial {record.name}, the best" if record in best else "",
            "t0" if record in best else "faint other",
            [Point(r.step, r.score) for r in record.reports],
            marked=record in best,
        )
        for record in sorted(ledger.records.values(), key=lambda r: r in best)
        if record.reports
    ]
    return _chart(f"{ledger.metric} over the training, all trials", curves, "outer steps")


def _chart(title: str, curves: list[Curve], x_label: str) -> Figure | None:
    finite = [
        Curve(c.name, c.style, [p for p in c.points if math.isfinite(p.y)], c.marked)
        for c in curves
    ]
    finite = [curve for curve in finite if curve.points]
    return draw(title, finite, [], x_label=x_label) if finite else None


def _best(ledger: Ledger, count: int) -> list[Record]:
    """The finished trials of the lowest scores."""
    through = [r for r in ledger.records.values() if r.state == "finished" and r.last]
    return sorted(through, key=lambda r: r.reports[-1].score)[:count]


def _colour(share: float) -> str:
    place = min(max(share, 0.0), 1.0) * (len(_COLOURS) - 1)
    below = min(int(place), len(_COLOURS) - 2)
    mixed = [
        round(a + (b - a) * (place - below))
        for a, b in zip(_COLOURS[below], _COLOURS[below + 1], strict=True)
    ]
    return f"rgb({mixed[0]},{mixed[1]},{mixed[2]})"


def _svg(width: float, height: float, label: str, parts: Sequence[Markup]) -> Markup:
    frame = '<svg viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>'
    return Markup(frame).format(width, height, label, Markup().join(parts))


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> Markup:
    line = '<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>'
    return Markup(line).format(style, x1, y1, x2, y2)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    words = '<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>'
    return Markup(words).format(x, y, anchor, text)


def _number(value: float) -> str:
    return f"{value:.10g}".replace("-", "−")
