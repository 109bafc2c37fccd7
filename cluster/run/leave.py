"""Leaving in order: what a machine does of its own accord before it is taken away."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import psutil

from cluster.ray_internals import TRAIN_WORKER_TITLE, node_id_of
from metatrain.base.errors import UserError


class _Node(NamedTuple):
    """A node of a cluster, which on this machine is a process and what it started."""

    id: str
    process: psutil.Process


def leave(within: float, node: str | None = None) -> None:
    """Have Ray begin nothing more on this machine, and the workers that train on it save and end.

    Args:
        within: seconds that they may take for it.
        node: the id of the one of this machine's nodes that leaves; None is all.

    Raises:
        UserError: when they took longer.
    """
    leaving = [found for found in _nodes() if node in (None, found.id)]
    for one in leaving:
        _drain(one, within)
    workers = [process for one in leaving for process in _training(one)]
    for worker in workers:
        with suppress(psutil.NoSuchProcess):
            worker.terminate()
    _, late = psutil.wait_procs(workers, timeout=within)
    if late:
        raise UserError(
            f"{len(late)} of {len(workers)} workers have not left within {within:g} s, so the run "
            f"may go on from the checkpoint before; give them longer."
        )
    print(f"{len(workers)} workers have saved and left.")


def _drain(node: _Node, within: float) -> None:
    """Without it Ray would start the run again at once, and just here."""
    why = ["--reason", "DRAIN_NODE_REASON_PREEMPTION", "--reason-message", "its machine goes"]
    left = ["--deadline-remaining-seconds", str(round(within))]
    ray = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", "--node-id", node.id]
    done = subprocess.run([*ray, *why, *left], capture_output=True, text=True)
    if done.returncode:
        # No reason not to save now: the run would be lost here a second time.
        said = done.stderr.strip().splitlines() or ["it did not say why"]
        print(f"Ray does not know that this node goes: {said[-1]}")


def _nodes() -> Iterator[_Node]:
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "raylet":
            # None of one that has just ended.
            node_id = node_id_of(process.info["cmdline"] or [])
            if node_id:
                yield _Node(node_id, process)


def _training(node: _Node) -> Iterator[psutil.Process]:
    # The node, and what it started, may end while it is looked at.
    with suppress(psutil.NoSuchProcess):
        for process in node.process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if TRAIN_WORKER_TITLE in " ".join(process.cmdline()):
                    yield process
