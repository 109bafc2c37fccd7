"""The speed of episodes from object storage: `python -m benchmarks.data.streaming`.

Ours, cold and from the cache on disk, beside the bound: plain ranged GETs of the same bytes by the
same number of threads, neither verified nor decoded; and whichever of MosaicML Streaming, LitData,
WebDataset and Hugging Face datasets is installed (the extra `bench`), reading the same images.
One S3 server on this machine, behind a proxy that adds latency and counts. All images are noise of
raw pixels, for PNG would measure its decoder. Takes some ten minutes.
"""

import argparse
import json
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import fsspec
import numpy as np
from botocore.config import Config as ClientConfig
from s3fs import S3FileSystem

from benchmarks.cluster.latency import Latency, latency
from benchmarks.data.streaming_peers import SIDE, Peer, image, installed
from metatrain.config import DataConfig
from metatrain.data.loader import READERS, load_episodes
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packed.writer import DatasetWriter
from metatrain.data.pictures import decode
from metatrain.data.tasks.class_sampler import ClassSampler
from metatrain.data.tasks.classes import Classes
from metatrain.storage.disk_cache import DiskCache
from metatrain.storage.object_stores import forget_object_stores
from metatrain.storage.s3_server import BUCKET, S3Server

SHOTS, QUERIES = 5, 5
LATENCIES = (0.001, 0.010, 0.050)
# Images of a task: row groups of 0.1, 1 and 4 MiB.
TASK_IMAGES = (10, 104, 415)
# The peers' shards are of 64 MB, so that the set must be of several.
DATASET_BYTES = 400_000_000
# Episodes come before the clock starts, so that as many are on their way when it does as when it
# stops.
BEFORE, EPISODES, PEER_EPISODES = 70, 100, 16
# Of what is read ahead: enough for all readers at 4 MiB.
BUDGET = 256_000_000


Row = dict[str, Any]


