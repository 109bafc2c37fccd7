"""Adaptations: their folders on disk, and changes of their state, which clients watch."""

import asyncio
import re
import secrets
import shutil
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from metatrain.preferences import choices
from metatrain.storage.local_disk import PARTIAL, write_whole
from serving.disk import Disk, make_private
from serving.limits import Quota, RequestError
from serving.records import RECORD, Drawing, Record, read_record

_DAY = 24 * 3600
_ID = re.compile(r"[\w-]{22}")
# All that an adaptation writes but its record, so that nothing else is ever removed.
_FILES = re.compile(
    r"given-\d+\.png|given\.wav|step-\d+-\d+\.png|drawing-[\w.+-]+\.png|adapted\.safetensors|choices\.jsonl|"
    r"images|images/[0-9a-f]{64}\.png|(images/)?\..+" + re.escape(PARTIAL)
)


class Adaptation:
    """One adaptation: its folder, and its state, which threads change and clients watch.

    Args:
        folder: of its files.
        record: its state.
        disk: counts its files, beside those of others; the record is not counted.

    Attributes:
        folder: of its files.
        disk: where its files are written.
        stopped: whether its client asked to stop after the step that is computed.
        deleted: whether it is deleted, and its state goes nowhere.
        compared: the hashes of the drawings of pairs since the server began, by their seeds.
        awaited: by the name of a drawing, the requests that it is part of the answer to.
    """

    def __init__(self, folder: Path, record: Record, disk: Disk) -> None:
        self.folder, self.disk = folder, disk
        self.stopped = self.deleted = False
        self.compared: dict[int, str] = {}
        self.awaited: Counter[str] = Counter()
        self._record, self._version = record, 0
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @property
    def record(self) -> Record:
        """The state as it is now."""
        return self._record

    @property
    def record_file(self) -> Path:
        """The file of the state."""
        return self.folder / RECORD

    @property
    def model_file(self) -> Path:
        """The file of the adapted model."""
        return self.folder / "adapted.safetensors"

    def given_file(self, index: int) -> Path:
        """Return the file of a given image."""
        return self.folder / f"given-{index}.png"

    @property
    def sound_file(self) -> Path:
        """The file of the given sound."""
        return self.folder / "given.wav"

    def preview_file(self, step: int, index: int) -> Path:
        """Return the file of an image drawn after `step` inner steps."""
        return self.folder / f"step-{step}-{index}.png"

    def drawing_file(self, name: str) -> Path:
        """Return the file of a drawing."""
        return self.folder / f"drawing-{name}.png"

    def drawing(self, name: str) -> Drawing:
        """Return a drawing.

        Raises:
            RequestError: when there is none of this name.
        """
        for drawing in self.record.drawings:
            if drawing.name == name:
                return drawing
        raise RequestError(404, "there is no such drawing; it may have given way to newer ones.")

    @property
    def choices_file(self) -> Path:
        """The file of choices between drawings."""
        return self.folder / choices.FILE

    def compared_file(self, sha256: str) -> Path:
        """Return the file of a drawing of a pair."""
        return Path(choices.image_url(str(self.choices_file), sha256))

    def change(self, change: Callable[[Record], dict[str, Any]], *, stored: bool = True) -> None:
        """Change the state, and tell those who watch.

        Args:
            change: computes the fields to change of the state.
            stored: whether to write the state to disk at once.
        """
        with self._lock:
            if self.deleted:
                return
            self._record = self._record.model_copy(update=change(self._record))
            self._version += 1
            if stored:
                self.store()
        self._tell()

    def store(self) -> None:
        """Write the state to disk."""
        write_whole(self.record_file, [self._record.model_dump_json().encode()])

    def delete(self) -> None:
        """End all that changes or watches the state."""
        with self._lock:
            self.deleted = True
        self._tell()

    async def watch(self) -> AsyncIterator[Record]:
        """Yield the state now, and the newest one after each change, until it is deleted."""
        event, seen = asyncio.Event(), -1
        self._listeners[event] = asyncio.get_running_loop()
        try:
            while not self.deleted:
                event.clear()
                if seen != self._version:
                    seen = self._version
                    yield self._record
                else:
                    await event.wait()
        finally:
            del self._listeners[event]

    def _tell(self) -> None:
        for event, loop in [*self._listeners.items()]:
            with suppress(RuntimeError):  # a loop that has ended
                loop.call_soon_threadsafe(event.set)


