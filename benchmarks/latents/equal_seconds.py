"""Compare systems that were trained for the same seconds of a core: pixels against latents.

    python -m benchmarks.latents.equal_seconds OUT CONFIG \
        "run.name=pixels data.path=data" \
        "run.name=own data.path=data-latents codec.name=trained codec.path=codec.safetensors" ...

Trains each system for as many outer steps as the budget pays for, adapts it to tasks of the split
test at the rate that is best on the split val, and prints KID and own task, beside the differences
to the first system with their paired intervals. What is done is not done again.
"""

import argparse
import json
import shlex
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from benchmarks.adapted_scores import Measured, Scores, kept, scores_of
from benchmarks.commands import resumable
from benchmarks.provenance import commit, hardware
from metatrain.api import train
from metatrain.base.progress import say, tracked
from metatrain.base.tables import aligned
from metatrain.config import Config, load_config, with_values
from metatrain.data.episodes import Episode
from metatrain.data.loader import open_tasks
from metatrain.metrics.network import NETWORK, HashedNetwork, metric_network
from metatrain.model.build import build_learner, build_theta
from metatrain.model.model import Model
from metatrain.storage.files import write_file
from metatrain.training.run_data import encoded_source, held_out_episodes

# Outer steps that are timed; other work of the machine slows all but the fastest.
_TIMED = 6
# An interrupted training loses at most one of so many parts.
_PARTS = 10
_HEADS = [
    *("system", "latent", "ms an outer step", "outer steps", "rate", "KID", "to the first's"),
    *("own task", "to the first's", "s to adapt", "s an image"),
]


