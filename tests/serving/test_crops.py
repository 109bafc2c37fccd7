"""The square of an image that is not square: where a client moves it, and what it may not say."""

import io

import pytest
from http_client import adapted, post, refusal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatrain.data.config import DataConfig
from metatrain.data.pictures import pil_images
from metatrain.model.support import as_support

# As wide as two squares: a left one and a right one.
PAIR = Image.new("L", (32, 16))
PAIR.paste(Image.linear_gradient("L").resize((16, 16)), (0, 0))
PAIR.paste(Image.radial_gradient("L").resize((16, 16)), (16, 0))


def encoded(image):
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def given_image(client, place, index):
    return Image.open(io.BytesIO(client.get(f"{place}/given/{index}.png").content))


def test_each_image_is_cut_where_its_client_says(serve):
    client = serve()
    tall = PAIR.transpose(Image.Transpose.ROTATE_270)
    images = [("wide", encoded(PAIR)), ("tall", encoded(tall)), ("wide", encoded(PAIR))]
    place = adapted(client, images, crops="[1, 0, 0.5]", steps="1")
    expected = [PAIR.crop((16, 0, 32, 16)), tall.crop((0, 0, 16, 16)), PAIR.crop((8, 0, 24, 16))]
    for index, image in enumerate(expected):
        assert given_image(client, place, index).tobytes() == image.tobytes()
    # Without a word the central square, as `metatrain adapt` has it.
    place = adapted(client, images[:1], steps="1")
    [central] = pil_images(as_support([PAIR], DataConfig(image_size=16)).target)
    assert given_image(client, place, 0).tobytes() == central.tobytes()
    assert central.tobytes() == expected[2].tobytes()


@given(crop=st.floats(0, 1), width=st.integers(1, 70), height=st.integers(1, 70))
def test_a_crop_is_a_square_of_the_image(crop, width, height):
    image = Image.linear_gradient("L").resize((width, height))
    size = min(width, height)
    config = DataConfig(image_size=max(8, size))
    support = as_support([image], config, crops=[crop])
    offset = crop * (max(width, height) - size)
    box = (offset, 0, offset + size, size) if width > height else (0, offset, size, offset + size)
    side = (config.image_size, config.image_size)
    expected = image.resize(side, Image.Resampling.LANCZOS, box=box)
    [result] = pil_images(support.target)
    assert result.tobytes() == expected.tobytes()


@pytest.mark.parametrize(
    "crops",
    [
        *("[]", "[0, 1]", "[2]", "[-0.1]", "[NaN]", "[1e999]", "[null]", "[[0]]", "0.5", "[0"),
        *("[" * 9999, '{"0": 0}', "[" + "0," * 50_000 + "0]"),
    ],
    ids=range(13),
)
def test_what_is_no_crop_is_refused(serve, crops):
    client = serve()
    assert "crop" in refusal(post(client, [("wide", encoded(PAIR))], crops=crops), 422)
    assert client.get("/v1/adaptations").json() == []


def test_an_image_is_shown_with_what_its_crop_leaves_out(serve):
    def shown(image, **fields):
        files = [("images", ("x.png", encoded(image)))]
        return client.post("/v1/pictures", data={"model": "small", **fields}, files=files)

    client = serve()
    assert Image.open(io.BytesIO(shown(PAIR).content)).size == (16, 16)
    for size, expected in {
        (64, 32): (32, 16),
        (32, 64): (16, 32),
        (8, 24): (16, 48),
        # A strip would have millions of pixels, if its shorter side were as long as the model's.
        (1, 60_000): (1, 4096),
    }.items():
        picture = Image.open(
            io.BytesIO(shown(Image.linear_gradient("L").resize(size), whole="true").content)
        )
        assert picture.size == expected
    refusal(shown(PAIR, whole="[1]"), 422)
