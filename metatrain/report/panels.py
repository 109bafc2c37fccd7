"""What a run draws of single tasks: its strips, as pictures of a page."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from metatrain.data.pictures import png
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.strip_files import read_strips
from metatrain.report.contenders import Contender
from metatrain.report.evaluated import EvaluatedRun
from metatrain.report.pages import data_url
from metatrain.report.writing import counted

# About how wide images are shown, in CSS pixels.
_IMAGE_WIDTH = 56


@dataclass(frozen=True)
class Row:
    """Images as data URLs: `label` says to the eye what they are, `kind` to the style sheet."""

    kind: str
    label: str
    images: list[str]


@dataclass(frozen=True)
class Task:
    """A task of the page: its name, the character that it names if any, and its scores."""

    name: str
    character: str
    own_task: float
    kid: float


@dataclass(frozen=True)
class Panel:
    """One task with its images, what was given on top and real ones at the bottom."""

    task: Task
    rows: list[Row]


def read_panels(run: EvaluatedRun, tasks: Sequence[int]) -> list[Panel]:
    """The strips of `tasks`, by number, as the evaluation kept them."""
    kept = read_strips(run.folder, run.evaluation, tasks)
    return [
        Panel(
            task_of(run.evaluation, i),
            [
                Row("given", "given", urls(strip.support)),
                *(
                    Row("drawn", moment(step), urls(images))
                    for step, images in strip.samples.items()
                ),
                Row("real", "real", urls(strip.real)),
            ],
        )
        for i, strip in zip(tasks, kept, strict=True)
    ]


@dataclass(frozen=True)
class Way:
    """What one of several runs draws of a task: what to call each moment, and its images."""

    of: Contender
    own_task: float
    moments: dict[str, list[str]]


@dataclass(frozen=True)
class Comparison:
    """One task with what all runs were given, what each draws, and real images."""

    task: Task
    given: list[str]
    ways: list[Way]
    real: list[str]


def read_comparisons(
    contenders: Sequence[Contender], tasks: Sequence[int], count: int = 2
) -> list[Comparison]:
    """The strips of `tasks`, by number, in every run, with `count` images of each moment."""
    first = contenders[0]
    kept = [read_strips(c.run.folder, c.evaluation, tasks) for c in contenders]
    found = []
    for i, strips in zip(tasks, zip(*kept, strict=True), strict=True):
        ways = [
            Way(
                contender,
                contender.result.own_task[i],
                {moment(step): urls(images[:count]) for step, images in strip.samples.items()},
            )
            for contender, strip in zip(contenders, strips, strict=True)
        ]
        given, real = urls(strips[0].support), urls(strips[0].real)
        found.append(Comparison(task_of(first.evaluation, i), given, ways, real))
    return found


def task_of(evaluation: Evaluation, index: int) -> Task:
    """A task by number, with what the evaluated system got on it."""
    name, result = evaluation.episodes.tasks[index], evaluation.result
    return Task(name, character(name), result.own_task[index], result.task_kid[index])


def urls(images: Tensor) -> list[str]:
    """Images [N, C, H, W] in [-1, 1] as data URLs."""
    return [data_url(png(image)) for image in images]


def moment(step: int) -> str:
    """What a strip calls the images that were drawn after `step` inner steps."""
    return counted(step, "step") if step else "before"


def character(task: str) -> str:
    """What a task named after a code point, such as 'U+0416', looks like; '' for all others."""
    match = re.fullmatch(r"U\+([0-9A-F]{4,5})", task)
    character = chr(int(match[1], 16)) if match else ""
    return character if character.isprintable() else ""


def displayed(image_size: int) -> int:
    """The width to show images at: every pixel as wide as the next, if they are small."""
    scale = round(_IMAGE_WIDTH / image_size)
    return scale * image_size or _IMAGE_WIDTH


def displayed_in_a_row(image_size: int) -> int:
    """The same where many stand side by side, so that none may be wider than is usual."""
    whole = _IMAGE_WIDTH // image_size * image_size
    return whole if whole > 2 / 3 * _IMAGE_WIDTH else _IMAGE_WIDTH
