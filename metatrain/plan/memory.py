"""Bytes that every worker needs: what stays, and what comes on top at the two heights of a step."""

from dataclasses import dataclass

from metatrain.config import Config
from metatrain.plan.layout import Layout
from metatrain.plan.trace import Cost

_FULL = 4  # bytes of a number in float32
# Numbers in a bucket of gradients, which DeepSpeed reduces at once, as in `cluster.engine.zero`.
_BUCKET = 500_000_000


@dataclass(frozen=True)
class Memory:
    """What one worker needs, by what for, in bytes.

    Attributes:
        stays: all the time.
        inner: on top of it in the inner loop.
        engine: on top of it while the engine applies the outer gradient.
        host: on the CPU beside it, where the worker has a GPU.
    """

    stays: dict[str, float]
    inner: dict[str, float]
    engine: dict[str, float]
    host: dict[str, float]

    @property
    def peak_in_inner(self) -> bool:
        """Whether the inner loop is the greater height."""
        return sum(self.inner.values()) >= sum(self.engine.values())

    @property
    def at_peak(self) -> dict[str, float]:
        """Everything at the greater height."""
        return self.stays | (self.inner if self.peak_in_inner else self.engine)

    @property
    def peak(self) -> float:
        """Bytes at the greater height."""
        return sum(self.at_peak.values())


def memory_of(config: Config, layout: Layout, count: int, largest: int, cost: Cost) -> Memory:
    """What one worker of `config` needs.

    Args:
        config: the configuration.
        layout: how it comes out on workers.
        count: numbers in theta.
        largest: numbers in its largest parameter.
        cost: what the trace of its outer gradient found.
    """
    stays = _stays(config, layout, count)
    half = config.inner.precision == "bf16"
    # Weights and their gradients are float32 in either precision; what layers hand on is not.
    inner = {"inner loop's weights": cost.weights, "activations": cost.activations / (1 + half)}
    if layout.sharded:
        inner["a layer, gathered"] = float(largest * _width(config, layout))
        inner["gradient to scatter"] = _FULL * min(count, _BUCKET)
    engine = {"outer gradient, buffers": _engine(config, layout, count)}
    host = {"episodes ahead": float(config.data.prefetch_bytes)}
    # What is in shards is gathered, of which each worker writes a part.
    kept = 1 if config.cluster.zero_stage == 3 else layout.workers
    host["checkpoint"] = _state(config) * _FULL * count / kept
    if config.cluster.offload:
        host["offloaded optimiser"] = stays.pop("optimiser") + stays.pop("masters", 0.0)
    return Memory(stays, inner, engine, host)


def _stays(config: Config, layout: Layout, count: int) -> dict[str, float]:
    stage, width = config.cluster.zero_stage, _width(config, layout)
    part = count / layout.shards
    third, optimised = (part if stage == 3 else count), (part if stage else count)
    stays = {
        "theta": width * third,
        "averages": _FULL * third * _averages(config),
        "optimiser": _FULL * optimised * _moments(config),
        "phi": _FULL * (part if layout.sharded else count),
    }
    if stage:
        stays["masters"] = _FULL * optimised
    if stage == 3:
        stays["gradient's shards"] = _FULL * part
    # What is never written takes no room on a CPU, and only an inner loop on shards fills it.
    if stage == 3 and (layout.sharded or config.cluster.gpus_per_worker):
        stays["gradient's bucket"] = float(_FULL * min(count, _BUCKET))
    if stage == 3 and not layout.sharded:
        stays["theta, gathered"] = float(_FULL * count)
    return stays


def _engine(config: Config, layout: Layout, count: int) -> float:
    """The outer gradient, and what DeepSpeed makes of it until the step is taken."""
    part = count / layout.shards
    if layout.sharded:
        return 3 * _FULL * part
    if config.cluster.zero_stage == 0:
        return 3 * _FULL * count
    if config.cluster.zero_stage == 3:  # to scatter it, it is padded and laid out by workers
        return 3 * _FULL * count
    reducing = 2 * _FULL * min(count, _BUCKET)  # a bucket, and what it is filled from
    # The gradient's part, and what torch's Adam makes of its second moment to divide by.
    stepping = _FULL * part * (3 if _moments(config) else 1)
    return _FULL * count + max(reducing, stepping)


def _width(config: Config, layout: Layout) -> int:
    """Bytes of a number of the theta that DeepSpeed keeps."""
    return 2 if layout.sharded and config.inner.precision == "bf16" else _FULL


def _moments(config: Config) -> int:
    """Numbers that the outer optimiser remembers of each parameter."""
    return 2 if config.meta.optimizer == "adam" else 0


def _averages(config: Config) -> int:
    return 3 if config.meta.post_hoc else 1


def _state(config: Config) -> int:
    """Numbers of each parameter that a checkpoint has."""
    return 1 + _averages(config) + _moments(config)
