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
import json, torch
from metatrain.config import load_config
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.evaluation.validation import validation_of
from metatrain.model.build import build_learner, build_theta
from metatrain.model.file import Model
from metatrain.training.run_data import training_sampler

config = load_config("my.yaml")
theta, source = build_theta(config), open_tasks(config.data)
learner, parameters = build_learner(config, theta), theta.copy()
episodes = load_episodes(source, training_sampler(source, config), start=0)
for step in range(3):
    outer = learner.outer_gradient(parameters, next(episodes), step)
    parameters = {n: p - outer.gradient[n] for n, p in parameters.items()}
model = Model(config, parameters, 3)
adapted = model.adapt(torch.zeros(5, 1, 16, 16), value_range=(-1, 1))
validation = validation_of(config, source)
features = [validation.task_features(model.adapter(), e) for e in validation.episodes]
print(json.dumps([outer.metrics["loss"].item(), list(adapted.sample(2).shape),
                  validation.scores(features)[-1].kid]))
"""
CONFIG = """
data: {image_size: 16, tasks: {name: waves}}
generator: {name: players}
objective: {name: tug}
codec: {name: halved}
learner: {name: halfway, share: 0.25}
inner: {optimizer: sgd, lr: 0.1}
adapt: {steps: 2}
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
