"""Sections of the networks, read without torch."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator
from typing_extensions import override

from metatrain.base.section import Section
from metatrain.generators.conditions.config import NO_CONDITIONS, Conditions
from metatrain.generators.frozen import FrozenWeights
from metatrain.generators.frozen_folder import FrozenFolder


class NetworkConfig(Section):
    """A network's section, which also tells what a configuration must know of the network.

    Attributes:
        scope: the inner loop's scope, where the network is defined by one; None allows any.
    """

    scope: ClassVar[str | None] = None


# The key `generator.support` of players.
SeesSupport = Annotated[
    bool, Field(description="Whether both players see the support, by a set encoder.")
]


class UNetConfig(NetworkConfig):
    """The U-Net; `width` sets its size."""

    name: Literal["unet"] = "unet"
    width: int = Field(
        default=48, ge=8, le=16384, multiple_of=8, description="Channels at the highest resolution."
    )
    multipliers: tuple[Annotated[int, Field(ge=1, le=64)], ...] = Field(
        default=(1, 2),
        min_length=2,
        max_length=5,
        description="Channels of each level, as multiples of width.",
    )
    patch: Literal[1, 2, 4] = Field(
        default=2, description="Side of the pixel patches folded into channels at the input."
    )
    heads: int = Field(
        default=2, ge=1, le=1024, description="Attention heads at the lowest resolution."
    )
    conditions: Conditions = NO_CONDITIONS

    @model_validator(mode="after")
    def _heads_divide_channels(self) -> Self:
        lowest = self.width * self.multipliers[-1]
        if lowest % self.heads:
            raise ValueError(
                f"heads is {self.heads}, which does not divide the {lowest} channels of "
                f"the lowest level."
            )
        return self


class DiTConfig(NetworkConfig):
    """The transformer; `width` and `depth` set its size."""

    name: Literal["dit"] = "dit"
    width: int = Field(
        default=128, ge=8, le=16384, multiple_of=8, description="Channels of a token."
    )
    depth: int = Field(default=4, ge=1, le=1024, description="Blocks.")
    patch: int = Field(default=4, ge=1, le=512, description="Side of the patch that is one token.")
    heads: int = Field(default=4, ge=1, le=1024, description="Attention heads.")
    conditions: Conditions = NO_CONDITIONS

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Self:
        if self.width % self.heads:
            raise ValueError(
                f"heads is {self.heads}, which does not divide the width {self.width}."
            )
        return self


class ResNetGANConfig(NetworkConfig):
    """The residual players; `width` sets their size."""

    name: Literal["resnet_gan"] = "resnet_gan"
    width: int = Field(
        default=64, ge=8, le=4096, multiple_of=8, description="Channels of every feature map."
    )
    patch: Literal[1, 2, 4] = Field(
        default=1, description="Side of the pixel patches that are one place of the largest map."
    )
    support: SeesSupport = False


class FastGANConfig(NetworkConfig):
    """FastGAN's players; `width` sets their size."""

    name: Literal["fastgan"] = "fastgan"
    width: int = Field(
        default=32, ge=8, le=4096, multiple_of=8, description="Channels at the highest resolution."
    )
    support: SeesSupport = False


class BackboneConfig(NetworkConfig, FrozenFolder):
    """A network of diffusers by its folder: UNet2DModel, UNet2DConditionModel and transformers."""

    name: Literal["diffusers"] = "diffusers"
    init: Literal["pretrained", "random"] = Field(
        default="pretrained",
        description="pretrained: the folder's weights, frozen; random: trained from nothing.",
    )
    precision: Literal["fp32", "bf16"] = Field(
        default="fp32", description="Precision in which frozen weights are held."
    )
    # These three are left out of what is stored where they are the default, since the sha256 of a
    # model covers its configuration.
    recompute: bool = Field(
        default=False,
        exclude_if=lambda recompute: not recompute,
        description="Compute activations again for the gradient: less memory, more time.",
    )
    text: FrozenWeights | None = Field(
        default=None,
        description="File of metatrain embed-text; null: zeros where the network needs a text.",
    )
    captions: str | None = Field(
        default=None,
        exclude_if=lambda captions: captions is None,
        description="Condition with a caption of each image; null: one text for all images.",
    )
    tokens: int = Field(
        default=1,
        ge=1,
        le=1024,
        exclude_if=lambda tokens: tokens == 1,
        description="Tokens of the zeros that stand for no text.",
    )

    @property
    @override
    def has_weights(self) -> bool:
        return self.init == "pretrained"


class ResidualConfig(NetworkConfig):
    """Eight convolutions; `width` sets the size."""

    name: Literal["residual"] = "residual"
    width: int = Field(default=64, ge=1, le=4096, description="Channels between convolutions.")


class ShuffledConfig(NetworkConfig):
    """The channels of the features, and the scale."""

    width: int = Field(default=32, ge=1, le=4096, description="Channels between convolutions.")
    scale: int = Field(default=2, ge=2, le=4, description="That of data.tasks.scale.")


class EDSRConfig(ShuffledConfig):
    """Blocks of two convolutions; `width` and `blocks` set the size."""

    name: Literal["edsr"] = "edsr"
    blocks: int = Field(default=8, ge=1, le=64, description="Blocks of two convolutions.")


class SpanConfig(ShuffledConfig):
    """Blocks of three convolutions; `width` and `blocks` set the size."""

    name: Literal["span"] = "span"
    width: int = Field(default=48, ge=1, le=4096, description="Channels between convolutions.")
    blocks: int = Field(default=6, ge=2, le=64, description="Blocks of three convolutions.")


class AutoencoderConfig(NetworkConfig):
    """Pixels of a side for each value of a latent's side; `width` sets the size."""

    name: Literal["autoencoder"] = "autoencoder"
    factor: Literal[4, 8] = Field(default=4, description="An image's side in latents' sides.")
    latent_channels: int = Field(default=8, ge=1, le=64, description="Channels of a latent.")
    width: int = Field(
        default=32, ge=1, le=256, description="Channels at half the size; below, twice as many."
    )


class RefinerConfig(NetworkConfig):
    """The refiner; `width` and `blocks` set its size."""

    name: Literal["refiner"] = "refiner"
    width: int = Field(default=32, ge=1, le=4096, description="Channels of every feature map.")
    blocks: int = Field(default=4, ge=1, le=64, description="Residual blocks of the generator.")
