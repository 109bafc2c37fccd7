"""A client of the HTTP API: its token, its requests, and how it reads their answers."""

import time

TOKEN = "token-of-this-test"
HOST = "http://127.0.0.1:8000"
BEARER = {"authorization": f"Bearer {TOKEN}"}


def post(client, pictures, **fields):
    files = [("images", (name, data)) for name, data in pictures]
    return client.post("/v1/adaptations", data={"model": "small", **fields}, files=files)


def adapted(client, pictures, **fields):
    """The place of an adaptation that is done."""
    response = post(client, pictures, **fields)
    assert response.status_code == 202, response.text
    place, started = response.headers["location"], time.monotonic()
    while client.get(place).json()["state"] in ("waiting", "adapting"):
        assert time.monotonic() - started < 60
        time.sleep(0.02)
    assert client.get(place).json()["state"] == "done"
    return place


def refusal(response, status):
    """The sentence of an error, which ends as one."""
    assert response.status_code == status, response.text
    sentence = response.json()["error"]
    assert sentence.endswith(".")
    return sentence
