"""Where trials come from: those left unfinished, then what Optuna suggests."""

from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial, TrialState, create_trial
from ray.tune.experiment import Experiment, Trial
from ray.tune.experiment.config_parser import _create_trial_from_spec, _make_parser
from ray.tune.search import SearchAlgorithm

from tuning.ledger import Ledger, Record
from tuning.space import Space, Values, grid, suggest

optuna.logging.set_verbosity(optuna.logging.WARNING)


class Suggestions(SearchAlgorithm):
    """Hands Ray Tune the trials of a ledger, adding new ones to it while the budget lasts.

    Args:
        ledger: of the sweep; what it knows of earlier trials guides the searcher.
        at_once: how many trials the cluster has room for.
    """

    def __init__(self, ledger: Ledger, at_once: int) -> None:
        self._ledger, self._at_once = ledger, at_once
        self._searcher = Searcher(ledger)
        self._waiting = [record for record in ledger.records.values() if not record.over]
        self._running: set[str] = set()
        self._spec: dict[str, Any] = {}

    @property
    def total_samples(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        """How many trials there will be."""
        return self._ledger.sweep.settings.budget.trials

    def add_configurations(self, experiments: Any) -> None:
        """See `SearchAlgorithm`; Tune says here what a trial is made of."""
        [experiment] = experiments if isinstance(experiments, list) else [experiments]
        assert isinstance(experiment, Experiment)
        self._spec = experiment.spec

    def next_trial(self) -> Trial | None:
        """The next trial; None where there is no room, or none is left."""
        if len(self._running) >= self._at_once or self.is_finished():
            return None
        record = self._waiting.pop(0) if self._waiting else self._new()
        if record is None:
            self.set_finished()
            return None
        self._running.add(record.name)
        spec = self._spec | {"config": record.values}
        return _create_trial_from_spec(
            spec, _make_parser(), trial_id=record.name, evaluated_params=record.values
        )

    def on_trial_complete(
        self, trial_id: str, result: dict | None = None, error: bool = False
    ) -> None:
        """See `SearchAlgorithm`."""
        self._running.discard(trial_id)
        self._searcher.tell(self._ledger.records[int(trial_id)])

    def is_finished(self) -> bool:
        """Whether no trial will come any more."""
        all_given = len(self._ledger.records) >= self.total_samples and not self._waiting
        return self._finished or all_given

    def _new(self) -> Record | None:
        values = self._searcher.ask(len(self._ledger.records))
        return None if values is None else self._ledger.add(values)


class Searcher:
    """Optuna's samplers, which know all trials of the ledger; or each point of a grid in turn."""

    def __init__(self, ledger: Ledger) -> None:
        settings = ledger.sweep.settings
        self._space: Space = settings.space
        self._grid = grid(self._space) if settings.searcher == "grid" else None
        # A start that goes on must not suggest again what the one before did.
        seed = (settings.seed + len(ledger.records)) % 2**32
        self._study = optuna.create_study(sampler=_sampler(settings.searcher, seed))
        self._asked: dict[int, optuna.Trial] = {}
        for record in ledger.records.values():
            if record.over:
                self.tell(record)

    def ask(self, number: int) -> Values | None:
        """Values for trial `number`; None where every point of the grid was given."""
        if self._grid is not None:
            return self._grid[number] if number < len(self._grid) else None
        self._asked[number] = trial = self._study.ask()
        return suggest(self._space, trial)

    def tell(self, record: Record) -> None:
        """Learn from a trial that is over, whichever start of the sweep suggested it."""
        state, score = _outcome(record)
        asked = self._asked.pop(record.number, None)
        if asked is None:
            self._study.add_trial(frozen(self._space, record, state, score))
            return
        for report in record.reports:
            asked.report(report.score, report.step)
        self._study.tell(asked, score, state)


def frozen(space: Space, record: Record, state: TrialState, score: float | None) -> FrozenTrial:
    """A trial as Optuna remembers it."""
    searched = {k: v for k, v in record.values.items() if not space[k].same_as}
    distributions: dict[str, BaseDistribution] = {k: space[k].distribution() for k in searched}
    return create_trial(
        state=state,
        value=score,
        params={key: space[key].to_optuna(value) for key, value in searched.items()},
        distributions=distributions,
        intermediate_values={report.step: report.score for report in record.reports},
    )


def _outcome(record: Record) -> tuple[TrialState, float | None]:
    """How Optuna is told: a failed trial as one stopped at once, or it would be tried again."""
    if record.state == "finished" and record.last:
        return TrialState.COMPLETE, record.last.score
    return TrialState.PRUNED, None


def _sampler(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "tpe":
        # Of trials that run at the same time each must know that the others are being tried.
        return optuna.samplers.TPESampler(seed=seed, constant_liar=True, n_startup_trials=6)
    return optuna.samplers.RandomSampler(seed=seed)
