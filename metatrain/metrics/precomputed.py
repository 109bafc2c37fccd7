"""Features that another program computed, such as Inception's or DINO's, read from a file.

A network in a file is third-party code in any format, so metatrain never runs one. It reads only
numbers: a safetensors file with the features of each image, keyed by the sha256 of its pixels.
"""

import hashlib

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.data.pictures import on_white, to_uint8
from metatrain.storage.files import read_file
from metatrain.storage.tensors import read_metadata

_HASH, _FEATURES, _NAME = "sha256", "features", "name"


class Precomputed:
    """A feature space given by a table of features, one row an image.

    Args:
        url: a safetensors file, a path or any fsspec URL, with `sha256`, uint8 [N, 32], the hash
            of each image's pixels (`pixel_hash`); `features`, float [N, D]; and the `name` of the
            feature space in its metadata.

    Raises:
        UserError: when there is no such file, or it has another content.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        content = read_file(url)
        try:
            self.name, tensors = read_metadata(content)[_NAME], load(content)
            hashes, self._rows = tensors[_HASH], tensors[_FEATURES]
        except (SafetensorError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise self._refused(f"cannot be read ({error})") from error
        self.sha256 = hashlib.sha256(content).hexdigest()
        if hashes.shape != (len(self._rows), 32) or self._rows.ndim != 2:
            raise self._refused(f"has shapes {list(hashes.shape)} and {list(self._rows.shape)}")
        if not self._rows.isfinite().all():
            raise self._refused("has features that are not finite")
        self._place = {bytes(row.tolist()): i for i, row in enumerate(hashes.to(torch.uint8))}

    def features(self, images: Tensor) -> Tensor:
        """Return features [..., D] of images [..., C, H, W] in [-1, 1].

        Raises:
            UserError: when the file lacks an image.
        """
        hashes = [pixel_hash(image) for image in on_white(images).flatten(0, -4)]
        missing = [h for h in hashes if h not in self._place]
        if missing:
            raise UserError(
                f"{self._url} lacks the features of {len(missing)} of {len(hashes)} images, such "
                f"as the one with sha256 {missing[0].hex()}; compute them for every image that "
                f"the evaluation exports."
            )
        places = torch.tensor([self._place[h] for h in hashes])
        return self._rows[places].unflatten(0, images.shape[:-3])

    def _refused(self, reason: str) -> UserError:
        return UserError(
            f"{self._url} {reason}; it must be a safetensors file of '{_HASH}', uint8 [N, 32], and "
            f"'{_FEATURES}', float [N, D], with '{_NAME}' in its metadata."
        )


def pixel_hash(image: Tensor) -> bytes:
    """Return the sha256 of an image's 8-bit pixels, row by row, channels last.

    For the PNG file `f` of the image, numpy gives the same hash:
    `hashlib.sha256(np.asarray(Image.open(f)).tobytes())`.

    Args:
        image: [C, H, W] in [-1, 1].
    """
    return hashlib.sha256(to_uint8(image).permute(1, 2, 0).numpy().tobytes()).digest()
