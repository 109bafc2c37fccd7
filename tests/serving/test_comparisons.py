"""Pairs of drawings over HTTP: their turns, what survives a restart, and learning from answers."""

import io
import json
import time
import zipfile

import pytest
from http_client import BEARER, HOST, TOKEN, adapted, refusal
from PIL import Image
from small_models import save
from starlette.testclient import TestClient

from metatrain.preferences.choices import read_choices
from serving.accounts import Account
from serving.api import Api
from serving.comparisons import turn_of
from serving.guard import Guard
from serving.limits import Limits, Quota
from serving.models import Models
from serving.worker import Worker

ID = "x" * 22


def test_one_pair_in_ten_comes_again_on_random_sides():
    turns = [turn_of(ID, number) for number in range(1000)]
    repeated = [number for number, turn in enumerate(turns) if turn.repeated]
    assert repeated == list(range(9, 1000, 10))
    seen = [{turn.left, turn.right} for turn in turns]
    for number in repeated:
        # One of the last ten, but not of the last one, and no pair comes thrice.
        assert seen.count(seen[number]) == 2
        assert 2 <= number - seen.index(seen[number]) <= 9
    assert all(seen.count(seen[n]) <= 2 for n in range(100))
    on_the_left = sum(turn.left < turn.right for turn in turns)
    assert 400 < on_the_left < 600
    sides = {turns[n].left == turns[seen.index(seen[n])].left for n in repeated}
    assert sides == {True, False}
    assert turns != [turn_of("y" * 22, number) for number in range(1000)]


def answer(client, place, number, better, seconds=0.5):
    body = {"number": number, "answer": better, "seconds": seconds}
    return client.post(f"{place}/choices", json=body)


def brightness(client, place, sha256):
    content = client.get(f"{place}/images/{sha256}.png").content
    image = Image.open(io.BytesIO(content)).convert("L")
    return sum(image.tobytes()) / len(image.tobytes())


@pytest.mark.long
def test_answers_outlive_a_restart_and_teach(serve, pictures, tmp_path):
    client = serve()
    place = adapted(client, pictures, steps="1")
    for number in range(5):
        pair = client.get(f"{place}/pairs/{number}").json()
        assert set(pair) == {"number", "left", "right"}
        counts = {"choices": number + 1, "decided": number + 1}
        assert answer(client, place, number, "left").json() == counts
    # Another server on the same folder goes on with the same pairs.
    ahead = client.get(f"{place}/pairs/5").json()
    client = serve()
    assert client.get(place).json()["choices"] == 5
    assert client.get(f"{place}/pairs/5").json() == ahead
    refusal(client.post(f"{place}/preferences"), 409)
    for number in range(5, 24):
        pair = client.get(f"{place}/pairs/{number}").json()
        bright = [brightness(client, place, pair[side]) for side in ("left", "right")]
        better = "left" if bright[0] > bright[1] else "right"
        assert answer(client, place, number, better).status_code == 201
    [file] = tmp_path.glob("*/choices.jsonl")
    choices = read_choices(str(file))
    assert [c.repeated for c in choices] == [n % 10 == 9 for n in range(24)]
    assert all(c.seconds == 0.5 for c in choices)
    data = client.get(f"{place}/choices.zip").content
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.read("choices.jsonl") == file.read_bytes()
        images = {f"images/{sha256}.png" for c in choices for sha256 in c.pair}
        assert set(archive.namelist()) == {"choices.jsonl", *images}
    response = client.post(f"{place}/preferences")
    assert response.status_code == 202
    preferred, started = response.headers["location"], time.monotonic()
    # After the first check: all of it takes long.
    assert client.post(f"{preferred}/stop").status_code == 202
    while client.get(preferred).json()["state"] in ("waiting", "adapting"):
        assert time.monotonic() - started < 120
        assert client.get("/healthz").status_code == 200
        time.sleep(0.1)
    record, before = client.get(preferred).json(), client.get(place).json()
    assert record["origin"] == before["id"]
    assert record["given"] == before["given"]
    assert "Repeated pairs that had the same answer again: " in record["report"][0]
    # Random drawings of an untrained model may teach nothing, and then that is said.
    if record["state"] == "failed":
        assert "choose between more" in record["error"]
    else:
        assert client.post(f"{preferred}/samples", json={"seed": 3}).status_code == 200
        assert client.get(f"{preferred}/pairs/0").status_code == 200


