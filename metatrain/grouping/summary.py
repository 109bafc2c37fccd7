"""A grouping for people: the sizes of its groups, their agreement with tasks, and a picture."""

import importlib

import torch
from torch import Tensor

from metatrain.data.packed.manifest import IMAGE
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import decode, encoded, grid, pil_images
from metatrain.data.tasks.grouping import Grouping
from metatrain.data.tasks.pool import Pool

_ROWS, _COLUMNS, _SIDE = 12, 10, 48


def summary(grouping: Grouping, store: EpisodeStore) -> str:
    """Return lines on the groups of each split, and their agreement with the data's own tasks."""
    return "\n".join(_of_split(split, groups, store) for split, groups in grouping.groups.items())


def _of_split(split: str, groups: Tensor, store: EpisodeStore) -> str:
    sizes = torch.cat([partition.unique(return_counts=True)[1] for partition in groups])
    line = (
        f"  {split}: {groups.shape[1]:,} images in {len(groups):,} partitions, {len(sizes):,} "
        f"groups in all, of {int(sizes.min()):,} to {int(sizes.max()):,} images (median "
        f"{int(sizes.median()):,})"
    )
    counts = [task.count for task in store.tasks(split)]
    if max(counts) == 1 or len(counts) == 1:
        return line
    return f"{line}\n  agreement with its own tasks: {agreement(groups[0], counts):.2f} (1 at most)"


def agreement(groups: Tensor, counts: list[int]) -> float:
    """Return the adjusted mutual information of groups and tasks: 0 by chance, 1 if the same.

    Vinh, Epps and Bailey 2010, "Information Theoretic Measures for Clusterings Comparison", eq. 6.

    Args:
        groups: the group of each image, [N].
        counts: images of each task; the N images lie in the order of tasks.
    """
    tasks = torch.repeat_interleave(torch.tensor(counts))
    score = importlib.import_module("sklearn.metrics").adjusted_mutual_info_score
    return float(score(tasks.numpy(), groups.numpy()))


def sheet(grouping: Grouping, store: EpisodeStore) -> bytes:
    """Encode a PNG with images of some groups of the first partition, one group a row."""
    split, groups = next(iter(grouping.groups.items()))
    pool, rows = Pool(store, split), []
    numbers, counts = groups[0].unique(return_counts=True)
    large = numbers[counts >= min(_COLUMNS, int(counts.max()))]
    for number in large[:: max(1, len(large) // _ROWS)][:_ROWS]:
        members = (groups[0] == number).nonzero().flatten().tolist()[:_COLUMNS]
        images = store.read_images([pool[member] for member in members], [IMAGE])[IMAGE]
        row = torch.ones(_COLUMNS, 3, _SIDE, _SIDE)
        row[: len(images)] = decode(images, _SIDE, 3)
        rows.append(row)
    [picture] = pil_images(grid(torch.cat(rows), _COLUMNS)[None])
    return encoded(picture)
