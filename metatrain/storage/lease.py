"""Leases: one writer at a time of what has a name, by a small file in the folder that is written.

Its holder renews the file every few seconds. Another process takes it over at once where it knows
that the holder's process is gone: on the same machine. Elsewhere it does when the file has not
changed for `SILENCE_SECONDS` while it looked on, so that no two clocks are compared. A holder that
was silent for so long learns by its next renewal that it lost its lease, and by `LeaseKey.check`
before it commits anything.

`metatrain.storage.conditional` says what each storage promises.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Event, Thread
from typing import NamedTuple

from metatrain.base.errors import HeldError, UserError
from metatrain.base.progress import say
from metatrain.storage.conditional import (
    SETTLE_SECONDS,
    Stored,
    create,
    keeps_conditions,
    read_stored,
    remove,
    replace,
)
from metatrain.storage.files import absolute, reaching
from metatrain.storage.lease_holder import Holder, parse_holder, this_holder

BEAT_SECONDS = 5.0
# Many beats: a storage may fail for a while, and a machine may be busy.
SILENCE_SECONDS = 30.0
_LOOK_SECONDS = 0.5
_TRIES = 50


class LostError(UserError):
    """A folder or file that another process has taken over, since this one was silent."""


class LeaseKey(NamedTuple):
    """A lease as it is handed to the other processes of its holder's work.

    Attributes:
        url: the URL of its file.
        token: see `Holder`.
    """

    url: str
    token: str

    def check(self) -> None:
        """Return if nobody else has taken the lease over.

        Raises:
            LostError: when another process has it, or had it meanwhile.
            UserError: when the storage cannot be reached.
        """
        if _is_anothers(read_stored(self.url), self.token):
            raise LostError(_lost(self.url))


class Lease:
    """A lease that this process holds, renewed on a thread of its own until it is released.

    Args:
        url: the URL of its file.
        holder: this process.
        stored: the file as it was written.
    """

    def __init__(self, url: str, holder: Holder, stored: Stored) -> None:
        self.key = LeaseKey(url, holder.token)
        self._holder, self._stored = holder, stored
        self._lost, self._ended = Event(), Event()
        self._thread = Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Return if the lease was not lost at its last renewal; asks no storage.

        Raises:
            LostError: when another process has it.
        """
        if self._lost.is_set():
            raise LostError(_lost(self.key.url))

    def release(self) -> None:
        """Remove the file; where the storage fails, another process takes it over in a while."""
        self._ended.set()
        self._thread.join(BEAT_SECONDS)
        if self._thread.is_alive() or self._lost.is_set():
            return
        try:
            remove(self.key.url, self._stored)
        except UserError as error:
            say(f"A lease stays behind: {error}")

    def _beat(self) -> None:
        failing = False
        while not (self._ended.wait(BEAT_SECONDS) or self._lost.is_set()):
            try:
                self._renew()
                failing = False
            except Exception as error:  # of any kind: the work continues meanwhile
                if not failing:
                    say(f"A lease cannot be renewed, and is tried again: {error}")
                failing = True

    def _renew(self) -> None:
        holder = self._holder.renewed()
        replace(self.key.url, holder.encode(), self._stored)
        stored = read_stored(self.key.url)
        if _is_anothers(stored, holder.token):
            self._lost.set()
            say(_lost(self.key.url))
        elif stored and (now := parse_holder(stored.data)):
            self._holder, self._stored = now, stored


@contextmanager
def lease(url: str, work: str, *, wait: bool = False, is_file: bool = False) -> Iterator[Lease]:
    """Hold what lies at `url` while the block inside runs.

    Args:
        url: a folder or a file: a path or any fsspec URL.
        work: what this process does with it, for others to read: a verb, such as "trains".
        wait: whether to wait until another holder has ended.
        is_file: whether `url` is a file; the lease lies beside it, and otherwise in the folder.

    Raises:
        HeldError: when another process holds it.
        UserError: when the storage cannot be reached or written.
    """
    url = absolute(url).rstrip("/")
    file = f"{url}.lease.json" if is_file else f"{url}/lease.json"
    with reaching(url):
        new_folders = [] if "://" in file else [p for p in Path(file).parents if not p.exists()]
    held = _acquire(file, url, work, wait)
    try:
        yield held
    finally:
        held.release()
        with suppress(OSError):  # the first that something was written into
            for folder in new_folders:
                folder.rmdir()


@contextmanager
def leases(urls: Sequence[str], work: str, *, wait: bool = False) -> Iterator[list[Lease]]:
    """Hold several, in an order by which no two processes wait for each other; see `lease`."""
    with ExitStack() as stack:
        distinct = sorted({absolute(url).rstrip("/") for url in urls})
        yield [stack.enter_context(lease(url, work, wait=wait)) for url in distinct]


def _acquire(file: str, url: str, work: str, wait: bool) -> Lease:
    holder = this_holder(work)
    watch = _Watch(url)
    while True:
        if create(file, holder.encode()) and _is_alone(file, holder):
            return Lease(file, holder, read_stored(file) or Stored(b""))
        stored = read_stored(file)
        if stored is None:  # released just now
            watch.count_missing(file)
            continue
        alive = watch.look(stored)
        if alive is False:
            if replace(file, holder.encode(), stored):
                say(f"{url} is taken over: its last writer is gone.")
                return Lease(file, holder, read_stored(file) or stored)
            continue
        if alive and not wait:
            raise HeldError(f"{watch.sentence}; wait until it has ended, or end it.")
        watch.tell()
        time.sleep(_LOOK_SECONDS)


def _is_alone(file: str, holder: Holder) -> bool:
    """Tell whether no other process has created the lease too, on a store that lets it."""
    if keeps_conditions(file, holder.encode()):
        return True
    time.sleep(SETTLE_SECONDS)
    stored = read_stored(file)
    return stored is not None and stored.data == holder.encode()


class _Watch:
    """Observation of another process's lease of `url`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._data: bytes | None = None
        self._since, self._told, self._missing = 0.0, False, 0
        self.sentence = ""

    def count_missing(self, file: str) -> None:
        """Give up a lease that is there for who creates it, and not for who reads it.

        Raises:
            UserError: after many times.
        """
        self._missing += 1
        if self._missing > _TRIES:
            raise UserError(f"{file} can be neither created nor read; remove it.")
        time.sleep(_LOOK_SECONDS / 10)

    def look(self, stored: Stored) -> bool | None:
        """Tell whether the holder is alive; None while nobody can know."""
        holder = parse_holder(stored.data)
        self.sentence = f"{self._url} is in use: {holder or 'another process holds it'}"
        known = holder.process.is_alive if holder else None
        if known is not None:
            return known
        has_beaten = self._data not in (None, stored.data)
        if stored.data != self._data:
            self._data, self._since = stored.data, time.monotonic()
        if has_beaten:
            return True
        return False if time.monotonic() - self._since > SILENCE_SECONDS else None

    def tell(self) -> None:
        """Tell once that this process waits."""
        if not self._told:
            limit = f"at most {SILENCE_SECONDS:g} s without a sign of life"
            say(f"{self.sentence}; waiting until it has ended, or {limit}.")
        self._told = True


def _is_anothers(stored: Stored | None, token: str) -> bool:
    """Tell whether a lease is no longer that of `token`; one that nobody can read still is."""
    holder = parse_holder(stored.data) if stored else None
    return stored is None or (holder is not None and holder.token != token)


def _lost(file: str) -> str:
    return (
        f"another process has taken over {file.removesuffix('/lease.json')}, since this one was "
        f"silent for {SILENCE_SECONDS:g} s, or somebody has removed {file}; this process ends."
    )
