"""Transparency is read wherever a file keeps it; a background of choice takes its place."""

import struct

import numpy as np
import pytest
import torch
from image_files import PHOTO, decoded, encoded, raw_png
from PIL import Image

import metatrain
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.data.check import check
from metatrain.data.images import BadImage, normalise, shape_of, to_array
from metatrain.data.packing.pack import pack
from metatrain.data.pictures import on_white
from metatrain.metrics.hog import Hog
from metatrain.metrics.pixels import Pixels

CLEAR, SOLID = 0, 255


def icon(colour: int, alpha: int = SOLID, hidden: int = 90) -> Image.Image:
    """A grey square on clear pixels, which have a colour of their own that nobody sees."""
    image = Image.new("RGBA", (16, 16), (hidden, 0, hidden, CLEAR))
    image.paste((colour, colour, colour, alpha), (4, 4, 12, 12))
    return image


def pixels(data: bytes) -> np.ndarray:
    return np.asarray(decoded(data))


@pytest.mark.parametrize("header", [56, 108, 124])
def test_an_alpha_that_is_0_everywhere_in_a_bitmap_is_padding(header):
    blue_green_red = np.asarray(PHOTO)[::-1, :, ::-1]
    body = np.concatenate([blue_green_red, np.zeros((*blue_green_red.shape[:2], 1), np.uint8)], 2)
    head = struct.pack("<IiiHHIIiiII", header, *PHOTO.size, 1, 32, 3, body.size, 0, 0, 0, 0)
    head += struct.pack("<IIII", 0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    start = 14 + header
    data = b"BM" + struct.pack("<IHHI", start + body.size, 0, 0, start) + head.ljust(header, b"\0")
    result = normalise(data + body.tobytes())
    assert (pixels(result.data) == np.asarray(PHOTO)).all()
    assert result.notes == ("an alpha of 0 everywhere: ignored",)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_a_transparent_grey_level_is_the_one_that_is_stored(bits):
    levels = np.arange(2**bits, dtype=np.uint8)
    row = np.packbits(np.unpackbits(levels[:, None], axis=1)[:, -bits:])
    data = raw_png(2**bits, 2, bits, 0, (b"\0" + row.tobytes()) * 2, {b"tRNS": b"\0\1"})
    expected = (levels * (255 // (2**bits - 1))).astype(np.uint8)
    expected[1] = 255
    assert (pixels(normalise(data).data) == expected).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_transparent_colour_of_16_bits_is_compared_whole(channels):
    # Of one upper byte: eight bits cannot tell them apart.
    levels = np.array([[0x1000, 0x1001, 0x1002, 0xF000]], ">u2").repeat(channels, 0).T
    key = b"\x10\x01" * channels
    colour = 0 if channels == 1 else 2
    data = raw_png(4, 1, 16, colour, b"\0" + levels.tobytes(), {b"tRNS": key})
    values = pixels(normalise(data).data).reshape(4, -1)
    assert values[:, 0].tolist() == [0x10, 255, 0x10, 0xF0]


def test_backgrounds():
    data = encoded(icon(40, alpha=128), "PNG")
    for background, outside, inside in [("white", 255, 147), ("black", 0, 20), ("auto", 255, 147)]:
        result = normalise(data, background=background)
        values = pixels(result.data)
        assert (values[0, 0] == outside).all()
        assert (abs(values[8, 8].astype(int) - inside) <= 1).all()
    assert normalise(data, background="black").notes == ("transparent: on black",)


def test_white_on_transparent_is_refused_on_white_and_auto_finds_a_background():
    data = encoded(icon(255), "PNG")
    with pytest.raises(BadImage) as caught:
        normalise(data)
    assert caught.value.reason == "transparent: a single colour on white"
    assert "another background" in caught.value.detail
    result = normalise(data, background="auto")
    assert result.notes == ("transparent: on black",)
    assert pixels(result.data)[8, 8].tolist() == [255, 255, 255]
    with pytest.raises(BadImage):
        normalise(encoded(icon(0), "PNG"), background="black")


@pytest.mark.parametrize("background", ["white", "black", "auto", "keep"])
def test_what_is_wholly_transparent_is_refused(background):
    with pytest.raises(BadImage, match="wholly transparent"):
        normalise(encoded(icon(9, alpha=CLEAR), "PNG"), background=background)


def test_single_colours_and_near_black_are_kept_with_a_note():
    red = encoded(Image.new("RGB", (9, 9), "red"), "PNG")
    assert (normalise(red).data, normalise(red).notes) == (red, ("a single colour",))
    dark = encoded(PHOTO.point(lambda level: level // 32), "PNG")
    assert (normalise(dark).data, normalise(dark).notes) == (dark, ("nearly black",))
    # One bright pixel is enough.
    spot = Image.new("L", (500, 500))
    spot.putpixel((301, 77), 255)
    assert normalise(encoded(spot, "PNG")).notes == ()


@pytest.mark.parametrize("raw", [False, True])
def test_kept_transparency_is_decoded_to_any_number_of_channels(raw):
    image = icon(40, alpha=128)
    result = normalise(encoded(image, "PNG"), 16, raw, background="keep")
    assert result.notes == ("transparent: kept",)
    assert shape_of(result.data) == (16, 16, 4)
    rgba = to_array(result.data, 16, 4)
    assert (rgba[3] == np.asarray(image)[..., 3]).all()
    # What nobody sees is white.
    assert (rgba[:3, 0, 0] == 255).all() and (rgba[:3, 8, 8] == 40).all()
    assert abs(int(to_array(result.data, 16, 3)[0, 8, 8]) - 147) <= 1
    assert abs(int(to_array(result.data, 16, 1)[0, 8, 8]) - 147) <= 1
    assert (to_array(result.data, 8, 4)[:3, 0, 0] == 255).all()


@pytest.mark.parametrize("raw", [False, True])
def test_an_opaque_image_beside_kept_transparency_has_full_alpha(raw):
    result = normalise(encoded(PHOTO, "PNG"), 64, raw, background="keep")
    rgba = to_array(result.data, 64, 4)
    assert (rgba[3] == SOLID).all()
    assert (rgba[:3] == to_array(encoded(PHOTO, "PNG"), 64, 3)).all()


def test_scores_see_transparent_images_on_white():
    rgba = torch.rand(2, 5, 4, 16, 16) * 2 - 1
    seen = on_white(rgba)
    assert seen.shape == (2, 5, 3, 16, 16)
    rgba[..., 3, :, :] = 1
    assert torch.equal(on_white(rgba), rgba[..., :3, :, :])
    rgba[..., 3, :, :] = -1
    assert (on_white(rgba) == 1).all()
    for space in (Hog(), Pixels()):
        assert torch.equal(space.features(rgba), space.features(torch.ones(2, 5, 3, 16, 16)))


@pytest.fixture(scope="module")
def sprites(tmp_path_factory) -> str:
    """A folder of sprites: a task is a shade, an image a place."""
    source = tmp_path_factory.mktemp("sprites")
    for task in range(12):
        (source / f"task-{task:02d}").mkdir()
        for image in range(8):
            sprite = Image.new("RGBA", (16, 16), (90, 0, 90, CLEAR))
            place = (image, image % 4, image + 6, image % 4 + 8)
            sprite.paste((20 * task, 255 - 20 * task, 99, 160 + 10 * image), place)
            sprite.save(source / f"task-{task:02d}" / f"{image}.png")
    return str(source)


def test_sprites_are_packed_trained_on_adapted_to_and_generated(sprites, tmp_path, capsys):
    torch.set_num_threads(1)
    data, out = f"{tmp_path}/data", tmp_path / "generated.png"
    command = ["pack", sprites, data, "--size", "16", "--background", "keep"]
    assert run("metatrain", COMMANDS, command) == 0
    assert "96 transparent: kept" in capsys.readouterr().out
    assert check(data).faults == []
    config = metatrain.load_config(
        None,
        [
            "run.name=sprites", f"run.dir={tmp_path}/runs", f"data.path={data}", "data.channels=4",
            "data.image_size=16", "data.shots=3", "data.queries=3", "generator.width=8",
            "inner.steps=1", "meta.steps=1", "meta.warmup=0", "adapt.steps=2",
            "objective.sampler.steps=2", "validation.tasks=2", "validation.images=2",
        ],
    )  # fmt: skip
    metatrain.train(config, device="cpu")
    model = metatrain.load(f"{tmp_path}/runs/sprites")
    adapted = model.adapt(f"{sprites}/task-03")
    assert adapted.sample(2).shape == (2, 4, 16, 16)
    adapted.save(f"{tmp_path}/adapted.safetensors")
    command = ["generate", f"{tmp_path}/adapted.safetensors", "-n", "4", "--out", str(out)]
    assert run("metatrain", COMMANDS, command) == 0
    assert Image.open(out).mode == "RGBA"
    command[-1] = f"{tmp_path}/generated.jpg"  # which has no transparency
    assert run("metatrain", COMMANDS, command) == 0
    assert Image.open(command[-1]).mode == "RGB"


def test_a_data_set_with_a_background_is_not_added_to_with_another(sprites, tmp_path):
    dest = f"{tmp_path}/data"
    pack(sprites, dest, background="black")
    assert pack(sprites, dest, background="black").already_packed
    with pytest.raises(metatrain.UserError, match="other options"):
        pack(sprites, dest)
