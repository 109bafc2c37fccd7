"""The codec of our own training: a small autoencoder in one file, with its latents' statistics."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from pydantic import ValidationError
from torch import Tensor, nn
from typing_extensions import override

from metatrain.base.errors import UserError
from metatrain.base.text import printable, reason_of
from metatrain.generators.codecs.codec import Codec
from metatrain.generators.codecs.sections import TrainedConfig
from metatrain.generators.frozen import fill, on_meta, parse_tensors, read_pinned
from metatrain.generators.networks.autoencoder import Autoencoder
from metatrain.generators.networks.sections import AutoencoderConfig
from metatrain.storage.tensors import file_bytes, read_metadata

FORMAT = "metatrain-codec-1"
_PRECISIONS = (torch.float16, torch.float32)
_CHANNELS = (1, 3, 4)


class Trained(Codec):
    """An autoencoder of `metatrain codec train`; its latents have mean 0 and variance 1.

    Args:
        config: its file.

    Raises:
        UserError: when the file cannot be read, is not the one that was pinned, or is no codec.
    """

    Config = TrainedConfig

    def __init__(self, config: TrainedConfig) -> None:
        super().__init__(config)
        file = parse_codec(read_pinned(config.path, config.sha256), config.path)
        self._url, self._channels = config.path, file.channels
        side = file.config.factor
        self.autoencoder = Autoencoder(file.config, (file.channels, side, side))
        self.mean = _statistic(file.config)
        self.std = _statistic(file.config)
        if not on_meta(self):
            fill(self, file.tensors, config.path)
            if not (self.std > 0).all():
                raise UserError(
                    f"{config.path} has a channel of latents without variance; train it with "
                    f"fewer --channels."
                )

    @override
    def shape(self, channels: int, size: int) -> tuple[int, int, int]:
        factor = self.autoencoder.config.factor
        if channels != self._channels or size % factor:
            raise UserError(
                f"{self._url} encodes images of {self._channels} channels and a multiple of "
                f"{factor} a side, and data has {channels} and {size}; change data.channels and "
                f"data.image_size."
            )
        return self.autoencoder.latent_shape((channels, size, size))

    @override
    def encode(self, images: Tensor) -> Tensor:
        return (self.autoencoder.encode(images) - self.mean) / self.std

    @override
    def decode(self, latents: Tensor) -> Tensor:
        return self.autoencoder.decode(latents * self.std + self.mean)


def _statistic(config: AutoencoderConfig) -> nn.Parameter:
    return nn.Parameter(torch.ones(config.latent_channels, 1, 1), requires_grad=False)


class CodecFile(NamedTuple):
    """A parsed file: the autoencoder's size, its images' channels, and the codec's tensors."""

    config: AutoencoderConfig
    channels: int
    tensors: dict[str, Tensor]


def codec_bytes(
    autoencoder: Autoencoder, mean: Tensor, std: Tensor, about: Mapping[str, str]
) -> bytes:
    """Return a codec's file, in half precision.

    Args:
        autoencoder: trained.
        mean: of each channel of its latents, [c].
        std: likewise, their standard deviation.
        about: further metadata, which nothing reads back.
    """
    tensors = {f"autoencoder.{n}": t for n, t in autoencoder.state_dict().items()}
    tensors |= {"mean": mean.view(-1, 1, 1), "std": std.view(-1, 1, 1)}
    halves = {n: t.detach().cpu().half().contiguous() for n, t in tensors.items()}
    for name, tensor in halves.items():
        if not tensor.isfinite().all():
            raise UserError(
                f"{name} of the codec is not finite in half precision; train with a lower meta.lr."
            )
    known = {
        "format": FORMAT,
        "autoencoder": autoencoder.config.model_dump_json(),
        "channels": str(autoencoder.shape[0]),
    }
    return file_bytes(halves, {**about, **known})


def parse_codec(data: bytes, url: str) -> CodecFile:
    """Parse the bytes of a codec's file, which messages name by `url`.

    Raises:
        UserError: when they are damaged, or no codec.
    """
    tensors = parse_tensors(data, url)
    try:
        metadata = read_metadata(data)
        version, channels = metadata["format"], int(metadata["channels"])
        config = AutoencoderConfig.model_validate_json(metadata["autoencoder"])
        if channels not in _CHANNELS:
            raise ValueError(f"it has {channels} channels")
    except (KeyError, ValueError, ValidationError) as error:
        raise UserError(
            f"{url} is no codec of metatrain codec train, or is damaged: {reason_of(error)}."
        ) from error
    if version != FORMAT:
        raise UserError(
            f"{url} is of format {printable(version)[:40]}; this metatrain reads {FORMAT}."
        )
    for name, tensor in tensors.items():
        if tensor.dtype not in _PRECISIONS:
            raise UserError(
                f"{printable(name)} in {url} is {tensor.dtype}; a codec has float16 or float32."
            )
        if not tensor.isfinite().all():
            raise UserError(f"{printable(name)} in {url} is not finite; train the codec again.")
    return CodecFile(config, channels, tensors)
