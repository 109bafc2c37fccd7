"""Reading row groups: few requests, every byte verified, and no two requests for the same bytes."""

import hashlib
import threading
from collections.abc import Sequence
from concurrent.futures import Future

from metatrain.base.errors import UserError
from metatrain.data.packed.manifest import RowGroup
from metatrain.storage.disk_cache import DiskCache
from metatrain.storage.files import MissingError, reaching
from metatrain.storage.ranges import read_range
from metatrain.storage.read_counts import Traffic
from metatrain.storage.retry import GarbledError, retrying

# Reading a gap of this size costs less time than another request: the row groups are read as one.
_GAP_BYTES = 1_000_000


class RowGroupReader:
    """The row groups of the data set at `url`; threads may share it.

    No file system is held open, so that a forked process opens its own.

    Args:
        url: where the data set lies.
        cache: keeps on disk what was read.
    """

    def __init__(self, url: str, cache: DiskCache | None = None) -> None:
        self.url, self._cache = url, cache
        self.traffic = Traffic()
        self._pending: dict[RowGroup, Future[bytes | memoryview]] = {}
        self._lock = threading.Lock()

    def read(self, groups: Sequence[RowGroup]) -> list[bytes | memoryview]:
        """Return the verified bytes of each of `groups`.

        Raises:
            UserError: when they are out of reach, or not those that were packed.
        """
        with self._lock:
            new = [group for group in dict.fromkeys(groups) if group not in self._pending]
            self._pending |= {group: Future() for group in new}
            futures = [self._pending[group] for group in groups]
        self._fulfil(new)
        return [future.result() for future in futures]

    def _fulfil(self, groups: list[RowGroup]) -> None:
        """Fulfil the futures of `groups`, which other threads may wait for too."""
        try:
            missing = [group for group in groups if not self._from_cache(group)]
            for span in spans(missing):
                for group, data in zip(span, self._fetch(span), strict=True):
                    if self._cache:
                        self._cache.put(group.sha256, data)
                    self._pending[group].set_result(data)
        except BaseException as error:
            for group in groups:
                if not self._pending[group].done():
                    self._pending[group].set_exception(error)
        finally:
            with self._lock:
                for group in groups:
                    del self._pending[group]

    def _from_cache(self, group: RowGroup) -> bool:
        data = self._cache.get(group.sha256) if self._cache else None
        if data is None:
            return False
        self.traffic.add(cache_hits=1)
        self._pending[group].set_result(data)
        return True

    def _fetch(self, span: list[RowGroup]) -> list[memoryview]:
        """Read neighbours in one file by one request."""
        file, start, end = span[0].file, span[0].offset, max(group.end for group in span)
        where = f"{self.url}/{file}"

        def attempt() -> list[memoryview]:
            data = read_range(where, start, end)
            self.traffic.add(requests=1, bytes=len(data))
            return [_verified(data, start, group) for group in span]

        try:
            with reaching(f"bytes {start} to {end} of {where}"):
                return retrying(attempt, lambda: self.traffic.add(retries=1))
        except MissingError:
            raise UserError(f"{where} is missing; copy or pack the data set again.") from None
        except GarbledError:
            raise UserError(
                f"{where} is damaged: bytes {start} to {end} are not those that were packed; "
                "copy or pack the data set again."
            ) from None


def spans(groups: Sequence[RowGroup]) -> list[list[RowGroup]]:
    """Divide row groups into bunches that lie close together in one file, one request each."""
    bunches: list[list[RowGroup]] = []
    for group in sorted(groups, key=lambda group: (group.file, group.offset)):
        last = bunches[-1][-1] if bunches else None
        if last and last.file == group.file and 0 <= group.offset - last.end <= _GAP_BYTES:
            bunches[-1].append(group)
        else:
            bunches.append([group])
    return bunches


def _verified(data: memoryview, start: int, group: RowGroup) -> memoryview:
    part = data[group.offset - start : group.end - start]
    if hashlib.sha256(part).hexdigest() != group.sha256:
        raise GarbledError
    return part
