"""What README, API page and notebook tell to type is what runs."""

import json
import os
import re
import shlex
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import pytest
from PIL import Image

from metatrain.cli.command import parse
from metatrain.cli.commands import COMMANDS
from metatrain.config import load_config, override_values

ROOT = Path(__file__).parents[2]

# As small as the README's blocks allow.
CONFIG = """
run: {name: mine}
data: {path: data, image_size: 16, shots: 2, queries: 2}
generator: {width: 8}
objective: {sampler: {steps: 2}}
meta: {steps: 2, warmup: 0}
adapt: {steps: 2}
"""


def run_python(code, folder):
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    run = subprocess.run(
        command, cwd=folder, env=environment, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


@pytest.fixture
def folder(tmp_path):
    """What the README's reader has: photos in folders, five images, a configuration, a run."""
    for task in range(10):
        (tmp_path / "photos" / f"task{task}").mkdir(parents=True)
        for i in range(20):
            image = Image.effect_noise((16, 16), 20 * (1 + task)).point(lambda v, i=i: v + i)
            image.save(tmp_path / "photos" / f"task{task}" / f"{i}.png")
    (tmp_path / "five_images").symlink_to(tmp_path / "photos" / "task0")
    (tmp_path / "my.yaml").write_text(CONFIG)
    code = (
        "import metatrain; metatrain.pack('photos', 'data');"
        "metatrain.train(metatrain.load_config('my.yaml', ['run.name=demo']))"
    )
    run_python(code, tmp_path)
    return tmp_path


@pytest.mark.long
def test_the_readmes_python_runs_as_it_stands(folder):
    [block] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert "own task" in run_python(block, folder)
    assert Image.open(folder / "first.png").size == (16, 16)
    assert (folder / "new.safetensors").exists()


def commands_of(page):
    """The lines of a page's shell blocks that call metatrain, without comments."""
    for block in re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["metatrain"]:
                yield words[1:]


PAGES = ["README.md", *(str(page.relative_to(ROOT)) for page in (ROOT / "docs").rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES)
def test_every_command_of_a_page_is_understood(page):
    above = {entry.name: entry.load() for entry in entry_points(group="metatrain.commands")}
    for words in commands_of(ROOT / page):
        words = words[: words.index(">")] if ">" in words else words
        arguments = parse("metatrain", COMMANDS | above, words)
        overrides = getattr(arguments, "overrides", [])
        if words[0] not in ("sweep", "submit", "k8s") and overrides:
            load_config(None, overrides)
        assert override_values(overrides) or not overrides


def test_the_api_page_is_made_from_todays_docstrings():
    printed = run_python((ROOT / "docs" / "make_api.py").read_text(), ROOT)
    again = "python docs/make_api.py > docs/api.md"
    assert (ROOT / "docs" / "api.md").read_text() == printed, again


@pytest.mark.long
def test_the_notebook_runs(tmp_path):
    notebook = json.loads((ROOT / "examples" / "quickstart.ipynb").read_text())
    cells = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    code = "\n".join(cells)
    shorter = re.sub(r"^STEPS = .*", "STEPS = 3", code, flags=re.MULTILINE)
    assert shorter != code
    assert "tasks (" in run_python(shorter, tmp_path)
    assert (tmp_path / "runs" / "quickstart" / "new.safetensors").exists()
    assert all(cell["outputs"] for cell in notebook["cells"] if "sheet(adapted" in str(cell))
