"""Images out of requests, hostile until decoded, one at a time."""

import asyncio
from collections.abc import Callable, Sequence

from metatrain.base.errors import UserError
from metatrain.base.text import counted
from metatrain.data.config import DataConfig
from metatrain.data.examples import Examples
from metatrain.data.images import normalise, uncropped
from metatrain.data.pictures import encoded, png
from metatrain.model.support import as_support
from serving.limits import RefusedImage, RequestError
from serving.uploads import File
from serving.worker import Result


class Decoder:
    """Decodes one file at a time: an image may take half a gigabyte, whatever its file has."""

    def __init__(self) -> None:
        self._decoding = asyncio.Semaphore(1)

    async def support(
        self, images: Sequence[File], config: DataConfig, crops: Sequence[float] | None = None
    ) -> Examples:
        """Decode images to a support.

        Args:
            images: the images.
            config: the size and channels that the model takes.
            crops: of each image where its square lies; the central ones by default.

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
        return await self._decoded(lambda: _support(images, config, crops))

    async def picture(self, image: File, config: DataConfig, *, whole: bool) -> bytes:
        """Return a PNG file of an image as the model sees it, or with what its crop leaves out.

        Raises:
            RequestError: when it cannot be used.
        """
        return await self._decoded(lambda: _picture(image, config, whole))

    async def _decoded(self, decode: Callable[[], Result]) -> Result:
        async with self._decoding:
            return await asyncio.to_thread(decode)


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
