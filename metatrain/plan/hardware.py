"""What a run is planned for: sizes and speeds that a plan assumes, and anyone may say otherwise."""

from dataclasses import dataclass

import torch

from metatrain.base.machine import free_memory


@dataclass(frozen=True)
class Hardware:
    """Workers of one kind, and what is between them.

    Attributes:
        memory: bytes that a worker has.
        per_node: workers of a node.
        link: bytes a second that a worker sends within its node.
        network: bytes a second that a worker sends to another node.
        tflops: the most operations a second that a worker's GPU is sold for, in 1e12.
        efficiency: the share of them that a generator reaches.
        launch: seconds that an operation on a GPU takes at the least.
        price: of a worker for an hour; None where it is not known.
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
        """Nodes of 8 H100 by their data sheet, at some two thirds of NVLink and of 400 Gb/s each.

        float32 without TF32, since torch does not use that unless told to.
        """
        return cls(80e9, per_node=8, link=300e9, network=35e9, tflops=989.0 if bf16 else 67.0)


def this_machine(workers: int) -> Hardware:
    """This machine's memory, shared by all workers, with 1 GB/s between them."""
    free = free_memory(torch.device("cpu"))
    return Hardware(free / workers, per_node=workers, link=1e9, network=1e9)
