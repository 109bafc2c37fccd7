"""The page of a run is self-contained, escapes task names, and shows scores and protocol."""

import base64
import json
import re
from pathlib import Path

import fsspec
import pytest
import torch
from browser import browser_page
from evaluated_run import NEAR_COPIES, OVERRIDES, SCORES, make_run, measured, pictures, train
from parsed_page import Page

from metatrain.base.errors import MissingStepError, UserError
from metatrain.config import load_config
from metatrain.data.pictures import png
from metatrain.evaluation.scores.baselines import REAL
from metatrain.evaluation.strip_files import strip_file
from metatrain.report import write_report
from metatrain.report.axis import Axis
from metatrain.report.charts import Curve, Point, line_chart

HOSTILE = ["<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "../../{{ 7 * 7 }}"]


def page(run: str) -> Page:
    return Page(Path(write_report(run)).read_text())


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Page:
    """The page of a run whose tasks have hostile names."""
    return page(make_run(str(tmp_path_factory.mktemp("run")), [*HOSTILE, "U+0416"]))


def test_page_is_self_contained(report):
    report.check_self_contained()


def test_hostile_task_names_are_text(report):
    assert all(name in report.text for name in HOSTILE)


def test_a_name_does_not_turn_the_text_that_follows_it(tmp_path):
    text = page(make_run(f"{tmp_path}/run", ["a\u202eb", "\x1b[2Jc"])).text
    assert "a\\u202eb" in text
    assert "\\x1b[2Jc" in text
    assert not {"\u202e", "\x1b"} & set(text)


def test_hostile_names_do_nothing_in_a_real_browser(tmp_path):
    run = make_run(f"{tmp_path}/run", HOSTILE)
    with browser_page() as (shown, errors):
        shown.on("dialog", lambda dialog: errors.append(dialog.message) or dialog.dismiss())
        shown.on("request", lambda request: errors.append(request.url))
        shown.goto(Path(write_report(run)).as_uri())
        assert all(name in shown.inner_text("body") for name in HOSTILE)
    # The page itself, and the images within it.
    assert [e[:60] for e in errors if not e.startswith(("file:", "data:image/"))] == []


def test_a_task_named_after_a_code_point_shows_its_character(report):
    assert "ЖU+0416" in report.text


def test_every_score_appears_with_its_interval(report):
    for kid, own_task in SCORES:
        assert f"{kid:.3f}".replace("-", "−") in report.text
        assert f"{100 * own_task:.1f}%" in report.text
    assert all(loss in report.text for loss in ("0.3151", "0.3191", "0.2941"))
    kid = measured(["a"], own_task=[0.5])[0].results[REAL].scores["metric network"]["kid"]
    assert f"{kid.low:.3f} to {kid.high:.3f}".replace("-", "−") in report.text
    assert "no joint" in report.text


def test_every_image_is_inlined_in_order(report):
    images = [attributes["src"] for tag, attributes in report.elements if tag == "img"]
    # Of each task its support, the samples after three numbers of steps, and real images.
    strips = [[*support, *(3 * [*support[:3]]), *support[:3]] for support in pictures(4)]
    # All tasks, then the two best and the two worst.
    expected = [png(image) for task in (0, 1, 2, 3, 3, 2, 0, 1) for image in strips[task]]
    encoded = [f"data:image/png;base64,{base64.b64encode(image).decode()}" for image in expected]
    assert images[: len(encoded)] == encoded
    assert len(images) == len(encoded) + 2 * len(NEAR_COPIES)


def test_images_nearest_to_the_support_are_shown_beside_it(report):
    assert "first0.25 · SSIM 1.00 · equal" in report.text
    assert "second0.50 · SSIM 0.83 · 17 dB" in report.text
    framed = [
        a for tag, a in report.elements if tag == "figure" and "memorised" in a.get("class", "")
    ]
    assert len(framed) == 1


def test_the_protocol_is_shown(report):
    for fact in (
        "d" * 12,
        "e" * 12,
        "20 outer steps",
        ", 10 s",
        "1.2 s a task on one core",
        "image_size: 8",
    ):
        assert fact in report.text


def test_states_that_adapting_helps(report):
    assert "Adapting helps." in report.text
    assert "76.9% of the generated images are recognised" in report.text
    assert "KID falls from 0.111 to 0.007" in report.text


@pytest.mark.parametrize(
    ("after", "verdict", "move"),
    [
        ((0.5, 0.0), "Adapting hurts.", "rises from 0.111 to 0.500"),
        ((0.1, 0.21), "Adapting brings no clear gain.", "falls from 0.111 to 0.100"),
        ((0.5, 0.9), "Adapting brings no clear gain.", "rises from 0.111 to 0.500"),
    ],
)
def test_states_when_adapting_does_not_help(tmp_path, after, verdict, move):
    scores = [SCORES[0], (0.111, 0.2), after, SCORES[-1]]
    text = page(make_run(str(tmp_path), ["a", "b"], scores)).text
    assert verdict in text
    assert move in text


def test_states_when_the_evaluation_is_older_than_the_model(tmp_path):
    run = make_run(str(tmp_path), ["a", "b"], outer_steps=15)
    assert "20 outer steps by now; this page shows it after 15 outer steps" in page(run).text


def test_shows_twelve_tasks_and_the_best_and_the_worst(tmp_path):
    shares = [0.5] * 20
    shares[14], shares[17], shares[3] = 0.9, 0.1, 0.0
    run = make_run(str(tmp_path), [f"task {i}" for i in range(20)], own_task=shares)
    titles = re.findall(r"task (\d+) own task (\d+%)", page(run).text)
    assert [int(task) for task, _ in titles[:12]] == list(range(12))
    assert titles[12] == ("14", "90%")
    assert titles[15:17] == [("3", "0%"), ("17", "10%")]


def test_predicted_quality_is_compared_with_measured_quality(tmp_path):
    run = make_run(str(tmp_path), ["a", "b"], own_task=[0.25, 0.75])
    assert "Predicted quality" not in page(run).text
    file = tmp_path / "evaluation" / "evaluation.json"
    values = json.loads(file.read_text())
    parts = {"correlation": 0.27, "error": 0.125, "held": 0.98, "warned": 0.08}
    estimates = {part: {"value": v, "low": 0.1, "high": 0.4} for part, v in parts.items()}
    shares = {"expected": [0.3, 0.6], "measured": [0.25, 0.75], "extent": [2, 1, 4]}
    values["expectation_quality"] = estimates | shares
    file.write_text(json.dumps(values))
    text = page(run).text
    assert "is 0.27 (0.10 to 0.40), the mean error 12.5% of the images" in text
    assert "98.0% of the tasks lie in the 90% interval. The model flagged 8.0% of the" in text
    assert re.findall(r"a task, (\d+: \d+)", text) == ["30: 25", "60: 75"]


def test_membership_inference_stands_on_the_page(tmp_path):
    run = make_run(str(tmp_path), ["a", "b"])
    assert "Membership inference" not in page(run).text, "an evaluation of before has none"
    file = tmp_path / "evaluation" / "evaluation.json"
    values = json.loads(file.read_text())
    auroc = {"value": 0.81, "low": 0.7, "high": 0.9}
    values["membership"] = {"auroc": auroc, "gap": {"value": 0.2, "low": 0.1, "high": 0.3}}
    file.write_text(json.dumps(values))
    assert "with probability 0.81 (0.70 to 0.90)" in page(run).text


def test_a_run_may_live_at_any_url():
    run = make_run("memory://report/run", ["a", "b"])
    assert write_report(f"{run}/") == f"{run}/report/index.html"
    with fsspec.open(f"{run}/report/index.html", "rt") as file:
        assert "Adapting helps." in file.read()


def test_the_step_that_is_missing_is_named(tmp_path):
    run = str(tmp_path)
    with pytest.raises(MissingStepError, match="no trained model; train it first") as error:
        write_report(run)
    assert error.value.step == "train"
    train(run, load_config(None, OVERRIDES))
    with pytest.raises(MissingStepError, match=f"{run} has not been evaluated") as error:
        write_report(run)
    assert error.value.step == "evaluate"


def test_damage_is_reported(tmp_path):
    run = make_run(str(tmp_path), ["a", "b"])
    strip = tmp_path / "evaluation" / strip_file(1)
    content = strip.read_bytes()
    strip.write_bytes(content[:60])
    with pytest.raises(UserError, match=r"strip\.png is damaged; evaluate the run again"):
        write_report(run)
    strip.write_bytes(png(torch.zeros(1, 70, 33)))
    with pytest.raises(UserError, match=r"strip\.png is damaged; evaluate the run again"):
        write_report(run)
    strip.unlink()
    with pytest.raises(UserError, match=r"nothing at .*strips"):
        write_report(run)
    (tmp_path / "evaluation" / "evaluation.json").write_text("{")
    with pytest.raises(UserError, match=r"evaluation\.json is damaged; evaluate the run again"):
        write_report(run)


@pytest.mark.parametrize(
    ("values", "log", "ticks"),
    [
        ([0, 1000], False, [0, 200, 400, 600, 800, 1000]),
        ([-0.052, 0.111], False, [-0.05, 0, 0.05, 0.1]),
        ([0.3, 2], True, [0.3, 0.5, 0.7, 1, 2]),
        ([0.001, 10], True, [0.001, 0.01, 0.1, 1, 10]),
        ([0.31, 0.36], True, [0.31, 0.32, 0.33, 0.34, 0.35, 0.36]),
    ],
)
def test_ticks_are_round(values, log, ticks):
    assert Axis(values, log=log).ticks() == pytest.approx(ticks)


@pytest.mark.parametrize("values", [[0.9375], [1.0], [0.0], [0.2, 1.0], [0.97, 1.0], [0.9, 1.3]])
@pytest.mark.parametrize("padding", [0.0, 0.05])
def test_the_ticks_of_a_share_end_at_1(values, padding):
    axis = Axis(values, padding=padding, highest=1.0)
    assert len(axis.ticks()) >= 2
    assert max(axis.ticks()) <= 1
    assert all(-1e-9 < axis.place(value) < 1 + 1e-9 for value in [*values, *axis.ticks()])


def test_a_single_point_can_be_drawn():
    curve = Curve(name="c", style="c", points=[Point(0, 0.0)], marker=0)
    figure = line_chart("one", [curve], [], x_label="x")
    assert "nan" not in figure.svg
