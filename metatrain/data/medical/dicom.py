"""DICOM files of strangers: the few tags that decide about pixels, and the pixels of a frame.

No other tag is ever read, so none can reach a data set. Sizes are compared with bounds, and those
of a compressed frame with the tags, before anything is decoded.
"""

import io
import logging
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from metatrain.base.errors import UserError
from metatrain.data.decoding.bad import CORRUPT, UNKNOWN, BadImage, BadValue
from metatrain.data.decoding.opened import MAX_PIXELS
from metatrain.data.decoding.quiet import no_warnings
from metatrain.data.medical.codestream import check_frame
from metatrain.data.medical.plain import Window, as_file

if TYPE_CHECKING:
    from pydicom import Dataset

MOST_FRAMES = 10_000
# A sequence's items are objects of some kB each, and a file needs a few for each frame.
_MOST_ITEMS = 200_000
_MOST_INFLATED = 512_000_000
_ITEM = b"\xfe\xff\x00\xe0"
_META_GROUP, _DEFLATED = 2, "1.2.840.10008.1.2.1.99"
# Defined terms of DICOM PS3.3, C.7.3.1.1.1: any other text in the tag may name a person.
_MODALITIES = frozenset((
    "AR", "BI", "BMD", "CR", "CT", "DG", "DX", "ECG", "EM", "ES", "FS", "GM", "IO", "IVOCT", "IVUS",
    "KER", "LEN", "LS", "MG", "MR", "NM", "OAM", "OCT", "OP", "OPM", "OPT", "OPV", "OSS", "OT",
    "PT", "PX", "RF", "RG", "RTIMAGE", "SC", "SEG", "SM", "TG", "US", "VA", "XA", "XC",
))  # fmt: skip
# Modalities and classes whose pictures show text more often than not.
_TEXT_LIKELY = frozenset(["US", "ES", "SC", "OT", "XC", "IVUS"])
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_HEADER_TAGS = [
    "SOPClassUID", "Modality", "PatientID", "BurnedInAnnotation", "Rows", "Columns",
    "NumberOfFrames", "SamplesPerPixel", "BitsAllocated",
]  # fmt: skip
_PIXEL_TAGS = [
    *_HEADER_TAGS, "BitsStored", "HighBit", "PixelRepresentation", "PhotometricInterpretation",
    "PlanarConfiguration", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "PixelData",
]  # fmt: skip

_LACKING = "DICOM needs pydicom, which is not installed; pip install 'metatrain[medicine]'."


@dataclass(frozen=True)
class DicomHeader:
    """Facts about a DICOM file.

    Attributes:
        patient: its PatientID, which must not be stored; '' without one.
        modality: a defined term, such as CT; '' for any other text.
        frames: the number of its frames.
        text: why its pixels may show text, which no tag can remove; '' where they should not.
    """

    patient: str
    modality: str
    frames: int
    text: str


def is_dicom(data: bytes) -> bool:
    """Tell by its first bytes whether a file is DICOM."""
    return data[128:132] == b"DICM"


def read_header(data: bytes) -> DicomHeader:
    """Read the facts about a DICOM file.

    Raises:
        BadImage: when it is damaged, has no image, or one that is too large.
        UserError: when pydicom is not installed.
    """
    with _reading():
        dataset = _parsed(data, _HEADER_TAGS, pixels=False)
        frames = _checked_frames(dataset, len(data))
        modality = str(dataset.get("Modality") or "").strip().upper()
        return DicomHeader(
            patient=str(dataset.get("PatientID") or "").strip(),
            modality=modality if modality in _MODALITIES else "",
            frames=frames,
            text=_text_likely(dataset, modality),
        )


def read_frame(data: bytes, frame: int = 0, *, windowed: bool = True) -> bytes:
    """Decode a frame to an image file: PNG for bytes and colours, else TIFF of float32.

    Args:
        data: a DICOM file.
        frame: its index.
        windowed: clip values to the file's window (VOI LUT), where it has one; values are those
            after the file's rescaling (Hounsfield units of CT) in any case.

    Raises:
        BadImage: when it is damaged, too large, or of a kind that nobody reads.
        UserError: when pydicom is not installed.
    """
    with _reading():
        from pydicom.pixels.processing import apply_color_lut
        from pydicom.pixels.utils import pixel_array

        dataset = _parsed(data, _PIXEL_TAGS, pixels=True)
        _checked_frames(dataset, len(data))
        kind = str(dataset.PhotometricInterpretation)
        _check_kind(dataset, kind)
        check_frame(dataset, frame)
        values = pixel_array(dataset, index=frame)
        if kind.startswith("PALETTE"):
            values = _upper_byte(apply_color_lut(values, dataset))
        if values.ndim == 3:
            return as_file(values, None)
        return _grey_file(values, dataset, frame, windowed)


