"""Across domains: what models lose on data that they were not trained on, as a table."""

from collections.abc import Sequence
from dataclasses import dataclass

from metatrain.evaluation.scores.statistics import Score
from metatrain.evaluation.terminal_table import columns, gap, written
from metatrain.metrics.registry import METRICS

_SHOWN = ("own_task", "kid")
_WIDE = 28


@dataclass(frozen=True)
class Domain:
    """What every model got on one data set.

    Attributes:
        name: the data set's.
        scores: by model, then by metric, in the space that has all metrics.
        natives: the models that were trained on its training tasks.
    """

    name: str
    scores: dict[str, dict[str, Score]]
    natives: list[str]


def cross_table(domains: Sequence[Domain]) -> str:
    """Every model on every data set, and how far each is behind one that was trained there."""
    blocks = [_block(metric, domains) for metric in _SHOWN]
    return "\n\n".join([*blocks, "\n".join(_gaps(domains))])


def _block(metric: str, domains: Sequence[Domain]) -> str:
    rows = {
        _trained_on(model, domains): [
            written(metric, domain.scores[model][metric].estimate) for domain in domains
        ]
        for model in domains[0].scores
    }
    heads = [f"on {domain.name}" for domain in domains]
    return columns(f"{METRICS[metric].title}, trained on", heads, rows, _WIDE)


def _trained_on(model: str, domains: Sequence[Domain]) -> str:
    homes = [domain.name for domain in domains if model in domain.natives]
    return f"{homes[0]} ({model})" if homes else model


def _gaps(domains: Sequence[Domain]) -> list[str]:
    lines = []
    for domain in domains:
        if not domain.natives:
            lines.append(f"on {domain.name}: none of these models was trained there")
            continue
        native = domain.scores[domain.natives[0]]
        for model, scores in domain.scores.items():
            if model not in domain.natives:
                found = (f"{METRICS[m].title} {gap(m, scores[m].minus(native[m]))}" for m in _SHOWN)
                against = f"{model} against {domain.natives[0]}, which was trained there"
                lines.append(f"on {domain.name}: {against}: {'; '.join(found)}")
    return lines
