"""The response surface of a sweep over the inner rate and the number of inner steps, as maps."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from tuning.heat_map import HeatMap
from tuning.ledger import SweepLedger, TrialRecord
from tuning.surface import Array, ResponseSurface

# The cells of the maps, across and up.
_COLUMNS, _ROWS = 24, 18

# As many points as a Gaussian process is fitted to in about a second.
_MAX_POINTS = 400

# The fewest trials that the surface is fitted to.
_MIN_TRIALS = 3


@dataclass(frozen=True, kw_only=True)
class Optimum:
    """The lowest point of the surface: its place, its score, and the score's standard error."""

    rate: float
    k: float
    score: float
    deviation: float


@dataclass(frozen=True, kw_only=True)
class Response:
    """Two maps over a rate and the number of inner steps.

    Attributes:
        key: the key along the x axis.
        score: the map of the predicted score.
        deviation: the map of its standard deviation.
        optimum: the lowest point of the surface.
        common: the values that all trials of the surface have in common with the best trial.
    """

    key: str
    score: Markup
    deviation: Markup
    optimum: Optimum
    common: dict[str, str]


def response(ledger: SweepLedger) -> Response | None:
    """Fit and draw the surface at the last outer step; None where too few trials were scored."""
    key = _rate_key(ledger)
    if key is None:
        return None
    common = _choices_of_best(ledger)
    x, y, trials = _points(ledger, key, common)
    distinct = [len(set(column)) for column in (trials, x[:, 0], x[:, 1])]
    if distinct[0] < _MIN_TRIALS or distinct[1] < 3 or distinct[2] < 2:
        return None
    rates, ks = (
        np.linspace(x[:, i].min(), x[:, i].max(), n) for i, n in ((0, _COLUMNS), (1, _ROWS))
    )
    cells = np.array([[rate, k, 1.0] for k in ks for rate in rates])
    mean, deviation = ResponseSurface(x, y, trials).at(cells)
    tried = sorted({(10**rate, 10**k) for rate, k, _ in x.tolist()})

    def draw(title: str, values: Array) -> Markup:
        grid = values.reshape(_ROWS, _COLUMNS)
        return HeatMap(
            title=title, key=key, xs=10**rates, ks=10**ks, values=grid, tried=tried
        ).draw()

    return Response(
        key=key,
        score=draw(ledger.metric, mean),
        deviation=draw("standard deviation", deviation),
        optimum=_optimum(cells, mean, deviation),
        common=common,
    )


def _optimum(cells: Array, mean: Array, deviation: Array) -> Optimum:
    lowest = int(mean.argmin())
    rate, k, _ = (10 ** cells[lowest]).tolist()
    return Optimum(rate=rate, k=k, score=float(mean[lowest]), deviation=float(deviation[lowest]))


def _rate_key(ledger: SweepLedger) -> str | None:
    """Choose `inner.lr`, or else the first key of the space that is loguniform."""
    space = ledger.sweep.settings.space
    rates = [key for key, dimension in space.items() if dimension.log and not dimension.when]
    return "inner.lr" if "inner.lr" in rates else (rates[0] if rates else None)


def _choices_of_best(ledger: SweepLedger) -> dict[str, str]:
    """Return the best trial's scope, learner and the like: other choices have other surfaces.

    Empty where fewer than three trials have the same choices.
    """
    best = ledger.best()
    choices = {k: v for k, v in best.values.items() if isinstance(v, str)} if best else {}
    alike = [r for r in ledger.records.values() if r.last_report and _has(r, choices)]
    return choices if len(alike) >= _MIN_TRIALS else {}


def _has(record: TrialRecord, values: Mapping[str, Any]) -> bool:
    return all(record.values.get(key) == value for key, value in values.items())


def _points(
    ledger: SweepLedger, key: str, common: Mapping[str, Any]
) -> tuple[Array, Array, NDArray[np.int64]]:
    """Collect the scores of the trials that have the values in `common`.

    Returns:
        Points [N, 3] of log10 rate, log10 k and share of the training; scores [N]; trials [N].
    """
    steps = ledger.sweep.base.meta.steps
    points = [
        (math.log10(record.values[key]), math.log10(k), report.step / steps, score, record.number)
        for record, report in ledger.reports_in_order()
        if _has(record, common)
        for k, score in report.curve.items()
        if math.isfinite(score)
    ]
    # Scores late in the training before early ones.
    latest = sorted(points, key=lambda point: -point[2])[:_MAX_POINTS]
    table = np.array(latest, dtype=float).reshape(-1, 5)
    return table[:, :3], table[:, 3], table[:, 4].astype(np.int64)
