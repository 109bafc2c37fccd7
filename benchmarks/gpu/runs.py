"""Short runs of every engine on a device, compared with torch's own optimiser, and resumed."""

import gc
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import torch

import metatrain
from benchmarks.cluster.worker import EnoughError, Stop, random_episodes
from benchmarks.gpu.check import Check, difference
from benchmarks.gpu.made_data import made_set
from metatrain.base.parameters import Parameters
from metatrain.config import Config, load_config
from metatrain.learning.learners import Learner
from metatrain.model.build import build_learner, build_theta
from metatrain.training.engine import Engine
from metatrain.training.local_engine import LocalEngine
from metatrain.training.state import Record, TrainState, first_state
from metatrain.training.trainer import Trainer

_STEPS = 3
_SMALL = [
    "data.image_size=8",
    "generator.width=8",
    "inner.steps=2",
    "meta.batch=2",
    "meta.warmup=0",
]
# Engines by what is changed of a run of a small network.
_ENGINES = {
    "ZeRO 0": ["cluster.zero_stage=0"],
    "ZeRO 1": ["cluster.zero_stage=1"],
    "ZeRO 2": ["cluster.zero_stage=2"],
    "ZeRO 3, gathered": ["cluster.zero_stage=3", "cluster.inner_loop=gathered"],
    "ZeRO 3, sharded": ["cluster.zero_stage=3", "cluster.inner_loop=sharded"],
    "ZeRO 2, offloaded": ["cluster.zero_stage=2", "cluster.offload=true"],
    "ZeRO 1, bf16": ["cluster.zero_stage=1", "inner.precision=bf16"],
}
# Of what theta has moved.
_LIMITS = {"fp32": 1e-3, "bf16": 0.1}


def engine_checks(device: torch.device) -> Iterator[Check]:
    """Check theta after a few outer steps under each engine. The process group must exist."""
    for name, overrides in _ENGINES.items():
        config = load_config(None, [*_SMALL, "cluster.workers=1", *overrides])
        limit = _LIMITS[config.inner.precision]
        results = _by_deepspeed(config, device), _by_torch(config, device)
        error = difference(*(_moves(config, theta) for theta in results))
        yield Check(name, error, limit)
        gc.collect()


def _by_deepspeed(config: Config, device: torch.device) -> Parameters:
    # DeepSpeed chooses its accelerator when it is imported.
    from cluster.engine.build import build_engine_and_learner

    engine, learner = build_engine_and_learner(config, device)
    return trained(config, engine, learner, engine.begin(), _STEPS)


def _by_torch(config: Config, device: torch.device) -> Parameters:
    theta = build_theta(config)
    engine = LocalEngine(theta.copy(), config.meta, device=device)
    learner = build_learner(config, build_theta(config).to(device))
    return trained(config, engine, learner, first_state(engine.local()), _STEPS)


def trained(
    config: Config, engine: Engine, learner: Learner, state: TrainState, steps: int
) -> Parameters:
    """Train on random images; return a copy of theta."""
    episodes = random_episodes(config, engine.rank, engine.world)
    try:
        Trainer(config, engine, learner, episodes, state, [Stop(steps)]).run()
    except EnoughError:
        return {name: value.clone() for name, value in engine.local().items()}
    raise AssertionError("the run has fewer outer steps")


def resume_check(device: torch.device) -> Check:
    """Interrupt a run after a checkpoint, resume it, and compare it with an uninterrupted one."""
    with tempfile.TemporaryDirectory() as folder:
        data = made_set(Path(folder), size=8, channels=1, tasks=8, images=12)
        whole, broken = (_run_config(folder, data, name) for name in ("whole", "broken"))
        expected = metatrain.train(whole, device=str(device)).parameters

        def interrupt(step: int, record: Record) -> None:
            if step == 3:
                raise EnoughError

        with suppress(EnoughError):
            metatrain.train(broken, device=str(device), on_step=interrupt)
        resumed = metatrain.train(broken, device=str(device)).parameters
        error = difference(_moves(whole, resumed), _moves(whole, expected))
        return Check("resumed run", error, _LIMITS["fp32"])


def _moves(config: Config, theta: Parameters) -> Parameters:
    """Return how far a run of `config` has moved each parameter from its first value."""
    start = build_theta(config).named()
    return {name: p.cpu().flatten() - start[name].detach().flatten() for name, p in theta.items()}


def _run_config(folder: str, data: str, name: str) -> Config:
    place = [f"run.dir={folder}", f"run.name={name}", f"data.path={data}"]
    return load_config(None, [*_SMALL, *place, "meta.steps=4", "checkpoint.every=2"])