class Row(NamedTuple):
    """A system, measured on all tasks."""

    model: Model
    pace: float
    rate: float
    scores: Scores
    numbers: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Systems that are trained and measured alike.

    Attributes:
        out: folder of trainings and results.
        seconds: of each training, on one core.
        rates: rates of adapting to choose from.
        images: samples of a task, and as many real ones.
        network: the space that they are compared in.
        val: episodes to choose a rate on.
        test: episodes to measure on.
    """

    out: str
    seconds: float
    rates: Sequence[float]
    images: int
    network: HashedNetwork
    val: Sequence[Episode]
    test: Sequence[Episode]

    def row(self, config: Config) -> Row:
        """Train a system and measure it, where that is not done."""
        pace = self._pace(config)
        steps = max(1, round(self.seconds / pace))
        say(f"{config.run.name}: {steps:,} outer steps of {1000 * pace:.0f} ms")
        values = {
            "meta.steps": steps,
            "meta.warmup": min(config.meta.warmup, steps // 10),
            "checkpoint.every": max(1, steps // _PARTS),
        }
        model = train(with_values(config, values), device="cpu")
        kid = {rate: self._scores(model, rate, self.val)[0].kid.value for rate in self.rates}
        rate = min(kid, key=lambda rate: kid[rate])
        return Row(model, pace, rate, *self._scores(model, rate, self.test))

    def real(self, half: int, episodes: Sequence[Episode]) -> Tensor:
        """Return features [T, N, D] of one half of the images of each task."""
        halves = [episode.query.target.split(self.images)[half] for episode in episodes]
        return self.network.features(torch.stack(halves))

    def _pace(self, config: Config) -> float:
        """Return the CPU seconds of an outer step, with the reading of its episodes."""
        file = Path(self.out, "pace", f"{config.run.name}.json")
        if not file.exists():
            write_file(str(file), json.dumps(min(_timed_steps(config))).encode())
        return json.loads(file.read_text())

    def _scores(
        self, model: Model, rate: float, episodes: Sequence[Episode]
    ) -> tuple[Scores, dict[str, float]]:
        changed = replace(model, config=with_values(model.config, {"adapt.lr": rate}))
        name = f"{model.sha256[:16]}-{rate:g}-{model.config.adapt.steps}"
        tasks = f"{episodes[0].task.replace('/', '-')}-{len(episodes)}x{self.images}"
        file = Path(self.out, "samples", f"{name}-{tasks}.safetensors")
        result = kept(file, lambda: self._adapted(changed, episodes))
        return scores_of(result.features["samples"], self.real(0, episodes)), result.numbers

    def _adapted(self, model: Model, episodes: Sequence[Episode]) -> Measured:
        adapting: list[float] = []
        sampling: list[float] = []
        features: list[Tensor] = []
        for episode in tracked(f"adapting {model.config.run.name}", episodes, len(episodes)):
            start = time.process_time()
            generator = model.adapt(episode.support).generator()
            middle = time.process_time()
            samples = generator.sample(episode.support, self.images, episode.seed)
            adapting.append(middle - start)
            sampling.append((time.process_time() - middle) / self.images)
            features.append(self.network.features(samples))
        numbers = {"adapting": min(adapting), "sampling": min(sampling)}
        return Measured({"samples": torch.stack(features)}, numbers)


def _timed_steps(config: Config) -> list[float]:
    place = build_theta(config)
    learner, theta = build_learner(config, place), place.copy()
    source = encoded_source(open_tasks(config.data), config)
    sampler = source.sampler("train", seed=config.seed, meta_batch=config.meta.batch)
    seconds: list[float] = []
    for step in range(_TIMED):
        start = time.process_time()
        slots = range(config.meta.batch)
        episodes = [source.read(sampler.plan(step, slot=slot)) for slot in slots]
        learner.outer_gradient(theta, episodes, step)
        seconds.append(time.process_time() - start)
    return seconds


def _comparison(options: argparse.Namespace, config: Config) -> Comparison:
    """Read the episodes of all systems, with the pixels of their images."""
    source, data = open_tasks(config.data), config.data
    held_out = {
        split: held_out_episodes(
            source, config, split=split, tasks=tasks, queries=2 * options.images
        )
        for split, tasks in (("val", options.val), ("test", options.tasks))
    }
    network = metric_network(
        source,
        f"{options.out}/{NETWORK}",
        image_size=data.image_size,
        channels=data.channels,
    )
    return Comparison(
        out=options.out,
        seconds=options.seconds,
        rates=options.rates,
        images=options.images,
        network=network,
        **held_out,
    )


def _cells(row: Row, first: Row) -> list[str]:
    generator = row.model.generator()
    return [
        row.model.config.run.name,
        " x ".join(map(str, generator.objective.shape)),
        f"{1000 * row.pace:.0f}",
        f"{row.model.step:,}",
        f"{row.rate:g}",
        *row.scores.cells(first.scores),
        f"{row.numbers['adapting']:.2f}",
        f"{row.numbers['sampling']:.3f}",
    ]


def _run(options: argparse.Namespace) -> None:
    common = [f"run.dir={options.out}/trainings", "checkpoint.best=false"]
    common += ["checkpoint.samples=false", *options.set]
    configs = [load_config(options.config, [*common, *shlex.split(s)]) for s in options.systems]
    comparison = _comparison(options, configs[0])
    rows = [comparison.row(config) for config in configs]
    real = scores_of(comparison.real(1, comparison.test), comparison.real(0, comparison.test))
    ceiling = ["held-out real", "", "", "", "", *real.cells(rows[0].scores), "", ""]
    lines = [_HEADS, *(_cells(row, rows[0]) for row in rows), ceiling]
    print(aligned(lines, justify="right"))
    print(
        f"{options.seconds:g} s of a core each, {len(comparison.test)} tasks of {options.images} "
        f"images, {configs[0].adapt.steps} inner steps, {hardware()}, commit {commit()[:12]}"
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    add = parser.add_argument
    add("out", metavar="OUT", help="folder of trainings and results")
    add("config", metavar="CONFIG", help="configuration that the systems share")
    add("systems", nargs="+", metavar="SETTINGS", help="changes of a system, such as run.name=own")
    add("--set", nargs="*", default=[], metavar="KEY=VALUE", help="changes of all systems")
    add("--seconds", type=float, default=120.0, help="of each training, on one core (120)")
    add("--rates", type=float, nargs="+", default=[0.002, 0.004], help="of adapting, to choose of")
    add("--tasks", type=int, default=16, help="tasks of the split test (16)")
    add("--val", type=int, default=6, help="tasks of the split val to choose a rate on (6)")
    add("--images", type=int, default=4, help="samples of a task (4)")
    options = parser.parse_args(argv)
    # As Ctrl-C does: the training in progress saves and ends.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    torch.set_num_threads(1)
    return resumable(lambda: _run(options))


if __name__ == "__main__":
    sys.exit(main())
