"""The scores on validation tasks during the training of runs, as far as they can be compared."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from metatrain.evaluation.validation import ValidationScores, read_validations
from metatrain.report.compared_runs import ComparedRun
from metatrain.storage.files import MissingError, is_local, read_file


class ValidationPoint(NamedTuple):
    """Scores of a run after so many training images."""

    images: int
    scores: ValidationScores


class ValidationCurve(NamedTuple):
    """A run with its validation scores over the training."""

    run: ComparedRun
    points: list[ValidationPoint]


def read_validation_curves(runs: Sequence[ComparedRun]) -> tuple[list[ValidationCurve], list[str]]:
    """Read the curves that can be compared, with a sentence about the runs that have none.

    Scores are those after all inner steps. Two curves can be compared if they are of the same tasks
    in the space of the same network.
    """
    curves, not_validated, sentences, protocol = [], [], [], {}
    for run in runs:
        points = _points(run)
        if not points:
            not_validated.append(run.name)
            continue
        run_protocol = _protocol(run)
        protocol = protocol or run_protocol
        if run_protocol == protocol:
            curves.append(ValidationCurve(run, points))
            continue
        differences = [key for key, value in run_protocol.items() if value != protocol[key]]
        sentences.append(
            f"{run.name}, validated with other {' and '.join(differences)} than "
            f"{curves[0].run.name}."
        )
    if not_validated:
        sentences.append(f"{', '.join(not_validated)}, not validated in training.")
    return curves, sentences


def _points(run: ComparedRun) -> list[ValidationPoint]:
    return [
        ValidationPoint(
            run.evaluated.images_seen(validation.step), max(validation.curve, key=lambda s: s.k)
        )
        for validation in read_validations(run.evaluated.url)
    ]


def _protocol(run: ComparedRun) -> dict[str, Any]:
    """Collect what must be equal for two curves to be comparable."""
    config = run.evaluated.model.config
    return {
        "seed": config.seed,
        "data.shots": config.data.shots,
        "validation.tasks": config.validation.tasks,
        "validation.images": config.validation.images,
        "metric network": _network(run),
    }


def _network(run: ComparedRun) -> str:
    """Hash the metric network; without its file, return what equals no other run's.

    Of one that is elsewhere the URL stands for it, since such a file is never replaced, and what a
    stranger's model names is not fetched.
    """
    folder, named = run.evaluated.url, run.evaluated.model.config.validation.network
    if named and not is_local(named):
        return named
    url = named or f"{folder}/metric.safetensors"
    try:
        return hashlib.sha256(read_file(url)).hexdigest()
    except MissingError:
        return folder
