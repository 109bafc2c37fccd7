"""Compute how many workers fit on a node."""

from collections.abc import Mapping

from metatrain.config import ClusterConfig

# A node's resources by Ray's names, such as CPU and GPU.
Resources = Mapping[str, float]


def workers_that_fit(node: Resources, cluster: ClusterConfig) -> int:
    """Return the number of workers that fit on a node."""
    per_worker = {"CPU": cluster.cpus_per_worker, "GPU": float(cluster.gpus_per_worker)}
    # Without the tolerance, three workers of a third of a CPU would not fit on one CPU.
    return min(int(node.get(kind, 0) / need + 1e-6) for kind, need in per_worker.items() if need)


def minimum_workers(cluster: ClusterConfig) -> int:
    """Return the number of workers without which a run does not start."""
    return cluster.min_workers or cluster.workers
