"""Images that show next to nothing, which are kept and deserve a look."""

from PIL import Image

from metatrain.data.decoding.grey_16 import GREY_16
from metatrain.data.decoding.strips import band_extrema

WARNINGS = ("a single colour", "nearly black")
_NEARLY_BLACK = 16


def warning_of(image: Image.Image) -> str:
    """Return the one of `WARNINGS` that fits a plain image, or ''."""
    # A few pixels nearly always tell that there is nothing to warn of.
    sample = image.resize((8, 8), Image.Resampling.NEAREST)
    return _warning_of_levels(sample) and _warning_of_levels(image)


def _warning_of_levels(image: Image.Image) -> str:
    bands = band_extrema(image)
    if all(low == high for low, high in bands):
        return WARNINGS[0]
    dark = _NEARLY_BLACK << 8 if image.mode == GREY_16 else _NEARLY_BLACK
    return WARNINGS[1] if max(high for _, high in bands[:3]) < dark else ""
