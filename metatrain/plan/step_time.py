"""The time of an outer step: measured for CPUs of this machine, counted in operations for GPUs."""

import time
from dataclasses import dataclass

import torch

from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.model.build import build_learner, build_theta
from metatrain.plan.collectives import Transfer
from metatrain.plan.hardware import Hardware
from metatrain.plan.layout import Layout
from metatrain.plan.trace import Cost


@dataclass(frozen=True)
class StepTime:
    """Seconds of an outer step.

    Attributes:
        inner: seconds of the busiest worker's outer gradient.
        reason: how `inner` was determined.
        sending: seconds of sending, without overlap with computing.
    """

    inner: float
    reason: str
    sending: float

    @property
    def total(self) -> float:
        """Seconds of all of the step."""
        return self.inner + self.sending


def step_time_of(
    config: Config, hardware: Hardware, layout: Layout, cost: Cost, transfers: list[Transfer]
) -> StepTime:
    """Predict the time of an outer step.

    Args:
        config: the configuration.
        hardware: its workers.
        layout: their groups.
        cost: cost of the busiest worker's outer gradient.
        transfers: bytes that a worker sends.
    """
    sending = sum(t.sent / _speed(t, hardware, layout) for t in transfers)
    if config.cluster.gpus_per_worker:
        return StepTime(*_counted(hardware, layout, cost), sending)
    inner = _measured(config) * layout.episodes / layout.together
    return StepTime(inner, "one episode's gradient, measured on this machine", sending)


def _speed(transfer: Transfer, hardware: Hardware, layout: Layout) -> float:
    """Return the bytes per second of a transfer: rings are as slow as their slowest link."""
    one_node = layout.workers <= hardware.per_node
    group_spans_nodes = layout.shards > hardware.per_node
    leaves_node = not one_node and (transfer.between_groups or group_spans_nodes)
    return hardware.network if leaves_node else hardware.link


def _counted(hardware: Hardware, layout: Layout, cost: Cost) -> tuple[float, str]:
    """Estimate the seconds of the busiest GPU's outer gradient, and explain them."""
    flops, launches = cost.flops * layout.episodes, cost.launches * layout.episodes
    computing = flops / (1e12 * hardware.tflops * hardware.efficiency)
    launching = launches * hardware.launch
    if launching > computing:
        return launching, f"{launches:,} operations of {1e6 * hardware.launch:g} µs each"
    share, most = f"{hardware.efficiency:.0%}", f"{hardware.tflops:g} TFLOP/s"
    return computing, f"{flops / 1e12:,.3g} TFLOP at {share} of {most}"


def _measured(config: Config) -> float:
    """Measure the seconds of one episode's outer gradient with a worker's threads; best of two."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(config.cluster.cpus_per_worker)))
    try:
        place = build_theta(config)
        theta, learner = place.copy(), build_learner(config, place)
        taken = []
        for _ in range(3):
            started = time.perf_counter()
            learner.episode_gradient(theta, _noise(config), config.meta.steps)
            taken.append(time.perf_counter() - started)
        return min(taken[1:])
    finally:
        torch.set_num_threads(threads)


def _noise(config: Config) -> Episode:
    data, stream = config.data, torch.Generator().manual_seed(0)
    count = data.shots + data.queries
    images = torch.rand((count, data.channels, data.image_size, data.image_size), generator=stream)
    given = {n: torch.rand((count, *shape)) for n, shape in data.condition_shapes.items()}
    support, query = Examples(images, given).split(data.shots)
    return Episode("planned", support, query, seed=0)
