"""A model's page in a real, headless browser, which samples what torch does."""

import functools
import http.server
import json
import re
import shutil
import subprocess
import tarfile
import threading
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from browser import browser_page
from sampling_models import GAN, adapted_model
from scipy.stats import kstest
from small_models import metatrain

from metatrain.base.errors import UserError
from metatrain.data.packing.npm import integrity_of
from metatrain.generators.samplers import LatentSamplerConfig
from metatrain.model.export import sampling, web
from metatrain.model.file import load_model

# Samples from given noise by the page's own modules, on the page itself.
# From within the page, since a small GAN samples all before a click comes from outside.
STOP_AFTER_ONE = """() => new Promise((done) => {
    const [samples, go, stop] = ["samples", "go", "stop"].map((id) => document.getElementById(id));
    new MutationObserver((_, observer) => {
        if (!samples.childElementCount) return;
        observer.disconnect();
        stop.click();
        done();
    }).observe(samples, { childList: true });
    go.click();
})"""
SAMPLE = """async ([data, dims]) => {
    const ort = await import("./onnxruntime/ort.wasm.bundle.min.mjs");
    const { sample } = await import("./sampling.js");
    ort.env.wasm.numThreads = 1;
    const about = await (await fetch("model.json")).json();
    const bytes = new Uint8Array(await (await fetch(about.network)).arrayBuffer());
    const session = await ort.InferenceSession.create(bytes);
    const run = async (part, inputs) => {
        const pairs = Object.entries(inputs).map(
            ([name, t]) => [name, new ort.Tensor(t.type, t.data, t.dims)]);
        return (await session.run(Object.fromEntries(pairs)))[session.outputNames[0]];
    };
    const x = { type: "float32", data: Float32Array.from(data), dims };
    return Array.from((await sample(about, run, x)).data);
}"""


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@contextmanager
def served(folder):
    handler = functools.partial(Quiet, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


@pytest.fixture
def runtime():
    try:
        return web.RUNTIME.fetched()
    except UserError as error:
        pytest.skip(f"needs onnxruntime-web: {error}")


@pytest.mark.long
@pytest.mark.parametrize(
    "overrides",
    [
        ("objective.sampler.guidance=2", "data.channels=3", "run.name=foxes"),
        (*GAN, "objective.sampler.truncation=0.7"),
    ],
    ids=["flow", "gan"],
)
def test_a_browser_samples_offline_what_torch_does(tmp_path, runtime, overrides):
    adapted_model(*overrides).to_sample_only().save(tmp_path / "adapted.safetensors")
    out = tmp_path / "page"
    assert metatrain("export", tmp_path, "--format", "web", "--out", out) == 0
    model = load_model(f"{tmp_path}/adapted.safetensors")
    dims = [2, *json.loads((out / "model.json").read_text())["noise"]]
    noise = torch.randn(dims, generator=torch.Generator().manual_seed(3))
    with browser_page() as (page, errors), served(out) as url:
        asked = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto(url)
        page.get_by_text("The model is ready.").wait_for()
        assert page.locator("h1").text_content() == model.config.run.name
        page.get_by_label("Images", exact=True).fill("3")
        page.get_by_role("button", name="Sample").click()
        page.get_by_text("3 images sampled").wait_for()
        pictures = [image.get_attribute("src") for image in page.locator("li img").all()]
        assert len({*pictures}) == 3
        result = page.evaluate(SAMPLE, [noise.flatten().tolist(), dims])
        page.get_by_label("Images", exact=True).fill("64")
        page.evaluate(STOP_AFTER_ONE)
        page.get_by_text(re.compile("images? sampled")).wait_for()
        assert 0 < page.locator("li").count() < 64
        assert not errors
        assert all(place.startswith((url, "data:")) for place in asked)
        page.goto((out / "index.html").as_uri())
        assert "run python -m http.server" in page.get_by_role("status").text_content()
    # What noise is within the truncation, `noise` in the page decides.
    sampler = LatentSamplerConfig() if "truncation" in str(overrides) else None
    expected = model._generator.sample(model.support, 2, 3, sampler).numpy()
    assert expected.std() > 0.05
    np.testing.assert_allclose(np.reshape(result, expected.shape).clip(-1, 1), expected, atol=1e-4)


def test_a_truncation_bounds_the_noise_of_the_page(tmp_path):
    node = shutil.which("node") or pytest.skip("needs Node.js")
    (tmp_path / "sampling.mjs").write_bytes((web.PAGE / "sampling.js").read_bytes())
    (tmp_path / "test.mjs").write_text(
        """import { noise } from "./sampling.mjs";
        const numbers = (truncation, seed) =>
            Array.from(noise({ sampler: { truncation }, noise: [50000] }, seed).data);
        console.log(JSON.stringify([numbers(null, 1), numbers(null, 2), numbers(0.7, 1)]));"""
    )
    run = subprocess.run([node, tmp_path / "test.mjs"], capture_output=True, check=True)
    one, two, bounded = np.array(json.loads(run.stdout))
    for numbers in (one, two):
        assert kstest(numbers, "norm").pvalue > 1e-3
    assert (
        abs(np.corrcoef(one, two)[0, 1]) < 0.02 and abs(np.corrcoef(one[1:], one[:-1])[0, 1]) < 0.02
    )
    assert np.abs(bounded).max() <= 0.7 and bounded.std() > 0.3


def archive_of(folder, monkeypatch, names):
    """Put an archive of files with these names in the place of the package."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    content = folder / "content"
    content.write_bytes(b"content")
    web.RUNTIME.cached.parent.mkdir(parents=True)
    with tarfile.open(web.RUNTIME.cached, "w:gz") as tar:
        for name in names:
            tar.add(content, name)
    package = replace(web.RUNTIME, integrity=integrity_of(web.RUNTIME.cached))
    monkeypatch.setattr(web, "RUNTIME", package)


def test_a_folder_is_whole_and_its_page_comes_last(tmp_path, monkeypatch):
    names = [f"package/dist/{name}" for name in web.RUNTIME_FILES]
    archive_of(tmp_path, monkeypatch, ["package/../../evil.js", *names, "package/dist/more.js"])
    written = []
    monkeypatch.setattr(sampling, "write_file", lambda url, data: written.append(url))
    assert web.export_web(adapted_model(*GAN).to_sample_only(), "out") == "out/index.html"
    assert written[-1] == "out/index.html"
    runtime = [f"onnxruntime/{name}" for name in web.RUNTIME_FILES]
    page = ["page.css", "page.js", "sampling.js", "worker.js", "index.html"]
    assert sorted(written) == sorted(
        f"out/{n}" for n in ["model.onnx", "model.json", *runtime, *page]
    )


def test_a_package_without_its_files_is_a_sentence(tmp_path, monkeypatch):
    archive_of(tmp_path, monkeypatch, ["package/dist/other.js"])
    with pytest.raises(UserError, match=r"lacks ort\.wasm.*delete it"):
        web.export_web(adapted_model(*GAN), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
