"""What to expect of a support, told to a person before anything is drawn of it."""

from torch import Tensor

from metatrain.calibration import CONFIDENCE, UNFAMILIAR
from metatrain.model import Model


def expectation(model: Model, support: Tensor) -> str:
    """A line on the quality to expect after adapting to `support` [K, C, H, W].

    And, above it, a warning where the support is unlike what the model was trained on. Of a model
    that was not calibrated, or a support that is too small, that nothing is known.
    """
    found = model.calibration
    if found is None or found.model != model.sha256:
        return (
            "What to expect of these images is not known; metatrain evaluate calibrate CHECKPOINT "
            "puts what that takes into the model."
        )
    if len(support) < found.shots:
        return (
            f"What to expect of {len(support)} images is not known; this model is calibrated with "
            f"{found.shots}."
        )
    # As many as it was calibrated with: of more it would be less surprised.
    surprise = model.generator().surprise(support[: found.shots])
    familiarity, expected = found.familiarity(surprise), found.expected(surprise)
    lines = [
        f"Of what is drawn, expect {expected.value:.0%} to be nearest to this task among "
        f"{len(found.own_task)} unseen ones of {found.benchmark} ({expected.low:.0%} to "
        f"{expected.high:.0%} for {CONFIDENCE:.0%} of such tasks)."
    ]
    if familiarity < UNFAMILIAR:
        lines.insert(
            0,
            f"Warning: these images are unlike what the model was trained on (as much as "
            f"{familiarity:.1%} of unseen tasks); drawings may be poor, and no expectation holds.",
        )
    return "\n".join(lines)
