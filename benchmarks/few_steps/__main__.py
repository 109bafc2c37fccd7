"""Measure what fewer network calls cost: a teacher and its students at 1 to 12 calls an image.

    python -m benchmarks.few_steps TEACHER STUDENT ... --tasks 64 --images 12 --out curve.json

Adapts every model to tasks of its split test, samples with each sampler, and prints KID, own task,
seconds to adapt to a task and seconds an image, beside the differences to the teacher as its file
samples, with their paired intervals.
"""

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.provenance import commit, hardware
from metatrain.base.errors import UserError
from metatrain.base.progress import StreamDisplay, displayed, tracked
from metatrain.base.tables import aligned
from metatrain.config import with_values
from metatrain.data.episodes import Episode
from metatrain.data.loader import open_tasks
from metatrain.evaluation.scores.statistics import Score, mean_of, mean_of_pairs, score
from metatrain.generators.samplers import FlowSamplerConfig
from metatrain.metrics.kid import kid_of_pairs
from metatrain.metrics.network import NETWORK, HashedNetwork, metric_network
from metatrain.metrics.retrieval import own_task_share
from metatrain.model.file import home_of, load_model
from metatrain.model.model import Model
from metatrain.training.run_data import held_out_episodes

CALLS = (1, 2, 4, 6, 12)
# Heun's method at n steps calls the network 2 n - 1 times.
HEUN = (2, 3, 4, 6)
_HEADS = [
    *("model", "sampler", "calls", "KID", "to the teacher's", "own task", "to the teacher's"),
    *("s to adapt", "s an image"),
]


class Row(NamedTuple):
    """A model with a sampler, measured on all tasks."""

    model: str
    sampler: str
    calls: int
    kid: Score
    own_task: Score
    adapting: float
    sampling: float


def samplers_of(model: Model) -> dict[str, FlowSamplerConfig]:
    """Return samplers by name, that of the file first."""
    method = getattr(model.config.objective.sampler, "method", None)
    choices: list[dict[str, Any]] = [{}]
    choices += [{"steps": steps, "method": "euler"} for steps in CALLS]
    choices += [{"steps": steps, "method": "heun"} for steps in HEUN if method == "heun"]
    sections = (
        with_values(model.config, {f"objective.sampler.{k}": v for k, v in choice.items()})
        for choice in choices
    )
    return {
        f"{sampler.method} {sampler.steps}": sampler
        for sampler in (section.objective.sampler for section in sections)
    }


def calls_of(sampler: FlowSamplerConfig) -> int:
    """Return the network calls of a sampler."""
    return 2 * sampler.steps - 1 if sampler.method == "heun" else sampler.steps


def rows_of(
    name: str, model: Model, episodes: Sequence[Episode], network: HashedNetwork, real: Tensor
) -> Iterator[Row]:
    """Measure a model with each of its samplers on all episodes."""
    samplers, images = samplers_of(model), len(episodes[0].query)
    features: dict[str, list[Tensor]] = {sampler: [] for sampler in samplers}
    seconds, adapting = dict.fromkeys(samplers, 0.0), 0.0
    for episode in tracked(f"measuring {name}", episodes, len(episodes)):
        start = time.perf_counter()
        generator = model.adapt(episode.support).generator()
        adapting += time.perf_counter() - start
        for key, sampler in samplers.items():
            start = time.perf_counter()
            samples = generator.sample(episode.support, images, episode.seed, sampler)
            seconds[key] += time.perf_counter() - start
            features[key].append(network.features(samples))
    tasks = len(episodes)
    for key, sampler in samplers.items():
        samples = torch.stack(features[key])
        yield Row(
            name,
            key,
            calls_of(sampler),
            score(mean_of_pairs(kid_of_pairs(samples, real)), tasks),
            score(mean_of(own_task_share(samples, real)), tasks),
            adapting / tasks,
            seconds[key] / tasks / images,
        )


def words(row: Row, teacher: Row) -> list[str]:
    """Return the cells of a row."""
    kid, own = row.kid.minus(teacher.kid), row.own_task.minus(teacher.own_task)
    return [
        *(row.model, row.sampler, str(row.calls), f"{row.kid.value:.4f}"),
        f"{kid.value:+.4f} [{kid.low:+.4f}, {kid.high:+.4f}]",
        f"{row.own_task.value:.1%}",
        f"{100 * own.value:+.1f} [{100 * own.low:+.1f}, {100 * own.high:+.1f}]",
        *(f"{row.adapting:.2f}", f"{row.sampling:.4f}"),
    ]


def values(row: Row) -> dict[str, Any]:
    """Return a row as plain values."""
    plain = row._asdict()
    return plain | {"kid": row.kid.estimate.__dict__, "own_task": row.own_task.estimate.__dict__}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("teacher", metavar="TEACHER", help="the folder of a finished run of a flow")
    parser.add_argument("students", metavar="STUDENT", nargs="*", help="folders of its students")
    parser.add_argument("--tasks", type=int, default=64, help="tasks of the split test (64)")
    parser.add_argument("--images", type=int, default=12, help="images of a task (12)")
    parser.add_argument("--out", metavar="FILE.json", help="where to write the values too")
    arguments = parser.parse_args()
    models = {u: load_model(u, trust=True) for u in (arguments.teacher, *arguments.students)}
    config = models[arguments.teacher].config
    source, data = open_tasks(config.data), config.data
    options = {"split": "test", "tasks": arguments.tasks, "queries": arguments.images}
    episodes = held_out_episodes(source, config, **options)
    shape = {"image_size": data.image_size, "channels": data.channels}
    network = metric_network(source, f"{home_of(arguments.teacher)}/{NETWORK}", **shape)
    real = network.features(torch.stack([episode.query.target for episode in episodes]))
    rows = [
        row
        for url, model in models.items()
        for row in rows_of(Path(url).name, model, episodes, network, real)
    ]
    print(aligned([_HEADS, *(words(row, rows[0]) for row in rows)], justify="right"))
    about = (
        f"{len(episodes)} tasks of {arguments.images} images, {torch.get_num_threads()} threads, "
        f"{hardware()}, {commit()[:12]}"
    )
    print(about)
    if arguments.out:
        result = {"about": about, "rows": [values(row) for row in rows]}
        Path(arguments.out).write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    import sys

    try:
        with displayed(StreamDisplay(sys.stderr)):
            main()
    except UserError as error:
        raise SystemExit(str(error)) from None
