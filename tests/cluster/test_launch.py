"""Beginning again with a run that is there: no worker is started where none is needed."""

from dataclasses import replace
from pathlib import Path

import pytest
import ray
import torch

from cluster.run.launch import launch, steps_taken
from cluster.run.ray_cluster import joined_cluster
from metatrain.base.errors import UserError
from metatrain.config import load_config
from metatrain.data.loader import open_tasks
from metatrain.model.build import build_generator
from metatrain.model.file import load_model
from metatrain.training.checkpoint import CheckpointStore, draft_of
from metatrain.training.run_data import begin_run_with
from metatrain.training.state import first_state


@pytest.fixture
def trained(config):
    """What training leaves: checkpoints of steps 10 and 20, the last."""
    store = CheckpointStore(config.run.url)
    begin_run_with(open_tasks(config.data), config)
    for step in (10, 20):
        state = replace(first_state(build_generator(config)), step=step)
        store.save(draft_of(state, config))
    return store


def test_a_run_that_is_trained_already_is_not_trained_again(trained, overrides, capsys):
    url = launch(load_config(None, [*overrides, "adapt.steps=7"]))
    said = capsys.readouterr().out
    assert "is trained already (20 of 20 outer steps)" in said
    assert "Changed since the newest checkpoint: adapt.steps from 3 to 7." in said
    model = load_model(url)
    assert (model.step, model.config.adapt.steps) == (20, 7)
    assert all(torch.equal(p, model.parameters[n]) for n, p in trained.latest().average.items())


def test_a_change_that_forbids_going_on_is_named_from_what_to_what(trained, overrides):
    changed = ["inner.lr=0.5", "learner.name=maml", "cluster.workers=1", "meta.steps=30"]
    with pytest.raises(UserError) as error:
        launch(load_config(None, [*overrides, *changed]))
    assert "cannot go on with changed " in str(error.value)
    assert 'learner.name from "reptile" to "maml"' in str(error.value)
    assert "inner.lr from 0.001 to 0.5" in str(error.value)
    assert "(meta.steps from 20 to 30, cluster.workers from 2 to 1 may change)" in str(error.value)


def test_damage_to_the_last_checkpoint_of_a_finished_run_is_noticed(trained, config):
    said = []
    [shard] = Path(trained.folder(20)).glob("shard-*")
    content = bytearray(shard.read_bytes())
    content[-1] ^= 1
    shard.write_bytes(content)
    assert steps_taken(config, CheckpointStore(config.run.url, said.append)) == 10
    assert f"step-00000020 cannot be used: {shard.name} is not as it was written" in said[0]


def test_where_a_busy_machine_starts_ray_too_late_it_is_started_once_more(monkeypatch):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    fates = [Exception("The current node timed out during startup. Perhaps."), None]
    fates += 2 * fates[:1] + [Exception("no")]

    def start(**_):
        if fate := fates.pop(0):
            raise fate

    monkeypatch.setattr(ray, "init", start)
    with joined_cluster(1) as own:
        assert own
    with pytest.raises(UserError, match="timed out during startup"), joined_cluster(1):
        pass
    with pytest.raises(UserError, match=r"on this machine: no\."), joined_cluster(1):
        pass
    assert not fates
