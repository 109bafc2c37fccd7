"""A working directory as a person has it, and a command that is typed there."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from metatrain.config import load_config

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path, overrides):
    """A working directory with the code and a configuration, its run apart from it."""
    folder = tmp_path / "checkout"
    for package in ("metatrain", "cluster", "tuning"):
        junk = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=junk)
    for name in (".rayignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    config = load_config(None, [*overrides, "cluster.workers=1", "cluster.zero_stage=0"])
    (folder / "my.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return folder


class Command:
    """One start of a command, followed line by line."""

    def __init__(self, command, head, folder, **further):
        self.process = subprocess.Popen(
            command,
            cwd=folder,
            env=head.environment | further,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.output = ""

    def until(self, words):
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if words in line:
                return self
        raise AssertionError(f"ended before '{words}':\n{self.output}")

    def wait(self):
        assert self.process.stdout
        self.output += self.process.stdout.read()
        return self.process.wait()
