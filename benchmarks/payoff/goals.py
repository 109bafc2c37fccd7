"""The goals of meta-learning at one budget, and whether they are met."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from benchmarks.payoff.groups import (
    HOG_KID,
    KID,
    MEMORISED,
    OWN_TASK,
    Group,
    compared,
    need,
)
from benchmarks.payoff.plan import JOINT, SCRATCH
from benchmarks.payoff.tables import difference_text, ratio_text
from metatrain.evaluation.scores.statistics import Score

# Goals are set for budgets from here on.
_LEAST_TFLOP = 20.0
_STEPS, _EXCESS, _SHARE, _HOG_KID = 24, 0.5, 0.95, 0.115


class Goal(NamedTuple):
    """A goal, the measurement, and whether that meets it."""

    title: str
    measured: str
    met: bool


def goals_text(groups: Sequence[Group], real: Mapping[str, dict[str, Score]]) -> str:
    """List the goals of every meta-learner at a budget that has goals, met or missed."""
    lines = []
    for group, joint in compared(groups):
        if group.method in (JOINT, SCRATCH) or group.tflop < _LEAST_TFLOP:
            continue
        scratch = [g for g in groups if g.data == group.data and g.method == SCRATCH]
        lines.append(f"**{group.data}, {group.method}, {group.tflop:g} TFLOP**\n")
        goals = _goals(group, joint, scratch, real[group.data])
        lines += [f"- {'met' if g.met else 'missed'}: {g.title}: {g.measured}" for g in goals]
        lines.append("")
    if not lines:
        return f"No meta-learner of {_LEAST_TFLOP:g} TFLOP or more is measured yet."
    return "\n".join(lines).rstrip()


def _goals(
    group: Group, joint: Group, scratch: Sequence[Group], real: Mapping[str, Score]
) -> list[Goal]:
    after = group.after_all
    excess = after[KID].less(real[KID]).over(joint.after_all[KID].less(real[KID])).estimate
    share = after[OWN_TASK].over(real[OWN_TASK]).estimate
    copies = {space: after[name].minus(real[name]) for space, name in MEMORISED.items()}
    goals = [
        _steps_goal(group, joint),
        Goal(
            f"KID excess at most {_EXCESS} of {JOINT}'s, with the interval below 1",
            ratio_text(excess),
            excess.value <= _EXCESS and excess.high < 1,
        ),
        Goal(
            f"own task at least {_SHARE} of real images'", ratio_text(share), share.value >= _SHARE
        ),
        Goal(
            "memorised not above real images' in any space",
            "; ".join(f"{s} {difference_text(MEMORISED[s], d)}" for s, d in copies.items()),
            all(d.value <= 0 or not d.significant for d in copies.values()),
        ),
        Goal(
            f"KID in HOG at most {_HOG_KID}",
            f"{after[HOG_KID].value:.3f}",
            after[HOG_KID].value <= _HOG_KID,
        ),
    ]
    for other in scratch:
        less = after[KID].minus(other.after_all[KID])
        text = difference_text(KID, less)
        met = less.value < 0 and less.significant
        goals.append(Goal("significantly better KID than random weights", text, met))
    return goals


def _steps_goal(group: Group, joint: Group) -> Goal:
    needs = [need(group, joint.after_all[name], name) for name in (KID, OWN_TASK)]
    texts = [str(n.steps) if n else f"more than {joint.last}" for n in needs]
    met = all(n is not None and n.steps <= _STEPS for n in needs)
    title = f"at most {_STEPS} inner steps for {JOINT}'s quality after {joint.last}"
    return Goal(title, f"KID {texts[0]}, own task {texts[1]}", met)
