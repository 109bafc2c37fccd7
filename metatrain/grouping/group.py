"""The grouping of a data set: its images become groups of what looks alike."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import on_white, to_uint8
from metatrain.data.tasks.grouping import Grouping
from metatrain.grouping.features import features_of, train_features
from metatrain.grouping.partitions import Partitions


@dataclass(frozen=True)
class GroupingOptions:
    """The way to group images.

    Attributes:
        clusters: groups of a partition; by default as many as give each 20 images.
        partitions: partitions, each by other traits.
        steps: steps in which the features are learned.
        size: height and width at which images are compared, in pixels.
        seed: of all that is random.
    """

    clusters: int | None = None
    partitions: int = 10
    steps: int = 1000
    size: int = 32
    seed: int = 0


_IMAGES_OF_A_CLUSTER = 20


def group(store: EpisodeStore, splits: Sequence[str], options: GroupingOptions) -> Grouping:
    """Group the images of some splits, by features and centres that are found in the first one.

    No label is used: the tasks that images were packed as do not count.

    Args:
        store: the data set.
        splits: such as 'train'.
        options: of features and partitions.

    Raises:
        UserError: when the data cannot be read, or has too few images for the clusters.
    """
    images = {split: _images(store, split, options.size) for split in splits}
    first = images[splits[0]]
    clusters = options.clusters or max(2, len(first) // _IMAGES_OF_A_CLUSTER)
    if clusters > len(first):
        raise UserError(
            f"split '{splits[0]}' of {store.url} has {len(first):,} images, too few for "
            f"{clusters:,} groups; choose fewer, or pack more images."
        )
    network = train_features(first, steps=options.steps, seed=options.seed)
    features = {split: features_of(network, values) for split, values in images.items()}
    partitions = Partitions(
        features[splits[0]], clusters=clusters, count=options.partitions, seed=options.seed
    )
    groups = {split: partitions.groups_of(values) for split, values in features.items()}
    return Grouping(store.fingerprint, groups)


def _images(store: EpisodeStore, split: str, size: int) -> Tensor:
    """Read all images of a split, [N, C, H, W] of uint8, C 1 or 3."""
    _, channels = store.shape()
    parts = [to_uint8(on_white(part)) for part in store.task_images(split, size, channels)]
    if not parts:
        raise UserError(f"split '{split}' of {store.url} has no image; pack more of them.")
    return torch.cat(parts)
