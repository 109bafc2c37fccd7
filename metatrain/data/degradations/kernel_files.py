"""Measured kernels, from files of NumPy (.npy) and MATLAB (.mat, level 5); no pickle is read."""

import io
import math
import struct
import zlib
from pathlib import PurePosixPath

import numpy as np

from metatrain.base.errors import UserError
from metatrain.data.degradations.kernels import MOST_SIDE, normalised
from metatrain.storage.files import is_folder, read_file, sizes_under

_ENDINGS = (".npy", ".mat")
_MOST_KERNELS = 10_000
# The most bytes of a file, and of what a compressed element of it may hold.
_MOST_BYTES = 64_000_000

# MATLAB's numbers of types, from "MAT-File Level 5 File Format", tables 1-1 and 1-3.
_NUMBERS = {
    **{1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
}
_MATRIX, _COMPRESSED = 14, 15
_NUMERIC_CLASSES = range(6, 16)
_COMPLEX = 0x08


def read_kernels(url: str) -> list[np.ndarray]:
    """Read the kernels of a file, or of all .npy and .mat files in a folder.

    A file holds one kernel [k, k] or several [n, k, k]. Each comes back with an odd side and the
    sum 1.

    Raises:
        UserError: when there is none, or one cannot be used.
    """
    urls = [url]
    if is_folder(url):
        names = sorted(name for name in sizes_under(url) if name.lower().endswith(_ENDINGS))
        urls = [f"{url.rstrip('/')}/{name}" for name in names]
    kernels = [kernel for one in urls for kernel in _kernels_of(one)]
    if not kernels:
        raise UserError(f"{url} holds no kernel; give a .npy or .mat file, or a folder of them.")
    if len(kernels) > _MOST_KERNELS:
        raise UserError(f"{url} holds {len(kernels):,} kernels; give at most {_MOST_KERNELS:,}.")
    return kernels


def _kernels_of(url: str) -> list[np.ndarray]:
    data, ending = read_file(url), PurePosixPath(url).suffix.lower()
    if ending not in _ENDINGS:
        raise UserError(f"{url} is no file of kernels; give a .npy or .mat file.")
    try:
        if len(data) > _MOST_BYTES:
            raise ValueError(f"it has {len(data):,} bytes")
        arrays = [_npy(data)] if ending == ".npy" else _mat(data)
        return [_checked(kernel) for array in arrays for kernel in _single(array)]
    except (ValueError, struct.error, zlib.error, EOFError, MemoryError) as error:
        raise UserError(
            f"{url} cannot be used as a kernel ({error}); give an array [k, k] of numbers."
        ) from error


def _npy(data: bytes) -> np.ndarray:
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in read:
        raise ValueError(f"a .npy file of version {version}")
    shape, columns_first, dtype = read[version](file)
    if dtype.kind not in "iuf":
        raise ValueError(f"values of type {dtype}")
    count = math.prod(shape)
    if count * dtype.itemsize != len(data) - file.tell():
        raise ValueError(f"{count} values are claimed, and others are there")
    values = np.frombuffer(data, dtype, offset=file.tell())
    return values.reshape(shape, order="F" if columns_first else "C")


def _single(array: np.ndarray) -> list[np.ndarray]:
    if array.ndim not in (2, 3):
        raise ValueError(f"an array of {array.ndim} dimensions")
    return [array] if array.ndim == 2 else list(array)


def checked_kernel(kernel: np.ndarray) -> np.ndarray:
    """Return a kernel with an odd side and the sum 1.

    Raises:
        UserError: when it is none.
    """
    try:
        [single] = _single(kernel)
        return _checked(single)
    except ValueError as error:
        raise UserError(f"the kernel cannot be used ({error}); give an array [k, k].") from error


def _checked(kernel: np.ndarray) -> np.ndarray:
    height, width = kernel.shape
    if not 1 <= min(height, width) <= max(height, width) <= MOST_SIDE:
        raise ValueError(f"{height} x {width} values; a side has 1 to {MOST_SIDE}")
    values = kernel.astype(np.float64)
    if not np.isfinite(values).all() or not values.sum() > 0:
        raise ValueError("its values are not finite, or do not sum to more than 0")
    side = max(height, width) | 1
    square = np.zeros((side, side))
    top, left = (side - height) // 2, (side - width) // 2
    square[top : top + height, left : left + width] = values
    return normalised(square)


def _mat(data: bytes) -> list[np.ndarray]:
    """Return all plain numeric matrices of a MATLAB file."""
    if data[126:128] not in (b"IM", b"MI") or data[:4] == b"\x89HDF":
        raise ValueError("no MATLAB file of level 5; save it by -v6 or -v7")
    order = "<" if data[126:128] == b"IM" else ">"
    elements = _elements(memoryview(data)[128:], order)
    arrays = [_matrix(content, order) for kind, content in elements if kind == _MATRIX]
    return [array for array in arrays if array is not None and array.size > 1]


def _elements(data: memoryview, order: str) -> list[tuple[int, memoryview]]:
    """Split the data elements of a file or of a matrix, compressed ones unpacked."""
    elements, at = list[tuple[int, memoryview]](), 0
    while at + 8 <= len(data):
        kind, length = struct.unpack_from(f"{order}II", data, at)
        start, after = at + 8, 8
        if kind >> 16:  # a small element has its length and its values in one word each
            kind, length, start, after = kind & 0xFFFF, kind >> 16, at + 4, 4
        if start + length > len(data):
            raise ValueError("it ends early")
        content = data[start : start + length]
        if kind == _COMPRESSED:
            unpacked = zlib.decompressobj().decompress(content, _MOST_BYTES)
            inner = _elements(memoryview(unpacked), order)
            elements += [part for part in inner if part[0] != _COMPRESSED]
            at = start + length
            continue
        elements.append((kind, content))
        at = start + (4 if after == 4 else -(-length // 8) * 8)
    return elements


def _matrix(content: memoryview, order: str) -> np.ndarray | None:
    """Return a matrix element as an array; None where it is not one of real numbers."""
    parts = _elements(content, order)
    if len(parts) < 4:
        return None
    flags = struct.unpack_from(f"{order}I", parts[0][1])[0]
    if flags & 0xFF not in _NUMERIC_CLASSES or flags >> 8 & _COMPLEX:
        return None
    shape = np.frombuffer(parts[1][1], f"{order}i4")
    kind, values = parts[3]
    if kind not in _NUMBERS:
        raise ValueError(f"values of MATLAB's type {kind}")
    array = np.frombuffer(values, f"{order}{_NUMBERS[kind]}")
    if min(shape, default=0) < 0 or math.prod(map(int, shape)) != array.size:
        raise ValueError(f"a matrix {shape.tolist()} of {array.size} values")
    return array.reshape([int(n) for n in shape], order="F")
