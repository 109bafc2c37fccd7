"""Kills of whole sweeps and of trials: the same command resumes."""

import os
import re
import signal
import sys
from pathlib import Path

import psutil
import pytest
from small_sweep import write_sweep
from training_run import Run, process_text

from metatrain.cli.command import run
from metatrain.training.checkpoint import CheckpointStore
from tuning.commands import SWEEP
from tuning.ledger import read_records


def start(file: Path, *overrides: str) -> Run:
    return Run([*overrides], file.parent, [sys.executable, "-m", "tuning", "sweep", str(file)])


@pytest.mark.timeout(1200)
def test_a_killed_sweep_and_a_killed_trial_resume_from_their_checkpoints(packed, tmp_path, capsys):
    file = write_sweep(tmp_path, packed, [3e-3, 1e-3], looks=3)
    # One trial at a time, however many CPUs this machine has.
    one_by_one = [f"cluster.cpus_per_worker={os.cpu_count()}", "cluster.workers=1"]
    chosen = [*one_by_one, "scheduler.name=none", "overrides.checkpoint.keep=9"]
    url = f"{tmp_path}/sweeps/rates"
    first = (
        start(file, *chosen)
        .until_text("trial 000  finished")
        .until_line(
            lambda line: re.search(r"trial 001  running +\d+/12 +[-\d]", line),
            "a validation of trial 001",
        )
    )
    first.kill_driver()
    record = Path(url, "trials/000.json").read_bytes()
    steps = CheckpointStore(f"{url}/runs/001").steps()
    second = start(file, *chosen).until_line(
        lambda line: re.search(r"trial 001  running +(8|9|1\d)/12 +[-\d]", line),
        "its second validation",
    )
    kill_trial(second)
    assert second.wait() == 0, second.output
    records = read_records(url)
    assert [record.state for record in records] == ["finished", "finished"]
    assert Path(url, "trials/000.json").read_bytes() == record
    assert [report.step for report in records[1].reports] == [4, 8, 12]
    assert records[1].retries == 1
    assert steps, "trial 001 had no checkpoint when it was killed"
    assert "trial 000  finished" in second.output
    assert_ended(file, chosen, capsys)


def assert_ended(file: Path, chosen: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Check that the same command does nothing, and that one with another base is refused."""
    command = ["sweep", str(file), *chosen]
    assert run("metatrain", {"sweep": SWEEP}, command) == 0
    assert "To train as trial 00" in capsys.readouterr().out
    assert run("metatrain", {"sweep": SWEEP}, [*command, "inner.steps=2"]) == 1
    assert "was begun as another sweep: inner.steps from 4 to 2" in capsys.readouterr().err


def kill_trial(sweep: Run) -> None:
    """Send SIGKILL to Tune's process of the running trial, under any name of its wrapped class."""
    [trial] = [
        process
        for process in psutil.Process(sweep.process.pid).children(recursive=True)
        if re.search(
            r"ray::\S*(TrialRun|ResourceTrainable|_Inner)", process_text(process, "cmdline")
        )
    ]
    trial.send_signal(signal.SIGKILL)
