"""Averages of theta that a run stores for post-hoc EMA."""

import re
from typing import NamedTuple

from metatrain.base.parameters import host_copy
from metatrain.config import Config
from metatrain.model.file import Model
from metatrain.storage.files import sizes_under
from metatrain.training.state import TrainState

_SNAPSHOT = re.compile(r"/step-(\d+)-sigma-([\d.]+)\.safetensors$")


class Snapshot(NamedTuple):
    """Where an average lies, how many outer steps it is over, and its relative length."""

    url: str
    step: int
    sigma: float


def snapshots(state: TrainState, config: Config) -> dict[str, Model]:
    """The averages of `state` to be kept for good, as models, by their URLs.

    As `<run>/averages/step-00000100-sigma-0.05.safetensors`, not with the checkpoints, which go.
    """
    last = state.step == config.meta.steps
    if state.step == 0 or (state.step % config.checkpoint.every and not last):
        return {}  # no step, no average; nor at a step that a worker was told to leave at
    return {
        f"{config.run.url}/averages/step-{state.step:08d}-sigma-{sigma}.safetensors": Model(
            config, host_copy(average), state.step
        )
        for sigma, average in state.tracks.items()
    }


def snapshots_of(run: str) -> list[Snapshot]:
    """What a run has stored, by step; empty where it has stored nothing."""
    url = f"{run.rstrip('/')}/averages"
    paths = sorted(f"/{name}" for name in sizes_under(url))
    found = [match for match in map(_SNAPSHOT.search, paths) if match]
    return [Snapshot(url + match[0], int(match[1]), float(match[2])) for match in found]
