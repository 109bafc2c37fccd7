"""Drawings as files to take away: a sheet, and an archive."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from metatrain.data.images import shape_of
from metatrain.data.pictures import contact_sheet, decode
from metatrain.preferences.choices import read_lines
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
    return _zip({f"{d.name}.png": adaptation.drawing_file(d.name) for d in drawings})


def choices_archive(adaptation: Adaptation) -> bytes:
    """Return a zip file with the file of choices and their images, as `metatrain prefer` reads."""
    shown = [c for line in read_lines(str(adaptation.choices_file)) for c in line.hashes]
    files = [adaptation.choices_file, *map(adaptation.compared_file, dict.fromkeys(shown))]
    return _zip({str(file.relative_to(adaptation.folder)): file for file in files})


def _zip(files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # not compressed: PNG files are already
        for name, file in files.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), file.read_bytes())
    return buffer.getvalue()
