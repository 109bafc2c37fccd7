"""Digits spoken by the voices of espeak-ng, in place of recordings.

    python -m benchmarks.conditions.sound.voices RECORDINGS

Every voice is an accent of English and a speaker, and counts as one in the names of the files: the
benchmark holds the last out. Takes of a digit differ in pitch and speed. espeak-ng is a program of
its own: apt install espeak-ng.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from benchmarks.commands import resumable
from benchmarks.conditions.sound.recordings import DIGITS
from metatrain.base.errors import UserError
from metatrain.base.progress import tracked

_COMMAND = "espeak-ng"
_ACCENTS = ("en-gb", "en-us", "en-gb-scotland", "en-029")
_SPEAKERS = ("m1", "m3", "f2", "f4")
VOICES = tuple(f"{accent}+{speaker}" for accent, speaker in product(_ACCENTS, _SPEAKERS))
# Of each take, on espeak-ng's scale from 0 to 99, and words a minute.
_PITCHES, _SPEEDS = (35, 50, 65), (130, 150, 175, 200)


def main(argv: Sequence[str] | None = None) -> int:
    """Write the files that are missing."""
    parser = argparse.ArgumentParser(description="Spoken digits by espeak-ng.")
    add = parser.add_argument
    add("recordings", type=Path, metavar="RECORDINGS", help="folder to write DIGIT_VOICE_TAKE.wav")
    add("--voices", nargs="+", default=VOICES, help="such as en-us+f2 (16 of them)")
    options = parser.parse_args(argv)
    return resumable(lambda: speak_digits(options.recordings, options.voices))


def speak_digits(folder: Path, voices: Sequence[str]) -> None:
    """Let every voice say every digit, in a take for each pitch and speed.

    Raises:
        UserError: when espeak-ng is not installed, or has no such voice.
    """
    if not shutil.which(_COMMAND):
        raise UserError(f"{_COMMAND} is not installed; apt install {_COMMAND}.")
    folder.mkdir(parents=True, exist_ok=True)
    takes = list(enumerate(product(_PITCHES, _SPEEDS)))
    cells = list(product(voices, DIGITS, takes))
    for voice, digit, (take, (pitch, speed)) in tracked("speaking", cells, len(cells)):
        path = folder / f"{digit}_{voice.replace('_', '-')}_{take}.wav"
        if not path.exists():
            _speak(digit, voice, pitch, speed, path)


def _speak(text: str, voice: str, pitch: int, speed: int, path: Path) -> None:
    """Write a WAV file; it appears when it is complete."""
    part = path.with_suffix(".part")
    settings = ["-v", voice, "-p", str(pitch), "-s", str(speed), "-w", str(part)]
    result = subprocess.run([_COMMAND, *settings, text], capture_output=True, text=True)
    if result.returncode or not part.exists():
        reason = result.stderr.strip().partition("\n")[0] or "it wrote no sound"
        raise UserError(f"{_COMMAND} cannot speak as '{voice}': {reason}")
    part.replace(path)


if __name__ == "__main__":
    sys.exit(main())
