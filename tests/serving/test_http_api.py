"""The HTTP API on a real model: adapting, drawing by seed, limits and locks."""

import asyncio
import io
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest
from http_client import HOST, TOKEN, adapted, post, refusal
from PIL import Image

import metatrain
from metatrain import Model
from metatrain.data.pictures import png
from serving.adaptations import Adaptation
from serving.computing import PREVIEWS, is_shown
from serving.disk import Disk
from serving.records import Record


def test_an_adaptation_draws_on_the_way_and_after(serve, pictures, tmp_path):
    client = serve()
    place = adapted(client, pictures, steps="5")
    record = client.get(place).json()
    assert record["given"] == [name for name, _ in pictures]
    assert record["step"] == record["steps"] == 5
    assert [p["step"] for p in record["previews"]] == [0, 1, 2, 5]
    assert all(p["images"] == PREVIEWS for p in record["previews"])
    [drawing] = client.post(f"{place}/samples", json={"seed": 3}).json()
    assert 0 <= drawing["nearest"] < 5
    drawn = client.get(f"{place}/samples/{drawing['name']}.png").content
    # What was drawn at the last step is what the adapted model draws.
    assert client.get(f"{place}/previews/5-3.png").content == drawn
    # And what its file draws, by the Python interface.
    (tmp_path / "a.safetensors").write_bytes(client.get(f"{place}/adapted.safetensors").content)
    model = metatrain.load(tmp_path / "a.safetensors")
    assert png(model.sample(1, seed=3)[0]) == drawn
    assert client.get(f"{place}/previews/0-3.png").content != drawn


def test_an_image_is_the_same_to_the_bit_alone_and_in_a_batch(serve, pictures):
    client = serve()
    one, other = adapted(client, pictures), adapted(client, pictures)
    batch = client.post(
        f"{one}/samples", json={"count": 5, "seed": 3}, headers={"accept": "application/zip"}
    ).content
    with zipfile.ZipFile(io.BytesIO(batch)) as file:
        assert file.namelist() == [f"{seed}.png" for seed in range(3, 8)]
        for seed in (7, 4):
            alone = client.post(
                f"{other}/samples", json={"seed": seed}, headers={"accept": "image/png"}
            )
            assert alone.headers["content-type"] == "image/png"
            assert alone.content == file.read(f"{seed}.png")
        assert file.read("3.png") != file.read("4.png")


def test_every_guidance_draws_its_own(serve, pictures):
    client = serve()
    place = adapted(client, pictures, steps="1")
    guidances = [7, 7.5, 7.5000001, 1e-7, 100]
    for guidance in guidances:
        [drawing] = client.post(f"{place}/samples", json={"guidance": guidance}).json()
        assert drawing["guidance"] == guidance
        assert client.get(f"{place}/samples/{drawing['name']}.png").status_code == 200
    names = [drawing["name"] for drawing in client.get(place).json()["drawings"]]
    assert len(set(names)) == len(guidances)
    assert names[:2] == ["0-guidance-7", "0-guidance-7.5"]


def test_who_watches_gets_every_state_until_the_end(tmp_path):
    record = Record(id="x" * 22, model="small", created=0, given=("a",), seed=0, steps=2)
    adaptation = Adaptation(tmp_path, record, Disk(0))

    def one_step():
        adaptation.change(lambda state: {"step": state.step + 1})

    async def watch():
        steps = []
        async for state in adaptation.watch():
            steps.append(state.step)
            # From another thread, as a worker does.
            await asyncio.to_thread(one_step if state.step < 2 else adaptation.delete)
        return steps

    assert asyncio.run(asyncio.wait_for(watch(), 10)) == [0, 1, 2]


def test_an_adaptation_stops_where_its_client_says(serve, pictures):
    client = serve()
    place = post(client, pictures, steps="1000").headers["location"]
    assert refusal(client.post(f"{place}/samples", json={}), 409)
    assert client.post(f"{place}/stop").status_code == 202
    while client.get(place).json()["state"] != "done":
        time.sleep(0.02)
    record = client.get(place).json()
    assert record["step"] < 1000
    assert record["previews"][-1]["step"] == record["step"]
    assert client.post(f"{place}/samples", json={"count": 2}).status_code == 200


def test_what_is_kept_outlives_what_is_not_and_a_restart(serve, pictures):
    client = serve(drawings=4)
    place = adapted(client, pictures)
    client.post(f"{place}/samples", json={"count": 4})
    client.patch(f"{place}/samples/0", json={"kept": True})
    client.post(f"{place}/samples", json={"count": 2, "seed": 10})
    record = client.get(place).json()
    assert [d["name"] for d in record["drawings"]] == ["0", "3", "10", "11"]
    assert client.get(f"{place}/samples/1.png").status_code == 404
    again = serve()
    assert again.get(place).json() == record
    assert again.get(f"{place}/samples/0.png").status_code == 200
    with zipfile.ZipFile(io.BytesIO(again.get(f"{place}/drawings.zip").content)) as file:
        assert file.namelist() == ["0.png"]
    sheet = Image.open(io.BytesIO(again.get(f"{place}/sheet.png").content))
    assert sheet.width == sheet.height
    assert [a["id"] for a in again.get("/v1/adaptations").json()] == [record["id"]]


