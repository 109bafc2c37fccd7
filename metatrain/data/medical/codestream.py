"""Sizes of compressed frames, before a decoder makes room for what they claim."""

import struct
from typing import TYPE_CHECKING

from metatrain.data.decoding.bad import CORRUPT, BadImage

if TYPE_CHECKING:
    from pydicom import Dataset

_MOST_DECODED = 1_000_000_000
_RLE = "1.2.840.10008.1.2.5"
# A run of at most 128 bytes takes two.
_RLE_GROWTH = 64
_START_OF_JPEG, _START_OF_J2K = b"\xff\xd8", b"\xff\x4f\xff\x51"
# SOF0 to SOF15, without tables and arithmetic conditioning, and SOF55 of JPEG-LS.
_FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}


def check_frame(dataset: "Dataset", frame: int) -> None:
    """Refuse a compressed frame whose own header differs from the tags.

    Raises:
        BadImage: when it does, or has no header.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return
    from pydicom.encaps import get_frame

    frames = int(dataset.get("NumberOfFrames") or 1)
    data = get_frame(dataset.PixelData, frame, number_of_frames=frames)
    if str(syntax) == _RLE:
        if len(data) * _RLE_GROWTH > _MOST_DECODED:
            raise BadImage("huge", f"{len(data):,} bytes of runs")
        return
    claimed = (int(dataset.Columns), int(dataset.Rows), int(dataset.SamplesPerPixel))
    if (size := size_of(data)) != claimed:
        raise BadImage(CORRUPT, f"a frame of {size} in a file of {claimed}")


def size_of(data: bytes) -> tuple[int, int, int]:
    """Return width, height and components of a JPEG, JPEG-LS or JPEG 2000 codestream.

    Raises:
        BadImage: when it has no header of one.
    """
    try:
        if data.startswith(_START_OF_JPEG):
            return _size_of_jpeg(data)
        at = data.index(_START_OF_J2K, 0, 10_000) + len(_START_OF_J2K)
        right, bottom, left, top = struct.unpack_from(">4I", data, at + 4)
        return right - left, bottom - top, struct.unpack_from(">H", data, at + 36)[0]
    except (ValueError, struct.error, IndexError) as error:
        raise BadImage(CORRUPT, "a frame without a header") from error


def _size_of_jpeg(data: bytes) -> tuple[int, int, int]:
    at = 2
    while True:
        while data[at + 1] == 0xFF:  # fill bytes
            at += 1
        if data[at] != 0xFF:
            raise ValueError("no marker")
        length = struct.unpack_from(">H", data, at + 2)[0]
        if data[at + 1] in _FRAME_MARKERS:
            _, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            return width, height, components
        at += 2 + length
