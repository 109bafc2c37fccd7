"""The studio as a person meets it: the command, a page in a real browser, and its end."""

import base64
import re
import signal
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from axe import serious_faults
from browser import browser_page
from PIL import Image
from safetensors.torch import load_file
from small_models import save
from tiny_backbones import save_over

from metatrain.cli.command import run
from metatrain.data.sound.wave import to_wave
from metatrain.model import named
from metatrain.preferences.choices import read_choices
from serving.commands import STUDIO
from serving.studio import entry_page

COMMAND = (
    "import sys; from metatrain.cli.command import run; from serving.commands import STUDIO; "
    "sys.exit(run('metatrain', {'studio': STUDIO}))"
)
# Makes a drop of files, given by name and base64.
DROP = """files => {
    const data = new DataTransfer();
    for (const [name, text] of files) {
        const bytes = Uint8Array.from(atob(text), c => c.charCodeAt(0));
        data.items.add(new File([bytes], name));
    }
    const options = {bubbles: true, cancelable: true, dataTransfer: data};
    document.getElementById("drop").dispatchEvent(new DragEvent("drop", options));
}"""


def studio(*arguments):
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, "studio", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def url(packed, tmp_path):
    """The URL that a studio of two models prints, of which one takes words and sounds."""
    steps, conditions = "adapt.steps=12", "generator.conditions=[support, text, audio]"
    model = save(packed, tmp_path / "small", "run.name=small", steps)
    told = save(packed, tmp_path / "told", "run.name=told", steps, conditions)
    with studio_url(model, told, "--dir", tmp_path / "state") as url:
        yield url


@contextmanager
def studio_url(*arguments):
    """Run a studio, which has to end without a complaint; yield the URL that it prints."""
    process = studio(*arguments, "--no-browser")
    try:
        yield re.search(r"http://127.0.0.1:\d+/\?token=\S+", process.stderr.readline())[0]
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
        assert process.wait(10) == 130
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def page(url, tmp_path):
    """The page in a headless browser."""
    with entered(url, tmp_path) as page:
        yield page


@contextmanager
def entered(url, tmp_path):
    """Enter the page as the command does, in a headless browser in which no error may come."""
    entry = tmp_path / "entry.html"
    entry.write_text(entry_page(url))
    with browser_page() as (page, errors):
        page.goto(entry.as_uri())
        # It answers once the models are loaded.
        page.wait_for_url("http://**", timeout=120_000)
        yield page
    # A browser itself reports an image that the server refuses.
    assert [e for e in errors if "422 (Unprocessable" not in e] == []


def move_the_square(page):
    """Move the square of a wide image by mouse, finger and keys, at last to its right."""
    position = "parseFloat(document.querySelector('img.movable').style.objectPosition)"
    box = page.locator("img.movable").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - box["width"] / 4, y, steps=3)
    page.mouse.up()
    assert page.evaluate(position) == pytest.approx(75, abs=1)
    finger = page.context.new_cdp_session(page)
    for kind, at in (("touchStart", [x]), ("touchMove", [x + 20]), ("touchMove", [x + 200])):
        points = [{"x": point, "y": y} for point in at]
        finger.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    finger.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert page.evaluate(position) == 0
    page.focus("#chosen input")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(position) == 0
    page.keyboard.press("End")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(position) == 95
    page.keyboard.press("ArrowRight")


def mark_by_click_and_keys(page):
    """Mark the first drawing bad, and the others good: two by keys, which then move on."""
    page.click("#drawings li:nth-child(1) button.good")
    page.wait_for_selector("#drawings li.good:nth-child(1)")
    page.keyboard.press("b")
    page.wait_for_selector("#drawings li.bad:nth-child(1)")
    page.keyboard.press("g")
    page.keyboard.press("G")
    page.wait_for_selector("#drawings li.good:nth-child(2)")
    page.wait_for_selector("#drawings li.good:nth-child(3)")
    page.keyboard.press("ArrowLeft")
    assert page.evaluate("document.activeElement.closest('li').className").split() == [
        "kept",
        "good",
    ]
    assert page.inner_text("#answered") == "2 marked good, 1 bad."


def encoded(file):
    return [file.name, base64.b64encode(file.read_bytes()).decode()]


