"""Frames of DICOM files, in the values of their modality and the window of a viewer."""

from typing import TYPE_CHECKING, Any

import numpy as np

from metatrain.data.decoding.bad import CORRUPT, UNKNOWN, BadImage
from metatrain.data.medical.codestream import check_frame
from metatrain.data.medical.dicom import HEADER_TAGS, checked_frames, parsed, reading
from metatrain.data.medical.plain import Window, as_file

if TYPE_CHECKING:
    from pydicom import Dataset

_PIXEL_TAGS = [
    *HEADER_TAGS, "BitsStored", "HighBit", "PixelRepresentation", "PlanarConfiguration",
    "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction",
    "RedPaletteColorLookupTableDescriptor", "GreenPaletteColorLookupTableDescriptor",
    "BluePaletteColorLookupTableDescriptor", "RedPaletteColorLookupTableData",
    "GreenPaletteColorLookupTableData", "BluePaletteColorLookupTableData",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence", "ExtendedOffsetTable",
    "ExtendedOffsetTableLengths", "PixelData",
]  # fmt: skip


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
    with reading():
        from pydicom.pixels.processing import apply_color_lut
        from pydicom.pixels.utils import pixel_array

        dataset = parsed(data, _PIXEL_TAGS, pixels=True)
        checked_frames(dataset, len(data))
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


def _upper_byte(values: np.ndarray) -> np.ndarray:
    return (values >> 8).astype(np.uint8) if values.dtype.itemsize > 1 else values
