"""Training in one process gives what one worker of the cluster gives."""

import pytest
import torch
from safetensors.torch import load_file, save_file
from workers import run_workers

from metatrain.config import load_config
from metatrain.data.loader import load_episodes, open_tasks
from metatrain.model.build import build_theta
from metatrain.training.local_engine import LocalEngine
from metatrain.training.local_run import local_trainer
from metatrain.training.run_data import training_sampler
from metatrain.training.state import first_state
from metatrain.training.trainer import Trainer

TOLERANCE = 1e-6
# Clipped or not: the second norm is smaller than the gradients.
CHOICES = [
    [f"cluster.zero_stage={stage}", f"meta.optimizer={kind}", f"meta.clip={clip}"]
    for stage in (0, 1)
    for kind in ("sgd", "adam")
    for clip in (0.0, 0.2)
]


def configured(overrides, choice):
    few = ["meta.steps=4", "meta.lr=0.05", "cluster.workers=1", "learner.name=fomaml"]
    return load_config(None, [*overrides, *few, *choice])


def clustered(rank, folder, overrides):
    """Train as a worker of the cluster does, but for Ray."""
    from cluster.engine.build import build_engine_and_learner

    for index, choice in enumerate(CHOICES):
        config = configured(overrides, choice)
        source, state = open_tasks(config.data), first_state(build_theta(config).copy())
        engine, learner = build_engine_and_learner(config, torch.device("cpu"))
        engine.load(state)
        episodes = load_episodes(source, training_sampler(source, config), start=0)
        trainer = Trainer(config, engine, learner, episodes, state, [])
        trainer.run()
        state = trainer.state()
        tensors = {f"parameters/{n}": p.contiguous() for n, p in state.parameters.items()}
        tensors |= {f"optimizer/{n}": p.contiguous() for n, p in state.optimizer.items()}
        save_file(tensors, f"{folder}/{index}.safetensors")


@pytest.fixture(scope="module")
def shared(tmp_path_factory, packed):
    return [
        f"data.path={packed}", "data.image_size=16", "data.shots=3", "data.queries=3",
        "generator.width=8", "inner.steps=2", "inner.lr=0.05", "inner.optimizer=sgd",
        "meta.warmup=1",
    ]  # fmt: skip


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory, shared):
    folder = tmp_path_factory.mktemp("local")
    run_workers(1, folder, clustered, str(folder), shared)
    return [load_file(folder / f"{index}.safetensors") for index in range(len(CHOICES))]


def part(outcome, name):
    return {n.partition("/")[2]: p for n, p in outcome.items() if n.startswith(f"{name}/")}


@pytest.mark.parametrize("index", range(len(CHOICES)), ids=lambda i: " ".join(CHOICES[i]))
def test_one_process_trains_as_one_worker_of_the_cluster(outcomes, shared, index):
    config = configured(shared, CHOICES[index])
    trainer = local_trainer(config, open_tasks(config.data))
    start = build_theta(config).copy()
    trainer.run()
    state = trainer.state()
    clustered_parameters = part(outcomes[index], "parameters")
    assert any((clustered_parameters[n] - p).abs().max() > 1e-4 for n, p in start.items())
    for name, parameter in state.parameters.items():
        torch.testing.assert_close(
            parameter, clustered_parameters[name], rtol=TOLERANCE, atol=TOLERANCE
        )
    assert state.optimizer.keys() == part(outcomes[index], "optimizer").keys()


def test_the_optimizer_of_a_worker_is_taken_over(outcomes, shared):
    """A run may resume under another engine than it began with."""
    index = next(i for i, choice in enumerate(CHOICES) if "meta.optimizer=adam" in choice)
    config = configured(shared, CHOICES[index])
    theirs, ours = outcomes[index], local_trainer(config, open_tasks(config.data))
    ours.run()
    cpu, state = torch.device("cpu"), ours.state()
    engines = [
        LocalEngine(parameters, config.meta, device=cpu, optimizer_state=optimizer)
        for parameters, optimizer in (
            (part(theirs, "parameters"), part(theirs, "optimizer")),
            (state.parameters, state.optimizer),
        )
    ]
    gradient = {name: torch.ones_like(p) for name, p in state.parameters.items()}
    for engine in engines:
        engine.apply(gradient, 0.01)
    one, two = (engine.parameters() for engine in engines)
    for name, parameter in one.items():
        torch.testing.assert_close(parameter, two[name], rtol=TOLERANCE, atol=TOLERANCE)
