"""What to expect of a support, told to a person before anything is drawn of it."""

from torch import Tensor

from metatrain.data.examples import Examples
from metatrain.model.calibration import CONFIDENCE, UNFAMILIAR, Calibration
from metatrain.model.file import Model
from metatrain.model.surprise import surprise


def warning(model: Model, support: Examples) -> str | None:
    """A line on a support that is unlike what the model was trained on; else None."""
    if (known := _calibration(model, support)) is None:
        return None
    familiarity = known.familiarity(_surprise(model, support, known))
    if familiarity >= UNFAMILIAR:
        return None
    return (
        f"Warning: these images are unlike what the model was trained on (as much as "
        f"{familiarity:.1%} of unseen tasks); drawings may be poor, and no expectation holds."
    )


def expectation(model: Model, support: Examples, adapted: Model) -> str:
    """A line on the quality to expect of `adapted`, which `model` became by `support`.

    Of a model that was not calibrated, or a support that is too small, that nothing is known.
    """
    if (known := _calibration(model, support)) is None:
        return _nothing_known(model, support)
    before = _surprise(model, support, known)
    learned = before.mean() - _surprise(adapted, support, known).mean()
    expected = known.expected(before, learned)
    return (
        f"Of what is drawn, expect {expected.value:.0%} to be nearest to this task among "
        f"{len(known.own_task)} unseen ones of {known.benchmark} ({expected.low:.0%} to "
        f"{expected.high:.0%} for {CONFIDENCE:.0%} of such tasks)."
    )


def _calibration(model: Model, support: Examples) -> Calibration | None:
    """The model's, if it tells anything of such a support."""
    known = model.calibration
    if known and known.model == model.sha256 and known.shots <= len(support):
        return known
    return None


def _nothing_known(model: Model, support: Examples) -> str:
    known = model.calibration
    if known and known.model == model.sha256:
        return (
            f"What to expect of {len(support)} images is not known; this model is calibrated with "
            f"{known.shots}."
        )
    return (
        "What to expect of these images is not known; metatrain calibrate CHECKPOINT "
        "puts what that takes into the model."
    )


def _surprise(model: Model, support: Examples, known: Calibration) -> Tensor:
    """At as many images as it was calibrated with: of more it would be less surprised."""
    return surprise(model.generator(), support[: known.shots])
