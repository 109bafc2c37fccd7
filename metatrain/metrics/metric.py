"""The table of metrics: the title, direction and format of every score.

The formulas are in the other files of this room; the estimators over tasks and seeds are in
`metatrain.evaluation`.
"""

import math
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of the images that a model samples.

    Attributes:
        title: its name in tables.
        better: which values are better: higher ones, lower ones, or those near the value of real
            images.
        is_share: whether it is a share, in [0, 1], which tables show in percent.
        digits: decimals that tables show of a score that is no share.
    """

    title: str
    better: Literal["higher", "lower", "real"]
    is_share: bool = False
    digits: int = 3

    @property
    def highest(self) -> float:
        """The largest value that there can be."""
        return 1.0 if self.is_share else math.inf

    @property
    def unit(self) -> str:
        """The unit of the numbers in tables: `%` or none."""
        return "%" if self.is_share else ""

    def number(self, value: float, *, signed: bool = False) -> str:
        """Format `value` without its unit, such as `0.036`, `77.5` or, signed, `+0.036`."""
        value, digits = (100 * value, 1) if self.is_share else (value, self.digits)
        return f"{value:{'+' if signed else ''}z.{digits}f}"

    @property
    def cost_title(self) -> str:
        """The title of `cost`."""
        return f"1 - {self.title}" if self.better == "higher" else self.title

    def cost(self, value: float) -> float:
        """Return the cost of a score, for a search to minimise; infinite where it is not finite.

        The score itself where lower is better, and 1 - score where higher is better: all such
        scores that a search uses are at most 1.
        """
        if not math.isfinite(value):
            return math.inf
        return 1 - value if self.better == "higher" else value


METRICS = {
    "kid": Metric(title="KID", better="lower"),
    "own_task": Metric(title="own task", better="higher", is_share=True),
    "memorised": Metric(title="memorised", better="real", is_share=True),
    "frechet": Metric(title="Frechet", better="lower"),
    "precision": Metric(title="precision", better="higher", is_share=True),
    "recall": Metric(title="recall", better="higher", is_share=True),
    "density": Metric(title="density", better="higher"),
    "coverage": Metric(title="coverage", better="higher", is_share=True),
    "diversity": Metric(title="diversity", better="real"),
    "recognised": Metric(title="recognised", better="higher", is_share=True),
    "teaches": Metric(title="teaches", better="higher", is_share=True),
    "similarity": Metric(title="similarity", better="higher"),
    "task_kid": Metric(title="KID of single tasks", better="lower"),
    "query_loss": Metric(title="query loss", better="lower", digits=4),
}

# The columns of an evaluation, in their order.
EVALUATION_METRICS = {
    key: METRICS[key]
    for key in (
        "kid",
        "own_task",
        "memorised",
        "frechet",
        "precision",
        "recall",
        "density",
        "coverage",
        "diversity",
        "recognised",
        "teaches",
    )
}
# Those that are measured in every feature space, so that no conclusion depends on one network, and
# that systems are compared by.
MAIN_METRICS = ("kid", "own_task", "memorised")

# The metrics that a search may use, by their keys in sweep files and validation.json; in the order
# of how well they rank configurations, see docs/tuning.md.
VALIDATION_METRICS = {
    "own_task": METRICS["own_task"],
    "similarity": METRICS["similarity"],
    "task_kid": METRICS["task_kid"],
    "kid": METRICS["kid"],
    "loss": METRICS["query_loss"],
}
