"""The picture: spoken digits as waves, and the drawings by them in typefaces of the test."""

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from benchmarks.conditions.sound.recordings import DIGITS, Recording
from benchmarks.conditions.sound.specimens import ASKED, UNSEEN, Specimen
from benchmarks.conditions.sound.systems import RIGHT, Heard
from metatrain.data.pictures import pil_images
from metatrain.data.sound.reading import read_sound

SIDE, GAP, HEAD, WAVE = 56, 6, 30, 120


def picture(specimens: Sequence[Specimen], images: Mapping[Heard, Sequence[Tensor]]) -> Image.Image:
    """Draw a row a digit: its wave, the digits given, and drawings by the sound.

    Args:
        specimens: the typefaces; each row has another, where there are enough.
        images: by system, the samples [5, 1, H, W] of each typeface.
    """
    shots = sorted({heard.images for heard in images})
    rows = _rows(specimens)
    columns = [ASKED, *[1] * (len(shots) + 1)]
    names = ["given", *("sound alone" if not k else f"and {k}" for k in shots), "real"]
    lefts = [WAVE + 2 * GAP]
    for count in columns:
        lefts.append(lefts[-1] + count * (SIDE + GAP) + 3 * GAP)
    sheet = Image.new("RGB", (lefts[-1], HEAD + len(rows) * (SIDE + GAP)), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for name, left in zip(["sound", *names], [GAP, *lefts], strict=False):
        draw.text((left, 8), name, "#444", font)
    for row, (number, place) in enumerate(rows):
        one, top = specimens[number], HEAD + row * (SIDE + GAP)
        _draw_wave(draw, one.sounds[UNSEEN][place], top)
        drawn = [images[Heard(k, RIGHT, UNSEEN)][number][place] for k in shots]
        for left, of_column in zip(lefts, [one.given, *drawn, one.real[place]], strict=False):
            _paste(sheet, of_column, left, top)
    return sheet


def _rows(specimens: Sequence[Specimen]) -> list[tuple[int, int]]:
    """Choose for each digit the first unused typeface of which it is asked for, and its place."""
    chosen: dict[str, tuple[int, int]] = {}
    for number, one in enumerate(specimens):
        place = next((i for i, digit in enumerate(one.asked) if digit not in chosen), None)
        if place is not None:
            chosen[one.asked[place]] = number, place
    return [chosen[digit] for digit in DIGITS if digit in chosen]


def _paste(sheet: Image.Image, images: Tensor, left: int, top: int) -> None:
    for i, image in enumerate(pil_images(images.reshape(-1, *images.shape[-3:]))):
        large = image.resize((SIDE, SIDE), Image.Resampling.NEAREST)
        sheet.paste(large, (left + i * (SIDE + GAP), top))


def _draw_wave(draw: ImageDraw.ImageDraw, recording: Recording, top: int) -> None:
    """Draw the peaks of a recording, and the digit that it says."""
    samples = read_sound(recording.path.read_bytes())
    peaks = [np.abs(part).max(initial=0) for part in np.array_split(samples, WAVE // 2)]
    scale = SIDE / 2.2 / max(*peaks, 1e-9)
    for i, peak in enumerate(peaks):
        place, middle, half = GAP + 2 * i, top + SIDE / 2, max(0.5, peak * scale)
        draw.line((place, middle - half, place, middle + half), "#36a")
    draw.text((GAP, top), recording.digit, "#222", ImageFont.load_default(12))
