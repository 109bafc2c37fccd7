"""Runs that survive the faults of a cluster, with the results of an undisturbed run."""

import re
import signal
import subprocess

import psutil
import pytest
import torch
from ray.cluster_utils import Cluster
from training_run import COMMAND, ROOT, Run, actors, plain_torch

from cluster.run.launch import launch
from metatrain.base.errors import HeldError
from metatrain.config import load_config
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from metatrain.training.average_snapshots import snapshots_of
from metatrain.training.checkpoint import CheckpointStore

LOST = re.compile(r"Worker \d (is gone|waited in vain)")


def store_of(overrides):
    return CheckpointStore(load_config(None, overrides).run.url)


def assert_same(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.timeout(900)
def test_a_run_that_is_killed_told_to_leave_and_hung_has_the_result_of_an_undisturbed_one(
    overrides, tmp_path
):
    # The learner with the most state: a dual for every task, on every worker.
    admm = ["learner.name=admm", "inner.scope.name=film", "meta.post_hoc=true"]
    long = [*overrides, *admm, "meta.steps=220", "checkpoint.every=20", "cluster.timeout=20"]
    # On a busy machine a worker may exceed the timeout without having been stopped.
    long += ["cluster.max_failures=10"]
    whole, broken = [*long, "run.name=whole"], [*long, "run.name=broken"]
    run = Run(whole, tmp_path)
    assert run.wait() == 0, run.output

    run = Run(broken, tmp_path).until(step=25)
    with pytest.raises(HeldError, match=f"trains it, as process {run.process.pid}, since"):
        launch(load_config(None, broken))
    run.kill_driver()
    steps = store_of(broken).steps()

    run = Run(broken, tmp_path).until_text(f"from step {steps[-1]} of 220").until(step=30)
    run.process.send_signal(signal.SIGTERM)
    assert run.wait() == 143, run.output
    saved = store_of(broken).steps()[-1]
    assert f"interrupted; saved up to step {saved}; the same command resumes" in run.output
    assert saved >= 30
    assert "SIGTERM received" not in run.output
    assert "Traceback" not in run.output

    run = Run(broken, tmp_path).until_text(f"from step {saved} of 220").until(step=45)
    run.signal_a_worker(signal.SIGTERM)
    run.until_text("A worker was told to leave")
    left = int(re.search(r"saved at step (\d+)", run.output)[1])
    assert store_of(broken).steps()[-1] == left >= 45
    run.until(step=left + 5).signal_a_worker(signal.SIGSTOP)
    run.until_line(re.compile(r"Worker \d has not answered for cluster.timeout").search, "silence")
    run.until(step=left + 20).signal_a_worker(signal.SIGKILL)
    run.until_line(LOST.search, "a loss")
    assert run.wait() == 0, run.output

    expected, state = (store_of(o).latest() for o in (whole, broken))
    assert state.step == expected.step == 220
    for part in ("parameters", "average", "optimizer"):
        assert_same(getattr(state, part), getattr(expected, part))
    for part in ("by_task", "tracks"):
        trees, others = getattr(state, part), getattr(expected, part)
        assert trees.keys() == others.keys() != set()
        for key in trees:
            assert_same(trees[key], others[key])
    losses, of_whole = ([(r["step"], r["loss"]) for r in s.history] for s in (state, expected))
    assert losses == of_whole
    snapshots = [snapshots_of(load_config(None, o).run.url) for o in (broken, whole)]
    for snapshot, other in zip(*snapshots, strict=True):
        assert (snapshot.step, snapshot.sigma) == (other.step, other.sigma)
        assert_same(load_model(snapshot.url).parameters, load_model(other.url).parameters)
    model = load_model(f"{tmp_path}/runs/broken")
    assert (model.step, model.config.run.name) == (220, "broken")


@pytest.fixture
def nodes(monkeypatch):
    """Start a cluster with a node for the driver alone, and two nodes for workers."""
    # Ray keeps the first token of a process, and another test may have started a cluster here: this
    # one takes any.
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False}
    )
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    yield cluster, [cluster.add_node(num_cpus=1) for _ in range(2)]
    cluster.shutdown()


@pytest.mark.timeout(900)
def test_a_run_whose_nodes_leave_and_are_lost_continues_on_the_others_with_the_same_parameters(
    overrides, tmp_path, nodes
):
    sgd = ["inner.optimizer=sgd", "inner.lr=0.02", "meta.optimizer=sgd", "meta.lr=0.05"]
    elastic = [*overrides, *sgd, "cluster.min_workers=1", "cluster.zero_stage=2"]
    elastic += ["meta.steps=100000", "checkpoint.every=10"]
    cluster, [doomed, leaving] = nodes
    run = Run(elastic, tmp_path).until_text("Training with 2 workers").until(step=15)
    # As a pod does before it ends.
    options = ["--within", "60", "--node", leaving.node_id]
    subprocess.run([*COMMAND[:-1], "leave", *options], cwd=ROOT, check=True)
    run.until_text("A worker was told to leave").until_text("Training with 1 worker")
    assert not LOST.search(run.output)
    cluster.remove_node(leaving)
    cluster.add_node(num_cpus=1)
    run.until_text("Training with 2 workers")
    run.until(step=store_of(elastic).steps()[-1] + 15)
    cluster.remove_node(doomed, allow_graceful=False)
    run.until_text("Training with 1 worker").until(step=store_of(elastic).steps()[-1] + 5)
    # As Ray ends a worker, which may report first that it leaves; the run continues nevertheless.
    run.signal_a_worker(signal.SIGTERM, signal.SIGKILL).until_text("Training with 1 worker")
    resumed = store_of(elastic).steps()[-1]
    run.until(step=resumed + 60).process.send_signal(signal.SIGINT)
    assert run.wait() == 130
    assert "the same command resumes from there" in run.output
    assert LOST.search(run.output)
    # Nothing holds resources that the next run would need.
    left = actors("TrainController", "PlacementGroupCleaner", "RayTrainWorker")
    assert not psutil.wait_procs(left, timeout=10)[1]

    state, config = store_of(elastic).latest(), load_config(None, elastic)
    # Saved on Ctrl-C, beyond the newest checkpoint.
    assert state.step >= resumed + 60
    start = build_theta(config).named()
    for name, expected in plain_torch(config, state.step).items():
        torch.testing.assert_close(state.parameters[name], expected, rtol=0, atol=1e-5)
    assert max((p - start[name]).abs().max() for name, p in state.parameters.items()) > 0.01
