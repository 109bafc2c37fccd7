"""Hardware that a plan assumes: sizes and speeds, all of which the user can set."""

from dataclasses import dataclass

from metatrain.base.machine import free_memory
from metatrain.config import Config
from metatrain.generators.networks.sections import BackboneConfig


@dataclass(frozen=True)
class Hardware:
    """Workers of one kind, and the links between them.

    Attributes:
        memory: bytes of memory per worker.
        per_node: workers per node.
        link: bytes per second that a worker sends within its node.
        network: bytes per second that a worker sends to another node.
        tflops: nominal peak of a worker's GPU, in 1e12 operations per second.
        efficiency: the share of the peak that a generator reaches.
        launch: least seconds of one operation on a GPU.
        price: price of a worker for an hour; None if unknown.
    """

    memory: float
    per_node: int
    link: float
    network: float
    tflops: float = 0.0
    efficiency: float = 0.3
    launch: float = 5e-6
    price: float | None = None

    @classmethod
    def h100(cls, *, bf16: bool) -> "Hardware":
        """Return nodes of 8 H100 by the data sheet, at two thirds of NVLink and of 400 Gb/s each.

        float32 is without TF32, which torch does not use by default.
        """
        return cls(80e9, per_node=8, link=300e9, network=35e9, tflops=989.0 if bf16 else 67.0)


def has_bf16_backbone(config: Config) -> bool:
    """Tell whether a frozen backbone is held, and computes, in bf16."""
    generator = config.generator
    frozen = isinstance(generator, BackboneConfig) and generator.has_weights
    return frozen and generator.precision == "bf16"


def this_machine(workers: int) -> Hardware:
    """Return this machine's free memory, shared by all workers, with 1 GB/s between them."""
    free = free_memory()
    return Hardware(free / workers, per_node=workers, link=1e9, network=1e9)
