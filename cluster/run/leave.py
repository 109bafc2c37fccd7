"""Remove a machine from its cluster in order, before it is taken away."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import psutil

from cluster.ray_internals import TRAIN_WORKER_TITLE, node_id_of
from metatrain.base.errors import UserError
from metatrain.base.text import counted


class _Node(NamedTuple):
    """A Ray node on this machine, and the raylet that leads its processes."""

    id: str
    raylet: psutil.Process


def leave(within: float, node_id: str | None = None) -> None:
    """Let Ray start nothing more on this machine, and let its training workers save and end.

    Args:
        within: the seconds that the workers may take.
        node_id: the one of this machine's Ray nodes to leave with; None leaves with all.

    Raises:
        UserError: when the workers take longer.
    """
    nodes = [node for node in _nodes() if node_id in (None, node.id)]
    for node in nodes:
        _drain(node, within)
    workers = [worker for node in nodes for worker in _train_workers(node)]
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.terminate()
    _, late = psutil.wait_procs(workers, timeout=within)
    if late:
        raise UserError(
            f"{len(late)} of {counted(len(workers), 'worker')} did not leave within {within:g} s, "
            f"so the run may resume from the previous checkpoint; give a larger --within."
        )
    print(f"{counted(len(workers), 'worker')} saved and left.")


def _drain(node: _Node, within: float) -> None:
    """Tell Ray that the node goes, or Ray would restart the run at once on the same node."""
    command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--node-id", node.id]
    command += ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "its machine goes"]
    command += ["--deadline-remaining-seconds", str(round(within))]
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        # The workers still save: otherwise the run would lose its last steps as well.
        errors = process.stderr.strip().splitlines() or ["no reason given"]
        print(f"Ray could not be told that this node goes: {errors[-1]}")


def _nodes() -> Iterator[_Node]:
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet":
            # A raylet that has just ended has no command line.
            node_id = node_id_of(process.info["cmdline"] or [])
            if node_id:
                yield _Node(node_id, process)


def _train_workers(node: _Node) -> Iterator[psutil.Process]:
    # The raylet and its children may end at any time.
    with suppress(psutil.NoSuchProcess):
        for process in node.raylet.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if TRAIN_WORKER_TITLE in " ".join(process.cmdline()):
                    yield process
