"""Search for the best way to adapt a trained model: inner rate, steps and scope, on unseen tasks.

Nothing is trained. A setting is a rate and a scope; one adaptation to each task scores it at all
numbers of steps. Settings are ranked by successive halving (Jamieson and Talwalkar 2016,
"Non-stochastic best arm identification"): a few tasks separate most of them from the best, and
every round has more tasks and fewer settings.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from metatrain.config import Config, with_values
from metatrain.data.loader import open_tasks
from metatrain.evaluation.validation import (
    ValidationResult,
    ValidationScores,
    validation_curves,
    validation_of,
)
from metatrain.learning.inner.theta import RULE
from metatrain.model.model import Model
from metatrain.model.rescope import keeps_scope, rescoped
from metatrain.storage.files import write_file

# The rates to try, as multiples of the model's own.
_FACTORS = (0.1, 0.3, 1.0, 3.0, 10.0)

# From one round to the next, tasks are multiplied and settings divided by this.
_HALVING = 3


@dataclass(frozen=True)
class AdaptationSetting:
    """A way to adapt; `lr` is None where the model has learned its own rates."""

    lr: float | None
    scope: str


@dataclass(frozen=True)
class TriedSetting:
    """A setting with its validation on some tasks."""

    setting: AdaptationSetting
    tasks: int
    validation: ValidationResult

    def stored(self) -> dict[str, Any]:
        """Return the entry of `adaptation.json`."""
        return {
            "candidate": asdict(self.setting),
            "tasks": self.tasks,
            "found": asdict(self.validation),
        }


@dataclass(frozen=True)
class TuningOutcome:
    """The model with its best setting, and all settings that were tried, the best first."""

    model: Model
    metric: str
    tried: list[TriedSetting]

    @property
    def best(self) -> ValidationScores:
        """The scores of the best setting at its best k."""
        return self.tried[0].validation.best(self.metric)


def tune_adaptation(
    model: Model,
    data: str,
    network: str,
    *,
    scopes: Sequence[str],
    tasks: int,
    metric: str,
    known: Sequence[str] = (),
) -> TuningOutcome:
    """Find the rate, steps and scope with which `model` adapts best to tasks of the split val.

    Args:
        model: a meta-trained model, which stays as it is.
        data: URL of a packed data set.
        network: URL of the metric network, which is trained if there is none.
        scopes: names of the scopes to try beside the model's own.
        tasks: number of tasks of the last round.
        metric: the metric that ranks the settings, one of `VALIDATION_METRICS`.
        known: further URLs where the metric network may be; see `metric_network`.

    Raises:
        UserError: when a scope does not exist, or the data cannot be used.
    """
    config = _search_config(model.config, data, network, tasks)
    searched = replace(model, config=config)
    validation = validation_of(config, open_tasks(config.data), known)
    settings = settings_to_try(searched, scopes)
    tried: list[TriedSetting] = []
    for count in _rounds(len(validation.episodes)):
        curves = validation_curves([with_setting(searched, s) for s in settings], validation, count)
        ranked = [
            TriedSetting(setting, count, ValidationResult(model.step, curve))
            for setting, curve in zip(settings, curves, strict=True)
        ]
        ranked.sort(key=lambda t: min(t.validation.costs(metric).values()))
        tried = ranked + [t for t in tried if t.setting not in settings]
        settings = [t.setting for t in ranked[: max(2, len(ranked) // _HALVING)]]
    best = with_setting(model, tried[0].setting)
    k = tried[0].validation.best(metric).k
    config = with_values(best.config, {"adapt.steps": k})
    return TuningOutcome(replace(best, config=config), metric, tried)


def write_outcome(outcome: TuningOutcome, out: str) -> str:
    """Write the model, and beside it all settings that were tried; return the model's URL."""
    url = f"{out}/model.safetensors"
    outcome.model.save(url)
    tried = json.dumps([tried.stored() for tried in outcome.tried], indent=1)
    write_file(f"{out}/adaptation.json", tried.encode())
    return url


def adaptation_table(outcome: TuningOutcome) -> str:
    """Return a table of all settings that were tried, the best first, for a terminal."""
    lines = [f"{'scope':<10}{'lr':>10}{'steps':>7}{'tasks':>7}{outcome.metric:>11}{'own task':>10}"]
    for tried in outcome.tried:
        best, setting = tried.validation.best(outcome.metric), tried.setting
        rate = "learned" if setting.lr is None else f"{setting.lr:.2g}"
        row = f"{setting.scope:<10}{rate:>10}{best.k:>7}{tried.tasks:>7}"
        lines.append(f"{row}{best.value(outcome.metric):>11.4f}{best.own_task:>10.1%}")
    return "\n".join(lines)


def settings_to_try(model: Model, scopes: Sequence[str]) -> list[AdaptationSetting]:
    """Return the settings to try; rates and scopes that the learner determines stay."""
    config, scope = model.config, model.config.inner.scope.name
    learned = any(name.startswith(RULE) for name in model.parameters)
    names = [scope] if keeps_scope(config, model.parameters) else [scope, *scopes]
    rates = [None] if learned else [factor * config.adapt.lr for factor in _FACTORS]
    return [AdaptationSetting(lr, name) for name in dict.fromkeys(names) for lr in rates]


def with_setting(model: Model, setting: AdaptationSetting) -> Model:
    """Return `model` with another way to adapt; before adapting, it samples the same images."""
    values = {} if setting.lr is None else {"adapt.lr": setting.lr}
    config, parameters = rescoped(model.config, model.parameters, setting.scope)
    return replace(model, config=with_values(config, values), parameters=parameters)


def _search_config(config: Config, data: str, network: str, tasks: int) -> Config:
    """Return the configuration of the search, with twice the model's inner steps to choose from."""
    return with_values(
        config,
        {
            "adapt.steps": 2 * config.adapt.steps,
            "data.path": data,
            "data.cache_dir": None,
            "validation.tasks": tasks,
            "validation.network": network,
        },
    )


def _rounds(tasks: int) -> list[int]:
    """Return the number of tasks of each round."""
    return sorted({max(2, tasks // _HALVING**2), max(2, tasks // _HALVING), tasks})
