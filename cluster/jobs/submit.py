"""Submit a run or a sweep as a job, through Ray's Jobs API; to submit it again resumes it."""

import os
import re
import shlex
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ray.job_submission import JobSubmissionClient

from cluster.addresses import dashboard_address
from cluster.jobs.follow import JobFailedError, follow, wait_for_end
from cluster.jobs.package import files_to_upload, staged
from cluster.jobs.preflight import (
    Answer,
    check_capacity,
    connect,
    dashboard_errors,
    is_starting,
    when_started,
)
from metatrain.base.errors import UserError
from metatrain.base.text import reason_of
from metatrain.config import Config, load_config


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A command for a cluster to run.

    Attributes:
        name: the stable name of the run or the sweep; a later job of the same name resumes it.
        url: the folder of the run or the sweep; no two jobs use the same one at once.
        file: the YAML file of the run or the sweep; None where there is none.
        command: the program and its arguments.
        config: the configuration of the run, or of each run of the sweep, by which the cluster's
            capacity is checked; None skips the check.
    """

    name: str
    url: str
    file: str | None
    command: Sequence[str]
    config: Config | None

    @property
    def entrypoint(self) -> str:
        """The command as one line for a shell."""
        return shlex.join(self.command)


def training_job(file: str | None, overrides: Sequence[str]) -> Submission:
    """Build the job that runs `metatrain train`.

    Raises:
        UserError: when the configuration is not valid, or not valid in a job.
    """
    config = load_config(file, overrides)
    refuse_relative("run.dir", config.run.dir)
    if config.data.url:
        refuse_relative("data.path", config.data.url)
    command = ["python", "-m", "cluster", "train", *filter(None, [file]), *overrides]
    return Submission(
        name=config.run.name, url=config.run.url, file=file, command=command, config=config
    )


def doctor_job(file: str | None, overrides: Sequence[str]) -> Submission:
    """Build the job that runs `metatrain doctor` on the cluster.

    Raises:
        UserError: as `training_job`.
    """
    if file or overrides:
        training_job(file, overrides)
    command = ["python", "-m", "cluster", "doctor", *filter(None, [file]), *overrides]
    # The doctor itself reports a cluster that is too small.
    return Submission(name="doctor", url="the examination", file=file, command=command, config=None)


def refuse_relative(key: str, url: str) -> None:
    """Refuse a path that is relative to the job's working directory, which Ray deletes.

    Args:
        key: the key of the configuration that holds the path.
        url: its value.

    Raises:
        UserError: when `url` is a relative path.
    """
    if "://" not in url and not Path(url).is_absolute():
        raise UserError(
            f"{key} is {url}, a path in the job's working directory, which is deleted after the "
            f"job; give an absolute path that all nodes share, or an fsspec URL."
        )


def submit(job: Submission, address: str | None, *, wait: bool) -> None:
    """Submit a job from the current directory.

    Args:
        job: the job.
        address: the cluster's dashboard; None takes the environment's.
        wait: whether to follow the job to its end.

    Raises:
        UserError: when a check fails; nothing has been sent then.
        JobFailedError: when the job was followed, and failed.
    """
    address = dashboard_address(address)
    files = files_to_upload(Path.cwd())
    _check_uploaded(job.file, files)
    client = connect(address)
    if job.config:
        cluster = job.config.cluster
        if warning := _ask(address, lambda: check_capacity(client, cluster)):
            print(warning)
    running_id = _ask(address, lambda: _find_running(client, job))
    job_id = running_id or _ask(address, lambda: _submit(client, job, files))
    try:
        already = " already" if running_id else ""
        print(f"Job {job_id} works on {job.url}{already}.\n{_usage(client, job_id)}", flush=True)
        if wait:
            follow(client, job_id)
    except KeyboardInterrupt as interrupt:
        _detach_or_stop(client, job_id, interrupt)


def _ask(address: str, ask: Callable[[], Answer]) -> Answer:
    """Return an answer of the cluster, which may still be starting."""

    def checked() -> Answer:
        with dashboard_errors(address):
            return ask()

    return when_started(address, checked)


def _check_uploaded(file: str | None, uploaded: Collection[Path]) -> None:
    if file and "://" not in file and Path(file) not in uploaded:
        raise UserError(
            f"{file} is not among the files that the job uploads; give its path relative to "
            f"{Path.cwd()}, git add it where that is a git checkout, and list it in neither "
            f".gitignore nor .rayignore."
        )


def _find_running(client: JobSubmissionClient, job: Submission) -> str | None:
    """Return the id of a job that already runs the same command; None where there is none.

    Raises:
        UserError: when a job runs another command on the same run or sweep.
    """
    for details in client.list_jobs():
        if details.status.is_terminal() or (details.metadata or {}).get("url") != job.url:
            continue
        assert details.submission_id
        if details.entrypoint == job.entrypoint:
            return details.submission_id
        raise UserError(
            f"job {details.submission_id} works on {job.url} with other settings "
            f"({details.entrypoint}); stop it first.\n{_usage(client, details.submission_id)}"
        )
    return None


def _submit(client: JobSubmissionClient, job: Submission, files: Mapping[Path, int]) -> str:
    """Submit a job under its name and the next number, since Ray accepts an id only once."""
    numbered = re.compile(rf"{re.escape(job.name)}-(\d+)")
    ids = [numbered.fullmatch(details.submission_id or "") for details in client.list_jobs()]
    number = 1 + max((int(match[1]) for match in ids if match), default=0)
    job_id = f"{job.name}-{number}"
    try:
        with staged(files, Path.cwd()) as folder:
            client.submit_job(
                entrypoint=job.entrypoint,
                submission_id=job_id,
                # Ray names the folder by the hash of its content, and installs nothing.
                runtime_env={"working_dir": str(folder)},
                metadata={"url": job.url},
            )
    except RuntimeError as error:
        if is_starting(error):
            raise
        raise UserError(f"the cluster refused job {job_id}: {reason_of(error)}.") from error
    return job_id


def _usage(client: JobSubmissionClient, job_id: str) -> str:
    # Ray's own command ignores RAY_AUTH_TOKEN unless RAY_AUTH_MODE says to use it.
    ray = "RAY_AUTH_MODE=token ray" if os.environ.get("RAY_AUTH_MODE") == "token" else "ray"
    target = f"{job_id} --address {client.get_address()}"
    return (
        f"  to follow it: {ray} job logs --follow {target}\n  to stop it:   {ray} job stop {target}"
    )


def _detach_or_stop(
    client: JobSubmissionClient, job_id: str, interrupt: KeyboardInterrupt
) -> NoReturn:
    """Ask whether an interrupted follower leaves the job running or stops it."""
    if not _wants_to_stop(job_id):
        interrupt.args = (f"job {job_id} keeps running; see above how to stop it",)
        raise interrupt
    client.stop_job(job_id)
    print(f"Stopping job {job_id} ...", flush=True)
    details = wait_for_end(client, job_id)
    raise JobFailedError(f"job {job_id} is {details.status.lower()}.", status=130)


def _wants_to_stop(job_id: str) -> bool:
    """Ask on the terminal; without a terminal the job keeps running."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        answer = input(f"\nDetach from job {job_id}, or stop it? [d/s, default d] ")
    except (EOFError, KeyboardInterrupt):
        return False
    return answer.strip().lower().startswith("s")
