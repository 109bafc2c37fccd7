"""Soups against their definition, and the command `metatrain combine`."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.combine.soup import greedy_soup, uniform_soup
from metatrain.config import Config, load_config
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.model.model import Model


def number(value):
    """Return a model with one parameter."""
    return Model(Config(), {"w": torch.tensor([value], dtype=torch.float64)}, step=1)


def value(model):
    return model.parameters["w"].item()


def test_a_uniform_soup_is_the_mean(saved):
    parameters = [load_model(url).parameters for url in saved]
    soup = uniform_soup({url: load_model(url) for url in saved})
    for name, p in soup.parameters.items():
        mean = sum(own[name].double() for own in parameters) / 3
        torch.testing.assert_close(p.double(), mean, rtol=1e-6, atol=1e-7)
    assert soup.step == 3
    assert soup.config == load_model(saved[0]).config


def test_a_greedy_soup_takes_who_does_it_no_harm_in_the_order_of_scores():
    messages = []
    members = {"far": number(9.0), "over": number(1.5), "best": number(-0.5), "under": number(-1.0)}
    soup = greedy_soup(members, lambda model: abs(value(model)), messages.append)
    # The best is off by 0.5; it and -1.0 by 0.75, it and 1.5 by 0.5 again, these and 9.0 by 3.33.
    assert value(soup) == pytest.approx(0.5)
    assert messages[4:] == [
        "best is kept: it is the best member",
        "under is left out: with it the soup scores 0.7500, without it 0.5000",
        "over is kept: with it the soup scores 0.5000, without it 0.5000",
        "far is left out: with it the soup scores 3.3333, without it 0.5000",
    ]


@given(
    values=st.lists(st.floats(-10, 10), min_size=1, max_size=6),
    minima=st.lists(st.floats(-10, 10), min_size=1, max_size=3),
)
def test_a_greedy_soup_is_never_worse_than_its_best_member(values, minima):
    def score(model):
        return min(abs(value(model) - minimum) for minimum in minima)

    members = {str(i): number(v) for i, v in enumerate(values)}
    best = min(score(model) for model in members.values())
    assert score(greedy_soup(members, score, report=lambda line: None)) <= best + 1e-12


@pytest.fixture
def saved(config, tmp_path):
    """Paths of three models with one configuration."""
    urls = []
    for seed in (1, 2, 3):
        parameters = build_theta(config.model_copy(update={"seed": seed})).copy()
        urls.append(f"{tmp_path}/{seed}.safetensors")
        Model(config, parameters, step=seed).save(urls[-1])
    return urls


@pytest.fixture
def other(overrides, tmp_path):
    """A function that writes a model with another configuration, and returns its path."""

    def save(*more):
        config = load_config(None, [*overrides, *more])
        parameters = {n: p.detach() for n, p in build_theta(config).named().items()}
        url = f"{tmp_path}/other.safetensors"
        Model(config, parameters, step=1).save(url)
        return url

    return save


@pytest.fixture
def five_images(tmp_path):
    folder = tmp_path / "five"
    folder.mkdir()
    for i in range(5):
        Image.new("RGB", (40, 30), (50 * i, 10, 10)).save(folder / f"{i}.png")
    return folder


def metatrain(*arguments):
    return run("metatrain", COMMANDS, [str(a) for a in arguments])


@pytest.mark.parametrize("how", ["uniform", "ensemble", "mixture"])
def test_what_is_combined_is_adapted_and_drawn_from_as_any_model(
    how, saved, five_images, tmp_path, capsys
):
    out = f"{tmp_path}/out/combined.safetensors"
    assert metatrain("combine", how, *saved, "--out", out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert metatrain("adapt", out, five_images, "--out", tmp_path) == 0
    adapted = f"{tmp_path}/adapted.safetensors"
    assert metatrain("generate", adapted, "-n", 4, "--out", f"{tmp_path}/g.png") == 0
    before, after = load_model(out).parameters, load_model(adapted).parameters
    assert any(not torch.equal(p, after[n]) for n, p in before.items())


def test_members_trained_in_other_ways_make_a_soup(saved, other, tmp_path):
    url = other("objective.condition_dropout=0.5", "objective.sampler.steps=9", "meta.lr=0.1")
    assert metatrain("combine", "uniform", *saved, url, "--out", f"{tmp_path}/o.safetensors") == 0


def test_a_greedy_soup_is_scored_on_validation_tasks_and_says_who_was_kept(saved, tmp_path, capsys):
    out = f"{tmp_path}/out/soup.safetensors"
    assert metatrain("combine", "greedy", *saved, "--tasks", 2, "--trust", "--out", out) == 0
    lines = capsys.readouterr().out.splitlines()
    assert sum(" scores " in line and " is " not in line for line in lines) == 3
    assert sum("is kept: it is the best member" in line for line in lines) == 1
    assert sum(" is " in line for line in lines) == 3
    kept = [line.split()[0] for line in lines if " is kept: " in line]
    expected = uniform_soup({url: load_model(url) for url in kept})
    soup = load_model(out)
    assert all(torch.equal(p, expected.parameters[n]) for n, p in soup.parameters.items())
    again = f"{tmp_path}/out/again.safetensors"
    assert metatrain("combine", "greedy", *saved, "--tasks", 2, "--trust", "--out", again) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == lines[:-1], "scores can be measured again"


@pytest.mark.parametrize("how", ["uniform", "greedy", "ensemble", "mixture"])
@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        (["{a}"], "cannot be combined alone; give two models or more"),
        (["{a}", "{b}", "{a}"], "1.safetensors is given twice; give each model once"),
        (["{a}", "{tmp}/none"], "there is no model at"),
        (["{a}", "generator.width=16"], "they differ in generator.width; give models of"),
        (["{a}", "data.image_size=32"], "they differ in data.image_size; give models of"),
        (["{a}", "generator.heads=4"], "they differ in generator.heads; give models of"),
        (["{a}", "inner.scope.name=lora"], "other.safetensors "),
    ],
)
def test_models_that_cannot_be_combined_are_refused_in_a_sentence(
    how, models, sentence, saved, other, tmp_path, capsys
):
    places = {"a": saved[0], "b": saved[1], "tmp": tmp_path}
    urls = [m.format(**places) if "{" in m else other(m) for m in models]
    assert_refused(["combine", how, *urls], sentence, tmp_path, capsys)


@pytest.mark.parametrize("how", ["uniform", "greedy"])
def test_parameters_of_another_learner_make_no_soup(how, saved, other, tmp_path, capsys):
    arguments = ["combine", how, saved[0], other("learner.name=meta-sgd")]
    assert_refused(arguments, "give models of one learner and one inner.scope", tmp_path, capsys)


def test_other_mistakes_are_told_in_a_sentence(saved, tmp_path, capsys):
    data = ["combine", "greedy", *saved, "--data", f"{tmp_path}/none"]
    assert_refused(data, "none", tmp_path, capsys)
    sigma = ["combine", "post-hoc", tmp_path, "--sigma", "0.5"]
    assert_refused(sigma, "sigma is 0.5; give a length from 0.01", tmp_path, capsys)
    run_folder = ["combine", "post-hoc", tmp_path, "--sigma", "0.1"]
    assert_refused(run_folder, "there are no averages under", tmp_path, capsys)
    assert metatrain("combine", "uniform", *saved, "--out", f"{tmp_path}/out/m.pt") == 1
    assert "give the name of a .safetensors file" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def assert_refused(arguments, sentence, tmp_path, capsys):
    before = sorted(tmp_path.rglob("*"))
    assert metatrain(*arguments, "--out", f"{tmp_path}/out/m.safetensors") == 1
    error = capsys.readouterr().err
    assert sentence in error
    assert "Traceback" not in error
    assert sorted(tmp_path.rglob("*")) == before, "no file is left behind"
