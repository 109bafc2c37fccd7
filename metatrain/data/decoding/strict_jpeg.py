"""Reading JPEGs by libjpeg-turbo in a mode that stops at a warning, which Pillow hides.

The codes of a JPEG have no checksum, but damage to them nearly always leaves codes that do not
exist, or too many or too few: libjpeg warns, and returns a half-grey or shifted picture.
"""

import re
import struct

import numpy as np
import simplejpeg
from PIL import Image

from metatrain.data.decoding.bad import CORRUPT, BadImage

# Other warnings concern metadata alone, and errors a kind of JPEG that Pillow may well read.
_DAMAGE = re.compile("Corrupt JPEG data|Premature end|Inconsistent progression")
_COLOURS = {1: "GRAY", 3: "RGB", 4: "CMYK"}


def read_strictly(data: bytes) -> Image.Image | None:
    """Decode a JPEG to the very pixels that Pillow gives.

    Returns:
        Its pixels; None where it is whole as far as can be told, and Pillow must decode it.

    Raises:
        BadImage: when it is damaged.
    """
    bare, components = _without_metadata(data)
    if components in (1, 3):
        try:
            pixels = simplejpeg.decode_jpeg(data, _COLOURS[components])
            return Image.fromarray(np.squeeze(pixels, 2) if components == 1 else pixels)
        except ValueError:
            pass  # A warning, perhaps of metadata.
    try:
        simplejpeg.decode_jpeg(bare, _COLOURS.get(components, "GRAY"))
    except ValueError as error:
        if _DAMAGE.search(str(error)):
            raise BadImage(CORRUPT, str(error)) from error
    return None


def _without_metadata(data: bytes) -> tuple[bytes, int]:
    """Return a JPEG without what makes readers warn of whole pixels, and its components.

    That is: stray bytes between segments, APPn, comments, and odd parameters of a sequential scan.
    """
    bare, components, sequential, place = b"\xff\xd8", 0, True, 2
    while (place := data.find(b"\xff", place)) >= 0 and place + 4 <= len(data):
        kind = data[place + 1]
        if kind in (0x00, 0xFF) or 0xD0 <= kind <= 0xD9:
            place += 1
            continue
        end = place + 2 + struct.unpack_from(">H", data, place + 2)[0]
        segment = data[place:end]
        if 0xC0 <= kind <= 0xCF and kind not in (0xC4, 0xC8, 0xCC) and len(segment) > 9:
            components, sequential = segment[9], kind in (0xC0, 0xC1)
        if kind == 0xDA:
            # A sequential scan has all coefficients, whatever its three parameters say.
            segment = segment[:-3] + b"\0\x3f\0" if sequential else segment
            return bare + segment + data[end:], components
        if not 0xE0 <= kind <= 0xEF and kind != 0xFE:
            bare += segment
        place = end
    return data, components
