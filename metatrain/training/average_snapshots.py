"""Averages of theta that a run stores for post-hoc EMA."""

import re
from typing import NamedTuple

from metatrain.config import Config
from metatrain.storage.files import sizes_under
from metatrain.training.state import TrainState

_SNAPSHOT = re.compile(r"/step-(\d+)-sigma-([\d.]+)\.safetensors$")


class Snapshot(NamedTuple):
    """A stored average: its URL, its number of outer steps, and its relative length."""

    url: str
    step: int
    sigma: float


def snapshots(state: TrainState, config: Config) -> dict[str, str]:
    """Name the averages of `state` to store for good, see `Draft.snapshots`.

    Their URLs are `<run>/averages/step-00000100-sigma-0.05.safetensors`, outside of the checkpoint,
    which is removed some day.
    """
    last = state.step == config.meta.steps
    if state.step == 0 or (state.step % config.checkpoint.every and not last):
        return {}  # no step, no average; none at an irregular step either
    folder = f"{config.run.url}/averages"
    return {
        f"{folder}/step-{state.step:08d}-sigma-{sigma}.safetensors": f"tracks/{sigma}"
        for sigma in state.tracks
    }


def snapshots_of(run: str) -> list[Snapshot]:
    """List the averages that a run has stored, in the order of their steps."""
    url = f"{run.rstrip('/')}/averages"
    paths = sorted(f"/{name}" for name in sizes_under(url))
    matches = [match for match in map(_SNAPSHOT.search, paths) if match]
    return [Snapshot(url + match[0], int(match[1]), float(match[2])) for match in matches]
