"""Put a load on `metatrain serve --ray`, and end a replica of each kind under it.

    python -m benchmarks.serving.on_ray MODEL IMAGES --adapters 1000

Clients adapt to the images as often as there are to be adapters, by one inner step without
previews, and then draw images of adapters at random, over two replicas that draw. In the middle of
either load a replica is killed. The last lines count what was accepted, and what became of it.
"""

import argparse
import json
import random
import statistics
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import ray

from benchmarks.provenance import commit, hardware
from metatrain.base.tables import aligned
from serving.on_ray.run import deployed
from serving.on_ray.settings import ServiceSettings

_HEADS = ["work", "clients", "done", "a second", "p50", "p99", "longest"]
_ADDRESS = "127.0.0.1"
_TOKEN = "token-of-this-benchmark"
_MANY = 1_000_000
_CLIENT = {"token": _TOKEN, "jobs": _MANY, "uploads": 100, "adaptations": _MANY}
# Seconds until a request is made again that found too many jobs, or until one looks again.
_RETRY = 0.1


def kill_one(deployment: str) -> None:
    """Kill a replica of a deployment."""
    actors: list[Any] = ray.util.list_named_actors(all_namespaces=True)
    name = next(a["name"] for a in actors if f"#{deployment}#" in a["name"])
    ray.kill(ray.get_actor(name, namespace="serve"))


def loaded(work: Callable[[int], None], *, count: int, clients: int, victim: str) -> list[float]:
    """Do so many pieces of work by clients at one time, kill a replica halfway; return seconds."""
    done = Counter[str]()
    halfway = threading.Event()

    def timed(i: int) -> float:
        started = time.monotonic()
        work(i)
        done["all"] += 1
        if done["all"] >= count // 2 and not halfway.is_set():
            halfway.set()
            kill_one(victim)
        return time.monotonic() - started

    with ThreadPoolExecutor(clients) as threads:
        return [*threads.map(timed, range(count))]


def post(client: httpx2.Client, path: str, **options: object) -> httpx2.Response:
    """Post until there is a place for the job."""
    while (response := client.post(path, **options)).status_code == 429:  # pyright: ignore[reportArgumentType]
        time.sleep(_RETRY)
    return response.raise_for_status()


class Load:
    """The work of all clients, and what became of it.

    Attributes:
        places: the adaptations that were accepted.
        drawn: the seeds that were answered, by adaptation.
    """

    def __init__(self, client: httpx2.Client, images: list[bytes]) -> None:
        self._client = client
        self._files = [("images", (f"{i}.png", image)) for i, image in enumerate(images)]
        self._model = client.get("/v1/models").json()[0]["name"]
        self.places: list[str] = []
        self.drawn = Counter[tuple[str, int]]()

    def adapt(self, seed: int) -> None:
        """Adapt, and wait for the model."""
        data = {"model": self._model, "steps": "1", "seed": str(seed), "previews": "false"}
        place = post(self._client, "/v1/adaptations", data=data, files=self._files).headers[
            "location"
        ]
        self.places.append(place)
        while self._client.get(place).json()["state"] in ("waiting", "adapting"):
            time.sleep(_RETRY)

    def draw(self, seed: int) -> None:
        """Draw one image of any adaptation."""
        place = random.Random(seed).choice(self.places)
        [drawing] = post(self._client, f"{place}/samples", json={"seed": seed}).json()
        self.drawn[place, drawing["seed"]] += 1

    def sentences(self) -> list[str]:
        """Tell what became of all that was accepted."""
        records = [self._client.get(place).json() for place in self.places]
        states = Counter(record["state"] for record in records)
        stored = Counter(
            (place, drawing["seed"])
            for place, record in zip(self.places, records, strict=True)
            for drawing in record["drawings"]
        )
        lost, twice = self.drawn - stored, sum(count > 1 for count in stored.values())
        return [
            f"adaptations: {len(self.places)} accepted, by state {dict(states)}",
            f"images: {self.drawn.total()} answered, {lost.total()} lost, {twice} drawn twice",
        ]


def row(work: str, clients: int, times: list[float], seconds: float) -> list[str]:
    """Return the row of a load."""
    p50, p99 = (statistics.quantiles(times, n=100, method="inclusive")[i] for i in (49, 98))
    numbers = (p50, p99, max(times))
    rate = f"{len(times) / seconds:.2f}"
    return [work, str(clients), str(len(times)), rate, *(f"{number:.3f} s" for number in numbers)]


def main() -> None:
    """Print the table, and what became of all that was accepted."""
    options = _parse()
    images = [file.read_bytes() for file in sorted(Path(options.images).iterdir())][:5]
    with tempfile.TemporaryDirectory(prefix="metatrain-") as folder:
        tokens = Path(folder, "tokens.json")
        tokens.touch(mode=0o600)
        tokens.write_text(json.dumps({"benchmark": _CLIENT}))
        settings = ServiceSettings(
            models=(options.model,),
            store=options.store or f"{folder}/store",
            clients=tokens,
            replicas=options.replicas,
            least=options.replicas,
        )
        headers = {"authorization": f"Bearer {_TOKEN}"}
        with (
            deployed(settings, address=_ADDRESS, port=options.port),
            httpx2.Client(
                base_url=f"http://{_ADDRESS}:{options.port}",
                headers=headers,
                timeout=600,
                limits=httpx2.Limits(max_connections=200),
            ) as client,
        ):
            load, rows = Load(client, images), []
            for name, work, count, victim in (
                ("adaptations", load.adapt, options.adapters, "Adapter"),
                ("images", load.draw, options.draws or 2 * options.adapters, "Sampler"),
            ):
                started = time.monotonic()
                times = loaded(work, count=count, clients=options.clients, victim=victim)
                rows.append(row(name, options.clients, times, time.monotonic() - started))
            print(f"{hardware()}, commit {commit()}, {options.replicas} replicas of each kind")
            print(aligned([_HEADS, *rows], justify="right"))
            print(*load.sentences(), sep="\n")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("images", metavar="IMAGES", help="folder; the first five are adapted to")
    parser.add_argument("--adapters", type=int, default=1000)
    parser.add_argument("--draws", type=int, help="images to draw (twice as many)")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--replicas", type=int, default=2, help="of each kind (2)")
    parser.add_argument("--store", metavar="URL", help="folder of adaptations (a temporary one)")
    parser.add_argument("--port", type=int, default=8000)
    return parser.parse_args()


if __name__ == "__main__":
    main()
