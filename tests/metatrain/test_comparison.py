"""The comparison of several runs: only comparable runs, and no claim that chance may explain."""

import itertools
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from evaluated_run import SCORES, make_run
from parsed_page import Page

from metatrain.base.errors import UserError
from metatrain.cli.command import run as run_command
from metatrain.cli.commands import COMMANDS
from metatrain.data.pictures import png
from metatrain.evaluation.results import read_evaluation
from metatrain.evaluation.strip_files import read_strips
from metatrain.evaluation.validation import ValidationResult, ValidationScores, write_validations
from metatrain.report import write_comparison
from metatrain.report.compared_runs import COLOURS
from metatrain.report.pages import data_url
from metatrain.report.task_choice import most_different, worst_and_best

HOSTILE = ["<script>alert(1)</script>", "\"><img src=x onerror='alert(1)'>", "../../{{ 7 * 7 }}"]
TASKS = [*HOSTILE, "U+0416", *(f"task {i}" for i in range(8))]
# KID and own-task share that are far better than those of `SCORES`, and hardly better.
FAR, HARDLY = (-0.043, 0.869), (0.006, 0.771)


def scores(last):
    return [*SCORES[:3], last, SCORES[-1]]


def _validation_scores(k, kid):
    return ValidationScores(k=k, loss=0.3, own_task=0.5, similarity=0.5, kid=kid, task_kid=0.1)


def validate(run, *kids):
    """Write the validations of a run with these KIDs, one after each outer step."""
    validations = [
        ValidationResult(step, [_validation_scores(k, kid) for k in (1, 10)])
        for step, kid in enumerate(kids, start=1)
    ]
    write_validations(run, validations)


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[str]:
    """Three runs: one, one that is far better, and one that is hardly better than the first."""
    root = tmp_path_factory.mktemp("runs")
    shares = [i / len(TASKS) for i in range(len(TASKS))]
    odd = [*shares[:9], 0.0, *shares[10:]]
    (root / "network").write_bytes(b"a network")
    validated = ["validation.tasks=4", f"validation.network={root}/network"]
    made = [
        make_run(f"{root}/one", TASKS, own_task=shares, overrides=["run.name=one", *validated]),
        make_run(
            f"{root}/far",
            TASKS,
            scores(FAR),
            seed=1,
            own_task=odd,
            overrides=["run.name=far", "data.queries=3", *validated],
        ),
        make_run(f"{root}/hardly", TASKS, scores(HARDLY), seed=2, overrides=["run.name=hardly"]),
    ]
    validate(made[0], 0.5, 0.25)
    validate(made[1], 0.4)
    return made


@pytest.fixture(scope="module")
def source(runs) -> str:
    """The page that compares all three runs."""
    return Path(write_comparison(runs)).read_text()


@pytest.fixture(scope="module")
def page(source) -> Page:
    return Page(source)


def test_page_is_self_contained_and_hostile_names_are_text(page):
    page.check_self_contained()
    assert all(name in page.text for name in HOSTILE)


def test_every_run_and_shared_baseline_has_its_scores_and_intervals(runs, page):
    for run in runs:
        evaluation = read_evaluation(f"{run}/evaluation")
        for name in (evaluation.system, "copy-support", "held-out real"):
            kid = evaluation.results[name].scores["metric network"]["kid"]
            text = f"{kid.value:.3f}{kid.low:.3f} to {kid.high:.3f}".replace("-", "−")
            assert text in page.text
    # A baseline with the same scores in every run has one row in each of the two tables.
    assert len(re.findall(r"held-out real\s*[−\d]", page.text)) == 2
    assert "HOG" in page.text


def test_the_best_run_is_named_where_the_difference_is_significant(runs, tmp_path):
    out = f"{tmp_path}/page.html"
    assert write_comparison(runs[:2], out) == out
    assert "far is best. far has the lowest KID, −0.043" in Path(out).read_text().replace(
        "</b>", ""
    )


def test_a_difference_that_may_be_chance_is_marked_not_significant(runs, page, tmp_path):
    pairs = [f"{a} against {b}" for a, b in (("far", "one"), ("hardly", "one"), ("hardly", "far"))]
    rows = page.text[page.text.index(pairs[0]) : page.text.index("Scores over cost")]
    far, hardly, others = re.split("|".join(pairs), rows)[1:]
    better = r"betterp = 0\.0\d+, Holm 0\.\d+ "
    kid, own_task = r" −0\.050−0\.\d+ to −0\.\d+", r"\+10\.0%\d+\.\d to \d+\.\d"
    assert re.match(f"{kid}{better}{own_task}{better}", far)
    assert len(re.findall(r"not significantp = [\d.]+, Holm [\d.]+", hardly)) == 3
    assert "worse" in others
    out = write_comparison([runs[0], runs[2]], f"{tmp_path}/page.html")
    text = Page(Path(out).read_text()).text
    assert "No run is best for sure. hardly has the lowest KID" in text
    assert "against one this may be chance" in text


