"""A picture of letters: simulated, redrawn, refined for a person, and by that person's hand."""

import io

import numpy as np
from PIL import Image

from benchmarks.refinement.letters import Letters
from benchmarks.refinement.systems import Bench

_COLUMNS, _SCALE = 22, 2
_ROWS = ("raw", "hand-made, augmented", "refined, one domain", "refined, meta-learned")


def letters_png(bench: Bench, seed: int) -> bytes:
    """Return a PNG of two faces as each of the systems gives them, for the first test person."""
    person = next(iter(bench.test))
    shown = [bench.letters(system, seed, person).images for system in _ROWS]
    # Faces differ from letter to letter, since not every face has every letter.
    step = len(shown[0]) // _COLUMNS
    rows = [images[start::step] for start in (0, step // 2) for images in shown]
    return _png([*rows, _others(bench.test[person])])


def _others(letters: Letters) -> np.ndarray:
    return letters.images[np.argsort(letters.labels, kind="stable")]


def _png(rows: list[np.ndarray]) -> bytes:
    lines = [np.concatenate(list(row[:_COLUMNS]), axis=1) for row in rows]
    image = Image.fromarray(np.concatenate(lines))
    buffer = io.BytesIO()
    image.resize((image.width * _SCALE, image.height * _SCALE)).save(buffer, format="png")
    return buffer.getvalue()
