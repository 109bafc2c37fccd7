"""A Ray cluster that runs already, for tests to join or to submit jobs to."""

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
    """Where a cluster of one node answers: to Ray's drivers, to submitters, and to Prometheus."""

    address: str
    dashboard: str
    metrics: str
    token: str

    @property
    def environment(self) -> dict[str, str]:
        """That of a person who was given nothing but the dashboard's address and the token."""
        given = {"RAY_API_SERVER_ADDRESS": self.dashboard, "RAY_AUTH_TOKEN": self.token}
        return {k: v for k, v in os.environ.items() if not k.startswith("RAY_")} | given


@pytest.fixture
def ray_head(monkeypatch):
    """A Ray cluster of its own process, as an operator starts one; RAY_ADDRESS leads to it."""
    with _started("--include-dashboard=false") as head:
        monkeypatch.setenv("RAY_AUTH_TOKEN", head.token)
        monkeypatch.setenv("RAY_ADDRESS", head.address)
        yield


@pytest.fixture(scope="session")
def jobs_head():
    """One with a dashboard, which takes jobs and tells Prometheus of them: for all tests one."""
    with _started("--dashboard-host=127.0.0.1") as head:
        yield head


@contextmanager
def _started(*further: str) -> Iterator[Head]:
    """Ended by its process ids.

    With a folder of its own: a job's driver joins the cluster that was started last in the same.
    """
    with TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        yield from _started_in(folder, *further)


def _started_in(folder: str, *further: str) -> Iterator[Head]:
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
        # Jobs run the `python` of the path.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "RAY_metrics_report_interval_ms": "1000",
        "RAY_USAGE_STATS_ENABLED": "0",
        # For Train's actors, which look for their cluster and find those of other tests as well.
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
        assert any("Ray runtime started" in line for line in head.stdout)
        yield Head(
            f"127.0.0.1:{ports['port']}",
            f"http://127.0.0.1:{ports['dashboard-port']}",
            f"http://127.0.0.1:{ports['metrics-export-port']}/metrics",
            environment["RAY_AUTH_TOKEN"],
        )
    finally:
        # Only now: runs have added workers and controllers, which may outlive what started them.
        family = [*psutil.Process(head.pid).children(recursive=True), psutil.Process(head.pid)]
        head.send_signal(signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=5)
        end(alive)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
