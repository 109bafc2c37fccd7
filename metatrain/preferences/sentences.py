"""An outcome in sentences."""

import math

from metatrain.base.text import counted
from metatrain.preferences.prefer import Outcome
from metatrain.preferences.share import Share


def sentences(outcome: Outcome) -> list[str]:
    """Tell what choices taught: the rater's consistency, and who foresaw what was held out."""
    (method, foreseen), *rivals = outcome.foreseen.items()
    return [
        _consistency(outcome.consistency),
        f"Held-out choices that {method} foresaw: {foreseen}{_verdict(foreseen)}",
        *(f"Beside it, {name}: {share}." for name, share in rivals),
        _taken(outcome),
    ]


def _consistency(share: Share) -> str:
    if math.isnan(share.value):
        return "No pair was answered twice, so how consistent the rater is stays unknown."
    return f"Repeated pairs that had the same answer again: {share}."


def _verdict(share: Share) -> str:
    return ", better than chance." if share.beats_chance else ", which chance may explain."


def _taken(outcome: Outcome) -> str:
    pairs = counted(outcome.pairs, "pair")
    if not outcome.steps:
        return f"No step on {pairs} foresaw held-out choices better than the model as it was."
    return f"Took {counted(outcome.steps, 'step')} on {pairs}, by the held-out choices."
