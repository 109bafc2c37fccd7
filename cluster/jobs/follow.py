"""Follow a job to its end: print its log and its progress, and return its exit status."""

import asyncio
import re
import sys
import time
from typing import TextIO

from aiohttp import ClientError
from ray.job_submission import JobDetails, JobStatus, JobSubmissionClient

from cluster.jobs.preflight import dashboard_errors
from metatrain.base.errors import UserError
from metatrain.base.text import printable

# Seconds after which a dashboard that does not answer is given up; the job keeps running.
_CONNECTION_TIMEOUT = 60.0
_POLL_SECONDS = 0.5

# A line of progress behind its time; see `cluster.run.observers` and `metatrain.base.progress`.
_PROGRESS_LINE = re.compile(r"([-\d]+ [:\d]+ )?(step \d|[^:]+: [\d,]+/[\d,]+, [^:]+, ETA )")


class JobFailedError(UserError):
    """A job that failed or was stopped; the command exits with the job's status."""

    def __init__(self, sentence: str, status: int) -> None:
        super().__init__(sentence)
        self.status = status


class LogLines:
    """Printer of a job's log; on a terminal, progress lines overwrite each other."""

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = sys.stdout if stream is None else stream
        self._overwrites = self._stream.isatty()
        self._rest, self._width = "", 0

    def feed(self, text: str) -> None:
        """Print the lines that `text` completes."""
        *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._print(line)
        self._stream.flush()

    def close(self) -> None:
        """Keep the last progress line, and start a new line for further output."""
        if self._rest:
            self.feed("\n")
        if self._width:
            self._stream.write("\n")
            self._stream.flush()
        self._width = 0

    def _print(self, line: str) -> None:
        erase = "\r" + " " * self._width + "\r" if self._width else ""
        progress = self._overwrites and _PROGRESS_LINE.match(line)
        self._stream.write(erase + line + ("" if progress else "\n"))
        self._width = len(line) if progress else 0


def follow(client: JobSubmissionClient, job_id: str) -> None:
    """Print a job's log until the job has succeeded.

    Raises:
        JobFailedError: when the job failed or was stopped.
        UserError: when the dashboard is gone; the job may still run.
    """
    lines = LogLines()
    try:
        asyncio.run(_follow(client, job_id, lines))
    finally:
        lines.close()
    _check_succeeded(job_id, wait_for_end(client, job_id))


async def _follow(client: JobSubmissionClient, job_id: str, lines: LogLines) -> None:
    """Feed the log to `lines`; after a lost connection, continue behind the last character fed."""
    fed, last_contact = 0, time.monotonic()
    while True:
        position = 0  # every connection starts with the log's first line
        try:
            async for chunk in client.tail_job_logs(job_id):
                lines.feed(chunk[max(0, fed - position) :])
                position += len(chunk)
                fed, last_contact = max(fed, position), time.monotonic()
            return
        except (ClientError, RuntimeError) as error:
            if time.monotonic() - last_contact > _CONNECTION_TIMEOUT:
                raise UserError(
                    f"the connection to {client.get_address()} is lost ({error}); job {job_id} may "
                    f"still run, and the same command follows it again."
                ) from error
        await asyncio.sleep(_POLL_SECONDS)


def wait_for_end(client: JobSubmissionClient, job_id: str) -> JobDetails:
    """Wait until a job has ended, and return its details."""
    with dashboard_errors(client.get_address()):
        while not (details := client.get_job_info(job_id)).status.is_terminal():
            time.sleep(_POLL_SECONDS)
    return details


def _check_succeeded(job_id: str, details: JobDetails) -> None:
    resume = "the same command resumes from its newest checkpoint"
    if details.status == JobStatus.STOPPED:
        raise JobFailedError(f"job {job_id} was stopped; {resume}.", status=130)
    if details.status == JobStatus.FAILED:
        code = details.driver_exit_code
        reason = f"exit status {code}" if code else printable(details.message or "").strip(" .")
        raise JobFailedError(
            f"job {job_id} failed ({reason}); fix the cause, and {resume}.", exit_status(code)
        )


def exit_status(code: int | None) -> int:
    """Convert a job's exit code to a shell's: 128 plus the signal's number where one ended it."""
    if not code:
        return 1
    return 128 - code if code < 0 else code
