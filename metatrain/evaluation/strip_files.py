"""What was drawn of every task, kept as a picture each: to be looked at, and for pages to cut.

A strip has a row of what was given, one of what was drawn after each number of inner steps, and one
of real images. A page of several runs shows tasks that no one of them would have chosen, so none is
left out.
"""

import io
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.data.pictures import from_uint8, grid, png, tiles
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.running.jobs import Drawn
from metatrain.storage.files import asking, filesystem_of, write_file

# Tasks whose given images are kept as files too, which `metatrain adapt` takes.
_SUPPORTS = 12


class KeptStrip(NamedTuple):
    """The images of one task, in [-1, 1].

    Attributes:
        given: the support, [K, C, H, W].
        drawn: what was drawn after so many inner steps, [N, C, H, W].
        real: as many real images.
    """

    given: Tensor
    drawn: dict[int, Tensor]
    real: Tensor


def keep_strips(benchmark: Benchmark, outcomes: Sequence[Drawn], folder: str) -> None:
    """Write the strip of every task, of the first seed, under `folder`, a path or fsspec URL."""
    for i, drawn in enumerate(outcomes[: len(benchmark.tasks)]):
        support = benchmark.support[0, i]
        rows = [support, *from_uint8(drawn.images), benchmark.reference[0, i]]
        write_file(f"{folder}/{strip_file(i)}", png(_strip(rows)))
        for n, image in enumerate(support if i < _SUPPORTS else ()):
            write_file(f"{folder}/strips/{i:02d}/support/{n}.png", png(image))


def read_strips(folder: str, evaluation: Evaluation, tasks: Sequence[int]) -> list[KeptStrip]:
    """The strips of some tasks, all read in one go.

    Args:
        folder: where the evaluation lies.
        evaluation: what it found.
        tasks: by number.

    Raises:
        UserError: when one is missing or damaged.
    """
    fs, root = filesystem_of(folder)
    # Not `cat`, which would take a bracket in a path for a pattern.
    paths = [f"{root}/{strip_file(i)}" for i in tasks]
    read = partial(fs.cat_ranges, paths, None, None, on_error="raise")
    files = asking(f"{folder}/strips", read)
    return [
        _cut(content, f"{folder}/{strip_file(i)}", evaluation)
        for content, i in zip(files, tasks, strict=True)
    ]


def strip_file(index: int) -> str:
    """The file of a strip: by number, since a task's name may have any character."""
    return f"strips/{index:02d}/strip.png"


def _strip(rows: Sequence[Tensor]) -> Tensor:
    """Rows of images in one picture [C, H, W], grey where one is shorter than the others."""
    across = max(len(row) for row in rows)
    filled = [F.pad(row, (0, 0, 0, 0, 0, 0, 0, across - len(row))) for row in rows]
    return grid(torch.cat(filled), columns=across)


def _cut(content: bytes, url: str, evaluation: Evaluation) -> KeptStrip:
    steps, episodes = sorted(evaluation.result.curve), evaluation.episodes
    across = max(episodes.shots, episodes.images)
    try:
        with Image.open(io.BytesIO(content), formats=["PNG"]) as picture:
            pixels = torch.from_numpy(np.atleast_3d(np.array(picture))).permute(2, 0, 1)
        given, *drawn, real = tiles(from_uint8(pixels), across).unflatten(0, (-1, across))
        after = {step: row[: episodes.images] for step, row in zip(steps, drawn, strict=True)}
    except (OSError, ValueError, RuntimeError) as error:
        raise UserError(f"{url} is damaged; run `metatrain evaluate` again.") from error
    return KeptStrip(given[: episodes.shots], after, real[: episodes.images])
