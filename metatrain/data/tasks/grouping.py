"""Groupings: files that say which images of a data set belong together, found without labels."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.text import printable, reason_of
from metatrain.data.packed.manifest import SPLITS
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.pool import Pool
from metatrain.storage.files import read_file, write_file
from metatrain.storage.tensors import read_metadata

_FORMAT = "metatrain-grouping-1"
_MOST_PARTITIONS = 1000


@dataclass(frozen=True)
class Grouping:
    """Several partitions of a data set's images into groups.

    Attributes:
        data: the fingerprint of the data set.
        groups: by split, the group of each image in each partition, [P, N] of int32; images are
            numbered as by `Pool`. A number below 0 stands for no group.
    """

    data: str
    groups: Mapping[str, Tensor]

    def save(self, url: str) -> str:
        """Write a file, and return its sha256.

        Raises:
            UserError: when it cannot be written.
        """
        content = save(dict(self.groups), {"format": _FORMAT, "data": self.data})
        write_file(url, content)
        return hashlib.sha256(content).hexdigest()


def read_grouping(url: str, store: EpisodeStore) -> tuple[Grouping, str]:
    """Read the grouping of a data set, and the sha256 of its file.

    Raises:
        UserError: when there is none, or it is damaged, or belongs to another data set.
    """
    content = read_file(url)
    try:
        metadata = read_metadata(content)
        if metadata.get("format") != _FORMAT:
            raise ValueError(f"its format is not {_FORMAT}")
        grouping = Grouping(str(metadata["data"]), load(content))
    except (ValueError, KeyError, AttributeError, RecursionError, SafetensorError) as error:
        raise UserError(
            f"{url} is no grouping, or is damaged ({reason_of(error)}); make one with metatrain "
            f"group."
        ) from error
    if grouping.data != store.fingerprint:
        raise UserError(
            f"{url} groups the images of another data set than {store.url}, or of what that was "
            f"before it grew; make one with metatrain group."
        )
    _check(grouping, url, store)
    return grouping, hashlib.sha256(content).hexdigest()


def _check(grouping: Grouping, url: str, store: EpisodeStore) -> None:
    for split, groups in grouping.groups.items():
        right = groups.dtype == torch.int32 and groups.dim() == 2 and split in SPLITS
        if not right or not 1 <= len(groups) <= _MOST_PARTITIONS:
            fault = f"its tensor '{printable(split)}' is none of int32 [partitions, images]"
        elif groups.shape[1] != len(Pool(store, split)):
            fault = f"it has {groups.shape[1]:,} images of split '{split}', and the data another"
        else:
            continue
        raise UserError(f"{url} is damaged ({fault}); make it again with metatrain group.")
