"""Waits of a command: for no import that it does not need, and for no thread that spins."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from metatrain.cli.command import run
from metatrain.config import COMPONENTS

ROOT = Path(__file__).parents[2]


def imported(code: str) -> set[str]:
    """Return the modules that a fresh interpreter has after `code`."""
    code = f"import sys\n{code}\nprint(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.splitlines()[-1].split())


ADAPTATION = """
import torch
import metatrain
torch.set_num_threads(1)
model = metatrain.load("emoji")
size = model.config.data.image_size
model.adapt(-torch.ones(2, model.config.data.channels, size, size), steps=1).sample(1, steps=1)
"""


def test_an_adaptation_does_not_import_the_compiler():
    assert "torch._dynamo" not in imported(ADAPTATION)


def test_configurations_are_read_and_printed_without_torch():
    files = [str(f) for f in sorted((ROOT / "configs").glob("*.yaml")) if "sweep" not in f.name]
    code = f"""
from metatrain.base.errors import UserError
from metatrain.config import COMPONENTS, load_config, to_yaml
for file in {files!r}:
    to_yaml(load_config(file))
for place, registry in COMPONENTS.items():
    for name in registry:
        try:
            load_config(None, [f"{{place}}.name={{name}}", "cluster.inner_loop=sharded"])
        except UserError:
            pass
"""
    assert files and not imported(code) & {"torch", "pyarrow", "scipy"}


@pytest.mark.parametrize(("place", "registry"), COMPONENTS.items())
def test_a_part_has_the_section_that_its_registry_lists(place, registry):
    for name, section in registry.sections.items():
        assert registry[name].Config is section, f"{place}.name={name}"
        assert section.model_fields["name"].default == name


@pytest.mark.parametrize(("before", "policy"), [("", "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_threads_wait_passively_unless_the_user_says_otherwise(monkeypatch, before, policy):
    monkeypatch.setenv("OMP_WAIT_POLICY", before)
    if not before:
        monkeypatch.delenv("OMP_WAIT_POLICY")
    with pytest.raises(SystemExit):
        run("metatrain", {}, ["--version"])
    assert os.environ["OMP_WAIT_POLICY"] == policy


@pytest.mark.parametrize(
    "words",
    [
        ["config", "none.yaml"],
        ["config", "inner.stepz=3"],
        ["train", "none.yaml"],
        ["train", "inner.stepz=3"],
        ["plan", "learner.name=repile"],
        ["pack", "none", "data"],
        ["adapt", "runs/none", "images", "--out", "new"],
        ["adapt", "emoji", "none", "--out", "new"],
        ["generate", "new", "--out", "new.png"],
        ["enlarge", "none.png", "--model", "runs/none", "--out", "new"],
        ["refine", "none", "--like", "none", "--model", "runs/none", "--out", "new"],
        ["distill", "none", "--out", "new"],
        ["export", "none", "--out", "new"],
        ["compress", "none", "--out", "new.safetensors"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_mistake_is_refused_before_torch_is_imported(words, tmp_path):
    code = f"""
import os
from metatrain.cli.main import main
os.chdir({str(tmp_path)!r})
sys.argv = {["metatrain", *words]!r}
try:
    main()
except SystemExit as end:
    assert end.code == 1
"""
    assert "torch" not in imported(code)
