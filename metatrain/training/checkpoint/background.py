"""Writing checkpoints while training goes on, and living with a storage that fails for a while."""

import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future

from metatrain.base.errors import UserError
from metatrain.training.checkpoint.store import CheckpointStore
from metatrain.training.checkpoint.writing import Draft, Peers


class BackgroundWriter:
    """Writes one checkpoint at a time on a thread of its own; all workers alike.

    A checkpoint that cannot be written is said and left out, since the next may succeed. Whether
    one was written all workers hear together, so that they give up together.

    Args:
        store: where to.
        peers: the workers; nothing but this may use their `gather`.
        max_failures: checkpoints in a row that may fail.
        say: told in a sentence what failed.
        saved: told the step up to which the run is safe.
    """

    def __init__(
        self,
        store: CheckpointStore,
        peers: Peers,
        max_failures: int,
        say: Callable[[str], None],
        saved: Callable[[int], None],
    ) -> None:
        self._store, self._peers, self._max_failures = store, peers, max_failures
        self._say, self._saved = say, saved
        self._writing: tuple[Draft, Future[None]] | None = None
        self._failures = 0

    def save(self, draft: Draft) -> None:
        """Begin to write `draft`, once the one before is through.

        Raises:
            UserError: when too many in a row have failed.
        """
        self._settle()
        done: Future[None] = Future()
        self._writing = draft, done
        # A daemon, for where a worker is lost the others' gathering may never end.
        threading.Thread(target=self._write, args=(draft, done), daemon=True).start()

    def finish(self) -> None:
        """Wait until the last checkpoint is written, however often that has to be tried.

        Raises:
            UserError: when too many in a row have failed.
        """
        wait = 1.0
        while failed := self._settle():
            time.sleep(wait * random.uniform(0.5, 1))
            wait *= 2
            self.save(failed)

    def _settle(self) -> Draft | None:
        """Wait for the one that is being written; returned if it has failed."""
        if self._writing is None:
            return None
        (draft, done), self._writing = self._writing, None
        try:
            done.result()
        except UserError as error:
            self._failures += 1
            if self._failures <= self._max_failures:
                return draft
            raise UserError(
                f"{self._failures} checkpoints in a row could not be written, more than "
                f"checkpoint.max_failures={self._max_failures}: {error}"
            ) from error
        self._failures = 0
        return None

    def _write(self, draft: Draft, done: "Future[None]") -> None:
        try:
            self._tell(draft)
        except BaseException as error:
            done.set_exception(error)
        else:
            done.set_result(None)

    def _tell(self, draft: Draft) -> None:
        first = self._peers.rank == 0
        try:
            self._store.save(draft, self._peers)
        except UserError as error:
            if first:
                self._say(f"The checkpoint of step {draft.step:,} cannot be written: {error}")
            raise
        if first:
            self._saved(draft.step)
