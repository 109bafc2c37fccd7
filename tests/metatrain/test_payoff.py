"""The payoff's cells resume, are scored as evaluate scores, and are all on its page."""

import json
import os
import shutil
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.figures import png
from benchmarks.payoff.__main__ import main
from benchmarks.payoff.cell_files import read_cell_scores
from benchmarks.payoff.cells import Cells
from benchmarks.payoff.figure import payoff_svg
from benchmarks.payoff.groups import KID, OWN_TASK, Group, mean_score, need, read_groups
from benchmarks.payoff.plan import (
    Cell,
    all_cells,
    cell_key,
    cell_trainings,
    chosen_cells,
    read_plan,
)
from benchmarks.payoff.unlabelled import make_groups
from metatrain.api import evaluate
from metatrain.base.errors import UserError
from metatrain.data.loader import open_tasks
from metatrain.data.packed.store import EpisodeStore
from metatrain.data.tasks.pool import Pool
from metatrain.evaluation.scores.statistics import Score, mean_of, score
from metatrain.metrics.network import NETWORK
from metatrain.training.run_data import training_sampler

PLAN = Path(__file__).parents[2] / "benchmarks" / "payoff" / "payoff.yaml"
JOINT = {"learner.name": "joint", "meta.batch": 4}
SMALL = {
    "overrides": {
        "generator.width": 8,
        "data.image_size": 16,
        "data.shots": 3,
        "data.queries": 3,
        "objective.sampler.steps": 2,
        "inner.steps": 2,
    },
    "tflop": [0.001],
    "seeds": [0],
    "inner_steps": [0, 1, 3],
    "rates": [0.002, 0.004],
    "validation_tasks": 2,
    "test_tasks": 3,
    "data": {"stripes": {"pack": ["stripes"], "base": "configs/icons.yaml"}},
    "methods": {
        "scratch": [],
        "joint": [{"changes": JOINT}],
        "joint-then-reptile": [{"share": 0.6, "changes": JOINT}, {"share": 0.4, "changes": {}}],
        "reptile": [{"changes": {}}],
        "reptile-on-random-groups": [{"changes": {}, "groups": "chance"}],
    },
}
LAST = Cell("stripes", 0.001, 0, "joint-then-reptile")


@pytest.fixture(autouse=True)
def _same_signals(monkeypatch):
    """The command takes SIGTERM for itself."""
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr("benchmarks.payoff.plan._CHECKPOINT_FLOPS", 2e8)
    yield
    signal.signal(signal.SIGTERM, before)


class Workplace:
    """A folder with a plan and its packed data."""

    def __init__(self, folder: Path, packed: str, **changes: object) -> None:
        self.folder, self.plan = folder, folder / "plan.yaml"
        shutil.copytree(packed, folder / "data" / "stripes")
        self.plan.write_text(yaml.safe_dump(SMALL | changes))

    def run(self, *options: str) -> int:
        places = ["--plan", self.plan, "--folder", self.folder, "--out", self.folder / "docs"]
        return main([*map(str, places), *options])

    @property
    def cells(self) -> Cells:
        return Cells(read_plan(str(self.plan)), str(self.folder), 1)


@pytest.fixture
def place(packed, tmp_path):
    return Workplace(tmp_path / "payoff", packed)


