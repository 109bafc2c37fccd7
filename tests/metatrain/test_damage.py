"""Damaged image files are refused, also where decoders only warn; whole ones never are."""

import io
import random
import struct

import numpy as np
import pytest
from image_files import PHOTO, encoded
from PIL import Image, ImageDraw
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from metatrain.data.check import check
from metatrain.data.decoding.strict_jpeg import read_strictly
from metatrain.data.images import BadImage, inspect, normalise
from metatrain.data.packed.writer import DatasetWriter

PAGE = Image.new("1", (300, 200), 1)
for line in range(14):
    ImageDraw.Draw(PAGE).text((5, 14 * line), f"line {line} of a page that was scanned", fill=0)
FLAT = PHOTO.quantize(16)
TURNED = Image.Exif()
TURNED[0x0112] = 3


def run_length_bmp(image: Image.Image) -> bytes:
    rows = np.asarray(image)[::-1]
    body = bytearray()
    for row in rows:
        changes = np.flatnonzero(np.diff(row, prepend=-1))
        for start, end in zip(changes, [*changes[1:], len(row)], strict=True):
            body += bytes([end - start, row[start]])
        body += b"\0\0"
    body += b"\0\1"
    palette = bytes(image.getpalette("BGRX") or b"").ljust(1024, b"\0")
    start = 14 + 40 + 1024
    head = b"BM" + struct.pack("<IHHI", start + len(body), 0, 0, start)
    width, height = image.size
    head += struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(body), 0, 0, 256, 0)
    return head + palette + body


FILES = {
    "baseline JPEG": encoded(PHOTO, "JPEG", quality=90),
    "grey JPEG": encoded(PHOTO.convert("L"), "JPEG"),
    "progressive JPEG": encoded(PHOTO, "JPEG", progressive=True),
    "JPEG with restarts": encoded(PHOTO, "JPEG", restart_marker_rows=1),
    "CMYK JPEG": encoded(PHOTO.convert("CMYK"), "JPEG"),
    "turned JPEG": encoded(PHOTO, "JPEG", exif=TURNED),
    "PNG": encoded(PHOTO, "PNG"),
    "GIF": encoded(FLAT, "GIF"),
    "group 3 TIFF": encoded(PAGE, "TIFF", compression="group3"),
    "group 4 TIFF": encoded(PAGE, "TIFF", compression="group4"),
    "CCITT TIFF": encoded(PAGE, "TIFF", compression="tiff_ccitt"),
    "PackBits TIFF": encoded(PHOTO, "TIFF", compression="packbits"),
    "LZW TIFF": encoded(PHOTO, "TIFF", compression="tiff_lzw"),
    "JPEG in TIFF": encoded(PHOTO, "TIFF", compression="jpeg"),
    "run-length BMP": run_length_bmp(FLAT),
}


def damaged(data: bytes, how: str, seed: int) -> bytes:
    start, end = int(len(data) * 0.45), int(len(data) * 0.6)
    middle = {
        "zero-filled": bytes(end - start),
        "overwritten": random.Random(seed).randbytes(end - start),
        "cut out": b"",
        "doubled": 2 * data[start:end],
        "truncated": None,
    }[how]
    return data[:start] + (b"" if middle is None else middle + data[end:])


@pytest.mark.parametrize("how", ["zero-filled", "overwritten", "cut out", "doubled", "truncated"])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_middle_is_refused(name, how):
    for seed in range(3 if how == "overwritten" else 1):
        with pytest.raises(BadImage) as caught:
            normalise(damaged(FILES[name], how, seed))
        assert caught.value.reason in ("corrupt or truncated", "unknown format")


@pytest.mark.parametrize("name", FILES)
def test_a_whole_file_is_kept(name):
    assert normalise(FILES[name]).width == Image.open(io.BytesIO(FILES[name])).width


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_strict_reader_of_jpegs_gives_the_pixels_of_pillow(mode, options, subsampling):
    for size in [(1, 1), (7, 9), (37, 51)]:
        image = PHOTO.convert(mode).crop((0, 0, *size))
        data = encoded(image, "JPEG", subsampling=subsampling, **options)
        strict = read_strictly(data)
        assert strict is not None
        assert (np.asarray(strict) == np.asarray(Image.open(io.BytesIO(data)))).all()


