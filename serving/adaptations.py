"""Folders of adaptations on disk, and their state, which clients watch."""

import asyncio
import re
import secrets
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from metatrain.base.errors import UserError
from metatrain.base.section import Count
from metatrain.preferences import choices
from metatrain.storage.local_disk import write_whole
from serving.limits import Limits, RequestError

_RECORD = "adaptation.json"
_ID = re.compile(r"[\w-]{22}")


# Of what is in a record, which a stranger may have written.
Finite = Annotated[float, Field(allow_inf_nan=False)]
FileName = Annotated[str, Field(pattern=r"^[\w.+-]{1,200}$")]


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Preview(_Stored):
    """Images drawn after so many inner steps: step-STEP-0.png, ..."""

    step: Count
    images: Count


class Drawing(_Stored):
    """An image drawn after adapting, and the settings that draw it again.

    Attributes:
        name: its name among the drawings of its adaptation.
        seed: the seed.
        steps: sampler steps; None for the configuration's.
        guidance: the guidance; None for the configuration's.
        nearest: the index of the given image nearest to it by pixels.
        distance: the root-mean-square distance to that image; pixels are from 0 to 1.
        kept: whether its owner keeps it.
    """

    name: FileName
    seed: Count
    steps: Count | None
    guidance: Finite | None
    nearest: Count
    distance: Finite
    kept: bool = False


class Record(_Stored):
    """The state of an adaptation, as clients see it.

    Attributes:
        id: not to be guessed.
        model: the name of the model that adapts.
        created: seconds since 1970.
        given: the names of the images.
        seed: of the noise of the inner steps.
        steps: inner steps to take.
        step: inner steps taken.
        state: "waiting", "adapting", "done" or "failed".
        loss: the loss before the last step; None where it is not finite.
        warning: a line on images that are unlike the training tasks.
        expectation: a line on the quality to expect.
        error: the reason of a failure.
        previews: the images drawn on the way.
        drawings: the images drawn since, in the order of drawing.
        origin: the id of the adaptation that it has learned from choices of; None where its model
            comes from the images alone.
        report: sentences on what choices taught.
        choices: answers to which of two drawings is better.
    """

    id: str
    model: str
    created: Finite
    given: tuple[str, ...]
    seed: Count
    steps: Count
    step: Count = 0
    state: Literal["waiting", "adapting", "done", "failed"] = "waiting"
    loss: Finite | None = None
    warning: str | None = None
    expectation: str | None = None
    error: str | None = None
    previews: tuple[Preview, ...] = ()
    drawings: tuple[Drawing, ...] = ()
    origin: str | None = None
    report: tuple[str, ...] = ()
    choices: Count = 0


class Adaptation:
    """One adaptation: its folder, and its state, which threads change and clients watch.

    Attributes:
        folder: of its files.
        stopped: whether its client asked to stop after the step that is computed.
        deleted: whether it is deleted, and its state goes nowhere.
        compared: the hashes of the drawings of pairs since the server began, by their seeds.
    """

    def __init__(self, folder: Path, record: Record) -> None:
        self.folder = folder
        self.stopped = self.deleted = False
        self.compared: dict[int, str] = {}
        self._record, self._version = record, 0
        self._lock = threading.Lock()
        self._listeners: dict[asyncio.Event, asyncio.AbstractEventLoop] = {}

    @property
    def record(self) -> Record:
        """The state as it is now."""
        return self._record

    @property
    def model_file(self) -> Path:
        """The file of the adapted model."""
        return self.folder / "adapted.safetensors"

    def given_file(self, index: int) -> Path:
        """Return the file of a given image."""
        return self.folder / f"given-{index}.png"

    def preview_file(self, step: int, index: int) -> Path:
        """Return the file of an image drawn after `step` inner steps."""
        return self.folder / f"step-{step}-{index}.png"

    def drawing_file(self, name: str) -> Path:
        """Return the file of a drawing."""
        return self.folder / f"drawing-{name}.png"

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
        write_whole(self.folder / _RECORD, [self._record.model_dump_json().encode()])

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

    Args:
        folder: the folder.
        limits: the number of adaptations.
    """

    def __init__(self, folder: Path, limits: Limits) -> None:
        self._folder, self._limits = folder, limits
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._by_id = {
            folder.name: Adaptation(folder, _read(folder))
            for folder in sorted(folder.iterdir())
            if _ID.fullmatch(folder.name)
            and not folder.is_symlink()
            and (folder / _RECORD).is_file()
        }

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

    def done(self, identifier: str) -> Adaptation:
        """Return an adaptation that has its model.

        Raises:
            RequestError: when there is none of this id, or it has none yet.
        """
        adaptation = self[identifier]
        if adaptation.record.state != "done":
            raise RequestError(
                409, "this adaptation has no model yet; wait until its state is done."
            )
        return adaptation

    def create(
        self,
        *,
        model: str,
        names: Sequence[str],
        pictures: Sequence[bytes],
        seed: int,
        steps: int,
        origin: str | None = None,
    ) -> Adaptation:
        """Create an adaptation to images.

        Args:
            model: the name of the model.
            names: the names of the images.
            pictures: the images as the model sees them, as PNG files.
            seed: seeds the noise of the inner steps.
            steps: inner steps to take.
            origin: the id of the adaptation that it learns from choices of.

        Raises:
            RequestError: when there are too many adaptations.
        """
        if len(self._by_id) >= self._limits.adaptations:
            raise RequestError(429, f"there are {len(self._by_id)} adaptations; delete some first.")
        identifier = secrets.token_urlsafe(16)
        record = Record(
            id=identifier,
            model=model,
            created=time.time(),
            given=tuple(names),
            seed=seed,
            steps=steps,
            origin=origin,
        )
        adaptation = Adaptation(self._folder / identifier, record)
        for index, picture in enumerate(pictures):
            write_whole(adaptation.given_file(index), [picture])
        adaptation.store()
        self._by_id[identifier] = adaptation
        return adaptation

    def forget(self, identifier: str) -> Adaptation:
        """Remove an adaptation from the list, but not from disk, and return it.

        Raises:
            RequestError: when there is none of this id.
        """
        adaptation = self[identifier]
        del self._by_id[identifier]
        adaptation.delete()
        return adaptation


def remove_files(adaptation: Adaptation) -> None:
    """Remove the folder of a deleted adaptation."""
    shutil.rmtree(adaptation.folder, ignore_errors=True)


def _read(folder: Path) -> Record:
    """Read the state of an adaptation; one that a stop of the server interrupted has failed."""
    try:
        record = Record.model_validate_json((folder / _RECORD).read_bytes())
        if record.id != folder.name:
            raise ValueError("it is the record of another adaptation")
    except (ValueError, OSError) as error:
        raise UserError(
            f"{folder / _RECORD} cannot be read; remove the folder {folder}."
        ) from error
    if record.state in ("done", "failed"):
        return record.model_copy(update={"choices": _count_choices(folder / choices.FILE)})
    message = "the server ended before this adaptation did; adapt again."
    return record.model_copy(update={"state": "failed", "error": message})


def _count_choices(file: Path) -> int:
    """Count the choices in a file, which are there as soon as they are answered, unlike the state.

    Raises:
        UserError: when a line is none.
    """
    return len(choices.read_choices(str(file))) if file.exists() else 0
