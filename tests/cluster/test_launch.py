"""Starts of an existing run, which start no worker where none is needed."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch

from cluster.run.launch import launch
from cluster.run.ray_cluster import ray_connection
from metatrain.base.errors import HeldError, UserError
from metatrain.config import load_config
from metatrain.data.loader import open_tasks
from metatrain.model.file import load_model
from metatrain.storage.lease import lease
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.initial_weights import initial_weights
from metatrain.training.run import begin_or_resume
from metatrain.training.run_data import begin_run_with
from metatrain.training.state import first_state


@pytest.fixture
def trained(config):
    """Make the checkpoints of a finished run, at steps 10 and 20."""
    store = CheckpointStore(config.run.url)
    begin_run_with(open_tasks(config.data), config)
    for step in (10, 20):
        state = replace(first_state(initial_weights(config)), step=step)
        store.save(draft_of(state, config))
    return store


def test_a_finished_run_is_not_trained_again(trained, overrides, capsys):
    url = launch(load_config(None, [*overrides, "adapt.steps=7"]))
    output = capsys.readouterr().out
    assert "is already trained (20 of 20 outer steps)" in output
    assert "Changed since the newest checkpoint: adapt.steps from 3 to 7." in output
    model = load_model(url)
    assert (model.step, model.config.adapt.steps) == (20, 7)
    assert all(torch.equal(p, model.parameters[n]) for n, p in trained.latest().average.items())


def test_a_run_that_another_process_trains_is_refused_before_ray_starts(config):
    held = lease(config.run.url, "trains")
    with held, pytest.raises(HeldError, match=r"small is in use: .* trains it, as process \d+"):
        launch(config)
    assert not Path(config.run.url).exists()


def test_a_change_that_forbids_resuming_is_named_with_both_values(trained, overrides):
    changed = ["inner.lr=0.5", "learner.name=maml", "cluster.workers=1", "meta.steps=30"]
    with pytest.raises(UserError) as error:
        launch(load_config(None, [*overrides, *changed]))
    assert "cannot resume with changed " in str(error.value)
    assert 'learner.name from "reptile" to "maml"' in str(error.value)
    assert "inner.lr from 0.001 to 0.5" in str(error.value)
    assert "(meta.steps from 20 to 30, cluster.workers from 2 to 1 may change)" in str(error.value)


def test_damage_to_the_last_checkpoint_of_a_finished_run_is_noticed(trained, config):
    lines = []
    [shard] = Path(trained.folder(20)).glob("shard-*")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    checkpoints = CheckpointStore(config.run.url, lines.append)
    assert begin_or_resume(config, checkpoints, lines.append) == 10
    assert f"step-00000020 cannot be used: {shard.name} is not as it was written" in lines[0]


def test_ray_is_started_a_second_time_where_a_busy_machine_was_too_slow(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    late = Exception("The current node timed out during startup. Perhaps.")
    outcomes, addresses = [late, None, late, late], []

    def start(**_):
        # Or the processes of this cluster could take another one on this machine for theirs.
        addresses.append(os.environ.get("RAY_ADDRESS"))
        if outcome := outcomes.pop(0):
            raise outcome

    monkeypatch.setattr(ray, "init", start)
    with ray_connection(cpus=1) as temporary:
        assert temporary
    with pytest.raises(UserError, match="timed out during startup"), ray_connection(cpus=1):
        pass
    assert not outcomes
    assert len(addresses) == 4
    assert all(addresses)
    assert "RAY_ADDRESS" not in os.environ


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Exception("no"), "no"),
        (Exception("\nThe last lines of dashboard.log: \n1"), "The last lines of dashboard.log: 1"),
        (AssertionError(), "AssertionError"),
    ],
)
def test_a_ray_that_does_not_start_is_reported_with_the_reason(error, reason, monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)

    def start(**_):
        raise error

    monkeypatch.setattr(ray, "init", start)
    sentence = rf"Ray cannot be started on this machine: {reason}\."
    with pytest.raises(UserError, match=sentence), ray_connection(cpus=1):
        pass