def test_the_strict_reader_takes_jpegs_of_rgb_for_rgb():
    strict = read_strictly(encoded(PHOTO, "JPEG", keep_rgb=True, quality=100))
    assert strict is not None
    assert abs(np.asarray(strict, float) - np.asarray(PHOTO)).max() < 4


def odd_jpegs() -> dict[str, bytes]:
    """Whole JPEGs of which readers warn for the sake of metadata."""
    data = encoded(PHOTO, "JPEG")
    jfif, tables, scan = data.index(b"JFIF\0"), data.index(b"\xff\xdb"), data.index(b"\xff\xda")
    scan_end = scan + 2 + struct.unpack_from(">H", data, scan + 2)[0]
    return {
        "a JFIF of another version": data[: jfif + 5] + b"\x09" + data[jfif + 6 :],
        "stray bytes before a segment": data[:tables] + b"ab" + data[tables:],
        "fill bytes": data[:tables] + b"\xff\xff" + data[tables:],
        "odd parameters of its scan": data[: scan_end - 3] + b"\1\2\3" + data[scan_end:],
        "a colour transform of nobody's": data[:tables] + b"\xff\xee\0\x0eAdobe\0d\0\0\0\0\x09" + data[tables:],  # noqa: E501
        "half a profile": data[:tables] + b"\xff\xe2\0\x10ICC_PROFILE\0\x05\x01" + data[tables:],
        "bytes behind its end": data + b"appended by a camera",
    }  # fmt: skip


@pytest.mark.parametrize("name", odd_jpegs())
def test_warnings_of_metadata_refuse_no_jpeg(name):
    data = odd_jpegs()[name]
    result = normalise(data)
    assert (result.data, result.notes) == (data, ())


@pytest.mark.parametrize("compression", ["group4", "packbits"])
def test_warnings_of_metadata_refuse_no_tiff(compression):
    tags = ImageFileDirectory_v2()
    tags[65000], tags[34000] = "a private tag", 7
    image = PAGE if compression == "group4" else PHOTO
    data = encoded(image, "TIFF", compression=compression, tiffinfo=tags)
    directory = struct.unpack_from("<I", data, 4)[0] + 2
    first, second = data[directory : directory + 12], data[directory + 12 : directory + 24]
    # Tags must be sorted; some writers do not.
    unsorted = data[:directory] + second + first + data[directory + 24 :]
    assert normalise(data).data == normalise(unsorted).data


def test_a_damaged_jpeg_that_was_packed_before_is_found(tmp_path):
    whole, spoilt = FILES["baseline JPEG"], damaged(FILES["baseline JPEG"], "cut out", 0)
    writer = DatasetWriter(str(tmp_path / "set"))
    writer.begin()
    for index, data in enumerate([whole, spoilt]):
        row = {"task": "a", "index": index, "image": data, "split": "train"}
        writer.add({**row, "width": PHOTO.width, "height": PHOTO.height})
    writer.commit({}, {})
    [fault] = check(str(tmp_path / "set")).faults
    assert "image 1 of task 'a' cannot be decoded (corrupt or truncated (Corrupt JPEG" in fault
    with pytest.raises(BadImage):
        inspect(spoilt)


def test_a_bitmap_of_an_unread_variant_is_not_called_corrupt():
    masks = struct.pack("<IIII", 0x0F00, 0x00F0, 0x000F, 0xF000)
    head = struct.pack("<IiiHHIIiiII", 56, 4, 4, 1, 16, 3, 32, 0, 0, 0, 0) + masks
    data = b"BM" + struct.pack("<IHHI", 14 + 56 + 32, 0, 0, 14 + 56) + head + bytes(32)
    with pytest.raises(BadImage) as caught:
        normalise(data)
    assert caught.value.reason == "unknown format"
