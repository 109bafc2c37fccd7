"""Put a load on `metatrain serve`, and compare it with the bare loop.

    python -m benchmarks.serving MODEL IMAGES

Each client adapts to the images, without previews, or draws one image of an adapted model, again
and again. The bare loop does the same in this process, without a server: it adapts, tells how
unlike the images are and what quality to expect, and makes the bytes of the file; or it samples.
Its threads wait passively, as those of every command. The loads take turns. Times are from the
request to the answer, and contain the waits after a 429.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # before torch is imported

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx2

from benchmarks.provenance import commit, hardware
from benchmarks.serving.server import served
from metatrain import Model, load
from metatrain.base.tables import aligned
from metatrain.model.expectation import expectation, warning
from metatrain.model.support import as_support

_HEADS = ["work", "clients", "a second", "of the bare loop", "p50", "p99"]
# Seconds until a request is made again that found too many jobs.
_RETRY = 0.05

# Does one piece of work, the i-th.
Work = Callable[[int], object]


# A server draws an image of a seed once, so no seed comes twice.
_NUMBERS = itertools.count(1)


def loaded(work: Work, clients: int, seconds: float) -> list[float]:
    """Do pieces of work one after the other in each of so many threads; return their seconds."""
    end = time.monotonic() + seconds

    def client(_: int) -> list[float]:
        times = []
        while (started := time.monotonic()) < end:
            work(next(_NUMBERS))
            times.append(time.monotonic() - started)
        return times

    with ThreadPoolExecutor(clients) as threads:
        return [t for times in threads.map(client, range(clients)) for t in times]


def bare(model: Model, images: Sequence[bytes], steps: int) -> dict[str, Work]:
    """Return the work as Python does it without a server."""
    adapted = model.adapt(images, steps=steps)
    support = as_support(images, model.config.data)

    def adapt(seed: int) -> bytes:
        warning(model, support)
        adapted = model.adapt(images, steps=steps, seed=seed)
        if model.calibration is not None:
            expectation(model, support, adapted)
        return adapted.to_bytes()

    return {
        "adaptations": adapt,
        "images": lambda i: adapted.sample(1, seed=i),
    }


def remote(client: httpx2.Client, images: Sequence[bytes], steps: int) -> dict[str, Work]:
    """Return the work as a client of the server has it done."""
    model = client.get("/v1/models").json()[0]["name"]
    files = [("images", (f"{i}.png", image)) for i, image in enumerate(images)]
    png = {"accept": "image/png"}

    def adapt(seed: int) -> str:
        data = {"model": model, "steps": str(steps), "seed": str(seed), "previews": "false"}
        place = _accepted(client, "/v1/adaptations", data=data, files=files).headers["location"]
        with client.stream("GET", f"{place}/events") as events:
            for line in events.iter_lines():
                if '"state":"done"' in line:
                    return place
        raise RuntimeError(f"{place} ended without a model")

    place = adapt(0)
    return {
        "adaptations": lambda i: client.delete(adapt(i)),
        "images": lambda i: (
            _accepted(client, f"{place}/samples", json={"seed": i}, headers=png).content
        ),
    }


def _accepted(client: httpx2.Client, path: str, **options: object) -> httpx2.Response:
    """Post until there is a place for the job."""
    while (response := client.post(path, **options)).status_code == 429:  # pyright: ignore[reportArgumentType]
        time.sleep(_RETRY)
    return response.raise_for_status()


def row(work: str, clients: int, times: Sequence[float], seconds: float, bound: float) -> list[str]:
    """Return the row of a load."""
    rate = len(times) / seconds
    p50, p99 = (statistics.quantiles(times, n=100, method="inclusive")[i] for i in (49, 98))
    return [
        work,
        str(clients or "bare"),
        f"{rate:.2f}",
        f"{rate / bound:.2f}",
        f"{p50:.3f} s",
        f"{p99:.3f} s",
    ]


def main() -> None:
    """Print the table."""
    options = _parse()
    model = load(options.model)
    images = [file.read_bytes() for file in sorted(Path(options.images).iterdir())][:5]
    with served(options.model) as client:
        alone, together = bare(model, images, options.steps), remote(client, images, options.steps)
        rows = []
        for work in alone:
            times: dict[int, list[float]] = {n: [] for n in (0, *options.clients)}
            took = dict.fromkeys(times, 0.0)
            for _ in range(options.rounds):
                for clients in times:
                    started = time.monotonic()
                    works = together if clients else alone
                    times[clients] += loaded(works[work], clients or 1, options.seconds)
                    took[clients] += time.monotonic() - started
            bound = len(times[0]) / took[0]
            rows += [row(work, n, times[n], took[n], bound) for n in times]
    print(f"{hardware()}, commit {commit()}, {options.steps} inner steps, {model}")
    print(aligned([_HEADS, *rows], justify="right"))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("images", metavar="IMAGES", help="folder; the first five are adapted to")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--steps", type=int, default=5, help="inner steps (5)")
    parser.add_argument("--seconds", type=float, default=5, help="of each load and round (5)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each load (3)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
