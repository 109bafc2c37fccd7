"""How a page writes numbers."""

from jinja2 import Template

from metatrain.base.progress import human_duration
from metatrain.evaluation.scores.statistics import Difference, Estimate
from metatrain.metrics.metric import METRICS
from metatrain.report.pages import page_template


def template(name: str) -> Template:
    """A template of ours, which can write what is in this file."""
    filters = {
        "number": number,
        "interval": interval,
        "gap": gap,
        "share": share,
        "counted": counted,
        "duration": human_duration,
    }
    return page_template("metatrain.report", name, filters)


def counted(number: int, what: str) -> str:
    """So many of a thing, such as `1 step` or `1,000 steps`."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def number(found: Estimate | Difference, metric: str) -> str:
    """A score, such as `0.036` or `77.5%`."""
    return _plain(found.value, metric) + METRICS[metric].unit


def share(value: float) -> str:
    """A share of few images, such as `67%`."""
    return f"{value:.0%}"


def gap(found: Difference, metric: str) -> str:
    """A difference, such as `−0.021` or `+7.5%`."""
    return ("+" if found.value > 0 else "") + number(found, metric)


def interval(found: Estimate | Difference, metric: str) -> str:
    """What holds it, such as `0.021 to 0.050`."""
    return f"{_plain(found.low, metric)} to {_plain(found.high, metric)}"


def _plain(value: float, metric: str) -> str:
    return METRICS[metric].number(value).replace("-", "−")
