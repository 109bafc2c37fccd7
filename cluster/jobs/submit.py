"""Submitting a run or a sweep as a job, by Ray's Jobs API, so that submitting again resumes."""

import os
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from ray.job_submission import JobSubmissionClient

from cluster.jobs.follow import JobFailedError, ended, follow
from cluster.jobs.package import files_to_ship
from cluster.jobs.preflight import address_of, check_size, connect, talking
from metatrain.base.errors import UserError
from metatrain.config import Config, load_config


@dataclass(frozen=True)
class Work:
    """What a job is to do.

    Attributes:
        name: of the run or the sweep, stable, so that the same name goes on with it.
        url: where it lies; no two jobs work on the same at once.
        file: the YAML file that says what it is; None where there is none.
        command: what the job runs.
        config: of the run, or of each of the sweep's; None where any cluster is large enough.
    """

    name: str
    url: str
    file: str | None
    command: Sequence[str]
    config: Config | None

    @property
    def entrypoint(self) -> str:
        """The command as a shell takes it."""
        return shlex.join(self.command)


def training(file: str, overrides: Sequence[str]) -> Work:
    """A training run, as `metatrain train` takes it.

    Raises:
        UserError: when the configuration cannot be used, or not in a job.
    """
    config = load_config(file, overrides)
    refuse_relative("run.dir", config.run.dir)
    if config.data.url:
        refuse_relative("data.path", config.data.url)
    command = ["python", "-m", "cluster", "train", file, *overrides]
    return Work(config.run.name, config.run.url, file, command, config)


def examination(file: str | None, overrides: Sequence[str]) -> Work:
    """What `metatrain doctor` does, on the cluster itself.

    Raises:
        UserError: as `training`.
    """
    if file:
        training(file, overrides)
    given = [file, *overrides] if file else []
    command = ["python", "-m", "cluster", "doctor", *given]
    # A cluster that is too small is one of its findings.
    return Work("doctor", "the examination", file, command, None)


def refuse_relative(key: str, url: str) -> None:
    """A job's working directory is a copy of its own, which Ray removes some time after.

    Raises:
        UserError: when `url`, the value of `key`, is to be looked for there.
    """
    if "://" not in url and not Path(url).is_absolute():
        raise UserError(
            f"{key} is {url}, which a job would look for in its working directory, that is thrown "
            f"away after it; give a path that all nodes share, from its root on, or an fsspec URL."
        )


def submit(work: Work, address: str | None, *, wait: bool) -> None:
    """Submit `work` to the cluster at `address`, from the current directory.

    Args:
        work: what to do.
        address: of the cluster's dashboard; None for what the environment says.
        wait: whether to follow the job to its end.

    Raises:
        UserError: when something is wrong, which is found before anything is sent.
        JobFailedError: when the job was followed, and failed.
    """
    address = address_of(address)
    folder = Path.cwd()
    _find_in_package(work.file, files_to_ship(folder))
    client = connect(address)
    with talking(address):
        warning = work.config and check_size(client, work.config.cluster)
        if warning:
            print(warning)
        running = _running(client, work)
        job_id = running or _submit(client, work, folder)
    try:
        already = " already" if running else ""
        print(f"Job {job_id} works on {work.url}{already}.\n{_how_to(client, job_id)}", flush=True)
        if wait:
            follow(client, job_id)
    except KeyboardInterrupt:
        _detach_or_stop(client, job_id)


def _find_in_package(file: str | None, shipped: dict[Path, int]) -> None:
    if file and "://" not in file and Path(file) not in shipped:
        raise UserError(
            f"{file} is not among the files that the job carries along; give it by its path from "
            f"{Path.cwd()}, and list it in neither .gitignore nor .rayignore."
        )


def _running(client: JobSubmissionClient, work: Work) -> str | None:
    """The job that does just this already; None where there is none.

    Raises:
        UserError: when one does something else with the same run.
    """
    for info in client.list_jobs():
        if info.status.is_terminal() or (info.metadata or {}).get("url") != work.url:
            continue
        assert info.submission_id
        if info.entrypoint == work.entrypoint:
            return info.submission_id
        raise UserError(
            f"job {info.submission_id} works on {work.url} with other settings "
            f"({info.entrypoint}); stop it first.\n{_how_to(client, info.submission_id)}"
        )
    return None


def _submit(client: JobSubmissionClient, work: Work, folder: Path) -> str:
    """A submission id belongs to one job for ever, so that each of a run's jobs has a number."""
    named = re.compile(rf"{re.escape(work.name)}-(\d+)")
    ids = [named.fullmatch(info.submission_id or "") for info in client.list_jobs()]
    number = 1 + max((int(found[1]) for found in ids if found), default=0)
    job_id = f"{work.name}-{number}"
    try:
        client.submit_job(
            entrypoint=work.entrypoint,
            submission_id=job_id,
            # By the hash of its content; nothing is installed when the job starts.
            runtime_env={"working_dir": str(folder)},
            metadata={"url": work.url},
        )
    except RuntimeError as error:
        reason = str(error).strip(" .\n").rpartition("\n")[2]
        raise UserError(f"the cluster refused job {job_id}: {reason}.") from error
    return job_id


def _how_to(client: JobSubmissionClient, job_id: str) -> str:
    # Of itself, Ray's own command takes no notice of RAY_AUTH_TOKEN.
    ray = "RAY_AUTH_MODE=token ray" if os.environ.get("RAY_AUTH_MODE") == "token" else "ray"
    at = f"{job_id} --address {client.get_address()}"
    return f"  to follow it: {ray} job logs --follow {at}\n  to stop it:   {ray} job stop {at}"


def _detach_or_stop(client: JobSubmissionClient, job_id: str) -> NoReturn:
    """What becomes of a job whose follower is interrupted, as whoever did that decides."""
    if not _wants_to_stop(job_id):
        raise KeyboardInterrupt(f"job {job_id} goes on without you; see above how to stop it")
    client.stop_job(job_id)
    print(f"Stopping job {job_id} ...", flush=True)
    info = ended(client, job_id)
    raise JobFailedError(f"job {job_id} is {info.status.lower()}.", status=130)


def _wants_to_stop(job_id: str) -> bool:
    """What a person at a terminal answers; without one, nothing is stopped."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        return False
    try:
        answer = input(f"\nDetach from job {job_id}, or stop it? [d/s, d is usual] ")
    except (EOFError, KeyboardInterrupt):
        return False
    return answer.strip().lower().startswith("s")
