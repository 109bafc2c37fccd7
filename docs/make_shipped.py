"""Make the picture of a shipped model: python docs/make_shipped.py EVALUATION OUT.png.

EVALUATION is the folder that `metatrain ship` evaluates in, `shipped/NAME` in the run. The tasks
are the first of the evaluation's, of the split test, and the images are what the evaluation scored.
"""

import sys

from make_emoji import FAINT, GAP, INK, LABEL, LINE, MARGIN, Row, font, label
from PIL import Image, ImageDraw

from metatrain.data.pictures import pil_images
from metatrain.evaluation.results import read_evaluation
from metatrain.evaluation.strip_files import TaskStrip, read_strips

TASKS, DRAWN, SIZE, HEAD, ARROW = 10, 6, 64, 44, 34
STEP = SIZE + GAP


def picture(folder: str) -> Image.Image:
    """Return rows of a task each, in two columns: the images given, and what the model drew."""
    evaluation = read_evaluation(folder)
    strips = read_strips(folder, evaluation, range(TASKS))
    names = evaluation.episodes.tasks[:TASKS]
    given, rows = len(strips[0].support), TASKS // 2
    panel = LABEL + (given + DRAWN) * STEP + ARROW
    sheet = Image.new(
        "RGB", (2 * (panel + MARGIN) + MARGIN, 2 * MARGIN + HEAD + rows * STEP), "white"
    )
    draw = ImageDraw.Draw(sheet)
    for column in range(2):
        left = MARGIN + column * (panel + MARGIN)
        draw.text((left + LABEL, MARGIN), "given", INK, font(17, bold=True))
        draw.text((left + LABEL + given * STEP + ARROW, MARGIN), "drawn", INK, font(17, bold=True))
    for number, (name, strip) in enumerate(zip(names, strips, strict=True)):
        left = MARGIN + number // rows * (panel + MARGIN)
        _row(sheet, left, MARGIN + HEAD + number % rows * STEP, name, strip)
    return sheet


def _row(sheet: Image.Image, left: int, top: int, name: str, strip: TaskStrip) -> None:
    draw, middle = ImageDraw.Draw(sheet), top + SIZE // 2
    drawn = strip.samples[max(strip.samples)][:DRAWN]
    end = left + LABEL + (len(strip.support) + len(drawn)) * STEP + ARROW - GAP
    draw.line((left, top - GAP // 2, end, top - GAP // 2), LINE)
    label(draw, left, middle, Row(name, "", []))
    x = left + LABEL
    for image in pil_images(strip.support):
        sheet.paste(image, (x, top))
        x += STEP
    draw.text((x + (ARROW - GAP) // 2, middle), "→", FAINT, font(22), anchor="mm")
    x += ARROW
    for image in pil_images(drawn):
        sheet.paste(image, (x, top))
        x += STEP


if __name__ == "__main__":
    folder, out = sys.argv[1:]
    picture(folder).save(out, optimize=True)
