"""A sweep as a job: what `metatrain submit --sweep` submits."""

from collections.abc import Sequence

from cluster.jobs.submit import Work, refuse_relative
from tuning.config import load_sweep


def sweeping(file: str, overrides: Sequence[str]) -> Work:
    """A sweep, as `metatrain sweep` takes it.

    Raises:
        UserError: when it cannot be used, or not in a job.
    """
    chosen = load_sweep(file, overrides)
    settings = chosen.settings
    refuse_relative("dir", settings.dir)
    if chosen.base.data.url:
        refuse_relative("data.path", chosen.base.data.url)
    command = ["python", "-m", "tuning", "sweep", file, *overrides]
    return Work(settings.name, settings.url, file, command, chosen.base)