def test_answers_come_in_their_order_and_once(serve, pictures):
    client = serve(choices=3)
    place = adapted(client, pictures, steps="1")
    refusal(client.get(f"{place}/pairs/2"), 409)
    refusal(client.get(f"{place}/choices.zip"), 409)
    assert "pair 0" in refusal(answer(client, place, 1, "left"), 409)
    # Also a pair that this server has not drawn yet, as after a restart.
    assert answer(client, place, 0, "skip").status_code == 201
    assert "not the next" in refusal(answer(client, place, 0, "left"), 409)
    for number in (1, 2):
        assert answer(client, place, number, "tie").status_code == 201
    assert "enough" in refusal(client.get(f"{place}/pairs/3"), 409)
    assert "enough" in refusal(answer(client, place, 3, "left"), 409)
    assert client.get(place).json()["choices"] == 3


def test_only_pairs_with_a_winner_count(serve, pictures):
    client = serve()
    place = adapted(client, pictures, steps="1")
    # The last of ten answers is about a pair that has one.
    for number in range(10):
        counts = answer(client, place, number, "left").json()
    assert counts["choices"] == 10
    assert counts["decided"] in (8, 9)  # the repeated pair may have lost its winner
    assert f"marks: {counts['decided']}, " in refusal(client.post(f"{place}/preferences"), 409)
    answer(client, place, 10, "tie")
    counts |= {"choices": 11}
    assert client.get(place).json().items() >= counts.items()
    assert serve().get(place).json().items() >= counts.items()
    answer(client, place, 11, "left")
    answer(client, place, 12, "left")
    assert client.post(f"{place}/preferences").status_code == 202


def test_what_can_learn_from_no_choices_offers_none(packed, pictures, tmp_path):
    model = save(packed, tmp_path / "model", "run.name=small", "inner.scope.name=context")
    worker, account = Worker(4), Account(tmp_path / "state", Quota())
    models = Models([model], "cpu", trust=False, loaded=2)
    api = Api(models=models, accounts=[account], worker=worker, limits=Limits())
    app = Guard(api.app(), accounts={TOKEN: account}, requests=8)
    with TestClient(app, base_url=HOST, headers=BEARER) as client:
        place = adapted(client, pictures, steps="1")
        assert "its scope context" in refusal(client.get(f"{place}/pairs/0"), 422)
        assert "its scope context" in refusal(answer(client, place, 0, "left"), 422)
        assert client.get(place).json()["choices"] == 0
    worker.close()


@pytest.mark.parametrize(
    "body",
    [
        {"number": 0, "answer": "both", "seconds": 1},
        {"number": -1, "answer": "left", "seconds": 1},
        {"number": 0, "answer": "left", "seconds": -1},
        {"number": 0, "answer": "left", "seconds": 1e99},
        {"number": 0, "answer": "left"},
        {"number": 0, "answer": "left", "seconds": 1, "repeated": True},
    ],
    ids=range(6),
)
def test_answers_are_checked(serve, pictures, body):
    client = serve()
    place = adapted(client, pictures, steps="1")
    refusal(client.post(f"{place}/choices", content=json.dumps(body)), 422)
    assert client.get(place).json()["choices"] == 0


@pytest.mark.parametrize("name", ["0" * 64, "..", "x", "%2e%2e%2fadaptation"])
def test_only_drawings_of_pairs_are_images(serve, pictures, name):
    client = serve()
    place = adapted(client, pictures, steps="1")
    assert client.get(f"{place}/images/{name}.png").status_code == 404
