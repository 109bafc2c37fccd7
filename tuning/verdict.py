"""The verdict of a sweep: its best trial, or why none is best."""

import math
from dataclasses import dataclass

from metatrain.base.text import counted
from metatrain.config import Config
from metatrain.data.loader import open_tasks
from tuning.ledger import SweepLedger, TrialRecord

# Standard errors above chance from which on a share is more than luck.
_ERRORS = 2.0

# As many trials as a sentence names.
_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The outcome of a sweep.

    Attributes:
        lowest: the finished trial with the lowest score, the first of them.
        obstacle: why it is not the best, as a clause; '' where it is.
    """

    lowest: TrialRecord
    obstacle: str

    @property
    def sentence(self) -> str:
        """The outcome in a sentence."""
        if self.obstacle:
            return f"No trial is best: {self.obstacle}."
        return f"The best trial is {self.lowest.name}."


def verdict_on(ledger: SweepLedger, tasks: int) -> Verdict | None:
    """Judge the finished trials; None where none finished.

    Args:
        ledger: the ledger of the sweep.
        tasks: the number of unseen tasks that the trials were scored on.
    """
    lowest = ledger.best()
    if lowest is None:
        return None
    obstacle = _at_chance(ledger, lowest, tasks) or _tie(ledger)
    return Verdict(lowest=lowest, obstacle=obstacle)


def scored_tasks(config: Config) -> int:
    """Count the unseen tasks that a run's validation scores."""
    settings = config.validation
    source = open_tasks(config.data)
    sampler = source.sampler(
        "val", seed=config.seed, meta_batch=1, queries=settings.images, too_few="skip"
    )
    return min(settings.tasks, sampler.epoch or settings.tasks)


def _at_chance(ledger: SweepLedger, lowest: TrialRecord, tasks: int) -> str:
    """Tell whether samples are nearest to their own task no more often than to any other."""
    if ledger.sweep.settings.metric != "own_task":
        return ""
    chance, share = 1 / tasks, 1 - lowest.reports[-1].score
    samples = tasks * ledger.sweep.base.validation.images
    if share > chance + _ERRORS * math.sqrt(chance * (1 - chance) / samples):
        return ""
    return (
        f"{share:.1%} of the samples of trial {lowest.name} are nearest to their own task, and "
        f"{chance:.1%} are by chance among {counted(tasks, 'task')}; train longer, or widen the "
        f"space"
    )


def _tie(ledger: SweepLedger) -> str:
    tied = ledger.tied()
    if len(tied) < 2:
        return ""
    names = ", ".join(record.name for record in tied[:_NAMED])
    more = f" and {len(tied) - _NAMED} more" if len(tied) > _NAMED else ""
    return (
        f"the trials {names}{more} have the same score, {tied[0].reports[-1].score:.4f}; raise "
        f"validation.tasks or meta.steps to tell them apart"
    )
