"""The picture: for the first tasks, what was given, and the samples of some systems."""

from collections.abc import Mapping, Sequence

from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from metatrain.data.pictures import pil_images

TASKS, SIDE, GAP, LABEL, HEAD, SHOWN = 8, 64, 6, 230, 30, 3


def picture(
    captions: Sequence[str], supports: Sequence[Tensor], columns: Mapping[str, Sequence[Tensor]]
) -> Image.Image:
    """Draw a row a task: its caption, the images given, and samples in a group a system.

    Args:
        captions: of the tasks.
        supports: the images [K, C, H, W] of each task.
        columns: by the system's name, samples [N, C, H, W] of each task.
    """
    groups = {"given": supports, **columns}
    group = SHOWN * (SIDE + GAP) + 3 * GAP
    size = LABEL + len(groups) * group, HEAD + min(TASKS, len(captions)) * (SIDE + GAP)
    sheet = Image.new("RGB", size, "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for column, (name, tasks) in enumerate(groups.items()):
        left = LABEL + column * group
        draw.text((left, 8), name, "#444", font)
        for row, images in enumerate(tasks[:TASKS]):
            for i, image in enumerate(pil_images(images[:SHOWN])):
                place = left + i * (SIDE + GAP), HEAD + row * (SIDE + GAP)
                sheet.paste(image.resize((SIDE, SIDE), Image.Resampling.NEAREST), place)
    for row, caption in enumerate(captions[:TASKS]):
        words = caption if len(caption) < 34 else f"{caption[:32]}…"
        draw.text((8, HEAD + row * (SIDE + GAP) + SIDE // 2 - 8), words, "#222", font)
    return sheet
