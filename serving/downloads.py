"""Drawings as files to take away: a sheet, and an archive."""

from collections.abc import Sequence

from metatrain.data.images import shape_of
from metatrain.data.pictures import contact_sheet, decode
from metatrain.preferences.choices import read_lines
from serving.adaptations import Adaptation
from serving.archive import zipped
from serving.records import Drawing


def sheet(adaptation: Adaptation, drawings: Sequence[Drawing]) -> bytes:
    """Return one PNG file of all drawings, about as wide as high."""
    files = [adaptation.disk.read(adaptation.drawing_file(d.name)) for d in drawings]
    size, _, channels = shape_of(files[0])
    return contact_sheet(decode(files, size, channels))


def archive(adaptation: Adaptation, drawings: Sequence[Drawing]) -> bytes:
    """Return a zip file with a PNG file of each drawing."""
    files = [(f"{d.name}.png", adaptation.drawing_file(d.name)) for d in drawings]
    return zipped((name, adaptation.disk.read(file)) for name, file in files)


def choices_archive(adaptation: Adaptation) -> bytes:
    """Return a zip file with the file of choices and their images, as `metatrain prefer` reads."""
    lines = read_lines(adaptation.disk.url(adaptation.choices_file))
    shown = [sha256 for line in lines for sha256 in line.hashes]
    files = [adaptation.choices_file, *map(adaptation.compared_file, dict.fromkeys(shown))]
    named = [(str(file.relative_to(adaptation.folder)), file) for file in files]
    return zipped((name, adaptation.disk.read(file)) for name, file in named)
