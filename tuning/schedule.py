"""Ray Tune's schedulers, which stop trials early, replayed up to where a sweep was interrupted."""

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
from tuning.ledger import SweepLedger

# The probability that PBT samples a new inner rate; otherwise it multiplies by one of the factors.
_RESAMPLE_PROBABILITY, _FACTORS = 0.25, (1.25, 0.8)


def build_scheduler(ledger: SweepLedger) -> TrialScheduler:
    """Build the scheduler of a sweep, in the state after all reports of the ledger."""
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
        distribution = tune.loguniform(low, high) if rate.log else tune.uniform(low, high)
        return PopulationBasedTraining(
            time_attr="step",
            perturbation_interval=every,
            hyperparam_mutations={"inner.lr": distribution},
            resample_probability=_RESAMPLE_PROBABILITY,
            perturbation_factors=_FACTORS,
            require_attrs=False,
            log_config=False,
        )
    return FIFOScheduler()


class _IdleController:
    """The part of Tune's controller that schedulers use, while no trial runs."""

    def get_live_trials(self) -> list[Trial]:
        """Return no trials: the replayed ones have ended, or start again later."""
        return []


def _replay(scheduler: TrialScheduler, ledger: SweepLedger) -> None:
    """Pass the reports of the ledger to `scheduler`, in their order."""
    controller = cast(TuneController, _IdleController())
    trials: dict[int, Trial] = {}
    stopped: set[int] = set()
    for record, report in ledger.reports_in_order():
        if record.number not in trials:
            trials[record.number] = Trial("earlier", stub=True, trial_id=record.name)
            scheduler.on_trial_add(controller, trials[record.number])
        result: dict[str, Any] = {"step": report.step, "score": report.score}
        # A trial that it stops has no later results for it.
        if record.number not in stopped:
            decision = scheduler.on_trial_result(controller, trials[record.number], result)
            stopped |= {record.number} if decision == TrialScheduler.STOP else set()
