"""Digits spoken by the voices of espeak-ng, in place of recordings.

    python -m benchmarks.conditions.sound.voices RECORDINGS

Every voice is an accent of English and a speaker, and counts as one in the names of the files: the
benchmark holds the last out. Takes of a digit differ in pitch and speed. espeak-ng is a program of
its own: apt install espeak-ng.
"""

import argparse
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path

from benchmarks.commands import resumable
from benchmarks.conditions.sound.espeak import PITCHES, SPEEDS, require_espeak, speak
from benchmarks.conditions.sound.recordings import DIGITS
from metatrain.base.progress import tracked

# With the accent en-gb, all speakers are one.
_ACCENTS = ("en-gb-x-rp", "en-us", "en-gb-scotland", "en-029")
_SPEAKERS = ("m1", "m3", "f2", "f4")
VOICES = tuple(f"{accent}+{speaker}" for accent, speaker in product(_ACCENTS, _SPEAKERS))


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
    require_espeak()
    folder.mkdir(parents=True, exist_ok=True)
    takes = list(enumerate(product(PITCHES, SPEEDS)))
    cells = list(product(voices, DIGITS, takes))
    for voice, digit, (take, (pitch, speed)) in tracked("speaking", cells, len(cells)):
        path = folder / f"{digit}_{voice.replace('_', '-')}_{take}.wav"
        speak(digit, voice, pitch, speed, path)


if __name__ == "__main__":
    sys.exit(main())
