"""The trials that Ray Tune runs: unfinished ones first, then those that Optuna suggests."""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.experiment import Experiment, Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.search import SearchAlgorithm
from typing_extensions import override

from tuning.ledger import SweepLedger, TrialRecord
from tuning.space import Space, Values, grid, suggest

optuna.logging.set_verbosity(optuna.logging.WARNING)


class LedgerSearch(SearchAlgorithm):
    """A search algorithm of Ray Tune that runs the trials of a ledger, and adds new ones to it.

    Args:
        ledger: the ledger of the sweep; its earlier trials guide the searcher.
        max_concurrent: the number of trials that the cluster has room for.
    """

    def __init__(self, ledger: SweepLedger, max_concurrent: int) -> None:
        self._ledger, self._max_concurrent = ledger, max_concurrent
        self._searcher = Searcher(ledger)
        self._unfinished = [r for r in ledger.records.values() if not r.has_ended]
        self._running: set[str] = set()
        self._spec: dict[str, Any] = {}

    @property
    @override
    def total_samples(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._ledger.sweep.settings.budget.trials

    @override
    def add_configurations(self, experiments: Any) -> None:
        # Tune passes what every trial is made of.
        [experiment] = experiments if isinstance(experiments, list) else [experiments]
        assert isinstance(experiment, Experiment)
        self._spec = experiment.spec

    @override
    def next_trial(self) -> Trial | None:
        if len(self._running) >= self._max_concurrent or self.is_finished():
            return None
        record = self._unfinished.pop(0) if self._unfinished else self._new()
        if record is None:
            self.set_finished()
            return None
        self._running.add(record.name)
        spec = self._spec | {"config": record.values}
        return _create_trial_from_spec(
            spec, _make_parser(), trial_id=record.name, evaluated_params=record.values
        )

    @override
    def on_trial_complete(
        self, trial_id: str, result: dict | None = None, error: bool = False
    ) -> None:
        self._running.discard(trial_id)
        self._searcher.tell(self._ledger.records[int(trial_id)])

    @override
    def is_finished(self) -> bool:
        all_created = len(self._ledger.records) >= self.total_samples and not self._unfinished
        return self._finished or all_created

    def _new(self) -> TrialRecord | None:
        values = self._searcher.ask(len(self._ledger.records))
        return None if values is None else self._ledger.add(values)


class Searcher:
    """A sampler of Optuna that knows all trials of a ledger; or the points of a grid in turn.

    Args:
        ledger: the ledger of the sweep.
    """

    def __init__(self, ledger: SweepLedger) -> None:
        settings = ledger.sweep.settings
        self._space: Space = settings.space
        self._grid = grid(self._space) if settings.searcher == "grid" else None
        # A resumed sweep must not repeat the suggestions of the earlier start.
        seed = (settings.seed + len(ledger.records)) % 2**32
        self._study = optuna.create_study(sampler=_sampler(settings.searcher, seed))
        self._asked: dict[int, optuna.Trial] = {}
        for record in ledger.records.values():
            if record.has_ended:
                self.tell(record)

    def ask(self, number: int) -> Values | None:
        """Return values for trial `number`; None after the last point of a grid."""
        if self._grid is not None:
            return self._grid[number] if number < len(self._grid) else None
        self._asked[number] = trial = self._study.ask()
        return suggest(self._space, trial)

    def tell(self, record: TrialRecord) -> None:
        """Learn from a trial that has ended, whichever start of the sweep suggested it."""
        state, score = _outcome(record)
        trial = self._asked.pop(record.number, None)
        if trial is None:
            self._study.add_trial(frozen_trial(self._space, record, state=state, score=score))
            return
        for report in record.reports:
            trial.report(report.score, report.step)
        self._study.tell(trial, score, state)


def frozen_trial(
    space: Space, record: TrialRecord, *, state: TrialState, score: float | None
) -> FrozenTrial:
    """Convert a record to Optuna's form of a trial that is over."""
    searched = {k: v for k, v in record.values.items() if not space[k].same_as}
    distributions: dict[str, BaseDistribution] = {
        key: space[key].optuna_distribution() for key in searched
    }
    return create_trial(
        state=state,
        value=score,
        params={key: space[key].optuna_value(value) for key, value in searched.items()},
        distributions=distributions,
        intermediate_values={report.step: report.score for report in record.reports},
    )


def _outcome(record: TrialRecord) -> tuple[TrialState, float | None]:
    """Return Optuna's state of a trial: a failed one is pruned, or Optuna would ignore it."""
    if record.state == "finished" and record.last_report:
        return TrialState.COMPLETE, record.last_report.score
    return TrialState.PRUNED, None


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        # Concurrent trials must know of each other, or they try the same values.
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=6)
    return optuna.samplers.RandomSampler(seed=seed)
