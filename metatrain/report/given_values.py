"""Captions and sounds of a task on a page, which plays them."""

import base64
from dataclasses import dataclass

import numpy as np

from metatrain.base.text import printable
from metatrain.data.images import BadValue
from metatrain.data.sound.wave import from_wave
from metatrain.evaluation.given_files import AUDIO, GivenValues

# Columns of a drawn wave, and sounds of a task on a page, each some 30 kB a second.
_COLUMNS, _SOUNDS = 60, 2


@dataclass(frozen=True)
class Sound:
    """A sound as a data URL, and the path of its drawn wave in a box of 60 x 20."""

    url: str
    path: str


@dataclass(frozen=True, kw_only=True)
class GivenRow:
    """A condition of a task on a page: its texts or its sounds, and how many more there are."""

    label: str
    texts: tuple[str, ...] = ()
    sounds: tuple[Sound, ...] = ()
    more: int = 0


def given_row(given: GivenValues) -> GivenRow:
    """Make the row of one condition."""
    if given.kind != AUDIO:
        return GivenRow(label=given.name, texts=tuple(printable(text) for text in given.values))
    sounds = tuple(sound for value in given.values[:_SOUNDS] if (sound := _sound(value)))
    return GivenRow(label=given.name, sounds=sounds, more=len(given.values) - len(sounds))


def _sound(data: bytes) -> Sound | None:
    try:
        samples = from_wave(data)
    except BadValue:  # not as packing writes it, and a page embeds nothing else
        return None
    url = f"data:audio/wav;base64,{base64.b64encode(data).decode()}"
    return Sound(url, wave_path(samples))


def wave_path(samples: np.ndarray) -> str:
    """Draw the peaks of samples [N] in [-1, 1] as the path of an SVG, 60 wide and 20 high."""
    peaks = [np.abs(part).max(initial=0) for part in np.array_split(samples, _COLUMNS)]
    scale = 10 / max(*peaks, 1e-9)
    return "".join(
        f"M{i + 0.5:g} {10 - p * scale:.1f}V{10 + p * scale:.1f}" for i, p in enumerate(peaks)
    )
