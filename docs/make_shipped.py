"""Make the picture of a shipped model: python docs/make_shipped.py MODEL DATA OUT.png.

DATA is the packed benchmark, such as that of `metatrain pack emoji DATA`. The tasks are the first
of its list of the split test, and nothing is picked: the images given are the supports of their
first episodes, and what is drawn is the model's first samples.
"""

import sys

from make_emoji import FAINT, GAP, INK, LABEL, LINE, MARGIN, Row, font, label
from PIL import Image, ImageDraw

import metatrain
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.pictures import decode, pil_images
from metatrain.evaluation.episodes.episode_list import list_episodes

TASKS, DRAWN, SIZE, HEAD, ARROW = 10, 6, 64, 44, 34
STEP = SIZE + GAP


def picture(name: str, data: str) -> Image.Image:
    """Return rows of a task each, in two columns: the images given, and what the model drew."""
    model, store = metatrain.load(name), EpisodeStore(data)
    shape = model.config.data
    tasks = {task.name: task for task in store.tasks("test")}
    episodes, rows = list_episodes(store, "test").episodes[:TASKS], TASKS // 2
    panel = LABEL + (shape.shots + DRAWN) * STEP + ARROW
    size = 2 * (panel + MARGIN) + MARGIN, 2 * MARGIN + HEAD + rows * STEP
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    for left in (MARGIN, MARGIN + panel + MARGIN):
        drawn = left + LABEL + shape.shots * STEP + ARROW
        draw.text((left + LABEL, MARGIN), "given", INK, font(17, bold=True))
        draw.text((drawn, MARGIN), "drawn", INK, font(17, bold=True))
    for number, episode in enumerate(episodes):
        encoded = store.read(tasks[episode.task], episode.support[: shape.shots])
        given = decode(encoded, shape.image_size, shape.channels)
        images = pil_images(given), model.adapt(given).images(DRAWN, seed=0)
        left = MARGIN + number // rows * (panel + MARGIN)
        _row(sheet, left, MARGIN + HEAD + number % rows * STEP, episode.task, *images)
    return sheet


def _row(
    sheet: Image.Image,
    left: int,
    top: int,
    name: str,
    given: list[Image.Image],
    drawn: list[Image.Image],
) -> None:
    draw, middle = ImageDraw.Draw(sheet), top + SIZE // 2
    given, drawn = (
        [image.resize((SIZE, SIZE), Image.Resampling.NEAREST) for image in images]
        for images in (given, drawn)
    )
    end = left + LABEL + (len(given) + len(drawn)) * STEP + ARROW - GAP
    draw.line((left, top - GAP // 2, end, top - GAP // 2), LINE)
    label(draw, left, middle, Row(name, "", []))
    for column, image in enumerate(given):
        sheet.paste(image, (left + LABEL + column * STEP, top))
    x = left + LABEL + len(given) * STEP
    draw.text((x + (ARROW - GAP) // 2, middle), "→", FAINT, font(22), anchor="mm")
    for column, image in enumerate(drawn):
        sheet.paste(image, (x + ARROW + column * STEP, top))


if __name__ == "__main__":
    *model_and_data, out = sys.argv[1:]
    picture(*model_and_data).save(out, optimize=True)