def _end_once_there_is(pattern: str, folder: Path) -> None:
    """Send this process what ends a command, once a file is there."""

    def wait() -> None:
        while not list(folder.glob(pattern)):
            time.sleep(0.002)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def test_an_interrupted_cell_resumes_and_a_finished_one_is_not_repeated(packed, place, tmp_path):
    whole = Workplace(tmp_path / "whole", packed)
    assert whole.run("--only", LAST.name) == 0
    network = f"cells/stripes/{NETWORK}"
    (place.folder / network).parent.mkdir(parents=True)
    shutil.copy(whole.folder / network, place.folder / network)
    for pattern in ("stage-2/checkpoints/*", "work/*.safetensors"):
        _end_once_there_is(f"cells/{LAST.name}/{pattern}", place.folder)
        assert place.run("--only", LAST.name) == 130
        assert place.cells.result(LAST) is None
    assert place.run("--only", LAST.name) == 0
    ours, theirs = (read_cell_scores(w.cells.folder_of(LAST)) for w in (place, whole))
    assert {k: {n: s.value for n, s in v.items()} for k, v in ours.items()} == {
        k: {n: s.value for n, s in v.items()} for k, v in theirs.items()
    }
    assert list(ours) == [0, 1, 3]
    result = Path(place.cells.folder_of(LAST), "result.json")
    before = result.stat().st_mtime_ns
    assert place.run("--only", LAST.name) == 0
    assert result.stat().st_mtime_ns == before
    place.plan.write_text(yaml.safe_dump(SMALL | {"rates": [0.004]}))
    assert place.cells.result(LAST) is None  # measured by another plan


def test_scores_are_those_of_evaluate_and_the_page_has_all_cells(place, capsys):
    assert place.run("--only", "stripes/scratch", "stripes/joint") == 0
    cell = Cell("stripes", 0.001, 0, "joint")
    folder, result = place.cells.folder_of(cell), place.cells.result(cell)
    assert result
    assert set(result.validation) == {"0.002", "0.004"}
    assert result.validation[f"{result.rate:g}"] == min(result.validation.values())
    model, out = f"{folder}/rate-{result.rate:g}", place.folder / "evaluation"
    out.mkdir()
    shutil.copy(place.folder / "cells" / "stripes" / NETWORK, out)
    data = place.folder / "data" / "stripes"
    evaluation = evaluate(model, data, tasks=3, seeds=1, workers=1, out=out, trust=True)
    scores = read_cell_scores(folder)
    for space, metrics in evaluation.result.scores.items():
        for metric in ("kid", "own_task", "memorised"):
            value = scores[3][f"{space}/{metric}"].value
            assert value == pytest.approx(metrics[metric].value, abs=1e-6)
    page = (place.folder / "docs" / "payoff.md").read_text()
    assert "| stripes | joint |  | 1 of 1 |" in page
    assert "| stripes | reptile |  | not run |" in page
    numbers = json.loads((place.folder / "docs" / "payoff.json").read_text())
    joint = next(g for g in numbers["groups"] if g["method"] == "joint")
    assert joint["scores"]["3"][KID]["value"] == scores[3][KID].value
    assert f"{scores[3][KID].value:z.3f} [" in page
    assert place.run("--list") == 0
    listed = capsys.readouterr().out
    assert listed.count("not run") == 3
    groups = read_groups(place.cells, all_cells(read_plan(str(place.plan))))
    real = {"stripes": scores[3]}
    svg = payoff_svg(groups, real, ["scratch", "joint"])
    assert ElementTree.fromstring(svg).tag.endswith("svg")
    assert png(svg).startswith(b"\x89PNG")


def _scores(values: list[float]) -> Score:
    return score(mean_of(torch.tensor(values)), len(values))


def _group(curve: dict[int, float], name: str) -> Group:
    scores = {k: {name: _scores([value, value + 0.1])} for k, value in curve.items()}
    return Group(data="icons", method="reptile", tflop=4.0, results=[], scores=scores, pace=0.5)


@given(st.lists(st.integers(0, 20), min_size=1, max_size=6), st.integers(0, 20))
def test_the_steps_needed_are_the_first_that_are_as_good(values, target):
    for name, sign in ((KID, 1), (OWN_TASK, -1)):
        curve = {2**i: float(sign * value) for i, value in enumerate(values)}
        least = need(_group(curve, name), _scores([sign * target, sign * target + 0.1]), name)
        good = [k for k, value in enumerate(values) if value <= target]
        assert (least.steps if least else None) == (2 ** good[0] if good else None)
        assert least is None or least.seconds == least.steps / 2


