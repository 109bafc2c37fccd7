"""Runners of jobs: processes of this machine, or any other that a caller brings."""

import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.queues import SimpleQueue

import torch

from metatrain.base.errors import UserError
from metatrain.base.machine import cores
from metatrain.base.progress import Progress
from metatrain.evaluation.running.jobs import Job, perform
from metatrain.storage.files import sizes_under

# Performs all jobs, in any order, and yields once for each job that is done.
Runner = Callable[[Sequence[Job]], Iterator[object]]


def run_jobs(jobs: Sequence[Job], runner: Runner) -> None:
    """Run all `jobs` that have no output yet, and show the progress.

    Raises:
        UserError: when a job fails; the outputs so far are kept.
    """
    folders = {job.folder for job in jobs}
    present = {f"{folder}/{file}" for folder in folders for file in sizes_under(folder)}
    distinct = {f"{job.folder}/{job.file}": job for job in jobs}
    pending = [job for url, job in distinct.items() if url not in present]
    if not pending:
        return
    tasks = sum(len(job.episodes) for job in pending)
    progress = Progress("adapting to unseen tasks", tasks)
    try:
        for done, _ in enumerate(runner(pending), start=1):
            progress.update(tasks * done // len(pending))
    finally:
        progress.close()


class LocalRunner:
    """A runner on this machine.

    Every process computes on one thread, whatever their number: the operations of so small a batch
    are too short to divide, and another division changes the order of sums, and so the numbers.
    Processes take the GPUs in turn; on GPUs the numbers differ from those on a CPU by rounding.

    Args:
        workers: number of processes; by default one a core, or one a GPU. 1 is this process itself.
        device: where they compute, the CPU by default.
    """

    def __init__(self, workers: int | None = None, device: torch.device | None = None) -> None:
        self._device = device or torch.device("cpu")
        places = torch.cuda.device_count() if self._device.type == "cuda" else cores()
        self._workers = places if workers is None else workers

    def __call__(self, jobs: Sequence[Job]) -> Iterator[object]:
        """Perform all `jobs`; see `Runner`."""
        workers = min(self._workers, len(jobs))
        return self._inline(jobs) if workers == 1 else self._in_processes(jobs, workers)

    def _inline(self, jobs: Sequence[Job]) -> Iterator[object]:
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            for job in jobs:
                yield perform(job, self._device)
        finally:
            torch.set_num_threads(threads)

    def _in_processes(self, jobs: Sequence[Job], workers: int) -> Iterator[object]:
        # Neither obstore's nor OpenMP's threads survive a fork.
        spawning = multiprocessing.get_context("spawn")
        numbers = spawning.SimpleQueue()
        for number in range(workers):
            numbers.put(number)
        pool = ProcessPoolExecutor(
            workers, spawning, initializer=_take_place, initargs=(numbers, self._device)
        )
        try:
            for future in as_completed([pool.submit(perform, job, self._device) for job in jobs]):
                yield future.result()
        except BrokenProcessPool as error:
            raise UserError(
                "a worker process was lost, perhaps for lack of memory; evaluate again with fewer "
                "workers; it resumes from the jobs that are done."
            ) from error
        finally:
            pool.shutdown(cancel_futures=True)


def _take_place(numbers: "SimpleQueue[int]", device: torch.device) -> None:
    """Prepare this process, and take its own of several GPUs."""
    prepare_process()
    if device.type == "cuda" and device.index is None:
        torch.cuda.set_device(numbers.get() % torch.cuda.device_count())


def prepare_process() -> None:
    """Limit this process to one thread, and leave Ctrl-C to its parent, which ends it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