def test_a_journey(page, images, tmp_path):
    files = sorted(Path(images, "task-03").glob("*.png"))[:5]
    page.wait_for_selector("#model-facts:not(:empty)")
    assert "token" not in page.url
    assert not page.is_visible("#telling label")
    wide = tmp_path / "wide.png"
    picture = Image.new("L", (32, 16))
    picture.paste(Image.open(files[0]), (16, 0))
    picture.save(wide)
    page.evaluate(DROP, [*map(encoded, [wide, *files]), ["broken.png", "AAAA"]])
    page.wait_for_selector("#go:enabled")
    move_the_square(page)
    assert "broken.png cannot be used" in page.inner_text("#chosen .refused")
    page.focus("#go")
    page.keyboard.press("Enter")
    # Watched: images come one step after the other.
    page.wait_for_selector('#way [data-step="12"] img:nth-child(4)')
    steps = page.eval_on_selector_all("#way li", "all => all.map(li => li.dataset.step)")
    assert steps == ["0", "1", "2", "5", "10", "12"]
    page.wait_for_selector("#done:not([hidden])")
    # The wide image is cut where its square was left.
    [given] = (tmp_path / "state").glob("*/given-0.png")
    assert Image.open(given).tobytes() == Image.open(files[0]).tobytes()
    page.fill("#count", "3")
    page.focus("#draw-go")
    page.keyboard.press("Enter")
    page.wait_for_selector("#drawings li:nth-child(3)")
    page.wait_for_selector("#draw-go:enabled")
    assert page.input_value("#seed") == "3"
    page.click("#drawings li:nth-child(2) button.keep")
    page.wait_for_selector("#drawings li.kept")
    mark_by_click_and_keys(page)
    for link, start in {"#sheet": b"\x89PNG", "#zip": b"PK", "#drawings li a": b"\x89PNG"}.items():
        with page.expect_download() as download:
            page.click(link)
        assert Path(download.value.path()).read_bytes().startswith(start)
    page.reload()
    page.wait_for_selector("#drawings li.kept")
    assert page.locator("#drawings li").count() == 3
    assert page.locator("#drawings li.good").count() == 2
    assert page.locator("#way li").count() == 6
    assert page.locator("#list li").count() == 1
    page.evaluate("() => Promise.all([...document.images].map(image => image.decode()))")
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#delete")
    page.wait_for_selector("#start:not([hidden])")
    page.wait_for_selector("#list li", state="detached")


SCREENS = ({"width": 1280, "height": 720}, {"width": 360, "height": 700})


def look(page):
    """Refuse a page, as it stands, that has a serious fault, or is wider than its screen."""
    for screen in SCREENS:
        page.set_viewport_size(screen)
        assert page.evaluate("document.documentElement.scrollWidth") <= screen["width"]
        assert serious_faults(page) == []
    page.set_viewport_size(SCREENS[0])


@pytest.mark.long
def test_no_state_of_the_page_has_a_serious_fault(page, images, tmp_path):
    files = sorted(Path(images, "task-03").glob("*.png"))[:2]
    wide, sound = tmp_path / "wide.png", tmp_path / "tone.wav"
    Image.linear_gradient("L").resize((32, 16)).save(wide)
    sound.write_bytes(to_wave(np.sin(np.arange(4000) / 4)))
    page.wait_for_selector("#model-facts:not(:empty)")
    assert not page.is_visible("#text")
    look(page)
    page.select_option("#model", "told")
    page.evaluate(DROP, [*map(encoded, [wide, *files]), ["broken.png", "AAAA"]])
    page.wait_for_selector("#go:enabled")
    page.click("summary")
    page.fill("#text", "a red fox")
    page.fill("#adapt-steps", "1000")
    look(page)
    page.click("#go")
    page.wait_for_selector("#way li")
    look(page)
    page.evaluate("document.getElementById('stop').click()")  # also where it is done already
    page.wait_for_selector("#done:not([hidden])")
    page.fill("#count", "2")
    page.fill("#draw-text", "a hen")
    page.click("#draw-go")
    page.wait_for_selector("#drawings li:nth-child(2)")
    page.wait_for_selector("#draw-go:enabled")
    page.fill("#draw-text", "")
    page.click("#draw-go")
    page.wait_for_selector("#drawings li:nth-child(4)")
    assert page.locator("#drawings .good").count() == 2
    page.click("#drawings .good")
    page.locator("#drawings .bad").last.click()
    page.click("#drawings .keep")
    page.wait_for_selector("#drawings li.kept")
    page.wait_for_selector("#drawings li.bad")
    look(page)
    page.click("#compare")
    page.wait_for_selector('#pair[aria-busy="false"]')
    look(page)
    # From words and a sound alone.
    page.click("#new")
    page.select_option("#model", "told")
    page.fill("#text", "an owl")
    page.set_input_files("#audio", sound)
    page.wait_for_selector("#go:enabled")
    assert page.inner_text("#go") == "Draw without images"
    look(page)
    page.click("#go")
    # The page of the adaptation before is there until this one's is.
    page.wait_for_function("() => document.getElementById('given-text').innerText == '“an owl”'")
    page.wait_for_selector("#done:not([hidden])")
    page.fill("#count", "2")
    page.click("#draw-go")
    page.wait_for_selector("#drawings li:nth-child(2)")
    assert not page.is_visible("#comparison")
    # The content policy lets the browser read the sound.
    page.wait_for_function("() => document.getElementById('given-sound').duration > 0")
    look(page)


