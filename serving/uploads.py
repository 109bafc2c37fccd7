"""The bodies of requests: files, fields and JSON, within bounds of bytes and time."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ValidationError
from python_multipart.multipart import parse_options_header
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message, Receive

from metatrain.base.text import printable
from serving.limits import Limits, Places, RefusedImage, RequestError

_NAME_CHARACTERS = 200
# It would log a line of each form that is none, and who sent that is told.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


Settings = TypeVar("Settings", bound=BaseModel)


# The content of a file, after its name.
File = tuple[str, bytes]


@dataclass(frozen=True)
class Upload:
    """A request with files.

    Attributes:
        fields: its fields by name.
        images: the files named images.
        sound: the file named audio, if there is one.
    """

    fields: dict[str, str]
    images: list[File]
    sound: File | None = None


class Uploads:
    """Reads images of requests, a few requests at a time.

    Args:
        limits: the bounds of a request.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._places = Places(limits.uploads, "uploads")

    @asynccontextmanager
    async def received(self, request: Request, places: Places) -> AsyncIterator[Upload]:
        """Read the fields and the files of a multipart request.

        It has its places until the context ends, and so few images are in memory at one time.

        Args:
            request: the request.
            places: those of its client, beside those of the server.

        Raises:
            RequestError: when it is too large, too slow or not in UTF-8, or others are being read.
        """
        limits = self._limits
        _refuse_charset(request)
        bounded = Request(request.scope, _bounded(request, limits.upload_bytes))
        with places, self._places:
            try:
                async with (
                    _arriving(limits.upload_seconds),
                    bounded.form(max_files=limits.images + 1, max_fields=8) as form,
                ):
                    upload = await self._upload(form)
            except HTTPException as error:
                if error.detail.startswith("Too many files"):
                    raise too_many(limits) from error
                raise
            yield upload

    async def _upload(self, form: FormData) -> Upload:
        for key, value in form.multi_items():
            if isinstance(value, UploadFile) and key not in ("images", "audio"):
                raise RequestError(
                    422, f"there is a file {printable(key)}; call files images, or audio."
                )
        images, sounds = await self._files(form, "images"), await self._files(form, "audio")
        if len(images) > self._limits.images:
            raise too_many(self._limits)
        if len(sounds) > 1:
            raise RequestError(422, f"there are {len(sounds)} sounds; give one.")
        return Upload(_fields(form), images, sounds[0] if sounds else None)

    async def _files(self, form: FormData, key: str) -> list[File]:
        files = []
        for number, file in enumerate(form.getlist(key), start=1):
            if not isinstance(file, UploadFile):
                raise RequestError(422, f"{key} is a text; send files.")
            noun = f"image {number}" if key == "images" else "the sound"
            name = printable((file.filename or noun)[:_NAME_CHARACTERS])
            if (file.size or 0) > self._limits.image_bytes:
                size = self._limits.image_bytes >> 20
                message = f"{name} has more than {size} MiB; give a smaller file."
                refused = [RefusedImage(index=number - 1, name=name, error=message)]
                raise RequestError(413, message, images=refused if key == "images" else ())
            files.append((name, await file.read()))
        return files


async def read_json(request: Request, kind: type[Settings], limits: Limits) -> Settings:
    """Read a small body as JSON; an empty one has all defaults.

    Raises:
        RequestError: when it is too large, too slow or not such settings.
    """
    bounded = Request(request.scope, _bounded(request, limits.body_bytes))
    async with _arriving(limits.body_seconds):
        body = await bounded.body()
    try:
        return kind.model_validate_json(body or b"{}", strict=True)
    except ValidationError as error:
        raise RequestError(422, _sentence(error)) from error


def parsed(fields: dict[str, str], kind: type[Settings]) -> Settings:
    """Convert the fields of a form to settings.

    Raises:
        RequestError: when they are none.
    """
    try:
        return kind.model_validate_strings(fields)
    except ValidationError as error:
        raise RequestError(422, _sentence(error)) from error


def too_many(limits: Limits) -> RequestError:
    """Return the refusal of more images than an adaptation may have."""
    return RequestError(413, f"there are too many images; give at most {limits.images}.")


@asynccontextmanager
async def _arriving(seconds: float) -> AsyncIterator[None]:
    """Refuse a request whose body does not arrive in time."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise RequestError(
            408, f"the request did not arrive within {seconds:g} s; send less at once."
        ) from error


def _refuse_charset(request: Request) -> None:
    """Refuse fields in another charset: some of Python's fail, and some make what is no text."""
    charset = parse_options_header(request.headers.get("content-type"))[1].get(b"charset", b"utf-8")
    if charset.lower() not in (b"utf-8", b"utf8"):
        name = printable(charset.decode("latin-1")[:_NAME_CHARACTERS])
        raise RequestError(422, f"the request is in the charset {name}; send it in utf-8.")


def _fields(form: FormData) -> dict[str, str]:
    return {name: value for name, value in form.multi_items() if isinstance(value, str)}


def _sentence(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    key = printable(".".join(map(str, first["loc"]))) or "the body"
    return f"{key} cannot be used: {first['msg'][0].lower()}{first['msg'][1:]}."


def _bounded(request: Request, most: int) -> Receive:
    """Return the messages of a request, refusing those beyond `most` bytes of body."""
    refusal = RequestError(
        413, f"the request has more than {most:,} bytes; send fewer or smaller images at once."
    )
    length = request.headers.get("content-length", "0")
    if not length.isdecimal() or int(length) > most:
        raise refusal
    taken = 0

    async def receive() -> Message:
        nonlocal taken
        message = await request.receive()
        taken += len(message.get("body", b""))
        if taken > most:
            raise refusal
        return message

    return receive
