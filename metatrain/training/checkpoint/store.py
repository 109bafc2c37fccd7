"""The checkpoints of a run: committing, finding and refusing them, and keeping few."""

import logging
from collections import ChainMap
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from pydantic import ValidationError

from metatrain.base.errors import UserError
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.training.checkpoint.folders import StepFolders
from metatrain.training.checkpoint.index import (
    COMMIT,
    INDEX,
    Commit,
    FileRecord,
    Index,
    Position,
    merged,
    sha256,
)
from metatrain.training.checkpoint.model_files import write_models
from metatrain.training.checkpoint.peers import ALONE, Peers
from metatrain.training.checkpoint.reading import Checkpoint, DamagedError
from metatrain.training.checkpoint.state import state_of
from metatrain.training.checkpoint.writing import Draft, Part, write_part
from metatrain.training.state import Record

Result = TypeVar("Result")

_log = logging.getLogger(__name__)


class CheckpointStore:
    """Store of a run's checkpoints, under `<run>/checkpoints/step-00000100/`.

    Args:
        run: the run's folder, a path or any fsspec URL.
        report: called with a sentence about every checkpoint that is refused, and why.
        may_write: raises a `UserError` where nothing may be written any more, such as
            `LeaseKey.check`; asked before a checkpoint is written, and before it is committed.
    """

    def __init__(
        self,
        run: str,
        report: Callable[[str], None] = _log.warning,
        may_write: Callable[[], None] = lambda: None,
    ) -> None:
        self._may_write = may_write
        self.url, self._report = f"{run.rstrip('/')}/checkpoints", report
        self._folders = StepFolders(self.url)

    def save(self, draft: Draft, peers: Peers = ALONE) -> None:
        """Write a checkpoint, and remove earlier ones once it is complete. Collective.

        Raises:
            UserError: on every worker alike, when it could not be completed; nothing is left of it.
        """
        folder = self.folder(draft.step)
        written, problem = _attempt(lambda: self._write_part(draft, folder, peers))
        everyones = peers.gather((written.to_json() if written else None, problem))
        problems = [problem for _, problem in everyones if problem]
        if not problems:
            parts = [Part.from_json(part) for part, _ in everyones if part]
            _, problem = _attempt(lambda: self._complete(draft, parts, peers))
            problems = [problem] if problem else []
        if peers.rank == 0 and problems:
            # If even that fails, the next complete checkpoint removes it.
            with suppress(UserError):
                self._folders.remove(draft.step)
        [problem, *_] = peers.gather(problems[0] if problems else None)
        if problem:
            raise UserError(problem)

    def _write_part(self, draft: Draft, folder: str, peers: Peers) -> Part:
        self._may_write()
        return write_part(draft, folder, peers)

    def _complete(self, draft: Draft, parts: Sequence[Part], peers: Peers) -> None:
        """Write the models; worker 0 then commits the checkpoint. Collective."""
        models = write_models(draft, parts, self.folder(draft.step), peers)
        if peers.rank == 0:
            self._commit(draft, parts, models)

    def _commit(self, draft: Draft, parts: Sequence[Part], models: dict[str, FileRecord]) -> None:
        folder = self.folder(draft.step)
        index = Index(
            data=Position(seed=draft.config.seed, step=draft.step),
            config=draft.config.model_dump(mode="json"),
            history=draft.history,
            window=draft.window,
            loss=_recent_loss(draft.history, draft.step - draft.config.checkpoint.every),
            files=dict(ChainMap(models, *(part.files for part in parts))),
            tensors=merged(pair for part in parts for pair in part.slices),
        )
        data = index.model_dump_json().encode()
        self._may_write()
        write_file(f"{folder}/{INDEX}", data)
        commit = Commit(step=draft.step, index=sha256(data))
        write_file(f"{folder}/{COMMIT}", commit.model_dump_json().encode())
        # As every reader opens it; no other checkpoint is removed before.
        self.open(draft.step)
        try:
            self._prune(draft)
        except Exception as error:  # of any kind, for the new checkpoint is complete
            with suppress(Exception):
                self._report(f"Older checkpoints are kept, since they cannot be removed: {error}")

    def _prune(self, draft: Draft) -> None:
        """Keep the new checkpoint, earlier ones up to `keep` in all, and the best; remove others.

        Later ones are damaged, or the run would have resumed from them.
        """
        losses: dict[int, float | None] = {}
        for step in self._folders.committed():
            with suppress(DamagedError, MissingError):
                if step <= draft.step:
                    losses[step] = self.open(step).index.loss
        kept = {draft.step, *sorted(losses)[-draft.config.checkpoint.keep :]}
        if draft.config.checkpoint.best:
            rated = {step: loss for step, loss in losses.items() if loss is not None}
            kept |= {min(rated, key=lambda step: (rated[step], -step))} if rated else set()
        for step in self._folders.steps() - kept:
            self._folders.remove(step)
        # A killed attempt at the same step may have left others.
        named = {INDEX, COMMIT, *self.open(draft.step).index.files}
        self._folders.remove_others(draft.step, named)

    def folder(self, step: int) -> str:
        """Return the URL of the checkpoint of `step`."""
        return self._folders.of(step)

    def steps(self) -> list[int]:
        """List the steps of the committed checkpoints, ascending.

        Raises:
            UserError: when the storage cannot be reached, which does not mean that there are none;
                or when one of them is a link.
        """
        return self._folders.committed()

    def open(self, step: int) -> Checkpoint:
        """Open the checkpoint of `step`, after a check that its files have the right lengths.

        Raises:
            DamagedError: when they have not, or one is missing.
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
            if index.data.step != step:
                raise DamagedError(f"{folder} cannot be used: {INDEX} is of another step.")
        except MissingError:
            raise DamagedError(f"{folder} cannot be used: {INDEX} is missing.") from None
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise DamagedError(f"{folder} cannot be used: {error.title}: {reason}.") from error
        sizes = self._folders.sizes(step)
        for name, record in index.files.items():
            if sizes.get(name) != record.bytes:
                fault = "has another length than was written" if name in sizes else "is missing"
                raise DamagedError(f"{folder} cannot be used: {name} {fault}.")
        return Checkpoint(folder, index)

    def newest(self) -> Checkpoint | None:
        """Return the newest checkpoint with all its files, whose bytes are not verified.

        Raises:
            UserError: when the storage cannot be reached.
        """
        return self.latest(read=lambda checkpoint: checkpoint)

    def latest(
        self, peers: Peers = ALONE, read: Callable[[Checkpoint], Result] = state_of
    ) -> Result | None:
        """Read the newest checkpoint that is whole for all workers. Collective.

        Each worker may read another part, of which every byte is verified. If one of them finds
        damage, all of them try the checkpoint before.

        Args:
            peers: the workers; this process alone by default.
            read: reads this worker's part of a checkpoint; all of a run's state by default.

        Returns:
            The result of `read`; None where there is no checkpoint.

        Raises:
            UserError: when there are checkpoints and none can be used, or the storage cannot be
                reached, or is not the same for all workers.
        """
        [steps, *_] = peers.gather(self.steps() if peers.rank == 0 else [])
        for step in reversed(steps):
            result, problem = self._try(step, read, peers.rank)
            problems = [problem for problem in peers.gather(problem) if problem]
            if not problems:
                return result
            if peers.rank == 0:
                self._report(problems[0])
        # Or the run would start over, and remove them.
        if steps:
            raise UserError(
                f"{self.url} has checkpoints and none of them can be used; move them away, or "
                f"choose another run.name."
            )
        [remains, *_] = peers.gather(self._folders.remains() if peers.rank == 0 else [])
        if remains:
            raise UserError(
                f"{self.url} has no checkpoint, and {remains[-1]} looks like the rest of one; "
                f"move it away, or choose another run.name."
            )
        return None

    def _try(
        self, step: int, read: Callable[[Checkpoint], Result], rank: int
    ) -> tuple[Result | None, str | None]:
        try:
            return read(self.open(step)), None
        except DamagedError as error:
            return None, str(error)
        except MissingError as error:
            folder = self.folder(step)
            if rank == 0:  # which has just listed it
                return None, f"{folder} was removed meanwhile."
            raise UserError(
                f"{folder} exists on worker 0's node and not on another; set run.dir to a place "
                f"that all nodes reach."
            ) from error

    def history(self) -> list[Record]:
        """Read the history of the newest checkpoint; empty where there is none."""
        newest = self.newest()
        return newest.index.history if newest else []


def _attempt(action: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """Return the result of `action`, or why it failed, which the other workers have to know."""
    try:
        return action(), None
    except UserError as error:
        return None, str(error)
    except Exception as error:
        return None, f"a checkpoint cannot be written ({type(error).__name__}: {error})."


def _recent_loss(history: Sequence[Record], since: int) -> float | None:
    """Return the mean training loss of the outer steps after `since`; None where there are none."""
    ends = [0.0, *(record["step"] for record in history)]
    recent = [
        (record["step"] - before, record["loss"])
        for before, record in zip(ends, history, strict=False)
        if record["step"] > since
    ]
    steps = sum(count for count, _ in recent)
    return sum(count * loss for count, loss in recent) / steps if steps else None
