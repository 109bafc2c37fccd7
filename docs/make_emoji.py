"""Make the picture of the emoji benchmark: python docs/make_emoji.py EMOJI HAND NEW_HAND OUT.png.

The data sets are those of `metatrain pack emoji DEST`, with `--by hand` and with `--by new-hand`.
The tasks are the first of the test lists, and of each hand the first; the images are the supports
and queries of their first episodes, as they are packed.
"""

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.episode_list import ListedEpisode, list_episodes

ROWS = COLUMNS = 7
SIZE, GAP, LABEL, HEAD, MARGIN, BETWEEN = 64, 14, 150, 52, 28, 56
INK, FAINT, LINE = "#1f2328", "#6e7781", "#e6e8eb"
STEP = SIZE + GAP


class Row(NamedTuple):
    """A row: a title, a second line, and its images."""

    title: str
    subtitle: str
    images: list[Image.Image]


def picture(emoji: str, hand: str, new_hand: str) -> Image.Image:
    """Return both protocols side by side."""
    panel = LABEL + COLUMNS * STEP
    width, height = 2 * (MARGIN + panel) + BETWEEN, 2 * MARGIN + HEAD + ROWS * STEP
    sheet = Image.new("RGB", (width, height), "white")
    _panel(sheet, MARGIN, "By emoji", "one emoji, each time by another hand", rows_by_emoji(emoji))
    rows = rows_by_hand([hand, new_hand])
    _panel(sheet, MARGIN + panel + BETWEEN, "By hand", "one hand, one subgroup of Unicode", rows)
    return sheet


def rows_by_emoji(url: str) -> list[Row]:
    """Return the first tasks of the list, with all their images."""
    store = EpisodeStore(url)
    episodes = list_episodes(store, "test").episodes[:ROWS]
    return [Row(episode.task, "", _images(store, episode)) for episode in episodes]


def rows_by_hand(urls: Sequence[str]) -> list[Row]:
    """Return the first task of each hand in the lists."""
    rows: dict[str, Row] = {}
    for url in urls:
        store = EpisodeStore(url)
        for episode in list_episodes(store, "test").episodes:
            hand, _, subgroup = episode.task.partition(": ")
            if hand not in rows:
                rows[hand] = Row(subgroup, hand, _images(store, episode))
    return list(rows.values())[-ROWS:]


def _images(store: EpisodeStore, episode: ListedEpisode) -> list[Image.Image]:
    [task] = [task for task in store.tasks("test") if task.name == episode.task]
    places = [*episode.support, *episode.reference, *episode.held_out][:COLUMNS]
    return [Image.open(io.BytesIO(data)).convert("RGB") for data in store.read(task, places)]


def _panel(sheet: Image.Image, left: int, title: str, subtitle: str, rows: list[Row]) -> None:
    draw = ImageDraw.Draw(sheet)
    draw.text((left, MARGIN), title, INK, font(22, bold=True))
    offset = font(22, bold=True).getlength(title) + 14
    draw.text((left + offset, MARGIN + 6), subtitle, FAINT, font(15))
    for number, row in enumerate(rows):
        top = MARGIN + HEAD + number * STEP
        end = left + LABEL + COLUMNS * STEP - GAP
        draw.line((left, top - GAP // 2, end, top - GAP // 2), LINE)
        label(draw, left, top + SIZE // 2, row)
        for column, image in enumerate(row.images):
            sheet.paste(image, (left + LABEL + column * STEP, top))


def label(draw: ImageDraw.ImageDraw, left: int, middle: int, row: Row) -> None:
    """Write the title and the second line of a row around the height `middle`."""
    lines = [(line, INK) for line in _wrapped(row.title)]
    lines += [(row.subtitle, FAINT)] if row.subtitle else []
    for number, (line, colour) in enumerate(lines):
        y = middle + round(19 * (number - (len(lines) - 1) / 2))
        draw.text((left, y), line, colour, font(15), anchor="lm")


def _wrapped(text: str) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font(15).getlength(longer) > LABEL - 16:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Return the font of the pictures, in a size of pixels."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    return ImageFont.truetype(folder / f"DejaVuSans{'-Bold' if bold else ''}.ttf", size)


if __name__ == "__main__":
    *data, out = sys.argv[1:]
    picture(*data).save(out, optimize=True)
