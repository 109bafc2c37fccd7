"""How many workers find room on a node."""

from collections.abc import Mapping

from metatrain.config import ClusterConfig

# What a node has, by Ray's names.
Resources = Mapping[str, float]


def places(node: Resources, cluster: ClusterConfig) -> int:
    """Workers that a node with these resources takes."""
    each = {"CPU": cluster.cpus_per_worker, "GPU": float(cluster.gpus_per_worker)}
    # A hair more, or three times a third would not fit into one.
    return min(int(node.get(kind, 0) / need + 1e-6) for kind, need in each.items() if need)


def fewest_workers(cluster: ClusterConfig) -> int:
    """Without so many a run does not begin."""
    return cluster.min_workers or cluster.workers
