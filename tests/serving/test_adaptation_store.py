"""Adaptations in a store by URL: the API is the same, and the next server goes on with them."""

from pathlib import Path
from uuid import uuid4

import pytest
from http_client import BEARER, HOST, TOKEN, adapted, refusal
from starlette.testclient import TestClient

import metatrain
from metatrain.base.errors import UserError
from metatrain.data.pictures import png
from metatrain.model.support import as_support
from metatrain.preferences.choices import Drawn, Mark
from metatrain.storage.files import sizes_under, write_file
from serving import jobs
from serving.accounts import Account
from serving.adaptations import Adaptations
from serving.api import Api
from serving.computing import LocalComputing
from serving.guard import Guard
from serving.limits import Limits, Quota, RequestError
from serving.store import StoreDisk, folder_names
from serving.worker import Worker

IDS = ("a" * 22, "b" * 22)


@pytest.fixture
def store(request):
    """The URL of an empty store: in memory, or in S3 where a test says so."""
    if getattr(request, "param", "memory") == "s3":
        return request.getfixturevalue("s3")
    return f"memory://{uuid4().hex}"


def marked(drawing, image, mark):
    """A mark of a drawing whose image has a hash of one letter."""
    return Mark(
        model=64 * "0",
        drawing=drawing,
        image=Drawn(sha256=64 * image, seed=0),
        mark=mark,
        time=1.0,
    )


def disk_at(url, most=10**9, check=lambda: None):
    return StoreDisk(url, most, check)


@pytest.fixture
def on_store(models, store):
    """Makes clients of servers on one store, one after the other."""
    started = []

    def start():
        limits = Limits()
        account = Account(Path("alice"), Quota(), disk=disk_at(store), resumes=True)
        worker = Worker(limits.waiting)
        app = Api(models=models, accounts=[account], worker=worker, limits=limits).app()
        guarded = Guard(app, accounts={TOKEN: account}, requests=limits.requests)
        client = TestClient(guarded, base_url=HOST, headers=BEARER, raise_server_exceptions=False)
        started.append((client.__enter__(), worker))
        return client

    yield start
    for client, worker in started:
        client.__exit__(None, None, None)
        worker.close()


@pytest.mark.parametrize(
    "store", ["memory", pytest.param("s3", marks=pytest.mark.long)], indirect=True
)
def test_the_api_is_the_same_and_the_next_server_has_all(on_store, pictures, store):
    client = on_store()
    place = adapted(client, pictures, steps="2")
    [drawing] = client.post(f"{place}/samples", json={"seed": 3}).json()
    pair = client.get(f"{place}/pairs/0").json()
    client.get(f"{place}/pairs/1")
    for number in (0, 1):
        choice = {"number": number, "answer": "tie", "seconds": 1.0}
        assert client.post(f"{place}/choices", json=choice).json()["choices"] == number + 1
    paths = [
        *("", "/given/0.png", "/previews/2-3.png", "/adapted.safetensors", "/sheet.png"),
        *("/drawings.zip", "/choices.zip", f"/samples/{drawing['name']}.png"),
        f"/images/{pair['left']}.png",
    ]
    answers = [client.get(place + path) for path in paths]
    assert {answer.status_code for answer in answers} == {200}
    later = on_store()
    for path, answer in zip(paths, answers, strict=True):
        assert later.get(place + path).content == answer.content, path
    assert folder_names(store) == ["alice"]
    assert later.delete(place).status_code == 204
    assert sizes_under(store) == {}
    refusal(later.get(place), 404)


def test_what_a_lost_server_accepted_the_next_one_computes(on_store, models, pictures, store):
    model = models["small"]
    support = as_support([data for _, data in pictures], model.config.data)
    adaptation = Adaptations(Path("alice"), Quota(), disk=disk_at(store)).create(
        model="small",
        names=[name for name, _ in pictures],
        pictures=[png(image) for image in support.target],
        seed=7,
        steps=3,
        shows=False,
    )
    client, place = on_store(), f"/v1/adaptations/{adaptation.record.id}"
    while (record := client.get(place).json())["state"] in ("waiting", "adapting"):
        pass
    assert (record["state"], record["previews"]) == ("done", [])
    wanted = model.adapt(support, steps=3, seed=7)
    assert metatrain.load(adaptation.model_url).sha256 == wanted.sha256


