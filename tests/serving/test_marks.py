"""Marks of drawings over HTTP: what survives, what they become, and what is refused."""

import io
import zipfile

import pytest
from http_client import adapted, refusal

from metatrain.preferences.choices import read_lines


@pytest.fixture
def client(serve):
    return serve(marks=12)


@pytest.fixture
def place(client, pictures):
    place = adapted(client, pictures, steps="1")
    client.post(f"{place}/samples", json={"count": 4})
    return place


def mark(client, place, drawing, kind):
    return client.post(f"{place}/marks", json={"drawing": drawing, "mark": kind})


def test_marks_are_on_disk_once_they_are_answered(client, serve, place, tmp_path):
    marks = {}
    for drawing, kind in (("0", "good"), ("1", "bad"), ("2", "good"), ("0", "none"), ("2", "bad")):
        marks[drawing] = kind
        response = mark(client, place, drawing, kind)
        assert response.status_code == 201
        expected = {name: m for name, m in marks.items() if m != "none"}
        # Another process that begins here, as after a kill, has all that was answered.
        for state in (response.json(), client.get(place).json(), serve().get(place).json()):
            assert state["marks"] == expected
    assert client.get(place).json()["choices"] == 0
    [listed] = client.get("/v1/adaptations").json()
    assert not {"marks", "drawings"} & {*listed}
    [file] = tmp_path.glob("*/choices.jsonl")
    last = [(line.drawing, line.mark) for line in read_lines(str(file))][-2:]
    assert last == [("0", "none"), ("2", "bad")]
    data = client.get(f"{place}/choices.zip").content
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        images = {f"images/{line.image.sha256}.png" for line in read_lines(str(file))}
        assert set(archive.namelist()) == {"choices.jsonl", *images}


def test_each_drawing_is_in_one_pair(client, place):
    for drawing, kind in (("0", "good"), ("1", "bad"), ("2", "good"), ("3", "good")):
        decided = mark(client, place, drawing, kind).json()["decided"]
    assert decided == 1
    assert mark(client, place, "2", "bad").json()["decided"] == 2
    assert client.get(place).json()["decided"] == 2
    assert "marks: 2" in refusal(client.post(f"{place}/preferences"), 409)


def test_only_drawings_are_marked(client, place):
    refusal(mark(client, place, "9", "good"), 404)
    refusal(mark(client, place, "../0", "good"), 404)
    refusal(mark(client, place, "0", "best"), 422)
    refusal(client.post(f"{place}/marks", json={"drawing": 0, "mark": "good"}), 422)
    refusal(client.get(f"{place}/choices.zip"), 409)
    for _ in range(12):
        assert mark(client, place, "0", "good").status_code == 201
    assert "enough" in refusal(mark(client, place, "0", "bad"), 409)
