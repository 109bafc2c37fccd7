"""Decoding on all cores: the order, the bytes and the memory of one."""

import io
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from metatrain.data.images import BadImage, NormalisedImage, normalise
from metatrain.data.packing import decode_ahead as module
from metatrain.data.packing.decode_ahead import decode_ahead
from metatrain.data.packing.pack import pack
from metatrain.data.packing.raw_images import RawImage
from metatrain.data.packing.read_ahead import ReadImage


@pytest.fixture(autouse=True)
def four_cores(monkeypatch) -> None:
    monkeypatch.setattr(module, "cores", lambda: 4)


def reads(contents: list[bytes | BadImage]) -> list[ReadImage]:
    images = [RawImage("task", str(number), bytes, {}) for number in range(len(contents))]
    return [ReadImage(image, content) for image, content in zip(images, contents, strict=True)]


def png(side: int) -> bytes:
    """Return a PNG of one colour, of a few bytes whatever its side."""
    buffer = io.BytesIO()
    Image.new("1", (side, side)).save(buffer, "PNG")
    return buffer.getvalue()


class Watch:
    """A normaliser that takes a while, and counts how many run at once."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self._lock = threading.Lock()

    def __call__(self, data: bytes) -> NormalisedImage:
        with self._lock:
            self.running += 1
            self.most = max(self.most, self.running)
        time.sleep(0.1)
        with self._lock:
            self.running -= 1
        return NormalisedImage(data, 1, 1, 8, (), normalise(png(8)).fingerprint)


def test_images_come_in_their_order_and_refused_ones_with_their_reason():
    refused = BadImage("cannot be read")
    contents = [b"no image", refused, png(8), png(9), b""]
    decoded = list(decode_ahead((read, normalise) for read in reads(contents)))
    assert [one.image.name for one in decoded] == ["0", "1", "2", "3", "4"]
    assert [type(one.result) for one in decoded[:2]] == [BadImage, BadImage]
    assert decoded[1].result is refused
    assert isinstance(decoded[3].result, NormalisedImage)
    assert decoded[3].result.width == 9


def test_small_images_are_decoded_at_once_and_large_ones_one_after_the_other():
    for side, several in ((8, True), (3000, True), (6000, False)):
        watch = Watch()
        list(decode_ahead((read, watch) for read in reads([png(side)] * 5)))
        assert (watch.most > 1) is several


def test_an_error_of_the_program_is_not_taken_for_a_bad_image():
    def fail(_: bytes) -> NormalisedImage:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(decode_ahead((read, fail) for read in reads([png(8)] * 9)))


def test_the_number_of_cores_changes_no_byte(images, tmp_path, monkeypatch):
    bytes_by_cores = []
    for cores in (1, 4):
        monkeypatch.setattr(module, "cores", lambda cores=cores: cores)
        out = tmp_path / str(cores)
        pack(images, out)
        bytes_by_cores.append({file.name: file.read_bytes() for file in Path(out).iterdir()})
    assert bytes_by_cores[0] == bytes_by_cores[1]
