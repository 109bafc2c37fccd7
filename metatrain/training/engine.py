"""The engine: holds meta-parameters, however sharded, and applies outer gradients."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from metatrain.base.parameters import Parameters
from metatrain.training.exchange import Item
from metatrain.training.partition import Partition, StateParts, shapes_of
from metatrain.training.state import Record


class Engine(ABC):
    """Holder of the meta-parameters, however sharded, to which it applies outer gradients.

    A tree is full, shaped like theta, or local: the slices that this worker keeps, see `Partition`.
    Averages and other functions of single values are computed on local trees. By default an engine
    keeps everything, and the two are the same.

    Attributes:
        rank: number of this worker among those that take different episodes.
        world: how many those are.
        sharded: whether learners see local trees instead of full ones.
    """

    rank: int
    world: int
    sharded: bool = False

    @abstractmethod
    def parameters(self) -> Parameters:
        """Return theta by name as learners see it: float32, read only. Collective."""

    @abstractmethod
    def apply(self, gradient: Parameters, lr: float) -> None:
        """Average `gradient` over the workers and take one optimiser step. Collective."""

    @abstractmethod
    def mean(self, values: list[float]) -> list[float]:
        """Average each value over the workers. Collective."""

    @abstractmethod
    def gather(self, items: list[Item]) -> list[Item]:
        """Return the items of all workers, one for each of their slots, in the order of slots.

        Collective.
        """

    @abstractmethod
    def optimizer_state(self) -> Parameters:
        """Return the optimiser's moments, local trees, as 'parameter/moment'; views.

        The first worker adds what is no tree, such as a count of steps, as 'name'.
        """

    @property
    def device(self) -> torch.device:
        """Device of the trees."""
        return next(iter(self.local().values())).device

    @property
    def partitions(self) -> StateParts:
        """The parts of the state that this worker keeps."""
        shapes = shapes_of(self.parameters())
        whole = Partition.whole(shapes, copy=self.rank, copies=self.world)
        return StateParts(whole, whole)

    def local(self) -> Parameters:
        """Return this worker's slices of theta: float32, read only."""
        return self.parameters()

    def full(self, local: Parameters, wanted: bool = True) -> Parameters:
        """Gather the full tree of which every worker has its local one. Collective.

        Args:
            local: this worker's local tree.
            wanted: whether this worker wants the full tree. The others get an empty one, and never
                hold more of it than is gathered at once.

        Returns:
            The full tree, in the host's memory unless the engine keeps it whole anyway.
        """
        return local

    def norm(self, tree: Parameters) -> Tensor:
        """Return the Euclidean norm of a tree as learners see it. Collective."""
        return torch.nn.utils.get_total_norm(list(tree.values()))

    def reduce(self, metrics: Record, flag: bool) -> tuple[Record, bool]:
        """Average each metric over the workers and tell whether any of them raises its flag.

        One collective for both. Every worker must have metrics of the same names.
        """
        names = sorted(metrics)
        *means, flags = self.mean([*(metrics[name] for name in names), float(flag)])
        return dict(zip(names, means, strict=True)), flags > 0
