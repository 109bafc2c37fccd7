"""The table: every system's scores with their intervals, and what words change."""

from collections.abc import Sequence
from typing import NamedTuple

from metatrain.evaluation.scores.statistics import Difference, Estimate, Score


class Row(NamedTuple):
    """A system's scores.

    Attributes:
        name: the system's.
        first: share of samples whose caption fits best of all candidates.
        fifth: share of samples whose caption is among the five that fit best.
        worse: mean share of the other candidates that fit worse; a half is chance.
        kid: KID to the reference images.
        own_task: share of samples nearest to their own task.
    """

    name: str
    first: Score
    fifth: Score
    worse: Score
    kid: Score
    own_task: Score


def table(rows: Sequence[Row], bases: Sequence[str]) -> str:
    """Format all rows, and their differences to a base with as many images.

    Args:
        rows: of the systems.
        bases: what bases are told; the first that there is with as many images is the base.
    """
    named = {row.name: row for row in rows}
    lines = [
        "| given | caption is first | among 5 | fits better than | KID | own task |",
        "| --- | --: | --: | --: | --: | --: |",
        *(_line(row) for row in rows),
        "",
        "| difference | caption fits better than | KID | own task |",
        "| --- | --: | --: | --: |",
    ]
    for row in rows:
        images, _, words = row.name.partition(", ")
        base = next((named[b] for w in bases if (b := f"{images}, {w}") in named), None)
        if words and base and base is not row:
            lines.append(_difference(row, base))
    return "\n".join(lines)


def _line(row: Row) -> str:
    found = [share(s.estimate) for s in (row.first, row.fifth, row.worse)]
    scores = [number(row.kid.estimate), share(row.own_task.estimate)]
    return f"| {' | '.join([row.name, *found, *scores])} |"


def _difference(row: Row, base: Row) -> str:
    worse, kid, own = (
        getattr(row, name).minus(getattr(base, name)) for name in ("worse", "kid", "own_task")
    )
    name = f"{row.name}, less {base.name.partition(', ')[2]}"
    return f"| {name} | {share(worse, '+')} | {number(kid, '+')} | {share(own, '+')} |"


def share(value: Estimate | Difference, sign: str = "") -> str:
    """Format a share with its interval, in percent."""
    centre, low, high = (100 * v for v in (value.value, value.low, value.high))
    return f"{centre:{sign}.1f}% [{low:.1f}, {high:.1f}]"


def number(value: Estimate | Difference, sign: str = "") -> str:
    """Format a number with its interval."""
    return f"{value.value:{sign}.3f} [{value.low:.3f}, {value.high:.3f}]"
