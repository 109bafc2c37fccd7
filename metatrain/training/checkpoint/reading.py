"""Reading a checkpoint: whole tensors or slices of them, from the files needed, all verified."""

from collections.abc import Mapping
from math import prod

import torch
from safetensors import SafetensorError
from safetensors.torch import load

from metatrain.base.errors import UserError
from metatrain.base.parameters import Parameters
from metatrain.config import Config, parse_config
from metatrain.storage.files import MissingError, read_file
from metatrain.training.checkpoint.index import DTYPES, Index, Piece, TensorRecord, key_of, sha256
from metatrain.training.fragments import Fragment, joined


class DamagedError(UserError):
    """A checkpoint that was committed is not whole any more."""


class Checkpoint:
    """A committed checkpoint; its tensors are read when they are asked for.

    Args:
        folder: where it lies.
        index: what it holds.
    """

    def __init__(self, folder: str, index: Index) -> None:
        self.folder, self.index = folder, index

    @property
    def step(self) -> int:
        """Outer steps taken."""
        return self.index.data.step

    @property
    def config(self) -> Config:
        """The configuration that the run had.

        Raises:
            UserError: when it is of a metatrain with other keys.
        """
        return parse_config(self.index.config)

    def tensors(self, part: str = "") -> Parameters:
        """The whole tensors of a part such as 'parameters', by their names within it.

        Raises:
            DamagedError: when a file that is needed is missing, or not as it was written.
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
        """Of each named tensor, flattened, the elements [start, stop).

        Only files with elements that are wanted are read, each once.

        Raises:
            DamagedError: when one of them is missing, or not as it was written.
            UserError: when the storage cannot be reached.
        """
        # To begin with nothing, of the right type: a slice may be of no elements.
        found = {
            name: [_nothing(name, self.index.tensors[name], start)]
            for name, (start, _) in wanted.items()
        }
        for file, pieces in self._needed(wanted).items():
            tensors = self._load(file)
            for name, piece in pieces:
                whole = found[name][0]._replace(start=piece.start)
                values = tensors[key_of(name, piece.start, piece.stop)]
                cut = whole._replace(values=values).cut(*wanted[name])
                # A copy, or all of the file would stay in memory.
                found[name].append(cut._replace(values=cut.values.clone()))
        return {name: joined(found[name], *wanted[name]) for name in wanted}

    def verified(self) -> "Checkpoint":
        """The same, once every file has been read and verified.

        Raises:
            DamagedError: when one is missing, or not as it was written.
            UserError: when the storage cannot be reached.
        """
        for file in self.index.files:
            self.read_file(file)
        return self

    def read_file(self, name: str) -> bytes:
        """The bytes of a file of the checkpoint.

        Raises:
            DamagedError: when it is missing, or not as it was written.
            UserError: when the storage cannot be reached.
        """
        url = f"{self.folder}/{name}"
        try:
            # Twice, for what a network garbles once it seldom garbles again.
            for _ in range(2):
                data = read_file(url)
                if sha256(data) == self.index.files[name].sha256:
                    return data
        except MissingError:
            raise DamagedError(f"{self.folder} cannot be used: {name} is missing.") from None
        raise DamagedError(f"{self.folder} cannot be used: {name} is not as it was written.")

    def _needed(self, wanted: Mapping[str, tuple[int, int]]) -> dict[str, list[tuple[str, Piece]]]:
        files: dict[str, list[tuple[str, Piece]]] = {}
        for name, (start, stop) in wanted.items():
            for piece in self.index.tensors[name].pieces:
                if max(start, piece.start) < min(stop, piece.stop):
                    files.setdefault(piece.file, []).append((name, piece))
        return files

    def _load(self, file: str) -> Parameters:
        try:
            return load(self.read_file(file))
        except SafetensorError as error:
            raise DamagedError(f"{self.folder} cannot be used: {file} ({error}).") from error


def _nothing(name: str, record: TensorRecord, start: int) -> Fragment:
    return Fragment(name, record.shape, start, torch.empty(0, dtype=DTYPES[record.dtype]))