def test_a_server_of_one_machine_tells_that_it_failed(store):
    Adaptations(Path("alice"), Quota(), disk=disk_at(store)).create(
        model="small", names=[], pictures=[], seed=0, steps=1
    )
    [adaptation] = Adaptations(Path("alice"), Quota(), disk=disk_at(store))
    assert adaptation.record.state == "failed"
    assert "adapt again" in adaptation.record.error


def test_an_image_that_two_requests_draw_at_once_is_one_drawing(serve, models, pictures, tmp_path):
    adapted(serve(), pictures, steps="1", previews="false")
    [adaptation] = Adaptations(tmp_path, Quota())
    options = {"seeds": [1, 2], "steps": None, "guidance": None, "text": None, "most": 9}
    under_way = [
        jobs.draw(adaptation, models, LocalComputing(models, 60), **options) for _ in range(2)
    ]
    answers = []
    while under_way:  # the second draws seed 2 before the first, which has begun with both
        for job in [*under_way]:
            try:
                next(job)
            except StopIteration as end:
                answers.append(end.value)
                under_way.remove(job)
    assert [d.seed for d in adaptation.record.drawings] == [1, 2]
    assert answers == [[*adaptation.record.drawings]] * 2


def test_a_store_keeps_its_quota_and_what_is_not_ours(store):
    disk, folder = disk_at(store, most=100), Path("alice", IDS[0])
    disk.write(folder / "given-0.png", bytes(60))
    with pytest.raises(RequestError, match="may have 100"):
        disk.write(folder / "given-1.png", bytes(60))
    disk.write(folder / "given-0.png", bytes(90))
    assert disk.used == 90
    write_file(f"{store}/alice/{IDS[1]}/notes.txt", b"of somebody else")
    # The first folder has no record: its server was lost before it accepted the request.
    again = disk_at(store, most=100)
    assert again.folders(Path("alice")) == []
    assert [*sizes_under(store)] == [f"alice/{IDS[1]}/notes.txt"]


def test_who_may_write_no_more_writes_nothing(store):
    def lost():
        raise UserError("another process has taken over")

    disk = disk_at(store, check=lost)
    for write in (disk.write, disk.write_record):
        with pytest.raises(UserError, match="taken over"):
            write(Path("alice", IDS[0], "given-0.png"), b"x")
    assert sizes_under(store) == {}
    assert disk.used == 0


def test_a_job_writes_nothing_once_its_adaptation_is_deleted(store):
    adaptations = Adaptations(Path("alice"), Quota(), disk=disk_at(store))
    adaptation = adaptations.create(model="small", names=[], pictures=[], seed=0, steps=1)
    adaptations.forget(adaptation.record.id).remove_files()
    with pytest.raises(RequestError, match="deleted meanwhile"):
        adaptation.write(adaptation.given_file(0), b"x")
    line = marked("0", "a", "good")
    with pytest.raises(RequestError, match="deleted meanwhile"):
        adaptation.append(lambda _: line)
    assert sizes_under(store) == {}


def test_a_mark_is_of_the_image_whatever_name_it_was_drawn_by(store):
    adaptations = Adaptations(Path("alice"), Quota(), disk=disk_at(store))
    adaptation = adaptations.create(model="small", names=[], pictures=[], seed=0, steps=1)
    for drawing, image, mark in (("0", "a", "good"), ("1", "b", "good"), ("0-5-steps", "a", "bad")):
        line = marked(drawing, image, mark)
        record = adaptation.append(lambda _: line)  # noqa: B023
    assert record.marks == {"0": "bad", "1": "good", "0-5-steps": "bad"}
    assert record.decided == 1
