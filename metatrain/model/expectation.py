"""Predictions about a support, as sentences: whether it is familiar, and what quality to expect."""

from torch import Tensor

from metatrain.base.errors import MissingStepError, UserError
from metatrain.base.text import counted, printable
from metatrain.data.examples import Examples
from metatrain.model.calibration import UNFAMILIAR, Calibration
from metatrain.model.forecast import CONFIDENCE
from metatrain.model.model import Model
from metatrain.model.surprise import surprise


def warning(model: Model, support: Examples) -> str | None:
    """Return a line on a support that is unlike the model's training tasks; None for another.

    None too where the model is not calibrated for supports of this size.
    """
    calibration = _calibration(model)
    if calibration is None or calibration.shots > len(support):
        return None
    familiarity = calibration.familiarity(_surprise(model, support, calibration))
    if familiarity >= UNFAMILIAR:
        return None
    return (
        f"Warning: these images are unlike the training tasks (only {familiarity:.1%} of unseen "
        f"tasks are as unlike them); samples may be poor, and no expectation holds."
    )


def expectation(model: Model, support: Examples, adapted: Model) -> str:
    """Return a line on the quality to expect of `adapted`, the model after adaptation to `support`.

    Raises:
        MissingStepError: when the model is not calibrated.
        UserError: when it is calibrated with more images than `support` has.
    """
    calibration = _calibration(model)
    if calibration is None:
        raise MissingStepError(
            "the quality to expect is not known, since this model is not calibrated; calibrate it "
            "first.",
            step="calibrate",
        )
    if calibration.shots > len(support):
        raise UserError(
            f"the quality to expect of {counted(len(support), 'image')} is not known; this model "
            f"is calibrated with {calibration.shots}."
        )
    forecast, tasks = calibration.forecast(), calibration.extent.tasks
    if not forecast.foresees:
        return (
            f"The quality to expect of these images cannot be foreseen: on {tasks} unseen tasks of "
            f"{printable(calibration.benchmark)}, the model's losses did not tell which it draws "
            f"well."
        )
    before = _surprise(model, support, calibration)
    learned = before.mean() - _surprise(adapted, support, calibration).mean()
    expected = forecast.expected(before, learned)
    return (
        f"Expect {expected.value:.0%} of the samples to be nearest to this task among "
        f"{tasks} unseen tasks of {printable(calibration.benchmark)} "
        f"({expected.low:.0%} to {expected.high:.0%} for {CONFIDENCE:.0%} of such tasks)."
    )


def _calibration(model: Model) -> Calibration | None:
    """Return the calibration, if it is of this very model."""
    calibration = model.calibration
    return calibration if calibration and calibration.model == model.sha256 else None


def _surprise(model: Model, support: Examples, calibration: Calibration) -> Tensor:
    # With more images than at calibration, the model would be less surprised.
    images = support[: calibration.shots].to(model.device)
    features = surprise(model.generator(), images).cpu()
    if features.shape != calibration.surprise.shape[1:]:
        raise UserError("this model is calibrated by other features; calibrate it again.")
    return features
