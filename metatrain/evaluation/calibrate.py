"""Calibrating a model: what it does on unseen tasks is put into its file, to be told of others."""

from dataclasses import replace

from metatrain.base.errors import UserError
from metatrain.evaluation.candidates import Candidate
from metatrain.evaluation.protocol import Protocol
from metatrain.evaluation.running.jobs import outcomes
from metatrain.evaluation.running.runner import Runner, do_all
from metatrain.model.file import Model
from metatrain.storage.files import asking, filesystem_of
from metatrain.training.checkpoint.index import INDEX


def calibrated(protocol: Protocol, candidate: Candidate, runner: Runner) -> Model:
    """The model of `candidate` with its calibration on the episodes of `protocol`.

    Raises:
        UserError: when any of the work fails; what was done is kept.
    """
    works = protocol.works(candidate.system, candidate.folder)
    do_all(works, runner)
    calibration = protocol.calibration(candidate.system, outcomes(works))
    return replace(candidate.model, calibration=calibration)


def refuse_checkpoints(url: str) -> None:
    """That the file `url` is none of a checkpoint, of which nothing may change.

    Raises:
        UserError: when it is.
    """
    folder = url.rpartition("/")[0] or "."
    fs, path = filesystem_of(f"{folder}/{INDEX}")
    if asking(folder, lambda: fs.exists(path)):
        raise UserError(f"{url} is part of a checkpoint and stays as it is; give --out, a file.")
