"""A running Ray cluster, for tests to join or to submit jobs to."""

import os
import secrets
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from training_run import end


@dataclass(frozen=True)
class Head:
    """The addresses of a one-node cluster for drivers, submitters and Prometheus, and its token."""

    address: str
    dashboard: str
    metrics: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a user who knows only the dashboard's address and the token."""
        known = {"RAY_API_SERVER_ADDRESS": self.dashboard, "RAY_AUTH_TOKEN": self.token}
        return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | known


@pytest.fixture
def ray_head(monkeypatch):
    """Start a cluster as an operator does, in its own process, and set RAY_ADDRESS to it."""
    with _head("--include-dashboard=false") as head:
        monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
        monkeypatch.setenv("RAY_ADDRESS", head.address)
        yield


@pytest.fixture(scope="session")
def jobs_head():
    """Start one cluster for all tests, with a dashboard, which takes jobs and exports metrics."""
    with _head("--dashboard-host=127.0.0.1") as head:
        yield head


@contextmanager
def starting_head() -> Iterator[Head]:
    """Start a cluster with a dashboard, and do not wait for it."""
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield from _head_in(folder, "--dashboard-host=127.0.0.1", wait=False)


@contextmanager
def _head(*further: str) -> Iterator[Head]:
    """Start a cluster, and end it by its process ids.

    The cluster has its own folder, since a job's driver joins the last cluster started in one.
    """
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield from _head_in(folder, *further)


def _head_in(folder: str, *further: str, wait: bool = True) -> Iterator[Head]:
    ports = {
        name: _free_port()
        for name in (
            "port",
            "dashboard-port",
            "metrics-export-port",
            "dashboard-agent-listen-port",
            "ray-client-server-port",
        )
    }
    environment = {
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # Jobs run the first `python` on the path.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_USAGE_STATS_ENABLED": "0",
        # Train's actors look for their cluster, and would also find those of other tests.
        "RAY_ADDRESS": f"127.0.0.1:{ports['port']}",
    }
    options = [f"--{name}={port}" for name, port in ports.items()]
    options += ["--node-ip-address=127.0.0.1", "--num-cpus=2", "--block"]
    options += [f"--temp-dir={folder}", *further]
    head = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | environment,
    )
    try:
        assert head.stdout
        assert not wait or any("Ray runtime started" in line for line in head.stdout)
        yield Head(
            f"127.0.0.1:{ports['port']}",
            f"http://127.0.0.1:{ports['dashboard-port']}",
            f"http://127.0.0.1:{ports['metrics-export-port']}/metrics",
            environment["RAY_AUTH_TOKEN"],
        )
    finally:
        # Listed at the end, since runs have added workers and controllers, which may outlive them.
        family = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
        head.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=5)
        end(alive)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
