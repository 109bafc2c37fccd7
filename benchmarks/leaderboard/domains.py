"""Domains of a data set: a data set for each group of training tasks that look alike."""

from pathlib import Path

import torch

import metatrain
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import to_uint8
from metatrain.grouping.partitions import Partitions
from metatrain.metrics.hog import Hog


def pack_domains(data: str, count: int, *, size: int, channels: int) -> list[str]:
    """Pack the domains of the data set at `data` beside it, unless they are there.

    They are the groups that k-means finds of the mean HOG features of the training tasks.

    Args:
        data: URL of the data set.
        count: number of domains.
        size: height and width in pixels.
        channels: 1 for grey, 3 for colour.

    Returns:
        The URL of each domain.
    """
    urls = [domain_url(data, number) for number in range(1, count + 1)]
    if all(Path(url, MANIFEST).exists() for url in urls):
        return urls
    store = EpisodeStore(data)
    tasks, images = store.tasks("train"), list(store.task_images("train", size, channels))
    features = torch.stack([Hog().features(of).mean(dim=0) for of in images])
    groups = Partitions(features, clusters=count, count=1, seed=0).groups_of(features)[0]
    for number, url in enumerate(urls):
        members = [i for i, group in enumerate(groups.tolist()) if group == number]
        pairs = [
            (tasks[i].name, image.permute(1, 2, 0).numpy())
            for i in members
            for image in to_uint8(images[i])
        ]
        if not Path(url, MANIFEST).exists():
            metatrain.pack({"train": pairs}, url)
    return urls


def domain_url(data: str, number: int) -> str:
    """Return the URL of a domain of the data set at `data`; `number` counts from 1."""
    return f"{data}-domain-{number}"
