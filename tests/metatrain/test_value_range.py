"""Images of more than 8 bits: declared ranges, the range of a task, and what is not finite."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from image_files import decoded, encoded, raw_png
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.data.decoding.levels import Levels, ValueExtent
from metatrain.data.images import BadImage, extent_of, normalise
from metatrain.data.packed.manifest import SPLITS
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.packing.pack import pack
from metatrain.data.task_levels import levels_of

RAMP = np.linspace(8, 4088, 48).reshape(6, 8).astype(np.uint16)


def tiff(values: np.ndarray, **tags: int) -> bytes:
    numbers = {"least": 280, "greatest": 281}
    directory = ImageFileDirectory_v2()
    for name, value in tags.items():
        directory[numbers[name]] = value
        directory.tagtype[numbers[name]] = 3
    return encoded(Image.fromarray(values), "TIFF", tiffinfo=directory)


def normalised(data: bytes, **options) -> np.ndarray:
    return np.asarray(decoded(normalise(data, **options).data))


@pytest.mark.parametrize("bits", range(8, 17))
@pytest.mark.parametrize("kind", ["TIFF", "PNG"])
def test_counts_of_a_sensor_are_scaled_by_its_bits(kind, bits):
    values = np.linspace(0, 2**bits - 1, 48).reshape(6, 8).astype(np.uint16)
    result = normalised(encoded(Image.fromarray(values), kind))
    assert (result == values >> (bits - 8)).all()


def test_a_declared_range_holds_for_a_dark_image():
    dark = RAMP // 16
    assert (normalised(tiff(dark, greatest=4095)) == dark >> 4).all()
    # Some writers give the greatest value that occurs: the bits are the same.
    assert (normalised(tiff(RAMP, greatest=3871)) == RAMP >> 4).all()
    # The default says nothing.
    assert (normalised(tiff(RAMP, greatest=65535)) == RAMP >> 4).all()


def test_channels_of_16_bits_in_a_png_are_scaled_by_the_bits_of_all():
    values = np.stack([RAMP, RAMP[::-1], RAMP // 2], -1)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    assert (normalised(raw_png(8, 6, 16, 2, rows)) == values >> 4).all()


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("compression", [1, 8])
@pytest.mark.parametrize("channels", [3, 4])
def test_channels_of_16_bits_in_a_tiff_are_scaled_by_the_bits_of_all(channels, compression, order):
    values = np.stack([RAMP, RAMP[::-1], RAMP // 2, RAMP // 3][:channels], -1)
    expected = values >> 4
    if channels == 4:  # CMYK
        four = Image.frombytes("CMYK", (8, 6), expected.astype(np.uint8).tobytes())
        expected = np.asarray(four.convert("RGB"))
    body = values.astype(f"{order}u2").tobytes()
    body = zlib.compress(body) if compression == 8 else body
    body += bytes(len(body) % 2)
    start, colours = 8 + 2 * channels, 2 if channels == 3 else 5
    entries = [
        *((256, 3, 1, 8), (257, 3, 1, 6), (258, 3, channels, 8), (259, 3, 1, compression)),
        *((262, 3, 1, colours), (273, 4, 1, start), (277, 3, 1, channels), (278, 3, 1, 6)),
        (279, 4, 1, len(body)),
    ]
    magic = b"II*\0" if order == "<" else b"MM\0*"
    head = magic + struct.pack(f"{order}I", start + len(body))
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        packed = struct.pack(f"{order}{'H' if kind == 3 and count == 1 else 'I'}", value)
        directory += struct.pack(f"{order}HHI", tag, kind, count) + packed.ljust(4, b"\0")
    data = head + struct.pack(f"{order}{channels}H", *[16] * channels) + body + directory + bytes(4)
    assert (normalised(data) == expected).all()


def test_alpha_of_16_bits_keeps_its_upper_byte():
    alpha = np.full_like(RAMP, 65535)
    values = np.stack([RAMP, RAMP, RAMP, alpha], -1).astype(">u2")
    data = raw_png(8, 6, 16, 6, b"".join(b"\0" + row.tobytes() for row in values))
    assert (normalised(data) == (RAMP >> 4)[..., None]).all()


def test_a_white_that_is_zero_is_inverted():
    data = bytearray(tiff(RAMP))
    at = data.index(struct.pack("<HHI", 262, 3, 1)) + 8
    data[at] = 0
    assert (normalised(bytes(data)) == 255 - (RAMP >> 4)).all()


@given(
    arrays(np.float32, (4, 5), elements=st.floats(-1e6, 1e6, width=32)),
    st.sampled_from([np.nan, np.inf, -np.inf]),
)
def test_a_value_that_is_not_finite_changes_no_other(values, odd):
    values[0, 1] = values[0, 0] + 1 + abs(values[0, 0])  # Not a single colour.
    spoilt = values.copy()
    spoilt[3, 4] = odd
    values[3, 4] = values[0, 0]
    result = normalise(tiff(spoilt))
    assert "values that are no finite numbers: clipped" in result.notes
    pixels = np.asarray(decoded(result.data))
    assert pixels[3, 4] == (255 if odd == np.inf else 0)
    assert (pixels.ravel()[:-1] == normalised(tiff(values)).ravel()[:-1]).all()


def test_an_image_without_a_finite_value_is_refused():
    with pytest.raises(BadImage, match="no value is a finite number"):
        normalise(tiff(np.full((3, 3), np.nan, np.float32)))


def test_images_of_one_task_stay_comparable():
    dark, bright = np.float32([[0, 1]]), np.float32([[2, 4]])
    files = [tiff(dark), tiff(bright)]
    readers = [lambda file=file: file for file in files]

    def of_both(value_range) -> list[list[int]]:
        levels = levels_of(readers, value_range)
        return [normalised(file, levels=levels)[0].tolist() for file in files]

    assert of_both("per-task") == [[0, 64], [128, 255]]
    assert of_both("per-image") == [[0, 255], [0, 255]]
    assert of_both((1.0, 3.0)) == [[0, 0], [128, 255]]


@given(st.lists(arrays(np.uint16, (2, 3)), min_size=1, max_size=4))
def test_the_levels_of_a_task_are_those_of_all_its_values(images):
    readers = [lambda image=image: tiff(image) for image in images]
    bits = max(8, int(max(image.max() for image in images)).bit_length())
    levels = levels_of([*readers, lambda: b"no image"])
    for image in images:
        extent = extent_of(tiff(image))
        assert extent == ValueExtent("16-bit", image.min(), image.max())
        assert levels(extent) == Levels(0, 2**bits - 1)


def test_packing_takes_a_range(tmp_path, capsys):
    for task, factor in (("bright", 1), ("dim", 1)):
        (tmp_path / "scans" / task).mkdir(parents=True)
        for image in range(2):
            values = (RAMP * factor) >> (3 * image)
            (tmp_path / "scans" / task / f"{image}.tif").write_bytes(tiff(values))

    def packed(*options: str) -> list[np.ndarray]:
        dest = f"{tmp_path}/{'-'.join(options)}"
        command = ["pack", f"{tmp_path}/scans", dest, *options]
        assert run("metatrain", COMMANDS, command) == 0
        store = EpisodeStore(dest)
        [task, _] = (task for split in SPLITS for task in store.tasks(split))
        return [np.asarray(Image.open(io.BytesIO(image))) for image in store.read(task)]

    assert [image.max() for image in packed("--range=per-task")] == [255, 31]
    assert [image.max() for image in packed("--range=per-image")] == [255, 255]
    assert [image.max() for image in packed("--range=0,65535")] == [15, 1]
    assert "nearly black" in capsys.readouterr().err
    for wrong in ("5", "5,1", "a,b", "nan,1"):
        with pytest.raises(SystemExit):
            run("metatrain", COMMANDS, ["pack", "a", "b", f"--range={wrong}"])
    assert "is not per-task, per-image or MIN,MAX" in capsys.readouterr().err


def test_pack_from_python_takes_a_range(tmp_path):
    (tmp_path / "scans" / "a").mkdir(parents=True)
    (tmp_path / "scans" / "a" / "0.tif").write_bytes(tiff(RAMP))
    pack(f"{tmp_path}/scans", f"{tmp_path}/set", value_range=(0, 4095))
    again = pack(f"{tmp_path}/scans", f"{tmp_path}/set", value_range=(0, 4095))
    assert again.already_packed
    [task] = EpisodeStore(f"{tmp_path}/set").tasks("train")
    [image] = EpisodeStore(f"{tmp_path}/set").read(task)
    assert (np.asarray(decoded(image)) == RAMP >> 4).all()
    for wrong in ((3.0, 1.0), "per-split"):
        with pytest.raises(UserError, match="value_range is"):
            pack(f"{tmp_path}/scans", f"{tmp_path}/other", value_range=wrong)
    with pytest.raises(UserError, match="background is 'grey'"):
        pack(f"{tmp_path}/scans", f"{tmp_path}/other", background="grey")
