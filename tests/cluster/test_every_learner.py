"""Training with each learner on the built-in tasks, in real Ray Train workers."""

import sys

import pytest
import ray
import torch
from ray.train import RunConfig, ScalingConfig
from ray.train.torch import TorchTrainer
from ray.util.queue import Queue

from cluster.run.launch import launch
from cluster.run.ray_cluster import ray_connection
from cluster.run.worker import train
from cluster.run.worker_backend import WorkerConfig
from metatrain.config import load_config, parse_config
from metatrain.data.examples import Examples
from metatrain.data.loader import open_tasks
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.training.checkpoint import CheckpointStore
from metatrain.training.run_data import begin_run_with

# Settings of single learners, in addition to those of all.
CHOSEN = {
    "maml": ["meta.gradient=auto", "auxiliary.contrast=0.1", "auxiliary.masked=0.1"],
    "joint": ["cluster.zero_stage=3", "inner.precision=bf16"],
    "imaml": ["cluster.zero_stage=3"],
}


def configuration(name, glyphs, folder):
    return load_config(
        None,
        [
            f"run.dir={folder}/runs", f"run.name={name.replace('+', 'p')}", f"data.path={glyphs}",
            f"learner.name={name}", "data.image_size=16", "data.shots=3", "data.queries=3",
            "generator.name=dit", "generator.width=8", "generator.depth=1",
            "inner.steps=2", "adapt.steps=3", "meta.steps=20", "meta.warmup=2",
            "checkpoint.every=20", "checkpoint.samples=false",
            *CHOSEN.get(name, []),
        ],
    )  # fmt: skip


def train_one_after_the_other(settings):
    for values in settings["configs"]:
        train(parse_config(values), settings["messages"])


@pytest.fixture
def workers(tmp_path, monkeypatch):
    """Run configurations one after the other in the same two workers; return their messages.

    As `metatrain train` does with one, for which it starts a Ray: thirteen would take minutes.
    """
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])

    def run(configs):
        for config in configs:
            begin_run_with(open_tasks(config.data), config)
        messages = Queue(actor_options={"num_cpus": 0})
        values = [config.model_dump(mode="json") for config in configs]
        TorchTrainer(
            train_one_after_the_other,
            train_loop_config={"configs": values, "messages": messages},
            torch_config=WorkerConfig(),
            scaling_config=ScalingConfig(num_workers=2),
            run_config=RunConfig(name="ray", storage_path=str(tmp_path)),
        ).fit()
        return [message.text for message in messages.get_nowait_batch(messages.qsize())]

    with ray_connection(cpus=2):
        yield run


@pytest.mark.timeout(900)
def test_every_learner_trains_for_20_steps_on_glyphs(glyphs, tmp_path, workers):
    configs = {name: configuration(name, glyphs, tmp_path) for name in LEARNERS.built_in}
    messages = [line for line in workers(list(configs.values())) if line]
    assert any(
        line.startswith("auto selects adj") or "auto selects unr" in line for line in messages
    )
    assert any("auto selects the sharded inner loop" in line for line in messages)
    assert any("auto selects the gathered inner loop: learner imaml" in line for line in messages)
    for name, config in configs.items():
        state = CheckpointStore(config.run.url).latest()
        start = build_theta(config).copy()
        assert state is not None, name
        assert state.step == 20
        assert any(not torch.equal(state.parameters[n], p) for n, p in start.items()), name
        assert all(p.isfinite().all() for p in state.parameters.values()), name
        assert ("rate_min" in state.history[-1]) == (name in ("meta-sgd", "maml++", "alfa"))
        assert bool(state.by_task) == (name in ("admm", "mtl"))
        # The command finds the run trained, and writes its model.
        model = load_model(launch(config))
        adapted = model.adapt(Examples(torch.zeros(3, 1, 16, 16))).parameters
        assert any(not torch.equal(adapted[n], p) for n, p in model.parameters.items()), name
    assert {"contrast", "masked"} <= CheckpointStore(configs["maml"].run.url).history()[-1].keys()
