"""Other libraries reading the images of one task from a bucket, each as its documentation says.

The same images, encoded alike, in each library's own format and its documented size of shards;
WebDataset, which only reads from front to back, gets the kindest there is, one tar a task. MosaicML
Streaming does not install beside the others: see docs/benchmarks-streaming.md.
"""

import importlib
import importlib.util
import os
import sys
import tarfile
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from threading import RLock
from types import ModuleType
from typing import NamedTuple

import fsspec
import numpy as np

SIDE = 58  # an image is 10 kB

Read = Callable[[int, Sequence[int]], list[bytes]]


class Peer(NamedTuple):
    """A library: what is to be imported, how it writes a folder, and how it opens one in a bucket.

    `write` is given a folder, the number of tasks, and of images of each, and is None where the
    library reads our Parquet; `open` is given a URL, an empty folder for what it keeps, and the
    number of images of a task.
    """

    module: str
    write: Callable[[str, int, int], None] | None
    open: Callable[[str, str, int], Read]


def image(index: int) -> bytes:
    """Raw pixels of noise, always the same for `index`."""
    noise = np.random.default_rng(index).bytes(3 * SIDE**2)
    return b"P6 %d %d 255\n" % (SIDE, SIDE) + noise


def installed() -> dict[str, Peer]:
    """The peers that can be found, by name."""
    return {name: peer for name, peer in PEERS.items() if importlib.util.find_spec(peer.module)}


def _write_mosaic(folder: str, tasks: int, images: int) -> None:
    with _mosaic().MDSWriter(out=folder, columns={"image": "bytes"}) as writer:
        for index in range(tasks * images):
            writer.write({"image": image(index)})


def _open_mosaic(url: str, scratch: str, images: int) -> Read:
    base = _mosaic()
    os.environ["S3_ENDPOINT_URL"] = os.environ["AWS_ENDPOINT_URL"]
    base.util.clean_stale_shared_memory()
    data = base.StreamingDataset(remote=url, local=scratch, shuffle=False, batch_size=1)
    return lambda task, wanted: [data[task * images + i]["image"] for i in wanted]


@cache
def _mosaic() -> ModuleType:
    # The package's own __init__ imports torchvision, of which the registry has the build for CUDA.
    spec = importlib.util.find_spec("streaming")
    assert spec is not None
    bare = ModuleType("streaming")
    bare.__path__ = list(spec.submodule_search_locations or ())
    sys.modules["streaming"] = bare
    return importlib.import_module("streaming.base")


def _write_litdata(folder: str, tasks: int, images: int) -> None:
    litdata = importlib.import_module("litdata")
    litdata.optimize(
        fn=image,
        inputs=list(range(tasks * images)),
        output_dir=folder,
        chunk_bytes="64MB",
        num_workers=1,
        keep_data_ordered=True,
        verbose=False,
    )


def _open_litdata(url: str, scratch: str, images: int) -> Read:
    litdata = importlib.import_module("litdata")
    options = {"endpoint_url": os.environ["AWS_ENDPOINT_URL"]}
    data = litdata.StreamingDataset(url, cache_dir=scratch, storage_options=options)
    return lambda task, wanted: [data[task * images + i] for i in wanted]


def _write_webdataset(folder: str, tasks: int, images: int) -> None:
    for task in range(tasks):
        with tarfile.open(Path(folder) / f"{task:05d}.tar", "w") as tar:
            for i in range(images):
                member, data = tarfile.TarInfo(f"{i:06d}.ppm"), image(task * images + i)
                member.size = len(data)
                tar.addfile(member, BytesIO(data))


def _open_webdataset(url: str, scratch: str, images: int) -> Read:
    wds = importlib.import_module("webdataset")
    fs, root = fsspec.core.url_to_fs(url)

    def read(task: int, wanted: Sequence[int]) -> list[bytes]:
        address = fs.sign(f"{root}/{task:05d}.tar", expiration=600)
        samples = wds.WebDataset([address], shardshuffle=False)
        results = {int(sample["__key__"]): sample["ppm"] for sample in samples}
        return [results[i] for i in wanted]

    return read


def _open_datasets(url: str, scratch: str, images: int) -> Read:
    datasets = importlib.import_module("datasets")
    # Or each of several threads that list files takes the lock of the others' bars away.
    datasets.utils.tqdm.set_lock(RLock())

    def read(task: int, wanted: Sequence[int]) -> list[bytes]:
        rows = datasets.load_dataset(
            "parquet",
            data_files=f"{url}/data-*.parquet",
            split="train",
            streaming=True,
            columns=["index", "image"],
            filters=[("task", "==", f"{task:05d}")],
            cache_dir=scratch,
        )
        results = {row["index"]: row["image"] for row in rows}
        return [results[i] for i in wanted]

    return read


PEERS = {
    "MosaicML Streaming": Peer("streaming", _write_mosaic, _open_mosaic),
    "LitData": Peer("litdata", _write_litdata, _open_litdata),
    "WebDataset": Peer("webdataset", _write_webdataset, _open_webdataset),
    "HF datasets": Peer("datasets", None, _open_datasets),
}
