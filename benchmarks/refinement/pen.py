"""A rival made by hand: letters redrawn with a pen, whose strokes have one width."""

import numpy as np

# Of a stroke around its middle line.
_PEN = np.outer([0.5, 1.0, 0.5], [0.5, 1.0, 0.5])


def redrawn(images: np.ndarray) -> np.ndarray:
    """Redraw images [N, H, W] of uint8, black on white, by their middle lines."""
    lines = np.pad(middle_lines(images < 128), ((0, 0), (1, 1), (1, 1))).astype(float)
    height, width = images.shape[1:]
    ink = [_PEN[y, x] * lines[:, y : y + height, x : x + width] for y in range(3) for x in range(3)]
    return (255 * (1 - np.max(ink, axis=0))).astype(np.uint8)


def middle_lines(ink: np.ndarray) -> np.ndarray:
    """Thin ink [N, H, W] of bool to lines of one pixel (Zhang and Suen 1984)."""
    ink = ink.copy()
    while True:
        before = ink.sum()
        for sides in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            ink &= ~_removable(ink, sides)
        if ink.sum() == before:
            return ink


def _removable(ink: np.ndarray, sides: tuple[tuple[int, ...], ...]) -> np.ndarray:
    """Find the pixels on the given sides of the ink that no line needs."""
    padded = np.pad(ink, ((0, 0), (1, 1), (1, 1)))
    # The neighbours P2 to P9 of the paper: from the one above, clockwise.
    clockwise = ((0, 1), (0, 2), (1, 2), (2, 2), (2, 1), (2, 0), (1, 0), (0, 0))
    height, width = ink.shape[1:]
    around = np.stack([padded[:, y : y + height, x : x + width] for y, x in clockwise])
    count = around.sum(axis=0)
    starts = (~around & np.roll(around, -1, axis=0)).sum(axis=0)
    outside = [~np.all([around[i] for i in three], axis=0) for three in sides]
    return ink & (count >= 2) & (count <= 6) & (starts == 1) & np.all(outside, axis=0)
