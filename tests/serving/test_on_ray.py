"""The API on a Ray cluster: replicas that adapt and draw, and what the loss of one changes."""

import time
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest
from http_client import BEARER, HOST, TOKEN, adapted, post, refusal
from small_models import save

import metatrain
from metatrain.data.pictures import png
from serving.on_ray.settings import ServiceSettings
from serving.tokens import Client

# Ray is imported by what uses it, since others of this folder's tests are collected with these.
pytestmark = pytest.mark.long

STEPS = 5


def asked_front():
    """A front that answers requests by its handle, without a proxy before it."""
    from serving.on_ray.front import Front

    class Asked(Front):
        async def ask(self, method, path, options):
            transport = httpx2.ASGITransport(self._app)
            async with httpx2.AsyncClient(
                transport=transport, base_url=HOST, headers=BEARER
            ) as client:
                response = await client.request(method, path, **options)
                return response.status_code, dict(response.headers), await response.aread()

    return Asked


class Handle:
    """A client by the handle of the front, which asks again while there is none."""

    def __init__(self, handle):
        self._handle = handle

    def __getattr__(self, method):
        from ray.exceptions import RayActorError

        def request(path, **options):
            started = time.monotonic()
            while True:
                try:
                    answer = self._handle.ask.remote(method.upper(), path, options).result()
                    return httpx2.Response(answer[0], headers=answer[1], content=answer[2])
                except RayActorError:
                    assert time.monotonic() - started < 120
                    time.sleep(0.2)

        return request


@pytest.fixture(scope="module")
def model(packed, tmp_path_factory):
    return save(packed, tmp_path_factory.mktemp("models") / "small", "run.name=small")


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def client(model, store):
    from ray import serve

    from cluster.run.ray_cluster import ray_connection
    from serving.on_ray.application import bind

    settings = ServiceSettings(models=(str(model),), store=str(store), clients=store / "none")
    clients = {"alice": Client.model_construct(token=TOKEN, jobs=32)}
    with ray_connection(cpus=6):
        serve.start(proxy_location="Disabled")
        yield Handle(serve.run(bind(asked_front(), settings, clients), name="metatrain"))
        serve.delete("metatrain")


def kill_one(deployment):
    """End a replica of a deployment, without a goodbye."""
    import ray

    names = [a["name"] for a in ray.util.list_named_actors(all_namespaces=True)]
    name = next(n for n in names if f"#{deployment}#" in n)
    ray.kill(ray.get_actor(name, namespace="serve"))


def test_an_image_is_the_same_to_the_bit_by_any_replica_and_here(client, model, pictures, store):
    place = adapted(client, pictures, steps=str(STEPS))
    record = client.get(place).json()
    assert [p["step"] for p in record["previews"]] == [0, 1, 2, 5]
    batch = client.post(f"{place}/samples", json={"count": 5, "seed": 3}).json()
    assert [d["seed"] for d in batch] == [3, 4, 5, 6, 7]
    local = metatrain.load(model).adapt([data for _, data in pictures], steps=STEPS)
    other = adapted(client, pictures, steps=str(STEPS), previews="false")
    for seed in (7, 4):
        wanted = png(local.sample(1, seed=seed)[0])
        assert client.get(f"{place}/samples/{seed}.png").content == wanted
        alone = client.post(
            f"{other}/samples", json={"seed": seed}, headers={"accept": "image/png"}
        )
        assert alone.content == wanted
    [file] = store.glob(f"alice/{record['id']}/adapted.safetensors")
    assert metatrain.load(file).sha256 == local.sha256
    assert client.delete(other).status_code == 204
    assert client.get(other).status_code == 404
    assert not (store / "alice" / other.rpartition("/")[2] / "adaptation.json").exists()


def test_a_client_stops_an_adaptation_that_another_process_computes(client, pictures):
    place = post(client, pictures, steps="1000", previews="false").headers["location"]
    while client.get(place).json()["step"] < 1:
        time.sleep(0.05)
    client.post(f"{place}/stop")
    while (record := client.get(place).json())["state"] == "adapting":
        time.sleep(0.05)
    assert record["state"] == "done"
    assert record["step"] < 1000


def test_a_refusal_of_a_replica_is_a_sentence_of_the_server(client, pictures, store):
    place = adapted(client, pictures, steps="1", previews="false")
    (store / "alice" / place.rpartition("/")[2] / "adapted.safetensors").unlink()
    sentence = refusal(client.post(f"{place}/samples", json={}), 422)
    assert "there is no model at" in sentence
    assert "Traceback" not in sentence


def test_lost_replicas_lose_nothing_and_answer_nothing_twice(client, model, pictures, store):
    place = adapted(client, pictures, steps="1", previews="false")
    places = [
        post(client, pictures, steps="40", seed=str(i), previews="false").headers["location"]
        for i in range(4)
    ]

    def draw(seed):
        return client.post(f"{place}/samples", json={"seed": seed}).json()

    with ThreadPoolExecutor(8) as threads:
        draws = [threads.submit(draw, seed) for seed in range(24)]
        while not any(client.get(p).json()["step"] > 2 for p in places):
            time.sleep(0.05)
        kill_one("Adapter")
        kill_one("Sampler")
        assert [d.result()[0]["seed"] for d in draws] == [*range(24)]
    seeds = [d["seed"] for d in client.get(place).json()["drawings"]]
    assert sorted(seeds) == [*range(24)]
    images = [data for _, data in pictures]
    for i, each in enumerate(places):
        while (record := client.get(each).json())["state"] in ("waiting", "adapting"):
            time.sleep(0.1)
        assert record["state"] == "done"
        file = store / "alice" / record["id"] / "adapted.safetensors"
        if i == 0:
            wanted = metatrain.load(model).adapt(images, steps=40, seed=i)
            assert metatrain.load(file).sha256 == wanted.sha256


def test_a_lost_front_loses_nothing_that_it_accepted(client, model, pictures, store):
    before = {r["id"] for r in client.get("/v1/adaptations").json()}
    place = post(client, pictures, steps="60").headers["location"]
    kill_one("Front")
    while (record := client.get(place).json())["state"] in ("waiting", "adapting"):
        time.sleep(0.1)
    assert (record["state"], record["step"]) == ("done", 60)
    assert {r["id"] for r in client.get("/v1/adaptations").json()} == {*before, record["id"]}
    wanted = metatrain.load(model).adapt([data for _, data in pictures], steps=60)
    file = store / "alice" / record["id"] / "adapted.safetensors"
    assert metatrain.load(file).sha256 == wanted.sha256
