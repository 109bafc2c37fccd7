"""Measure the cost of fewer network calls: a teacher and its students at 1 to 12 calls an image.

    python -m benchmarks.few_steps TEACHER STUDENT ... --tasks 64 --images 12 --out curve.json

Adapts every model to tasks of its split test, samples with each sampler, and prints KID, own task,
CPU seconds to adapt to a task and an image, beside the differences to the teacher as its file
samples, with their paired intervals. Models that were measured before are not measured again.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.adapted_scores import Measured, Scores, kept, scores_of
from benchmarks.commands import resumable
from benchmarks.provenance import commit, hardware
from metatrain.base.progress import tracked
from metatrain.base.tables import aligned
from metatrain.config import with_values
from metatrain.data.episodes import Episode
from metatrain.data.loader import open_tasks
from metatrain.generators.sampler_sections import FlowSamplerConfig
from metatrain.metrics.network import NETWORK, HashedNetwork, metric_network
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.places import home_of
from metatrain.training.run_data import held_out_episodes

CALLS = (1, 2, 4, 6, 12)
STUDENT_CALLS = (1, 2, 4)
# Heun's method at n steps calls the network 2 n - 1 times.
HEUN = (2, 3, 4)
ADAPTING = "adapting"
_HEADS = [
    *("model", "sampler", "calls", "KID", "to the teacher's", "own task", "to the teacher's"),
    *("CPU s to adapt", "CPU s an image"),
]


class Row(NamedTuple):
    """A model with a sampler, measured on all tasks."""

    model: str
    sampler: str
    calls: int
    scores: Scores
    adapting: float
    sampling: float


def samplers_of(model: Model) -> dict[str, FlowSamplerConfig]:
    """Return samplers by name, that of the file first."""
    method = getattr(model.config.objective.sampler, "method", None)
    choices: list[dict[str, Any]] = [{}]
    calls = CALLS if method == "heun" else STUDENT_CALLS
    choices += [{"steps": steps, "method": "euler"} for steps in calls]
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


def measured(
    model: Model, episodes: Sequence[Episode], network: HashedNetwork, folder: str
) -> Measured:
    """Sample from a model with each of its samplers, unless the folder has the result already."""
    name = f"{model.sha256[:16]}-{len(episodes)}x{len(episodes[0].query)}.safetensors"
    return kept(Path(folder, name), lambda: _sampled(model, episodes, network))


def _sampled(model: Model, episodes: Sequence[Episode], network: HashedNetwork) -> Measured:
    samplers, images = samplers_of(model), len(episodes[0].query)
    features: dict[str, list[Tensor]] = {sampler: [] for sampler in samplers}
    seconds = dict.fromkeys([*samplers, ADAPTING], 0.0)
    for episode in tracked("measuring", episodes, len(episodes)):
        start = time.process_time()
        generator = model.adapt(episode.support).generator()
        seconds[ADAPTING] += (time.process_time() - start) / len(episodes)
        for key, sampler in samplers.items():
            start = time.process_time()
            samples = generator.sample(episode.support, images, episode.seed, sampler)
            seconds[key] += (time.process_time() - start) / len(episodes) / images
            features[key].append(network.features(samples))
    return Measured({key: torch.stack(parts) for key, parts in features.items()}, seconds)


def rows_of(name: str, model: Model, result: Measured, real: Tensor) -> Iterator[Row]:
    """Score a model with each of its samplers."""
    for key, sampler in samplers_of(model).items():
        yield Row(
            name,
            key,
            calls_of(sampler),
            scores_of(result.features[key], real),
            result.numbers[ADAPTING],
            result.numbers[key],
        )


def words(row: Row, teacher: Row) -> list[str]:
    """Return the cells of a row."""
    return [
        *(row.model, row.sampler, str(row.calls), *row.scores.cells(teacher.scores)),
        *(f"{row.adapting:.2f}", f"{row.sampling:.4f}"),
    ]


def values(row: Row) -> dict[str, Any]:
    """Return a row as plain values."""
    plain = row._asdict()
    scores = plain.pop("scores")
    return plain | scores.plain()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("teacher", metavar="TEACHER", help="the folder of a finished run of a flow")
    parser.add_argument("students", metavar="STUDENT", nargs="*", help="folders of its students")
    parser.add_argument("--tasks", type=int, default=64, help="tasks of the split test (64)")
    parser.add_argument("--images", type=int, default=12, help="images of a task (12)")
    parser.add_argument("--work", default="few-steps", metavar="DIR", help="keeps what is measured")
    parser.add_argument("--out", metavar="FILE.json", help="where to write the values too")
    arguments = parser.parse_args()
    models = {u: load_model(u, trust=True) for u in (arguments.teacher, *arguments.students)}
    config = models[arguments.teacher].config
    source, data = open_tasks(config.data), config.data
    options = {"split": "test", "tasks": arguments.tasks, "queries": arguments.images}
    episodes = held_out_episodes(source, config, **options)
    network = metric_network(
        source,
        f"{home_of(arguments.teacher)}/{NETWORK}",
        image_size=data.image_size,
        channels=data.channels,
    )
    real = network.features(torch.stack([episode.query.target for episode in episodes]))
    rows = [
        row
        for url, model in models.items()
        for row in rows_of(
            Path(url).name, model, measured(model, episodes, network, arguments.work), real
        )
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
    sys.exit(resumable(main))
