"""Formats of numbers on pages."""

from jinja2 import Template

from metatrain.base.progress import human_duration
from metatrain.evaluation.scores.statistics import Difference, Estimate
from metatrain.evaluation.terminal_table import p_text
from metatrain.metrics.metric import METRICS
from metatrain.report.pages import page_template


def report_template(name: str) -> Template:
    """Load a template of this package, with the formats of this file as its filters."""
    filters = {
        "score": score,
        "interval": interval,
        "difference": difference,
        "share": share,
        "counted": counted,
        "duration": human_duration,
        "p": p_text,
    }
    return page_template("metatrain.report", name, filters)


def counted(count: int, noun: str) -> str:
    """Format a number of things, such as `1 step` or `1,000 steps`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def score(estimate: Estimate | Difference, metric: str) -> str:
    """Format a score, such as `0.036` or `77.5%`."""
    return _number(estimate.value, metric) + METRICS[metric].unit


def share(value: float) -> str:
    """Format a share of a few images, such as `67%`."""
    return f"{value:.0%}"


def difference(estimate: Difference, metric: str) -> str:
    """Format a difference of scores, such as `−0.021` or `+7.5%`."""
    return ("+" if estimate.value > 0 else "") + score(estimate, metric)


def interval(estimate: Estimate | Difference, metric: str) -> str:
    """Format a confidence interval, such as `0.021 to 0.050`."""
    return f"{_number(estimate.low, metric)} to {_number(estimate.high, metric)}"


def _number(value: float, metric: str) -> str:
    return METRICS[metric].number(value).replace("-", "−")
