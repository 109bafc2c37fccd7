"""Autoencoders of diffusers: latents of pretrained models."""

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.generators.codecs.codec import Codec
from metatrain.generators.codecs.sections import AutoencoderKLConfig, AutoencoderTinyConfig
from metatrain.generators.diffusers_import import constructed
from metatrain.generators.frozen import fill, on_meta
from metatrain.generators.frozen_folder import FrozenFolder


class _Autoencoder(Codec):
    """An autoencoder in a folder of diffusers, whose latents are scaled as its networks expect.

    Raises:
        UserError: when the folder holds another class, or tensors of another one.
    """

    CLASS: ClassVar[str]

    def __init__(self, config: FrozenFolder) -> None:
        super().__init__(config)
        values = config.values()
        if values["_class_name"] != self.CLASS:
            raise UserError(
                f"{config.url} is of the class {values['_class_name']}, and codec.name="
                f"{getattr(config, 'name', '')} needs {self.CLASS}; name another folder or codec."
            )
        self.model = constructed(values, config.url)
        if not on_meta(self.model):
            fill(self.model, config.tensors(), config.url)
        self._url = config.url

    @override
    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        config = self.model.config
        factor = 2 ** (len(config.block_out_channels) - 1)
        if channels != config.in_channels or size % factor:
            raise UserError(
                f"{self._url} encodes images of {config.in_channels} channels and a multiple of "
                f"{factor} a side, and data has {channels} and {size}; change data.channels and "
                f"data.image_size."
            )
        return config.latent_channels, size // factor, size // factor

    @override
    def encode(self, images: Tensor) -> Tensor:
        return (self._latents(images) - self._shift) * self.model.config.scaling_factor

    @override
    def decode(self, latents: Tensor) -> Tensor:
        return self.model.decode(latents / self.model.config.scaling_factor + self._shift).sample

    @property
    def _shift(self) -> float:
        return self.model.config.get("shift_factor") or 0.0

    @abstractmethod
    def _latents(self, images: Tensor) -> Tensor:
        """Encode images to latents before their shift and scale."""


class AutoencoderKL(_Autoencoder):
    """A variational autoencoder; images are encoded as the mode of their distribution."""

    Config = AutoencoderKLConfig
    CLASS = "AutoencoderKL"

    @override
    def _latents(self, images: Tensor) -> Tensor:
        return self.model.encode(images).latent_dist.mode()


class AutoencoderTiny(_Autoencoder):
    """A small autoencoder, of latents that a large one's networks understand."""

    Config = AutoencoderTinyConfig
    CLASS = "AutoencoderTiny"

    @override
    def _latents(self, images: Tensor) -> Tensor:
        return self.model.encode(images).latents
