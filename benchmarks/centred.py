"""Drawings of letters and digits in the middle of their pictures."""

from PIL import Image, ImageOps


def centred(
    image: Image.Image, *, side: int, ink: int, shift: tuple[int, int] = (0, 0)
) -> Image.Image:
    """Fit the ink of a black drawing on white into the middle of a square.

    Args:
        image: the drawing.
        side: width and height of the square, in pixels.
        ink: the greater of the ink's width and height in it.
        shift: pixels to the right and down, out of the middle.
    """
    grey = image.convert("L")
    drawn = grey.crop(ImageOps.invert(grey).getbbox())
    fitted = ImageOps.contain(drawn, (ink, ink), Image.Resampling.LANCZOS)
    square = Image.new("L", (side, side), 255)
    middle = (side - fitted.width) // 2, (side - fitted.height) // 2
    square.paste(fitted, (middle[0] + shift[0], middle[1] + shift[1]))
    return square
