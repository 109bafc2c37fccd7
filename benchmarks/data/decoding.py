"""The cost of decoding an episode's images, by the format they were packed in.

    python -m benchmarks.data.decoding

CPU time of one thread for the 10 images of an episode; smooth noise, which compresses better than
photographs.
"""

import io
import statistics
import time

import numpy as np
from PIL import Image

from metatrain.data.images import normalise
from metatrain.data.pictures import decode

FORMATS = ("PNG", "JPEG", "WebP")
# As stored, and as wanted.
SIDES = ((32, 32), (64, 64), (256, 256), (256, 64))
COUNT, ROUNDS = 10, 15


def main() -> None:
    """Measure, and print a table."""
    print("| stored | wanted | as | kB an image | CPU ms an episode |")
    print("|---|---|---|--:|--:|")
    for stored, wanted in SIDES:
        pictures = [_picture(seed, stored) for seed in range(COUNT)]
        ways = {name: [_encoded(picture, name) for picture in pictures] for name in FORMATS}
        ways["raw"] = [normalise(data, stored, raw=True).data for data in ways["PNG"]]
        for name, encoded in ways.items():
            size = statistics.mean(map(len, encoded)) / 1000
            print(f"| {stored} | {wanted} | {name} | {size:.1f} | {_cpu_ms(encoded, wanted):.2f} |")


def _picture(seed: int, side: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC)


def _encoded(picture: Image.Image, name: str) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, name)
    return buffer.getvalue()


def _cpu_ms(encoded: list[bytes], side: int) -> float:
    taken = []
    for _ in range(ROUNDS):
        began = time.process_time()
        decode(encoded, side, 3)
        taken.append(time.process_time() - began)
    return 1000 * statistics.median(taken)


if __name__ == "__main__":
    main()