class Adaptations:
    """All adaptations in a folder, by their ids.

    No other process may write there, since what one has begun there and has not ended is removed.

    Args:
        folder: the folder.
        quota: the bounds of their number, size and time.

    Attributes:
        disk: counts their files.
    """

    def __init__(self, folder: Path, quota: Quota) -> None:
        self._folder, self._quota, self.disk = folder, quota, Disk(quota.disk_bytes)
        make_private(folder)
        _remove_remains(folder)
        self._creating = threading.Lock()
        self._by_id = {
            folder.name: Adaptation(folder, read_record(folder), self.disk)
            for folder in sorted(folder.iterdir())
            if _ID.fullmatch(folder.name)
            and not folder.is_symlink()
            and (folder / RECORD).is_file()
        }
        for adaptation in self._by_id.values():
            self.disk.add_folder(adaptation.folder)

    def __len__(self) -> int:
        """Return the number of adaptations."""
        return len(self._by_id)

    def __iter__(self) -> Iterator[Adaptation]:
        """Iterate from the newest to the oldest."""
        return iter(sorted(self._by_id.values(), key=lambda a: -a.record.created))

    def __getitem__(self, identifier: str) -> Adaptation:
        """Return an adaptation.

        Raises:
            RequestError: when there is none of this id.
        """
        if identifier not in self._by_id:
            raise RequestError(
                404, "there is no adaptation of this id; list them at /v1/adaptations."
            )
        return self._by_id[identifier]

    def create(
        self,
        *,
        model: str,
        names: Sequence[str],
        pictures: Sequence[bytes],
        seed: int,
        steps: int,
        text: str | None = None,
        sound: tuple[str, bytes] | None = None,
        origin: str | None = None,
    ) -> Adaptation:
        """Create an adaptation to images, or to words and a sound alone.

        Args:
            model: the name of the model.
            names: the names of the images.
            pictures: the images as the model sees them, as PNG files.
            seed: seeds the noise of the inner steps.
            steps: inner steps to take.
            text: the words given.
            sound: the name of the sound given, and its WAV file.
            origin: the id of the adaptation that it learns from choices of.

        Raises:
            RequestError: when there are too many adaptations, or too many bytes of them.
        """
        with self._creating:
            if len(self) >= self._quota.adaptations:
                raise RequestError(429, f"there are {len(self)} adaptations; delete some first.")
            record = Record(
                **self._times(),
                id=secrets.token_urlsafe(16),
                model=model,
                given=tuple(names),
                text=text,
                sound=sound[0] if sound else None,
                seed=seed,
                steps=steps,
                origin=origin,
            )
            adaptation = Adaptation(self._folder / record.id, record, self.disk)
            try:
                for index, picture in enumerate(pictures):
                    self.disk.write(adaptation.given_file(index), picture)
                if sound:
                    self.disk.write(adaptation.sound_file, sound[1])
                adaptation.store()
            except BaseException:
                self.disk.remove_folder(adaptation.folder)
                raise
            self._by_id[record.id] = adaptation
            return adaptation

    def _times(self) -> dict[str, Any]:
        now, days = time.time(), self._quota.days
        return {"created": now, "expires": None if days is None else now + days * _DAY}

    def expired(self) -> list[str]:
        """List the adaptations whose time is over."""
        records = [adaptation.record for adaptation in self]
        return [r.id for r in records if r.expires is not None and r.expires <= time.time()]

    def forget(self, identifier: str) -> Adaptation:
        """Remove an adaptation from the list, but not from disk, and return it.

        Raises:
            RequestError: when there is none of this id.
        """
        adaptation = self[identifier]
        del self._by_id[identifier]
        adaptation.delete()
        return adaptation


def _remove_remains(folder: Path) -> None:
    """Remove what a crash has left: folders without a record, and halves of files.

    No link is followed.
    """
    for each in folder.iterdir():
        if not _ID.fullmatch(each.name) or each.is_symlink() or not each.is_dir():
            continue
        names = {str(file.relative_to(each)) for file in each.rglob("*")}
        if all(_FILES.fullmatch(name) for name in names):
            shutil.rmtree(each, ignore_errors=True)
        elif RECORD in names:
            for partial in each.rglob(f".*{PARTIAL}"):
                partial.unlink()
