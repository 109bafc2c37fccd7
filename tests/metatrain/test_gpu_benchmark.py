"""The script for a GPU, in its small form on the CPU."""

import subprocess
import sys

import pytest


@pytest.mark.long
def test_every_check_passes_on_the_cpu_and_everything_is_measured():
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.gpu", "--device", "cpu"]
    run = subprocess.run(
        [*command, "--size", "small", "--seconds", "0"], capture_output=True, text=True
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "FAILED" not in run.stdout
    assert all(name in run.stdout for name in ("ZeRO 3, sharded", "offloaded", "resumed run"))
    assert all(name in run.stdout for name in ("large-100m  ", "SDXL LoRA  "))
