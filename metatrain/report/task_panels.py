"""The images of single tasks on a page: support, generated and real ones, as data URLs."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from metatrain.data.pictures import png
from metatrain.evaluation.given_files import read_given
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.strip_files import read_strips
from metatrain.report.compared_runs import ComparedRun
from metatrain.report.evaluated import EvaluatedRun
from metatrain.report.formatting import counted
from metatrain.report.given_values import GivenRow, given_row
from metatrain.report.pages import data_url

# About the width of an image on the page, in CSS pixels.
_IMAGE_WIDTH = 56


@dataclass(frozen=True, kw_only=True)
class ImageRow:
    """A row of images as data URLs, with its label and its class in the style sheet."""

    kind: str
    label: str
    images: list[str]


@dataclass(frozen=True, kw_only=True)
class TaskSummary:
    """A task: its name, the character that it is named after if any, and its scores."""

    name: str
    character: str
    own_task: float
    kid: float


@dataclass(frozen=True)
class TaskPanel:
    """One task of one run: what it was given, and rows of support, generated and real images."""

    task: TaskSummary
    rows: list[ImageRow]
    given: list[GivenRow]


@dataclass(frozen=True)
class RunSamples:
    """The images that one run generates of a task, by the label of the number of inner steps."""

    run: ComparedRun
    own_task: float
    samples: dict[str, list[str]]


@dataclass(frozen=True, kw_only=True)
class TaskComparison:
    """One task of several runs: its support, the images of each run, and real images."""

    task: TaskSummary
    support: list[str]
    runs: list[RunSamples]
    real: list[str]


def read_panels(run: EvaluatedRun, tasks: Sequence[int]) -> list[TaskPanel]:
    """Read the images of `tasks`, by number, that the evaluation of a run kept."""
    strips = read_strips(run.folder, run.evaluation, tasks)
    return [
        TaskPanel(
            summary_of(run.evaluation, i),
            [
                ImageRow(kind="support", label="support", images=_urls(strip.support)),
                *(
                    ImageRow(kind="generated", label=_after(steps), images=_urls(images))
                    for steps, images in strip.samples.items()
                ),
                ImageRow(kind="real", label="real", images=_urls(strip.real)),
            ],
            [given_row(values) for values in read_given(run.folder, i)],
        )
        for i, strip in zip(tasks, strips, strict=True)
    ]


def read_comparisons(
    runs: Sequence[ComparedRun], tasks: Sequence[int], count: int = 2
) -> list[TaskComparison]:
    """Read the images of `tasks`, by number, of every run, `count` for each number of steps."""
    strips_by_run = [read_strips(run.evaluated.folder, run.evaluation, tasks) for run in runs]
    comparisons = []
    for i, strips in zip(tasks, zip(*strips_by_run, strict=True), strict=True):
        samples = [
            RunSamples(
                run,
                run.result.own_task[i],
                {_after(steps): _urls(images[:count]) for steps, images in strip.samples.items()},
            )
            for run, strip in zip(runs, strips, strict=True)
        ]
        comparison = TaskComparison(
            task=summary_of(runs[0].evaluation, i),
            support=_urls(strips[0].support),
            runs=samples,
            real=_urls(strips[0].real),
        )
        comparisons.append(comparison)
    return comparisons


def summary_of(evaluation: Evaluation, index: int) -> TaskSummary:
    """Summarise a task, by number, with the scores of the evaluated system on it."""
    name, result = evaluation.episodes.tasks[index], evaluation.result
    return TaskSummary(
        name=name,
        character=character_of(name),
        own_task=result.own_task[index],
        kid=result.task_kid[index],
    )


def _urls(images: Tensor) -> list[str]:
    """Encode images [N, C, H, W] in [-1, 1] as data URLs."""
    return [data_url(png(image)) for image in images]


def _after(steps: int) -> str:
    """Label the images that were generated after so many inner steps."""
    return counted(steps, "step") if steps else "before"


def character_of(task: str) -> str:
    """Return the character that a task named like 'U+0416' stands for; '' for other names."""
    match = re.fullmatch(r"U\+([0-9A-F]{4,5})", task)
    character = chr(int(match[1], 16)) if match else ""
    return character if character.isprintable() else ""


def displayed_width(image_size: int) -> int:
    """Choose the width of an image on the page, in CSS pixels: whole multiples of small images."""
    scale = round(_IMAGE_WIDTH / image_size)
    return scale * image_size or _IMAGE_WIDTH


def displayed_width_in_a_row(image_size: int) -> int:
    """Choose the same for many images side by side, which has an upper limit."""
    whole = _IMAGE_WIDTH // image_size * image_size
    return whole if whole > 2 / 3 * _IMAGE_WIDTH else _IMAGE_WIDTH
