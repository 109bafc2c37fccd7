"""Checkpoints: all of a run at one step, whole or not there at all, free of the world size."""

import hashlib
import json
import re
from contextlib import suppress
from dataclasses import asdict, dataclass

from safetensors.torch import load, save

from metatrain.config import Config
from metatrain.files import MissingError, asking, filesystem_of, read_file, write_file
from metatrain.model import Model, model_bytes, parse_model
from metatrain.parameters import Parameters
from metatrain.trainer import Record, TrainState

# Written last: a folder without it, or whose files do not have its hashes, is no checkpoint.
COMMIT = "commit.json"
MODEL, TRAINING, HISTORY = "model.safetensors", "training.safetensors", "history.json"

_COMMITTED = re.compile(rf"/step-(\d+)/{re.escape(COMMIT)}$")


@dataclass(frozen=True)
class Commit:
    """What makes a checkpoint whole: its step, and the sha256 of each of its files."""

    step: int
    files: dict[str, str]


class CheckpointStore:
    """The checkpoints of a run, under `<run>/checkpoints/step-00000100/`.

    Args:
        run: the run's folder, a path or any fsspec URL.
    """

    def __init__(self, run: str) -> None:
        self.url = f"{run.rstrip('/')}/checkpoints"
        self._filesystem, self._path = filesystem_of(self.url)

    def save(self, state: TrainState, config: Config) -> None:
        """Write a checkpoint; earlier ones go only once it is complete.

        Raises:
            UserError: when it cannot be written.
        """
        folder = self.folder(state.step)
        files = {
            MODEL: model_bytes(Model(config, state.average, state.step)),
            TRAINING: _training_bytes(state),
            HISTORY: json.dumps(state.history).encode(),
        }
        for name, data in files.items():
            write_file(f"{folder}/{name}", data)
        commit = Commit(state.step, {name: _sha256(data) for name, data in files.items()})
        write_file(f"{folder}/{COMMIT}", json.dumps(asdict(commit)).encode())
        self._prune(state.step, config.checkpoint.keep)

    def _prune(self, newest: int, keep: int) -> None:
        """Leave `newest` and those before it, `keep` in all.

        Later ones are of a future that was abandoned, since they turned out not to be whole.
        """
        earlier = [step for step in self.steps() if step < newest]
        kept = {newest, *(earlier[1 - keep :] if keep > 1 else [])}
        for step in set(self.steps()) - kept:
            self._remove(f"{self._path}/{_name(step)}")

    def _remove(self, path: str) -> None:
        with suppress(MissingError):  # removed already, by a request whose answer was lost
            asking(self.url, lambda: self._filesystem.rm(path, recursive=True))

    def folder(self, step: int) -> str:
        """Where the checkpoint of `step` lies."""
        return f"{self.url}/{_name(step)}"

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending."""
        self._filesystem.invalidate_cache()
        try:
            # Not `glob`, which would take a bracket in a path for a pattern.
            paths = asking(self.url, lambda: self._filesystem.find(self._path))
        except MissingError:
            return []
        commits = (_COMMITTED.search(str(path)) for path in paths)
        return sorted(int(commit[1]) for commit in commits if commit)

    def latest(self) -> TrainState | None:
        """The newest checkpoint that is whole, or None where there is none.

        Raises:
            UserError: when the storage cannot be reached, which is not to say that there is none.
        """
        for step in reversed(self.steps()):
            state = self.read(step)
            if state is not None:
                return state
        return None

    def read(self, step: int) -> TrainState | None:
        """The checkpoint of `step`, or None where it is not whole.

        Raises:
            UserError: when the storage cannot be reached.
        """
        files = self._whole_files(step)
        return None if files is None else _state(step, files)

    def history(self) -> list[Record]:
        """The history of the newest checkpoint, without its weights; empty where there is none."""
        steps = self.steps()
        return json.loads(read_file(f"{self.folder(steps[-1])}/{HISTORY}")) if steps else []

    def _whole_files(self, step: int) -> dict[str, bytes] | None:
        def read(name: str) -> bytes:
            return read_file(f"{self.folder(step)}/{name}")

        try:
            commit = Commit(**json.loads(read(COMMIT)))
            # By our own names, for those in a stranger's checkpoint might lead anywhere.
            files = {name: read(name) for name in (MODEL, TRAINING, HISTORY)}
            whole = all(_sha256(data) == commit.files[name] for name, data in files.items())
        except (MissingError, ValueError, TypeError, KeyError):
            return None
        return files if whole else None


def _training_bytes(state: TrainState) -> bytes:
    parts = {
        "parameters": state.parameters,
        "optimizer": state.optimizer,
        "by_task": _flat(state.by_task),
        "tracks": _flat(state.tracks),
    }
    return save(
        {f"{part}/{n}": t.contiguous() for part, tree in parts.items() for n, t in tree.items()}
    )


def _state(step: int, files: dict[str, bytes]) -> TrainState:
    tensors = load(files[TRAINING])

    def part(name: str) -> Parameters:
        return {n.partition("/")[2]: t for n, t in tensors.items() if n.startswith(f"{name}/")}

    return TrainState(
        step,
        part("parameters"),
        parse_model(files[MODEL], MODEL).parameters,
        part("optimizer"),
        json.loads(files[HISTORY]),
        _trees(part("by_task")),
        _trees(part("tracks")),
    )


def _flat(trees: dict[str, Parameters]) -> Parameters:
    return {f"{key}/{name}": p for key, tree in trees.items() for name, p in tree.items()}


def _trees(flat: Parameters) -> dict[str, Parameters]:
    """Back from 'task/parameter'; a task's name may have slashes, a parameter's has none."""
    trees: dict[str, Parameters] = {}
    for name, tensor in flat.items():
        task, _, parameter = name.rpartition("/")
        trees.setdefault(task, {})[parameter] = tensor
    return trees


def _name(step: int) -> str:
    return f"step-{step:08d}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
