"""The run lengths of a BMP (RLE8 and RLE4), checked against the size of its image."""

import struct

_END_OF_LINE, _END_OF_BITMAP, _DELTA = 0, 1, 2


def damage_of_runs(data: bytes, size: tuple[int, int], bits: int) -> str:
    """Return the damage of a BMP's runs, or '' where they fit the image.

    Args:
        data: the file.
        size: width and height in pixels.
        bits: of a pixel, 8 or 4.
    """
    width, height = size
    place, x, y = struct.unpack_from("<I", data, 10)[0], 0, 0
    while place + 2 <= len(data):
        count, value = data[place], data[place + 1]
        place += 2
        if count:
            x += count
        elif value == _END_OF_LINE:
            x, y = 0, y + 1
        elif value == _END_OF_BITMAP:
            # The last row may be left short, or be ended by a code of its own.
            return "" if y >= height - 1 else f"its runs end in row {y + 1} of {height}"
        elif value == _DELTA:
            if place + 2 > len(data):
                break
            x, y, place = x + data[place], y + data[place + 1], place + 2
        else:
            x += value
            length = value if bits == 8 else (value + 1) // 2
            place += length + length % 2
        if x > width:
            return f"a run leaves row {y + 1}"
        if y > height or (y == height and x):
            return "its runs go on after the last row"
    complete = y >= height or (y == height - 1 and x == width)
    return "" if complete and place <= len(data) else "its runs end too early"
