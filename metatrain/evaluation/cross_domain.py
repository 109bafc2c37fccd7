"""Evaluation across domains: a table of several models on several data sets."""

from collections.abc import Sequence
from dataclasses import dataclass

from metatrain.evaluation.scores.statistics import Score
from metatrain.evaluation.terminal_table import columns, differences, score_with_interval
from metatrain.metrics.metric import METRICS

_SHOWN = ("own_task", "kid")


@dataclass(frozen=True)
class Domain:
    """The scores of all models on one data set.

    Attributes:
        name: name of the data set.
        scores: scores by model, then by metric, in the space that has all metrics.
        natives: names of the models that were trained on its training tasks.
    """

    name: str
    scores: dict[str, dict[str, Score]]
    natives: list[str]


def cross_domain_table(domains: Sequence[Domain]) -> str:
    """Return a table of every model on every data set, and its differences to a native model."""
    blocks = [_block(metric, domains) for metric in _SHOWN]
    pairs = [pair for domain in domains for pair in _pairs(domain)]
    without = [
        f"on {domain.name}: none of these models was trained there"
        for domain in domains
        if not domain.natives
    ]
    return "\n\n".join([*blocks, "\n".join([*differences(pairs, _SHOWN), *without])])


def _block(metric: str, domains: Sequence[Domain]) -> str:
    rows = {
        _row_name(model, domains): [
            score_with_interval(metric, domain.scores[model][metric].estimate) for domain in domains
        ]
        for model in domains[0].scores
    }
    heads = [f"on {domain.name}" for domain in domains]
    return columns(f"{METRICS[metric].title}, trained on", heads, rows)


def _row_name(model: str, domains: Sequence[Domain]) -> str:
    homes = [domain.name for domain in domains if model in domain.natives]
    return f"{homes[0]} ({model})" if homes else model


def _pairs(domain: Domain) -> list[tuple[str, dict[str, Score], dict[str, Score]]]:
    """Pair each model from elsewhere with the first one that was trained on the data set."""
    native = next(iter(domain.natives), None)
    return [
        (
            f"on {domain.name}: {model} against {native}, which was trained there",
            scores,
            domain.scores[native],
        )
        for model, scores in domain.scores.items()
        if native is not None and model not in domain.natives
    ]
