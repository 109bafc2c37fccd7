"""What is asked of a cluster before anything is sent there: each failure is one sentence."""

import os
import platform
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

import ray
from ray.exceptions import AuthenticationError
from ray.job_submission import JobSubmissionClient
from requests.exceptions import RequestException

from cluster.capacity import fewest_workers, places
from cluster.ray_internals import get_from_dashboard
from metatrain.base.errors import UserError
from metatrain.config import ClusterConfig

# Where a cluster of this machine, or one that `ray dashboard` leads to, answers.
DEFAULT_ADDRESS = "http://127.0.0.1:8265"

_CONNECT_SECONDS = 5.0
# Nodes that Ray's state API tells of, which without a number are 100.
_ALL = 10_000


def address_of(given: str | None) -> str:
    """The address of a cluster's dashboard: `given`, or as Ray's own commands find it."""
    named = os.environ.get("RAY_API_SERVER_ADDRESS") or os.environ.get("RAY_ADDRESS")
    address = (given or named or DEFAULT_ADDRESS).rstrip("/")
    return address if "://" in address else f"http://{address}"


def connect(address: str) -> JobSubmissionClient:
    """A client of the cluster whose dashboard is at `address`.

    Raises:
        UserError: when nothing answers there, what answers is no such dashboard, it refuses the
            token, or its Ray or Python is of another version.
    """
    _knock(address)
    # Ray prefers what the environment says to what it is told.
    os.environ["RAY_API_SERVER_ADDRESS"] = address
    with talking(address):
        client = JobSubmissionClient(address)
        versions = get_from_dashboard(client, "/api/v0/cluster_metadata")
    _compare_versions(address, versions["rayVersion"], versions["pythonVersion"])
    return client


def _knock(address: str) -> None:
    """Ray itself would wait for minutes."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(
            f"{address} is not the address of a Ray dashboard; give --address http://HEAD:8265."
        )
    port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    try:
        socket.create_connection((parts.hostname, port), _CONNECT_SECONDS).close()
    except OSError as error:
        raise UserError(
            f"nothing answers at {address} ({error.strerror or error}); give --address the "
            f"cluster's dashboard, http://HEAD:8265, or lead it here: ray dashboard CLUSTER.yaml, "
            f"kubectl port-forward."
        ) from error


@contextmanager
def talking(address: str) -> Iterator[None]:
    """Say in one sentence what goes wrong between here and the dashboard at `address`.

    Raises:
        UserError: when the token is refused, or the answer is not a dashboard's.
    """
    try:
        yield
    except AuthenticationError as error:
        wanted = "required" in str(error)  # or Ray says that it failed
        raise UserError(
            f"{'a token is wanted' if wanted else 'the token was refused'} at {address}; set "
            f"RAY_AUTH_TOKEN to what `ray get-auth-token` prints on the cluster's head."
        ) from error
    except (RequestException, ConnectionError, RuntimeError, KeyError) as error:
        reason = str(error).strip().rpartition("\n")[2].rstrip(".")
        raise UserError(
            f"{address} does not answer as a Ray dashboard does ({reason}); give --address "
            f"http://HEAD:8265."
        ) from error


def _compare_versions(address: str, their_ray: str, their_python: str) -> None:
    if their_ray != ray.__version__:
        raise UserError(
            f"Ray is {their_ray} at {address} and {ray.__version__} here; install "
            f"ray=={their_ray} here, or the cluster's image anew."
        )
    here = platform.python_version_tuple()[:2]
    if tuple(their_python.split(".")[:2]) != here:
        raise UserError(
            f"Python is {their_python} at {address} and {platform.python_version()} here; submit "
            f"from Python {'.'.join(their_python.split('.')[:2])}, or install the cluster's image "
            f"anew."
        )


def check_size(client: JobSubmissionClient, cluster: ClusterConfig) -> str | None:
    """What a person should know about a cluster that must grow first; None where it need not.

    Raises:
        UserError: when it is too small and does not grow.
    """
    listing = get_from_dashboard(client, f"/api/v0/nodes?detail=1&limit={_ALL}")
    nodes = [
        node["resources_total"] for node in listing["result"]["result"] if node["state"] == "ALIVE"
    ]
    room, workers = sum(places(node, cluster) for node in nodes), fewest_workers(cluster)
    if room >= workers:
        return None
    cpus, gpus = (sum(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU"))
    short = (
        f"{workers} workers of {cluster.cpus_per_worker:g} CPUs and {cluster.gpus_per_worker} GPUs "
        f"are wanted, and the cluster has room for {room}: {cpus:g} CPUs and {gpus:g} GPUs on "
        f"{len(nodes)} nodes"
    )
    if _may_grow(client):
        return f"{short}; it may grow, and the job will wait for that."
    lower = "cluster.min_workers" if cluster.min_workers else "cluster.workers"
    raise UserError(f"{short}; lower {lower} or cluster.cpus_per_worker, or add nodes.")


def _may_grow(client: JobSubmissionClient) -> bool:
    """Whether an autoscaler serves the cluster.

    Where none does, Ray's monitor tells of every node as of a type of its own.
    """
    report = get_from_dashboard(client, "/api/cluster_status")["clusterStatus"]
    if not report:
        return True  # an autoscaler outside of the head, as KubeRay's, which tells nobody here
    types = report["autoscalerReport"]["nodeTypeMapping"] or {}
    return any(kind != f"node_{node}" for node, kind in types.items())
