"""The replay buffer of two real workers is that of one process, also in their checkpoints."""

import pytest
import torch
from domains import configuration
from local_training import train
from workers import run_workers

from metatrain.data.loader import load_episodes, open_tasks
from metatrain.training.checkpoint import CheckpointStore, draft_of, state_of
from metatrain.training.run_data import training_sampler
from metatrain.training.trainer import Trainer

WAYS = {"1": ["cluster.zero_stage=1"], "gathered": ["cluster.zero_stage=3"]}
CHOICES = (
    *("meta.optimizer=sgd", "meta.lr=0.1", "inner.optimizer=sgd", "cluster.workers=2"),
    *("learner.name=fomaml", "meta.decay=0", "cluster.inner_loop=gathered"),
)


def configured(data, way, steps):
    choices = [c for c in CHOICES if way != "1" or "inner_loop" not in c]
    return configuration(data, *choices, *WAYS[way], f"meta.steps={steps}")


def work(rank, folder, data):
    """Train two steps as a worker of the cluster does, but for Ray, and save."""
    from cluster.engine.build import build_engine_and_learner
    from cluster.engine.peers import ProcessGroupPeers

    for way in WAYS:
        config = configured(data, way, steps=2)
        engine, learner = build_engine_and_learner(config, torch.device("cpu"))
        state, source = engine.begin(), open_tasks(config.data)
        sampler = training_sampler(source, config)
        episodes = load_episodes(source, sampler, start=0, rank=engine.rank, world=engine.world)
        trainer = Trainer(config, engine, learner, episodes, state, [])
        trainer.run()
        draft = draft_of(trainer.state(), config, engine.partitions)
        CheckpointStore(f"{folder}/{way}").save(draft, ProcessGroupPeers())


@pytest.fixture(scope="module")
def saved(tmp_path_factory, domains):
    folder = tmp_path_factory.mktemp("replay")
    run_workers(2, folder, work, str(folder), str(domains))
    return folder


@pytest.mark.parametrize("way", WAYS)
def test_a_run_of_two_workers_continues_in_one_process_as_if_it_had_been_one(saved, domains, way):
    resumed = state_of(CheckpointStore(f"{saved}/{way}").open(2))
    one = train(configured(domains, way, steps=2))
    assert resumed.replay["images"].shape == (8, 1, 8, 8)
    torch.testing.assert_close(resumed.replay["images"], one.replay["images"], rtol=0, atol=1e-6)
    rest = train(configured(domains, way, steps=4), [], resumed)
    whole = train(configured(domains, way, steps=4))
    torch.testing.assert_close(rest.replay["images"], whole.replay["images"], rtol=0, atol=1e-5)
    for name, p in whole.parameters.items():
        torch.testing.assert_close(rest.parameters[name], p, rtol=0, atol=1e-5)
    assert not torch.equal(whole.replay["images"], one.replay["images"])
