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
_STEPS, _EXCESS, _SHARE = 24, 0.5, 0.95
# Half of the KID in HOG that docs/evaluation.md has at 20 TFLOP, by data set.
_HOG_KID = {"icons-32": 0.115}


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
    goals = [
        _steps_goal(group, joint),
        _excess_goal(group, joint, real[KID]),
        _share_goal(group, real[OWN_TASK]),
        _copies_goal(group, real),
    ]
    if group.data in _HOG_KID:
        most, value = _HOG_KID[group.data], group.after_all[HOG_KID].value
        goals.append(Goal(f"KID in HOG at most {most}", f"{value:.3f}", value <= most))
    return [*goals, *(_scratch_goal(group, other) for other in scratch)]


def _steps_goal(group: Group, joint: Group) -> Goal:
    needs = [need(group, joint.after_all[name], name) for name in (KID, OWN_TASK)]
    texts = [str(n.steps) if n else f"more than {joint.last}" for n in needs]
    met = all(n is not None and n.steps <= _STEPS for n in needs)
    title = f"at most {_STEPS} inner steps for {JOINT}'s quality after {joint.last}"
    return Goal(title, f"KID {texts[0]}, own task {texts[1]}", met)


def _excess_goal(group: Group, joint: Group, real: Score) -> Goal:
    """Compare with joint training after the number of inner steps that is best for it."""
    best = min((scores[KID] for scores in joint.scores.values()), key=lambda kid: kid.value)
    excess = group.after_all[KID].less(real).over(best.less(real)).estimate
    title = f"KID excess at most {_EXCESS} of {JOINT}'s at its best, the interval below 1"
    return Goal(title, ratio_text(excess), excess.value <= _EXCESS and excess.high < 1)


def _share_goal(group: Group, real: Score) -> Goal:
    share = group.after_all[OWN_TASK].over(real).estimate
    title = f"own task at least {_SHARE} of real images'"
    return Goal(title, ratio_text(share), share.value >= _SHARE)


def _copies_goal(group: Group, real: Mapping[str, Score]) -> Goal:
    copies = {name: group.after_all[name].minus(real[name]) for name in MEMORISED.values()}
    texts = [f"{s} {difference_text(name, copies[name])}" for s, name in MEMORISED.items()]
    met = all(copy.value <= 0 or not copy.significant for copy in copies.values())
    return Goal("memorised not significantly above real images'", "; ".join(texts), met)


def _scratch_goal(group: Group, scratch: Group) -> Goal:
    less = group.after_all[KID].minus(scratch.after_all[KID])
    met = less.value < 0 and less.significant
    return Goal("KID significantly below random weights'", difference_text(KID, less), met)
