"""Networks that predict a velocity, conditioned on a support."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.data.examples import Condition
from metatrain.generators.conditions.encoders import Encoders, Given
from metatrain.generators.conditions.sections import EncoderConfig
from metatrain.generators.networks.interval import Interval
from metatrain.generators.networks.network import Network
from metatrain.generators.networks.sections import NetworkConfig

# The name within a network of what predicting mean velocities adds to it.
INTERVAL = "interval"


class VelocityNetwork(Network):
    """A velocity field over examples, conditioned on a set of examples.

    Attributes:
        encoders: of the conditions that each example may have beside the set; None without any.
        interval: the embedding of the interval that a mean velocity is over; None for a network of
            velocities alone.
    """

    def __init__(self, config: NetworkConfig, shape: tuple[int, int, int]) -> None:
        super().__init__(config, shape)
        self.encoders: Encoders | None = None
        self.interval: Interval | None = None

    def condition_on(
        self, conditions: Mapping[str, EncoderConfig], token: int, embedding: int
    ) -> None:
        """Add encoders; last, so that the other weights are random as they are without."""
        if conditions:
            self.encoders = Encoders(conditions, token, embedding)

    def predict_means(self) -> None:
        """Add the embedding of intervals, where there is none yet.

        Raises:
            UserError: when nothing embedded conditions the network.
        """
        if not self.embedding:
            raise UserError(
                f"mean velocities condition an embedding, and {type(self).__name__} has none; "
                f"choose generator.name=unet or dit."
            )
        if self.interval is None:
            self.interval = Interval(self.embedding)

    def over(self, span: Tensor, memory: Tensor, given: Given | None) -> Given:
        """Return conditions under which `velocity` predicts the mean from t to t + `span`.

        It joins the summary of what is given, which every network with an embedding adds to that.

        Args:
            span: [B], in [0, 1 - t]; of no length, the mean is the velocity at t.
            memory: rows that `encode` made.
            given: the other conditions of each example.
        """
        assert self.interval is not None, "`predict_means` makes it"
        summary = self.interval(span)
        if given is None:
            # Not `len`, which an export takes for a constant.
            count = span.shape[0]
            tokens = memory.new_zeros(count, 0, memory.shape[-1])
            return Given(tokens, tokens.new_ones(count, 0, dtype=torch.bool), summary)
        return given._replace(summary=given.summary + summary)

    @property
    def converters(self) -> Encoders | None:
        """Encoders of the same settings, where not their weights but only those matter."""
        return self.encoders

    @override
    def conditions(self, given: Mapping[str, Condition], target: Tensor) -> Mapping[str, Condition]:
        return self.converters.tensors(given, target) if self.converters else {}

    @override
    def dropped(
        self, given: Mapping[str, Condition], stream: torch.Generator
    ) -> Mapping[str, Condition]:
        return self.converters.dropped(given, stream) if self.converters else given

    @abstractmethod
    def encode(self, support: Tensor) -> Tensor:
        """Encode the support [K, C, H, W] as memory [K, ...], one row per example."""

    def encode_given(self, conditions: Sequence[Tensor]) -> Given | None:
        """Encode the conditions of B examples, in the order of the encoders; None without any."""
        return self.encoders(conditions) if self.encoders else None

    @abstractmethod
    def velocity(
        self, x: Tensor, t: Tensor, memory: Tensor, visible: Tensor, given: Given | None = None
    ) -> Tensor:
        """Predict the velocity [B, C, H, W] at `x` and times `t` [B].

        Args:
            x: [B, C, H, W].
            t: [B] in [0, 1].
            memory: rows [K, ...] that `encode` made.
            visible: [B, K], True where an example may see a row; with no row visible the
                velocity is the unconditional flow's.
            given: the conditions of each example that `encode_given` made; None for no condition.
        """

    def embed(self, examples: Tensor) -> Tensor:
        """Embed examples [B, C, H, W] as [B, E]: the mean of their memory over places."""
        return self.encode(examples).flatten(1, -2).mean(dim=1)


def refuse_uneven_patches(side: int, patch: int) -> None:
    """Raise a UserError where examples cannot be cut into whole patches of `patch` a side."""
    if side % patch:
        raise UserError(
            f"examples of {side} a side (data.image_size, as the codec leaves it) cannot be cut "
            f"into patches of generator.patch={patch}; choose a multiple."
        )
