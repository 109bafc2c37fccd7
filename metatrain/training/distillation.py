"""The runs that distil a meta-trained model: configurations like any other, one a stage."""

from collections.abc import Mapping
from typing import Any

from metatrain.config import Config, parse_config, with_values
from metatrain.learning.learners import LEARNERS
from metatrain.model.file import load_model, model_url
from metatrain.model.model import Model
from metatrain.training.lessons import refuse_teacher

# The inner steps of a student, where its teacher's learner had no inner loop that is followed by a
# query. A student adapts in as many as it was trained with.
_INNER_STEPS = 8
# Steps of the stages: each is a whole part of the one before, and draws what that draws.
_STAGES = (4, 2, 1)


def stages_of(teacher: Model, steps: int) -> list[int]:
    """Return the steps of the students between a teacher and one of `steps`, and of that one.

    Halving: a student of 4 steps comes first, and each has half the steps of the one before.
    """
    most = teacher.config.objective.sampler.steps if _is_student(teacher) else _STAGES[0] + 1
    return [stage for stage in _STAGES if steps <= stage < most] or [steps]


def _is_student(model: Model) -> bool:
    return model.config.objective.name == "distill"


def student_config(
    teacher: str,
    out: str,
    *,
    steps: int,
    data: str,
    trust: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> Config:
    """Make the configuration of a run that distils a model, which any trainer takes.

    The student begins with the teacher's weights, and adapts as its teacher's training did, in as
    many inner steps after training as in it.

    Args:
        teacher: a model file, a run's folder or a name.
        out: the run's folder.
        steps: network calls of an image.
        data: a packed data set.
        trust: whether the places that the teacher names may be read.
        overrides: further values by dotted key.

    Raises:
        UserError: when the teacher cannot be distilled, or a value is not allowed.
    """
    model, url = load_model(teacher, trust=trust), model_url(teacher)
    refuse_teacher(model, steps, url)
    before = model.config
    values = before.model_dump()
    folder, _, name = out.rstrip("/").rpartition("/")
    values["run"] = {"name": name, "dir": folder or ".", "init": url}
    values["data"] |= {"path": data}
    values["objective"] = {"name": "distill", "teacher": {"path": url}, "steps": steps}
    rate = before.inner.lr_at(before.meta.steps)
    inner: dict[str, Any] = {"lr": rate, "lr_changes": {}}
    if LEARNERS[before.learner.name].mixes or LEARNERS[before.learner.name].remembers:
        values["learner"], inner["steps"] = {"name": "fomaml"}, _INNER_STEPS
    values["inner"] |= inner
    values["adapt"] = {"steps": values["inner"]["steps"], "lr": rate}
    values["meta"] |= {"steps": 600, "warmup": 20, "ema": 0.99, "post_hoc": False}
    values["auxiliary"] = {}
    values["checkpoint"] = {"every": 100}
    values["validation"] = {}
    return with_values(parse_config(values), overrides or {})
