"""What tests of jobs share: a working directory as a person has it."""

import shutil
from pathlib import Path

import pytest
import yaml

from metatrain.config import load_config

ROOT = Path(__file__).parents[2]


@pytest.fixture
def checkout(tmp_path, overrides):
    """A working directory with the code and a configuration, its run apart from it."""
    folder = tmp_path / "checkout"
    for package in ("metatrain", "cluster", "tuning"):
        if (ROOT / package).is_dir():
            junk = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / package, folder / package, ignore=junk)
    for name in (".rayignore", ".gitignore"):
        shutil.copy(ROOT / name, folder)
    config = load_config(None, [*overrides, "cluster.workers=1", "cluster.zero_stage=0"])
    (folder / "my.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    return folder