def _grey_file(values: np.ndarray, dataset: "Dataset", frame: int, windowed: bool) -> bytes:
    """Encode a grey frame, in the values of its modality."""
    groups = _groups(dataset, frame)
    values, low, high = _stored(values, dataset)
    slope, intercept = _number(groups, "RescaleSlope"), _number(groups, "RescaleIntercept")
    window = None
    if _first(groups, "ModalityLUTSequence"):
        from pydicom.pixels.processing import apply_modality_lut

        values = apply_modality_lut(values, dataset)
        low, high = 0.0, 2.0**16 - 1
    elif (slope, intercept) not in ((None, None), (1, 0)):
        slope, intercept = 1.0 if slope is None else slope, intercept or 0.0
        values = values.astype(np.float64) * slope + intercept
        low, high = sorted((low * slope + intercept, high * slope + intercept))
    if windowed:
        values, window = _windowed(values, dataset, groups)
    if str(dataset.PhotometricInterpretation) == "MONOCHROME1":
        low, high = window or (low, high)
        values = low + high - values.astype(np.float64)
        if window is None and values.min() >= 0 and values.max() <= 255 and high == 255:
            values = values.astype(np.uint8)
    return as_file(values, window)


def _windowed(
    values: np.ndarray, dataset: "Dataset", groups: list[Any]
) -> tuple[np.ndarray, Window | None]:
    """Return the values with the window that the file gives a viewer: a table, or two numbers."""
    if _first(groups, "VOILUTSequence"):
        from pydicom.pixels.processing import apply_voi

        shown = apply_voi(values.astype(np.int32), dataset)
        return shown, Window(0, float(2 ** (8 * shown.dtype.itemsize) - 1))
    centre, width = _number(groups, "WindowCenter"), _number(groups, "WindowWidth")
    if centre is None or width is None or width < 1:
        return values, None
    if str(_first(groups, "VOILUTFunction") or "LINEAR") == "LINEAR" and width > 1:
        return values, Window(centre - 0.5 - (width - 1) / 2, centre - 0.5 + (width - 1) / 2)
    return values, Window(centre - width / 2, centre + width / 2)


def _stored(values: np.ndarray, dataset: "Dataset") -> tuple[np.ndarray, float, float]:
    """Return the stored bits alone, for an overlay may lie in the others, and their range."""
    bits, allocated = int(dataset.BitsStored), int(dataset.BitsAllocated)
    high_bit = int(dataset.get("HighBit", bits - 1))
    if not 0 < bits <= allocated or not bits - 1 <= high_bit < allocated:
        raise BadImage(CORRUPT, f"{bits} bits stored of {allocated}")
    signed = dataset.get("PixelRepresentation") == 1
    if bits < allocated or signed:
        # Up to the highest bit of the container and back, which fills with zeros or the sign.
        wide = values.astype(np.int64) << (63 - high_bit)
        wide = wide if signed else wide.view(np.uint64)
        values = (wide >> (64 - bits)).astype(np.int32 if signed else np.uint16)
        values = values.astype(np.uint8) if bits <= 8 and not signed else values
    low = -(2 ** (bits - 1)) if signed else 0
    return values, float(low), float(low + 2**bits - 1)


def _groups(dataset: "Dataset", frame: int) -> list[Any]:
    """List the places of a frame's values: its functional groups, the shared ones, the file."""
    places: list[Any] = []
    per_frame = dataset.get("PerFrameFunctionalGroupsSequence") or []
    shared = dataset.get("SharedFunctionalGroupsSequence") or []
    for group in [*per_frame[frame : frame + 1], *shared[:1]]:
        for name in ("PixelValueTransformationSequence", "FrameVOILUTSequence"):
            places += (group.get(name) or [])[:1]
    return [*places, dataset]


def _first(groups: list[Any], name: str) -> Any:
    return next((value for group in groups if (value := group.get(name)) is not None), None)


def _number(groups: list[Any], name: str) -> float | None:
    """Return the first number of a tag; None where it has none, or one that is not finite."""
    value = _first(groups, name)
    if value is None or value == "":
        return None
    value = float(value if isinstance(value, str | int | float) else value[0])
    return value if np.isfinite(value) else None


