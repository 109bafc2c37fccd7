"""Super-resolution as a job: a sharded run, and a sweep over the inner loop."""

import sys

import torch
import yaml
from job import Command
from local_training import train
from photographs import photos, sr_config  # noqa: F401

from metatrain.model.file import load_model
from tuning.ledger import read_records

# Adam would amplify the last bits of sums in another order.
RUN = ("learner.name=maml++", "meta.optimizer=sgd", "meta.lr=0.05", "meta.ema=0.5", "meta.steps=3")


def write(file, config):
    file.write_text(yaml.safe_dump(config.model_dump(mode="json")))


def test_a_sharded_job_ends_where_one_process_does(photos, tmp_path, checkout, jobs_head):  # noqa: F811
    sharded = ("cluster.workers=2", "cluster.zero_stage=3", "cluster.cpus_per_worker=0.5")
    write(checkout / "sr.yaml", sr_config(photos, tmp_path / "runs", *RUN, *sharded))
    command = [sys.executable, "-m", "cluster", "submit", "sr.yaml", "run.name=sr", "--wait"]
    job = Command(command, jobs_head, checkout)
    assert job.wait() == 0, job.output
    model = load_model(f"{tmp_path}/runs/sr")
    alone = train(sr_config(photos, tmp_path / "alone", *RUN))
    assert model.step == 3
    for name, value in model.parameters.items():
        torch.testing.assert_close(value, alone.average[name], rtol=0, atol=2e-5)


def test_a_sweep_over_the_inner_loop_finds_a_best(photos, tmp_path, checkout, jobs_head):  # noqa: F811
    write(checkout / "base.yaml", sr_config(photos, tmp_path / "runs", *RUN))
    sweep = {
        "name": "sr",
        "dir": f"{tmp_path}/sweeps",
        "base": "base.yaml",
        "overrides": {
            "validation": {"tasks": 2, "images": 2, "points": 2},
            "cluster.cpus_per_worker": 0.5,
        },
        "space": {
            "inner.lr": {"choice": [0.01, 1e30]},
            "adapt.lr": {"same_as": "inner.lr"},
        },
        "metric": "loss",
        "searcher": "grid",
        "scheduler": {"looks": 1},
        "budget": {"trials": 2},
    }
    (checkout / "sweep.yaml").write_text(yaml.safe_dump(sweep, sort_keys=False))
    command = [sys.executable, "-m", "tuning", "submit", "--sweep", "sweep.yaml", "--wait"]
    job = Command(command, jobs_head, checkout)
    assert job.wait() == 0, job.output
    states = {r.values["inner.lr"]: r.state for r in read_records(f"{tmp_path}/sweeps/sr")}
    assert states == {0.01: "finished", 1e30: "failed"}
    best = yaml.safe_load((tmp_path / "sweeps/sr/best.yaml").read_text())
    assert best["inner"]["lr"] == best["adapt"]["lr"] == 0.01
