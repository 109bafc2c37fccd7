"""The best way to adapt a model that is trained: inner rate, steps and scope, on unseen tasks.

Nothing is trained. Every candidate is a rate and a scope, and one adaptation to each task scores
all numbers of steps on its way. Candidates are halved as tasks are added (Jamieson and Talwalkar
2016, "Non-stochastic best arm identification", successive halving): most of them are told from the
best by few tasks.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from metatrain.base.parameters import copy_of
from metatrain.config import Config, with_values
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import Scores, Validated, curves_of, validation_of
from metatrain.generators import GENERATORS
from metatrain.learning.inner.loop import RULE
from metatrain.learning.learners import LEARNERS
from metatrain.model.build import build_generator
from metatrain.model.file import Model, save_model
from metatrain.storage.files import write_file

# Rates that are tried, as multiples of the model's own.
_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)

# Of how many candidates one goes on to the next round, which has so many times the tasks.
_HALVING = 3


@dataclass(frozen=True)
class Candidate:
    """A way to adapt; `lr` is None where the model learned its own rates."""

    lr: float | None
    scope: str


@dataclass(frozen=True)
class Tried:
    """A candidate with what was found of it on so many tasks."""

    candidate: Candidate
    tasks: int
    found: Validated


@dataclass(frozen=True)
class Outcome:
    """The model as it adapts best, and all that was tried, the best first."""

    model: Model
    metric: str
    tried: list[Tried]

    @property
    def best(self) -> Scores:
        """The scores of the best way at its best k."""
        return self.tried[0].found.best(self.metric)


def tune_adaptation(
    model: Model, data: str, network: str, *, scopes: Sequence[str], tasks: int, metric: str
) -> Outcome:
    """Find the rate, steps and scope with which `model` adapts best to tasks of the split val.

    Args:
        model: a meta-trained model; it is left as it is.
        data: URL of a packed data set.
        network: URL of the metric network, which is trained where there is none.
        scopes: names of the scopes to try beside the model's own.
        tasks: how many tasks the last round has.
        metric: what to minimise, see `metatrain.evaluation.validation.METRICS`.

    Raises:
        UserError: when a scope cannot be had, or the data not be used.
    """
    asked = _asked(model.config, data, network, tasks)
    validation = validation_of(asked, open_tasks(asked.data))
    candidates = candidates_of(replace(model, config=asked), scopes)
    tried: list[Tried] = []
    for count in _rounds(len(validation.episodes)):
        models = [adapting(replace(model, config=asked), c) for c in candidates]
        curves = curves_of(models, validation, count)
        seen = [
            Tried(candidate, count, Validated(model.step, curve))
            for candidate, curve in zip(candidates, curves, strict=True)
        ]
        seen.sort(key=lambda t: min(t.found.by_k(metric).values()))
        tried = seen + [t for t in tried if t.candidate not in candidates]
        candidates = [t.candidate for t in seen[: max(2, len(seen) // _HALVING)]]
    chosen = adapting(model, tried[0].candidate)
    k = tried[0].found.best(metric).k
    config = with_values(chosen.config, {"adapt.steps": k})
    return Outcome(replace(chosen, config=config), metric, tried)


def write_outcome(outcome: Outcome, out: str) -> str:
    """Write the model, and beside it all that was tried; returns the model's URL."""
    url = f"{out}/model.safetensors"
    save_model(outcome.model, url)
    tried = json.dumps([asdict(tried) for tried in outcome.tried], indent=1)
    write_file(f"{out}/adaptation.json", tried.encode())
    return url


def table(outcome: Outcome) -> str:
    """All that was tried, the best first, for a terminal."""
    lines = [f"{'scope':<10}{'lr':>10}{'steps':>7}{'tasks':>7}{outcome.metric:>11}{'own task':>10}"]
    for tried in outcome.tried:
        best, lr = tried.found.best(outcome.metric), tried.candidate.lr
        rate = "learned" if lr is None else f"{lr:.2g}"
        score = tried.found.by_k(outcome.metric)[best.k]
        row = f"{tried.candidate.scope:<10}{rate:>10}{best.k:>7}{tried.tasks:>7}{score:>11.4f}"
        lines.append(f"{row}{best.own_task:>10.1%}")
    return "\n".join(lines)


def candidates_of(model: Model, scopes: Sequence[str]) -> list[Candidate]:
    """What there is to try; rates and scopes that a learner brings stay as they are."""
    config = model.config
    own, learned = config.inner.scope.name, any(n.startswith(RULE) for n in model.parameters)
    bound = LEARNERS[config.learner.name].scope or GENERATORS[config.generator.name].scope
    # What such a scope has added to the weights is in the way of any other.
    names = [own] if learned or bound or own in ("lora", "context") else [own, *scopes]
    rates = [None] if learned else [factor * config.adapt.lr for factor in _FACTORS]
    return [Candidate(lr, scope) for scope in dict.fromkeys(names) for lr in rates]


def adapting(model: Model, candidate: Candidate) -> Model:
    """`model`, made to adapt in another way; what it draws before adapting stays the same."""
    values: dict[str, Any] = {} if candidate.lr is None else {"adapt.lr": candidate.lr}
    if candidate.scope != model.config.inner.scope.name:
        values["inner.scope"] = {"name": candidate.scope}
    config = with_values(model.config, values)
    fresh = copy_of(build_generator(config))
    # Where a scope adds to a weight, torch has the weight itself by a longer name.
    trained = {name: name.replace(".parametrizations.weight.original", ".weight") for name in fresh}
    parameters = {n: model.parameters.get(trained[n], value) for n, value in fresh.items()}
    return replace(model, config=config, parameters=parameters)


def _asked(config: Config, data: str, network: str, tasks: int) -> Config:
    """With twice as many steps as the model takes, to see whether more of them are better."""
    return with_values(
        config,
        {
            "adapt.steps": 2 * config.adapt.steps,
            "data.path": data,
            "validation.tasks": tasks,
            "validation.network": network,
        },
    )


def _rounds(tasks: int) -> list[int]:
    """How many tasks each round looks at."""
    return sorted({max(2, tasks // _HALVING**2), max(2, tasks // _HALVING), tasks})
