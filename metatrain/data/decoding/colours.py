"""Colour management: what a file says of its colours, converted to sRGB by Little CMS."""

import io
import struct
from functools import lru_cache, partial
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from metatrain.data.decoding.strips import converted
from metatrain.data.decoding.transparency import with_alpha

# A profile that moves no colour further, of 255, is sRGB: rounding moves them as far.
_UNNOTICED = 2
# 0.45455 is how PNGs write sRGB's gamma.
_SRGB_GAMMA, _SAME_GAMMA = 1 / 2.2, 0.005
_SRGB_CHROMATICITY = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)

_SPACES = {"L": "GRAY", "RGB": "RGB", "CMYK": "CMYK", "LAB": "Lab"}


def profile_of(image: Image.Image) -> bytes | None:
    """Return the ICC profile of an image's colours, or one made of a PNG's gAMA and cHRM.

    None where nothing says that they are not sRGB.
    """
    if profile := image.info.get("icc_profile"):
        return profile
    if "srgb" in image.info:
        return None
    gamma = image.info.get("gamma") or _SRGB_GAMMA
    chromaticity = image.info.get("chromaticity") or _SRGB_CHROMATICITY
    same = np.allclose(chromaticity, _SRGB_CHROMATICITY, atol=0.002)
    if same and abs(gamma - _SRGB_GAMMA) < _SAME_GAMMA:
        return None
    return _matrix_profile(gamma, tuple(chromaticity))


def to_srgb(image: Image.Image, profile: bytes | None, notes: list[str]) -> Image.Image:
    """Convert an image to sRGB, and add to `notes`; one that is sRGB is returned itself.

    Args:
        image: of 8 bits a channel.
        profile: an ICC profile; one that cannot be used is ignored.
        notes: of the image.

    Returns:
        The image itself, or one of mode L, LA, RGB or RGBA.
    """
    if image.mode == "LAB":
        notes.append("Lab: converted to RGB")
        # A profile would only say again that the colours are those of CIE.
        return converted(image, "RGB", partial(_applied, _lab_to_srgb()))
    if profile is None or image.mode == "1":
        return image
    plain = _plain_mode(image)
    try:
        transform, mode = _transform(profile, plain)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        notes.append("colour profile that cannot be used: ignored")
        return image
    if transform is None:
        return image
    notes.append("colour profile: converted to sRGB")
    if image.has_transparency_data:
        image = image.convert("LA" if plain == "L" else "RGBA")
        return with_alpha(_colours(image, plain, transform, mode), image.getchannel("A"))
    return _colours(image, plain, transform, mode)


def _plain_mode(image: Image.Image) -> str:
    if image.mode in ("L", "LA", "La"):
        return "L"
    return image.mode if image.mode in ("CMYK", "LAB") else "RGB"


def _colours(image: Image.Image, plain: str, transform: Any, mode: str) -> Image.Image:
    """Convert the colours of an image, without its alpha; a grey one remains grey."""
    result = "L" if plain == "L" else "RGB"

    def convert(strip: Image.Image) -> Image.Image:
        return _applied(transform, strip.convert(plain).convert(mode)).convert(result)

    return converted(image, result, convert)


def _applied(transform: Any, image: Image.Image) -> Image.Image:
    result = ImageCms.applyTransform(image, transform)
    assert result, "not in place"
    return result


@lru_cache(maxsize=16)
def _transform(profile: bytes, mode: str) -> tuple[Any, str]:
    """Return the transform to sRGB, None where nothing would change, and the mode that it takes.

    Raises:
        ValueError: when the profile is for other colours than those of `mode`.
        PyCMSError: when it cannot be read.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
    facts: Any = source.profile
    space = facts.xcolor_space.strip()
    # Grey images often have a profile for RGB.
    taken = "RGB" if mode == "L" and space == "RGB" else mode
    if space != _SPACES[taken]:
        raise ValueError(f"a profile for {space} in an image of {mode}")
    transform = ImageCms.buildTransform(
        source,
        ImageCms.createProfile("sRGB"),
        taken,
        "RGB",
        ImageCms.Intent.RELATIVE_COLORIMETRIC,
        ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    return (None if _changes_nothing(transform, mode, taken) else transform), taken


def _changes_nothing(transform: Any, mode: str, taken: str) -> bool:
    if taken == "CMYK":
        return False
    if mode == "L":
        levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
        before = Image.fromarray(levels).convert("RGB")
    else:
        axis = np.linspace(0, 255, 16).round().astype(np.uint8)
        cube = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(64, 64, 3)
        before = Image.fromarray(cube)
    after = _applied(transform, before.convert(taken))
    moved = np.asarray(after, np.int16) - np.asarray(before, np.int16)
    return bool(abs(moved).max() <= _UNNOTICED)


@lru_cache(maxsize=1)
def _lab_to_srgb() -> Any:
    lab, srgb = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(lab, srgb, "LAB", "RGB")


def _matrix_profile(gamma: float, chromaticity: tuple[float, ...]) -> bytes:
    """Make an ICC profile of a PNG's gamma and chromaticities (ICC.1:2022, sections 7 to 10).

    Args:
        gamma: as gAMA has it: sample = light ** gamma.
        chromaticity: x and y of white, red, green and blue.
    """
    white, *primaries = np.reshape(chromaticity, (4, 2)).astype(float)
    # Columns are the primaries' XYZ; their sum is the white's (Lindbloom, "RGB/XYZ Matrices").
    columns = np.stack([_xyz(point) for point in primaries], axis=1)
    columns = columns * np.linalg.solve(columns, _xyz(white))
    columns = _adaptation(_xyz(white)) @ columns
    curve = b"para" + bytes(8) + struct.pack(">i", round(65536 / gamma))
    tags = {b"wtpt": _xyz_tag(_D50), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    names = (b"rXYZ", b"gXYZ", b"bXYZ")
    tags |= {name: _xyz_tag(columns[:, i]) for i, name in enumerate(names)}
    return _icc(tags)


# XYZ of the profile connection space's white, and Bradford's cone responses.
_D50 = np.array([0.9642, 1.0, 0.8249])
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])  # noqa: E501  # fmt: skip


def _xyz(point: np.ndarray) -> np.ndarray:
    x, y = point
    return np.array([x / y, 1.0, (1 - x - y) / y])


def _adaptation(white: np.ndarray) -> np.ndarray:
    """Return the matrix that adapts XYZ under `white` to D50."""
    scale = (_BRADFORD @ _D50) / (_BRADFORD @ white)
    return np.linalg.solve(_BRADFORD, scale[:, None] * _BRADFORD)


def _xyz_tag(xyz: np.ndarray) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(65536 * float(v)) for v in xyz))


def _icc(tags: dict[bytes, bytes]) -> bytes:
    """Join tags to a display profile for RGB."""
    place = 128 + 4 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", place + len(body), len(data))
        body += data
    head = struct.pack(">I4sI4s4s4s", place + len(body), bytes(4), 0x04300000, b"mntr", b"RGB ", b"XYZ ")  # noqa: E501  # fmt: skip
    head += bytes(12) + b"acsp" + bytes(28) + _xyz_tag(_D50)[8:]
    return head.ljust(128, b"\0") + table + body
