"""Hostile bytes become plain images or a BadImage with its reason, and nothing else."""

import io
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import GREY, GREY_LEVELS, PICTURE, decoded, encoded, raw_png
from PIL import Image

from metatrain.data.images import BadImage, normalise, to_array
from metatrain.data.pictures import decode, from_uint8


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "MPO"])
@pytest.mark.parametrize("image", [PICTURE, GREY], ids=["RGB", "L"])
def test_a_plain_image_keeps_its_bytes(kind, image):
    more = {"save_all": True, "append_images": [image]} if kind == "MPO" else {}
    data = encoded(image, kind, **more)
    result = normalise(data)
    assert (result.data, result.notes) == (data, ())
    assert (result.width, result.height) == (50, 40)


TURNED = Image.Exif()
TURNED[0x0112] = 6
HALF_CLEAR = PICTURE.convert("RGBA")
HALF_CLEAR.putalpha(100)
SIXTEEN = Image.fromarray((GREY_LEVELS * 257).astype(np.uint16))
FLOATS = Image.fromarray((GREY_LEVELS / 250).astype(np.float32))
FRAMES = {"save_all": True, "append_images": [PICTURE.rotate(90), PICTURE.rotate(180)]}

HANDLED = {
    "animated GIF": (encoded(PICTURE, "GIF", **FRAMES), "animated: first frame"),
    "animated WebP": (encoded(PICTURE, "WEBP", **FRAMES), "animated: first frame"),
    "animated PNG": (encoded(PICTURE, "PNG", **FRAMES), "animated: first frame"),
    "TIFF of pages": (encoded(PICTURE, "TIFF", **FRAMES), "animated: first frame"),
    "CMYK JPEG": (encoded(PICTURE.convert("CMYK"), "JPEG"), "CMYK: converted to RGB"),
    "CMYK TIFF": (encoded(PICTURE.convert("CMYK"), "TIFF"), "CMYK: converted to RGB"),
    "16-bit grey": (encoded(SIXTEEN, "PNG"), "16-bit: scaled to 8"),
    "16-bit TIFF": (encoded(SIXTEEN, "TIFF"), "16-bit: scaled to 8"),
    "16-bit RGB": (raw_png(4, 4, 16, 2, bytes(4 * 25)), "16-bit: scaled to 8"),
    "float": (encoded(FLOATS, "TIFF"), "32-bit: scaled to 8"),
    "transparent PNG": (encoded(HALF_CLEAR, "PNG"), "transparent: on white"),
    "transparent WebP": (encoded(HALF_CLEAR, "WEBP"), "transparent: on white"),
    "palette PNG": (encoded(PICTURE.convert("P"), "PNG"), "palette: converted to RGB"),
    "rotated JPEG": (encoded(PICTURE, "JPEG", exif=TURNED), "EXIF rotation applied"),
    "YCbCr TIFF": (encoded(PICTURE.convert("YCbCr"), "TIFF"), "other colour space: converted to RGB"),  # noqa: E501
}  # fmt: skip


@pytest.mark.parametrize(("data", "note"), HANDLED.values(), ids=HANDLED.keys())
def test_every_peculiar_image_is_made_plain_and_says_so(data, note):
    result = normalise(data)
    assert note in result.notes
    plain = decoded(result.data)
    assert plain.format == "PNG"
    assert plain.mode in ("L", "RGB")
    assert plain.size == (result.width, result.height)
    assert not getattr(plain, "is_animated", False)
    assert normalise(result.data).data == result.data


REFUSED = {
    "empty": (b"", "empty"),
    "text": (b"<html>404 not found</html>", "unknown format"),
    "unsupported": (encoded(PICTURE, "PPM"), "unknown format"),
    "truncated PNG": (encoded(PICTURE, "PNG")[:-200], "corrupt or truncated"),
    "truncated JPEG": (encoded(PICTURE, "JPEG")[:-300], "corrupt or truncated"),
    "huge": (raw_png(9000, 9000, 8, 0, b"\0"), "huge"),
    "bomb": (raw_png(90000, 90000, 8, 0, b"\0"), "huge"),
}


@pytest.mark.parametrize(("data", "reason"), REFUSED.values(), ids=REFUSED.keys())
def test_every_unusable_file_is_refused_with_its_reason(data, reason):
    with pytest.raises(BadImage) as caught:
        normalise(data)
    assert caught.value.reason == reason


def test_what_is_transparent_shows_white():
    clear = Image.new("RGBA", (3, 3), (200, 0, 0, 0))
    clear.putpixel((0, 0), (200, 0, 0, 255))
    plain = decoded(normalise(encoded(clear, "PNG")).data)
    assert (plain.getpixel((0, 0)), plain.getpixel((1, 1))) == ((200, 0, 0), (255, 255, 255))


