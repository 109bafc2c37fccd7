"""Bytes that every worker needs: permanently, and at the two peaks of an outer step."""

from dataclasses import dataclass

from metatrain.config import Config
from metatrain.plan.deepspeed import bucket_size, keeps_bf16
from metatrain.plan.hardware import has_bf16_backbone
from metatrain.plan.layout import Layout
from metatrain.plan.trace import Cost
from metatrain.training.outer_optimizer import MOMENTS

_FULL = 4  # bytes of a number in float32


@dataclass(frozen=True)
class Memory:
    """Bytes that one worker needs, by purpose.

    Attributes:
        permanent: needed all the time.
        inner: needed in addition in the inner loop.
        engine: needed in addition while the engine applies the outer gradient.
        host: needed in the host's memory; on a worker without a GPU, that is the same memory.
    """

    permanent: dict[str, float]
    inner: dict[str, float]
    engine: dict[str, float]
    host: dict[str, float]

    @property
    def peak_in_inner(self) -> bool:
        """Whether the peak is in the inner loop."""
        return sum(self.inner.values()) >= sum(self.engine.values())

    @property
    def at_peak(self) -> dict[str, float]:
        """Bytes at the peak, by purpose."""
        return self.permanent | (self.inner if self.peak_in_inner else self.engine)

    @property
    def peak(self) -> float:
        """Bytes at the peak."""
        return sum(self.at_peak.values())


def memory_of(
    config: Config, layout: Layout, *, count: int, largest: int, frozen: int, cost: Cost
) -> Memory:
    """Predict the memory of one worker.

    Args:
        config: the configuration.
        layout: its workers and groups.
        count: numbers in theta.
        largest: numbers in theta's largest tensor.
        frozen: bytes of what is no part of theta, which every worker has whole.
        cost: traced cost of the worker's outer gradient.
    """
    permanent = _permanent(config, layout, count) | ({"frozen weights": frozen} if frozen else {})
    # Weights and their gradients are float32 in either precision, activations are not; those of a
    # backbone were traced as they are.
    half = config.inner.precision == "bf16" and not has_bf16_backbone(config)
    inner = {"inner loop's weights": cost.weights, "activations": cost.activations / (1 + half)}
    if layout.sharded:
        inner["a layer, gathered"] = float(largest * _width(config, layout))
        inner["gradient to scatter"] = _FULL * bucket_size(count)
    engine = {"outer gradient, buffers": _engine(config, layout, count)}
    host = {"episodes ahead": float(config.data.prefetch_bytes)}
    # Each worker copies its even part; worker 0 also has one whole tensor at a time.
    host["checkpoint"] = _FULL * (_state(config) * count / layout.workers + largest)
    if images := config.objective.replays:
        host["replay buffer"] = float(
            _FULL * images * config.data.channels * config.data.image_size**2
        )
    if config.cluster.zero_stage and (config.checkpoint.samples or config.validation.tasks):
        host["average, whole for samples"] = float(_FULL * count)
    if config.cluster.offload:
        host["offloaded optimiser"] = permanent.pop("optimiser") + permanent.pop("masters", 0.0)
    return Memory(permanent=permanent, inner=inner, engine=engine, host=host)


def _permanent(config: Config, layout: Layout, count: int) -> dict[str, float]:
    stage, width = config.cluster.zero_stage, _width(config, layout)
    part = count / layout.shards
    third, optimised = (part if stage == 3 else count), (part if stage else count)
    permanent = {
        "theta": width * third,
        "averages": _FULL * optimised * _averages(config),
        "optimiser": _FULL * optimised * _moments(config),
        "phi": _FULL * (part if layout.sharded else count),
    }
    if stage:
        permanent["masters"] = _FULL * optimised
    if stage == 3:
        permanent["gradient's shards"] = _FULL * part
    # Memory that is never written takes no room on a CPU; only an inner loop on shards writes it.
    if stage == 3 and (layout.sharded or config.cluster.gpus_per_worker):
        permanent["gradient's bucket"] = float(_FULL * bucket_size(count))
    if stage == 3 and not layout.sharded:
        permanent["theta, gathered"] = float(_FULL * count)
    return permanent


def _engine(config: Config, layout: Layout, count: int) -> float:
    """Return the bytes of the outer gradient and of DeepSpeed's copies until the step is taken."""
    part = count / layout.shards
    if layout.sharded:
        return 3 * _FULL * part
    if config.cluster.zero_stage == 0:
        return 3 * _FULL * count
    if config.cluster.zero_stage == 3:  # it is padded and laid out by workers to be scattered
        return 3 * _FULL * count
    reducing = 2 * _FULL * bucket_size(count)  # a bucket, and the gradients that fill it
    # The gradient's part, and the denominators that torch's Adam computes from second moments.
    stepping = _FULL * part * (3 if _moments(config) else 1)
    return _FULL * count + max(reducing, stepping)


def _width(config: Config, layout: Layout) -> int:
    """Return the bytes per number of the weights that DeepSpeed computes with."""
    return 2 if keeps_bf16(config, sharded=layout.sharded) else _FULL


def _moments(config: Config) -> int:
    """Return how many moments of theta the outer optimiser keeps."""
    return len(MOMENTS[config.meta.optimizer])


def _averages(config: Config) -> int:
    """Return how many averages of theta the trainer keeps."""
    return 3 if config.meta.post_hoc else 1


def _state(config: Config) -> int:
    """Return how many trees of theta's size a checkpoint has."""
    return 1 + _averages(config) + _moments(config)
