"""The page of a run: it needs nothing else, trusts no task name, and says what was measured."""

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import fsspec
import pytest
import torch

from metatrain.build import build_generator
from metatrain.charts import Axis, Curve, Point, draw
from metatrain.checkpoint import CheckpointStore, draft_of
from metatrain.config import Config, load_config
from metatrain.errors import UserError
from metatrain.evaluation.baselines import COPY, JITTERED, REAL
from metatrain.evaluation.candidates import strip_folder
from metatrain.evaluation.measure import METRICS, Scores
from metatrain.evaluation.offenders import offender_file
from metatrain.evaluation.protocol import UNADAPTED
from metatrain.evaluation.results import (
    Episodes,
    Evaluation,
    Moment,
    Offender,
    Result,
    Space,
    estimates,
    write_evaluation,
)
from metatrain.evaluation.statistics import Score
from metatrain.evaluation.table import MAIN
from metatrain.files import write_file
from metatrain.model import Model, save_model
from metatrain.pictures import png
from metatrain.report import write_report
from metatrain.trainer import TrainState, first_state

HOSTILE = ["<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "../../{{ 7 * 7 }}"]
OVERRIDES = ["run.name=small", "data.image_size=8", "generator.width=8", "meta.steps=20"]


# KID and own-task share of copies, after 0, 5 and 10 inner steps, and of real images.
SCORES = [(-0.046, 0.919), (0.111, 0.044), (0.107, 0.375), (0.007, 0.769), (-0.052, 0.925)]


OFFENDERS = [Offender("first", 0.25, True, None, 1.0), Offender("second", 0.5, False, 17.4, 0.83)]


def score(value: float, seed: int) -> Score:
    """A score with an error of 0.01."""
    noise = torch.Generator().manual_seed(seed)
    return Score(value, value + 0.01 * torch.randn(1000, generator=noise, dtype=torch.float64))


def all_scores(kid: float, own_task: float, seed: int) -> Scores:
    values = {"kid": kid, "own_task": own_task}
    first = {name: score(values.get(name, 0.5), seed) for name in METRICS}
    return {"metric network": first, "HOG": {name: first[name] for name in MAIN}}


def measured(tasks: list[str], scores=SCORES, outer_steps=20) -> tuple[Evaluation, dict]:
    """Plausible numbers, no two the same."""
    copies, *way, real = [all_scores(*pair, seed=i) for i, pair in enumerate(scores)]
    systems = {COPY: copies, JITTERED: copies, UNADAPTED: way[0], "small": way[-1], REAL: real}
    curve = {
        step: Moment(
            estimates(of["metric network"] | {"query_loss": score(loss, 9)}), seconds=0.125 * step
        )
        for step, of, loss in zip((0, 5, 10), way, (0.3151, 0.3191, 0.2941), strict=False)
    }
    results = {
        name: Result(
            name,
            "",
            "",
            {space: estimates(metrics) for space, metrics in of.items()},
            [0.5] * len(tasks),
            curve if name == "small" else {},
        )
        for name, of in systems.items()
    }
    episodes = Episodes("b", "c" * 64, True, "d" * 64, "test", 5, 3, 2, tasks, (len(tasks), 3))
    spaces = [Space("metric network", "e" * 64), Space("HOG", "")]
    found = Evaluation(
        episodes, spaces, 1.5, "small", results, outer_steps, ["no joint"], OFFENDERS
    )
    return found, systems


def make_run(run: str, tasks: list[str], scores=SCORES, outer_steps=20) -> str:
    """A run as training and evaluation leave it, in miniature."""
    train(run, load_config(None, OVERRIDES))
    found, systems = measured(tasks, scores, outer_steps)
    images = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    parts = {"support": 5, "real": 3} | {f"step-{n:04d}": 3 for n in found.result.curve}
    for i in range(len(tasks[:12])):
        for part, count in parts.items():
            for n in range(count):
                folder = f"{run}/evaluation/{strip_folder(i)}/{part}"
                write_file(f"{folder}/{n}.png", png(images[n]))
    for i, image in enumerate(images[:4]):
        write_file(
            f"{run}/evaluation/{offender_file(i // 2, ('drawn', 'given')[i % 2])}", png(image)
        )
    write_evaluation(found, systems, f"{run}/evaluation")
    return run


def train(run: str, config: Config) -> None:
    """What training leaves."""
    weights = first_state(build_generator(config)).parameters
    history = [
        {"step": s, "loss": 2 / s, "inner_first": 3 / s, "gradient_norm": 1.0, "seconds": 0.5}
        for s in range(1, 21)
    ]
    average = {name: weight.clone() for name, weight in weights.items()}
    state = TrainState(20, weights, average, {}, history)
    CheckpointStore(run).save(draft_of(state, config))
    save_model(Model(config, average, 20), f"{run}/model.safetensors")


class Page(HTMLParser):
    """All elements with their attributes, and all text, of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements, self.text = [], ""
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += re.sub(r"\s+", " ", data)

    def addresses(self) -> list[str]:
        """Whatever a browser might fetch."""
        fetching = {"src", "srcset", "href", "xlink:href", "data", "poster", "action", "background"}
        return [
            value for _, attributes in self.elements
            for name, value in attributes.items() if name in fetching
        ]  # fmt: skip


def page(run: str) -> Page:
    return Page(Path(write_report(run)).read_text())


@pytest.fixture(scope="module")
def shown(tmp_path_factory) -> Page:
    """The page of a run whose tasks have hostile names."""
    return page(make_run(str(tmp_path_factory.mktemp("run")), [*HOSTILE, "U+0416"]))


def test_page_is_self_contained(shown):
    assert shown.addresses()
    assert all(address.startswith(("data:", "#")) for address in shown.addresses())
    assert not re.search(r"url\(|@import", shown.text)
    assert not {"script", "iframe", "object", "embed"} & {tag for tag, _ in shown.elements}


def test_hostile_task_names_are_text(shown):
    assert all(name in shown.text for name in HOSTILE)
    assert not any(name.startswith("on") for _, attributes in shown.elements for name in attributes)


def test_a_task_named_after_a_code_point_shows_its_character(shown):
    assert "ЖU+0416" in shown.text


def test_every_score_appears_with_its_interval(shown):
    for kid, own_task in SCORES:
        assert f"{kid:.3f}".replace("-", "−") in shown.text
        assert f"{100 * own_task:.1f}%" in shown.text
    assert all(loss in shown.text for loss in ("0.3151", "0.3191", "0.2941"))
    found = measured(["a"])[0].results[REAL].scores["metric network"]["kid"]
    assert f"{found.low:.3f} to {found.high:.3f}".replace("-", "−") in shown.text
    assert "no joint" in shown.text


def test_every_image_is_inlined_in_order(shown):
    rows = 5 + 3 * 3 + 3
    images = [attributes["src"] for tag, attributes in shown.elements if tag == "img"]
    assert len(images) == 4 * rows + 2 * len(OFFENDERS)
    first = torch.rand(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))[0] * 2 - 1
    assert images[0] == f"data:image/png;base64,{base64.b64encode(png(first)).decode()}"


def test_what_is_nearest_to_the_support_is_shown_beside_it(shown):
    assert "first0.25 · SSIM 1.00 · equal" in shown.text
    assert "second0.50 · SSIM 0.83 · 17 dB" in shown.text
    framed = [
        a for tag, a in shown.elements if tag == "figure" and "memorised" in a.get("class", "")
    ]
    assert len(framed) == 1


def test_what_was_measured_is_told(shown):
    for fact in (
        "d" * 12,
        "e" * 12,
        "20 outer steps",
        ", 10 s",
        "1.2 s a task on one core",
        "image_size: 8",
    ):
        assert fact in shown.text


def test_says_that_adapting_helps(shown):
    assert "Adapting helps." in shown.text
    assert "76.9% of what the model draws is recognised" in shown.text
    assert "KID falls from 0.111 to 0.007" in shown.text


@pytest.mark.parametrize(
    ("after", "verdict", "move"),
    [
        ((0.5, 0.0), "Adapting hurts.", "rises from 0.111 to 0.500"),
        ((0.1, 0.21), "Adapting brings no clear gain.", "falls from 0.111 to 0.100"),
        ((0.5, 0.9), "Adapting brings no clear gain.", "rises from 0.111 to 0.500"),
    ],
)
def test_says_when_adapting_does_not_help(tmp_path, after, verdict, move):
    scores = [SCORES[0], (0.111, 0.2), after, SCORES[-1]]
    text = page(make_run(str(tmp_path), ["a", "b"], scores)).text
    assert verdict in text
    assert move in text


def test_says_when_the_evaluation_is_older_than_the_model(tmp_path):
    run = make_run(str(tmp_path), ["a", "b"], outer_steps=15)
    assert "20 outer steps by now; all of this was measured after 15 outer steps" in page(run).text


def test_shows_a_dozen_tasks_at_most(tmp_path):
    run = make_run(str(tmp_path), [f"task {i}" for i in range(20)])
    assert "task 11" in page(run).text
    assert "task 12" not in page(run).text


def test_a_run_may_live_at_any_url():
    run = make_run("memory://report/run", ["a", "b"])
    assert write_report(f"{run}/") == f"{run}/report/index.html"
    with fsspec.open(f"{run}/report/index.html", "rt") as file:
        assert "Adapting helps." in file.read()


def test_what_is_missing_is_told_with_the_command_to_run(tmp_path):
    run = str(tmp_path)
    with pytest.raises(UserError, match="no trained model yet; run `metatrain train CONFIG`"):
        write_report(run)
    train(run, load_config(None, OVERRIDES))
    with pytest.raises(UserError, match=f"not been evaluated yet; run `metatrain evaluate {run}`"):
        write_report(run)


def test_damage_is_told(tmp_path):
    run = make_run(str(tmp_path), ["a", "b"])
    (tmp_path / "evaluation" / strip_folder(1) / "real" / "0.png").unlink()
    with pytest.raises(UserError, match=r"nothing at .*strips"):
        write_report(run)
    (tmp_path / "evaluation" / "evaluation.json").write_text("{")
    with pytest.raises(UserError, match=r"evaluation\.json is damaged; run `metatrain evaluate"):
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


def test_a_single_point_can_be_drawn():
    figure = draw("one", [Curve("c", "c", [Point(0, 0.0)], marked=True)], [], x_label="x")
    assert "nan" not in figure.svg
