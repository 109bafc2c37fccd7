"""Whole training runs by the command line, with real Ray and real workers."""

import re
from dataclasses import asdict
from ipaddress import ip_address

import pytest
import torch
from doors import Watch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_run import Run, plain_torch

from cluster.commands import TRAIN
from metatrain.cli.command import run as run_command
from metatrain.config import load_config
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import read_validations, validation_of
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.training.checkpoint import CheckpointStore

# One loop sums a meta-batch slot by slot; two workers add their partial sums. The order differs,
# and so do the last bits. SGD inside and outside, since Adam would hide a wrongly scaled gradient,
# and turns a last bit near zero into a whole step.
TOLERANCE = 1e-6
SGD = ["inner.optimizer=sgd", "inner.lr=0.02", "meta.optimizer=sgd", "meta.lr=0.5"]


def final_state(config):
    state = CheckpointStore(config.run.url).latest()
    assert state is not None
    assert state.step == config.meta.steps
    return state


def assert_logged(folder, steps):
    """Assert that TensorBoard has the loss, and a sample grid at each of `steps`."""
    board = EventAccumulator(folder, size_guidance={"images": 0})
    board.Reload()
    assert [image.step for image in board.Images("samples")] == steps
    assert board.Scalars("train/loss")[-1].step == steps[-1]


def assert_validated(config):
    """Assert that every checkpoint but the first was validated, as by one worker alone."""
    validations = read_validations(config.run.url)
    assert [validated.step for validated in validations] == [4, 8]
    validation = validation_of(config, open_tasks(config.data))
    adapter = load_model(config.run.url).adapter()
    alone = validation.scores([validation.task_features(adapter, e) for e in validation.episodes])
    for scores, expected in zip(validations[-1].curve, alone, strict=True):
        assert asdict(scores) == pytest.approx(asdict(expected), rel=1e-4, abs=1e-5)


def assert_private(watch):
    """Assert that a run's workers open nothing to others, and Ray's folder is the user's alone."""
    # A process that a worker starts has its title for a moment.
    listening = [addresses for addresses in watch.listening.values() if addresses]
    assert len(listening) == 2
    for addresses in listening:
        # Ray's own, which asks for the token.
        assert len({a for a in addresses if not ip_address(a[0]).is_loopback}) <= 1, watch.listening
    [folder] = watch.folders
    assert watch.folders[folder], "a folder above it is for this user alone"
    assert not folder.exists()


def test_two_workers_give_the_parameters_of_plain_torch(overrides, tmp_path):
    options = [*overrides, *SGD, "meta.batch=3", "cluster.workers=2", "cluster.zero_stage=3"]
    options += ["meta.steps=8", "checkpoint.every=4", "checkpoint.samples=true"]
    options += ["validation.tasks=3", "validation.images=3"]
    run, config = Run(options, tmp_path), load_config(None, options)
    with Watch(run.process.pid) as watch:
        assert run.wait() == 0, run.output
    assert_private(watch)
    reference, parameters = plain_torch(config, steps=8), final_state(config).parameters
    start = build_theta(config).named()
    for name, expected in reference.items():
        torch.testing.assert_close(parameters[name], expected, rtol=0, atol=TOLERANCE)
    assert_logged(f"{config.run.url}/tensorboard", steps=[0, 4, 8])
    assert_validated(config)
    moved = max((reference[name] - start[name]).abs().max() for name in start)
    assert moved > 1000 * TOLERANCE


@pytest.mark.long
def test_on_a_running_cluster_a_loss_that_is_not_finite_is_reported_in_a_sentence(
    overrides, tmp_path, ray_head
):
    broken = [*overrides, "inner.optimizer=sgd", "inner.lr=1e30"]
    run = Run(broken, tmp_path)
    assert run.wait() == 1, run.output
    assert re.search(r"not finite at outer step 1 in task 'task-\d\d' and 'task-\d\d'", run.output)
    assert "the weights of the step before are kept" in run.output
    assert "Traceback" not in run.output
    kept = CheckpointStore(load_config(None, broken).run.url).latest()
    assert kept is not None
    assert all(p.isfinite().all() for p in kept.parameters.values())


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.path=nowhere", "there is nothing at nowhere"),
        ("data.shots=40", "an episode needs 43 images of its task"),
        ("inner.stepps=3", "there is no key 'inner.stepps'; did you mean 'inner.steps'?"),
        ("cluster.gpus_per_worker=1", "the run needs 2 GPUs, and this machine has 0"),
        ("generator.patch=4 data.image_size=18", "cannot be cut into patches of generator.patch=4"),
    ],
)
def test_a_users_mistake_is_reported_in_a_sentence_before_training(
    overrides, override, sentence, tmp_path, capsys, monkeypatch
):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    config = tmp_path / "empty.yaml"
    config.write_text("seed: 0\n")
    words = ["train", str(config), *overrides, *override.split()]
    assert run_command("metatrain", {"train": TRAIN}, words) == 1
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "runs" / "small" / "checkpoints").exists()


@pytest.mark.long
def test_tasks_of_another_package_train_without_a_data_set(overrides, tmp_path):
    chosen = [*overrides, *SGD, "data.tasks.name=waves", "data.path=nowhere", "meta.batch=3"]
    run, config = Run(chosen, tmp_path), load_config(None, chosen)
    assert run.wait() == 0, run.output
    reference, parameters = plain_torch(config, steps=20), final_state(config).parameters
    for name, value in reference.items():
        assert parameters[name].allclose(value, rtol=0, atol=TOLERANCE), name
