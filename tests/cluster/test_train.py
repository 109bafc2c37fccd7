"""Whole training runs: the command as a person types it, real Ray, real workers, real kills."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from metatrain.build import build_generator, build_learner
from metatrain.checkpoint import CheckpointStore
from metatrain.combine.post_hoc import snapshots_of
from metatrain.config import load_config
from metatrain.episodes import EpisodeSampler, read_episode
from metatrain.model import load_model
from metatrain.store import EpisodeStore

# One worker sums a meta-batch slot by slot, two sum their parts and add them: another order, and
# so other last bits. With SGD inside and outside, since Adam would hide a gradient wrongly scaled
# and turns a last bit near zero into a whole step.
TOLERANCE = 1e-6
SGD = ["inner.optimizer=sgd", "inner.lr=0.02", "meta.optimizer=sgd", "meta.lr=0.5"]

COMMAND = [sys.executable, "-m", "cluster", "train"]


class Run:
    """One start of the training command, followed line by line."""

    def __init__(self, overrides: list[str], folder: Path) -> None:
        config = folder / "empty.yaml"
        config.write_text("seed: 0\n")
        root = Path(__file__).parents[2]
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*COMMAND, str(config), *overrides],
            cwd=root,
            env=os.environ | {"PYTHONPATH": str(root)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            # A shell that starts things in the background has them ignore Ctrl-C.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def until(self, step: int) -> "Run":
        """Read on until the run says that it has taken `step` outer steps."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line)
            if line.startswith("step ") and int(line.split()[1].partition("/")[0]) >= step:
                return self
        raise AssertionError(f"ended before step {step}:\n" + self.output)

    def wait(self) -> int:
        """Read to the end and return the exit status."""
        assert self.process.stdout
        self.lines += self.process.stdout
        return self.process.wait()

    def kill_driver(self) -> None:
        """SIGKILL, and wait until Ray has noticed and ended what trains."""
        rest = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.wait()
        _, alive = psutil.wait_procs(rest, timeout=10)
        # Ray's agents look for their raylet once in a while only; they hold no resources.
        assert all("Agent" in process.name() for process in alive), f"orphans: {alive}"
        for agent in alive:
            agent.kill()

    def kill_one_worker(self) -> None:
        """SIGKILL one of the processes that train."""
        workers = [
            process
            for process in psutil.Process(self.process.pid).children(recursive=True)
            if "RayTrainWorker" in " ".join(process.cmdline())
        ]
        workers[-1].kill()

    @property
    def output(self) -> str:
        return "".join(self.lines)


def final_state(overrides):
    config = load_config(None, overrides)
    state = CheckpointStore(config.run.url).latest()
    assert state is not None
    assert state.step == config.meta.steps
    return state


def final_average(overrides):
    return load_model(load_config(None, overrides).run.url).parameters


def final_steps(overrides):
    return [
        record["step"] for record in CheckpointStore(load_config(None, overrides).run.url).history()
    ]


def plain_torch(config):
    """The same run as one loop: no engine, no trainer, no workers."""
    store = EpisodeStore(config.data.path)
    sampler = EpisodeSampler(
        store.tasks("train"),
        shots=config.data.shots,
        queries=config.data.queries,
        meta_batch=config.meta.batch,
        seed=config.seed,
        split="train",
    )
    learner = build_learner(config, build_generator(config))
    theta = dict(build_generator(config).named_parameters())
    optimizer = torch.optim.SGD(theta.values(), lr=0.0)
    for step in range(config.meta.steps):
        detached = {name: p.detach() for name, p in theta.items()}
        slots = [sampler.plan(step, slot) for slot in range(config.meta.batch)]
        episodes = [read_episode(store, plan, config.data.image_size, 1) for plan in slots]
        gradients = [learner.episode_gradient(detached, e, step).gradient for e in episodes]
        for name, p in theta.items():
            p.grad = sum(g[name] for g in gradients) / config.meta.batch
        warm, fall = (step + 1) / (config.meta.warmup + 1), config.meta.steps - step
        fall /= config.meta.decay * config.meta.steps
        optimizer.param_groups[0]["lr"] = config.meta.lr * min(1.0, warm, fall)
        optimizer.step()
    return {name: p.detach() for name, p in theta.items()}


