"""NIfTI volumes of strangers: slices along an axis of the body, and nothing else of the file."""

import zlib
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from metatrain.base.errors import UserError
from metatrain.data.decoding.bad import CORRUPT, UNKNOWN, BadImage, BadValue
from metatrain.data.decoding.opened import MAX_PIXELS
from metatrain.data.medical.plain import Window, as_file, refusing

# The direction that slices are stacked in: from the feet, from the back, from the left.
SliceAxis = Literal["axial", "coronal", "sagittal"]

_ACROSS: dict[SliceAxis, int] = {"axial": 2, "coronal": 1, "sagittal": 0}
MOST_SLICES = 10_000
_MOST_BYTES = 512_000_000
# The header of NIfTI-1 and of NIfTI-2, and where each has its magic.
_SIZES, _MAGICS = (348, 540), {b"n+1\0": (344, 348), b"n+2\0": (4, 540)}
# Without a window of its own, a volume shows this share of its values: a few are far brighter.
_SHOWN = (0.5, 99.5)
_MOST_COUNTED = 1_000_000


@dataclass(frozen=True)
class Volume:
    """A volume, of which nothing is scaled yet.

    Attributes:
        values: [x, y, z] in the order of the file.
        slope, intercept: scale them.
        axes: the axis of `values` that goes to the right, the front and the head.
        flipped: whether each of these goes the other way.
        window: the values that become black and white.
    """

    values: np.ndarray
    slope: float
    intercept: float
    axes: tuple[int, int, int]
    flipped: tuple[bool, bool, bool]
    window: Window

    def count(self, axis: SliceAxis) -> int:
        """Return the number of slices."""
        return self.values.shape[self.axes[_ACROSS[axis]]]

    @refusing()
    def slice_file(self, index: int, axis: SliceAxis, windowed: bool) -> bytes:
        """Encode a slice as radiologists see it: the patient's left, or back, on the right.

        Raises:
            BadImage: when its values are all the same, as in the air around a body.
        """
        body = self.values.transpose(self.axes)
        body = body[tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)]
        plane = np.moveaxis(body, _ACROSS[axis], 0)[index][::-1, ::-1].T
        values = plane.astype(np.float64) * self.slope + self.intercept
        shown = values.clip(*self.window) if windowed else values
        if not np.ptp(np.nan_to_num(shown)):
            raise BadImage("a slice of one value")
        return as_file(values, self.window if windowed else None)


def is_nifti_name(name: str) -> bool:
    """Tell by its name whether a file is a NIfTI volume."""
    return name.lower().endswith((".nii", ".nii.gz"))


@refusing()
def read_shape(data: bytes, axis: SliceAxis) -> int:
    """Return the number of slices of a volume, by its header alone.

    Raises:
        BadImage: when it is damaged, no NIfTI, or too large.
        UserError: when nibabel is not installed.
    """
    header = _header(_inflated(data, max(_SIZES)))
    axes, _ = _orientation(header)
    return _shape(header)[axes[_ACROSS[axis]]]


@refusing()
def read_volume(data: bytes) -> Volume:
    """Read a volume, the first where there are several in time.

    Raises:
        BadImage: when it is damaged, no NIfTI, or too large.
        UserError: when nibabel is not installed.
    """
    data = _inflated(data, _MOST_BYTES)
    header = _header(data)
    shape, kind = _shape(header), header.get_data_dtype()
    start, count = max(int(header["vox_offset"]), 0), int(np.prod(shape))
    if start + count * kind.itemsize > len(data):
        raise BadImage(CORRUPT, f"{len(data):,} bytes for {count:,} values")
    values = np.frombuffer(data, kind, count, start).reshape(shape, order="F")
    slope, intercept = _scaling(header)
    axes, flipped = _orientation(header)
    window = _window(header, values, slope, intercept)
    return Volume(values, slope, intercept, axes, flipped, window)


def _inflated(data: bytes, most: int) -> bytes:
    """Return at least the first `most` bytes of what may be compressed.

    Raises:
        BadImage: when it is damaged, or has more than volumes have.
    """
    if not data.startswith(b"\x1f\x8b"):
        return data
    inflated = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(data, most + 1)
    if most == _MOST_BYTES and len(inflated) > most:
        raise BadImage("huge", f"unpacks to more than {most:,} bytes")
    return inflated


def _header(data: bytes) -> Any:
    try:
        from nibabel.nifti1 import Nifti1Header
        from nibabel.nifti2 import Nifti2Header
    except ImportError as error:
        raise UserError(
            "NIfTI needs nibabel, which is not installed; pip install 'metatrain[medicine]'."
        ) from error
    magic = next((m for m, (at, _) in _MAGICS.items() if data[at : at + 4] == m), None)
    if magic is None:
        raise BadImage(UNKNOWN, "not NIfTI in one file")
    size = _MAGICS[magic][1]
    header_type = Nifti1Header if size == _SIZES[0] else Nifti2Header
    # Not from the file: that would parse its extensions, which may be DICOM headers.
    return header_type(data[:size], check=False)


def _shape(header: Any) -> tuple[int, int, int]:
    dims = [int(size) for size in header["dim"]]
    shape = (*dims[1:4],) if 2 <= dims[0] <= 7 else ()
    shape = tuple(max(size, 1) if axis == 2 else size for axis, size in enumerate(shape))
    kind = header.get_data_dtype()
    if len(shape) != 3 or min(shape) < 1 or kind.kind not in "iuf":
        raise BadImage(UNKNOWN, f"no volume of numbers but {shape} of {kind}")
    pixels = int(np.prod(shape, dtype=object))
    if max(shape) > MOST_SLICES or pixels * kind.itemsize > _MOST_BYTES:
        raise BadImage("huge", f"{shape[0]} x {shape[1]} x {shape[2]} values")
    if pixels // min(shape) > MAX_PIXELS:
        raise BadImage("huge", f"slices of {pixels // min(shape):,} pixels")
    return shape[0], shape[1], shape[2]


def _scaling(header: Any) -> tuple[float, float]:
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    if not np.isfinite(slope) or slope == 0:
        return 1.0, 0.0
    return slope, intercept if np.isfinite(intercept) else 0.0


def _orientation(header: Any) -> tuple[tuple[int, int, int], tuple[bool, bool, bool]]:
    """Return the axis of the file for each of the body's, and whether it goes the other way."""
    from nibabel.orientations import io_orientation

    try:
        table = io_orientation(header.get_best_affine())  # [file's axis] -> body's, direction
        axes = [int(np.flatnonzero(table[:, 0] == axis)[0]) for axis in range(3)]
    except (ValueError, IndexError, np.linalg.LinAlgError) as error:
        raise BadImage(CORRUPT, "its axes are no axes of a body") from error
    flipped = [bool(table[axis, 1] < 0) for axis in axes]
    return (axes[0], axes[1], axes[2]), (flipped[0], flipped[1], flipped[2])


def _window(header: Any, values: np.ndarray, slope: float, intercept: float) -> Window:
    """Return the window of the file, or of most of its values."""
    low, high = float(header["cal_min"]), float(header["cal_max"])
    if np.isfinite([low, high]).all() and low < high:
        return Window(low, high)
    step = max(1, round((values.size / _MOST_COUNTED) ** (1 / 3)))
    some = values[::step, ::step, ::step].astype(np.float64) * slope + intercept
    some = some[np.isfinite(some)]
    if not some.size:
        raise BadValue("no value is a finite number")
    low, high = np.percentile(some, _SHOWN)
    return Window(float(low), float(high if high > low else some.max()))
