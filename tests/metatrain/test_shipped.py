"""The models that ship: their files, their cards, and the README's commands on them."""

from pathlib import Path

import pytest
from PIL import Image
from small_models import metatrain

import metatrain as package
from metatrain.model.named import SHIPPED

EXAMPLE = Path(__file__).parents[2] / "examples" / "lighthouse"
NAMES = sorted(path.stem for path in SHIPPED.glob("*.safetensors"))


def test_one_ships_at_least():
    assert "emoji" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_card_is_of_its_file(name):
    model, card = package.load(name), (SHIPPED / f"{name}.md").read_text()
    assert f"model `{model.sha256[:12]}`" in card
    assert model.calibration is not None and model.calibration.model == model.sha256
    assert (SHIPPED / f"{name}.safetensors").stat().st_size <= 4_000_000
    assert "## Attribution" in card
    # Places of the machine that made it.
    assert "/tmp/" not in card and "/home/" not in card


def test_the_first_commands_of_the_readme(tmp_path, capsys):
    new, sheet = tmp_path / "new", tmp_path / "sheet.png"
    # Fewer steps and samples, for time's sake.
    assert metatrain("adapt", "emoji", EXAMPLE, "--out", new, "--steps", 2) == 0
    assert metatrain("generate", new, "-n", 2, "--out", sheet) == 0
    assert "Traceback" not in capsys.readouterr().err
    with Image.open(sheet) as picture:
        assert picture.mode == "RGB" and min(picture.size) >= 64
