"""Letters a to z: rendered from fonts, and written by hand."""

import io
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks.centred import centred
from metatrain.base.errors import UserError
from metatrain.data.packing.glyphs import glyph_images

SIDE, _INK = 28, 22
NAMES = "abcdefghijklmnopqrstuvwxyz"


class Letters(NamedTuple):
    """Images [N, 28, 28] of uint8, black on white, and the number [N] of the letter on each."""

    images: np.ndarray
    labels: np.ndarray

    def tensors(self) -> tuple[Tensor, Tensor]:
        """Return images [N, 1, 28, 28] in [-1, 1] and labels."""
        images = torch.from_numpy(self.images.astype(np.float32) / 127.5 - 1)
        return images[:, None], torch.from_numpy(self.labels)


def rendered() -> Letters:
    """Render the letters of every face of the built-in fonts."""
    wanted = {f"U+{ord(letter):04X}": number for number, letter in enumerate(NAMES)}
    pairs = [
        (_centred(Image.open(io.BytesIO(glyph.png))), wanted[name])
        for name, glyphs in glyph_images(2 * SIDE)
        if name in wanted
        for glyph in glyphs
    ]
    return _letters(pairs)


def handwritten(folder: Path) -> dict[str, Letters]:
    """Read the letters of each person.

    Args:
        folder: has a folder for each letter, character01 to character26, with files NNNN_DD.png of
            person DD, as Omniglot's Latin alphabet.

    Raises:
        UserError: when it has not.
    """
    pairs = defaultdict(list)
    for number in range(len(NAMES)):
        for path in sorted((folder / f"character{number + 1:02}").glob("*_*.png")):
            with Image.open(path) as image:
                pairs[path.stem.rpartition("_")[2]].append((_centred(image), number))
    if not pairs:
        raise UserError(f"{folder} has no character01/NNNN_DD.png; name a folder of letters.")
    return {person: _letters(pairs[person]) for person in sorted(pairs)}


def _letters(pairs: list[tuple[np.ndarray, int]]) -> Letters:
    images, labels = zip(*pairs, strict=True)
    return Letters(np.stack(images), np.array(labels))


def _centred(image: Image.Image) -> np.ndarray:
    """Fit a letter into the middle of a square: sizes say nothing of who wrote it."""
    return np.asarray(centred(image, side=SIDE, ink=_INK))