def _check_kind(dataset: "Dataset", kind: str) -> None:
    samples, allocated = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
    if "PixelData" not in dataset or allocated > 16 or (samples == 3 and allocated > 8):
        raise BadImage(UNKNOWN, f"{samples} x {allocated} bits a pixel")
    if samples not in (1, 3) or kind not in (
        "MONOCHROME1", "MONOCHROME2", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT",
        "YBR_ICT",
    ):  # fmt: skip
        raise BadImage(UNKNOWN, f"colours of {samples} samples")


def _checked_frames(dataset: "Dataset", size: int) -> int:
    """Return the number of frames, once the file can hold them.

    Raises:
        BadImage: when there is no image, or it is too large.
    """
    if not all(n in dataset for n in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated")):
        raise BadImage("no image", "a report, a directory or a plan of treatment")
    pixels = int(dataset.Rows) * int(dataset.Columns)
    frames = int(dataset.get("NumberOfFrames") or 1)
    if pixels > MAX_PIXELS:
        raise BadImage("huge", f"{dataset.Columns} x {dataset.Rows} pixels")
    if frames > MOST_FRAMES:
        raise BadImage("huge", f"{frames:,} frames")
    bits = pixels * int(dataset.SamplesPerPixel) * int(dataset.BitsAllocated)
    syntax = dataset.file_meta.TransferSyntaxUID
    # A frame that is compressed takes at least the header of its item.
    least = 8 if syntax.is_encapsulated else bits // 8
    room = _MOST_INFLATED if syntax == _DEFLATED else size
    if not pixels or frames < 1 or frames * least > room:
        raise BadImage(CORRUPT, f"{frames:,} frames of {bits // 8:,} bytes in {size:,}")
    return frames


def _parsed(data: bytes, tags: list[str], pixels: bool) -> "Dataset":
    """Parse the tags that are named, and skip all others."""
    from pydicom import dcmread

    if not is_dicom(data):
        raise BadImage(UNKNOWN, "not DICOM")
    if data.count(_ITEM) > _MOST_ITEMS:
        raise BadImage("huge", f"more than {_MOST_ITEMS:,} items")
    _check_deflated(data)
    return dcmread(io.BytesIO(data), stop_before_pixels=not pixels, specific_tags=list(tags))


def _check_deflated(data: bytes) -> None:
    """Refuse a file whose body, which is compressed as a whole, is a bomb."""
    from pydicom.filereader import read_dataset

    stream = io.BytesIO(data)
    stream.seek(132)
    meta = read_dataset(stream, False, True, stop_when=lambda tag, *_: tag.group != _META_GROUP)
    if str(meta.get("TransferSyntaxUID", "")) != _DEFLATED:
        return
    inflated = zlib.decompressobj(-zlib.MAX_WBITS).decompress(stream.read(), _MOST_INFLATED + 1)
    if len(inflated) > _MOST_INFLATED or inflated.count(_ITEM) > _MOST_ITEMS:
        raise BadImage("huge", "unpacks to far more than images do")


def _text_likely(dataset: "Dataset", modality: str) -> str:
    burned = str(dataset.get("BurnedInAnnotation") or "").strip().upper()
    if burned == "YES":
        return "says that its pixels show text (BurnedInAnnotation)"
    captured = str(dataset.get("SOPClassUID") or "").startswith(_SECONDARY_CAPTURE)
    if burned != "NO" and (modality in _TEXT_LIKELY or captured):
        return "does not say that its pixels show no text, as such pictures often do"
    return ""


def _upper_byte(values: np.ndarray) -> np.ndarray:
    return (values >> 8).astype(np.uint8) if values.dtype.itemsize > 1 else values


@contextmanager
def _reading() -> Iterator[None]:
    """Turn whatever parsing and decoding raise into a reason, which quotes nothing of the file."""
    try:
        import pydicom  # noqa: F401
    except ImportError as error:
        raise UserError(_LACKING) from error
    # Its messages quote values, which may name a patient.
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)
    try:
        with no_warnings():
            yield
    except (BadValue, UserError):
        raise
    except NotImplementedError as error:
        raise BadImage(UNKNOWN, "a compression that no installed decoder reads") from error
    except Exception as error:  # Parsers and decoders may raise anything.
        unread = "plugins" in str(error) or "no available" in str(error).lower()
        if unread:
            raise BadImage(UNKNOWN, "a compression that no installed decoder reads") from error
        raise BadImage(CORRUPT) from error
