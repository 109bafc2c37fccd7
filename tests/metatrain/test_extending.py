"""docs/extending.md is a package that installs and works as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "extending.md").read_text()
PLUGIN = ROOT / "tests" / "plugin"


def block(title):
    return re.search(rf"## {re.escape(title)}.*?\n```\w+\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.mark.parametrize("name", ["metatrain_tug.py", "metatrain_waves.py"])
def test_the_page_shows_the_package_that_tests_use(name):
    assert block(name) == (PLUGIN / name).read_text(), "write docs/extending.md anew"


WORK = """
import json, torch, metatrain
from metatrain.evaluation.validation import read_validations

losses = []
config = metatrain.load_config("my.yaml")
model = metatrain.train(config, device="cpu", on_step=lambda _, m: losses.append(m["loss"]))
adapted = model.adapt(torch.zeros(5, 1, 16, 16), value_range=(-1, 1))
[validation] = read_validations(config.run.url)
print(json.dumps([losses[-1], list(adapted.sample(2).shape), validation.curve[-1].kid]))
"""
CONFIG = """
data: {image_size: 16, tasks: {name: waves}}
generator: {name: players}
objective: {name: tug}
codec: {name: halved}
learner: {name: halfway, share: 0.25}
inner: {optimizer: sgd, lr: 0.1}
adapt: {steps: 2}
meta: {steps: 3, warmup: 0}
validation: {tasks: 2, images: 2}
"""


def test_the_package_installs_and_works_by_configuration_alone(tmp_path):
    package, site = tmp_path / "package", tmp_path / "site"
    package.mkdir()
    for name in ("pyproject.toml", "metatrain_tug.py", "metatrain_waves.py"):
        (package / name).write_text(block(name))
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--target", site, package], check=True)
    (tmp_path / "my.yaml").write_text(CONFIG)
    environment = os.environ | {"PYTHONPATH": f"{site}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", WORK]
    run = subprocess.run(
        command, cwd=tmp_path, env=environment, check=False, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    assert "[2, 1, 16, 16]" in run.stdout
