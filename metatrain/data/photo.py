"""Photographs of any size as they are: grey of 8 or 16 bits, or RGB, with alpha and profile."""

import io
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.decoding.bad import CORRUPT, BadImage
from metatrain.data.decoding.colours import profile_of, to_srgb
from metatrain.data.decoding.opened import Frame, load_strictly
from metatrain.data.decoding.transparency import with_key
from metatrain.data.further_formats import BadFormatError, as_png
from metatrain.data.images import MAX_PIXELS
from metatrain.storage.files import write_file

# The endings and settings of the formats that are written.
_FORMATS = {
    "PNG": (".png", {}),
    "JPEG": (".jpg", {"quality": 95, "subsampling": 0}),
    "WEBP": (".webp", {"quality": 95, "exact": True}),
    "TIFF": (".tif", {"compression": "tiff_deflate"}),
}
_SAME = {"MPO": "JPEG"}
# The endings of names that a file in one of these formats may have.
_ENDINGS = frozenset((".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".tif", ".tiff"))
# PIL modes that photographs keep; of the last, alpha is the last channel.
_MODES = ("L", "RGB", "LA", "RGBA")


@dataclass(frozen=True)
class Photo:
    """A photograph.

    Attributes:
        pixels: [H, W, C] of uint8, C 1 or 3, or of uint16, C 1; with alpha, C is 2 or 4.
        format: a format that can be written, that of its file where that is one.
        profile: its ICC profile, if it has one.
    """

    pixels: np.ndarray
    format: str = "PNG"
    profile: bytes | None = None

    @property
    def has_alpha(self) -> bool:
        """Whether the last channel is alpha."""
        return self.pixels.shape[2] in (2, 4)

    @property
    def ending(self) -> str:
        """The ending of its file, such as `.png`."""
        return _FORMATS[self.format][0]

    @property
    def image(self) -> Image.Image:
        """The photograph as a PIL image, of mode L, LA, RGB, RGBA or I;16."""
        image = Image.fromarray(self.pixels[..., 0] if self.pixels.shape[2] == 1 else self.pixels)
        if self.profile:
            image.info["icc_profile"] = self.profile
        return image

    def save(self, url: str | Path) -> None:
        """Write its file, at a path or any fsspec URL.

        Raises:
            UserError: as `encoded`, or when it cannot be written.
        """
        write_file(str(url), self.encoded())

    def encoded(self) -> bytes:
        """Return the bytes of its file.

        Raises:
            UserError: when its format has no room for so many pixels.
        """
        buffer = io.BytesIO()
        options = _FORMATS[self.format][1] | {"icc_profile": self.profile}
        try:
            self.image.save(buffer, self.format, **options)
        except (ValueError, OSError) as error:
            height, width = self.pixels.shape[:2]
            raise UserError(
                f"{width} x {height} pixels cannot be written as {self.format} ({error}); convert "
                f"the photograph to PNG first."
            ) from error
        return buffer.getvalue()


def written_name(name: str) -> str:
    """Return the name under which a photograph of that name is written: .png in place of .bmp."""
    path = PurePosixPath(name)
    return name if path.suffix.lower() in _ENDINGS else str(path.with_suffix(".png"))


def read_photo(data: bytes) -> Photo:
    """Decode a photograph, upright, at its size; colours other than grey and RGB become sRGB.

    Raises:
        BadImage: when it is damaged, cannot be decoded, or has values of 32 bits.
    """
    try:
        data, _ = as_png(data, None, MAX_PIXELS)
    except BadFormatError as error:
        raise BadImage(CORRUPT, str(error)) from error
    frame = load_strictly(data)
    kind = _SAME.get(frame.format or "", frame.format or "")
    format_ = kind if kind in _FORMATS else "PNG"
    image, profile = frame.image, profile_of(frame.image)
    if image.mode.startswith("I;16"):
        values = np.asarray(frame.upright(image)).astype(np.uint16)
        return Photo(values[..., None], format_, profile)
    if image.mode in ("I", "F"):
        raise BadImage("values of 32 bits", "only those of 8 and 16 bits are taken")
    plain = _plain(frame)
    if plain.mode != image.mode and image.mode in ("CMYK", "LAB", "YCbCr"):
        profile = None
    return Photo(np.atleast_3d(np.asarray(frame.upright(plain))), format_, profile)


def _plain(frame: Frame) -> Image.Image:
    """Convert to one of `_MODES`."""
    image = frame.image
    if frame.key is not None and image.mode in ("1", "L", "RGB"):
        return with_key(image, frame.key)
    if image.mode in ("CMYK", "LAB"):
        image = to_srgb(image, profile_of(image), frame.notes)
    if image.mode in _MODES:
        return image
    if image.mode == "1":
        return image.convert("L")
    return image.convert("RGBA" if image.has_transparency_data else "RGB")
