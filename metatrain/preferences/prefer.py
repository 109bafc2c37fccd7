"""From an adapted model and choices between its drawings to another adapted model."""

from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, replace

import torch

from metatrain.base.errors import MissingStepError, UserError
from metatrain.base.parameters import Parameters
from metatrain.base.progress import Progress
from metatrain.generators import OBJECTIVES, ErrorsByExample
from metatrain.generators.objectives.sections import MeanVelocityConfig
from metatrain.learning.inner.registry import SCOPES
from metatrain.model.model import Model
from metatrain.model.rescope import keeps_scope, refuse_scope, rescoped
from metatrain.preferences.direct import (
    PairErrors,
    Training,
    direct_preference,
    fine_tuning,
)
from metatrain.preferences.folds import FOLDS, HeldOut, folds_of, hold_out
from metatrain.preferences.pairs import Pairs, read_answers, read_pairs
from metatrain.preferences.reward import fit_reward
from metatrain.preferences.share import Share
from metatrain.preferences.starts import Settings, Start, learned_start, refuse_start

SCOPE_NAMES = ("lora", "film")
# The names of the methods in tables and sentences.
DIRECT, WINNERS, BEST_OF_N = "direct preference", "winners alone", "best of n"

STEPS = 100
_CHECKS = 20


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of learning from choices.

    Attributes:
        model: the model that prefers; None where no held-out choice was foreseen better than by
            the model as it was.
        steps: the steps that it took.
        pairs: pairs with a winner.
        consistency: the share of repeated pairs that had the same answer again.
        foreseen: by the name of each method, the share of choices that it foresaw while they were
            held out.
    """

    model: Model | None
    steps: int
    pairs: int
    consistency: Share
    foreseen: dict[str, Share]


@dataclass(frozen=True)
class LearningStage:
    """A stage on the way: parts of the work done, of all that there may be."""

    done: int
    of: int


def prefer(
    model: Model,
    choices: str,
    *,
    scope: str | None = None,
    start: Model | None = None,
    settings: Settings | None = None,
    steps: int = STEPS,
) -> Outcome:
    """Learn from choices between the drawings of an adapted model, by Diffusion-DPO.

    Args:
        model: the adapted model, which is the reference.
        choices: the file of choices, a path or any fsspec URL, with their images beside it.
        scope: the parameters to move: "lora" or "film"; by default the model's own scope where it
            is one of these, and else "lora".
        start: a model that was meta-trained on `objective.name=preference`, whose low-rank terms
            direct preference starts at, with the optimiser and the rate of its inner loop.
        settings: beta, rate, batch and seed.
        steps: at most so many; held-out choices say how many are taken.

    Raises:
        UserError: when there are fewer than 10 choices with a winner, or they or the model cannot
            be used.
    """
    progress, outcome = None, None
    options = {"scope": scope, "start": start, "settings": settings, "steps": steps}
    for at in prefer_stepwise(model, choices, **options):
        if isinstance(at, Outcome):
            outcome = at
            continue
        progress = progress or Progress("learning from choices", at.of)
        progress.update(at.done)
    if progress:
        progress.close()
    assert outcome
    return outcome


def prefer_stepwise(
    model: Model,
    choices: str,
    *,
    scope: str | None = None,
    start: Model | None = None,
    settings: Settings | None = None,
    steps: int = STEPS,
    stopped: Callable[[], bool] = lambda: False,
) -> Iterator[LearningStage | Outcome]:
    """Learn as `prefer` does, and yield on the way, and the outcome at last.

    Args:
        model: see `prefer`.
        choices: see `prefer`.
        scope: see `prefer`.
        start: see `prefer`.
        settings: see `prefer`.
        steps: see `prefer`.
        stopped: tells whether to take no more steps than have been checked.
    """
    settings = settings or Settings()
    scope = refuse_unteachable(model, scope, start)
    answers = read_answers(choices, model)
    pairs = read_pairs(choices, answers, model)
    model, names = in_scope(model, scope, start)
    errors, plan = PairErrors(model, names, pairs), _Plan(steps)
    begun = learned_start(start, errors.reference, settings) if start else None
    held_out = yield from _held_out(errors, settings, plan, stopped, begun)
    best = held_out[DIRECT].best
    weights = yield from _trained(errors, settings, plan, best, begun)
    foreseen = {name: result.foreseen for name, result in held_out.items()}
    yield Outcome(
        model=replace(model, parameters={**model.parameters, **weights}) if best else None,
        steps=best * plan.every,
        pairs=len(pairs),
        consistency=answers.consistency,
        foreseen={**foreseen, BEST_OF_N: foreseen_by_reward(pairs, settings.seed)},
    )


class _Plan:
    """Steps in parts of the same length: those between two checks.

    Args:
        steps: at most so many.
    """

    def __init__(self, steps: int) -> None:
        self.every = max(1, steps // _CHECKS)
        self.checks = steps // self.every
        self.rounds = FOLDS * self.checks
        self.parts = 2 * self.rounds + self.checks


def _held_out(
    errors: PairErrors,
    settings: Settings,
    plan: _Plan,
    stopped: Callable[[], bool],
    start: Start | None,
) -> Generator[LearningStage, None, dict[str, HeldOut]]:
    """Train each method without each fold, and return what they make of it."""
    losses = {DIRECT: direct_preference(settings.beta), WINNERS: fine_tuning}
    held_out: dict[str, HeldOut] = {}
    for number, (name, loss) in enumerate(losses.items()):
        options = {"checks": plan.checks, "every": plan.every, "stopped": stopped}
        begun = start if name == DIRECT else None
        rounds = hold_out(errors, loss, settings, **options, start=begun)
        for part, result in enumerate(rounds):
            held_out[name] = result
            yield LearningStage(number * plan.rounds + part, plan.parts)
    return held_out


def _trained(
    errors: PairErrors, settings: Settings, plan: _Plan, checks: int, start: Start | None
) -> Generator[LearningStage, None, Parameters]:
    """Train on all pairs, for as many steps as lie before so many checks."""
    rows = torch.arange(errors.count)
    training = Training(errors, rows, direct_preference(settings.beta), settings, start)
    for check in range(checks):
        for _ in range(plan.every):
            training.step()
        yield LearningStage(2 * plan.rounds + check + 1, plan.parts)
    return training.weights


def foreseen_by_reward(pairs: Pairs, seed: int) -> Share:
    """Return the share of pairs that a reward foresees which was fitted to the other folds."""
    folds, correct = folds_of(len(pairs), seed), 0
    for fold in range(FOLDS):
        reward = fit_reward(pairs[folds != fold])
        inside = pairs[folds == fold]
        correct += int((reward(inside.winners) > reward(inside.losers)).sum())
    return Share(correct, len(pairs))


def refuse_unteachable(model: Model, scope: str | None = None, start: Model | None = None) -> str:
    """Refuse a model that can learn from no choices, whatever they are; return the scope to move.

    It costs next to nothing, so that it can be asked before anybody rates.

    Args:
        model: see `prefer`.
        scope: see `prefer`.
        start: see `prefer`.

    Raises:
        UserError: when the model is not adapted, or its objective, its scope or the start cannot
            be used.
    """
    if model.support is None:
        raise MissingStepError(
            "this model has not been adapted, and choices are between drawings of an adapted one; "
            "adapt it first.",
            step="adapt",
        )
    config, trained = model.config, model.config.inner.scope.name
    objective = config.objective.name
    if not issubclass(OBJECTIVES[objective], ErrorsByExample):
        raise UserError(
            f"objective.name={objective} has no error of each image, which choices "
            f"would change; take a model of objective.name=flow or diffusers."
        )
    if isinstance(config.objective, MeanVelocityConfig):
        raise UserError(
            f"choices change velocities, and a model of objective.name={objective} draws by mean "
            f"velocities; prefer with a model of objective.name=flow, such as a student's teacher, "
            f"adapted, and distil the result."
        )
    if scope is not None and scope not in SCOPE_NAMES:
        raise UserError(f"scope is {scope}; choose one of {', '.join(SCOPE_NAMES)}.")
    if scope is None and trained not in SCOPE_NAMES and keeps_scope(config, model.parameters):
        raise UserError(
            f"this model is only adapted in its scope {trained}, and choices move "
            f"{' or '.join(SCOPE_NAMES)}; take a model of another scope."
        )
    if start:
        refuse_start(start)
        scope = _scope_of_start(scope, trained)
    scope = scope or (trained if trained in SCOPE_NAMES else SCOPE_NAMES[0])
    refuse_scope(config, model.parameters, scope)
    return scope


def _scope_of_start(scope: str | None, trained: str) -> str:
    """Return the scope of a meta-trained start, whose terms take the place of no others."""
    if scope not in (None, "lora"):
        raise UserError(f"scope is {scope}, and a start has the scope lora; leave scope out.")
    if trained == "lora":
        raise UserError(
            "this model was adapted by low-rank terms, in whose place the start would put its own; "
            "leave the start out, or adapt a model in another scope."
        )
    return "lora"


def in_scope(model: Model, scope: str, start: Model | None = None) -> tuple[Model, list[str]]:
    """Return the model in the scope to move, which draws the same, and the names there.

    Args:
        model: the adapted model.
        scope: the name of the scope.
        start: a meta-trained start, whose settings the scope then has.
    """
    settings = start and start.config.inner.scope
    config, parameters = rescoped(model.config, model.parameters, scope, settings)
    model = replace(model, config=config, parameters=parameters)
    return model, SCOPES[scope].names(model.generator())
