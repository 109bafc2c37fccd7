"""What a run is planned for: the speeds that a plan assumes, all of which can be said otherwise."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Hardware:
    """Workers of one kind, and what is between them.

    The defaults are those of a node of 8 H100 from its data sheets; what of them a program
    reaches is `efficiency` and `reached`.

    Attributes:
        memory: bytes of a worker; None where it is not known.
        per_node: workers of a node.
        tflops: the most operations a second, in float32 and in bfloat16, in 1e12.
        efficiency: share of them that a generator reaches.
        link: bytes a second that a worker can send within its node.
        network: bytes a second that a worker can send to another node.
        price: of a worker for an hour; None where it is not known.
    """

    memory: float | None = 80e9
    per_node: int = 8
    tflops: tuple[float, float] = (67.0, 989.0)
    efficiency: float = 0.3
    link: float = 300e9
    network: float = 40e9
    price: float | None = None
