"""How long an outer step takes: measured where it will run here, and counted for GPUs elsewhere."""

import time
from dataclasses import dataclass

import torch

from metatrain.config import Config
from metatrain.data.episodes import Episode
from metatrain.data.examples import Examples
from metatrain.model.build import build_learner, build_theta
from metatrain.plan.collectives import Leg
from metatrain.plan.hardware import Hardware
from metatrain.plan.layout import Layout
from metatrain.plan.trace import Cost


@dataclass(frozen=True)
class Pace:
    """Seconds of an outer step, and how they were found.

    Attributes:
        inner: in the busiest worker's outer gradient.
        reason: where `inner` comes from.
        wire: on the way between workers, with nothing else done meanwhile.
    """

    inner: float
    reason: str
    wire: float

    @property
    def step(self) -> float:
        """Seconds of an outer step."""
        return self.inner + self.wire


def pace_of(
    config: Config, hardware: Hardware, layout: Layout, cost: Cost, legs: list[Leg]
) -> Pace:
    """The pace of `config`, whose worker has the outer gradient `cost` and sends `legs`."""
    # Rings within groups that span nodes are as slow as their slowest link.
    apart = layout.shards > hardware.per_node
    one_node = layout.workers <= hardware.per_node
    speeds = [
        hardware.network if not one_node and (leg.apart or apart) else hardware.link for leg in legs
    ]
    wire = sum(leg.sent / speed for leg, speed in zip(legs, speeds, strict=True))
    if config.cluster.gpus_per_worker:
        return Pace(*_counted(hardware, layout, cost), wire)
    own = _measured(config) * layout.episodes / layout.together
    return Pace(own, "one episode's gradient, measured on this machine", wire)


def _counted(hardware: Hardware, layout: Layout, cost: Cost) -> tuple[float, str]:
    """Seconds of the busiest GPU's outer gradient, and how they come about."""
    flops, launches = cost.flops * layout.episodes, cost.launches * layout.episodes
    computing = flops / (1e12 * hardware.tflops * hardware.efficiency)
    launching = launches * hardware.launch
    if launching > computing:
        return launching, f"{launches:,} operations of {1e6 * hardware.launch:g} µs each"
    share, most = f"{hardware.efficiency:.0%}", f"{hardware.tflops:g} TFLOP/s"
    return computing, f"{flops / 1e12:,.3g} TFLOP at {share} of {most}"


def _measured(config: Config) -> float:
    """Seconds of one episode's outer gradient with a worker's threads, the better of two."""
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
    images = torch.rand(
        (data.shots + data.queries, data.channels, data.image_size, data.image_size),
        generator=stream,
    )
    support, query = Examples(images).split(data.shots)
    return Episode("planned", support, query, seed=0)
