"""How fast episodes come from object storage: `python -m benchmarks.streaming`.

Ours, cold and from the cache on disk, beside the bound: plain ranged GETs of the same bytes by the
same number of threads, neither verified nor decoded. One S3 server on this machine, behind a proxy
that adds latency; both are measured in turn, several times, and the median of the paired shares is
told. Everything is noise of raw pixels, since PNG would measure its decoder. Takes some minutes.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import islice
from urllib.parse import urlsplit

import botocore.session
import numpy as np
from botocore.config import Config as ClientConfig
from s3fs import S3FileSystem

from metatrain.config import DataConfig
from metatrain.disk_cache import DiskCache
from metatrain.episodes import EpisodeSampler
from metatrain.loader import READERS, load_episodes
from metatrain.ranges import forget_connections
from metatrain.s3_server import BUCKET, S3Server
from metatrain.shards import DatasetWriter
from metatrain.store import EpisodeStore

SHOTS, QUERIES, SIDE = 5, 5, 58  # an image is 10 kB
LATENCIES = (0.001, 0.010, 0.050)
# Images of a task: row groups of 0.1, 1 and 4 MiB.
TASK_IMAGES = (10, 104, 415)
# Episodes come before the clock starts, so that as many are on their way when it does as when it
# stops.
DATASET_BYTES, ROUNDS, BEFORE, EPISODES = 128_000_000, 3, 70, 150

Measured = tuple[float, float]  # seconds, requests an episode


def main() -> None:
    """Measure, and print a table."""
    with tempfile.TemporaryDirectory() as folder, S3Server(f"{folder}/store") as server:
        os.environ |= dict(server.environment)
        urls = {images: _write(images) for images in TASK_IMAGES}
        print("| row group | latency | ours, images/s | of the bound | requests | from the cache |")
        print("|---|---|---|---|---|---|")
        for latency in LATENCIES:
            with _latency(server.endpoint, latency) as endpoint:
                os.environ["AWS_ENDPOINT_URL"] = endpoint
                S3FileSystem.clear_instance_cache()
                forget_connections()
                for images, url in urls.items():
                    _row(url, images, latency, f"{folder}/cache-{latency}-{images}")


def _row(url: str, images: int, latency: float, cache: str) -> None:
    store = EpisodeStore(url)
    _ours(store)  # opens the connections
    pairs = [(_bound(store), _ours(store)) for _ in range(ROUNDS)]
    cached = EpisodeStore(url, DiskCache(cache, 2 * DATASET_BYTES))
    _ours(cached)
    warm, _ = _ours(cached)
    seconds = statistics.median(ours for _, (ours, _) in pairs)
    share = statistics.median(bound / ours for bound, (ours, _) in pairs)
    shown = EPISODES * (SHOTS + QUERIES)
    print(
        f"| {images * 3 * SIDE**2 / 2**20:.1f} MiB | {1000 * latency:.0f} ms | "
        f"{shown / seconds:,.0f} | {share:.2f} | {pairs[0][1][1]:.2f} an episode | "
        f"{shown / warm:,.0f} |",
        flush=True,
    )


def _sampler(store: EpisodeStore) -> EpisodeSampler:
    return EpisodeSampler(
        store.tasks("train"), shots=SHOTS, queries=QUERIES, meta_batch=1, seed=0, split="train"
    )


def _ours(store: EpisodeStore) -> Measured:
    config = DataConfig(image_size=SIDE, channels=3)
    episodes = load_episodes(store, _sampler(store), config, start=0)
    for _ in islice(episodes, BEFORE):
        pass
    store.traffic.take()
    started = time.perf_counter()
    for _ in islice(episodes, EPISODES):
        pass
    seconds = time.perf_counter() - started
    requests = store.traffic.take()["requests"] / EPISODES
    episodes.close()
    time.sleep(0.5)  # what was on its way ahead of us must not disturb what is measured next
    return seconds, requests


def _bound(store: EpisodeStore) -> float:
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
        coming = pool.map(get, range(BEFORE + EPISODES + READERS))
        for _ in islice(coming, BEFORE):
            pass
        started = time.perf_counter()
        for _ in islice(coming, EPISODES):
            pass
        return time.perf_counter() - started


def _write(images: int) -> str:
    """A data set of noise in the bucket, with so many images a task."""
    url = f"s3://{BUCKET}/{images}"
    writer = DatasetWriter(url, ())
    writer.begin()
    draws = np.random.default_rng(0)
    header = b"P6 %d %d 255\n" % (SIDE, SIDE)
    for task in range(min(200, DATASET_BYTES // (images * 3 * SIDE**2))):
        row = {"task": f"{task:04d}", "split": "train", "width": SIDE, "height": SIDE}
        for index in range(images):
            image = header + draws.bytes(3 * SIDE**2)
            writer.add({**row, "index": index, "image": image})
    writer.commit({})
    return url


@contextmanager
def _latency(endpoint: str, seconds: float) -> Iterator[str]:
    port = str(urlsplit(endpoint).port)
    command = [sys.executable, "-m", "benchmarks.latency", port, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy:
        assert proxy.stdout
        try:
            yield f"http://127.0.0.1:{int(proxy.stdout.readline())}"
        finally:
            proxy.terminate()


if __name__ == "__main__":
    main()