def test_16_bits_keep_their_upper_eight():
    eight = np.asarray(decoded(normalise(encoded(SIXTEEN, "PNG")).data))
    assert (eight == GREY_LEVELS).all()


def test_floats_span_the_whole_range_and_nan_does_no_harm():
    pixels = np.array([[np.nan, 0.0], [0.25, 1.0]], dtype=np.float32)
    eight = np.asarray(decoded(normalise(encoded(Image.fromarray(pixels), "TIFF")).data))
    assert eight.tolist() == [[0, 0], [64, 255]]


def test_exif_rotation_turns_the_pixels():
    result = normalise(encoded(PICTURE, "JPEG", exif=TURNED))
    assert (result.width, result.height) == (40, 50)


def test_a_re_encoded_image_carries_no_profile_or_exif():
    data = encoded(PICTURE.convert("CMYK"), "JPEG", icc_profile=b"cmyk" * 40, exif=TURNED)
    assert not decoded(normalise(data).data).info


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.sampled_from([1, 3]))
@settings(max_examples=60, deadline=None)
def test_any_shape_becomes_the_size_and_channels_asked_for(width, height, size, channels):
    data = encoded(Image.new("RGB", (width, height), "red"), "PNG")
    result = normalise(data, size)
    assert (result.width, result.height) == (size, size)
    array = to_array(data, size, channels)
    assert (array.shape, array.dtype) == ((channels, size, size), np.uint8)
    assert (array == to_array(result.data, size, channels)).all()


def test_an_image_that_is_enlarged_is_noted():
    data = encoded(PICTURE, "PNG")  # 50 x 40
    assert normalise(data, 40).notes == ()
    assert normalise(data, 41).notes == ("smaller than --size: enlarged, which blurs",)


def test_a_picture_of_the_right_size_is_not_resampled():
    data = encoded(PICTURE.crop((0, 0, 28, 28)), "PNG")
    assert normalise(data, 28).data == data
    assert (to_array(data, 28, 3).transpose(1, 2, 0) == np.asarray(PICTURE)[:28, :28]).all()


def test_resizing_keeps_the_centre_and_a_thin_strip_stays_small():
    wide = Image.new("L", (300, 100), 0)
    wide.paste(255, (100, 0, 200, 100))
    assert (to_array(encoded(wide, "PNG"), 20, 1) > 230).all()
    assert normalise(encoded(Image.new("L", (1, 60_000)), "PNG"), 28).width == 28


@given(st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_random_bytes_raise_bad_image(data):
    with pytest.raises(BadImage):
        normalise(data)


@given(st.sampled_from(sorted(HANDLED)), st.data())
@settings(max_examples=300, deadline=None)
def test_a_damaged_image_is_plain_or_refused_and_never_anything_else(name, data):
    original = HANDLED[name][0]
    damaged = bytearray(original[: data.draw(st.integers(1, len(original)), label="cut")])
    for _ in range(data.draw(st.integers(0, 4), label="flips")):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    try:
        result = normalise(bytes(damaged), 16)
    except BadImage:
        return
    assert to_array(result.data, 16, 1).shape == (1, 16, 16)


def test_decoding_gives_the_values_of_from_uint8_to_the_bit():
    pixels = np.arange(3 * 64 * 64, dtype=np.uint8).reshape(64, 64, 3)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    expected = from_uint8(torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()))
    assert torch.equal(decode([buffer.getvalue()], 64, 3), expected)


@pytest.mark.parametrize(
    ("kind", "most"), [("clear PNG", 12), ("float TIFF", 12), ("12 of 16 bits", 14)]
)
def test_a_large_image_takes_few_bytes_a_pixel(tmp_path, kind, most):
    size = (4000, 4000)
    if kind == "12 of 16 bits":
        halves = [struct.pack(">HHHH", 4095, value, 0, 4000) * 2000 for value in (9, 4000)]
        data = raw_png(*size, 16, 6, (b"\0" + b"".join(halves)) * 4000)
    elif kind == "clear PNG":
        image = Image.new("RGBA", size, (200, 0, 0, 0))
        image.paste((0, 200, 0, 90), (900, 900, 3000, 3000))
        data = encoded(image, "PNG", compress_level=1)
    else:
        image = Image.fromarray(
            np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size)
        )
        data = encoded(image, "TIFF")
    (tmp_path / "large").write_bytes(data)
    program = f"""
import resource
from pathlib import Path
from metatrain.data.images import normalise
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = Path({str(tmp_path / "large")!r}).read_bytes()
before = peak()
normalise(data)
print((peak() - before) * 1024)
"""
    peak = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    # The image and its results, of 4 bytes a pixel each; it was 20 and more.
    assert int(peak.stdout) < most * size[0] * size[1]
