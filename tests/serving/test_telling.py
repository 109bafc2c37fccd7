"""Models that are told words and a sound: beside images, without any, and what is refused."""

import io
import struct
import time

import numpy as np
import pytest
from http_client import refusal
from PIL import Image
from small_models import save

from metatrain.data.pictures import pil_images
from metatrain.data.sound.reading import read_sound
from metatrain.data.sound.wave import to_wave
from serving.models import Models

# A sound as a stranger's recorder writes it: 8 kHz, two channels.
_TONE = np.sin(np.arange(2000) / 4)
_STEREO = np.repeat((_TONE * 9000).astype("<i2"), 2).tobytes()
SOUND = (
    struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(_STEREO), b"WAVE", b"fmt ", 16, 1, 2, 8000,
                32_000, 4, 16)
    + struct.pack("<4sI", b"data", len(_STEREO)) + _STEREO
)  # fmt: skip


@pytest.fixture(scope="module")
def models(packed, tmp_path_factory):
    conditions = (
        "generator.conditions=[support, text, audio]",
        "data.conditions.audio.seconds=0.2",
    )
    folder = tmp_path_factory.mktemp("models")
    told = save(packed, folder / "told", "run.name=small", *conditions)
    plain = save(packed, folder / "plain", "run.name=plain")
    return Models([told, plain], "cpu", trust=False, loaded=2)


@pytest.fixture
def client(serve):
    return serve()


def send(client, images=(), sound=None, **fields):
    files = [("images", image) for image in images]
    files += [("audio", ("a tone.wav", sound))] if sound else []
    return client.post("/v1/adaptations", data={"model": "small", **fields}, files=files or None)


def done(client, response):
    """The place of an adaptation, once it is done."""
    assert response.status_code == 202, response.text
    place, started = response.headers["location"], time.monotonic()
    while (state := client.get(place).json())["state"] in ("waiting", "adapting"):
        assert time.monotonic() - started < 60
        time.sleep(0.02)
    assert state["state"] == "done", state["error"]
    return place


def drawn(client, place, **settings):
    """The pixels of a drawing."""
    response = client.post(f"{place}/samples", json=settings)
    assert response.status_code == 200, response.text
    [drawing] = response.json()
    picture = client.get(f"{place}/samples/{drawing['name']}.png")
    return np.asarray(Image.open(io.BytesIO(picture.content)))


def test_models_say_what_they_may_be_told(client):
    kinds = {model["name"]: model["conditions"] for model in client.get("/v1/models").json()}
    assert kinds == {"small": ["text", "audio"], "plain": []}


def pixels(images):
    return np.asarray(pil_images(images)[0])


def test_words_and_a_sound_alone_draw_what_the_library_draws(client, serve, models, tmp_path):
    place = done(client, send(client, text="a red fox", sound=SOUND))
    record = client.get(place).json()
    told = (record["given"], record["text"], record["sound"], record["steps"])
    assert told == ([], "a red fox", "a tone.wav", 0)
    assert record["previews"] == [{"step": 0, "images": 4}]
    wave = to_wave(read_sound(SOUND))
    assert client.get(f"{place}/given.wav").content == wave
    model = models["small"]
    given = {"text": "a red fox", "audio": wave}
    expected = pixels(model.sample(1, given=given, seed=3))
    assert (drawn(client, place, seed=3) == expected).all()
    # Guidance is towards what was told, since there is nothing else; and another server goes on.
    towards = {"text": 5.0, "audio": 5.0}
    expected = pixels(model.sample(1, given=given, seed=3, guidance=towards))
    again = serve()
    assert (drawn(again, place, seed=3, guidance=5) == expected).all()
    other = pixels(model.sample(1, given={**given, "text": "a hen"}, seed=3))
    assert (drawn(again, place, seed=3, text="a hen") == other).all()
    refusal(client.get(f"{place}/adapted.safetensors"), 409)
    refusal(client.get(f"{place}/pairs/0"), 422)
    refusal(client.post(f"{place}/marks", json={"drawing": "3", "mark": "good"}), 422)
    assert client.delete(place).status_code == 204
    assert not [*tmp_path.iterdir()]


def test_words_beside_images_are_adapted_to(client, models, pictures):
    place = done(client, send(client, pictures, text="stripes", sound=SOUND, steps="1"))
    given = {"text": "stripes", "audio": to_wave(read_sound(SOUND))}
    files = [data for _, data in pictures]
    adapted = models["small"].adapt(files, given=given, steps=1)
    assert (drawn(client, place, seed=3) == pixels(adapted.sample(1, seed=3))).all()
    other = drawn(client, place, seed=3, text="a hen")
    assert (other == pixels(adapted.sample(1, seed=3, given={"text": "a hen"}))).all()
    drawings = client.get(place).json()["drawings"]
    assert [d["text"] for d in drawings] == [None, "a hen"]
    refusal(client.post(f"{place}/samples", json={"text": "x" * 2001}), 422)
    # A choice is between drawings from the same words.
    name = drawings[1]["name"]
    body = {"drawing": name, "mark": "good"}
    assert "other words" in refusal(client.post(f"{place}/marks", json=body), 409)


@pytest.mark.parametrize(
    ("fields", "sound", "sentence"),
    [
        ({}, None, "there are no images"),
        ({"text": ""}, None, "'text' cannot be used: empty"),
        ({"text": "x" * 2001}, None, "text cannot be used: string should have at most 2000"),
        ({"text": "a hen", "model": "plain"}, None, "no condition of the kind text"),
        ({"model": "plain"}, SOUND, "no condition of the kind audio"),
        ({}, b"RIFF", "a tone.wav cannot be used"),
        ({}, SOUND[:44], "a tone.wav cannot be used"),
        ({}, to_wave(np.zeros(900)), "silent"),
        ({"text": "a hen", "crops": "[0.5]"}, None, "1 crop for 0 images"),
    ],
    ids=range(9),
)
def test_what_cannot_be_told_is_refused(client, fields, sound, sentence):
    assert sentence in refusal(send(client, sound=sound, **fields), 422)
    assert client.get("/v1/adaptations").json() == []


def test_a_model_without_words_draws_from_none(client, pictures):
    place = done(client, send(client, pictures, model="plain", steps="1"))
    response = client.post(f"{place}/samples", json={"text": "a hen"})
    assert "no condition of the kind text" in refusal(response, 422)
