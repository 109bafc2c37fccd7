"""Models small enough to evaluate in no time, and an evaluation of one."""

import pytest
import torch

from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.config import load_config
from metatrain.data.packed.manifest import MANIFEST
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.episodes.episode_list import list_episodes
from metatrain.model.build import build_theta
from metatrain.model.model import Model
from metatrain.storage.files import read_file, write_file
from metatrain.training.run_data import RUN_MANIFEST

# Three of the training tasks: the stripes have only two for testing.
FEW = ["--split", "train", "--tasks", 3, "--seeds", 2, "--shots", 3]


def metatrain(*arguments):
    return run("metatrain", COMMANDS, [str(a) for a in arguments])


def save(packed, folder, *overrides):
    """Write an untrained model and the manifest of its data, as a run does; return the folder."""
    config = load_config(
        None,
        [
            f"data.path={packed}",
            "data.image_size=16",
            "generator.width=8",
            "objective.sampler.steps=2",
            "adapt.steps=2",
            *overrides,
        ],
    )
    parameters = {n: p.detach() for n, p in build_theta(config).named().items()}
    # Moved, because "from scratch" has the initial parameters.
    moved = {n: p + 0.01 for n, p in parameters.items()}
    Model(config, moved, step=7).save(f"{folder}/model.safetensors")
    write_file(f"{folder}/{RUN_MANIFEST}", read_file(f"{packed}/{MANIFEST}"))
    return str(folder)


@pytest.fixture(scope="session")
def places(packed, tmp_path_factory):
    """A folder with two models, a joint one, and a metric network, which all tests share."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("evaluation")
    for name in ("one", "two"):
        save(packed, root / name, f"run.name={name}", f"seed={len(name)}")
    save(packed, root / "joint", "run.name=joint", "learner.name=joint")
    metric = root / "metric.safetensors"
    assert metatrain("train-metric", packed, "--out", metric) == 0
    return root


@pytest.fixture(scope="session")
def evaluated(places):
    """The folder of an evaluation by one worker, with a joint baseline."""
    out = places / "evaluated"
    options = ["--metric", places / "metric.safetensors", "--joint", places / "joint"]
    command = ["evaluate", places / "one", *options, *FEW, "--workers", 1, "--out", out]
    assert metatrain(*command) == 0
    return out


@pytest.fixture(scope="session")
def listed(packed):
    return list_episodes(EpisodeStore(packed), "train")
