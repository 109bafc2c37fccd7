"""`metatrain train` with each learner, on the built-in tasks."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from training_run import Run

from metatrain.adapt import Adapter
from metatrain.build import build_generator
from metatrain.checkpoint import CheckpointStore
from metatrain.config import load_config
from metatrain.learners import LEARNERS
from metatrain.model import load_model
from metatrain.parameters import copy_of


@pytest.mark.timeout(900)
def test_every_learner_trains_for_20_steps_on_glyphs(glyphs, tmp_path, ray_head):
    """The command as it is typed, with one line for each learner; all join one cluster."""
    shared = [
        "run.dir=" + str(tmp_path / "runs"), f"data.path={glyphs}", "data.image_size=16",
        "data.shots=3", "data.queries=3", "generator.width=8", "inner.steps=2", "adapt.steps=3",
        "meta.steps=20", "meta.warmup=2", "checkpoint.every=20", "checkpoint.samples=false",
    ]  # fmt: skip
    # One that remembers tasks has to tell the other worker.
    workers = {"admm": 2, "mtl": 2}
    chosen = {
        "maml": ["meta.gradient=auto", "auxiliary.contrast=0.1", "auxiliary.masked=0.1"],
        "fomaml": ["cluster.zero_stage=3", "inner.precision=bf16"],
        "imaml": ["cluster.zero_stage=3"],
    }

    def train(name):
        overrides = [
            *shared, f"run.name={name.replace('+', 'p')}", f"learner.name={name}",
            f"cluster.workers={workers.get(name, 1)}", *chosen.get(name, []),
        ]  # fmt: skip
        run = Run(overrides, tmp_path)
        assert run.wait() == 0, f"{name}: {run.output}"
        return overrides, run.output

    with ThreadPoolExecutor(max_workers=5) as pool:
        runs = dict(zip(LEARNERS, pool.map(train, LEARNERS), strict=True))
    for name, (overrides, _) in runs.items():
        config = load_config(None, overrides)
        state = CheckpointStore(config.run.url).latest()
        start = copy_of(build_generator(config))
        assert state is not None, name
        assert state.step == 20
        assert any(not torch.equal(state.parameters[n], p) for n, p in start.items()), name
        assert all(p.isfinite().all() for p in state.parameters.values()), name
        assert ("rate_min" in state.history[-1]) == (name in ("meta-sgd", "maml++", "alfa"))
        assert bool(state.by_task) == (name in workers)
        model = load_model(config.run.url)
        adapted = Adapter(model).adapt(torch.zeros(3, 1, 16, 16)).parameters
        assert any(not torch.equal(adapted[n], p) for n, p in model.parameters.items()), name
    assert "auto takes " in runs["maml"][1]
    assert "auto takes the sharded inner loop" in runs["fomaml"][1]
    assert "auto takes the gathered inner loop: learner imaml needs" in runs["imaml"][1]
    assert {"contrast", "masked"} <= CheckpointStore(f"{tmp_path}/runs/maml").history()[-1].keys()
