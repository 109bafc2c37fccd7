"""The front of a service on a Ray cluster, in this process, where nothing computes."""

import argparse
import asyncio
import time
from typing import Any

import httpx2
import pytest
from http_client import BEARER, HOST, TOKEN
from small_models import save

from metatrain.storage import lease as lease_module
from metatrain.storage.conditional import read_stored, replace
from metatrain.storage.lease import LostError
from metatrain.storage.lease_holder import this_holder
from serving.commands import SERVE, service_settings
from serving.tokens import Client


@pytest.fixture
def started(packed, tmp_path):
    """Starts fronts of a small model, by the options of the command."""
    import cluster  # noqa: F401  it sets the environment that Ray reads when it is imported
    from serving.on_ray.front import Front

    model, fronts = save(packed, tmp_path / "small", "run.name=small"), []

    def start(*options):
        parser = argparse.ArgumentParser()
        SERVE.arguments(parser)
        folder = tmp_path / "state"
        arguments = parser.parse_args([str(model), "--ray", "--dir", str(folder), *options])
        front: Any = Front.__new__(Front)
        clients = {"alice": Client.model_construct(token=TOKEN)}
        asyncio.run(front.__init__(service_settings(arguments), clients, None, None))
        fronts.append(front)
        return front

    yield start
    for front in fronts:
        front.__del__()


def refused(front, url, pictures):
    """Return the sentence by which a front refuses an image by URL."""

    async def ask():
        app = front.__serve_build_asgi_app__()
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url=HOST, headers=BEARER) as client:
            files = [("images", picture) for picture in pictures[:1]]
            fields = {"model": "small", "urls": f'["{url}"]'}
            return await client.post("/v1/adaptations", data=fields, files=files)

    response = asyncio.run(ask())
    assert response.status_code == 422
    return response.json()["error"]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [((), "fetches no images"), (("--allow-urls",), "not a public host")],
    ids=["without", "with"],
)
def test_a_front_fetches_images_where_its_command_says_so(started, pictures, options, sentence):
    assert sentence in refused(started(*options), "http://127.0.0.1/x.png", pictures)


def test_a_front_that_lost_the_store_is_not_healthy(started, monkeypatch, tmp_path):
    monkeypatch.setattr(lease_module, "BEAT_SECONDS", 0.1)
    front, file = started(), str(tmp_path / "state" / "store" / "lease.json")
    front.check_health()
    while (stored := read_stored(file)) and not replace(
        file, this_holder("serves").encode(), stored
    ):
        pass
    with pytest.raises(LostError, match="taken over"):
        for _ in range(600):
            front.check_health()
            time.sleep(0.05)
