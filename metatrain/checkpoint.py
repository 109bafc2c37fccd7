"""Checkpoints: all of a run at one step, whole or not there at all, free of the world size."""

import hashlib
import json
from dataclasses import asdict, dataclass

import fsspec
from safetensors.torch import load, save

from metatrain.config import Config
from metatrain.files import write_file
from metatrain.inner_loop import Parameters
from metatrain.model import Model, model_bytes
from metatrain.trainer import TrainState

# Written last: a folder without it, or whose files do not have its hashes, is no checkpoint.
COMMIT = "commit.json"


@dataclass(frozen=True)
class Commit:
    """What makes a checkpoint whole: its step, and the sha256 of each of its files."""

    step: int
    files: dict[str, str]


class CheckpointStore:
    """The checkpoints of a run, under `<run>/checkpoints/step-00000100/`.

    Args:
        run: the run's folder, a path or any fsspec URL.
        keep: how many of the newest to keep.
    """

    def __init__(self, run: str, keep: int) -> None:
        self.url, self.keep = f"{run.rstrip('/')}/checkpoints", keep
        self._filesystem, self._path = fsspec.core.url_to_fs(self.url)

    def save(self, state: TrainState, config: Config) -> None:
        """Write a checkpoint; earlier ones go only once it is complete.

        Raises:
            UserError: when it cannot be written.
        """
        folder = self.folder(state.step)
        files = {
            "model.safetensors": model_bytes(Model(config, state.average, state.step)),
            "training.safetensors": _training_bytes(state),
            "history.json": json.dumps(state.history).encode(),
        }
        for name, data in files.items():
            write_file(f"{folder}/{name}", data)
        commit = Commit(state.step, {name: _sha256(data) for name, data in files.items()})
        write_file(f"{folder}/{COMMIT}", json.dumps(asdict(commit)).encode())
        for step in self.steps()[: -self.keep]:
            self._filesystem.rm(self.folder(step), recursive=True)

    def folder(self, step: int) -> str:
        """Where the checkpoint of `step` lies."""
        return f"{self.url}/step-{step:08d}"

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending."""
        self._filesystem.invalidate_cache()
        commits = self._filesystem.glob(f"{self._path}/step-*/{COMMIT}")
        return sorted(int(path.split("/")[-2].removeprefix("step-")) for path in commits)

    def latest(self) -> TrainState | None:
        """The newest checkpoint that is whole, or None where there is none."""
        for step in reversed(self.steps()):
            files = self._whole_files(step)
            if files is not None:
                return _state(step, files)
        return None

    def _whole_files(self, step: int) -> dict[str, bytes] | None:
        folder = self.folder(step)
        try:
            commit = Commit(**json.loads(self._filesystem.cat_file(f"{folder}/{COMMIT}")))
            files = {name: self._filesystem.cat_file(f"{folder}/{name}") for name in commit.files}
        except (OSError, ValueError, TypeError):
            return None
        whole = all(_sha256(files[name]) == sha for name, sha in commit.files.items())
        return files if whole else None


def _training_bytes(state: TrainState) -> bytes:
    parts = {"parameters": state.parameters, "average": state.average, "optimizer": state.optimizer}
    return save(
        {f"{part}/{n}": t.contiguous() for part, tree in parts.items() for n, t in tree.items()}
    )


def _state(step: int, files: dict[str, bytes]) -> TrainState:
    tensors = load(files["training.safetensors"])

    def part(name: str) -> Parameters:
        return {n.partition("/")[2]: t for n, t in tensors.items() if n.startswith(f"{name}/")}

    return TrainState(
        step,
        part("parameters"),
        part("average"),
        part("optimizer"),
        json.loads(files["history.json"]),
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
