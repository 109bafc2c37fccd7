"""Networks of two players: a generator of one pass and a discriminator."""

from abc import abstractmethod
from typing import Any, ClassVar, NamedTuple, cast

from torch import Tensor, nn

from metatrain.base.errors import UserError
from metatrain.generators.networks.layers import Context, SetEncoder, mean_of_visible
from metatrain.generators.networks.network import Network

# Numbers that a sample begins as.
LATENT = 128


class Judgement(NamedTuple):
    """A discriminator's opinion on images.

    Attributes:
        logits: higher for what it takes for real, [B, P], for P places of the image.
        features: feature maps behind them, [B, ...] each.
    """

    logits: Tensor
    features: tuple[Tensor, ...]


class Players(Network):
    """A generator and a discriminator.

    Its modules are `generator` and `discriminator`, and the prefixes of their parameters say which
    player moves them.
    """

    GENERATOR: ClassVar[tuple[str, ...]] = ("generator.", "context.")
    DISCRIMINATOR: ClassVar[tuple[str, ...]] = ("discriminator.",)
    # Only adapting needs it; an adapted model generates without.
    training_only = DISCRIMINATOR

    generator: nn.Module
    discriminator: nn.Module


class AdversarialNetwork(Players):
    """Players of which the generator starts from noise, and both may see the support."""

    def condition(self, support: Tensor, visible: Tensor) -> Tensor:
        """Summarise for each of B examples the support [K, C, H, W] that it may see: [B, E].

        E is 0 for players that do not see the support.

        Args:
            support: the support, as the network sees it.
            visible: [B, K], True where an example may see a support image.
        """
        encoder = cast(Any, self.generator).set_encoder
        if encoder is None:
            return support.new_zeros(len(visible), 0)
        return mean_of_visible(encoder(support), visible)

    @abstractmethod
    def generate(self, latents: Tensor, condition: Tensor) -> Tensor:
        """Generate images [B, C, H, W] in [-1, 1] from `latents` [B, LATENT]."""

    @abstractmethod
    def discriminate(self, images: Tensor, condition: Tensor) -> Judgement:
        """Judge images [B, C, H, W]; each by itself, whatever the others of the batch are."""

    def restoration_error(
        self, images: Tensor, features: tuple[Tensor, ...], windows: Tensor
    ) -> Tensor | None:
        """Compute the error with which real images are restored from their features, a scalar.

        Args:
            images: real images, [B, C, H, W].
            features: of their judgement.
            windows: [B] in [0, 1), which chooses a part of each.

        Returns:
            None for a discriminator that is not supervised by itself.
        """
        return None


class Embedding(nn.Module):
    """The embedding [B, E] of a sample: of its latents, and of what it sees of the support.

    Args:
        channels: E.
        token: channels of the condition; 0 for none.
    """

    def __init__(self, channels: int, token: int) -> None:
        super().__init__()
        self.latents = nn.Linear(LATENT, channels)
        self.condition = nn.Linear(token, channels) if token else None

    def forward(self, latents: Tensor, condition: Tensor, context: Context | None) -> Tensor:
        """Embed `latents` [B, LATENT] and `condition` [B, token], and add the `context`, if any."""
        embedding = self.latents(latents)
        if self.condition is not None:
            embedding = embedding + self.condition(condition)
        return embedding if context is None else context(embedding)


class Projection(nn.Module):
    """Logits [B, P] of features, and their agreement with the condition.

    Miyato and Koyama 2018, "cGANs with Projection Discriminator", eq. 3, with a linear function of
    the condition in place of a class's vector.

    Args:
        channels: of the features.
        token: channels of the condition; 0 for none.
    """

    def __init__(self, channels: int, token: int) -> None:
        super().__init__()
        self.linear = nn.Linear(channels, 1)
        self.condition = nn.Linear(token, channels) if token else None

    def forward(self, features: Tensor, condition: Tensor) -> Tensor:
        """Compute logits [B, P] of `features` [B, C, ...], one of each place."""
        places = features.flatten(2).transpose(1, 2)
        logits = self.linear(places).squeeze(2)
        if self.condition is None:
            return logits
        return logits + (places * self.condition(condition)[:, None]).mean(dim=2)


def set_encoder(channels: int, width: int, sees_support: bool) -> SetEncoder | None:
    """Make the encoder of the support, whose tokens have `width` channels."""
    return SetEncoder(channels, width, width) if sees_support else None


def doubled(largest: int, side: int) -> list[int]:
    """Return the sides of feature maps, from 4 to 7 up to `largest`, each twice the one before.

    Raises:
        UserError: when there are none, for examples of `side`.
    """
    sides = [largest]
    while sides[0] > 7 and sides[0] % 2 == 0:
        sides.insert(0, sides[0] // 2)
    if not 4 <= sides[0] <= 7:
        raise UserError(
            f"the generator doubles a map of 4 to 7 places a side until it has the size of "
            f"examples, {side} (data.image_size, as the codec leaves it); choose 16, 28, 32 or 64."
        )
    return sides
