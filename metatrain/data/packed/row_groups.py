"""Reading row groups: few requests, every byte verified, and none asked for twice at once."""

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

# Less than a request's latency is worth: row groups no farther apart are read as one.
_GAP_BYTES = 1_000_000


class RowGroupReader:
    """The row groups of the data set at `url`; threads may share it.

    No file system is held open, so that a forked process opens its own.

    Args:
        url: where the data set lies.
        cache: keeps on disk what was read, if given.
    """

    def __init__(self, url: str, cache: DiskCache | None = None) -> None:
        self.url, self._cache = url, cache
        self.traffic = Traffic()
        self._coming: dict[RowGroup, Future[bytes | memoryview]] = {}
        self._lock = threading.Lock()

    def read(self, groups: Sequence[RowGroup]) -> list[bytes | memoryview]:
        """The verified bytes of each of `groups`.

        Raises:
            UserError: when they are out of reach, or not those that were packed.
        """
        with self._lock:
            own = [group for group in dict.fromkeys(groups) if group not in self._coming]
            self._coming |= {group: Future() for group in own}
            futures = [self._coming[group] for group in groups]
        self._bring(own)
        return [future.result() for future in futures]

    def _bring(self, groups: list[RowGroup]) -> None:
        """Fulfil what `read` promised, to itself and to whoever asked for the same meanwhile."""
        try:
            missing = [group for group in groups if not self._from_cache(group)]
            for span in spans(missing):
                for group, data in zip(span, self._fetch(span), strict=True):
                    if self._cache:
                        self._cache.put(group.sha256, data)
                    self._coming[group].set_result(data)
        except BaseException as error:
            for group in groups:
                if not self._coming[group].done():
                    self._coming[group].set_exception(error)
        finally:
            with self._lock:
                for group in groups:
                    del self._coming[group]

    def _from_cache(self, group: RowGroup) -> bool:
        data = self._cache.get(group.sha256) if self._cache else None
        if data is None:
            return False
        self.traffic.add(cache_hits=1)
        self._coming[group].set_result(data)
        return True

    def _fetch(self, span: list[RowGroup]) -> list[memoryview]:
        """The bytes of neighbours in one file, by one request."""
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
    """Row groups that lie close together in one file, each such bunch to be read as one."""
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
