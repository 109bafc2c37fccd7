"""Mutated requests to the HTTP API: an answer that is no failure of the server's, soon."""

import json
from urllib.parse import quote

import pytest
from fuzzing import FEWER, TIMEOUT, altered, bounds, damaged
from http_client import adapted
from hypothesis import given
from hypothesis import strategies as st

from serving.adaptations import Adaptations
from serving.limits import Quota
from serving.records import Record

pytestmark = TIMEOUT

MULTIPART = {"content-type": "multipart/form-data; boundary=b"}
PATHS = st.text(st.characters(codec="utf-8"), max_size=20).map(lambda text: quote(text, safe="/%?"))


def answered(client, method, path, **options):
    """Send a request, and hold its answer against what every client relies on."""
    with bounds():
        response = client.request(method, path, **options)
    assert response.status_code < 500
    if response.status_code >= 400 and method != "HEAD":
        assert response.json()["error"]
    return response


@pytest.fixture
def full(serve, pictures):
    """A client of a server that takes no job any more, and the place of an adaptation there."""
    place = adapted(serve(), pictures, steps="1")
    return serve(waiting=0), place


def multipart(pictures):
    fields = {"model": "small", "steps": "1", "seed": "0"}
    parts = [
        f'--b\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, value in fields.items()
    ]
    for name, data in pictures[:2]:
        head = f'--b\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'
        parts.append(head.encode() + data + b"\r\n")
    return b"".join(parts) + b"--b--\r\n"


@given(data=st.data())
@FEWER
def test_a_request_with_images(full, pictures, data):
    client, _ = full
    whole = multipart(pictures)
    # Most changes within the heads of parts, of which an image hides all others.
    cut = data.draw(st.sampled_from([len(whole), 300]))
    content = data.draw(damaged(whole[:cut])) + whole[cut:]
    path = data.draw(st.sampled_from(["/v1/adaptations", "/v1/pictures"]))
    answered(client, "POST", path, content=content, headers=MULTIPART)


@given(data=st.data())
@FEWER
def test_a_body_of_json(full, data):
    client, place = full
    body = data.draw(
        st.sampled_from(
            [
                {"count": 1, "seed": 0, "steps": 1, "guidance": 1.0},
                {"kept": True},
                {"number": 0, "answer": "left", "seconds": 1.5},
            ]
        )
    )
    whole = json.dumps(body).encode()
    alter = altered(body).map(lambda values: json.dumps(values).encode())
    content = data.draw(st.one_of(alter, damaged(whole)))
    if "kept" in body:
        answered(client, "PATCH", f"{place}/samples/0", content=content)
    else:
        path = "choices" if "answer" in body else "samples"
        answered(client, "POST", f"{place}/{path}", content=content)


@given(data=st.data())
@FEWER
def test_a_path(full, data):
    client, place = full
    path = data.draw(PATHS)
    start = data.draw(st.sampled_from(["/", f"{place}/", f"{place}/samples/", "/page/", "/v1/"]))
    method = data.draw(st.sampled_from(["GET", "GET", "HEAD", "POST", "PATCH", "DELETE"]))
    if method == "DELETE" and start == "/v1/":
        return  # of the adaptation that all examples share
    answered(client, method, start + path)


@given(data=st.data())
@FEWER
def test_the_folder_of_a_studio(tmp_path_factory, data):
    record = Record(id="x" * 22, model="m", created=0, given=("a",), seed=0, steps=2, state="done")
    folder = tmp_path_factory.mktemp("state")
    (folder / record.id).mkdir()
    whole = record.model_dump_json().encode()
    alter = altered(json.loads(whole)).map(lambda values: json.dumps(values).encode())
    (folder / record.id / "adaptation.json").write_bytes(
        data.draw(st.one_of(alter, damaged(whole)))
    )
    with bounds():
        try:
            for adaptation in Adaptations(folder, Quota()):
                json.dumps(adaptation.record.model_dump(), allow_nan=False)
        except ValueError as error:
            assert "cannot be read; remove the folder" in str(error)
