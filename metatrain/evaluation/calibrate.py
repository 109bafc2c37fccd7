"""Calibration: a model's behaviour on unseen tasks, kept in its file to predict that on others."""

from dataclasses import replace

from metatrain.base.errors import UserError
from metatrain.evaluation.candidates import Candidate
from metatrain.evaluation.protocol import Protocol
from metatrain.evaluation.running.jobs import read_outputs
from metatrain.evaluation.running.runner import Runner, run_jobs
from metatrain.model.model import Model
from metatrain.storage.files import exists
from metatrain.training.checkpoint.index import INDEX


def calibrated(protocol: Protocol, candidate: Candidate, runner: Runner) -> Model:
    """Return the candidate's model with its calibration on the episodes of `protocol`.

    Raises:
        UserError: when a job fails; the outputs so far are kept.
    """
    jobs = protocol.jobs(candidate.system, candidate.folder)
    run_jobs(jobs, runner)
    calibration = protocol.calibration(candidate.system, read_outputs(jobs))
    return replace(candidate.model, calibration=calibration)


def refuse_checkpoints(url: str) -> None:
    """Check that the file `url` is not part of a checkpoint, which must not change.

    Raises:
        UserError: when it is.
    """
    folder = url.rpartition("/")[0] or "."
    if exists(f"{folder}/{INDEX}"):
        raise UserError(
            f"{url} is part of a checkpoint, which must not change; write the calibrated model to "
            f"another file."
        )
