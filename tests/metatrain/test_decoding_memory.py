"""Memory that decoding takes beside the file: so many bytes for each pixel."""

import struct
import subprocess
import sys

import pytest

SIDE = 3000
# Upper and lower bytes of 16 bits a channel, and the result, of 4 bytes each: 0.8 GB at the most.
MOST_BYTES = 12

MEASURE = """
import resource, sys
from metatrain.data.images import normalise
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
def read(name):
    with open(name, "rb") as file:
        return file.read()
normalise(read(sys.argv[1]))
data = read(sys.argv[2])
before = peak()
normalise(data)
print(peak() - before)
"""


def uncompressed_tiff(side: int, bits: int) -> bytes:
    """A TIFF of three channels, as microscopes and scanners write them."""
    size = side * side * 3 * bits // 8
    tags = {256: side, 257: side, 258: 0, 259: 1, 262: 2, 273: 0, 277: 3, 278: side, 279: size}
    end = 8 + 2 + 12 * len(tags) + 4
    tags |= {258: end, 273: end + 6}
    directory = struct.pack("<H", len(tags))
    for tag, value in tags.items():
        directory += struct.pack(
            "<HHII", tag, 3 if tag == 258 else 4, 3 if tag == 258 else 1, value
        )
    pattern = bytes(range(60)) * (size // 60 + 1)
    header = b"II*\0" + struct.pack("<I", 8)
    return header + directory + bytes(4) + struct.pack("<HHH", *[bits] * 3) + pattern[:size]


@pytest.mark.parametrize("bits", [8, 16])
def test_a_large_uncompressed_tiff_takes_a_bounded_memory_beside_its_bytes(bits, tmp_path):
    for side in (8, SIDE):
        (tmp_path / f"{side}.tiff").write_bytes(uncompressed_tiff(side, bits))
    files = (str(tmp_path / "8.tiff"), str(tmp_path / f"{SIDE}.tiff"))
    result = subprocess.run(
        [sys.executable, "-c", MEASURE, *files], capture_output=True, text=True, check=True
    )
    assert int(result.stdout) < MOST_BYTES * SIDE**2
