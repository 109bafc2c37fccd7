"""The network: a module whose parts scopes and conditions refer to."""

from abc import ABC
from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor, nn

from metatrain.data.examples import Condition
from metatrain.generators.networks.layers import Context
from metatrain.generators.networks.sections import NetworkConfig
from metatrain.generators.networks.wiring import Wiring


class Network(nn.Module, ABC):
    """A network of any kind; an objective may require more of it than is declared here.

    Args:
        config: an instance of `Config`.
        shape: of an example as the network sees it, [C, H, W], H = W.

    Attributes:
        Config: its section of the configuration.
        training_only: prefixes of the parameters that only training and adapting need.
        head: names of the modules that are its last layers; the rest is its body.
        film_layers: patterns of the names of layers that modulate features, beside those of FiLM.
        attention_layers: patterns of the names of the projections of attention.
        embedding: channels of the embedding that conditions it, 0 where there is none.
        context: a further vector that conditions it, where the scope `context` has added one.
    """

    Config: ClassVar[type[NetworkConfig]]
    training_only: ClassVar[tuple[str, ...]] = ()
    head: tuple[str, ...] = ()
    film_layers: tuple[str, ...] = ()
    attention_layers: tuple[str, ...] = ()
    embedding: int = 0

    def __init__(self, config: NetworkConfig, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.shape = shape
        self.context: Context | None = None

    def conditions(self, given: Mapping[str, Condition], target: Tensor) -> Mapping[str, Condition]:
        """Return the conditions of the examples `target` [B, ...] as the network takes them."""
        return given

    def dropped(
        self, given: Mapping[str, Condition], stream: torch.Generator
    ) -> Mapping[str, Condition]:
        """Take conditions from some examples, as training does."""
        return given

    def wiring(self) -> Wiring | None:
        """Return which weights share channels; None for a network that cannot be pruned."""
        return None
