"""Reading of a checkpoint: whole tensors or slices of them, from verified files."""

from collections.abc import Callable, Mapping
from math import prod
from typing import TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.config import Config, parse_config
from metatrain.storage.files import MissingError, read_file, sha256_of
from metatrain.training.checkpoint.index import (
    DTYPES,
    Index,
    StoredSlice,
    TensorRecord,
    key_of,
    sha256,
)
from metatrain.training.fragments import Fragment, joined

Content = TypeVar("Content", bytes, str)


class DamagedError(UserError):
    """A committed checkpoint is damaged."""


class Checkpoint:
    """A committed checkpoint, of which tensors are read on demand.

    Args:
        folder: its URL.
        index: its index.
    """

    def __init__(self, folder: str, index: Index) -> None:
        self.folder, self.index = folder, index

    @property
    def step(self) -> int:
        """Outer steps taken."""
        return self.index.data.step

    @property
    def config(self) -> Config:
        """The run's configuration at this step.

        Raises:
            UserError: when it was written by a metatrain with other keys.
        """
        return parse_config(self.index.config)

    def tensors(self, part: str = "") -> Parameters:
        """Read the whole tensors of a part such as 'parameters', by their names within it.

        Raises:
            DamagedError: when one of their files is missing, or not as it was written.
            UserError: when the storage cannot be reached.
        """
        prefix = f"{part}/" if part else ""
        records = {n: r for n, r in self.index.tensors.items() if n.startswith(prefix)}
        flat = self.slices({name: (0, prod(record.shape)) for name, record in records.items()})
        return {
            name.removeprefix(prefix): flat[name].reshape(record.shape)
            for name, record in records.items()
        }

    def slices(self, wanted: Mapping[str, tuple[int, int]]) -> Parameters:
        """Read the elements [start, stop) of each named tensor, flattened.

        Only files with such elements are read, each once, and one at a time is in memory.

        Raises:
            DamagedError: when one of them is missing, or not as it was written.
            UserError: when the storage cannot be reached.
        """
        # An empty fragment first, for its type: a slice may have no elements.
        parts = {
            name: [_empty(name, self.index.tensors[name], start)]
            for name, (start, _) in wanted.items()
        }
        for file, pieces in self._needed(wanted).items():
            tensors = self._load(file)
            for name, piece in pieces:
                values = self._stored(tensors, name, piece)
                stored = parts[name][0]._replace(start=piece.start, values=values)
                cut = stored.cut(*wanted[name])
                # A copy, or all of the file would stay in memory.
                parts[name].append(cut._replace(values=cut.values.clone()))
        return {name: joined(parts[name], *wanted[name]) for name in wanted}

    def verified(self) -> "Checkpoint":
        """Read and verify every file, and return the checkpoint.

        Raises:
            DamagedError: when one is missing, or not as it was written.
            UserError: when the storage cannot be reached.
        """
        for file in self.index.files:
            self._verified(file, sha256_of, lambda digest: digest)
        return self

    def _verified(
        self, name: str, read: Callable[[str], Content], digest: Callable[[Content], str]
    ) -> Content:
        """Return what `read` makes of a file's URL, if its `digest` is that of the file.

        Raises:
            DamagedError: when it is missing, or not as it was written.
            UserError: when the storage cannot be reached.
        """
        url = f"{self.folder}/{name}"
        try:
            # Twice, since a network seldom garbles the same file again.
            for _ in range(2):
                content = read(url)
                if digest(content) == self.index.files[name].sha256:
                    return content
        except MissingError:
            raise DamagedError(f"{self.folder} cannot be used: {name} is missing.") from None
        raise DamagedError(f"{self.folder} cannot be used: {name} is not as it was written.")

    def _needed(
        self, wanted: Mapping[str, tuple[int, int]]
    ) -> dict[str, list[tuple[str, StoredSlice]]]:
        files: dict[str, list[tuple[str, StoredSlice]]] = {}
        for name, (start, stop) in wanted.items():
            for piece in self.index.tensors[name].pieces:
                if max(start, piece.start) < min(stop, piece.stop):
                    files.setdefault(piece.file, []).append((name, piece))
        return files

    def _stored(self, tensors: Parameters, name: str, piece: StoredSlice) -> Tensor:
        """Return a slice from the tensors of its file.

        Raises:
            DamagedError: when the file has another one, or none, in its place.
        """
        key, dtype = key_of(name, piece.start, piece.stop), self.index.tensors[name].dtype
        values = tensors.get(key)
        expected = DTYPES[dtype], (piece.stop - piece.start,)
        if values is None or (values.dtype, tuple(values.shape)) != expected:
            raise DamagedError(f"{self.folder} cannot be used: {piece.file} lacks {key}.")
        return values

    def _load(self, file: str) -> Parameters:
        try:
            return load(self._verified(file, read_file, sha256))
        except SafetensorError as error:
            raise DamagedError(f"{self.folder} cannot be used: {file} ({error}).") from error


def _empty(name: str, record: TensorRecord, start: int) -> Fragment:
    return Fragment(name, record.shape, start, torch.empty(0, dtype=DTYPES[record.dtype]))
