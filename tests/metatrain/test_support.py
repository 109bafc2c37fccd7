"""Supports from files, PIL images, arrays and tensors: the same pixels, or a sentence."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatrain.base.errors import UserError
from metatrain.data.config import DataConfig
from metatrain.data.examples import Examples
from metatrain.data.pictures import pil_images
from metatrain.model.support import as_support

SIZE = 16
GREY = DataConfig(image_size=SIZE)
COLOUR = DataConfig(image_size=SIZE, channels=3)


def pixels(count=3, channels=1):
    stream = np.random.default_rng(0)
    return stream.integers(0, 256, (count, SIZE, SIZE, channels), dtype=np.uint8)


@pytest.mark.parametrize(("config", "channels"), [(GREY, 1), (COLOUR, 3)])
def test_every_kind_of_images_gives_the_same_support(config, channels, tmp_path):
    arrays = pixels(channels=channels)
    pictures = [Image.fromarray(array.squeeze()) for array in arrays]
    for i, picture in enumerate(pictures):
        picture.save(tmp_path / f"{i}.png")
    tensors = torch.from_numpy(arrays).permute(0, 3, 1, 2)
    floats = tensors.float() / 127.5 - 1
    expected = as_support(tmp_path, config).target
    assert torch.equal(expected, floats)
    for images in (
        str(tmp_path),
        [tmp_path / f"{i}.png" for i in range(3)],
        [str(tmp_path / "0.png"), pictures[1], arrays[2]],
        pictures,
        arrays,
        list(arrays),
        tensors,
        list(tensors),
        floats,
        floats.double(),
        floats.permute(0, 2, 3, 1).numpy(),
        Examples(floats),
    ):
        assert torch.equal(as_support(images, config).target, expected)
    for image in (tmp_path / "0.png", pictures[0], arrays[0], tensors[0], floats[0]):
        assert torch.equal(as_support(image, config).target, expected[:1])
    grey = pixels(1)[0, :, :, 0]
    assert torch.equal(as_support(grey, GREY).target, as_support(torch.tensor(grey), GREY).target)
    unit = as_support(tensors / 255, config, (0, 1)).target
    torch.testing.assert_close(unit, expected, rtol=0, atol=1e-6)


@given(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "I", "F"]))
def test_a_pil_image_of_any_mode_is_what_its_file_is(tmp_path_factory, mode):
    file = tmp_path_factory.mktemp("modes") / "image.tiff"
    image = Image.fromarray(pixels(1, 3)[0]).resize((40, 30)).convert("L" if ";" in mode else "RGB")
    image = image.convert(mode)
    image.save(file)
    for config in (GREY, COLOUR):
        assert torch.equal(as_support(image, config).target, as_support(file, config).target)


def test_transparency_and_orientation_are_seen_in_pil_images_too(tmp_path):
    palette = Image.fromarray(pixels(1, 3)[0]).quantize(8)
    palette.info["transparency"] = 0
    turned = Image.fromarray(pixels(1)[0, :, :, 0])
    exif = turned.getexif()
    exif[0x0112] = 6
    for name, image, options in (("a.png", palette, {}), ("b.png", turned, {"exif": exif})):
        image.save(tmp_path / name, **options)
        opened = as_support(Image.open(tmp_path / name), COLOUR).target
        assert torch.equal(opened, as_support(tmp_path / name, COLOUR).target)


def test_images_that_were_sampled_can_be_adapted_to():
    images = torch.rand(2, 3, SIZE, SIZE) * 2 - 1
    torch.testing.assert_close(
        as_support(pil_images(images), COLOUR).target, images, rtol=0, atol=1 / 255 + 1e-6
    )


@pytest.mark.parametrize(
    ("images", "sentence"),
    [
        ([], "there are no images to adapt to; give at least one."),
        ("{tmp}/none", "there is no folder {tmp}/none; give a folder with a handful of images."),
        ("{tmp}", "{tmp} holds no images; put a handful of images of one thing there."),
        (np.zeros((2, 8, 8, 1), np.uint8), "image 1 is 8 x 8 pixels, and the model takes 16 x 16"),
        (np.zeros((SIZE, SIZE, 3), np.uint8), "image 1 has 3 channels, and the model takes 1"),
        (torch.zeros(SIZE, SIZE, 1), "image 1 is 16 x 1 pixels, and the model takes 16 x 16"),
        (np.zeros(5, np.uint8), "image 1 has the shape [5]; an array is [H, W] or [H, W, C]"),
        (torch.zeros(1, SIZE, SIZE, dtype=torch.int64), "image 1 has values of type int64; give"),
        (np.zeros((SIZE, SIZE), object), "image 1 has values of type object; give uint8"),
        ([{"a": 1}], "image 1 is a dict; give a file, a PIL image, an array or a tensor."),
        (torch.full((1, SIZE, SIZE), 1.5), "image 1 has values from 1.5 to 1.5, and floats are"),
        (torch.full((1, SIZE, SIZE), torch.nan), "image 1 has values from nan to nan, and floats"),
        (torch.full((1, SIZE, SIZE), 0.5), "these floats have no negative value, so they may be"),
        (Examples(torch.zeros(1, 1, 8, 8)), "the support is 8 x 8 pixels, and the model takes"),
    ],
)
def test_what_cannot_be_used_is_named_in_a_sentence(images, sentence, tmp_path):
    def placed(text):
        return text.replace("{tmp}", str(tmp_path))

    with pytest.raises(UserError) as error:
        as_support(placed(images) if isinstance(images, str) else images, GREY)
    assert placed(sentence) in str(error.value)


def test_a_range_that_is_given_is_held_to():
    image = torch.full((1, SIZE, SIZE), 0.5)
    assert as_support(image, GREY, (-1, 1)).target.eq(0.5).all()
    assert as_support(image, GREY, (0, 1)).target.eq(0).all()
    with pytest.raises(UserError, match="floats are from 0 to 0"):
        as_support(image, GREY, (0, 0.4))
    with pytest.raises(UserError, match="give the lowest value first"):
        as_support(image, GREY, (1, 0))


def test_colours_that_a_grey_model_drops_are_told_once(caplog):
    coloured = [Image.fromarray(array) for array in pixels(channels=3)]
    grey = [picture.convert("L").convert("RGB") for picture in coloured]
    as_support(coloured, COLOUR)
    as_support(grey, GREY)
    assert not caplog.text
    as_support([grey[0], *coloured[1:]], GREY)
    [record] = caplog.records
    assert "the colours of image 2 and 1 other image are dropped" in record.message


def test_a_folders_damaged_images_are_passed_over_as_packing_does_and_named_ones_refused(
    tmp_path, caplog
):
    for number, array in enumerate(pixels()):
        Image.fromarray(array.squeeze()).save(tmp_path / f"{number}.png")
    expected = as_support(tmp_path, GREY).target
    whole = (tmp_path / "0.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "Thumbs.db").write_bytes(b"x")
    assert torch.equal(as_support(tmp_path, GREY).target, expected)
    assert f"passed over {tmp_path}/cut.png: corrupt or truncated" in caplog.text
    assert "Thumbs" not in caplog.text
    with pytest.raises(UserError, match=r"cut\.png cannot be used: corrupt"):
        as_support([tmp_path / "0.png", tmp_path / "cut.png"], GREY)
    for number in range(3):
        (tmp_path / f"{number}.png").unlink()
    with pytest.raises(UserError, match=r"cut\.png cannot be used: corrupt"):
        as_support(tmp_path, GREY)
