"""What every generator is."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from torch import Tensor, nn

from metatrain.batch import Batch
from metatrain.section import Section


class Generator(nn.Module, ABC):
    """A network, the objective it minimises on a batch, and a way to draw images from it.

    Learners see only `forward`; whoever wants pictures sees only `sample`.
    """

    Config: ClassVar[type[Section]]

    def __init__(self, config: Any, image_size: int, channels: int) -> None:
        """Make the network with random weights.

        Args:
            config: an instance of `Config`.
            image_size: height and width of the images.
            channels: 1 or 3.
        """
        super().__init__()

    @abstractmethod
    def forward(self, batch: Batch) -> Tensor:
        """The objective on `batch`, a scalar; a function of the weights alone."""

    @abstractmethod
    def sample(self, support: Tensor, count: int, seed: int) -> Tensor:
        """Draw `count` images [count, C, H, W] in [-1, 1] given `support` [K, C, H, W].

        The same `seed` gives the same noise whatever the weights are, so that pictures of
        different inner steps differ by what was learned alone.
        """
