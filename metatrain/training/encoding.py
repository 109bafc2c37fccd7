"""Encoding a data set: latents computed once, beside the images that they are of."""

from itertools import chain
from typing import Any

import torch

from metatrain.base.errors import UserError
from metatrain.base.progress import Progress
from metatrain.base.section import Section
from metatrain.base.text import printable
from metatrain.data.images import BadValue
from metatrain.data.packed.latents import LATENT, PackedLatents, encode_latents
from metatrain.data.packed.manifest import IMAGE, by_task
from metatrain.data.packed.shard import shards_of
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import IMAGE_SCHEMA, DatasetWriter
from metatrain.data.pictures import decode
from metatrain.generators import CODECS
from metatrain.generators.codecs.codec import Codec
from metatrain.generators.codecs.sections import IdentityConfig
from metatrain.generators.frozen import content_hash, pinned
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.storage.lease import lease

# Pixels that are encoded at once; a large autoencoder needs a thousand times their bytes.
_PIXELS = 64 * 64 * 64
# What a benchmark's licences ask to be kept with its images.
_BESIDE = "ATTRIBUTION.md"


def encode_data(
    data: str,
    codec: Section,
    dest: str,
    *,
    size: int | None = None,
    device: torch.device | None = None,
    wait: bool = False,
) -> PackedLatents:
    """Copy a packed data set, with the latents of its images by a codec.

    Args:
        data: the data set.
        codec: the section of a codec; its files are pinned.
        dest: the folder to write.
        size: height and width that images are brought to before; as packed by default.
        device: where to encode, the CPU by default.
        wait: whether to wait until another process that writes there has ended.

    Raises:
        HeldError: when another process writes there.
        UserError: when the data or the codec cannot be read, or do not fit, or there is something
            at `dest`.
    """
    if isinstance(codec, IdentityConfig):
        raise UserError("codec.name=identity leaves images as they are; name a codec to encode by.")
    store = EpisodeStore(data)
    section: Any = pinned(codec)
    if store.url == dest.rstrip("/"):
        raise UserError(f"{dest} is the data set itself; name another folder by --out.")
    if LATENT in store.conditions:
        raise UserError(f"{data} has a condition of the name {LATENT}; pack it under another name.")
    packed, channels = store.shape()
    size, place = size or packed, device or torch.device("cpu")
    store.refuse_enlarging(size)
    network = CODECS[section.name](section).to(place)
    latents = PackedLatents(
        codec=content_hash(section),
        shape=network.shape(channels, size),
        image_size=size,
        channels=channels,
    )
    with lease(dest, "encodes", wait=wait):
        _write(store, network, latents, dest, place)
    return latents


def _write(
    store: EpisodeStore, codec: Codec, latents: PackedLatents, dest: str, device: torch.device
) -> None:
    shard = shards_of(store.url, store.row_groups, store.footers)
    schema = shard(store.row_groups[0].file).schema
    texts = [n for n in schema.names if n not in {*IMAGE_SCHEMA.names, *store.conditions, LATENT}]
    kinds = {name: schema.field(name).type for name in store.conditions}
    writer = DatasetWriter(dest, texts, kinds, latents, store.bits)
    writer.begin()
    progress, done = Progress("encoding", sum(g.count for g in store.row_groups)), 0
    try:
        for group in chain.from_iterable(by_task(store.row_groups).values()):
            rows = shard(group.file).rows(group)
            values = _encoded(codec, [row[IMAGE] for row in rows], latents, group.task, device)
            for row, value in zip(rows, values, strict=True):
                writer.add({**row, LATENT: value})
            done += group.count
            progress.update(done)
        writer.commit({"encoded": store.fingerprint}, store.conditions)
    except BaseException:
        writer.clear()
        raise
    progress.close()
    _copy_attribution(store.url, dest)


@torch.no_grad()
def _encoded(
    codec: Codec, packed: list[bytes], latents: PackedLatents, task: str, device: torch.device
) -> list[bytes]:
    try:
        images = decode(packed, latents.image_size, latents.channels)
        batch = max(1, _PIXELS // latents.image_size**2)
        batches = [codec.encode(part.to(device)) for part in images.split(batch)]
        return encode_latents(torch.cat(batches))
    except BadValue as error:
        raise UserError(
            f"task '{printable(task)}' cannot be encoded ({error}); pack it again, or train the "
            f"codec on such images."
        ) from error


def _copy_attribution(source: str, dest: str) -> None:
    try:
        write_file(f"{dest}/{_BESIDE}", read_file(f"{source}/{_BESIDE}"))
    except MissingError:
        return
