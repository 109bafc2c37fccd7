"""Waits of a command: for no import that it does not need, and for no thread that spins."""

import os
import subprocess
import sys

import pytest

from metatrain.cli.command import run


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
        ["train", "none.yaml"],
        ["adapt", "runs/none", "images", "--out", "new"],
        ["generate", "new", "--out", "new.png"],
    ],
    ids=lambda words: words[0],
)
def test_a_file_that_is_not_there_is_refused_before_torch_is_imported(words, tmp_path):
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
