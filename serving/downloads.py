"""Drawings as files to take away: a sheet, and an archive."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from metatrain.data.images import shape_of
from metatrain.data.pictures import contact_sheet, decode
from metatrain.preferences.choices import read_lines
from serving.adaptations import Adaptation
from serving.disk import Disk
from serving.records import Drawing

# Of every file of an archive, so that the same drawings are the same archive to the byte.
_TIME = (1980, 1, 1, 0, 0, 0)


def sheet(adaptation: Adaptation, drawings: Sequence[Drawing]) -> bytes:
    """Return one PNG file of all drawings, about as wide as high."""
    files = [adaptation.disk.read(adaptation.drawing_file(d.name)) for d in drawings]
    size, _, channels = shape_of(files[0])
    return contact_sheet(decode(files, size, channels))


def archive(adaptation: Adaptation, drawings: Sequence[Drawing]) -> bytes:
    """Return a zip file with a PNG file of each drawing."""
    files = {f"{d.name}.png": adaptation.drawing_file(d.name) for d in drawings}
    return _zip(adaptation.disk, files)


def choices_archive(adaptation: Adaptation) -> bytes:
    """Return a zip file with the file of choices and their images, as `metatrain prefer` reads."""
    lines = read_lines(adaptation.disk.url(adaptation.choices_file))
    shown = [sha256 for line in lines for sha256 in line.hashes]
    files = [adaptation.choices_file, *map(adaptation.compared_file, dict.fromkeys(shown))]
    named = {str(file.relative_to(adaptation.folder)): file for file in files}
    return _zip(adaptation.disk, named)


def _zip(disk: Disk, files: Mapping[str, Path]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # not compressed: PNG files are already
        for name, file in files.items():
            archive.writestr(zipfile.ZipInfo(name, _TIME), disk.read(file))
    return buffer.getvalue()
