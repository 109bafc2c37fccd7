"""The objective: one or more loss terms that a generator minimises on a batch."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Generic, Protocol, TypeVar, runtime_checkable

from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.generators.networks.network import Network
from metatrain.generators.objectives.sections import ObjectiveConfig

# The tensors that terms need of a batch, noise included, in a fixed order.
Draw = tuple[Tensor, ...]
C = TypeVar("C", bound=ObjectiveConfig)

# No conditions beside the support.
NOTHING: Mapping[str, Tensor] = {}


@dataclass(frozen=True)
class Term:
    """One loss, and the parameters that it moves.

    Attributes:
        loss: maps a network and the tensors of a draw to a scalar; a pure function of the
            network's weights and the draw.
        moves: prefixes of the names, within the network, of the parameters that it moves. The
            empty prefix means all. No two terms move the same parameter.
    """

    loss: Callable[..., Tensor]
    moves: tuple[str, ...] = ("",)


class Objective(ABC, Generic[C]):
    """Loss terms on a batch, and sampling from a network that was trained on them.

    Most objectives have one term. A game has one per player, and the gradient of a batch is then
    the union of the terms' gradients, each in the parameters that its term moves.

    Args:
        config: an instance of `Config`.
        shape: of one example as the network sees it, [C, H, W].

    Attributes:
        Config: the class of `config`.
        trains: the kind of network that it can train.
        needs: that kind in words, for whoever configured another.
        images: names of conditions that are images [..., C, H, W], which the objective itself
            reads as the codec encodes them, whatever the network's encoders are.
    """

    Config: ClassVar[type[ObjectiveConfig]]
    trains: ClassVar[type[Network]] = Network
    needs: ClassVar[str] = "a network"
    images: ClassVar[tuple[str, ...]] = ()

    def __init__(self, config: C, shape: tuple[int, int, int]) -> None:
        self.config, self.shape = config, shape

    @property
    @abstractmethod
    def terms(self) -> Sequence[Term]:
        """The losses, each with the parameters that it moves."""

    @property
    def updates(self) -> Sequence[tuple[int, ...]]:
        """The updates of one inner step, in order: each the numbers of the terms that move at once.

        Each has a draw of its own. By default there is one update, of all terms.
        """
        return (tuple(range(len(self.terms))),)

    def replayable(self, network: Network, examples: Examples) -> Tensor:
        """Make the images [N, C, H, W] of `examples` that a later outer step is to see again."""
        raise NotImplementedError(f"{type(self).__name__} replays nothing")

    def check(self, network: Network) -> None:
        """Refuse a network that is not of the kind `trains`.

        Raises:
            UserError: when it is of another.
        """
        if not isinstance(network, self.trains):
            name = getattr(self.config, "name", type(self).__name__)
            raise UserError(
                f"objective.name={name} needs {self.needs}, not {type(network).__name__}; choose "
                f"another generator or objective."
            )

    def install(self, network: Network) -> None:
        """Add to a network of the kind `trains` what this objective needs of it.

        By default that is nothing. It is called whenever a generator is made, also of a network
        that has it already.

        Raises:
            UserError: when the network cannot have it.
        """

    @abstractmethod
    def prepare(self, batch: Batch, *, training: bool) -> Draw:
        """Compute the draw of `batch`: all that the terms need, with all noise from its seed.

        This is separate from the losses, so that one draw serves a gradient and its derivatives,
        and compiled graphs see nothing but tensors.
        """

    def share(self, draw: Draw, rows: slice) -> Draw:
        """Cut the examples `rows` of the batch out of its `draw`."""
        return tuple(tensor[rows] for tensor in draw)

    @abstractmethod
    def sample(
        self,
        network: Network,
        support: Examples,
        count: int,
        seed: int,
        sampler: Section | None,
        given: Mapping[str, Tensor] = NOTHING,
    ) -> Tensor:
        """Sample `count` examples [count, C, H, W] given a `support` of K.

        Args:
            network: trained on this objective.
            support: the examples to condition on, their targets as the network sees them.
            count: how many to sample.
            seed: the same seed gives the same noise, whatever the weights are.
            sampler: settings in place of the configured ones.
            given: by name, the conditions [count, ...] of the network's encoders, where it has any.
        """


@runtime_checkable
class ErrorsByExample(Protocol):
    """An objective whose loss is the mean of an error of each example.

    The noise of its draws is decided by the batch's seed and the number of its examples alone, so
    that two batches of one seed have the same times and noise, one for one.
    """

    def errors(self, network: Network, draw: Draw) -> Tensor:
        """Compute the error of each example of a draw, [B], whose mean is the loss."""
        ...
