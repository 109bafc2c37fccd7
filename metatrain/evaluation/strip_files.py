"""The strips of an evaluation: a picture of every task, to look at and for pages to cut.

A strip has a row of support images, a row of samples after each number of inner steps, and a row of
real images. Every task has one, since a page that compares runs shows tasks that no single run
would choose.
"""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from metatrain.base.errors import MissingStepError
from metatrain.base.progress import tracked
from metatrain.data.images import BadImage, open_packed
from metatrain.data.pictures import from_levels, from_uint8, grid, png, tiles
from metatrain.evaluation.episodes.benchmark import Benchmark
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.running.jobs import JobOutput
from metatrain.storage.files import asking, filesystem_of, write_file

# Tasks whose support images are also kept as files, an input for `metatrain adapt`.
_SUPPORTS = 12


class TaskStrip(NamedTuple):
    """The images of one task, in [-1, 1].

    Attributes:
        support: the support, [K, C, H, W].
        samples: the samples by number of inner steps, [N, C, H, W] each.
        real: as many real images.
    """

    support: Tensor
    samples: dict[int, Tensor]
    real: Tensor


def keep_strips(benchmark: Benchmark, outputs: Sequence[JobOutput], folder: str) -> None:
    """Write the strip of every task, of the first seed, under `folder`, a path or fsspec URL."""
    firsts = outputs[: len(benchmark.tasks)]
    for i, output in enumerate(tracked("writing pictures", firsts, len(firsts))):
        support = benchmark.support[0, i]
        rows = [support, *from_levels(output.images), benchmark.reference[0, i]]
        write_file(f"{folder}/{strip_file(i)}", png(_strip(rows)))
        for n, image in enumerate(support if i < _SUPPORTS else ()):
            write_file(f"{folder}/strips/{i:02d}/support/{n}.png", png(image))


def read_strips(folder: str, evaluation: Evaluation, tasks: Sequence[int]) -> list[TaskStrip]:
    """Read the strips of some tasks, all in one request.

    Args:
        folder: the folder of the evaluation.
        evaluation: the evaluation.
        tasks: numbers of the tasks.

    Raises:
        MissingStepError: when a strip is damaged.
        UserError: when one is missing.
    """
    fs, root = filesystem_of(folder)
    # Not `cat`, which takes a bracket in a path for a pattern.
    paths = [f"{root}/{strip_file(i)}" for i in tasks]
    read = partial(fs.cat_ranges, paths, None, None, on_error="raise")
    files = asking(f"{folder}/strips", read)
    return [
        _cut(content, f"{folder}/{strip_file(i)}", evaluation)
        for content, i in zip(files, tasks, strict=True)
    ]


def strip_file(index: int) -> str:
    """Return the file of a strip: named by number, since a task's name may have any character."""
    return f"strips/{index:02d}/strip.png"


def _strip(rows: Sequence[Tensor]) -> Tensor:
    """Join rows of images to one picture [C, H, W]; grey fills rows that are shorter."""
    width = max(len(row) for row in rows)
    filled = [F.pad(row, (0, 0, 0, 0, 0, 0, 0, width - len(row))) for row in rows]
    return grid(torch.cat(filled), columns=width)


def _cut(content: bytes, url: str, evaluation: Evaluation) -> TaskStrip:
    steps, episodes = sorted(evaluation.result.curve), evaluation.episodes
    width = max(episodes.shots, episodes.images)
    try:
        pixels = torch.from_numpy(np.atleast_3d(np.array(open_packed(content)))).permute(2, 0, 1)
        support, *rows, real = tiles(from_uint8(pixels), width).unflatten(0, (-1, width))
        samples = {step: row[: episodes.images] for step, row in zip(steps, rows, strict=True)}
    except (BadImage, ValueError, RuntimeError) as error:
        sentence = f"{url} is damaged; evaluate the run again."
        raise MissingStepError(sentence, step="evaluate") from error
    return TaskStrip(support[: episodes.shots], samples, real[: episodes.images])
