"""A sweep as a job, for `metatrain submit --sweep`."""

from collections.abc import Sequence

from cluster.jobs.submit import Submission, refuse_relative
from tuning.config import load_sweep


def sweep_job(file: str | None, overrides: Sequence[str]) -> Submission:
    """Build the job of a sweep, from the arguments of `metatrain sweep`.

    Raises:
        UserError: when the sweep is not valid, or has paths that a job cannot use.
    """
    sweep = load_sweep(file, overrides)
    settings = sweep.settings
    refuse_relative("dir", settings.dir)
    if sweep.base.data.url:
        refuse_relative("data.path", sweep.base.data.url)
    command = ["python", "-m", "tuning", "sweep", *filter(None, [file]), *overrides]
    return Submission(
        name=settings.name, url=settings.url, file=file, command=command, config=sweep.base
    )
