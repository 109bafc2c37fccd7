"""Measure what smaller models cost: fewer bits, fewer channels, and exported networks.

    python -m benchmarks.compression RUN pruned=PRUNED ... --tasks 24 --images 8

Adapts the model of a finished run to tasks of its split test, in every form, and prints bytes, CPU
seconds to adapt to a task and to sample an image, KID and own task, with the differences to fp32
and their paired 95% intervals. What is exported has adapted in float32; its seconds to adapt
include the export. What was measured before, by name, is not measured again.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from benchmarks.adapted_scores import Measured, Scores, kept, scores_of
from benchmarks.commands import resumable
from benchmarks.provenance import commit, hardware
from metatrain.base.progress import tracked
from metatrain.base.tables import aligned
from metatrain.data.episodes import Episode
from metatrain.data.loader import open_tasks
from metatrain.generators import Generator, NetworkConfig
from metatrain.generators.conditions.encoders import Given
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.metrics.network import NETWORK, HashedNetwork, metric_network
from metatrain.model.export.graph import network_graph, sampling_generator
from metatrain.model.export.int8 import quantized, sampling_calls
from metatrain.model.export.onnx import onnx_bytes, session_of
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.places import home_of
from metatrain.model.precision import Precision, rounded
from metatrain.training.run_data import held_out_episodes

_HEADS = [
    *("form", "bytes", "CPU s to adapt", "CPU s an image"),
    *("KID", "to fp32's", "own task", "to fp32's"),
]
_NUMBERS, _SAMPLES = ("bytes", "adapting", "sampling"), "samples"

# Returns images [count, C, H, W].
Sample = Callable[[int], Tensor]


class Adapted(NamedTuple):
    """A model in some form that has adapted: its bytes, and what samples from it."""

    size: int
    sample: Sample


Adapt = Callable[[Episode], Adapted]


class SessionNetwork(VelocityNetwork):
    """An exported velocity, which has its memory of the support inside."""

    def __init__(self, data: bytes, shape: tuple[int, int, int]) -> None:
        super().__init__(NetworkConfig(), shape)
        self._session = session_of(data)

    @override
    def encode(self, support: Tensor) -> Tensor:
        return support.new_zeros(len(support), 1)

    @override
    def velocity(
        self, x: Tensor, t: Tensor, memory: Tensor, visible: Tensor, given: Given | None = None
    ) -> Tensor:
        inputs = {"x": x, "t": t, "sees_support": visible.any(dim=1)}
        (velocity,) = self._session.run(None, {name: i.numpy() for name, i in inputs.items()})
        return torch.from_numpy(velocity)


def in_precision(model: Model, precision: Precision | None) -> Adapt:
    """Return what adapts a model in single precision or fewer bits."""
    start = model if precision is None else rounded(model, precision)
    size = len(start.to_bytes())

    def adapt(episode: Episode) -> Adapted:
        adapted = start.adapt(episode.support)
        return Adapted(size, lambda count: adapted.sample(count))

    return adapt


def as_onnx(model: Model, *, int8: bool) -> Adapt:
    """Return what adapts a model, and exports its network."""

    def adapt(episode: Episode) -> Adapted:
        adapted = model.adapt(episode.support)
        generator = sampling_generator(adapted)
        graph = network_graph(adapted, generator)
        data = onnx_bytes(graph)
        if int8:
            data = quantized(data, sampling_calls(graph, generator.objective.config.sampler, 0))
        network = SessionNetwork(data, generator.objective.shape)
        exported = Generator(network, generator.objective, generator.codec)
        return Adapted(len(data), lambda count: exported.sample(episode.support, count, 0))

    return adapt


def measured(adapt: Adapt, episode: Episode, network: HashedNetwork) -> Measured:
    """Adapt a form to an episode and sample from it."""
    images, start = len(episode.query), time.process_time()
    size, sample = adapt(episode)
    adapted = time.process_time()
    samples = sample(images)
    sampled = time.process_time()
    values = (float(size), adapted - start, (sampled - adapted) / images)
    numbers = dict(zip(_NUMBERS, values, strict=True))
    return Measured({_SAMPLES: network.features(samples)}, numbers)


def measured_on(
    adapt: Adapt, episodes: Sequence[Episode], network: HashedNetwork, folder: Path
) -> Measured:
    """Adapt a form to all episodes; the folder keeps each, so that another call resumes."""
    parts = [
        kept(folder / f"{i}.safetensors", partial(measured, adapt, episode, network))
        for i, episode in enumerate(tracked(folder.name, episodes, len(episodes)))
    ]
    numbers = {key: fmean(part.numbers[key] for part in parts) for key in _NUMBERS}
    return Measured({_SAMPLES: torch.stack([p.features[_SAMPLES] for p in parts])}, numbers)


def forms_of(model: Model) -> dict[str, Adapt]:
    """Return a model in all forms, by name."""
    return {
        "fp32": in_precision(model, None),
        "fp16": in_precision(model, "fp16"),
        "bf16": in_precision(model, "bf16"),
        "int8": in_precision(model, "int8"),
        "ONNX": as_onnx(model, int8=False),
        "ONNX, int8": as_onnx(model, int8=True),
    }


def cells(form: str, result: Measured, scores: Scores, first: Scores) -> list[str]:
    """Return the cells of a row."""
    size, adapting, sampling = (result.numbers[key] for key in _NUMBERS)
    return [form, f"{size:,.0f}", f"{adapting:.2f}", f"{sampling:.4f}", *scores.cells(first)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run of a flow")
    parser.add_argument(
        "others", metavar="NAME=MODEL", nargs="*", help="further models, such as pruned ones"
    )
    parser.add_argument("--tasks", type=int, default=24, help="tasks of the split test (24)")
    parser.add_argument("--images", type=int, default=8, help="images of a task (8)")
    parser.add_argument(
        "--work", default="compression", metavar="DIR", help="keeps what is measured"
    )
    arguments = parser.parse_args()
    model = load_model(arguments.run, trust=True)
    config = model.config
    source = open_tasks(config.data)
    options = {"split": "test", "tasks": arguments.tasks, "queries": arguments.images}
    episodes = held_out_episodes(source, config, **options)
    network = metric_network(
        source,
        f"{home_of(arguments.run)}/{NETWORK}",
        image_size=config.data.image_size,
        channels=config.data.channels,
    )
    real = network.features(torch.stack([episode.query.target for episode in episodes]))
    forms = forms_of(model)
    for name, _, url in (other.rpartition("=") for other in arguments.others):
        forms[name or url] = in_precision(load_model(url, trust=True), None)
    folder = Path(arguments.work, f"{model.sha256[:16]}-{len(episodes)}x{arguments.images}")
    results = {
        form: measured_on(adapt, episodes, network, folder / form) for form, adapt in forms.items()
    }
    scores = {form: scores_of(r.features[_SAMPLES], real) for form, r in results.items()}
    rows = [cells(form, r, scores[form], scores["fp32"]) for form, r in results.items()]
    print(aligned([_HEADS, *rows], justify="right"))
    print(
        f"{len(episodes)} tasks of {arguments.images} images, {torch.get_num_threads()} threads, "
        f"{hardware()}, {commit()[:12]}"
    )


if __name__ == "__main__":
    sys.exit(resumable(main))
