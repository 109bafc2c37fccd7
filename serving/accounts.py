"""Clients, each with the adaptations that it alone sees, and its share of the server."""

from concurrent.futures import Future
from pathlib import Path
from typing import Any

from starlette.requests import Request

from serving.adaptations import Adaptation, Adaptations
from serving.disk import Disk
from serving.limits import Places, Quota, RequestError
from serving.worker import Job, Result, Worker

_KEY = "metatrain.account"


class Account:
    """A client of the server.

    Nothing leads from one account to the adaptations of another.

    Args:
        folder: of its adaptations.
        quota: its share.
        disk: where the files lie; by default on this machine.
        resumes: whether adaptations that the end of a server interrupted wait again.

    Attributes:
        adaptations: its adaptations.
        uploads: places for its requests with images.
        listeners: places for its streams of events.
    """

    def __init__(
        self, folder: Path, quota: Quota, *, disk: Disk | None = None, resumes: bool = False
    ) -> None:
        self.adaptations = Adaptations(folder, quota, disk=disk, resumes=resumes)
        self.uploads = Places(quota.uploads, "uploads of yours")
        self.listeners = Places(quota.listeners, "streams of events of yours")
        self._most = quota.jobs
        self._jobs: list[Future[Any]] = []

    def submit(self, worker: Worker, job: Job[Result], *, bounded: bool = True) -> "Future[Result]":
        """Add a job; for the thread of the event loop alone.

        Args:
            worker: what computes it.
            job: the job.
            bounded: whether to refuse it when there are too many.

        Raises:
            RequestError: when there are too many jobs, of this account or of all.
        """
        if bounded:
            self.refuse_more(worker)
        future = worker.submit(job, bounded=bounded)
        self._jobs.append(future)
        return future

    def refuse_more(self, worker: Worker) -> None:
        """Refuse another job when there are too many.

        Raises:
            RequestError: when there are.
        """
        self._jobs = [job for job in self._jobs if not job.done()]
        if len(self._jobs) >= self._most:
            raise RequestError(
                429,
                f"{len(self._jobs)} jobs of yours wait already, and no more may; try again in a "
                f"while.",
                retry_after=5,
            )
        worker.refuse_more()


def account_of(request: Request) -> Account:
    """Return the account whose token came with a request."""
    return request.scope[_KEY]


def adaptation_of(request: Request) -> Adaptation:
    """Return the adaptation that the path of a request names.

    Raises:
        RequestError: when its account has none of this id.
    """
    return account_of(request).adaptations[request.path_params["id"]]


def adapted_of(request: Request) -> Adaptation:
    """Return the adaptation that the path of a request names, once it has a model.

    Raises:
        RequestError: when it has none yet, or there is none of this id.
    """
    adaptation = adaptation_of(request)
    if adaptation.record.state != "done":
        raise RequestError(409, "this adaptation has no model yet; wait until its state is done.")
    return adaptation


def with_account(scope: Any, account: Account) -> Any:
    """Return the scope of a request that an account may make."""
    return {**scope, _KEY: account}
