"""A user's working directory, and a command that runs in it."""

import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from metatrain.config import load_config

ROOT = Path(__file__).parents[1]


@pytest.fixture
def checkout(tmp_path, overrides):
    """A working directory with the code and a configuration, whose run lies elsewhere."""
    folder = tmp_path / "checkout"
    for package in ("metatrain", "cluster", "tuning"):
        junk = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, folder / package, ignore=junk)
    for name in (".rayignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    config = load_config(None, [*overrides, "cluster.workers=1", "cluster.zero_stage=0"])
    (folder / "my.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return folder


@pytest.fixture
def job_folder(tmp_path):
    """A working directory with files that .gitignore and .rayignore exclude."""
    (tmp_path / "my.yaml").write_text("seed: 0\n")
    (tmp_path / ".rayignore").write_text("/secret/\n*.log\n")
    (tmp_path / ".gitignore").write_text("runs/\n")
    for name in ("secret/key", "runs/a/b", "code/x.py", "code/run.log", ".git/HEAD"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "code" / ".gitignore").write_text("y.py\n")
    (tmp_path / "code" / "y.py").write_text("ignored where it lies")
    return tmp_path


class Command:
    """A process whose output is read line by line."""

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
        """Read the output until a line contains `words`."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if words in line:
                return self
        raise AssertionError(f"ended before '{words}':\n{self.output}")

    def wait(self):
        """Read the output to its end, and return the exit status."""
        assert self.process.stdout
        self.output += self.process.stdout.read()
        return self.process.wait()