def test_no_run_is_best_where_the_metrics_disagree(runs, tmp_path):
    run = make_run(f"{tmp_path}/run", TASKS, scores((-0.02, 0.3)), seed=3)
    text = Page(Path(write_comparison([runs[0], run])).read_text()).text
    assert "No run is best. small has the lowest KID" in text
    assert "one has most images recognised" in text


def test_curves_are_over_inner_steps_seconds_and_training_images(page):
    titles = ["KID, lower is better", "Own-task share in %, higher is better"]
    assert [page.text.count(title) for title in titles] == [3, 3]
    for over in ("inner steps", "seconds of adapting", "training images seen"):
        assert page.text.count(f"{over}one, ") == 2
    values = re.findall(r"(one|far|hardly), ([\d.,]+): (-?[\d.]+)", page.text)
    # After the last inner step, and after 1 and 2 outer steps of 2 episodes of 10 or of 8 images.
    assert {("one", "10", "0.007"), ("far", "10", "-0.043"), ("one", "1.25", "0.007")} <= {*values}
    assert {("one", "20", "0.5"), ("one", "40", "0.25"), ("far", "16", "0.4")} <= {*values}
    assert "Not in the curves over training: hardly, not validated" in page.text


def test_validations_by_another_protocol_are_not_in_one_chart(runs, tmp_path):
    root = Path(runs[0]).parent
    overrides = ["run.name=other", "validation.tasks=5", f"validation.network={root}/network"]
    run = make_run(f"{tmp_path}/run", TASKS, overrides=overrides)
    validate(run, 0.1)
    text = Page(Path(write_comparison([runs[0], run])).read_text()).text
    assert "other, validated with other validation.tasks than one" in text
    assert "one, 20: 0.5" in text
    assert "other, 20" not in text


def test_the_same_tasks_are_shown_of_every_run(runs, page):
    evaluation = read_evaluation(f"{runs[0]}/evaluation")
    strips = read_strips(f"{runs[0]}/evaluation", evaluation, range(6))
    expected = []
    for strip in strips:
        samples = [image for images in strip.samples.values() for image in images[:2]]
        expected += [*strip.support, *(3 * samples), *strip.real]
    images = [attributes["src"] for tag, attributes in page.elements if tag == "img"]
    assert images[: len(expected)] == [data_url(png(image)) for image in expected]
    assert len(images) == (6 + 3 + 3 + 3) * len(expected) // 6


def test_remarkable_tasks_have_the_highest_lowest_or_most_different_shares(runs, page):
    assert re.search(r"Largest differences between the runs\s+task 5\s+support", page.text)
    assert re.search(r"Best on average\s+task 7\s+support", page.text)
    assert re.search(r"Worst on average\s+<script>", page.text)
    original = read_evaluation(f"{runs[0]}/evaluation")

    def evaluation(own_task, kid):
        result = replace(original.result, own_task=own_task, task_kid=kid)
        return replace(original, results=original.results | {original.system: result})

    a = evaluation([0.5, 0.5, 1.0, 0.0, 0.5], [0.3, 0.2, 0.1, 0.1, float("nan")])
    b = evaluation([0.5, 0.5, 0.9, 0.2, 0.5], [0.3, 0.2, 0.1, 0.1, 0.1])
    assert worst_and_best([a, b], 2) == ([3, 4], [2, 1])
    assert worst_and_best([a, b], 9) == ([3, 4], [2, 1])
    assert most_different([a, b], 2) == [3, 2]


def test_keys_that_differ_are_listed_and_no_others(page):
    table = page.text[page.text.index("Configurations") :]
    assert "data.queries535" in table
    assert "validation.tasks440" in table
    assert "meta.steps" not in table
    assert "run.name" not in table