def assert_shown(folder, steps):
    """TensorBoard has the loss, and a sample grid at each of `steps`."""
    board = EventAccumulator(folder, size_guidance={"images": 0})
    board.Reload()
    assert [image.step for image in board.Images("samples")] == steps
    assert board.Scalars("train/loss")[-1].step == steps[-1]


def test_one_worker_and_two_give_the_parameters_of_plain_torch(overrides, tmp_path):
    shared = [*overrides, *SGD, "meta.batch=3"]
    one = [*shared, "run.name=one", "cluster.workers=1", "cluster.zero_stage=0"]
    two = [*shared, "run.name=two", "cluster.workers=2", "cluster.zero_stage=3"]
    two += ["checkpoint.samples=true"]
    for run in (Run(one, tmp_path), Run(two, tmp_path)):
        assert run.wait() == 0, run.output
    reference = plain_torch(load_config(None, shared))
    start = dict(build_generator(load_config(None, shared)).named_parameters())
    for overrides_ in (one, two):
        parameters = final_state(overrides_).parameters
        for name, expected in reference.items():
            torch.testing.assert_close(parameters[name], expected, rtol=0, atol=TOLERANCE)
    assert_shown(f"{tmp_path}/runs/two/tensorboard", steps=[0, 5, 10, 15, 20])
    moved = max((reference[name] - start[name]).abs().max() for name in start)
    assert moved > 1000 * TOLERANCE


@pytest.mark.timeout(600)
def test_a_run_interrupted_killed_and_robbed_of_a_worker_ends_as_if_nothing_had_happened(
    overrides, tmp_path
):
    # The learner with the most to lose: a dual for every task, on every worker.
    admm = ["learner.name=admm", "inner.scope.name=film"]
    long = [*overrides, *admm, "meta.steps=240", "checkpoint.every=30", "meta.post_hoc=true"]
    whole, broken = [*long, "run.name=whole"], [*long, "run.name=broken"]
    run = Run(whole, tmp_path)
    assert run.wait() == 0, run.output

    run = Run(broken, tmp_path).until(step=35)
    run.process.send_signal(signal.SIGINT)
    assert run.wait() == 130
    assert "the same command goes on from there" in run.output
    Run(broken, tmp_path).until(step=75).kill_driver()
    run = Run(broken, tmp_path).until(step=140)
    run.kill_one_worker()
    assert run.wait() == 0, run.output

    expected, state = final_state(whole), final_state(broken)
    assert all(torch.equal(state.parameters[n], p) for n, p in expected.parameters.items())
    assert state.by_task.keys() == expected.by_task.keys() != set()
    for task, dual in expected.by_task.items():
        assert all(torch.equal(state.by_task[task][name], u) for name, u in dual.items())
    average, of_whole = final_average(broken), final_average(whole)
    assert all(torch.equal(average[name], of_whole[name]) for name in of_whole)
    assert final_steps(broken) == final_steps(whole)
    snapshots = [snapshots_of(load_config(None, o).run.url)[-2:] for o in (broken, whole)]
    for snapshot, other in zip(*snapshots, strict=True):
        assert (snapshot.step, snapshot.sigma) == (other.step, other.sigma)
        one, two = load_model(snapshot.url).parameters, load_model(other.url).parameters
        assert all(torch.equal(one[name], two[name]) for name in two)
    model = load_model(f"{tmp_path}/runs/broken")
    assert (model.step, model.config.run.name) == (240, "broken")

    again = Run(broken, tmp_path)
    assert again.wait() == 0
    assert "is trained already (240 of 240 outer steps)" in again.output
    changed = Run([*broken, "inner.lr=0.5", "meta.batch=4"], tmp_path)
    assert changed.wait() == 1
    assert "was begun with other values of inner.lr, meta.batch" in changed.output


def test_on_a_cluster_that_runs_already_a_loss_that_is_not_finite_is_told_in_a_sentence(
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
        ("cluster.gpus_per_worker=1", "2 workers need 2 GPUs, and Ray has 0"),
        ("generator.patch=4 data.image_size=18", "not a multiple of generator.patch 4"),
    ],
)
def test_a_mistake_is_told_in_a_sentence_before_anything_is_trained(
    overrides, override, sentence, tmp_path
):
    started = time.monotonic()
    run = Run([*overrides, *override.split()], tmp_path)
    assert run.wait() == 1
    assert sentence in run.output
    assert "Traceback" not in run.output
    assert time.monotonic() - started < 20
