"""The codec: a fixed map between pixels and the latents that a network sees."""

from abc import ABC, abstractmethod
from typing import ClassVar

from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.section import Section
from metatrain.generators.codecs.sections import IdentityConfig


class Codec(nn.Module, ABC):
    """A fixed map from images to latents and back; nothing here is trained.

    Only data, codecs and evaluation see pixels: objectives, networks and learners see latents.

    Args:
        config: an instance of `Config`.

    Attributes:
        Config: its section of the configuration.
    """

    Config: ClassVar[type[Section]]

    def __init__(self, config: Section) -> None:
        super().__init__()

    @abstractmethod
    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        """Give the shape of the latent of an image [channels, size, size]."""

    @abstractmethod
    def encode(self, images: Tensor) -> Tensor:
        """Map images [B, C, H, W] in [-1, 1] to latents."""

    @abstractmethod
    def decode(self, latents: Tensor) -> Tensor:
        """Map latents to images [B, C, H, W]; the caller clamps them to [-1, 1]."""


class Identity(Codec):
    """Pixels as latents."""

    Config = IdentityConfig

    @override
    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        return channels, size, size

    @override
    def encode(self, images: Tensor) -> Tensor:
        return images

    @override
    def decode(self, latents: Tensor) -> Tensor:
        return latents
