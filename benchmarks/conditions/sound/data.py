"""The data set: digits in many typefaces, each image with a recording of its digit.

    python -m benchmarks.conditions.sound.data RECORDINGS FONTS DEST

A task is a typeface; all typefaces of a family are in one split, and val and test have one of each
family, so that their tasks are independent. Each digit comes twice, moved by up to a pixel, each
time with another recording. Those of training are played at up to a fifth faster or slower, since
there are few speakers; val and test have takes that training never hears. `fonts.txt` beside this
file lists packages of Debian with fonts.
"""

import argparse
import csv
import io
import sys
import wave
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
from PIL import Image

from benchmarks.centred import centred
from benchmarks.commands import resumable
from benchmarks.conditions.sound.recordings import DIGITS, Recording, Recordings, read_recordings
from metatrain.base.errors import UserError
from metatrain.base.progress import say, tracked
from metatrain.data.images import BadImage
from metatrain.data.lettering import Typeface
from metatrain.data.packing.pack import pack
from metatrain.data.packing.splits import assign_splits

SIDE, _INK, _DRAWN = 28, 22, 128
VARIANTS = 2
_SPEEDS = (0.8, 0.9, 1.0, 1.1, 1.2)
_SHARES = (0.7, 0.1, 0.2)
_COLUMNS = ("file_name", "task", "split", "source", "digit", "audio", "speaker", "family")


class Face(NamedTuple):
    """A typeface with its drawn digits, in the order of `DIGITS`."""

    name: str
    family: str
    digits: list[Image.Image]


def main(argv: Sequence[str] | None = None) -> int:
    """Draw and pack the data set."""
    parser = argparse.ArgumentParser(description="Digits in typefaces, with recordings of them.")
    add = parser.add_argument
    add("recordings", type=Path, metavar="RECORDINGS", help="folder of DIGIT_SPEAKER_TAKE.wav")
    add("fonts", type=Path, metavar="FONTS", help="folder of .ttf and .otf files, however deep")
    add("dest", metavar="DEST", help="folder to write the packed data set to")
    options = parser.parse_args(argv)
    return resumable(lambda: make(options.recordings, options.fonts, options.dest))


def make(recordings: Path, fonts: Path, dest: str) -> None:
    """Draw the digits of all typefaces, give them recordings, and pack them at `dest`.

    Raises:
        UserError: when there are too few recordings or typefaces.
    """
    spoken = read_recordings(recordings)
    faces = read_faces(fonts)
    splits = assign_splits(dict.fromkeys(face.family for face in faces), 0, _SHARES)
    with TemporaryDirectory(prefix="metatrain-") as folder:
        kept = list(_one_of_each_unseen(faces, splits))
        with Path(folder, "metadata.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(_COLUMNS)
            for number, face in enumerate(tracked("drawing digits", kept, len(kept))):
                split = splits[face.family]
                table.writerows(_rows(face, split, spoken, number, Path(folder)))
        say(str(pack(folder, dest, conditions={"audio": "audio", "digit": "text"})))


def read_faces(folder: Path) -> list[Face]:
    """Draw the digits of every typeface that has ten different ones; equal typefaces come once.

    Raises:
        UserError: when there are fewer than ten families.
    """
    files = (path for path in folder.rglob("*") if path.is_file())
    paths = sorted(path for path in files if path.suffix.lower() in (".ttf", ".otf"))
    faces: dict[bytes, Face] = {}
    for path in tracked("reading fonts", paths, len(paths)):
        try:
            face = _face(path)
        except BadImage as error:
            say(f"{path} is left out: {error}.")
        else:
            faces.setdefault(b"".join(digit.tobytes() for digit in face.digits), face)
    if len({face.family for face in faces.values()}) < 10:
        raise UserError(f"{folder} has digits of fewer than 10 families; give more fonts.")
    return list(faces.values())


def _face(path: Path) -> Face:
    typeface = Typeface(path.read_bytes(), _DRAWN)
    if not set(DIGITS).issubset(typeface.letters()):
        raise BadImage("a font without digits")
    digits = [Image.open(io.BytesIO(typeface.draw(digit))).convert("L") for digit in DIGITS]
    if len({digit.tobytes() for digit in digits}) < len(DIGITS):
        raise BadImage("a font of which digits look the same")
    return Face(path.stem, typeface.family or path.stem, digits)


def _one_of_each_unseen(faces: Sequence[Face], splits: dict[str, str]) -> Iterator[Face]:
    """Yield all typefaces of training, and the first of each other family."""
    families: set[str] = set()
    for face in faces:
        if splits[face.family] == "train" or face.family not in families:
            yield face
        families.add(face.family)


def _rows(
    face: Face, split: str, spoken: Recordings, number: int, folder: Path
) -> Iterator[Sequence[str]]:
    """Write the images and sounds of a typeface, and yield their rows of the table."""
    stream, training = np.random.default_rng(number), split == "train"
    pool = spoken.training if training else spoken.seen
    for digit, drawn in zip(DIGITS, face.digits, strict=True):
        chosen = stream.permutation(len(pool[digit]))
        places = stream.permutation(9)
        for variant in range(VARIANTS):
            recording = pool[digit][chosen[variant % len(chosen)]]
            speed = float(stream.choice(_SPEEDS)) if training else 1.0
            shift = divmod(int(places[variant]), 3)
            name = f"{number}-{digit}-{variant}"
            moved = centred(drawn, side=SIDE, ink=_INK, shift=(shift[0] - 1, shift[1] - 1))
            moved.save(folder / f"{name}.png")
            (folder / f"{name}.wav").write_bytes(played(recording, speed))
            task = f"{number:04}-{face.name}"
            row = (task, split, digit, digit, f"{name}.wav", recording.speaker, face.family)
            yield (f"{name}.png", *row)


def played(recording: Recording, speed: float) -> bytes:
    """Return a recording as a WAV file, played faster, and so higher, by a factor.

    Raises:
        UserError: when it is no WAV file of plain samples.
    """
    try:
        with wave.open(str(recording.path)) as file:
            form, samples = file.getparams(), file.readframes(file.getnframes())
    except (wave.Error, EOFError) as error:
        raise UserError(f"{recording.path} is no WAV file of plain samples ({error}).") from error
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setparams(form._replace(framerate=round(form.framerate * speed)))
        file.writeframes(samples)
    return buffer.getvalue()


if __name__ == "__main__":
    sys.exit(main())
