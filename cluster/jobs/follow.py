"""Following a job to its end: what it prints, how far it is, and what it ended with."""

import asyncio
import sys
import time
from typing import TextIO

from aiohttp import ClientError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from cluster.jobs.preflight import talking
from metatrain.base.errors import UserError

# A dashboard that is gone for so long is not waited for any more; the job goes on without it.
_PATIENCE = 60.0
_POLL = 0.5

# What the lines of a run begin with that tell how far it is; see `cluster.run.observers`.
_PROGRESS = "step "


class JobFailedError(UserError):
    """The job came to nothing; the command's exit status is its own."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class LogLines:
    """What a job prints, line by line; on a terminal, progress is one line that rewrites itself."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._rewrites = self._stream.isatty()
        self._rest, self._width = "", 0

    def feed(self, text: str) -> None:
        """Print the lines that `text` completes."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._print(line)
        self._stream.flush()

    def close(self) -> None:
        """Leave the last progress line standing, and what comes next a line of its own."""
        if self._rest:
            self.feed("\n")
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
        self._width = 0

    def _print(self, line: str) -> None:
        over = "\r" + " " * self._width + "\r" if self._width else ""
        progress = self._rewrites and line.startswith(_PROGRESS)
        self._stream.write(over + line + ("" if progress else "\n"))
        self._width = len(line) if progress else 0


def follow(client: JobSubmissionClient, job_id: str) -> None:
    """Print what the job prints until it has ended well.

    Raises:
        JobFailedError: when it failed or was stopped.
        UserError: when the dashboard is gone; the job may go on.
    """
    lines = LogLines()
    try:
        asyncio.run(_follow(client, job_id, lines))
    finally:
        lines.close()
    _judge(job_id, ended(client, job_id))


async def _follow(client: JobSubmissionClient, job_id: str, lines: LogLines) -> None:
    """Feed the log, from where it was lost whenever the connection was."""
    fed, heard = 0, time.monotonic()
    while True:
        at = 0  # every connection begins with the log's first line
        try:
            async for chunk in client.tail_job_logs(job_id):
                lines.feed(chunk[max(0, fed - at) :])
                at += len(chunk)
                fed, heard = max(fed, at), time.monotonic()
            return
        except (ClientError, RuntimeError) as error:
            if time.monotonic() - heard > _PATIENCE:
                raise UserError(
                    f"the connection to {client.get_address()} is lost ({error}); job {job_id} may "
                    f"go on without it, and the same command follows it again."
                ) from error
        await asyncio.sleep(_POLL)


def ended(client: JobSubmissionClient, job_id: str) -> JobDetails:
    """What became of the job, once something has."""
    with talking(client.get_address()):
        while not (info := client.get_job_info(job_id)).status.is_terminal():
            time.sleep(_POLL)
    return info


def _judge(job_id: str, info: JobDetails) -> None:
    again = "the same command goes on from its newest checkpoint"
    if info.status == JobStatus.STOPPED:
        raise JobFailedError(f"job {job_id} was stopped; {again}.", status=130)
    if info.status == JobStatus.FAILED:
        code = info.driver_exit_code
        reason = (info.message or "").strip().partition("\n")[0].rstrip(".")
        how = f"exit status {code}" if code else reason
        raise JobFailedError(f"job {job_id} failed ({how}); mended, {again}.", exit_status(code))


def exit_status(code: int | None) -> int:
    """A job's exit status as a shell has it: 128 and the signal's number where one ended it."""
    if not code:
        return 1
    return 128 - code if code < 0 else code
