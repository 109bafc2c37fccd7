"""Who does the work of an evaluation: processes of this machine, or whatever a caller brings."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool

import torch

from metatrain.base.errors import UserError
from metatrain.base.machine import cores
from metatrain.base.progress import Progress
from metatrain.evaluation.running.jobs import Work, perform
from metatrain.storage.files import sizes_under

# Does every piece of work, in any order, and says each time that one is done.
Runner = Callable[[Sequence[Work]], Iterator[object]]


def do_all(works: Sequence[Work], runner: Runner) -> None:
    """Have all `works` done that have not been done before, telling how it goes.

    Raises:
        UserError: when any of it fails; what was done is kept.
    """
    folders = {work.folder for work in works}
    there = {f"{folder}/{file}" for folder in folders for file in sizes_under(folder)}
    wanted = {f"{work.folder}/{work.file}": work for work in works}  # each but once
    pending = [work for place, work in wanted.items() if place not in there]
    if not pending:
        return
    progress = Progress("adapting to unseen tasks", len(pending))
    try:
        for done, _ in enumerate(runner(pending), start=1):
            progress.update(done)
    finally:
        progress.close()


class Here:
    """Does the work on this machine.

    On one thread each, whatever their number: the operations of so small a batch are too short to
    be divided, and sums that were divided otherwise would not be the same.

    Args:
        workers: how many processes share the work; one is this process itself.
    """

    def __init__(self, workers: int | None = None) -> None:
        self._workers = cores() if workers is None else workers

    def __call__(self, works: Sequence[Work]) -> Iterator[object]:
        """Do all `works`."""
        workers = min(self._workers, len(works))
        return self._inline(works) if workers == 1 else self._processes(works, workers)

    def _inline(self, works: Sequence[Work]) -> Iterator[object]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for work in works:
                yield perform(work)
        finally:
            torch.set_num_threads(threads)

    def _processes(self, works: Sequence[Work], workers: int) -> Iterator[object]:
        # Not forked, since neither obstore's nor OpenMP's threads survive that.
        spawning = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(workers, mp_context=spawning, initializer=prepare_process)
        try:
            for future in as_completed([pool.submit(perform, work) for work in works]):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a process that evaluated was lost, perhaps for want of memory; evaluate again "
                "with fewer --workers, and what is done is not done again."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def prepare_process() -> None:
    """One thread for this process, whose parent hears of Ctrl-C and ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
