"""The runs that distil a model: configurations like any other, one a stage."""

from collections.abc import Mapping
from typing import Any

from metatrain.config import Config, parse_config
from metatrain.config.layers import nested, overlaid
from metatrain.generators.objectives.sections import DistillConfig
from metatrain.model.model import Model
from metatrain.training.lessons import refuse_teacher

# The inner steps of a student whose teacher's learner has none that a query of its own follows.
_INNER_STEPS = 8
# The steps of students, each of which draws in half the steps of the one before.
_HALVING = (4, 2, 1)


def stages_of(teacher: Model, steps: int) -> list[int]:
    """Return the steps of the students to train one after the other, down to `steps`.

    A student has students of fewer steps alone; where it cannot have one, `steps` is what is left.
    """
    objective = teacher.config.objective
    is_student = isinstance(objective, DistillConfig)
    stages = [s for s in _HALVING if s >= steps and not (is_student and s >= objective.steps)]
    return stages or [steps]


def student_config(
    teacher: Model,
    url: str,
    out: str,
    *,
    steps: int,
    data: str | None,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Make the configuration of a run that distils a model, which any trainer takes.

    The student begins with the teacher's weights, and adapts as in the teacher's training, in as
    many inner steps after its training as in it.

    Args:
        teacher: the model.
        url: its file.
        out: the run's folder.
        steps: network calls of an image.
        data: a packed data set; None for a task source without one.
        overrides: further values by dotted key.

    Raises:
        UserError: when the teacher cannot be distilled, or a value is not allowed.
    """
    refuse_teacher(teacher, steps, url)
    before = teacher.config
    values, learner = before.model_dump(mode="json"), before.learner
    folder, _, name = out.rstrip("/").rpartition("/")
    values["run"] = {"name": name, "dir": folder or ".", "init": url}
    values["data"] |= {} if data is None else {"path": data}
    if not teacher.trusted:
        # A folder of a stranger's choice is neither written nor cleared.
        values["data"]["cache_dir"] = None
    values["objective"] = {"name": "distill", "teacher": {"path": url}, "steps": steps}
    rate = before.inner.lr_at(before.meta.steps)
    values["inner"] |= {"lr": rate, "lr_changes": {}}
    if learner.mixes or learner.remembers:
        values["learner"] = {"name": "fomaml"}
        values["inner"]["steps"] = _INNER_STEPS
    values["adapt"] = {"steps": values["inner"]["steps"], "lr": rate}
    values["meta"] |= {"steps": 600, "warmup": 20, "ema": 0.99, "post_hoc": False}
    values |= {"auxiliary": {}, "checkpoint": {"every": 100}, "validation": {}}
    # Laid over plain values, so that other steps to learn are other steps to sample in, too.
    return parse_config(overlaid(values, nested(overrides or {})))
