"""Check a cluster before a job is sent to it; every failure is one sentence."""

import os
import platform
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from urllib.parse import urlsplit

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient
from requests.exceptions import ConnectionError as RequestConnectionError
from requests.exceptions import RequestException

from cluster.capacity import Resources, minimum_workers, workers_that_fit
from cluster.ray_internals import get_from_dashboard
from metatrain.base.errors import UserError
from metatrain.base.progress import log_line
from metatrain.base.text import counted, reason_of
from metatrain.config import ClusterConfig

Answer = TypeVar("Answer")

_CONNECT_SECONDS = 5.0
# The time that a head takes to start, and the time between two looks at it.
_START_SECONDS, _POLL_SECONDS = 30.0, 1.0
# The most nodes to list; without a limit Ray's state API lists 100.
_NODE_LIMIT = 10_000


def connect(address: str) -> JobSubmissionClient:
    """Connect to the cluster whose dashboard is at `address`, and wait while its head starts.

    Raises:
        UserError: when nothing answers there, the answer is not a Ray dashboard's, the dashboard
            refuses the token, or its version of Ray or Python differs.
    """
    client, versions = when_started(address, lambda: _reach(address))
    _check_versions(
        address, ray_version=versions["rayVersion"], python_version=versions["pythonVersion"]
    )
    return client


class StartingError(UserError):
    """A dashboard that does not do yet what it may do once its head has started."""


def when_started(address: str, ask: Callable[[], Answer]) -> Answer:
    """Return the answer of the dashboard at `address`; ask again while its head may be starting.

    Raises:
        UserError: when it still does not answer after `_START_SECONDS`, or refuses.
    """
    deadline, reported = time.monotonic() + _START_SECONDS, False
    while True:
        try:
            return ask()
        except StartingError:
            if time.monotonic() >= deadline:
                raise
        if not reported:
            text = f"{address} does not answer yet; waiting up to {_START_SECONDS:g} s for it."
            print(log_line(text), flush=True)
        reported = True
        time.sleep(_POLL_SECONDS)


def _reach(address: str) -> tuple[JobSubmissionClient, Any]:
    _check_reachable(address)
    # Ray prefers the environment's address to its argument.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    with dashboard_errors(address):
        client = JobSubmissionClient(address)
        versions = get_from_dashboard(client, "/api/v0/cluster_metadata")
        return client, versions


def _check_reachable(address: str) -> None:
    """Open a connection, since Ray would wait for minutes."""
    parts = urlsplit(address)
    assert parts.hostname, "dashboard_address refuses others"
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((parts.hostname, port), _CONNECT_SECONDS).close()
    except OSError as error:
        # A head that starts refuses; a name that nobody has, or a network that is away, stays so.
        kind = StartingError if isinstance(error, ConnectionRefusedError) else UserError
        raise kind(
            f"nothing answers at {address} ({error.strerror or error}); give the cluster's "
            f"dashboard as --address http://HEAD:8265, or forward it to this machine with "
            f"`ray dashboard CLUSTER.yaml` or `kubectl port-forward`."
        ) from error


def is_starting(error: Exception) -> bool:
    """Return whether a dashboard's error may pass once its head has started."""
    response = getattr(error, "response", None)
    if response is not None:
        return response.status_code >= 500
    # Ray tells by text alone that the agent of the head's node is not there yet.
    return isinstance(error, ConnectionError | RequestConnectionError) or any(
        words in str(error) for words in ("available agent", "node agent")
    )


@contextmanager
def dashboard_errors(address: str) -> Iterator[None]:
    """Convert errors of a connection to the dashboard at `address` into sentences.

    Raises:
        UserError: when the dashboard refuses the token, or does not respond as a dashboard.
    """
    try:
        yield
    except AuthenticationError as error:
        missing = "required" in str(error)
        raise UserError(
            f"{address} {'requires a token' if missing else 'refused the token'}; set "
            f"RAY_AUTH_TOKEN to the output of `ray get-auth-token` on the cluster's head."
        ) from error
    except (RequestException, ConnectionError, RuntimeError, KeyError) as error:
        reason = reason_of(error)
        raise (StartingError if is_starting(error) else UserError)(
            f"{address} does not respond as a Ray dashboard ({reason}); give --address "
            f"http://HEAD:8265."
        ) from error


def _check_versions(address: str, *, ray_version: str, python_version: str) -> None:
    if ray_version != ray.__version__:
        raise UserError(
            f"{address} runs Ray {ray_version}, and this machine has Ray {ray.__version__}; "
            f"install ray=={ray_version} here, or update the cluster's image."
        )
    minor = python_version.split(".")[:2]
    if tuple(minor) != platform.python_version_tuple()[:2]:
        raise UserError(
            f"{address} runs Python {python_version}, and this machine has Python "
            f"{platform.python_version()}; submit from Python {'.'.join(minor)}, or update the "
            f"cluster's image."
        )


def check_capacity(client: JobSubmissionClient, cluster: ClusterConfig) -> str | None:
    """Check that a run's workers fit on a cluster.

    Returns:
        A warning when the cluster must grow first; None when the workers fit.

    Raises:
        UserError: when they do not fit, and the cluster does not grow.
    """
    nodes = _live_nodes(client)
    if not nodes:
        raise StartingError("the cluster has no live node; start one, or read its log.")
    fitting = sum(workers_that_fit(node, cluster) for node in nodes)
    required = minimum_workers(cluster)
    if fitting >= required:
        return None
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    shortage = (
        f"the run needs {counted(required, 'worker')} of "
        f"{counted(cluster.cpus_per_worker, 'CPU')} and "
        f"{counted(cluster.gpus_per_worker, 'GPU')} each, and {fitting} fit on the cluster's "
        f"{counted(len(nodes), 'node')} of {counted(cpus, 'CPU')} and {counted(gpus, 'GPU')} in "
        f"total"
    )
    if _has_autoscaler(client):
        return f"{shortage}; the job waits for the cluster to grow."
    key = "cluster.min_workers" if cluster.min_workers else "cluster.workers"
    raise UserError(f"{shortage}; lower {key} or cluster.cpus_per_worker, or add nodes.")


def _live_nodes(client: JobSubmissionClient) -> list[Resources]:
    listing = get_from_dashboard(client, f"/api/v0/nodes?detail=1&limit={_NODE_LIMIT}")
    nodes = listing["result"]["result"]
    return [node["resources_total"] for node in nodes if node["state"] == "ALIVE"]


def _has_autoscaler(client: JobSubmissionClient) -> bool:
    """Return whether an autoscaler may add nodes.

    Without an autoscaler, Ray's monitor reports every node as a type of its own.
    """
    report = get_from_dashboard(client, "/api/cluster_status")["clusterStatus"]
    if not report:
        return True  # an autoscaler outside of the head, such as KubeRay's, reports nothing here
    types = report["autoscalerReport"]["nodeTypeMapping"] or {}
    return any(kind != f"node_{node}" for node, kind in types.items())
