"""A sweep as a job: what `metatrain submit --sweep` submits."""

from collections.abc import Sequence

from cluster.jobs.submit import Job, refuse_relative
from tuning.config import load_sweep


def sweeping(file: str, overrides: Sequence[str]) -> Job:
    """A sweep, as `metatrain sweep` takes it.

    Raises:
        UserError: when it cannot be used, or not in a job.
    """
    chosen = load_sweep(file, overrides)
    settings = chosen.settings
    refuse_relative("dir", settings.dir)
    refuse_relative("data.path", chosen.base.data.path)
    command = ["python", "-m", "tuning", "sweep", file, *overrides]
    return Job(name=settings.name, url=settings.url, file=file, command=command, config=chosen.base)
