"""Recipes: each is written whole, its page shows its commands, and it runs in miniature."""

import re
import shlex
from pathlib import Path

import pytest
from PIL import Image, ImageDraw
from small_models import metatrain

import metatrain as package
from metatrain.cli.recipe import RECIPES, recipes
from metatrain.config import load_config

PAGES = Path(__file__).parents[2] / "docs" / "recipes"
NAMES = sorted(recipes())


def test_recipes_are_listed_with_what_they_make(capsys):
    assert metatrain("recipe") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(line.endswith(".") and not line.count("#") for line in lines)


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_written_and_its_configuration_is_one(name, tmp_path):
    assert metatrain("recipe", name, tmp_path / "new") == 0
    files = {path.name: path.read_bytes() for path in (tmp_path / "new").iterdir()}
    assert files == {path.name: path.read_bytes() for path in (RECIPES / name).iterdir()}
    assert set(files) == {f"{name}.yaml", "commands.sh"}
    assert load_config(str(tmp_path / "new" / f"{name}.yaml")).run.name == name


def test_nothing_is_overwritten(tmp_path, capsys):
    (tmp_path / "art.yaml").write_text("mine")
    assert metatrain("recipe", "art", tmp_path) == 1
    assert "art.yaml is there already" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["art.yaml"]
    assert (tmp_path / "art.yaml").read_text() == "mine"


def test_an_unknown_recipe_and_a_place_that_cannot_be_are_sentences(tmp_path, capsys):
    assert metatrain("recipe", "arts", tmp_path) == 1
    assert "did you mean 'art'?" in capsys.readouterr().err
    (tmp_path / "file").touch()
    assert metatrain("recipe", "art", tmp_path / "file") == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", NAMES)
def test_a_page_shows_the_commands_of_its_recipe(name):
    about, _, commands = (RECIPES / name / "commands.sh").read_text().partition("\nset -e\n\n")
    assert about.startswith("# ") and commands
    assert f"```sh\n{commands}```" in (PAGES / f"{name}.md").read_text()


def test_every_page_is_listed_and_every_recipe_has_one():
    listed = re.findall(r"\]\((\S+\.md)\)", (PAGES / "README.md").read_text())
    assert {page.name for page in PAGES.glob("*.md")} - {"README.md"} <= set(listed)
    assert {f"{name}.md" for name in NAMES} <= set(listed)


def commands_of(name):
    """The commands of a recipe as lists of words."""
    script = (RECIPES / name / "commands.sh").read_text().replace("\\\n", " ")
    lines = [shlex.split(line, comments=True) for line in script.splitlines()]
    return [words for words in lines if words and words != ["set", "-e"]]


def run_recipe(name, small, skipped):
    """Run a recipe where we are, in this process, and with a training without Ray."""
    assert metatrain("recipe", name, ".") == 0
    for program, command, *words in commands_of(name):
        assert program == "metatrain"
        if command == "train":
            package.train(load_config(words[0], [*words[1:], *small]))
        elif command not in skipped:
            assert metatrain(command, *words) == 0, [command, *words]


# Everything as small as it can be.
SMALL = (
    *("data.image_size=16", "generator.width=8", "meta.steps=2", "meta.batch=1", "meta.warmup=0"),
    *("inner.steps=1", "adapt.steps=2", "objective.sampler.steps=2", "checkpoint.every=2"),
)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def paintings(here):
    """Folders of painters, each with a colour."""
    for painter in range(10):
        (here / "paintings" / f"painter{painter}").mkdir(parents=True)
        for picture in range(16):
            image = Image.new("RGB", (20, 16), (255, 20 * painter, 40))
            box = (picture % 8, picture // 8, 10 + picture % 5, 12)
            ImageDraw.Draw(image).ellipse(box, fill=(12 * picture, 20 * painter, 200))
            image.save(here / "paintings" / f"painter{painter}" / f"{picture}.png")
    return here


@pytest.mark.long
def test_art_runs_in_miniature(paintings):
    assert metatrain("pack", "paintings", "data", "--size", 16) == 0
    run_recipe("art", SMALL, skipped=("pack", "evaluate", "report"))
    for name in ("first", "second", "third"):
        with Image.open(f"{name}.png") as sheet:
            assert sheet.mode == "RGB" and min(sheet.size) > 4 * 16


def test_generate_art_draws_in_the_style_of_a_folder(paintings):
    package.pack("paintings", "data", size=16)
    config = ["data.path=data", "data.channels=3", "data.shots=2", "data.queries=2", *SMALL]
    model = package.train(load_config(None, [*config, "run.name=art"]))
    style = sorted((paintings / "paintings" / "painter3").iterdir())[:5]
    art = package.generate_art("runs/art", style, 3, seed=1)
    assert [image.size for image in art] == [(16, 16)] * 3
    assert art == model.adapt(style, seed=1).images(3, seed=1)
