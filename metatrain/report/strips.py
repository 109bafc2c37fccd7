"""What a run draws of single tasks: its strips, as pictures of a page."""

import re
from dataclasses import dataclass
from functools import partial

from metatrain.evaluation.candidates import STRIPS, strip_folder
from metatrain.evaluation.results import Evaluation
from metatrain.files import asking, filesystem_of
from metatrain.pages import data_url
from metatrain.report.evaluated import EvaluatedRun
from metatrain.report.writing import counted

# About how wide images are shown, in CSS pixels.
_IMAGE_WIDTH = 56


@dataclass(frozen=True)
class Part:
    """What a strip shows at one moment: `label` for the eye, `kind` for the style sheet."""

    folder: str
    kind: str
    label: str
    count: int


@dataclass(frozen=True)
class Row:
    """The images of one part, as data URLs."""

    part: Part
    images: list[str]


@dataclass(frozen=True)
class Panel:
    """One task of the page: its name, the character that it names if any, and its images."""

    task: str
    character: str
    rows: list[Row]


def read_panels(run: EvaluatedRun) -> list[Panel]:
    """The strips that the evaluation kept, all of their images read in one go."""
    fs, root = filesystem_of(run.folder)
    tasks, parts = run.evaluation.episodes.tasks[:STRIPS], _parts(run.evaluation)
    paths = [
        f"{root}/{strip_folder(i)}/{part.folder}/{n}.png"
        for i in range(len(tasks))
        for part in parts
        for n in range(part.count)
    ]
    # Not `cat`, which would take a bracket in a path for a pattern.
    read = partial(fs.cat_ranges, paths, None, None, on_error="raise")
    files = iter(asking(f"{run.folder}/strips", read))
    return [
        Panel(
            task,
            _character(task),
            [Row(part, [data_url(next(files)) for _ in range(part.count)]) for part in parts],
        )
        for task in tasks
    ]


def _parts(evaluation: Evaluation) -> list[Part]:
    """The parts of every strip, from top to bottom."""
    images = evaluation.episodes.images
    drawn = [
        Part(f"step-{n:04d}", "drawn", counted(n, "step") if n else "before", images)
        for n in sorted(evaluation.result.curve)
    ]
    given = Part("support", "given", "given", evaluation.episodes.shots)
    return [given, *drawn, Part("real", "real", "real", images)]


def _character(task: str) -> str:
    """What a task named after a code point, such as 'U+0416', looks like; '' for all others."""
    match = re.fullmatch(r"U\+([0-9A-F]{4,5})", task)
    character = chr(int(match[1], 16)) if match else ""
    return character if character.isprintable() else ""


def displayed(image_size: int) -> int:
    """The width to show images at: every pixel as wide as the next, if they are small."""
    scale = round(_IMAGE_WIDTH / image_size)
    return scale * image_size or _IMAGE_WIDTH
