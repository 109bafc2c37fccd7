"""Measure what smaller models cost: half precision, and exported networks in float32 and int8.

    python -m benchmarks.compression RUN --tasks 8 --images 16

Adapts the model of a finished run to tasks of its split test, in every form, and prints bytes,
seconds to adapt to a task, seconds an image, KID and own task. What is exported has adapted in
float32; its seconds to adapt include the export.
"""

import argparse
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from typing_extensions import override

from benchmarks.provenance import commit, hardware
from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.base.tables import aligned
from metatrain.data.episodes import Episode
from metatrain.data.loader import open_tasks
from metatrain.generators import Generator
from metatrain.generators.conditions.encoders import Given
from metatrain.generators.networks.velocity import VelocityNetwork
from metatrain.metrics.kid import kid
from metatrain.metrics.network import NETWORK, HashedNetwork, metric_network
from metatrain.metrics.retrieval import own_task_share
from metatrain.model.export.graph import network_graph, sampling_generator
from metatrain.model.export.int8 import quantized, sampling_calls
from metatrain.model.export.onnx import onnx_bytes, session_of
from metatrain.model.file import load_model
from metatrain.model.model import Model
from metatrain.model.places import home_of
from metatrain.model.precision import Precision, rounded
from metatrain.training.run_data import held_out_episodes

_HEADS = ["form", "bytes", "s to adapt", "s an image", "KID", "own task"]

# Returns images [count, C, H, W].
Sample = Callable[[int], Tensor]


class Adapted(NamedTuple):
    """A model in some form that has adapted: its bytes, and what samples from it."""

    size: int
    sample: Sample


class SessionNetwork(VelocityNetwork):
    """An exported velocity, which has its memory of the support inside."""

    def __init__(self, data: bytes, shape: tuple[int, int, int]) -> None:
        super().__init__(Section(), shape)
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


def in_precision(model: Model, precision: Precision | None) -> Callable[[Episode], Adapted]:
    """Return what adapts a model in single or half precision."""
    start = model if precision is None else rounded(model, precision)
    size = len(start.to_bytes())

    def adapt(episode: Episode) -> Adapted:
        adapted = start.adapt(episode.support)
        return Adapted(size, lambda count: adapted.sample(count))

    return adapt


def as_onnx(model: Model, *, int8: bool) -> Callable[[Episode], Adapted]:
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


def row(
    form: str,
    adapt: Callable[[Episode], Adapted],
    episodes: Sequence[Episode],
    network: HashedNetwork,
) -> list[str]:
    """Measure a form on all episodes."""
    images = len(episodes[0].query)
    real = network.features(torch.stack([episode.query.target for episode in episodes]))
    seconds = [0.0, 0.0]
    features, size = [], 0
    for episode in episodes:
        start = time.perf_counter()
        size, sample = adapt(episode)
        adapted = time.perf_counter()
        features.append(network.features(sample(images)))
        seconds[0] += adapted - start
        seconds[1] += time.perf_counter() - adapted
    samples = torch.stack(features)
    return [
        form,
        f"{size:,}",
        f"{seconds[0] / len(episodes):.2f}",
        f"{seconds[1] / len(episodes) / images:.3f}",
        f"{kid(samples, real):.4f}",
        f"{own_task_share(samples, real).mean().item():.1%}",
    ]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("run", metavar="RUN", help="the folder of a finished run of a flow")
    parser.add_argument("--tasks", type=int, default=8, help="tasks of the split test (8)")
    parser.add_argument("--images", type=int, default=16, help="images of a task (16)")
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
    forms = {
        "fp32": in_precision(model, None),
        "fp16": in_precision(model, "fp16"),
        "bf16": in_precision(model, "bf16"),
        "ONNX": as_onnx(model, int8=False),
        "ONNX, int8": as_onnx(model, int8=True),
    }
    rows = [row(form, adapt, episodes, network) for form, adapt in forms.items()]
    print(aligned([_HEADS, *rows], justify="right"))
    print(
        f"{len(episodes)} tasks of {arguments.images} images, {torch.get_num_threads()} threads, "
        f"{hardware()}, {commit()[:12]}"
    )


if __name__ == "__main__":
    try:
        main()
    except UserError as error:
        raise SystemExit(str(error)) from None