def test_requests_leave_each_others_drawings(serve, pictures, monkeypatch):
    client = serve(drawings=4)
    place = adapted(client, pictures, steps="1")
    real, begun, gate = Model.sample, Event(), Event()

    def waiting(*arguments, **options):
        begun.set()
        assert gate.wait(10)
        return real(*arguments, **options)

    monkeypatch.setattr(Model, "sample", waiting)

    def draw(seed, count, kind="application/zip"):
        body = {"seed": seed, "count": count}
        return client.post(f"{place}/samples", json=body, headers={"accept": kind})

    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(draw, 0, 3)
        assert begun.wait(10)
        response = draw(10, 2)
        assert "other requests draw 3" in refusal(response, 429)
        assert int(response.headers["retry-after"]) > 0
        second = threads.submit(draw, 1, 3)  # two of them are the first one's too
        gate.set()
        for seed, answer in ((0, first), (1, second)):
            with zipfile.ZipFile(io.BytesIO(answer.result(20).content)) as file:
                assert file.namelist() == [f"{s}.png" for s in range(seed, seed + 3)]
    assert draw(10, 4, "image/png").status_code == 200
    for seed in range(10, 14):
        assert client.patch(f"{place}/samples/{seed}", json={"kept": True}).status_code == 200
    assert "4 drawings are kept" in refusal(draw(20, 1), 429)
    assert draw(10, 4).status_code == 200  # which are there
    client.patch(f"{place}/samples/10", json={"kept": False})
    begun.clear()
    gate.clear()
    with ThreadPoolExecutor(1) as threads:
        last = threads.submit(draw, 20, 1)
        assert begun.wait(10)
        keep = client.patch(f"{place}/samples/10", json={"kept": True})
        gate.set()
        assert "keep fewer" in refusal(keep, 429)
        assert last.result(20).status_code == 200
    names = [drawing["name"] for drawing in client.get(place).json()["drawings"]]
    assert names == ["11", "12", "13", "20"]


def test_an_interrupted_adaptation_says_so(serve, pictures):
    place = post(serve(waiting=4), pictures, steps="1000").headers["location"]
    record = serve().get(place).json()
    assert record["state"] == "failed"
    assert "adapt again" in record["error"]


def test_a_deleted_adaptation_leaves_nothing(serve, pictures, tmp_path):
    client = serve()
    place = post(client, pictures, steps="1000").headers["location"]
    assert client.delete(place).status_code == 204
    assert [*tmp_path.iterdir()] == []
    for path in ("", "/events", "/given/0.png", "/adapted.safetensors", "/lora"):
        refusal(client.get(place + path), 404)
    while client.get("/healthz").json()["jobs"]:  # its worker is free again
        time.sleep(0.02)
    assert [*tmp_path.iterdir()] == []


def test_every_image_that_cannot_be_used_is_told(serve, pictures):
    client = serve()
    files = [pictures[0], ("half.png", pictures[1][1][:40]), ("text.png", b"no image")]
    response = post(client, files)
    assert "half.png cannot be used" in refusal(response, 422)
    assert [(i["index"], i["name"]) for i in response.json()["images"]] == [
        (1, "half.png"),
        (2, "text.png"),
    ]
    shown = client.post("/v1/pictures", data={"model": "small"}, files={"images": files[0]})
    assert Image.open(io.BytesIO(shown.content)).size == (16, 16)
    shown = client.post("/v1/pictures", data={"model": "small"}, files={"images": files[1]})
    assert "half.png" in refusal(shown, 422)


@pytest.mark.parametrize(
    ("fields", "key"),
    [
        ({"model": "none"}, "model"),
        ({"steps": "0"}, "steps"),
        ({"steps": "9999"}, "steps"),
        ({"seed": "-1"}, "seed"),
        ({"seed": "x"}, "seed"),
        ({"other": "1"}, "other"),
    ],
)
def test_settings_are_checked(serve, pictures, fields, key):
    response = post(serve(), pictures, **fields)
    assert key in refusal(response, 404 if key == "model" else 422)


@pytest.mark.parametrize(
    "charset",
    ["undefined", '"a\0b"', "punycode", "unicode_escape", "latin-1"],
    ids=["undefined", "null", "punycode", "escape", "latin"],
)
def test_forms_are_in_utf_8(serve, charset):
    def posted(charset):
        body = '--B\r\nContent-Disposition: form-data; name="model"\r\n\r\n\\ud800\r\n--B--\r\n'
        kind = f"multipart/form-data; boundary=B; charset={charset}"
        return serve().post("/v1/adaptations", content=body, headers={"content-type": kind})

    assert "send it in utf-8" in refusal(posted(charset), 422)
    assert "no model of this name" in refusal(posted("UTF-8"), 404)


