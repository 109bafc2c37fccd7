"""NumPy archives of images and labels, as MedMNIST and Keras have them."""

import hashlib
import io
import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from functools import partial
from typing import IO, Any, NamedTuple

import numpy as np
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.base.text import listed, printable
from metatrain.data.images import BadImage
from metatrain.data.packing.containers.container import Container
from metatrain.data.packing.names import split_named
from metatrain.data.packing.sources.listing import ListedImage, Listing, Options
from metatrain.data.packing.spool import Spool, SpoolSpan

_KINDS = {
    **dict.fromkeys(("images", "image", "x"), "images"),
    **dict.fromkeys(("labels", "label", "y"), "labels"),
}
_READ_HEADER = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
_CHUNK_BYTES = 4_000_000
_HEADER_BYTES = 10_000
# A label for each image, each a whole number or a short text.
_LABEL_BYTES = 256_000_000


class Npz:
    """A .npz with arrays of images and of labels, such as train_images and train_labels."""

    description = "a .npz with images and labels, also of splits: train_images, train_labels, ..."
    endings = (".npz",)

    def recognises(self, files: Container) -> bool:
        """Tell whether there is one file, and it is a NumPy archive."""
        return len(files.sizes) == 1 and next(iter(files.sizes)).lower().endswith(self.endings)

    def listing(self, files: Container, options: Options) -> Listing:
        """List the images of all arrays, with labels as tasks.

        Raises:
            UserError: when it cannot be read, or has no images with labels.
        """
        [name] = files.sizes
        url = f"{files.url.rstrip('/')}/{name}"
        try:
            with files.open(name) as file, zipfile.ZipFile(file) as archive:
                spool = Spool(url, sum(member.compress_size for member in archive.infolist()))
                return Listing(list(_entries(archive, spool, url)))
        except BadImage as error:
            raise UserError(f"{url} cannot be read ({error}); check the path.") from error
        except (zipfile.BadZipFile, NotImplementedError, zlib.error, ValueError, OSError) as error:
            if isinstance(error, UserError):
                raise
            raise UserError(f"{url} cannot be read ({error}); mend it.") from error


def _entries(archive: zipfile.ZipFile, spool: Spool, url: str) -> Iterator[ListedImage]:
    members = {m.filename.removesuffix(".npy"): m for m in archive.infolist()}
    pairs = list(_pairs(list(members)))
    if not pairs:
        raise UserError(
            f"{url} has the arrays {listed(sorted(members))}; name them images and "
            f"labels, or train_images, train_labels and so on."
        )
    for images, labels, split in pairs:
        with archive.open(members[labels]) as file:
            tasks = _labels(file, members[labels].file_size, f"{url}, {labels}")
        with archive.open(members[images]) as file:
            pixels = _Pixels(file, members[images].file_size, spool, f"{url}, {images}")
        if len(tasks) != pixels.count:
            raise UserError(
                f"{url} has {pixels.count} {printable(images)} and {len(tasks)} "
                f"{printable(labels)}; mend it."
            )
        for number, task in enumerate(tasks):
            read = partial(pixels.png, number)
            yield ListedImage(task, f"{images}[{number}]", split, {}, read, pixels.stamp)


def _pairs(names: list[str]) -> Iterator[tuple[str, str, str | None]]:
    """Yield the names of images and of their labels, and the split that both name."""
    named: dict[str, dict[str | None, str]] = {"images": {}, "labels": {}}
    for name in names:
        words = name.lower().split("_")
        kinds = [_KINDS[word] for word in words if word in _KINDS]
        rest = "_".join(word for word in words if word not in _KINDS)
        if len(kinds) == 1 and (not rest or split_named(rest)):
            named[kinds[0]][split_named(rest)] = name
    for split, images in named["images"].items():
        if split in named["labels"]:
            yield images, named["labels"][split], split


class _Header(NamedTuple):
    """The shape and type of a stored array."""

    shape: tuple[int, ...]
    dtype: np.dtype


def _header(file: IO[bytes], size: int, where: str) -> _Header:
    """Read the header of an array that lies in a file of `size` bytes, and nothing else.

    Raises:
        UserError: when its values are objects, or do not fill the file.
    """
    version = np.lib.format.read_magic(file)
    read_header = _READ_HEADER.get(version)
    if read_header is None:
        raise UserError(f"{where} is of an unknown version {version}; save it by numpy.savez.")
    shape, by_columns, dtype = read_header(file, max_header_size=_HEADER_BYTES)
    # Objects are pickles, which could run code.
    if dtype.hasobject or by_columns or math.prod(shape) * dtype.itemsize > size:
        raise UserError(f"{where} is no plain array; save it as numbers by numpy.savez.")
    return _Header(shape, dtype)


def _labels(file: IO[bytes], size: int, where: str) -> list[str]:
    """Return the label of each image as a text."""
    shape, dtype = _header(file, size, where)
    flat = shape[:1] if shape[1:] in ((), (1,)) else None
    if flat is None or dtype.kind not in "iubU" or size > _LABEL_BYTES:
        raise UserError(f"{where} has the shape {list(shape)} of {dtype}; give one label an image.")
    data = file.read(math.prod(shape) * dtype.itemsize)
    return [str(label) for label in np.frombuffer(data, dtype).reshape(flat).tolist()]


class _Pixels:
    """Images of one array, in a temporary file.

    Attributes:
        count: the number of images.
        stamp: the array's sha256.
    """

    def __init__(self, file: IO[bytes], size: int, spool: Spool, where: str) -> None:
        shape, dtype = _header(file, size, where)
        if not (len(shape) == 3 or (len(shape) == 4 and shape[3] in (1, 3))) or dtype != np.uint8:
            raise UserError(
                f"{where} has the shape {list(shape)} of {dtype}; images are uint8 [N, H, W], or "
                f"[N, H, W, C] with 1 or 3 channels."
            )
        self.count, *self._shape = shape
        self._bytes = math.prod(self._shape)
        digest = hashlib.sha256()
        self._extent = spool.write(_hashed(iter(partial(file.read, _CHUNK_BYTES), b""), digest))
        self._spool, self.stamp = spool, digest.hexdigest()
        if self._extent.length != self.count * self._bytes:
            raise UserError(f"{where} ends too early; copy it again.")

    def png(self, number: int) -> bytes:
        """Return one image as a PNG file."""
        start = self._extent.start + number * self._bytes
        pixels = np.frombuffer(self._spool.read(SpoolSpan(start, self._bytes)), np.uint8)
        image = pixels.reshape(self._shape)
        buffer = io.BytesIO()
        picture = Image.fromarray(image[..., 0] if self._shape[2:] == [1] else image)
        picture.save(buffer, "PNG", compress_level=1)
        return buffer.getvalue()


def _hashed(chunks: Iterable[bytes], digest: Any) -> Iterator[bytes]:
    for chunk in chunks:
        digest.update(chunk)
        yield chunk
