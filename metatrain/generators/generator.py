"""What every generator is."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from metatrain.base.section import Section
from metatrain.data.batch import Batch
from metatrain.data.examples import Examples
from metatrain.generators.networks.layers import Context
from metatrain.learning.inner.rule import InnerRule

# What an objective needs of a batch, as tensors in a fixed order.
Draw = tuple[Tensor, ...]


class Generator(nn.Module, ABC):
    """A network, the objective it minimises on a batch, and a way to draw images from it.

    Learners see only `draw` and `forward`; whoever wants pictures sees only `sample`.

    Attributes:
        Config: its section of the configuration.
        scope: the scope that it is defined by; None where any will do.
        head: names of the modules that are its last layers; the rest is its body.
        embedding: channels of the embedding that conditions it, 0 where there is none.
        context: a vector that conditions it too, for the scope of that name.
        inner_rule: how the inner loop updates it; learners put rules with parameters here.
    """

    Config: ClassVar[type[Section]]
    scope: ClassVar[str | None] = None
    head: ClassVar[tuple[str, ...]]
    embedding: int = 0

    def __init__(self, config: Any, image_size: int, channels: int) -> None:
        """Make the network with random weights.

        Args:
            config: an instance of `Config`.
            image_size: height and width of the images.
            channels: 1 or 3.
        """
        super().__init__()
        self.context: Context | None = None
        self.inner_rule = InnerRule()

    @abstractmethod
    def draw(self, batch: Batch) -> Draw:
        """What the objective needs of `batch`, with all that is random about it drawn.

        Apart from `forward`, so that the same draw serves a gradient and its derivatives, and a
        compiled graph sees tensors alone.
        """

    @abstractmethod
    def forward(self, *draw: Tensor) -> Tensor:
        """The objective, a scalar; a function of the weights and of `draw` alone."""

    def share(self, draw: Draw, rows: slice) -> Draw:
        """The part of `draw` that is about the images `rows` of its batch."""
        return tuple(tensor[rows] for tensor in draw)

    def objective(self, batch: Batch) -> Tensor:
        """The objective on `batch`."""
        return self(*self.draw(batch))

    @abstractmethod
    def embed(self, images: Tensor) -> Tensor:
        """What the generator sees in images [B, C, H, W] when they are a support: [B, E]."""

    @abstractmethod
    def surprise(self, support: Examples) -> Tensor:
        """How little it expected `support` (K examples): [P], each over a thing of its own.

        The same support gives the same numbers, and others are comparable if K is the same.
        """

    @abstractmethod
    def restore(self, batch: Batch, hidden: Tensor) -> Tensor:
        """An estimate of the images of `batch` without seeing the pixels that are `hidden`.

        Args:
            batch: B images, and their support.
            hidden: [B, 1, H, W], 1 where a pixel is hidden, else 0.

        Returns:
            Images [B, C, H, W].
        """

    @abstractmethod
    def sample(self, support: Examples, count: int, seed: int) -> Tensor:
        """Draw `count` images [count, C, H, W] in [-1, 1] given `support`.

        The same `seed` gives the same noise whatever the weights are, so that pictures of
        different inner steps differ by what was learned alone.
        """
