"""Colours are converted to sRGB by what a file says of them, as Little CMS and arithmetic do."""

import struct
from io import BytesIO

import numpy as np
import pytest
from image_files import PHOTO, decoded, encoded, raw_png
from PIL import Image, ImageCms

from metatrain.data.decoding.colours import _matrix_profile
from metatrain.data.images import inspect, normalise

P3 = (0.3127, 0.329, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)
ADOBE = (0.3127, 0.329, 0.64, 0.33, 0.21, 0.71, 0.15, 0.06)
D50_WHITE = (0.3457, 0.3585)
PROPHOTO = (*D50_WHITE, 0.7347, 0.2653, 0.1596, 0.8404, 0.0366, 0.0001)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CONVERTED = "colour profile: converted to sRGB"


def linear_to_srgb(light: np.ndarray) -> np.ndarray:
    light = light.clip(0, 1)
    curve = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    return 255 * curve


def xyz_matrix(chromaticity) -> np.ndarray:
    white, *primaries = np.reshape(chromaticity, (4, 2))
    columns = np.array([[x / y, 1, (1 - x - y) / y] for x, y in primaries]).T
    white = np.array([white[0] / white[1], 1, (1 - white.sum()) / white[1]])
    return columns * np.linalg.solve(columns, white)


def by_arithmetic(gamma: float, chromaticity) -> np.ndarray:
    """The photo in sRGB, from colours with a white of D65."""
    srgb = xyz_matrix((0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06))
    light = (np.asarray(PHOTO) / 255) ** (1 / gamma)
    return linear_to_srgb(light @ (np.linalg.inv(srgb) @ xyz_matrix(chromaticity)).T)


def by_lcms(profile: bytes, image: Image.Image = PHOTO) -> np.ndarray:
    source = ImageCms.ImageCmsProfile(BytesIO(profile))
    converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), 1, "RGB")
    return np.asarray(converted)


def difference(data: bytes, expected: np.ndarray) -> float:
    return abs(np.asarray(decoded(data)).astype(float) - expected).max()


def png_of(chunks: dict[bytes, bytes], image: Image.Image = PHOTO) -> bytes:
    rows = np.asarray(image)
    body = b"".join(b"\0" + row.tobytes() for row in rows)
    return raw_png(*image.size, 8, 2 if rows.ndim == 3 else 0, body, chunks)


def gama(gamma: float) -> dict[bytes, bytes]:
    return {b"gAMA": struct.pack(">I", round(100_000 * gamma))}


def chrm(chromaticity) -> dict[bytes, bytes]:
    return {b"cHRM": struct.pack(">8I", *(round(100_000 * v) for v in chromaticity))}