class Bench:
    """The setting of a measurement: a server's data sets, and the proxy in front of it.

    Args:
        proxy: what counts.
        scratch: a folder for what readers keep.
        rounds: how often ours and the bound are measured, in turn.
    """

    def __init__(self, proxy: Latency, scratch: str, rounds: int) -> None:
        self._proxy, self._scratch, self._rounds = proxy, scratch, rounds

    def ours_and_bound(self, url: str) -> list[Row]:
        """Ours, cold and warm, and the bound."""
        store = EpisodeStore(url)
        systems = {"bound": lambda: _plain_gets(store), "ours": lambda: _episodes(store)}
        for read in systems.values():
            self._cost(read())  # opens the connections
        taken: dict[str, list[Row]] = {name: [] for name in systems}
        for name in ["bound", "ours", "ours", "bound"] * (self._rounds // 2):
            taken[name].append(self._cost(systems[name]()))
        shares = [
            ours["images_per_second"] / bound["images_per_second"]
            for ours, bound in zip(taken["ours"], taken["bound"], strict=True)
        ]
        cached = EpisodeStore(url, DiskCache(tempfile.mkdtemp(dir=self._scratch), DATASET_BYTES))
        warm = [self._cost(_episodes(cached)) for _ in range(2)][1]
        rows = {name: _median(costs) for name, costs in taken.items()} | {"ours, warm": warm}
        rows["ours"]["share"], rows["bound"]["share"] = statistics.median(shares), 1.0
        rows["ours"]["shares"] = shares
        return [{"system": name} | row for name, row in rows.items()]

    def peer(self, peer: Peer, url: str, images: int) -> Row:
        """A peer, from an empty folder on."""
        os.environ["AWS_ENDPOINT_URL"] = self._proxy.endpoint
        read = peer.open(url, tempfile.mkdtemp(dir=self._scratch), images)
        plans = np.random.default_rng(0)
        tasks = [int(plans.integers(_tasks(images))) for _ in range(PEER_EPISODES)]
        wanted = [[int(i) for i in plans.permutation(images)[: SHOTS + QUERIES]] for _ in tasks]

        def episodes() -> Iterator[object]:
            with ThreadPoolExecutor(READERS) as pool:
                yield
                for task, at, result in zip(
                    tasks, wanted, pool.map(read, tasks, wanted), strict=True
                ):
                    assert result == [image(task * images + i) for i in at]
                    yield decode(result, SIDE, 3)

        return self._cost(episodes(), PEER_EPISODES, before=1)

    def _cost(self, episodes: Iterator, count: int = EPISODES, before: int = BEFORE) -> Row:
        """Return the cost of an episode, measured over many."""
        for _ in islice(episodes, before):
            pass
        passed, cpu, began = self._proxy.passed(), time.process_time(), time.perf_counter()
        for _ in islice(episodes, count):
            pass
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        requests, moved = (b - a for a, b in zip(passed, self._proxy.passed(), strict=True))
        getattr(episodes, "close", lambda: None)()
        time.sleep(0.3)  # what is on its way ahead must not disturb what is measured next
        return {
            "images_per_second": count * (SHOTS + QUERIES) / seconds,
            "cpu_ms": 1000 * cpu / count,
            "requests": requests / count,
            "mb": moved / count / 1e6,
        }


def main() -> None:
    """Measure, print a table, write all of it."""
    options, rows = _options(), []
    with (
        tempfile.TemporaryDirectory() as folder,
        S3Server(f"{folder}/store", f"{folder}/keys") as server,
    ):
        os.environ |= dict(server.environment)
        urls = {images: _write(images) for images in options.images}
        peers = installed() if options.peers_at else {}
        places = {name: _write_peer(p, folder, options.peers_at) for name, p in peers.items()}
        print("| row group | latency | system | images/s | / bound | CPU ms | requests | MB |")
        print("|---|---|---|--:|--:|--:|--:|--:|")
        for seconds in options.latencies:
            with latency(server.endpoint, seconds) as proxy:
                os.environ["AWS_ENDPOINT_URL"] = proxy.endpoint
                S3FileSystem.clear_instance_cache()
                forget_object_stores()
                bench = Bench(proxy, folder, options.rounds)
                for images, url in urls.items():
                    case = {"images": images, "latency": seconds}
                    results = [case | row for row in bench.ours_and_bound(url)]
                    for name, peer in peers.items() if images == options.peers_at else ():
                        row = bench.peer(peer, places[name] or url, images)
                        share = row["images_per_second"] / results[0]["images_per_second"]
                        results.append(case | {"system": name, "share": share} | row)
                    _print(results)
                    rows += results
    Path(options.out).write_text(json.dumps(rows, indent=1))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.data.streaming")
    parser.add_argument("--latencies", type=float, nargs="+", default=LATENCIES)
    parser.add_argument("--images", type=int, nargs="+", default=TASK_IMAGES, help="of a task")
    parser.add_argument("--peers-at", type=int, default=104, help="their images a task; 0: none")
    parser.add_argument("--rounds", type=int, default=6, help="an even number")
    parser.add_argument("--out", default="streaming.json")
    return parser.parse_args()


def _print(rows: list[Row]) -> None:
    for row in rows:
        group = row["images"] * 3 * SIDE**2 / 2**20
        share = f"{row['share']:.2f}" if "share" in row else ""
        print(
            f"| {group:.1f} MiB | {1000 * row['latency']:.0f} ms | {row['system']} | "
            f"{row['images_per_second']:,.0f} | {share} | {row['cpu_ms']:.1f} | "
            f"{row['requests']:.2f} | {row['mb']:.2f} |",
            flush=True,
        )


def _median(rows: list[Row]) -> Row:
    return {key: statistics.median(row[key] for row in rows) for key in rows[0]}


def _sampler(store: EpisodeStore) -> ClassSampler:
    return ClassSampler(
        store.tasks("train"), shots=SHOTS, queries=QUERIES, meta_batch=1, seed=0, split="train"
    )


def _episodes(store: EpisodeStore) -> Iterator[object]:
    config = DataConfig(image_size=SIDE, channels=3, prefetch_bytes=BUDGET)
    return load_episodes(Classes(config.tasks, config, store), _sampler(store), start=0)


def _plain_gets(store: EpisodeStore) -> Iterator[object]:
    options = ClientConfig(max_pool_connections=READERS)
    client = botocore.session.get_session().create_client("s3", config=options)
    groups = {group.task: group for group in store.row_groups}
    sampler, prefix = _sampler(store), urlsplit(store.url).path.strip("/")

    def get(step: int) -> int:
        group = groups[sampler.plan(step, 0).task.name]
        byte_range = f"bytes={group.offset}-{group.end - 1}"
        key = f"{prefix}/{group.file}"
        return len(client.get_object(Bucket=BUCKET, Key=key, Range=byte_range)["Body"].read())

    with ThreadPoolExecutor(READERS) as pool:
        yield from pool.map(get, range(BEFORE + EPISODES + READERS))


def _tasks(images: int) -> int:
    return min(1000, DATASET_BYTES // (images * 3 * SIDE**2))


def _write(images: int) -> str:
    """A data set of noise in the bucket, with so many images a task."""
    url = f"s3://{BUCKET}/{images}"
    writer = DatasetWriter(url, ())
    writer.begin()
    for task in range(_tasks(images)):
        row = {"task": f"{task:05d}", "split": "train", "width": SIDE, "height": SIDE}
        for index in range(images):
            writer.add({**row, "index": index, "image": image(task * images + index)})
    writer.commit({})
    return url


def _write_peer(peer: Peer, folder: str, images: int) -> str | None:
    """The same in a peer's own format; None where it reads ours."""
    if peer.write is None:
        return None
    place = tempfile.mkdtemp(dir=folder)
    peer.write(place, _tasks(images), images)
    url = f"s3://{BUCKET}/{peer.module}"
    fs, root = fsspec.core.url_to_fs(url)
    fs.put(f"{place}/", root, recursive=True)
    shutil.rmtree(place)
    return url


if __name__ == "__main__":
    main()
