"""Which trials go on: Ray Tune's schedulers, told what earlier starts of the sweep saw."""

from typing import Any, cast

from ray import tune
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from tuning.config import Sweep
from tuning.ledger import Ledger

# Where PBT's inner rates are drawn anew, and what they are else multiplied by.
_RESAMPLED, _FACTORS = 0.25, (1.25, 0.8)


def scheduler_of(ledger: Ledger) -> TrialScheduler:
    """The scheduler of a sweep, as if it had seen all that is in the ledger."""
    scheduler = _scheduler(ledger.sweep)
    scheduler.set_search_properties("score", "min")
    if isinstance(scheduler, ASHAScheduler | MedianStoppingRule):
        _replay(scheduler, ledger)
    return scheduler


def _scheduler(sweep: Sweep) -> TrialScheduler:
    settings, base = sweep.settings.scheduler, sweep.base
    every = base.checkpoint.every
    if settings.name == "asha":
        return ASHAScheduler(
            time_attr="step",
            max_t=base.meta.steps,
            grace_period=min(every, base.meta.steps),
            reduction_factor=settings.keep,
        )
    if settings.name == "median":
        return MedianStoppingRule(time_attr="step", grace_period=every, min_samples_required=3)
    if settings.name == "pbt":
        rate = sweep.settings.space["inner.lr"]
        low, high = rate.extremes()
        draw = tune.loguniform(low, high) if rate.log else tune.uniform(low, high)
        return PopulationBasedTraining(
            time_attr="step",
            perturbation_interval=every,
            hyperparam_mutations={"inner.lr": draw},
            resample_probability=_RESAMPLED,
            perturbation_factors=_FACTORS,
            require_attrs=False,
            log_config=False,
        )
    return FIFOScheduler()


class _Past:
    """As much of Tune's controller as schedulers ask when nothing runs."""

    def get_live_trials(self) -> list[Trial]:
        """None: what is replayed is over, or begins again."""
        return []


def _replay(scheduler: TrialScheduler, ledger: Ledger) -> None:
    """Show `scheduler` what was seen, in the order in which it was."""
    controller = cast(TuneController, _Past())
    trials: dict[int, Trial] = {}
    stopped: set[int] = set()
    for record, report in ledger.reports():
        if record.number not in trials:
            trials[record.number] = Trial("earlier", stub=True, trial_id=record.name)
            scheduler.on_trial_add(controller, trials[record.number])
        seen: dict[str, Any] = {"step": report.step, "score": report.score}
        # What it would have stopped it need not see more of.
        if record.number not in stopped:
            decision = scheduler.on_trial_result(controller, trials[record.number], seen)
            stopped |= {record.number} if decision == TrialScheduler.STOP else set()
