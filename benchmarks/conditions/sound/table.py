"""The table: every system's scores with their intervals, and what a sound changes."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.conditions.sound.specimens import SEEN, UNSEEN
from benchmarks.conditions.sound.systems import RIGHT, Heard
from benchmarks.conditions.table import number, share
from metatrain.evaluation.scores.statistics import Score


class Row(NamedTuple):
    """A system's scores.

    Attributes:
        spoken: share of samples that read as the digit that is spoken; None without a sound.
        asked: share of samples that read as the digit that is asked for.
        kid: KID to the real images of the asked digits.
        own_task: share of samples nearest to those of their own typeface.
    """

    spoken: Score | None
    asked: Score
    kid: Score
    own_task: Score


def table(real: Row, rows: Mapping[Heard, Row]) -> str:
    """Format all rows, and the differences that sounds, speakers and images make."""
    named = {"real images, moved": real, **{heard.name: row for heard, row in rows.items()}}
    lines = [
        "| given | reads as spoken | reads as asked for | KID | own task |",
        "| --- | --: | --: | --: | --: |",
        *(_line(name, row) for name, row in named.items()),
        "",
        "| difference | reads as asked for | KID | own task |",
        "| --- | --: | --: | --: |",
        *(_difference(rows, *pair) for pair in _pairs(list(dict.fromkeys(h.images for h in rows)))),
    ]
    return "\n".join(lines)


def _pairs(numbers: Sequence[int]) -> list[tuple[Heard, Heard]]:
    """List the systems to compare: by speaker, with and without a sound, and by images."""
    right = {images: Heard(images, RIGHT, SEEN) for images in numbers}
    return [
        *((Heard(images, RIGHT, UNSEEN), right[images]) for images in numbers),
        *((right[images], Heard(images)) for images in numbers if images),
        *((right[images], right[0]) for images in numbers if images),
    ]


def _line(name: str, row: Row) -> str:
    spoken = share(row.spoken.estimate) if row.spoken else ""
    scores = [share(row.asked.estimate), number(row.kid.estimate), share(row.own_task.estimate)]
    return f"| {' | '.join([name, spoken, *scores])} |"


def _difference(rows: Mapping[Heard, Row], one: Heard, other: Heard) -> str:
    asked, kid, own = (
        getattr(rows[one], score).minus(getattr(rows[other], score))
        for score in ("asked", "kid", "own_task")
    )
    name = f"{one.name}, less {other.name}"
    return f"| {name} | {share(asked, '+')} | {number(kid, '+')} | {share(own, '+')} |"
