"""Drawings as files to take away: a sheet, and an archive."""

import io
import zipfile
from collections.abc import Sequence

from metatrain.data.images import shape_of
from metatrain.data.pictures import contact_sheet, decode
from serving.adaptations import Adaptation
from serving.records import Drawing

# Of every file of an archive, so that the same drawings are the same archive to the byte.
_TIME = (1980, 1, 1, 0, 0, 0)


def sheet(adaptation: Adaptation, drawings: Sequence[Drawing]) -> bytes:
    """Return one PNG file of all drawings, about as wide as high."""
    files = [adaptation.drawing_file(d.name).read_bytes() for d in drawings]
    size, _, channels = shape_of(files[0])
    return contact_sheet(decode(files, size, channels))


def archive(adaptation: Adaptation, drawings: Sequence[Drawing]) -> bytes:
    """Return a zip file with a PNG file of each drawing."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:  # not compressed: PNG files are already
        for drawing in drawings:
            data = adaptation.drawing_file(drawing.name).read_bytes()
            file.writestr(zipfile.ZipInfo(f"{drawing.name}.png", _TIME), data)
    return buffer.getvalue()