@pytest.fixture(scope="module")
def other(tmp_path_factory) -> str:
    """A run whose evaluation the tests below change."""
    return make_run(f"{tmp_path_factory.mktemp('runs')}/other", TASKS)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"episodes": {"data": "0" * 64}}, "two data sets (sha256 dddddddddddd and 000000000000)"),
        ({"episodes": {"split": "val"}}, "on the splits test and val"),
        ({"episodes": {"sha256": "0" * 64}}, "two lists of episodes"),
        ({"episodes": {"shots": 1}}, "adapted to 5 and 1 images of a task"),
        ({"episodes": {"seeds": 1}}, "with 2 and 1 seeds"),
        ({"episodes": {"tasks": TASKS[:4]}}, "on 12 and 4 tasks"),
        (
            {"first_space": {"sha256": "0" * 64}},
            "two metric networks (sha256 eeeeeeeeeeee and 000000000000)",
        ),
    ],
)
def test_runs_with_different_evaluations_are_refused_in_one_sentence(
    runs, other, capsys, changes, sentence
):
    values = json.loads(Path(runs[0], "evaluation", "evaluation.json").read_text())
    values["episodes"] |= changes.get("episodes", {})
    values["spaces"][0] |= changes.get("first_space", {})
    for result in values["results"].values():
        for scores in ("own_task", "task_kid"):
            del result[scores][len(values["episodes"]["tasks"]) :]
    Path(other, "evaluation", "evaluation.json").write_text(json.dumps(values))
    assert run_command("metatrain", COMMANDS, ["report", runs[0], other]) == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert "evaluate them together first" in error
    assert error.count("\n") == 1
    assert not Path(other, "report").exists()


def test_mistakes_are_reported(runs, tmp_path):
    with pytest.raises(UserError, match="is named twice"):
        write_comparison([runs[0], f"{runs[0]}/"])
    with pytest.raises(UserError, match="13 runs are too many"):
        write_comparison([f"run-{i}" for i in range(13)])
    with pytest.raises(UserError, match="no trained model"):
        write_comparison([runs[0], f"{tmp_path}/none"])
    large = make_run(f"{tmp_path}/large", TASKS, overrides=["data.image_size=16"])
    with pytest.raises(UserError, match="generate 8 pixels with 1 channel and 16 pixels"):
        write_comparison([runs[0], large])


def test_runs_of_one_name_are_named_after_their_folders(runs, tmp_path):
    again = make_run(f"{tmp_path}/again", TASKS, overrides=["run.name=one"])
    text = Page(Path(write_comparison([runs[0], again])).read_text()).text
    assert "again against one" in text
    elsewhere = make_run(f"{tmp_path}/elsewhere/one", TASKS, overrides=["run.name=one"])
    text = Page(Path(write_comparison([runs[0], elsewhere])).read_text()).text
    assert f"{elsewhere} against {runs[0]}" in text


# Machado, Oliveira and Fernandes 2009, "A Physiologically-based Model for Simulation of Color
# Vision Deficiency", table 1 at severity 1, on linear RGB: without red, green and blue cones.
COLOUR_VISION = {
    "all": np.eye(3),
    "protan": np.array(
        [[0.152, 1.053, -0.205], [0.115, 0.786, 0.099], [-0.004, -0.048, 1.052]]
    ),
    "deutan": np.array([[0.367, 0.861, -0.228], [0.280, 0.673, 0.047], [-0.012, 0.043, 0.969]]),
    "tritan": np.array([[1.256, -0.077, -0.179], [-0.078, 0.931, 0.148], [0.005, 0.691, 0.304]]),
}  # fmt: skip


def linear(colour):
    values = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def lab(rgb):
    """Convert linear sRGB to CIELAB, whose distances are about proportional to perceived ones."""
    to_xyz = np.array(
        [[0.4125, 0.3576, 0.1804], [0.2127, 0.7152, 0.0722], [0.0193, 0.1192, 0.9503]]
    )
    xyz = to_xyz @ rgb.clip(0, 1) / [0.9505, 1, 1.0888]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


@pytest.mark.parametrize("vision", COLOUR_VISION)
@pytest.mark.parametrize("scheme", [0, 1])
def test_everyone_can_tell_the_colours_of_runs_apart_in_light_and_dark(source, vision, scheme):
    page = re.findall(r"--page: (#\w{6})", source)[scheme]
    colours = [re.findall(rf"--run-{i}: (#\w{{6}})", source)[scheme] for i in range(COLOURS)]
    colours_seen = [lab(COLOUR_VISION[vision] @ linear(colour)) for colour in colours]
    # Six times a just noticeable difference; against the page, the contrast that WCAG 2.2 demands.
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(colours_seen, 2)) > 15
    for colour in colours:
        light, dark = sorted((lab(linear(c))[0] for c in (colour, page)), reverse=True)
        light, dark = (((value + 16) / 116) ** 3 for value in (light, dark))
        assert (light + 0.05) / (dark + 0.05) > 3
