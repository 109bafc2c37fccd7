"""The checkpoints of a run: committing, finding, refusing and removing them."""

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import TypeVar

from pydantic import ValidationError

from metatrain.base.errors import UserError
from metatrain.storage.files import (
    MissingError,
    asking,
    filesystem_of,
    read_file,
    sizes_under,
    write_file,
)
from metatrain.training.checkpoint.index import (
    COMMIT,
    INDEX,
    Commit,
    Index,
    Position,
    merged,
    sha256,
)
from metatrain.training.checkpoint.reading import Checkpoint, DamagedError
from metatrain.training.checkpoint.state import state_of
from metatrain.training.checkpoint.writing import ALONE, Draft, Part, Peers, write_part
from metatrain.training.state import Record

Found = TypeVar("Found")

_FOLDER = re.compile(r"^step-(\d+)$")
_COMMITTED = re.compile(rf"^step-(\d+)/{re.escape(COMMIT)}$")


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class CheckpointStore:
    """The checkpoints of a run, under `<run>/checkpoints/step-00000100/`.

    Args:
        run: the run's folder, a path or any fsspec URL.
        say: told in a sentence what was refused, and why.
    """

    def __init__(self, run: str, say: Callable[[str], None] = _to_stderr) -> None:
        self.url, self._say = f"{run.rstrip('/')}/checkpoints", say
        self._filesystem, self._path = filesystem_of(self.url)

    def save(self, draft: Draft, peers: Peers = ALONE) -> None:
        """Write a checkpoint; earlier ones go only once it is complete. Collective.

        Raises:
            UserError: on every worker alike, when it could not be completed; nothing is left of it.
        """
        folder = self.folder(draft.step)
        own, problem = _attempt(lambda: write_part(draft, folder, peers))
        everyones = peers.gather((own, problem))
        problems = [problem for _, problem in everyones if problem]
        if peers.rank == 0 and not problems:
            parts = [part for part, _ in everyones]
            _, problem = _attempt(lambda: self._commit(draft, parts))
            problems = [problem] if problem else []
        if peers.rank == 0 and problems:
            # Where even that fails, the next checkpoint that is completed takes it away.
            with suppress(UserError):
                self._remove(draft.step)
        [problem, *_] = peers.gather(problems[0] if problems else None)
        if problem:
            raise UserError(problem)

    def _commit(self, draft: Draft, parts: Sequence[Part]) -> None:
        folder = self.folder(draft.step)
        index = Index(
            data=Position(seed=draft.config.seed, step=draft.step),
            config=draft.config.model_dump(mode="json"),
            history=draft.history,
            window=draft.window,
            loss=_recent_loss(draft.history, draft.step - draft.config.checkpoint.every),
            files={name: record for part in parts for name, record in part.files.items()},
            tensors=merged(pair for part in parts for pair in part.slices),
        )
        data = index.model_dump_json().encode()
        write_file(f"{folder}/{INDEX}", data)
        commit = Commit(step=draft.step, index=sha256(data))
        write_file(f"{folder}/{COMMIT}", commit.model_dump_json().encode())
        # As every reader sees it: only now may others go.
        self.open(draft.step)
        try:
            self._prune(draft)
        except Exception as error:  # whatever it is, the new checkpoint is there
            with suppress(Exception):
                self._say(f"Older checkpoints are kept, for they cannot be removed: {error}")

    def _prune(self, draft: Draft) -> None:
        """Leave the new checkpoint, those before it up to `keep` in all, and the best.

        Later ones are of a future that was abandoned, since they turned out not to be whole.
        """
        there = self._sizes()
        losses: dict[int, float | None] = {}
        for step in _committed(there):
            with suppress(DamagedError):
                if step <= draft.step:
                    losses[step] = self.open(step).index.loss
        kept = {draft.step, *sorted(losses)[-draft.config.checkpoint.keep :]}
        if draft.config.checkpoint.best:
            rated = {step: loss for step, loss in losses.items() if loss is not None}
            kept |= {min(rated, key=lambda step: (rated[step], -step))} if rated else set()
        folders = {name.partition("/")[0] for name in there}
        for step in {int(match[1]) for match in map(_FOLDER.search, folders) if match} - kept:
            self._remove(step)
        self._tidy(draft.step)

    def _tidy(self, step: int) -> None:
        """Remove what an attempt at the same step that was killed has left."""
        named = {INDEX, COMMIT, *self.open(step).index.files}
        for name in self._sizes(_name(step)).keys() - named:
            self._ask(partial(self._filesystem.rm_file, f"{self._path}/{_name(step)}/{name}"))

    def _remove(self, step: int) -> None:
        path = f"{self._path}/{_name(step)}"
        # First what makes it a checkpoint, for the rest does not go at once.
        with suppress(MissingError):
            self._ask(lambda: self._filesystem.rm_file(f"{path}/{COMMIT}"))
        with suppress(MissingError):
            self._ask(lambda: self._filesystem.rm(path, recursive=True))

    def folder(self, step: int) -> str:
        """Where the checkpoint of `step` lies."""
        return f"{self.url}/{_name(step)}"

    def steps(self) -> list[int]:
        """Steps of the committed checkpoints, ascending.

        Raises:
            UserError: when the storage cannot be reached, which is not to say that there are none.
        """
        return _committed(self._sizes())

    def open(self, step: int) -> Checkpoint:
        """The checkpoint of `step`, whose files are all there and of the right length.

        Raises:
            DamagedError: when they are not.
            MissingError: when no such checkpoint was ever committed.
            UserError: when the storage cannot be reached.
        """
        folder = self.folder(step)
        commit = read_file(f"{folder}/{COMMIT}")
        try:
            data = read_file(f"{folder}/{INDEX}")
            if Commit.model_validate_json(commit) != Commit(step=step, index=sha256(data)):
                raise DamagedError(f"{folder} cannot be used: {INDEX} is not as it was written.")
            index = Index.model_validate_json(data)
        except MissingError:
            raise DamagedError(f"{folder} cannot be used: {INDEX} is missing.") from None
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise DamagedError(f"{folder} cannot be used: {error.title}: {reason}.") from error
        there = self._sizes(_name(step))
        for name, record in index.files.items():
            if there.get(name) != record.bytes:
                what = "has another length than was written" if name in there else "is missing"
                raise DamagedError(f"{folder} cannot be used: {name} {what}.")
        return Checkpoint(folder, index)

    def newest(self) -> Checkpoint | None:
        """The newest checkpoint of which nothing is missing, though its bytes are not verified.

        Raises:
            UserError: when the storage cannot be reached.
        """
        return self.latest(read=lambda checkpoint: checkpoint)

    def latest(
        self, peers: Peers = ALONE, read: Callable[[Checkpoint], Found] = state_of
    ) -> Found | None:
        """What all workers can `read` of the newest checkpoint that is whole. Collective.

        Every byte that is read is verified, and each worker may read something else: they go back
        together to an earlier checkpoint until none of them finds any damage.

        Args:
            peers: the workers; this process alone by default.
            read: makes of a checkpoint what this worker needs; all of a run's state by default.

        Returns:
            What `read` returned; None where there is no checkpoint that is whole.

        Raises:
            UserError: when there are checkpoints and none can be used, or the storage cannot be
                reached, or is not the same for all workers.
        """
        [steps, *_] = peers.gather(self.steps() if peers.rank == 0 else None)
        for step in reversed(steps):
            found, problem = self._try(step, read, peers.rank)
            problems = [problem for problem in peers.gather(problem) if problem]
            if not problems:
                return found
            if peers.rank == 0:
                self._say(problems[0])
        if steps:  # or the run would begin anew, and remove them
            raise UserError(
                f"{self.url} has checkpoints and none of them can be used; move them away, or "
                f"choose another run.name."
            )
        return None

    def _try(
        self, step: int, read: Callable[[Checkpoint], Found], rank: int
    ) -> tuple[Found | None, str | None]:
        try:
            return read(self.open(step)), None
        except DamagedError as error:
            return None, str(error)
        except MissingError as error:
            folder = self.folder(step)
            if rank == 0:  # which has just seen it
                return None, f"{folder} was removed meanwhile."
            raise UserError(
                f"{folder} is there on worker 0's node and not on another's; put run.dir where "
                f"all nodes reach it."
            ) from error

    def history(self) -> list[Record]:
        """The history of the newest checkpoint, without its weights; empty where there is none."""
        newest = self.newest()
        return newest.index.history if newest else []

    def _sizes(self, folder: str = "") -> dict[str, int]:
        """The bytes of every file under `folder`, by its path from there."""
        return sizes_under(f"{self.url}/{folder}".rstrip("/"))

    def _ask(self, question: Callable[[], Found]) -> Found:
        return asking(self.url, question)


def _committed(files: Iterable[str]) -> list[int]:
    """Steps of the checkpoints among `files` that are committed, ascending."""
    return sorted(int(match[1]) for match in map(_COMMITTED.search, files) if match)


def _attempt(action: Callable[[], Found]) -> tuple[Found | None, str | None]:
    """What `action` returns, or why it failed: the others have to hear of it in any case."""
    try:
        return action(), None
    except UserError as error:
        return None, str(error)
    except Exception as error:
        return None, f"a checkpoint cannot be written ({type(error).__name__}: {error})."


def _recent_loss(history: Sequence[Record], since: int) -> float | None:
    """The mean training loss of the outer steps after `since`."""
    ends = [0.0, *(record["step"] for record in history)]
    recent = [
        (record["step"] - before, record["loss"])
        for before, record in zip(ends, history, strict=False)
        if record["step"] > since
    ]
    steps = sum(count for count, _ in recent)
    return sum(count * loss for count, loss in recent) / steps if steps else None


def _name(step: int) -> str:
    return f"step-{step:08d}"
