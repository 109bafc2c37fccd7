"""A whole sweep of a model with text and sound, submitted as a job: real Ray, real workers."""

import json
import re
import shutil
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
from job import Command
from small_sweep import write_sweep
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_run import ROOT

from metatrain.config import load_config
from metatrain.data.packing.pack import pack
from metatrain.model.build import build_theta
from metatrain.model.file import load_model
from tuning.ledger import read_records

# Prints what a sweep still holds of the cluster when it has ended, once Ray's counts settle. Ray
# Train's coordinator of autoscaling is one per cluster, and stays.
_LEFT = """
import json, time
import cluster, ray
from ray.util import placement_group_table
from ray.util.state import list_actors

def left():
    groups = [g["name"] for g in placement_group_table().values() if g["state"] != "REMOVED"]
    actors = [a.class_name for a in list_actors() if a.state != "DEAD"]
    actors = [name for name in actors if name != "_AutoscalingCoordinatorActor"]
    held = ray.cluster_resources()["CPU"] - ray.available_resources().get("CPU", 0)
    return [groups, actors, held]

ray.init(log_to_driver=False)
until = time.monotonic() + 60
while left() != [[], [], 0] and time.monotonic() < until:
    time.sleep(0.5)
print(json.dumps(left()))
"""


@pytest.fixture
def told(images, tmp_path):
    """The stripes of `packed`, with a caption of every task and a tone of every second one."""
    source, dest = tmp_path / "told", str(tmp_path / "told-data")
    shutil.copytree(images, source)
    for number, folder in enumerate(sorted(source.iterdir())):
        folder.with_suffix(".txt").write_text(f"stripes {number}")
        if number % 2:
            with wave.open(str(folder.with_suffix(".wav")), "wb") as file:
                tone = np.sin(np.arange(4000) * (number + 5) / 100)
                file.setparams((1, 2, 16_000, len(tone), "NONE", ""))
                file.writeframes((9000 * tone).astype("<i2").tobytes())
    pack(source, dest, conditions={"text": "text", "audio": "audio"})
    return dest


@pytest.mark.timeout(1200)
def test_a_sweep_of_six_trials_finds_a_best_stops_others_and_leaves_nothing(
    told, tmp_path, checkout, jobs_head
):
    rates = [3e-3, 1e-3, 1e30, 2e-3, 5e-4, 1e-9]
    file = write_sweep(tmp_path, told, rates, looks=2, conditions="[support, text, audio]")
    file = file.rename(checkout / "sweep.yaml")
    command = [sys.executable, "-m", "tuning", "submit", "--sweep", file.name]
    command += [f"loggers.mlflow={tmp_path.as_uri()}/mlruns", "--wait"]
    job = Command(command, jobs_head, checkout)
    url = f"{tmp_path}/sweeps/rates"
    assert job.wait() == 0, job.output
    assert f"Job rates-1 works on {url}." in job.output
    assert "6 trials, 2 at a time" in job.output
    records = read_records(url)
    states = [record.state for record in records]
    assert states[2] == "failed", states
    assert "not finite" in records[2].reason
    assert "stopped" in states
    assert "finished" in states
    assert set(states) == {"failed", "stopped", "finished"}
    for record in records:
        steps = {"failed": [], "stopped": [6], "finished": [6, 12]}[record.state]
        assert [report.step for report in record.reports] == steps
        assert all(set(report.curve) == {1, 2, 3, 4} for report in record.reports)
    assert_nothing_left(url, records, jobs_head)
    assert_best_can_be_trained(url, records)
    assert_logged(url, tmp_path, records)


def assert_nothing_left(url, records, head):
    """Check that no workers, placement groups or runs are left, but those of finished trials."""
    command = [sys.executable, "-c", _LEFT]
    environment = head.environment | {"RAY_ADDRESS": head.address}
    left = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environment)
    assert left.returncode == 0, left.stderr
    assert json.loads(left.stdout.splitlines()[-1]) == [[], [], 0]
    finished = {record.run for record in records if record.state == "finished"}
    assert {path.name for path in Path(url, "runs").iterdir()} == finished
    assert not Path(url, "ray").exists()


def assert_best_can_be_trained(url, records):
    best = min(
        (r for r in records if r.state == "finished"), key=lambda record: record.reports[-1].score
    )
    text = Path(url, "best.yaml").read_text()
    assert text.startswith(f"# Trial {best.name} of the sweep {url}")
    config = load_config(f"{url}/best.yaml")
    assert config.inner.lr == best.values["inner.lr"]
    assert config.adapt.steps == best.reports[-1].k
    model = load_model(f"{url}/runs/{best.run}")
    assert model.config.inner == config.inner
    assert_encoders_learned(model)
    page = Path(url, "report.html").read_text()
    assert f"Trial {best.name} is best:" in page or "No trial is best:" in page
    assert "not finite" in page
    assert page.count("data:image/png;base64,") >= 3
    assert not re.search(r"(src|href)=.https?:", page)


def assert_encoders_learned(model):
    """Check that the encoders of text and sound moved, and that both are of use."""
    for name, start in build_theta(model.config).copy().items():
        if ".encoders." in name:
            assert not model.parameters[name].equal(start), name
    image = model.sample(1, given={"text": "stripes 3"}, seed=0)
    assert not image.equal(model.sample(1, given={"text": "dots"}, seed=0))


def assert_logged(url, folder, records):
    """Check that TensorBoard's HParams and MLflow's files have every trial."""
    for record in records:
        board = EventAccumulator(f"{url}/tensorboard/{record.name}")
        board.Reload()
        assert "_hparams_/session_start_info" in board.summary_metadata
        if record.reports:
            [score] = board.Scalars("sweep/score")
            assert score.value == pytest.approx(record.reports[-1].score, rel=1e-5)
    rates = [float(path.read_text()) for path in folder.glob("mlruns/*/*/params/inner.lr")]
    assert sorted(rates) == sorted(record.values["inner.lr"] for record in records)
    assert len(list(folder.glob("mlruns/*/*/metrics/score"))) == 5
