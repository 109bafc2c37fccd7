"""What training refuses is told by every command that comes before it, and before workers start."""

import re
import shutil

import pytest
import torch

from metatrain.base.errors import UserError
from metatrain.cli.command import run
from metatrain.cli.commands import COMMANDS
from metatrain.config import with_values
from metatrain.data.packing.pack import pack
from metatrain.storage.files import MissingError
from metatrain.training.checkpoint import CheckpointStore
from metatrain.training.problems import problems_of
from metatrain.training.run import begin_or_resume

FEW = "an episode needs 40 images of its task"
SMALL = "holds images of 16 pixels, and 64 are asked for"
GPUS = "the run needs 2 GPUs, and this machine has 0"


@pytest.fixture
def refused(config):
    """A run with every problem at once."""
    return with_values(
        config,
        {
            **{"data.queries": 38, "data.image_size": 64, "data.shots": 2},
            **{"cluster.gpus_per_worker": 1, "cluster.workers": 2, "meta.batch": 2},
            **{"validation.tasks": 2, "validation.images": 15, "generator.patch": 4},
        },
    )


def test_a_run_that_can_train_has_no_problem(config):
    assert problems_of(config) == []


def test_all_problems_are_told_at_once_and_nothing_is_written(refused, tmp_path):
    sentences = [str(problem) for problem in problems_of(refused, gpus=0)]
    assert [FEW in s for s in sentences] == [False, True, False, False]
    assert [SMALL in s for s in sentences] == [False, False, True, False]
    assert sentences[0].startswith(GPUS)
    assert "'val'" in sentences[3]
    checkpoints = CheckpointStore(refused.run.url, pytest.fail)
    with pytest.raises(UserError) as error:
        begin_or_resume(refused, checkpoints, pytest.fail, gpus=0)
    assert str(error.value).splitlines() == [
        "the run cannot train:",
        *(f"  {s}" for s in sentences),
    ]
    assert not (tmp_path / "runs").exists()


def test_one_problem_is_told_as_it_is(config):
    missing = with_values(config, {"data.path": "nowhere"})
    with pytest.raises(MissingError, match=r"^there is nothing at nowhere; check the path"):
        begin_or_resume(missing, CheckpointStore(missing.run.url, pytest.fail), pytest.fail)


def test_a_plan_tells_what_training_would_refuse(overrides, capsys):
    words = [*overrides, "data.queries=38", "data.shots=2"]
    assert run("metatrain", COMMANDS, ["plan", *words]) == 0
    assert FEW in capsys.readouterr().out
    if not torch.cuda.is_available():
        gpus = ["cluster.gpus_per_worker=1", "cluster.workers=2", "meta.batch=2"]
        assert run("metatrain", COMMANDS, ["plan", *overrides, *gpus]) == 0
        assert GPUS in capsys.readouterr().out
    assert run("metatrain", COMMANDS, ["plan", *overrides]) == 0
    assert "refused" not in capsys.readouterr().out


def test_packing_and_checking_tell_what_training_would_refuse(images, tmp_path, capsys):
    source = tmp_path / "images"
    for task in range(8):
        shutil.copytree(f"{images}/task-{task:02d}", source / str(task))
        for image in range(4, 16):
            (source / str(task) / f"{image:02d}.png").unlink()
    assert run("metatrain", COMMANDS, ["pack", str(source), f"{tmp_path}/set"]) == 0
    packed = capsys.readouterr().out
    assert run("metatrain", COMMANDS, ["data", "check", f"{tmp_path}/set"]) == 0
    checked = capsys.readouterr().out
    for output in (packed, checked):
        assert "training refuses it: an episode needs 10 images of its task" in output
        assert re.search(r"have: '\d' \(4\), .* and 1 more; lower data\.shots", output)
        assert "training refuses it: " + f"{tmp_path}/set holds images of 16 pixels" in output
        assert "evaluation refuses it: split 'test' of" in output


def test_what_training_takes_is_packed_without_a_word(images, tmp_path, capsys):
    pack(images, f"{tmp_path}/set", size=32)
    assert run("metatrain", COMMANDS, ["data", "check", f"{tmp_path}/set"]) == 0
    assert "refuse" not in capsys.readouterr().out
