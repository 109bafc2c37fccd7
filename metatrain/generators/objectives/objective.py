"""The objective: what a generator minimises on a batch, in one or more terms."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from torch import Tensor

from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.generators.networks.network import Network

# All that a term needs of a batch, noise included, as tensors in a fixed order.
Draw = tuple[Tensor, ...]
C = TypeVar("C", bound=Section)


@dataclass(frozen=True)
class Term:
    """One loss, and the parameters that it moves.

    Attributes:
        loss: maps a network and a draw's tensors to a scalar; of the network's weights and the
            draw it is a pure function.
        moves: prefixes of the names, within the network, of the parameters that it moves. The
            empty prefix is all of them. No parameter is moved by two terms.
    """

    loss: Callable[..., Tensor]
    moves: tuple[str, ...] = ("",)


class Objective(ABC, Generic[C]):
    """Terms on a batch, and the way to sample from a network that was trained on them.

    Most objectives have one term. A game has one for each player, and the gradient of a batch is
    then the union of the terms' gradients, each in the parameters that its term moves.

    Args:
        config: an instance of `Config`.
        shape: of one example as the network sees it, [C, H, W].
    """

    Config: ClassVar[type[Section]]

    def __init__(self, config: C, shape: tuple[int, int, int]) -> None:
        self.config, self.shape = config, shape

    @property
    @abstractmethod
    def terms(self) -> Sequence[Term]:
        """The losses, and what each moves."""

    @abstractmethod
    def check(self, network: Network) -> None:
        """Raise a UserError where `network` cannot be trained on this objective."""

    @abstractmethod
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        """Make all that the terms need of `batch`, drawing all noise from its seed.

        Apart from the losses, so that one draw serves a gradient and its derivatives, and a
        compiled graph sees tensors alone.
        """

    def share(self, draw: Draw, rows: slice) -> Draw:
        """Cut the examples `rows` of the batch out of its `draw`."""
        return tuple(tensor[rows] for tensor in draw)

    @abstractmethod
    def sample(
        self, network: Network, support: Tensor, count: int, seed: int, sampler: Section | None
    ) -> Tensor:
        """Sample `count` examples [count, C, H, W] given `support` [K, C, H, W].

        Args:
            network: trained on this objective.
            support: the examples to condition on.
            count: how many to sample.
            seed: the same seed gives the same noise, whatever the weights are.
            sampler: settings in place of the configured ones.
        """
