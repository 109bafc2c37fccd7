"""Images and sounds out of requests, hostile until decoded, one at a time."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from metatrain.base.errors import UserError
from metatrain.base.text import counted
from metatrain.config import Config
from metatrain.data.config import DataConfig
from metatrain.data.examples import Examples
from metatrain.data.images import normalise, uncropped
from metatrain.data.pictures import encoded, png
from metatrain.model.given import Given, as_given
from metatrain.model.model import NOTHING
from metatrain.model.support import as_support
from serving.limits import RefusedImage, RequestError
from serving.telling import as_wave
from serving.uploads import File
from serving.worker import Result


class Decoder:
    """Decodes one file at a time: an image may take half a gigabyte, whatever its file has."""

    def __init__(self) -> None:
        self._decoding = asyncio.Semaphore(1)

    async def support(
        self,
        images: Sequence[File],
        config: Config,
        crops: Sequence[float] | None = None,
        given: Given = NOTHING,
    ) -> Examples:
        """Decode images to a support.

        Args:
            images: the images, which may be none where a condition is given.
            config: the model's configuration.
            crops: of each image where its square lies; the central ones by default.
            given: the conditions of all.

        Raises:
            RequestError: when some cannot be used, with the reason of each, or there are not as
                many crops as images.
        """
        if crops is not None and len(crops) != len(images):
            raise RequestError(
                422,
                f"there are {counted(len(crops), 'crop')} for {counted(len(images), 'image')}; "
                f"give one for each.",
            )
        if not images and not given:
            raise RequestError(
                422, "there are no images; send at least one as a file named images."
            )
        return await self._decoded(lambda: _conditioned(images, config, crops, given))

    async def picture(self, images: Sequence[File], config: DataConfig, *, whole: bool) -> bytes:
        """Return a PNG file of the first image as the model sees it, or uncropped.

        Raises:
            RequestError: when there is none, or it cannot be used.
        """
        if not images:
            raise RequestError(422, "there is no image; send one as a file named images.")
        return await self._decoded(lambda: _picture(images[0], config, whole))

    async def wave(self, sound: File | None) -> bytes | None:
        """Return a sound as a WAV file; None where there is none.

        Raises:
            RequestError: when it cannot be used.
        """
        return None if sound is None else await self._decoded(lambda: as_wave(sound))

    async def _decoded(self, decode: Callable[[], Result]) -> Result:
        async with self._decoding:
            return await asyncio.to_thread(decode)


def _conditioned(
    images: Sequence[File], config: Config, crops: Sequence[float] | None, given: Given
) -> Examples:
    data, conditions = config.data, as_given(given, config, len(images) or None)
    if not images:
        return Examples(torch.empty(0, data.channels, data.image_size, data.image_size), conditions)
    return replace(_support(images, data, crops), given=conditions)


def _support(images: Sequence[File], config: DataConfig, crops: Sequence[float] | None) -> Examples:
    """Decode each image alone, so that every refusal is told, and then all of them together."""
    refused = []
    for index, (name, data) in enumerate(images):
        try:
            as_support([data], config)
        except UserError as error:
            message = str(error).replace("image 1", name, 1)
            refused.append(RefusedImage(index=index, name=name, error=message))
    if refused:
        raise RequestError(422, " ".join(r.error for r in refused), images=refused)
    try:
        return as_support([data for _, data in images], config, crops=crops)
    except UserError as error:
        raise RequestError(422, str(error)) from error


def _picture(image: File, config: DataConfig, whole: bool) -> bytes:
    support = _support([image], config, None)
    if not whole:
        return png(support.target[0])
    background = "keep" if config.channels == 4 else "white"
    plain = normalise(image[1], background=background).data
    return encoded(uncropped(plain, config.image_size, config.channels))
