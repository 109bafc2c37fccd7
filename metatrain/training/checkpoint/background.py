"""Writing checkpoints while training continues, on a storage that may fail for a while."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from metatrain.base.errors import UserError
from metatrain.training.checkpoint.peers import Peers
from metatrain.training.checkpoint.store import CheckpointStore
from metatrain.training.checkpoint.writing import Draft


class BackgroundWriter:
    """Writer of one checkpoint at a time on a thread of its own; the same on all workers.

    A checkpoint that cannot be written is reported and skipped, since the next may succeed. All
    workers learn together whether one was written, so that they give up together.

    Args:
        store: the destination.
        peers: the workers; nothing else may use them.
        max_failures: how many checkpoints in a row may fail.
        report: called on worker 0 with a sentence about what failed.
        on_saved: called on worker 0 with the step up to which the run is saved.
    """

    def __init__(
        self,
        store: CheckpointStore,
        peers: Peers,
        max_failures: int,
        report: Callable[[str], None],
        on_saved: Callable[[int], None],
    ) -> None:
        self._store, self._peers, self._max_failures = store, peers, max_failures
        self._report, self._on_saved = report, on_saved
        self._writing: tuple[Draft, Future[None]] | None = None
        self._failures = 0

    def save(self, draft: Draft) -> None:
        """Begin to write `draft` once the previous one is done.

        Raises:
            UserError: when too many in a row have failed.
        """
        self._wait()
        done: Future[None] = Future()
        self._writing = draft, done
        # A daemon, since the others' collectives may never end when a worker is lost.
        threading.Thread(target=self._write, args=(draft, done), daemon=True).start()

    def finish(self) -> None:
        """Wait until the last checkpoint is written, trying again until it is.

        Raises:
            UserError: when too many in a row have failed.
        """
        seconds = 1.0
        while failed := self._wait():
            time.sleep(seconds * random.uniform(0.5, 1))
            seconds *= 2
            self.save(failed)

    def _wait(self) -> Draft | None:
        """Wait for the checkpoint that is being written, and return its draft if it failed."""
        if self._writing is None:
            return None
        draft, done = self._writing
        error = done.exception()
        # Only now: Ctrl-C may interrupt the wait, and the next waits for the same checkpoint.
        self._writing = None
        if isinstance(error, UserError):
            self._failures += 1
            if self._failures <= self._max_failures:
                return draft
            raise UserError(
                f"{self._failures} checkpoints in a row could not be written, more than "
                f"checkpoint.max_failures={self._max_failures}: {error}"
            ) from error
        if error:
            raise error
        self._failures = 0
        return None

    def _write(self, draft: Draft, done: "Future[None]") -> None:
        try:
            self._save(draft)
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _save(self, draft: Draft) -> None:
        first = self._peers.rank == 0
        try:
            self._store.save(draft, self._peers)
        except UserError as error:
            if first:
                self._report(f"The checkpoint of step {draft.step:,} cannot be written: {error}")
            raise
        if first:
            self._on_saved(draft.step)
