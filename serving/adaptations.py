"""Adaptations: their folders on disk, and changes of their state, which clients watch."""

import asyncio
import secrets
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from metatrain.preferences import choices
from metatrain.storage.files import reaching
from serving.computing import MODEL_FILE, preview_name
from serving.disk import Disk
from serving.limits import Quota, RequestError
from serving.models import ModelSource
from serving.records import RECORD, Drawing, Record, count_choices, read_record

_DAY = 24 * 3600
# Records of a store that are on their way at one time.
_READERS = 16


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
        choosing: held while an answer between drawings is appended.
    """

    def __init__(self, folder: Path, record: Record, disk: Disk) -> None:
        self.folder, self.disk = folder, disk
        self.stopped = self.deleted = False
        self.compared: dict[int, str] = {}
        self.awaited: Counter[str] = Counter()
        self._record, self._version = record, 0
        self._lock, self._files = threading.Lock(), threading.Lock()
        self.choosing = threading.Lock()
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
        return self.folder / MODEL_FILE

    @property
    def model_url(self) -> str:
        """The URL of the file of the adapted model."""
        return self.disk.url(self.model_file)

    @property
    def source(self) -> ModelSource:
        """The model that draws."""
        return ModelSource(self.record.model, self.model_url if self.record.given else None)

    def given_file(self, index: int) -> Path:
        """Return the file of a given image."""
        return self.folder / f"given-{index}.png"

    def given(self) -> list[bytes]:
        """Read the given images.

        Raises:
            OSError: when one is not there or cannot be read.
            UserError: as an OSError.
        """
        count = len(self.record.given)
        return [self.disk.read(self.given_file(index)) for index in range(count)]

    @property
    def sound_file(self) -> Path:
        """The file of the given sound."""
        return self.folder / "given.wav"

    def sound(self) -> tuple[str, bytes] | None:
        """Read the given sound, with its name; None where none is given.

        Raises:
            OSError: when it is not there or cannot be read.
            UserError: as an OSError.
        """
        name = self.record.sound
        return None if name is None else (name, self.disk.read(self.sound_file))

    def preview_file(self, step: int, index: int) -> Path:
        """Return the file of an image drawn after `step` inner steps."""
        return self.folder / preview_name(step, index)

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
        self.disk.write_record(self.record_file, self._record.model_dump_json().encode())

    def write(self, file: Path, data: bytes) -> None:
        """Write one of its files.

        Raises:
            RequestError: when it is deleted, or the file is beyond the quota.
        """
        with self._files:
            if self.deleted:
                raise RequestError(404, "the adaptation was deleted meanwhile.")
            self.disk.write(file, data)

    def remove_files(self) -> None:
        """Remove all of its files, once it is deleted."""
        with self._files:
            self.disk.remove_folder(self.folder)

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
        disk: where the files lie; by default on this machine.
        resumes: whether those that the end of a server interrupted wait again, to be computed by
            others; else they have failed.

    Attributes:
        disk: counts their files.
    """

    def __init__(
        self, folder: Path, quota: Quota, *, disk: Disk | None = None, resumes: bool = False
    ) -> None:
        self._folder, self._quota = folder, quota
        self.disk, self._resumes = disk or Disk(quota.disk_bytes), resumes
        self._changing = threading.Lock()
        with ThreadPoolExecutor(_READERS) as readers:
            restored = readers.map(self._restored, self.disk.folders(folder))
            self._by_id = {adaptation.record.id: adaptation for adaptation in restored}

    def _restored(self, folder: Path) -> Adaptation:
        """Read an adaptation.

        Raises:
            UserError: when it, or the file of choices beside it, cannot be read.
        """
        with reaching(self.disk.url(folder / RECORD)):
            record = read_record(self.disk.read(folder / RECORD), self.disk.url(folder))
        adaptation = Adaptation(folder, record, self.disk)
        if record.state == "waiting" and not self._resumes:
            message = "the server ended before this adaptation did; adapt again."
            adaptation.change(lambda _: {"state": "failed", "error": message}, stored=False)
        if self.disk.has(adaptation.choices_file):
            counts = count_choices(self.disk.url(adaptation.choices_file))
            adaptation.change(lambda _: counts, stored=False)
        return adaptation

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
        shows: bool = True,
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
            shows: whether it draws on the way.
            text: the words given.
            sound: the name of the sound given, and its WAV file.
            origin: the id of the adaptation that it learns from choices of.

        Raises:
            RequestError: when there are too many adaptations, or too many bytes of them.
        """
        with self._changing:
            if len(self) >= self._quota.adaptations:
                raise RequestError(429, f"there are {len(self)} adaptations; delete some first.")
            record = self._new_record(
                model=model,
                given=tuple(names),
                text=text,
                sound=sound[0] if sound else None,
                seed=seed,
                steps=steps,
                shows=shows,
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

    def _new_record(self, **settings: Any) -> Record:
        now, days = time.time(), self._quota.days
        expires = None if days is None else now + days * _DAY
        identifier = secrets.token_urlsafe(16)
        return Record(id=identifier, created=now, expires=expires, **settings)

    def expired(self) -> list[str]:
        """List the adaptations whose time is over."""
        records = [adaptation.record for adaptation in self]
        return [r.id for r in records if r.expires is not None and r.expires <= time.time()]

    def forget(self, identifier: str) -> Adaptation:
        """Remove an adaptation from the list, but not from disk, and return it.

        Raises:
            RequestError: when there is none of this id.
        """
        with self._changing:
            adaptation = self[identifier]
            del self._by_id[identifier]
        adaptation.delete()
        return adaptation