def test_a_lora_is_offered_where_tools_read_it(packed, images, tmp_path):
    named = ["run.name=lora", "adapt.steps=2"]
    models = [
        save_over(tmp_path / "lora", "UNet2DConditionModel", *named),
        save(packed, tmp_path / "small", "run.name=small"),
    ]
    files = sorted(Path(images, "task-03").glob("*.png"))[:2]
    with (
        studio_url(*models, "--trust", "--dir", tmp_path / "state") as url,
        entered(url, tmp_path) as page,
    ):
        for model in ("small", "lora"):
            page.wait_for_selector("#model-facts:not(:empty)")
            page.select_option("#model", model)
            page.evaluate(DROP, [*map(encoded, files)])
            page.wait_for_selector("#go:enabled")
            page.click("#go")
            if model == "small":
                page.wait_for_selector("#done:not([hidden])")
                assert page.is_visible("#adapted") and not page.is_visible("#lora")
                page.click("#new")
        page.wait_for_selector("#lora:not([hidden])", timeout=60_000)
        with page.expect_download() as download:
            page.click("#lora")
        assert download.value.suggested_filename == "lora-lora.safetensors"
        assert load_file(download.value.path())
        look(page)


def brighter(page):
    """The key of the pair's brighter side, by what the page shows."""
    return page.evaluate("""() => {
        const [left, right] = ["left", "right"].map(side => {
            const image = document.querySelector(`#better-${side} img`);
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [image.naturalWidth, image.naturalHeight];
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
            return data.reduce((sum, value) => sum + value, 0);
        });
        return left > right ? "ArrowLeft" : "ArrowRight";
    }""")


def answer(page, key):
    """Press a key once a pair is shown, and wait until the answer counts."""
    page.wait_for_selector('#pair[aria-busy="false"]')
    before = page.inner_text("#answered")
    page.keyboard.press(key or brighter(page))
    page.wait_for_function("t => document.getElementById('answered').innerText !== t", arg=before)


@pytest.mark.long
def test_choices_by_keys_become_a_model_that_prefers(page, images, tmp_path):
    files = sorted(Path(images, "task-03").glob("*.png"))[:5]
    page.wait_for_selector("#model-facts:not(:empty)")
    page.evaluate(DROP, [*map(encoded, files)])
    page.wait_for_selector("#go:enabled")
    page.click("#go")
    page.wait_for_selector("#done:not([hidden])")
    assert page.is_disabled("#prefer")
    page.focus("#compare")
    page.keyboard.press("Enter")
    # The tenth repeats one of the first eight.
    for _ in range(10):
        answer(page, None)
    answer(page, "ArrowUp")
    answer(page, "ArrowDown")
    page.wait_for_selector('#pair[aria-busy="false"]')
    # A person on a phone, by a finger; and the page still fits.
    page.set_viewport_size({"width": 360, "height": 700})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.click("#better-right")
    page.wait_for_function("() => document.getElementById('answered').innerText.startsWith('13')")
    page.set_viewport_size({"width": 1280, "height": 720})
    # In the middle of a pair: nothing that was answered is lost.
    page.reload()
    page.wait_for_function("() => document.getElementById('answered').innerText.startsWith('13')")
    page.click("#compare")
    answer(page, None)
    [file] = (tmp_path / "state").glob("*/choices.jsonl")
    choices = read_choices(str(file))
    assert [c.answer for c in choices[10:12]] == ["tie", "skip"]
    assert [c.repeated for c in choices] == [n == 9 for n in range(14)]
    assert all(0 < c.seconds < 60 for c in choices)
    # Elsewhere the keys are the page's own.
    page.click("#compare-end")
    page.keyboard.press("ArrowLeft")
    assert page.inner_text("#answered") == "14 answers so far."
    page.click("#prefer")
    page.wait_for_selector("#working:not([hidden])")
    page.click("#stop")
    page.wait_for_selector("#report:not([hidden])", timeout=120_000)
    assert "Repeated pairs that had the same answer again" in page.inner_text("#report")
    assert page.locator("#list li").count() == 2


@pytest.mark.parametrize(
    ("module", "needless"),
    [
        # The address waits for these.
        ("serving.opening, serving.studio", ["torch", "numpy", "pydantic", "starlette"]),
        # And the first request for these.
        (
            "serving.studio_app",
            ["matplotlib", "scipy", "sklearn", "metatrain.training", "metatrain.evaluation"],
        ),
    ],
    ids=["address", "page"],
)
def test_a_start_imports_nothing_that_only_others_need(module, needless):
    code = f"import sys, {module}; print([m for m in {needless} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n", result.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [(["nowhere"], "no model at nowhere"), ([], "no model in ./runs")],
)
def test_a_mistake_is_a_sentence(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(named, "SHIPPED", tmp_path / "none")
    command = ["studio", *arguments, "--dir", str(tmp_path / "state"), "--no-browser"]
    assert run("metatrain", {"studio": STUDIO}, command) == 1
    assert sentence in capsys.readouterr().err