@given(st.lists(st.lists(st.floats(-1, 1), min_size=4, max_size=4), min_size=1, max_size=4))
def test_the_mean_of_scores_is_the_score_of_means(trainings):
    mean = mean_score([_scores(values) for values in trainings])
    expected = _scores(torch.tensor(trainings).double().mean(dim=0).tolist())
    assert mean.value == pytest.approx(expected.value, abs=1e-6)
    torch.testing.assert_close(mean.resampled, expected.resampled, atol=1e-6, rtol=0)
    torch.testing.assert_close(mean.influence, expected.influence, atol=1e-6, rtol=0)


def test_stages_divide_the_budget_and_start_from_one_another(tmp_path):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(SMALL))
    plan = read_plan(str(tmp_path / "plan.yaml"))
    cell = replace(LAST, tflop=0.1, seed=1)
    first, second = cell_trainings(plan, cell, "data", str(tmp_path))
    assert first.flops + second.flops == pytest.approx(1e11, rel=0.02)
    assert first.flops == pytest.approx(1.5 * second.flops, rel=0.02)
    assert second.config.run.init == first.config.run.url
    assert (first.config.learner.name, second.config.learner.name) == ("joint", "reptile")
    assert (first.config.seed, second.config.adapt.steps) == (1, plan.inner_steps[-1])


def test_a_cell_without_labels_trains_on_groups_of_the_images(packed, tmp_path):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(SMALL))
    place = Workplace(tmp_path / "payoff", packed)
    cell = Cell("stripes", 0.001, 0, "reptile-on-random-groups")
    data_url = str(place.folder / "data" / "stripes")
    make_groups(data_url, "chance")
    plan = read_plan(str(place.plan))
    [training] = cell_trainings(plan, cell, data_url, str(tmp_path))
    source = open_tasks(training.config.data)
    sampler = training_sampler(source, training.config)
    assert sampler.epoch == 10 * -(-len(Pool(EpisodeStore(data_url), "train")) // 20)
    assert sampler.plan(0, 0).name.startswith("cluster ")


def test_a_cell_is_out_of_date_once_its_base_has_other_values(tmp_path):
    base = tmp_path / "base.yaml"
    data = {"stripes": {"pack": ["stripes"], "base": str(base)}}
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(SMALL | {"data": data}))
    plan = read_plan(str(tmp_path / "plan.yaml"))
    keys = []
    for content in ("meta: {lr: 0.1}", "# A comment.\nmeta: {lr: 0.1}", "meta: {lr: 0.2}"):
        base.write_text(content)
        keys.append(cell_key(plan, LAST))
    assert keys[0] == keys[1] != keys[2]


def test_cells_are_chosen_by_name_and_budget():
    cells = all_cells(read_plan(str(PLAN)))
    names = [cell.name for cell in chosen_cells(cells, ["icons-32/joint", "icons-32/scratch"], [])]
    assert names[:4] == [*(f"icons-32/scratch/0/{s}" for s in range(3)), "icons-32/joint/4/0"]
    assert len(names) == 3 + 4 * 3
    assert {cell.tflop for cell in chosen_cells(cells, ["*/joint/*"], [20.0])} == {20.0}
    with pytest.raises(UserError, match="no cell matches"):
        chosen_cells(cells, ["icon-32"], [])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"methods": {"reptile": [{"changes": {}}]}}, "no 'joint' under methods"),
        ({"inner_steps": [3, 0]}, "rising order"),
        ({"tflops": [1]}, "tflops"),
        ({"tflop": "many"}, "tflop"),
    ],
)
def test_a_plan_that_cannot_be_used_is_refused_in_a_sentence(changes, sentence, tmp_path):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump(SMALL | changes))
    with pytest.raises(UserError, match=sentence):
        read_plan(str(tmp_path / "plan.yaml"))


def test_there_is_no_page_without_cells(place, capsys):
    assert place.run("--page") == 1
    assert "no cell is done" in capsys.readouterr().err
