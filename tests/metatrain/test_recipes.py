"""Recipes: each is written whole, its page shows its commands, and it runs in miniature."""

import re
import shlex
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from medical_files import dicom
from PIL import Image, ImageDraw
from safetensors.torch import load_file
from small_models import metatrain

import metatrain as package
from metatrain.cli.recipe import RECIPES, recipes
from metatrain.config import load_config
from metatrain.data.lettering import LETTERS, Typeface

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


def test_every_recipe_has_a_page_and_links_lead_somewhere():
    for page in PAGES.glob("*.md"):
        links = re.findall(r"\]\(([^)#:]+)[^):]*\)", page.read_text())
        assert not [link for link in links if not (PAGES / link).exists()], page
    listed = re.findall(r"\]\((\S+)\.md\)", (PAGES / "README.md").read_text())
    assert {*NAMES} <= {*listed}


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
            package.train(load_config(words[0], [*words[1:], *small]), device="cpu")
        elif command not in skipped:
            assert metatrain(command, *words) == 0, [command, *words]


# Everything as small as it can be.
TINY = ("data.image_size=16", "meta.steps=1", "meta.batch=2", "meta.warmup=0", "inner.steps=1")
SMALL = (*TINY, "generator.width=8", "adapt.steps=2", "objective.sampler.steps=2")


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def paintings(here):
    """Folders of painters, each with colours of its own, packed for 16 pixels."""
    for painter in range(30):
        (here / "paintings" / f"painter{painter}").mkdir(parents=True)
        for picture in range(16):
            image = Image.new("RGB", (20, 16), (255, 8 * painter, 40))
            box = (picture % 8, picture // 8, 10 + picture % 5, 12)
            ImageDraw.Draw(image).ellipse(box, fill=(12 * picture, 8 * painter, 200))
            image.save(here / "paintings" / f"painter{painter}" / f"{picture}.png")
    package.pack("paintings", "data", size=16)
    return here


@pytest.mark.long
def test_art_runs_in_miniature(paintings):
    run_recipe("art", SMALL, skipped=("pack", "evaluate", "report"))
    for name in ("first", "second", "third"):
        with Image.open(f"{name}.png") as sheet:
            assert sheet.mode == "RGB" and min(sheet.size) > 4 * 16


@pytest.mark.long
def test_driving_runs_in_miniature(paintings):
    run_recipe("driving", SMALL, skipped=("pack", "evaluate"))
    assert len([*(paintings / "more").iterdir()]) == 200


@pytest.mark.long
def test_fonts_run_in_miniature(here):
    faces = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    (here / "faces").mkdir()
    for path in faces.glob("DejaVuSans*.ttf"):
        (here / "faces" / path.name).write_bytes(path.read_bytes())
    package.pack("faces", "data", size=16)
    (here / "five").mkdir()
    for letter in "AB":
        drawing = Typeface((faces / "DejaVuSans.ttf").read_bytes(), 64).draw(letter)
        (here / "five" / f"{letter}.png").write_bytes(drawing)
    run_recipe("fonts", SMALL, skipped=("pack", "evaluate"))
    assert {*TTFont("mine.otf").getBestCmap()} == {ord(letter) for letter in f" {LETTERS}"}


@pytest.mark.long
def test_medicine_runs_in_miniature(here, monkeypatch):
    monkeypatch.setenv("XDG_STATE_HOME", str(here / "state"))
    (here / "scans").mkdir()
    generator = np.random.default_rng(0)
    for image in range(30 * 16):
        pixels = generator.integers(0, 4096, (16, 16), dtype=np.uint16)
        (here / "scans" / f"IM{image:04}").write_bytes(dicom(pixels, f"MRN-{image % 30}"))
    run_recipe("medicine", SMALL, skipped=("evaluate",))
    assert len([*(here / "more").iterdir()]) == 64
    assert not [*here.glob("patients/**/*MRN*")]


@pytest.mark.long
def test_product_runs_in_miniature(paintings):
    write_sdxl("sdxl")
    (paintings / "photos").symlink_to(paintings / "paintings" / "painter0")
    small = (
        *TINY,
        "cluster.workers=1",
        "inner.scope.rank=2",
        "adapt.steps=1",
        "objective.sampler.steps=2",
    )
    run_recipe("product", small, skipped=("pack", "plan"))
    assert load_file("lora/pytorch_lora_weights.safetensors")


def write_sdxl(folder):
    """Write a random pipeline of Stable Diffusion XL, as small as it comes."""
    # Importing these takes longer than the quick tests of this file.
    import diffusers
    from tiny_backbones import SDXL, model_of
    from tiny_texts import encoder, tokenizer
    from transformers import CLIPTextModel, CLIPTextModelWithProjection

    layers = {"down_block_types": ["DownEncoderBlock2D"] * 2, "norm_num_groups": 4}
    layers |= {"up_block_types": ["UpDecoderBlock2D"] * 2, "block_out_channels": (8, 8)}
    diffusers.StableDiffusionXLPipeline(
        vae=diffusers.AutoencoderKL(**layers, in_channels=3, out_channels=3, latent_channels=1),
        # Of two encoders, side by side.
        unet=model_of("UNet2DConditionModel", **SDXL | {"cross_attention_dim": 16}),
        text_encoder=encoder(CLIPTextModel, 0),
        text_encoder_2=encoder(CLIPTextModelWithProjection, 1),
        tokenizer=tokenizer(),
        tokenizer_2=tokenizer(),
        scheduler=diffusers.DDIMScheduler(),
    ).save_pretrained(folder)


def test_generate_art_draws_in_the_style_of_a_folder(paintings):
    shape = ("data.path=data", "data.channels=3", "data.shots=2", "data.queries=2")
    model = package.train(load_config(None, ["run.name=art", *shape, *SMALL]))
    style = sorted((paintings / "paintings" / "painter3").iterdir())[:5]
    art = package.generate_art("runs/art", style, 3, seed=1)
    assert [image.size for image in art] == [(16, 16)] * 3
    assert art == model.adapt(style, seed=1).images(3, seed=1)


def test_a_number_of_the_page_on_choosing_stands_where_a_command_wrote_it():
    page = (PAGES / "choosing.md").read_text()
    links = set(re.findall(r"\]\((\.\./[^)#]+\.md)[#)]", page))
    sources = "".join((PAGES / link).read_text() for link in links)
    numbers = re.findall(r"-?\d+\.\d+%?|\d+%", page)
    assert len(numbers) > 20
    assert not [number for number in numbers if number.strip("%-") not in sources]
