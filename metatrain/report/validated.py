"""What runs scored on validation tasks while they trained, as far as it can be compared."""

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from metatrain.evaluation.validation import ValidationScores, read_validations
from metatrain.report.contenders import Contender
from metatrain.storage.files import MissingError, read_file


class Look(NamedTuple):
    """A run at one moment of its training: images seen until then, and its scores."""

    images: int
    scores: ValidationScores


class Course(NamedTuple):
    """A run with all looks at it."""

    of: Contender
    looks: list[Look]


def read_courses(contenders: Sequence[Contender]) -> tuple[list[Course], list[str]]:
    """The courses that can be compared, and what to say of runs that have none.

    They are after all of a run's inner steps, and comparable where they are of the same tasks, in
    the space of the same network.
    """
    courses, without, missing, judge = [], [], [], {}
    for contender in contenders:
        looks = _looks(contender)
        if not looks:
            without.append(contender.name)
            continue
        own = _judge(contender)
        judge = judge or own
        if own == judge:
            courses.append(Course(contender, looks))
            continue
        other = " and ".join(key for key, value in own.items() if value != judge[key])
        missing.append(f"{contender.name}, validated with other {other} than {courses[0].of.name}.")
    if without:
        missing.append(f"{', '.join(without)}, not validated in training.")
    return courses, missing


def _looks(contender: Contender) -> list[Look]:
    run = contender.run
    return [
        Look(run.images_seen(found.step), max(found.curve, key=lambda scores: scores.k))
        for found in read_validations(run.url)
    ]


def _judge(contender: Contender) -> dict[str, Any]:
    """What must be the same for two courses to be compared."""
    config = contender.run.model.config
    return {
        "seed": config.seed,
        "data.shots": config.data.shots,
        "validation.tasks": config.validation.tasks,
        "validation.images": config.validation.images,
        "metric network": _network(contender),
    }


def _network(contender: Contender) -> str:
    """The sha256 of the metric network; where it is gone, what is no other run's."""
    run = contender.run
    url = run.model.config.validation.network or f"{run.url}/metric.safetensors"
    try:
        return hashlib.sha256(read_file(url)).hexdigest()
    except MissingError:
        return run.url
