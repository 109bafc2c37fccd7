"""A Ray cluster that runs already, for tests to join."""

import secrets
import signal
import socket
import subprocess
import sys

import psutil
import pytest
from training_run import end


@pytest.fixture
def ray_head(monkeypatch):
    """A Ray cluster of its own process, as an operator starts one; RAY_ADDRESS leads to it."""
    port = free_port()
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    monkeypatch.setenv("RAY_ADDRESS", f"127.0.0.1:{port}")
    options = [f"--port={port}", "--node-ip-address=127.0.0.1", "--num-cpus=2", "--block"]
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert head.stdout
    assert any("Ray runtime started" in line for line in head.stdout)
    yield
    # Only now: runs have added workers and controllers, which may outlive what started them.
    family = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
    head.send_signal(signal.SIGTERM)
    _, alive = psutil.wait_procs(family, timeout=5)
    end(alive)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