@pytest.mark.parametrize("gamma", [1.0, 0.55555, 1 / 1.8])
@pytest.mark.parametrize("chromaticity", [P3, ADOBE, None])
def test_gamma_and_chromaticities_of_a_png_are_those_of_arithmetic(gamma, chromaticity):
    chunks = gama(gamma) | (chrm(chromaticity) if chromaticity else {})
    result = normalise(png_of(chunks))
    assert result.notes == (CONVERTED,)
    srgb = (0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
    # Of the darkest levels 8 bits keep little, under a gamma of 1 the least.
    assert difference(result.data, by_arithmetic(gamma, chromaticity or srgb)) < 2.5


@pytest.mark.parametrize("chromaticity", [P3, ADOBE, PROPHOTO])
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
def test_a_profile_is_converted_as_lcms_converts_it(kind, chromaticity):
    profile = _matrix_profile(1 / 2.2, chromaticity)
    options = {"lossless": True} if kind == "WEBP" else {}
    result = normalise(encoded(PHOTO, kind, icc_profile=profile, **options))
    assert result.notes == (CONVERTED,)
    assert difference(result.data, by_lcms(profile)) <= 1
    assert abs(by_lcms(profile).astype(float) - np.asarray(PHOTO)).max() > 10


def test_a_jpeg_with_a_profile_is_converted():
    profile = _matrix_profile(1 / 2.2, P3)
    data = encoded(PHOTO, "JPEG", quality=95, icc_profile=profile)
    result = normalise(data)
    assert result.notes == (CONVERTED,)
    assert difference(result.data, by_lcms(profile, decoded(data))) <= 1
    assert inspect(data) == "a colour profile, which training ignores"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_what_is_srgb_keeps_its_bytes(kind):
    data = encoded(PHOTO, kind, icc_profile=SRGB)
    assert (normalise(data).data, normalise(data).notes) == (data, ())
    assert inspect(data) == ""


def test_a_png_that_says_it_is_srgb_or_has_its_gamma_keeps_its_bytes():
    srgb = chrm((0.3127, 0.329, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06))
    for chunks in [{b"sRGB": b"\0"} | gama(1.0), gama(0.45455), gama(0.45455) | srgb]:
        data = png_of(chunks)
        assert (normalise(data).data, normalise(data).notes) == (data, ())


def test_a_grey_image_is_converted_and_remains_grey():
    grey = PHOTO.convert("L")
    result = normalise(png_of(gama(1.0), grey))
    assert decoded(result.data).mode == "L"
    assert difference(result.data, linear_to_srgb(np.asarray(grey) / 255)) <= 1


def test_alpha_and_palettes_are_converted_too():
    profile = _matrix_profile(1.0, P3)
    clear = PHOTO.convert("RGBA")
    clear.putalpha(100)
    result = normalise(encoded(clear, "PNG", icc_profile=profile), background="keep")
    rgba = np.asarray(decoded(result.data))
    assert (rgba[..., 3] == 100).all()
    assert abs(rgba[..., :3].astype(float) - by_lcms(profile)).max() <= 1
    flat = PHOTO.quantize(16)
    result = normalise(encoded(flat, "PNG", icc_profile=profile))
    assert difference(result.data, by_lcms(profile, flat.convert("RGB"))) <= 1


@pytest.mark.parametrize(
    "profile", [b"no profile", SRGB[:200], b"\xff" * 300, SRGB[:16] + b"CMYK" + SRGB[20:]]
)
@pytest.mark.parametrize("image", [PHOTO, PHOTO.convert("L")])
def test_a_profile_that_cannot_be_used_is_ignored_with_a_note(image, profile):
    data = encoded(image, "PNG", icc_profile=profile)
    result = normalise(data)
    assert (result.data, result.notes) == (data, ("colour profile that cannot be used: ignored",))


def press_profile() -> bytes:
    """A CMYK profile of two levels an ink: each takes 40 of lightness, cyan turns green (ICC.1)."""
    table = b""
    for inks in np.ndindex(2, 2, 2, 2):
        lightness = max(0, 100 - 40 * sum(inks))
        table += bytes([round(lightness * 2.55), 128 - 60 * inks[0], 128])
    identity = b"".join(struct.pack(">i", 65536 * (i % 4 == 0)) for i in range(9))
    curve = bytes(range(256))
    lut = b"mft1" + bytes(4) + bytes([4, 3, 2, 0]) + identity + 4 * curve + table + 3 * curve
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)
    place = 128 + 4 + 24
    tags = struct.pack(">I4sII4sII", 2, b"A2B0", place, len(lut), b"wtpt", place + len(lut), 20)
    head = struct.pack(">I4sI4s4s4s", place + len(lut) + 20, bytes(4), 0x02400000, b"prtr", b"CMYK", b"Lab ")  # noqa: E501  # fmt: skip
    head += bytes(12) + b"acsp" + bytes(28) + white[8:]
    return head.ljust(128, b"\0") + tags + lut + white


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_inks_are_converted_by_their_profile(kind):
    inks = Image.new("CMYK", (16, 8))
    inks.paste((255, 0, 0, 0), (8, 0, 16, 8))
    options = {"quality": 100} if kind == "JPEG" else {}
    result = normalise(encoded(inks, kind, icc_profile=press_profile(), **options))
    assert result.notes == ("CMYK: converted to RGB", CONVERTED)
    paper, cyan = (np.asarray(decoded(result.data))[4, x].astype(int) for x in (1, 14))
    lab = Image.merge("LAB", [Image.new("L", (1, 1), v) for v in (153, 128 - 60, 128)])
    green = np.asarray(
        ImageCms.profileToProfile(
            lab, ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB"), 1, "RGB"
        )
    )[0, 0]
    assert abs(paper - 255).max() <= 2
    assert abs(cyan - green).max() <= 6
    # By no profile it is (0, 255, 255).
    assert cyan[2] < 200


def test_lab_is_converted():
    lab = Image.merge("LAB", [Image.new("L", (8, 8), v) for v in (255, 128, 128)])
    lab.paste((128, 188, 158), (0, 0, 4, 8))
    result = normalise(encoded(lab, "TIFF"))
    assert result.notes == ("Lab: converted to RGB",)
    pixels = np.asarray(decoded(result.data)).astype(int)
    assert abs(pixels[4, 6] - 255).max() <= 1
    assert pixels[4, 1, 0] > pixels[4, 1, 2] > pixels[4, 1, 1]
