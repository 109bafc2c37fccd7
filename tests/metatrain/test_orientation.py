"""The orientation of a photo is one number: other tags neither refuse it nor leave it unturned."""

import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from image_files import PHOTO, decoded, encoded
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo

from metatrain.data.images import normalise, to_array
from metatrain.data.task_levels import levels_of

ORIENTATION = 0x0112


def exif(*entries: tuple[int, int, int, bytes], order: str = "<") -> bytes:
    """EXIF of entries (tag, type, count, value or place) in one directory."""
    magic = b"II*\0" if order == "<" else b"MM\0*"
    body = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack(f"{order}HHI", tag, kind, count) + value.ljust(4, b"\0")
    return b"Exif\0\0" + magic + struct.pack(f"{order}I", 8) + body + bytes(4)


def turned_by(number: int, kind: int = 3, order: str = "<") -> tuple[int, int, int, bytes]:
    return ORIENTATION, kind, 1, struct.pack(f"{order}{'H' if kind == 3 else 'I'}", number)


def upright(number: int) -> np.ndarray:
    """The photo as Pillow turns it, of an EXIF block of nothing else."""
    tags = Image.Exif()
    tags[ORIENTATION] = number
    return np.asarray(ImageOps.exif_transpose(decoded(encoded(PHOTO, "PNG", exif=tags))))


def normalised(data: bytes) -> np.ndarray:
    return np.asarray(decoded(normalise(data).data))


ODD = {
    "negative width": (0x0100, 9, 1, struct.pack("<i", -5)),
    "a resolution that is no number": (0x011A, 11, 1, struct.pack("<f", float("nan"))),
    "a value outside of the block": (0x010F, 2, 400, struct.pack("<I", 100_000)),
    "an unknown type": (0x0110, 77, 3, b"abcd"),
    "a huge count": (0x8769, 4, 2**32 - 1, b"\xff\xff\xff\xff"),
}


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD.keys())
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_odd_tag_neither_refuses_a_photo_nor_keeps_it_unturned(kind, odd):
    options = {"lossless": True} if kind == "WEBP" else {}
    block = exif(odd, turned_by(6))
    data = encoded(PHOTO, kind, exif=block if kind == "JPEG" else block[6:], **options)
    result = normalise(data)
    assert result.notes == ("EXIF rotation applied",)
    assert (result.width, result.height) == (PHOTO.height, PHOTO.width)
    if kind != "JPEG":
        assert (normalised(data) == upright(6)).all()


def with_entries(tiff: bytes, *more: tuple[int, int, int, bytes]) -> bytes:
    """A TIFF whose directory has further entries."""
    directory = struct.unpack_from("<I", tiff, 4)[0]
    count = struct.unpack_from("<H", tiff, directory)[0]
    entries = [tiff[directory + 2 + 12 * i : directory + 14 + 12 * i] for i in range(count)]
    entries += [struct.pack("<HHI", *entry[:3]) + entry[3].ljust(4, b"\0") for entry in more]
    entries.sort(key=lambda entry: struct.unpack_from("<H", entry))
    tail = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return tiff[:4] + struct.pack("<I", len(tiff)) + tiff[8:] + tail


@pytest.mark.parametrize("name", [name for name in ODD if name != "negative width"])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
def test_an_odd_tag_keeps_no_tiff_unturned(compression, name):
    data = with_entries(encoded(PHOTO, "TIFF", compression=compression), ODD[name], turned_by(6))
    assert (normalised(data) == upright(6)).all()


@pytest.mark.parametrize("name", [name for name in ODD if name != "negative width"])
def test_an_odd_tag_keeps_no_scan_from_the_levels_of_its_task(name):
    scan = Image.fromarray(np.uint16([[0, 4095], [2000, 100]]))
    data = with_entries(encoded(scan, "TIFF"), ODD[name])
    result = normalise(data, levels=levels_of([lambda: data]))
    assert np.asarray(decoded(result.data)).tolist() == [[0, 255], [125, 6]]


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_an_orientation_that_only_xmp_has_turns_once(kind):
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    if kind == "PNG":
        information = PngInfo()
        information.add_itxt("XML:com.adobe.xmp", xmp.decode())
        data = encoded(PHOTO, kind, pnginfo=information)
    elif kind == "WEBP":
        data = encoded(PHOTO, kind, lossless=True, xmp=xmp)
    else:
        data = encoded(PHOTO, kind) + xmp
        data = with_entries(data, (700, 1, len(xmp), struct.pack("<I", len(data) - len(xmp))))
    assert (normalised(data) == upright(6)).all()


@given(st.integers(1, 8), st.sampled_from([3, 4]), st.sampled_from("<>"))
def test_every_orientation_turns_as_pillow_does(number, kind, order):
    block = exif(turned_by(number, kind, order), order=order)
    data = encoded(PHOTO, "PNG", exif=block[6:])
    tiff = with_entries(encoded(PHOTO, "TIFF"), turned_by(number, kind))
    assert (normalised(data) == upright(number)).all()
    assert (normalised(tiff) == upright(number)).all()
    channels_last = to_array(data, 64, 3).transpose(1, 2, 0)
    assert (channels_last == ImageOps.fit(Image.fromarray(upright(number)), (64, 64), Image.Resampling.LANCZOS)).all()  # noqa: E501  # fmt: skip


@given(st.binary(max_size=80))
def test_whatever_exif_holds_a_photo_is_kept(block):
    data = encoded(PHOTO, "JPEG", exif=b"Exif\0\0" + block)
    assert {normalise(data).width, normalise(data).height} == set(PHOTO.size)


@given(st.binary(max_size=60))
def test_whatever_follows_a_header_of_exif_a_photo_is_kept(block):
    data = encoded(PHOTO, "PNG", exif=b"II*\0\x08\0\0\0" + block)
    assert {normalise(data).width, normalise(data).height} == set(PHOTO.size)
