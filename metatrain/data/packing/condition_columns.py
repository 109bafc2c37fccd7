"""Columns of a source that are packed as conditions of its images."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from metatrain.base.errors import UserError, did_you_mean
from metatrain.base.text import listed
from metatrain.data.conditions import CONDITIONS, ConditionKind
from metatrain.data.images import BadValue
from metatrain.data.packed.manifest import PackedConditions
from metatrain.data.packing.raw_images import RawImage, Source


class ConditionColumns:
    """Encodes the conditions of images.

    All values of a column have one shape: that of the data set that is added to, or else of the
    first image that is packed.

    Args:
        kinds: the name of each column's kind, one of `CONDITIONS`.
        source: what is packed.
        name: of the source, for messages.
        size: as of `metatrain.data.images.normalise`.
        raw: likewise.

    Raises:
        UserError: when the source has no such column, or there is no such kind.
    """

    def __init__(
        self, kinds: Mapping[str, str], source: Source, name: str, size: int | None, raw: bool
    ) -> None:
        self._kinds = {column: _kind(column, kind) for column, kind in kinds.items()}
        for column, kind in self._kinds.items():
            _check_column(column, kind, source, name)
        self._read_file, self._size, self._raw = source.read_file, size, raw
        self.sections: PackedConditions = {}
        self._first = "the data set that is there"

    @property
    def types(self) -> dict[str, pa.DataType]:
        """The type of each packed column."""
        return {column: kind.arrow for column, kind in self._kinds.items()}

    def continue_with(self, packed: PackedConditions) -> None:
        """Take the shapes of a data set that is added to."""
        self.sections = dict(packed)

    def encode(self, image: RawImage) -> dict[str, bytes]:
        """Return the packed value of each column.

        Raises:
            BadValue: naming the column, when a value cannot be packed.
            UserError: when one is of another shape than the values before it.
        """
        values = {column: self._encode(column, image.metadata[column]) for column in self._kinds}
        sections = {
            column: kind.config_of(values[column]).model_dump(mode="json")
            for column, kind in self._kinds.items()
        }
        if not self.sections:
            self.sections, self._first = sections, repr(image.name)
        for column, section in sections.items():
            if self.sections[column] != section:
                raise UserError(
                    f"column '{column}' has {_shape(section)} in {image.name!r} and "
                    f"{_shape(self.sections[column])} in {self._first}; give all images values of "
                    f"one shape."
                )
        return values

    def _encode(self, column: str, text: str) -> bytes:
        kind = self._kinds[column]
        if not text and kind.optional:
            return b""
        try:
            if not kind.is_file:
                data = text.encode()
            else:
                assert self._read_file, "checked when the column was chosen"
                data = self._read_file(text)
            return kind.encode(data, self._size, self._raw)
        except BadValue as error:
            raise BadValue(f"column '{column}': {error.reason}", error.detail) from error


def _kind(column: str, name: str) -> type[ConditionKind]:
    if name not in CONDITIONS:
        raise UserError(
            f"--condition {column}={name} names no kind; the kinds are {', '.join(CONDITIONS)}"
            f"{did_you_mean(name, list(CONDITIONS)) or '.'}"
        )
    return CONDITIONS[name]


def _check_column(column: str, kind: type[ConditionKind], source: Source, name: str) -> None:
    if column not in source.columns:
        raise UserError(
            f"--condition {column}: {name} has no such column; those that can be conditions are "
            f"{listed(source.columns)}{did_you_mean(column, list(source.columns)) or '.'}"
        )
    if kind.is_file and source.read_file is None:
        raise UserError(
            f"--condition {column}: {name} has no files to read; pack a .csv or .parquet table "
            f"whose column '{column}' has paths."
        )


def _shape(section: Mapping[str, Any]) -> str:
    return listed(f"{key} {value}" for key, value in section.items() if key != "name")
