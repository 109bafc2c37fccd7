"""Shipping: from a finished run to a model file and a card that others can rely on.

The model is rounded first. As it then is, it is calibrated on tasks of the split val, and evaluated
on those of the split test, so that the card's scores are those of the very file.
"""

import re
from contextlib import suppress

from metatrain.base.checkout import checked_out_commit
from metatrain.base.errors import UserError
from metatrain.data.check import DataCard, check
from metatrain.data.packed.store import EpisodeStore
from metatrain.evaluation.calibrate import calibrated, calibration_protocol
from metatrain.evaluation.candidates import (
    Candidate,
    read_candidates,
    with_folders,
)
from metatrain.evaluation.results import Evaluation
from metatrain.evaluation.running.runner import Runner
from metatrain.evaluation.single import evaluate_one
from metatrain.model.model import Model
from metatrain.model.named import ENDING, FILE
from metatrain.model.portable import portable
from metatrain.report.card import CardInputs, model_card
from metatrain.storage.files import MissingError, read_file, write_file
from metatrain.storage.lease import leases
from metatrain.training.checkpoint import CheckpointStore
from metatrain.training.run_data import RUN_MANIFEST

# Lies with data whose licences ask for it.
_ATTRIBUTION = "ATTRIBUTION.md"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def ship(
    model: Model,
    *,
    name: str,
    run: str,
    data: str,
    out: str,
    tasks: int,
    seeds: int,
    runner: Runner,
    about: str | None = None,
    wait: bool = False,
) -> tuple[str, str]:
    """Write a model's file and card; run again, it resumes from the jobs that are done.

    Args:
        model: the model of the run, not adapted.
        name: its name to others.
        run: the run's folder; what is computed goes to `shipped`/`name` in it.
        data: the packed data set.
        out: the folder of the two files.
        tasks: at most so many tasks to calibrate on, and to evaluate on.
        seeds: at most so many seeds of each.
        runner: runs the jobs.
        about: the first sentence of the card.
        wait: wait until another process that does the same has ended, in place of an error.

    Returns:
        The URLs of the file and the card.

    Raises:
        HeldError: when another process does the same.
        UserError: when an input cannot be used.
    """
    if not _NAME.fullmatch(name):
        raise UserError(f"'{name}' cannot be a name; use letters, digits, '.', '_' and '-'.")
    folder, store = f"{run}/shipped/{name}", EpisodeStore(data)
    card = check(store.url)
    if card.faults:
        raise UserError(f"{data} is not whole: {card.faults[0]}")
    with leases([folder], "ships", wait=wait):
        portable(model, name).save(f"{folder}/{FILE}")
        with suppress(MissingError):
            write_file(f"{folder}/{RUN_MANIFEST}", read_file(f"{run}/{RUN_MANIFEST}"))
        candidate = _candidate(folder, store)
        protocol = calibration_protocol(store, candidate, tasks=tasks, seeds=seeds, network=None)
        calibrated(protocol, candidate, runner).save(f"{folder}/{FILE}")
        candidate = _candidate(folder, store)
        evaluation = evaluate_one(candidate, store, runner, split="test", tasks=tasks, seeds=seeds)
        return _write(out, name, candidate, evaluation, card, run, about)


def _candidate(folder: str, store: EpisodeStore) -> Candidate:
    [candidate] = with_folders(read_candidates([folder], trust=True), store, None)
    return candidate


def _write(
    out: str,
    name: str,
    candidate: Candidate,
    evaluation: Evaluation,
    data: DataCard,
    run: str,
    about: str | None,
) -> tuple[str, str]:
    file = candidate.model.to_bytes()
    card = model_card(
        CardInputs(
            model=candidate.model,
            evaluation=evaluation,
            data=data,
            attribution=_attribution(data.url),
            history=CheckpointStore(run).history(),
            bytes=len(file),
            commit=checked_out_commit(),
            about=about,
        )
    )
    urls = f"{out}/{name}{ENDING}", f"{out}/{name}.md"
    write_file(urls[0], file)
    write_file(urls[1], card.encode())
    return urls


def _attribution(data: str) -> str | None:
    try:
        return read_file(f"{data.rstrip('/')}/{_ATTRIBUTION}").decode()
    except MissingError:
        return None
