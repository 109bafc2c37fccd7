"""Reading whole shards, in order and with every column."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.data.packed.manifest import MALFORMED, RowGroup
from metatrain.data.packed.parquet_headers import refuse_bomb
from metatrain.data.packed.writer import sha256_of
from metatrain.storage.files import read_file

# The row groups of a task lie in several shards where the data set was added to.
_KEPT = 2


class Shard:
    """A shard in memory, of which every row group is verified before it is read.

    Args:
        url: its file.
        end: the byte after its last row group, where its footer begins.
        footer: the sha256 of its footer.

    Raises:
        UserError: when it cannot be read, is not what was packed, or unpacks to far more than it
            has.
    """

    def __init__(self, url: str, end: int, footer: str) -> None:
        self._url = url
        self._data = read_file(url)
        self._verify(end, len(self._data), footer)
        with self._refuse_malformed():
            refuse_bomb(self._data)
            self._parquet = pq.ParquetFile(pa.BufferReader(self._data))
            self.schema = self._parquet.schema_arrow

    def rows(self, group: RowGroup) -> list[dict[str, Any]]:
        """Read the rows of a row group.

        Raises:
            UserError: when they are not those that were packed.
        """
        self._verify(group.offset, group.end, group.sha256)
        with self._refuse_malformed():
            return self._parquet.read_row_group(group.row_group).to_pylist()

    @contextmanager
    def _refuse_malformed(self) -> Iterator[None]:
        try:
            yield
        except MALFORMED as error:
            raise UserError(
                f"{self._url} is malformed ({reason_of(error)}); copy or pack the data set again."
            ) from error

    def _verify(self, start: int, end: int, sha256: str) -> None:
        if sha256_of(memoryview(self._data)[start:end]) != sha256:
            raise UserError(
                f"{self._url} is damaged: bytes {start} to {end} are not those that were packed; "
                f"copy or pack the data set again."
            )


def shards_of(
    url: str, row_groups: Iterable[RowGroup], footers: Mapping[str, str]
) -> Callable[[str], Shard]:
    """Return a function that reads a shard of a data set by its name, and keeps the last two.

    Args:
        url: the data set.
        row_groups: all of its manifest.
        footers: the sha256 of each shard's footer, by the shard's name.
    """
    ends: dict[str, int] = {}
    for group in row_groups:
        ends[group.file] = max(group.end, ends.get(group.file, 0))

    @lru_cache(maxsize=_KEPT)
    def shard(name: str) -> Shard:
        return Shard(f"{url}/{name}", ends[name], str(footers.get(name)))

    return shard
