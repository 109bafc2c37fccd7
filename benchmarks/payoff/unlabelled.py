"""Groups of training images in place of tasks: of what looks alike, or by chance."""

from collections.abc import Mapping
from typing import Any, Literal

import torch

from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.grouping import Grouping
from metatrain.data.tasks.pool import Pool
from metatrain.grouping.group import GroupingOptions, group
from metatrain.storage.files import exists

Groups = Literal["alike", "chance"]

# As many as `metatrain group` finds by default, in groups of the same mean size.
_PARTITIONS, _IMAGES_OF_A_GROUP = 10, 20


def grouped_tasks(data_url: str, groups: Groups) -> Mapping[str, Any]:
    """Return the changes to a configuration that trains on groups of the data set at `data_url`."""
    return {"data.tasks.name": "clusters", "data.tasks.file": _file(data_url, groups)}


def make_groups(data_url: str, groups: Groups) -> None:
    """Write the groups of a data set beside it, unless they are there.

    Raises:
        UserError: when the data cannot be read.
    """
    file = _file(data_url, groups)
    if not exists(file):
        store = EpisodeStore(data_url)
        found = group(store, ["train"], GroupingOptions()) if groups == "alike" else _chance(store)
        found.save(file)


def _chance(store: EpisodeStore) -> Grouping:
    stream, count = torch.Generator().manual_seed(0), len(Pool(store, "train"))
    orders = [torch.randperm(count, generator=stream) for _ in range(_PARTITIONS)]
    partitions = torch.stack(orders).div(_IMAGES_OF_A_GROUP, rounding_mode="floor")
    return Grouping(store.fingerprint, {"train": partitions.to(torch.int32)})


def _file(data_url: str, groups: Groups) -> str:
    return f"{data_url}-{groups}.safetensors"