def test_bodies_are_checked(serve, pictures):
    client = serve()
    place = adapted(client, pictures)
    for body in ('{"count": 0}', '{"count": 65}', '{"guidance": NaN}', '{"seed": -1}', "[", "[1]"):
        refusal(client.post(f"{place}/samples", content=body), 422)
    refusal(client.post(f"{place}/samples", content=b" " * (1 << 20)), 413)


def test_uploads_are_bounded(serve, pictures, tmp_path):
    noise = bytes(range(256)) * 16
    large = [("large.png", noise)]
    assert "large.png" in refusal(post(serve(image_bytes=1000), large), 413)
    assert "2,000 bytes" in refusal(post(serve(upload_bytes=2000), large), 413)
    assert "at most 3" in refusal(post(serve(images=3), pictures), 413)
    # Also where no header tells the length.
    chunks = (b"x" * 500 for _ in range(100))
    multipart = {"content-type": "multipart/form-data; boundary=b"}
    client = serve(upload_bytes=2000)
    refusal(client.post("/v1/adaptations", content=chunks, headers=multipart), 413)
    body = b"--b\r\nContent-Disposition: form-data; name"  # which ends too soon
    response = client.post("/v1/adaptations", content=body, headers=multipart)
    assert response.status_code in (400, 422)
    assert [*tmp_path.iterdir()] == []


def test_queues_are_bounded(serve, pictures):
    for limits in ({"waiting": 0}, {"uploads": 0}):
        response = post(serve(**limits), pictures)
        assert "later" in refusal(response, 429) or "while" in response.text
        assert int(response.headers["retry-after"]) > 0
    place = adapted(serve(), pictures, steps="1")
    assert "later" in refusal(serve(listeners=0).get(f"{place}/events"), 429)
    assert "delete" in refusal(post(serve(adaptations=0), pictures), 429)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.example"}, 421),
        ({"host": "127.0.0.1.evil.example:8000"}, 421),
        ({"host": ""}, 421),
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),  # another server of this machine
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"authorization": "Bearer other"}, 401),
        ({"authorization": ""}, 401),
        ({}, 200),
        ({"host": "localhost:8000", "origin": "http://localhost:8000"}, 200),
    ],
)
def test_only_its_own_page_and_token_come_through(serve, headers, status):
    response = serve().get("/v1/models", headers=headers)
    assert response.status_code == status
    assert "default-src 'none'" in response.headers["content-security-policy"]
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_the_url_with_the_token_becomes_a_cookie(serve):
    client = serve(headers={})
    assert client.get("/").status_code == 401
    assert client.get("/?token=other").status_code == 401
    entry = client.get(f"/?token={TOKEN}")
    page = entry.headers["location"]
    assert entry.status_code == 303
    assert "httponly" in entry.headers["set-cookie"].lower()
    assert "metatrain studio" in client.get(page).text
    assert client.get(f"{page}page/app.js").status_code == 200
    assert client.get(f"{page}v1/models").status_code == 200
    # A change by cookie comes from the page itself.
    gone = f"{page}v1/adaptations/none"
    assert client.delete(gone).status_code == 403
    assert client.delete(gone, headers={"origin": HOST}).status_code == 404
    assert client.get("/healthz").json()["status"] == "ok"


def test_the_cookie_goes_to_no_other_server_of_this_machine(serve):
    """A browser sends cookies to every port of a host, but only below their path."""
    client = serve(headers={})
    entry = client.get(f"/?token={TOKEN}")
    page = entry.headers["location"]
    assert f"Path={page};" in entry.headers["set-cookie"]
    assert len(page) > 20
    assert serve(headers={}).get(f"/?token={TOKEN}").headers["location"] != page
    # And what has the cookie all the same, but not the path, is refused.
    cookie = {"cookie": f"metatrain={TOKEN}"}
    assert client.get("/v1/models", headers=cookie).status_code == 401
    assert client.get("/other/v1/models", headers=cookie).status_code == 401


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/models/", 404),
        ("GET", "/page/nothing.js", 404),
        ("PUT", "/v1/models", 405),
        ("DELETE", "/page/app.js", 405),
        ("POST", "/v1/pictures", 400),
    ],
)
def test_what_no_operation_answers_is_a_sentence_too(serve, method, path, status):
    multipart = {"content-type": "multipart/form-data"}  # without the boundary
    sentence = refusal(serve().request(method, path, headers=multipart), status)
    assert sentence[0].islower()
    assert ("/docs" in sentence) == (status != 400)


@pytest.mark.parametrize("path", ["/v1/adaptations/..", "/page/../api.py", "/page/%2e%2e/api.py"])
def test_no_path_leads_out(serve, path):
    assert serve().get(path).status_code == 404


def test_previews_come_at_1_2_5_10():
    shown = [step for step in range(1001) if is_shown(step)]
    assert shown == [0, 1, 2, 5, 10, 20, 50, 100, 200, 500, 1000]
